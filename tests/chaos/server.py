"""A real server in a process of its own, over a store: to be told to end, or killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0
"""Seconds that a server may take to start: this machine is busy."""


@contextmanager
def served(
    folder: Path, app: str, store: str, *options: str, **settings: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """One uvicorn worker for `app` (a module of tests), in `folder`, and its port; ended by its id if it still runs.
    `options` are uvicorn's, `settings` go to its environment. No settings from outside reach it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADGATE", "UVICORN_"))}
    ours = {"HEADGATE_PEPPER": "a pepper for tests alone", "HEADGATE_STORE": store, "HEADGATE_DEADLINE_MS": "10000"}
    command = [
        sys.executable, "-m", "uvicorn", app, "--app-dir", str(Path(__file__).parents[1]),
        "--host", "127.0.0.1", "--port", "0", "--no-access-log", *options,
    ]  # fmt: skip
    said = folder / "server.log"
    with said.open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=kept | ours | settings, stdout=log, stderr=log)
    try:
        until = time.monotonic() + PATIENCE
        while (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", said.read_text(errors="replace"))) is None:
            assert time.monotonic() < until and process.poll() is None, said.read_text(errors="replace")
            time.sleep(0.02)
        yield process, int(found[1])
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
