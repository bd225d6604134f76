"""The benchmarks against Redis still run: tiny rounds, without the peers, whose packages are not the tests'."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def measured(script: str, file: Path, *options: str) -> Any:
    """What a benchmark writes with `--json`."""
    command = [sys.executable, BENCHMARKS / script, "--only", "headgate", "--rounds", "1", "--json", file, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "headgate" in done.stdout
    return json.loads(file.read_text())


def test_decisions_are_measured_for_each_number_of_limits_and_callers(tmp_path: Path) -> None:
    figures = measured("decisions.py", tmp_path / "figures.json", "--seconds", "0.02")
    decisions = {(row["name"], row["limits"], row["callers"]): row for row in figures["decisions"]}
    for limits in (1, 3, 6):
        for callers in (1, 64):
            row = decisions["headgate", limits, callers]
            assert row["rate"] > 0 and row["cpu"] > 0 and row["p50"] <= row["p99"]
    assert all(row["added"] > 0 for row in figures["requests"] if row["name"].startswith("headgate"))


def test_requests_over_http_are_measured_with_a_generator_that_is_always_there(tmp_path: Path) -> None:
    figures = measured("over_http.py", tmp_path / "figures.json", "--wrk", "", "--seconds", "1")
    assert figures["load"] == "our own generator"
    by_name = {app["name"]: app["loads"] for app in figures["apps"]}
    assert {"bare Starlette", "headgate"} <= set(by_name)
    assert all(load["count"] > 0 and load["refused"] == 0 for loads in by_name.values() for load in loads)
