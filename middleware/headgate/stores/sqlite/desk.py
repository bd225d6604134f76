"""What passes between the event loops and the thread that works on the file.

Law: a loop puts down what it asks and never waits here; the thread takes it up in the order in which it came. Of
who waits, only the loop decides: a call whose future is done has been given up.

While the thread is stuck with what it has in hand (another process holds the turn and is stopped, the disk stands
still), everything new would pile up behind it, only to be given up in its turn. The desk knows when that is so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import NamedTuple

from headgate.quota.command import Command, Outcome
from headgate.stores.sqlite.file import Call, owed

HUNG = 1.0
"""For how long (seconds) the thread must have been busy with one transaction when a caller gives up, for the file to
count as hung. A transaction takes some 20 milliseconds, one behind seven other workers' less than a fifth of this."""

MOST_OWED = 20_000
"""Calls that may lie on the desk of a hung file, and that wait to be tried again: some 40 MB. The oldest are kept."""


class Waiting(NamedTuple):
    """A call and who waits for it."""

    call: Call
    future: asyncio.Future[list[Outcome]]


class Tick(NamedTuple):
    """The calls that one loop made in one go; they are answered together."""

    loop: asyncio.AbstractEventLoop
    calls: list[Waiting]
    patience: asyncio.TimerHandle


class End(NamedTuple):
    """Asks the thread to close the file; `gone` is told when it has."""

    loop: asyncio.AbstractEventLoop
    gone: asyncio.Future[None]


class Desk:
    """Calls on their way to one thread, and whether that thread comes back for them."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Tick | End | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._put = 0
        self._taken = 0
        self._since = inf
        self._given_up = -inf
        self.left = False

    def put(self, tick: Tick) -> None:
        """Hand over what one loop asks."""
        with self._lock:
            self._put += len(tick.calls)
            self._queue.put(tick)

    def end(self, end: End | None = None) -> None:
        """Ask the thread to end when it has done what was asked before."""
        self._queue.put(end)

    def take(self, patience: float | None) -> Tick | End | None:
        """The next thing to do, for the thread alone. Raises Empty when there is none within `patience` (seconds)."""
        item = self._queue.get(block=patience != 0, timeout=patience or None)
        if isinstance(item, Tick):
            self._taken += len(item.calls)
        return item

    def busy(self) -> None:
        """The thread has something in hand."""
        self._since = monotonic()

    def idle(self) -> None:
        """The thread has come back, whatever became of it."""
        self._since = inf

    def leave(self) -> None:
        """The thread has ended: whatever lies here stays here."""
        self.left = True

    def given_up(self) -> None:
        """A caller does not wait any longer."""
        self._given_up = monotonic()

    def takes(self, commands: Sequence[Command]) -> bool:
        """Whether a call is worth putting down now: always, but where the file hangs.

        Then only what is owed is, as long as there is room: whatever is asked anew would not be answered.
        """
        if self.left or self._given_up - self._since < HUNG:
            return True
        return len(owed(commands)) == len(commands) and self._put - self._taken < MOST_OWED


__all__ = ["Desk", "Empty", "End", "Tick", "Waiting"]
