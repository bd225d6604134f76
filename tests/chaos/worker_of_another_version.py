"""A worker as `worker.py`, of a version of headgate whose script for Redis has another text, and so another name."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import worker
from headgate.stores.redis.script import scripts
from headgate.stores.redis.wire import batch


def other() -> dict[str, str]:
    """The parts of the script as another version has them: what they do is the same."""
    return {name: f"-- Another version.\n{text}" for name, text in scripts.read().items()}


if __name__ == "__main__":
    batch.SCRIPT = scripts.assembled(other())
    batch.SCRIPT_FULL = scripts.assembled(other(), "allow-oom")
    assert batch.SCRIPT.sha != scripts.SCRIPT.sha
    asyncio.run(worker.main(Path(sys.argv[1])))
