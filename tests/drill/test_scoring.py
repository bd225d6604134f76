"""The scorer of labelled traffic reads a drill as it reads its own sets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .worlds import Seen, seen

SCORER = Path(__file__).resolve().parents[3] / "shared" / "traffic" / "score.py"

pytestmark = pytest.mark.skipif(not SCORER.exists(), reason=f"the scorer is not beside this checkout: {SCORER}")


def scored(world: Seen, report: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "report.json").write_text(json.dumps(report))
    words = [str(SCORER), str(folder / "report.json"), str(world.folder), "--json", str(folder / "figures.json")]
    subprocess.run([sys.executable, *words], check=True, capture_output=True, timeout=60)
    return json.loads((folder / "figures.json").read_text())


@pytest.mark.parametrize("kind", ["llm", "data"])
def test_a_perfect_report_is_perfect_and_an_empty_one_finds_nothing(kind: str, tmp_path: Path) -> None:
    world = seen(kind, "all", malformed=0)
    taken = {name: group["taken"] for name, group in world.meta["groups"].items()}
    groups = [
        {
            "id": name,
            "keys": group["keys"],
            "orgs": [],
            "confidence": 0.99,
            "linked_at": {key: max(world.meta["t0"], *taken[name][key]["ts"][:1], 0) for key in group["keys"]},
            "evidence": [],
        }
        for name, group in world.labels["groups"].items()
    ]
    perfect = scored(world, {"events": world.meta["events"], "skipped": 0, "groups": groups}, tmp_path)
    assert perfect["pairs"]["precision"] == perfect["pairs"]["recall"] == perfect["b3"]["f1"] == 1
    assert perfect["warnings"] == [] and perfect["false_links"]["linked"] == 0
    assert perfect["delay"]["median"] < 0.2
    assert perfect["events"] == {"reported": world.meta["events"], "expected": world.meta["events"]}
    assert set(perfect["scenarios"]) == set(world.meta["scenarios"])
    assert set(perfect["hard_negatives"]) == set(world.meta["hard_negatives"])
    empty = scored(world, {"events": 0, "skipped": 0, "groups": []}, tmp_path)
    assert empty["pairs"]["recall"] == 0 and empty["delay"]["median"] == 1
