"""Lines come nearly in order, and from several logs."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from headgate.replay.entry import Entry
from headgate.replay.order import SLACK, Late, in_order, merged

SECOND = 1_000_000


def parts(entries: list[Entry], size: int) -> list[list[Entry]]:
    return [entries[at : at + size] for at in range(0, len(entries), size)]


@given(st.lists(st.integers(0, 60), max_size=60), st.integers(1, 20), st.integers(0, 5))
def test_what_is_out_of_order_by_five_seconds_is_put_right(steps: list[int], size: int, seed: int) -> None:
    at, truth = 0, []
    for step in steps:
        at += step * 100_000
        truth.append(at)
    noise = random.Random(seed)
    written = sorted(truth, key=lambda instant: instant + noise.random() * SLACK)
    late = Late()
    found = [entry.at for entry in in_order(parts([Entry(at=x) for x in written], size), late)]
    assert found == truth and late.count == 0


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 20))
def test_time_never_goes_back_and_nothing_is_lost_however_the_file_was_cut(seconds: list[int], size: int) -> None:
    def run(size: int) -> list[int]:
        entries = [Entry(at=second * SECOND) for second in seconds]
        return [entry.at for entry in in_order(parts(entries, size), Late())]

    found = run(size)
    assert found == sorted(found) and len(found) == len(seconds)
    assert found == run(1_000)


def test_of_one_instant_the_first_line_is_the_first() -> None:
    entries = [Entry(at=SECOND, key=key) for key in "abc"]
    assert [entry.key for entry in in_order([entries], Late())] == ["a", "b", "c"]


def test_several_logs_are_one() -> None:
    one = [Entry(at=at * SECOND, key="one") for at in (1, 3, 5)]
    other = [Entry(at=at * SECOND, key="other") for at in (2, 3, 4)]
    found = merged([in_order([one], Late()), in_order([other], Late())])
    assert [(entry.at // SECOND, entry.key) for entry in found] == [
        (1, "one"), (2, "other"), (3, "one"), (3, "other"), (4, "other"), (5, "one"),
    ]  # fmt: skip
