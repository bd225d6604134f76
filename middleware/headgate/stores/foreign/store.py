"""A ledger in plain counters: for who has a memcached or a MongoDB and nothing else.

Law: more than a limit is never let through, however many workers ask, as long as their clocks agree and the server
keeps what it was told. A refused request has been charged nothing when it is answered. What else stores promise is
weaker here, and `promises` says which of it.

A reservation takes up to four exchanges with the server: all counters are read, and what does not fit is refused; the
scarcest limit is charged; then the others; and what counts in several keys is read once more, for another worker may
have charged a neighbouring one meanwhile. Whoever finds then that there is too much takes its own back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from headgate.clock import Clock, wall_clock
from headgate.errors import StoreError
from headgate.quota.balance import Balance
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Gone,
    Granted,
    Look,
    Outcome,
    Refused,
    Reserve,
    Seen,
    Settled,
)
from headgate.quota.ledger import REPEAT
from headgate.stores.foreign.attempt import Attempt
from headgate.stores.foreign.counters import Counters, counters_of, open_storage
from headgate.stores.foreign.windows import PREFIX, checked

REMEMBERED = 10_000
"""Verdicts that are remembered at least (twice as many at most), up to 1 kB each."""

MOST = 1_000
"""Calls that may be under way at once; further ones fail immediately: the server is too slow for them."""

PROBE = f"{PREFIX}probe"
"""A key that nobody writes: asked for to see whether the server answers."""


class Verdict(NamedTuple):
    """What this worker remembers of a `rid` until `until`: whether it was granted, and what can be given back."""

    granted: bool
    until: int
    charges: list[tuple[str, int]]


class Client:
    """What one event loop has of the server: its counters, the calls under way, and of each `rid` the last of them.
    A client's connections belong to the loop in which they were made."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self.under_way: set[asyncio.Task[list[Outcome]]] = set()
        self.last: dict[bytes, asyncio.Task[list[Outcome]]] = {}

    def begin(self, rids: Sequence[bytes], work: Coroutine[Any, Any, list[Outcome]]) -> asyncio.Task[list[Outcome]]:
        """A call as a task of its own, which ends though its caller goes away."""
        task = asyncio.get_running_loop().create_task(work)
        self.under_way.add(task)
        self.last.update(dict.fromkeys(rids, task))

        def ended(task: asyncio.Task[list[Outcome]]) -> None:
            self.under_way.discard(task)
            for rid in rids:
                if self.last.get(rid) is task:
                    del self.last[rid]
            if not task.cancelled():
                task.exception()  # its caller may have gone: then nobody else looks

        task.add_done_callback(ended)
        return task


class ForeignStore:
    """Balances in the counters of any server that `limits` can reach, for demands that are used at once.

    `uri`: as `limits` has it, without `async+`. `opened` makes the counters, once in each event loop; by default
    those behind the URI.
    """

    immediate = False
    punctual = False
    deadline = 0.25

    def __init__(self, uri: str, *, clock: Clock = wall_clock, opened: Callable[[], Counters] | None = None) -> None:
        self._uri = uri
        self._clock = clock
        self._opened = opened if opened is not None else lambda: counters_of(open_storage(uri), uri)
        self._clients: dict[asyncio.AbstractEventLoop, Client] = {}
        self._verdicts: dict[bytes, Verdict] = {}
        self._older: dict[bytes, Verdict] = {}

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        """Apply the commands, in order. A call that is cancelled is carried out all the same.

        Raises StoreError; where it is `unknown`, some of the commands may have been applied. For what such a store
        cannot do (hold anything, `max`, Extend, Settle, Merge, Join) it is not transient, and nothing was done.
        """
        for command in commands:
            if not isinstance(command, Reserve | Cancel | Look):
                what = type(command).__name__.lower()
                raise StoreError(f"this store cannot {what}: it holds nothing and moves nothing", transient=False)
            checked(command.demands if isinstance(command, Reserve) else ())
        client = self._client()
        if len(client.under_way) >= MOST:
            raise StoreError(f"{MOST} calls are under way already: the server is too slow for more", transient=True)
        rids = [command.rid for command in commands if isinstance(command, Reserve | Cancel)]
        # What is said of a reservation is done in the order in which it is said.
        earlier = {client.last[rid] for rid in rids if rid in client.last}
        work = self._applied(client.counters, tuple(commands), now, earlier)
        return await asyncio.shield(client.begin(rids, work))

    async def close(self) -> None:
        """Let what is under way end, then let go of the connections. Verdicts stay remembered."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            while client.under_way:
                await asyncio.wait(client.under_way)
            await client.counters.close()

    def _client(self) -> Client:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            # Loops that were closed meanwhile have left theirs behind.
            self._clients = {each: kept for each, kept in self._clients.items() if not each.is_closed()}
            client = self._clients[loop] = Client(self._opened())
        return client

    async def _applied(
        self,
        counters: Counters,
        commands: tuple[Command, ...],
        now: int | None,
        earlier: set[asyncio.Task[list[Outcome]]],
    ) -> list[Outcome]:
        if earlier:
            await asyncio.wait(earlier)
        at = self._clock() if now is None else now
        outcomes: list[Outcome] = []
        for command in commands:
            match command:
                case Reserve():
                    outcomes.append(await self._reserve(counters, command, at))
                case Cancel():
                    outcomes.append(await self._cancel(counters, command, at))
                case _:
                    outcomes.append(Seen(at, await _seen(counters, command.demands, at)))
        return outcomes

    async def _reserve(self, counters: Counters, command: Reserve, now: int) -> Outcome:
        rid, demands, lease = command
        attempt = Attempt(counters, demands, now)
        await attempt.look()
        known = self._known(rid, now)
        if known is not None:
            return Granted(now, attempt.balances()) if known.granted else Gone(now)
        refused, shadowed = attempt.lacking()
        if not refused:
            await attempt.charge()
            refused, shadowed = attempt.lacking()
        if refused:
            return Refused(now, refused, attempt.balances(), shadowed)
        self._remember(rid, Verdict(True, now + max(lease, REPEAT), attempt.charges()))
        return Granted(now, attempt.balances(), shadowed)

    async def _cancel(self, counters: Counters, command: Cancel, now: int) -> Outcome:
        rid, demands, lease = command
        known = self._known(rid, now)
        charges = known.charges if known is not None else []
        self._remember(rid, Verdict(False, now + max(lease, REPEAT), charges))
        while charges:
            # Taken off first: what may have been given back is never given back again.
            await counters.back(*charges.pop())
        return Settled(now, await _seen(counters, demands, now))

    def _known(self, rid: bytes, now: int) -> Verdict | None:
        verdict = self._verdicts.get(rid) or self._older.get(rid)
        return verdict if verdict is not None and verdict.until > now else None

    def _remember(self, rid: bytes, verdict: Verdict) -> None:
        self._verdicts[rid] = verdict
        if len(self._verdicts) >= REMEMBERED:
            self._older, self._verdicts = self._verdicts, {}


async def _seen(counters: Counters, demands: Sequence[Demand], now: int) -> tuple[Balance | None, ...]:
    """What counts, in the demands' order; of `max`, which is never held here, nothing."""
    countable = [demand for demand in demands if demand.verb.kind != "max"]
    if not countable:
        await counters.read((PROBE,))
    attempt = Attempt(counters, countable, now)
    if countable:
        await attempt.look()
    found = iter(attempt.balances())
    return tuple([None if demand.verb.kind == "max" else next(found) for demand in demands])
