"""What a cluster still has to be told after the answer: confirmations, and what is to be taken back.

Law: no request waits for it. Each is on its way before anything that is said later, and is said again until it is
answered or its time is over: then the leases do what is safe. Failed ones are said again some at a time, with a
pause, so that a node which comes back is not run over; what more than `MOST` are owed is left to the leases.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from headgate.clock import Clock
from headgate.errors import StoreError
from headgate.quota.command import Cancel, Outcome, Settle, Settled
from headgate.stores.redis.script.parcel import Undo
from headgate.stores.redis.slots.parts import parts_of
from headgate.stores.redis.wire.asking import Ask, begun

MOST = 10_000
"""Errands that may be owed at once, some 10 MB."""

BATCH = 32
"""How many are said again at a time."""

PAUSES = (0.05, 0.1, 0.3, 0.6, 1.0)
"""Seconds before each round after one that failed, the last again and again, and up to half as much by lot."""

MOVES = 4
"""How many merges an errand follows to where they have moved its holds."""

GRACE = 1.0
"""How long (seconds) closing waits for what is on its way."""

Errand = Settle | Cancel | Undo


class Owed(NamedTuple):
    """An errand that is to be said until it is answered, but not after `until` (the loop's seconds).

    `now`: the instant (microseconds) of the answer that it follows, where instants are the callers'; None where they
    are the servers'. Those are never told one: what arrives late must not look like a clock that was set back.
    """

    command: Errand
    now: int | None
    until: float
    moves: int = MOVES


class Errands:
    """Says what is owed, behind the requests of one event loop. `clock` where instants are not the servers' own."""

    def __init__(self, ask: Ask, clock: Clock | None = None) -> None:
        self._ask = ask
        self._clock = clock
        self._flying: dict[asyncio.Future[list[Outcome]], Owed] = {}
        self._owed: deque[Owed] = deque()
        self._by_rid: dict[bytes, int] = {}
        self._again: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many are on their way or owed."""
        return sum(self._by_rid.values())

    def say(self, command: Errand, now: int | None, patience: float) -> None:
        """Say one at once, and again for `patience` seconds until it is answered. Never fails; see `Owed`."""
        self._new(Owed(command, now, asyncio.get_running_loop().time() + patience))

    def _new(self, owed: Owed) -> None:
        rid = owed.command.rid
        self._by_rid[rid] = self._by_rid.get(rid, 0) + 1
        self._said(owed, owed.now)

    def _said(self, owed: Owed, now: int | None) -> asyncio.Future[list[Outcome]]:
        future = begun(self._ask, owed.command, now)
        self._flying[future] = owed
        future.add_done_callback(partial(self._answered, owed))
        return future

    def _answered(self, owed: Owed, future: asyncio.Future[list[Outcome]]) -> None:
        if self._flying.pop(future, None) is None:
            return  # closed meanwhile
        if future.cancelled() or isinstance(future.exception(), StoreError):
            self._failed(owed)
            return
        self._done(owed)
        [outcome] = future.result()  # raises what no repetition would mend: the loop reports it
        moved = outcome.moved if type(outcome) is Settled else ()
        if moved and owed.moves:
            for part in parts_of(moved):
                again = owed.command._replace(demands=part.demands)
                self._new(owed._replace(command=again, moves=owed.moves - 1))

    def _done(self, owed: Owed) -> None:
        rid = owed.command.rid
        left = self._by_rid.get(rid, 1) - 1
        if left:
            self._by_rid[rid] = left
        else:
            self._by_rid.pop(rid, None)

    def _failed(self, owed: Owed) -> None:
        if len(self._owed) >= MOST:
            self._done(self._owed.popleft())
        self._owed.append(owed)
        if self._again is None or self._again.done():
            self._again = asyncio.get_running_loop().create_task(self._repeated())

    async def _repeated(self) -> None:
        """Says what is owed until nothing is."""
        failed = 1
        while self._owed:
            if failed:
                await asyncio.sleep(PAUSES[min(failed, len(PAUSES)) - 1] * (1 + random.random() / 2))
            failed = 0 if await self._round() else failed + 1

    async def _round(self) -> bool:
        """Say some again, each by itself: one node that does not answer keeps back no other's."""
        time = asyncio.get_running_loop().time()
        batch = [self._owed.popleft() for _ in range(min(BATCH, len(self._owed)))]
        for owed in batch:
            if owed.until < time:
                self._done(owed)
        said = [self._said(owed, self._later(owed)) for owed in batch if owed.until >= time]
        answers = await asyncio.gather(*said, return_exceptions=True)
        return not any(isinstance(answer, BaseException) for answer in answers)

    def _later(self, owed: Owed) -> int | None:
        """The instant of a later try."""
        return self._clock() if owed.now is not None and self._clock is not None else owed.now

    async def rest(self, rid: bytes) -> None:
        """Wait for what is on its way under `rid`. Raises StoreError where it was not answered: what is reserved
        under that id now could be taken back by what has yet to be said."""
        if rid not in self._by_rid:
            return
        flying = [future for future, owed in self._flying.items() if owed.command.rid == rid]
        if flying:
            await asyncio.wait(flying)
        if rid in self._by_rid:
            raise StoreError("a node has yet to be told that this reservation was taken back", transient=True)

    async def close(self) -> None:
        """Let what is on its way arrive, for `GRACE` seconds at most; the rest is left to the leases."""
        loop = asyncio.get_running_loop()
        until = loop.time() + GRACE
        while self._flying and loop.time() < until:
            await asyncio.wait(tuple(self._flying), timeout=until - loop.time())
        again = self._again
        self.drop()
        if again is not None:
            await asyncio.gather(again, return_exceptions=True)

    def drop(self) -> None:
        """Leave all of it to the leases, at once."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        _left_alone(self._flying)
        self._flying.clear()
        self._owed.clear()
        self._by_rid.clear()


def _left_alone(futures: Iterable[asyncio.Future[list[Outcome]]]) -> None:
    """Nobody asks for their faults any more."""
    for future in futures:
        future.add_done_callback(lambda done: None if done.cancelled() else done.exception())
