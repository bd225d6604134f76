"""What a store is told behind the requests: cancellations and settlements to which no answer came (`Resolver`), and
what is said once for many requests (`Flights`).

Law: a reply lost is not a command undone, so what was not answered is said again, under the same id, until it is or
until it would mean nothing any more. No request waits for it. A store that comes back is not run over: what is owed
goes to it a batch at a time, one batch under way, and what more than `MOST` owe is left to their leases.

A flight has a time of its own, and its commands go one by one: a request may wait for it a little, and is never
refused for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import NamedTuple
from weakref import WeakKeyDictionary

from headgate.errors import StoreError
from headgate.quota.command import Cancel, Command, Outcome, Settle
from headgate.quota.ledger import followed
from headgate.stores.contract import Store
from headgate.telemetry import events

MOST = 10_000
"""Commands that may be owed at once, some 10 MB: half a minute's outage at 300 requests a second."""

BATCH = 32
"""Commands at a time for a store that has just come back: some milliseconds of it."""

BATCH_MOST = 512
"""Commands at a time while it answers: as many again with each answer, so that what is owed cannot outgrow it."""

PAUSES = (0.1, 0.3, 0.6, 1.0)
"""Seconds before each try after one that failed, the last of them again and again; up to half as much is added at
random, so that the workers of a fleet do not try in one moment."""

MOVES = 4
"""How many merges of its group a reservation may outlive and still be settled where its holds are; then the lease
settles them. Each one takes a reload of the policy within one request."""

FLIGHT = 5.0
"""Seconds that one command of a flight may take: it may go in many pieces, each within the store's own deadline."""

FLIGHTS = 4
"""Flights that ask the store at a time: after a start thousands of groups may come in one second."""

QUIET = 60.0
"""Seconds for which no further flight is reported that failed: it is said again, and nobody is refused for it."""

Heard = Callable[[Settle, Outcome], None]
"""What is done with the outcome of a settlement."""


class Owed(NamedTuple):
    """A command that is to be said until it is answered, but not after `until` (the loop's seconds)."""

    command: Cancel | Settle
    until: float
    heard: Heard | None = None
    moves: int = MOVES


class Resolver:
    """Says what is owed to one store, behind the requests.

    >>> from headgate.quota.command import Demand
    >>> from headgate.quota.window import Total
    >>> from headgate.stores.memory import MemoryStore
    >>> async def story() -> int:
    ...     resolver = Resolver(MemoryStore())
    ...     resolver.owe(Settle(b"r1", (Demand((b"acme", "life"), Total(3), 1),)), patience=10)
    ...     await resolver.close(patience=1)
    ...     return len(resolver)
    >>> asyncio.run(story())
    0
    """

    def __init__(self, store: Store, lots: Random | None = None) -> None:
        self._store = store
        self._lots = lots or Random()
        self._owed: deque[Owed] = deque()
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def __len__(self) -> int:
        """How many commands are owed."""
        return len(self._owed)

    def owe(self, command: Cancel | Settle, patience: float, heard: Heard | None = None) -> None:
        """Say a command until it is answered, for `patience` seconds at most. Waits for nothing and never fails.

        `heard` is told each outcome of a settlement; there may be several, where its holds were moved.
        """
        loop = asyncio.get_running_loop()
        if len(self._owed) >= MOST:
            self._left(self._owed.popleft(), "too many are owed")
        self._owed.append(Owed(command, loop.time() + patience, heard))
        self._taken_up(loop)

    def _taken_up(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        # A task of a loop that was closed is never done: its work is taken over by this one.
        if self._task is None or self._task.done() or self._task.get_loop().is_closed():
            self._hurry = asyncio.Event()
            self._task = loop.create_task(self._said())
        return self._task

    async def idle(self) -> None:
        """Wait until nothing is owed."""
        task = self._task
        while task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({task})
            task = self._task

    async def close(self, patience: float) -> None:
        """Try once more at once, and for `patience` seconds; what is owed then is left to the leases."""
        loop = asyncio.get_running_loop()
        task = self._taken_up(loop) if self._owed else self._task
        if task is not None and not task.done() and task.get_loop() is loop:
            self._hurry.set()
            await asyncio.wait({task}, timeout=patience)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        while self._owed:
            self._left(self._owed.popleft(), "the service ends")

    async def _said(self) -> None:
        failed, many = 0, BATCH
        while self._owed:
            if failed:
                await self._rested(PAUSES[min(failed, len(PAUSES)) - 1])
            # Half as many after each failure: a store that fails is not the better for being asked more.
            answered = await self._batch(many)
            failed, many = (0, min(BATCH_MOST, many * 2)) if answered else (failed + 1, min(BATCH, max(1, many // 2)))

    async def _rested(self, pause: float) -> None:
        """Wait before the next try; where the service ends, only as long as before the first one."""
        if self._hurry.is_set():
            await asyncio.sleep(PAUSES[0])
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause * (1 + self._lots.random() / 2)):
                await self._hurry.wait()

    async def _batch(self, many: int) -> bool:
        """Say as many at once; False if none was answered. Each stays owed until it is."""
        now = asyncio.get_running_loop().time()
        taken = [self._owed.popleft() for _ in range(min(many, len(self._owed)))]
        batch = [owed for owed in taken if owed.until >= now]
        for owed in taken:
            if owed.until < now:
                self._left(owed, "no answer came in time")
        if not batch:
            return True
        # Side by side, and each by itself: a store lets them travel together, and one that fails repeats no other.
        said = [self._store.transact((owed.command,)) for owed in batch]
        try:
            answers = await asyncio.gather(*said, return_exceptions=True)
        except BaseException:
            self._owed.extend(batch)
            raise
        failed = {at: answer for at, answer in enumerate(answers) if isinstance(answer, BaseException)}
        self._owed.extend([batch[at] for at in failed])  # behind the others, which may fare better
        for owed, answer in zip(batch, answers, strict=True):
            if not isinstance(answer, BaseException):
                self._answered(owed, answer[0])
        for fault in failed.values():
            if not isinstance(fault, StoreError):
                raise fault
        return len(failed) < len(batch)

    def _answered(self, owed: Owed, outcome: Outcome) -> None:
        if owed.heard is not None and isinstance(owed.command, Settle):
            owed.heard(owed.command, outcome)
        again = followed(owed.command, outcome)
        if isinstance(again, Cancel | Settle) and owed.moves > 1:
            self._owed.append(owed._replace(command=again, moves=owed.moves - 1))

    @staticmethod
    def _left(owed: Owed, reason: str) -> None:
        """Nobody says it any more. What may have been charged stays charged, and a lease charges what is held: the
        safe direction."""
        if isinstance(owed.command, Cancel):
            events.warning("headgate.cancel.failed", decision=owed.command.rid.hex(), reason=reason)
        else:
            events.error("headgate.settle.failed", decision=owed.command.rid.hex(), reason=reason)


class Flights:
    """Says to one store what is to be said once for all who ask: of each subject by one task at a time.

    >>> from headgate.quota.command import Look
    >>> from headgate.stores.memory import MemoryStore
    >>> async def story() -> list[str]:
    ...     flights, told = Flights(MemoryStore()), []
    ...     flights.begin("a group", [Look(())], lambda: told.append("heard"), within=1.0)
    ...     await flights.waited("a group")
    ...     return told
    >>> asyncio.run(story())
    ['heard']
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._under_way: dict[object, tuple[asyncio.Task[None], float | None]] = {}
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        self._quiet_until = 0.0

    def under_way(self, subject: object) -> bool:
        """Whether a flight of the subject has not ended yet."""
        found = self._under_way.get(subject)
        # A task of a loop that was closed is never done.
        return found is not None and not found[0].done() and not found[0].get_loop().is_closed()

    def begin(
        self, subject: object, commands: Sequence[Command], heard: Callable[[], None], within: float | None
    ) -> None:
        """Say the commands one after the other, also after one that fails; `heard` is told if none did. Who waits for
        it does so for `within` seconds from now at most; None: until it ends."""
        loop = asyncio.get_running_loop()
        for gone in [one for one in self._under_way if not self.under_way(one)]:
            del self._under_way[gone]
        task = loop.create_task(self._said(commands, heard))
        self._under_way[subject] = (task, None if within is None else loop.time() + within)

    async def waited(self, subject: object) -> None:
        """Wait until the subject's flight ends, or until it is late for those who wait. Never raises its faults."""
        found, loop = self._under_way.get(subject), asyncio.get_running_loop()
        if found is None or found[0].done() or found[0].get_loop() is not loop:
            return
        task, until = found
        left = None if until is None else until - loop.time()
        if left is None or left > 0:
            await asyncio.wait({task}, timeout=left)

    async def idle(self) -> None:
        """Wait until nothing is under way in this loop."""
        loop = asyncio.get_running_loop()
        while mine := {task for task, _ in self._under_way.values() if task.get_loop() is loop and not task.done()}:
            await asyncio.wait(mine)

    async def close(self) -> None:
        """End what is under way in this loop; of other loops it is left to them. What was not said is said by whoever
        asks next."""
        loop = asyncio.get_running_loop()
        mine = [task for task, _ in self._under_way.values() if task.get_loop() is loop]
        self._under_way.clear()
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    async def _said(self, commands: Sequence[Command], heard: Callable[[], None]) -> None:
        lanes = self._lanes.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(FLIGHTS))
        failed: Exception | None = None
        for command in commands:  # one by one: together they would hold up the store's other callers
            try:
                async with lanes, asyncio.timeout(FLIGHT):
                    await self._store.transact((command,))
            except Exception as fault:
                failed = fault
        if failed is None:
            heard()
        else:
            self._failed(failed)

    def _failed(self, fault: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            words = f"no answer within {FLIGHT:g} s" if isinstance(fault, TimeoutError) else str(fault)
            events.warning("headgate.join.failed", reason=words or type(fault).__name__)
