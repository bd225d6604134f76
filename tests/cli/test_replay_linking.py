"""A replay with the real linker, on a world whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run

POLICY = """\
headgate: v1
policy: operator
mode: enforce
zone: UTC
on_store_error: closed
identify: {key: header.authorization.bearer, anonymous: refuse}
plans: [public, member, bulk]
meters: {rows: {from: app, reserve: 1}}
limits:
  day: {meter: rows, per: group, quota: {public: 2k/day, member: 20k/day, bulk: 400k/day}}
"""


@pytest.fixture
def world(folder: Path, run: Run) -> Path:
    """One operator who works through one queue with twelve keys, among two hundred others."""
    (folder / "headgate.yaml").write_text(POLICY, encoding="utf-8")
    words = [
        "--kind",
        "data",
        "--seed",
        "7",
        "--days",
        "1",
        "--keys",
        "200",
        "--attack",
        "shared_queue",
        "--size",
        "12",
    ]
    assert run("drill", "world", *words).exit_code == 0
    return folder / "world"


def report(run: Run, log: Path) -> dict[str, Any]:
    said = run("replay", str(log), "--format", "json")
    assert said.exit_code == 0
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def test_the_operator_is_found_and_held_to_one_customers_quota(world: Path, run: Run) -> None:
    whole = report(run, world / "log.jsonl")
    [truth] = json.loads((world / "labels.json").read_text(encoding="utf-8"))["groups"].values()
    group = whole["groups"][0]
    # How good the linker is, its own tests say: here it is enough that it is this operator who was found.
    right = set(group["keys"]) & set(truth["keys"])
    assert len(right) >= 8 and len(right) >= 0.8 * len(group["keys"])
    assert 0 < group["newly_refused"] <= whole["decisions"]["newly_refused"]
    assert whole["decisions"]["allowed"] + whole["decisions"]["denied"] == whole["events"]


def test_a_log_that_is_cut_says_the_same_up_to_there(world: Path, run: Run) -> None:
    lines = (world / "log.jsonl").read_bytes().splitlines()
    group = report(run, world / "log.jsonl")["groups"][0]
    # A second before the last of its keys was linked.
    cut = max(group["linked_at"].values()) - 1
    known = {key: at for key, at in group["linked_at"].items() if at < cut}
    assert 1 < len(known) < len(group["keys"]), "the cut lies between two links"
    (world / "cut.jsonl").write_bytes(b"\n".join([line for line in lines if _at(line) < cut]))
    [earlier] = [one for one in report(run, world / "cut.jsonl")["groups"] if one["id"] == group["id"]]
    assert {key: earlier["linked_at"].get(key) for key in known} == known


def _at(line: bytes) -> float:
    try:
        return float(json.loads(line)["ts"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def test_the_same_log_gives_the_same_report(world: Path, run: Run) -> None:
    one, other = (run("replay", str(world / "log.jsonl"), "--format", "json").stdout for _ in range(2))
    assert one == other
