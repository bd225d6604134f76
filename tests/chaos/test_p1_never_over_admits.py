"""P1: eight processes with sixty-four callers each, six limits a request: the app is reached exactly as often as the
scarcest limit grants, whichever window it has and wherever it lies."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from chaos.crew import Crew
from chaos.house import policy
from chaos.rounds import PLANS, round_of


def rounds(crew: Crew, store: str, folder: Path, turns: Iterable[int]) -> None:
    file = folder / "headgate.yaml"
    file.write_text(policy())
    crew.open(store, file)
    for turn in turns:
        round_of(crew, store, file, PLANS[turn % len(PLANS)], f"{turn}")


def test_p1_eight_processes_admit_exactly_the_limit(crew: Crew, ledger: str, tmp_path: Path) -> None:
    turns = {"sqlite": (0,), "redis": (1, 2)}.get(ledger.partition(":")[0], (3, 4))
    rounds(crew, ledger, tmp_path, turns)


@pytest.mark.chaos
def test_p1_eight_processes_admit_exactly_the_limit_in_twenty_rounds(crew: Crew, ledger: str, tmp_path: Path) -> None:
    rounds(crew, ledger, tmp_path, range(20))
