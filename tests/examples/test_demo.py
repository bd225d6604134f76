"""`make demo`, in short: what it concludes, and that it can conclude otherwise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def demo(*options: str, seconds: float) -> tuple[int, dict]:
    """Run it; its exit code and figures."""
    ran = subprocess.run(
        [sys.executable, DEMO, "--json", *options],
        env=os.environ | {"DEMO_SECONDS": str(seconds)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_the_origin_serves_exactly_what_the_policy_allows(store):
    for seconds in (4, 16, 64):
        code, told = demo("--store", store, seconds=seconds)
        assert (code, told["verdict"]) == (0, True), told
        [budget] = [row for row in told["limits"] if (row["limit"], row["subject"]) == ("budget", "cedar+dogwood")]
        if budget["used_up"]:  # on a busy machine it takes longer to ask for so much
            break
    assert told["refused"] > 0
    assert (budget["served"], budget["ledger"], budget["used_up"]) == (30, 30, True), "one customer, one budget"


def test_in_shadow_too_much_is_served_and_the_demo_says_so():
    for seconds in (2, 8, 32):
        code, told = demo("--mode", "shadow", seconds=seconds)
        assert told["refused"] == 0
        if "budget" in {row["limit"] for row in told["limits"] if not row["holds"]}:
            break
    assert (code, told["verdict"]) == (1, False)
    assert "budget" in {row["limit"] for row in told["limits"] if not row["holds"]}


@pytest.mark.chaos
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_worker_killed_half_way_costs_no_exactness(store):
    code, told = demo("--kill", "--store", store, seconds=6)
    assert (code, told["verdict"], told["killed"]) == (0, True, True), told
