"""The benchmark of streams still runs: tiny rounds, of which only the form is looked at."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "streams.py"


def test_streams_are_measured_over_http_and_in_process_beside_the_bare_app(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, SCRIPT, "--rounds", "1", "--chunks", "100", "--streams", "2", "--json", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    figures = json.loads(file.read_text())
    for way, count in (("http", 12), ("process", 9)):
        rows = {(row["app"], row["front"]): row for row in figures[way]}
        assert len(rows) == count
        assert all(row["rates"][0] > 0 and row["share"] > 0 for row in rows.values())
        assert all(row["share"] == 1 for (_, front), row in rows.items() if front == "bare")
