"""The ledger of a fleet: Redis or Valkey, one server, a master told by sentinels, or a cluster.

Law: a call waits for one round trip and never longer than its deadline. The calls of one tick of an event loop travel
together, so that many callers cost the server little more than one, and the process even less.

Each event loop has a line of its own to the servers, made at its first call and let go of when the loop ends. So a
store serves any number of loops, one after the other or at once; a forked child makes its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, Literal
from weakref import WeakSet

from headgate.clock import Clock
from headgate.errors import StoreError
from headgate.quota.command import Command, Join, Outcome
from headgate.stores.redis import address
from headgate.stores.redis.slots.plan import Planner, spread
from headgate.stores.redis.slots.raising import Raising, in_pieces
from headgate.stores.redis.wire.batch import TOGETHER
from headgate.stores.redis.wire.cluster import ClusterLine
from headgate.stores.redis.wire.line import Line

Durability = Literal["fast", "replicated"]

DEADLINE: Final = 0.025
"""How long (seconds) a call waits for the servers: fifty round trips within a data centre."""


class RedisStore:
    """Balances and receipts in Redis, shared by all workers of a fleet.

    `uri`: redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// or the same of valkey. `clock`: for
    tests; without one the server's own time counts, so that workers need not agree on theirs. `deadline` (seconds)
    bounds every call. `durability`: with "replicated" an answer counts only when a replica has it, too.

    Raises StoreError for a URI that names no server. Nothing is connected to before the first call.

    >>> store = RedisStore("redis://localhost:6379/0")
    >>> store.immediate, store.punctual, store.deadline
    (False, True, 0.025)
    """

    immediate = False
    punctual = True

    def __init__(
        self, uri: str, *, clock: Clock | None = None, deadline: float = DEADLINE, durability: Durability = "fast"
    ) -> None:
        if durability not in ("fast", "replicated"):
            raise StoreError(f"a store's durability is fast or replicated, not {durability!r}", transient=False)
        if not deadline > 0:
            raise StoreError("a Redis store needs a deadline of more than 0 s", transient=False)
        self.address = address.read(uri)
        self.deadline = deadline
        self.durability = durability
        self._clock = clock
        self._lines: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._beginning = threading.Lock()
        _STORES.add(self)

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        """Apply the commands, with those of whoever else asks in the same tick.

        Raises StoreError by the deadline at the latest; `unknown` says whether they may have been applied. A
        cancelled call may be applied or not. Commands of one call whose places lie in several slots of a cluster are
        not one transaction, and neither are more than 32: each command is whole or not at all."""
        here = self._lines.get(asyncio.get_running_loop()) or self._begun()
        if now is None and self._clock is not None:
            now = self._clock()
        if here.planner is not None and (len(commands) > 1 or (commands and spread(commands[0]))):
            return await here.planner.transact(commands, now)
        if any(map(in_pieces, commands)):
            return await here.in_pieces(commands, now)
        if 0 < len(commands) <= TOGETHER:
            return await here.line.ask(commands, now)
        return await here.line.transact(commands, now)

    async def close(self) -> None:
        """Let what is under way be answered, then let go of the connections. A call after that connects again."""
        loop = asyncio.get_running_loop()
        mine = self._lines.pop(loop, None)
        for other, here in list(self._lines.items()):
            if not other.is_closed():
                other.call_soon_threadsafe(here.drop)
        self._lines.clear()
        if mine is not None:
            await mine.close()

    def _begun(self) -> _Loop:
        loop = asyncio.get_running_loop()
        with self._beginning:
            for other in [other for other in self._lines if other.is_closed()]:
                del self._lines[other]
            here = self._lines[loop] = _Loop(self)
        return here

    def _forked(self) -> None:
        """In a child: what is its parent's is neither used nor closed; to collect it would close it."""
        _PARENTS.append(self._lines)
        self._lines = {}
        self._beginning = threading.Lock()


class _Loop:
    """What one event loop has of a store."""

    __slots__ = ("_until_it_ends", "line", "planner")

    def __init__(self, store: RedisStore) -> None:
        replicated = store.durability == "replicated"
        self.planner: Planner | None = None
        if store.address.shape == "cluster":
            cluster = ClusterLine(store.address, deadline=store.deadline, replicated=replicated)
            self.line: Line = cluster
            self.planner = Planner(cluster.ask, deadline=store.deadline, clock=store._clock)
        else:
            self.line = Line(store.address, deadline=store.deadline, replicated=replicated)
        self._until_it_ends = self._ending()
        _step(self._until_it_ends.__anext__())

    async def _ending(self) -> AsyncGenerator[None, None]:
        """A loop that ends closes the generators that were begun in it: so this one learns of it."""
        try:
            yield
        finally:
            self.drop()

    async def in_pieces(self, commands: Sequence[Command], now: int | None) -> list[Outcome]:
        """The commands one after the other; joins of many orgs as a cluster does them, so that nobody waits for a
        call that reads them all: of a thousand it would take some 40 milliseconds."""
        raising = Raising(self.line.ask)
        outcomes: list[Outcome] = []
        for command in commands:
            if type(command) is Join and in_pieces(command):
                outcomes.append(await raising.join(command, now))
            else:
                outcomes += await self.line.transact((command,), now)
        return outcomes

    async def close(self) -> None:
        if self.planner is not None:
            await self.planner.close()
        await self.line.close()
        await self._until_it_ends.aclose()

    def drop(self) -> None:
        if self.planner is not None:
            self.planner.drop()  # first: what the line fails then is not said again
        self.line.drop()


def _step(once: Any) -> None:
    """Runs what never waits."""
    try:
        once.send(None)
    except StopIteration:
        return


_STORES: WeakSet[RedisStore] = WeakSet()
_PARENTS: list[Any] = []


def _in_a_child() -> None:
    for store in list(_STORES):
        store._forked()


if hasattr(os, "register_at_fork"):  # where processes fork
    os.register_at_fork(after_in_child=_in_a_child)
