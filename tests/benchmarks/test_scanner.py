"""The benchmark of the readers still runs: a tiny round."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scanner.py"


def test_each_shape_of_a_stream_is_measured_against_the_floor(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, SCRIPT, "--rounds", "1", "--chunks", "100", "--json", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    rows = json.loads(file.read_text())
    assert rows[0]["name"] == "the floor" and rows[0]["of_floor"] == 1
    assert len(rows) == 10 and all(row["of_floor"] > 0 for row in rows)
