"""A policy before a model's API, by a clock that stands while a test prepares itself. From then on it moves with each
request that arrives, by the time that has really passed since the one before: whoever has not waited as told is
refused again, however slow the machine is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from headgate import Gate, HeadgateMiddleware, load, open_store
from headgate.directory import Callback
from headgate.testing import ManualClock
from sdk.line import HEAD, KEYS, PATIENCE, PEPPERS, Line, line_up
from sdk.upstream import Upstream


class Arrivals:
    """Stands before headgate and, once it `runs`, notes when each request arrived and moves the clock on."""

    def __init__(self, app: Any, clock: ManualClock) -> None:
        self.app = app
        self.clock = clock
        self.runs = False
        self.at: list[float] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.runs:
            now = time.monotonic()
            self.clock.advance(now - self.at[-1] if self.at else 0)
            self.at.append(now)
        await self.app(scope, receive, send)

    @property
    def waits(self) -> list[float]:
        """Seconds between one request and the next."""
        return [later - earlier for earlier, later in zip(self.at, self.at[1:], strict=False)]


@contextmanager
def refusing(policy: str, file: Path, **given: Any) -> Iterator[tuple[Line, Arrivals]]:
    """The policy before a new upstream. `given`: of the gate."""
    file.write_text(HEAD + policy, encoding="utf-8")
    clock = ManualClock()
    store = given.pop("store", None) or open_store("memory://", clock=clock)
    directory = Callback(KEYS.get, PEPPERS)
    gate = Gate(load(file), store, peppers=PEPPERS, directory=directory, clock=clock, deadline=PATIENCE, **given)
    upstream = Upstream()
    arrivals = Arrivals(HeadgateMiddleware(upstream, gate=gate), clock)
    server, thread, port = line_up(arrivals)
    line = Line(upstream, gate, port)
    try:
        yield line, arrivals
    finally:
        line.close()
        server.should_exit = True
        thread.join(PATIENCE)
        with suppress(RuntimeError):
            asyncio.run(gate.close())
    assert not thread.is_alive(), "the server did not end"
