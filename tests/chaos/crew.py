"""Worker processes, and the orders that they are given; whoever is started here is ended here, by its id."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chaos.house import served_in

SCRIPT = Path(__file__).with_name("worker.py")

PATIENCE = 120.0
"""Seconds that an order may take: a busy machine is no failure, and a worker that hangs is one."""


class Member:
    """One worker."""

    def __init__(self, file: Path, script: Path = SCRIPT) -> None:
        self.file = file
        self.owes = 0
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(script), str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def tell(self, **order: Any) -> None:
        """Give it an order; it is at work from here on."""
        assert self.process.stdin is not None
        self.owes += 1
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What it answers to the oldest order that it has not answered."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        assert ready, f"a worker did not answer within {PATIENCE:g} s"
        line = self.process.stdout.readline()
        assert line, f"a worker ended with {self.process.wait()}"
        self.owes -= 1
        return json.loads(line)

    @property
    def served(self) -> int:
        """How often its app was reached."""
        return served_in(self.file)

    def kill(self) -> None:
        """`kill -9`."""
        os.kill(self.process.pid, signal.SIGKILL)
        self._gone()

    def end(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.kill()
        else:
            self._gone()

    def _gone(self) -> None:
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue


class Crew:
    """Workers that are given the same orders at once; used with `with`. `others`: so many more run another script."""

    def __init__(self, folder: Path, many: int, others: int = 0, script: Path = SCRIPT) -> None:
        scripts = [SCRIPT] * many + [script] * others
        self.members = [Member(folder / f"count-{number}", which) for number, which in enumerate(scripts)]

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End all."""
        for member in self.members:
            member.end()

    @property
    def whole(self) -> bool:
        """Whether all live, and none is at work."""
        return all(member.process.poll() is None and not member.owes for member in self.members)

    def told(self, orders: Sequence[dict[str, Any]]) -> list[Any]:
        """Each one's answer to its order; all are at work at once."""
        for member, order in zip(self.members, orders, strict=True):
            member.tell(**order)
        return [member.answer() for member in self.members]

    def open(self, store: str, policy: Path, hours: Sequence[float] = ()) -> None:
        """Each opens a gate of its own; `hours`: by how much their clocks are off."""
        off = hours or [0] * len(self.members)
        self.told([{"do": "open", "store": store, "policy": str(policy), "hours": at} for at in off])

    def close(self) -> None:
        self.told([{"do": "close"}] * len(self.members))

    def ask(self, secret: str, times: int, tasks: int, addresses: Sequence[str]) -> Counter[int]:
        """The answers to `times` requests by each, from an address each, `tasks` of each at once."""
        order = {"do": "ask", "secret": secret, "times": times, "tasks": tasks}
        found: Counter[int] = Counter()
        for answer in self.told([order | {"address": address} for address in addresses]):
            found.update({int(status): count for status, count in answer.items()})
        return found

    @property
    def served(self) -> int:
        """How often all their apps were reached."""
        return sum(member.served for member in self.members)
