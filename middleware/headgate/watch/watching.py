"""One worker's part in watching: a thread that flushes what was seen, and watches where no other process does.

Law: the event loop that serves requests does nothing of it, and stops without it: a thread that hangs is left behind.
Beside a fleet's servers a process of its own watches (`headgate watch`); in one process, or among the workers of one
host, one of them does besides serving, and another goes on when it dies.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from headgate.clock import Clock, wall_clock
from headgate.errors import HeadgateError
from headgate.linking.observation import Blind
from headgate.telemetry import events
from headgate.watch.eye import Eye
from headgate.watch.flushing import BREATH, EVERY, Flushing
from headgate.watch.stream import Stream
from headgate.watch.watcher import Findings, Watcher

ENDS_WITHIN: Final = 2.0
"""Seconds that a stop waits for the thread: what is in the ring is passed on, and a snapshot kept."""


def linker() -> Any:
    """The class of the learner that is used. Loaded where it is needed: a worker of a fleet only flushes."""
    from headgate.linking.linker import Linker

    return Linker


class Watching:
    """A thread with an event loop of its own. `stream` makes the stream, `findings` says where findings go,
    both in that thread; without `findings` it flushes and does not watch. `kind`: answers the class of the learner.
    """

    def __init__(
        self,
        pepper: bytes,
        stream: Callable[[], Stream],
        *,
        kind: Callable[[], Any] | None = None,
        findings: Callable[[], Findings] | None = None,
        shards: int = 1,
        clock: Clock = wall_clock,
    ) -> None:
        self.eye = Eye()
        self._pepper = pepper
        self._open = stream
        self._kind = kind
        self._findings = findings
        self._shards = shards
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def start(self) -> None:
        """Begin, once."""
        if self._thread is None or not self._thread.is_alive():
            begun = threading.Event()
            # A daemon, so that a program that forgets to stop it ends all the same.
            self._thread = threading.Thread(target=self._live, args=(begun,), name="headgate-watch", daemon=True)
            self._thread.start()
            begun.wait(ENDS_WITHIN)

    def stop(self) -> None:
        """Pass on what was seen, keep what was learnt, and end; waits `ENDS_WITHIN` at most."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(stop.set)
        thread.join(ENDS_WITHIN)

    def _live(self, begun: threading.Event) -> None:
        try:
            asyncio.run(self._lived(begun))
        except Exception as fault:
            reason = str(fault) if isinstance(fault, HeadgateError) else ""
            events.error("headgate.fault", where="watching", kind=type(fault).__name__, reason=reason)
        finally:
            begun.set()

    async def _lived(self, begun: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        begun.set()
        stream = self._open()
        flushing = Flushing(self.eye, Blind(self._pepper), stream, shards=self._shards)
        watched: asyncio.Task[None] | None = None
        ended = asyncio.Event()
        if self._findings is not None:
            kind = linker() if self._kind is None else self._kind()
            watcher = Watcher(stream, kind, self._findings(), clock=self._clock, breath=lambda: time.sleep(BREATH))
            watched = asyncio.create_task(watcher.run(ended))
        try:
            while not self._stop.is_set():
                await flushing.flush()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), EVERY)
            await flushing.flush()
        finally:
            ended.set()
            if watched is not None:
                await watched
            await stream.close()
