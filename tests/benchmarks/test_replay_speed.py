"""The benchmark of the replay still runs: a few lines, one round."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_each_part_of_a_replay_is_measured(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [{"ts": 1_773_144_000 + n, "key": f"k{n % 7}", "org": "acme", "prompt": "Be brief."} for n in range(200)]
    log.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    file = tmp_path / "figures.json"
    command = [sys.executable, BENCHMARKS / "linking" / "replay_speed.py", log, "--rounds", "1", "--json", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    [row] = json.loads(file.read_text())
    assert (row["lines"], row["keys"]) == (200, 7)
    assert set(row["microseconds"]) == {"reading", "observation", "decision", "linker", "whole"}
    assert row["lines_per_second"] > 0 and row["bytes_per_key"]["replay"] > 0
