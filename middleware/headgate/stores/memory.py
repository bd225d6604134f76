"""The ledger in this process: for tests, and for an app of one worker that may forget on restart.

Law: bounded, and no bound gives anybody a fresh window. When the table is full, only balances that are as good as
untouched are dropped; who still finds no room shares one overflow balance with all others, limit by limit. As long
as anything counts there, nobody new gets a balance of its own under that limit: it could have been in there before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from headgate.clock import Clock, wall_clock
from headgate.quota.balance import Balance, new
from headgate.quota.change import Sketches
from headgate.quota.command import Command, Demand, Join, Merge, Outcome, Place, Receipt, Reserve
from headgate.quota.ledger import apply
from headgate.quota.things import Things

ROOM = 200_000
"""Balances that are kept; about 400 bytes each, 80 MB when full. Beside those that count different things lies a
sketch each: eight bytes a thing, 12.4 kB at most."""

REMEMBERED = 50_000
"""Verdicts that are remembered at least (twice as many at most), about 190 bytes each. Nothing gets lost on the way
within a process: a repeat comes at once, or after a fault of whoever calls."""

OVERFLOW = b"\0overflow"
"""The subject of those who found no room. Nine bytes long: no digest, which has sixteen, can equal it."""

SWEEP = 8
"""Places looked at for dropping, for each new one: the table is walked in turns, never all at once."""


class MemoryStore:
    """Balances and receipts in dictionaries. Not shared between processes.

    >>> import asyncio
    >>> from headgate.quota.command import Demand, Reserve
    >>> from headgate.quota.window import Total
    >>> store = MemoryStore()
    >>> ask = [Reserve(bytes([n]), (Demand((b"acme", "life"), Total(1), 1),), 60_000_000) for n in range(2)]
    >>> [type(outcome).__name__ for outcome in asyncio.run(store.transact(ask))]
    ['Granted', 'Refused']
    """

    immediate = True
    punctual = True
    deadline = 0.0

    def __init__(self, *, clock: Clock = wall_clock, room: int = ROOM) -> None:
        self._clock = clock
        self._room = room
        self._balances: dict[Place, Balance] = {}
        self._sketches: dict[Place, Things] = {}
        # As plain tuples: those of numbers the garbage collector leaves out, and a hundred thousand named ones
        # stop an app for 50 ms at a time.
        self._receipts: dict[bytes, tuple[Any, ...]] = {}
        self._older: dict[bytes, tuple[Any, ...]] = {}
        self._walk: Iterator[Place] = iter(())
        self._overflows: set[str] = set()

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        """Apply the commands, in order; never waits and never fails."""
        at = self._clock() if now is None else now
        if len(commands) == 1:  # nearly always; on Python 3.11 a comprehension is a call of its own
            return [self._applied(commands[0], at)]
        return [self._applied(command, at) for command in commands]

    async def close(self) -> None:
        """Nothing to let go of; what is counted stays."""

    def _applied(self, command: Command, now: int) -> Outcome:
        balances = self._balances
        if self._overflows or len(balances) + len(command.demands) > self._room:
            command = self._roomed(command, now)
        rid = getattr(command, "rid", b"")
        kept = self._receipts.get(rid) or self._older.get(rid)
        seen = self._sketches
        outcome, written, receipt, drawn = apply(balances, new(Receipt, kept) if kept else None, command, now, seen)
        balances.update(written)
        if drawn:
            self._draw(drawn)
        if receipt is not None:
            self._receipts[rid] = (*receipt,)
            if len(self._receipts) >= REMEMBERED:
                self._older, self._receipts = self._receipts, {}
        return outcome

    def _draw(self, drawn: Sketches) -> None:
        for place, things in drawn.items():
            if things.data:
                self._sketches[place] = things
            else:
                self._sketches.pop(place, None)

    def _roomed(self, command: Command, now: int) -> Command:
        """The command as it fits: places that find no room in the table become the overflow's."""
        self._drained(now)
        balances = self._balances
        # Of a merge and a join a source that is not there is not written, and needs no room.
        named = (command.into,) if isinstance(command, Merge | Join) else command.demands
        strangers = [demand.place for demand in named if demand.place not in balances]
        if isinstance(command, Reserve | Merge | Join):
            for _ in strangers:
                self._drop_idle(now)
            if len(balances) + len(strangers) > self._room:
                self._overflows.update([limit for _, limit in strangers])
        if isinstance(command, Merge | Join):
            # What a stranger has in the overflow cannot be told from what others have: it stays there.
            sources = tuple([demand for demand in command.sources if demand.place in balances])
            return command._replace(into=self._placed(command.into), sources=sources)
        return command._replace(demands=tuple([self._placed(demand) for demand in command.demands]))

    def _placed(self, demand: Demand) -> Demand:
        limit = demand.place[1]
        if limit in self._overflows and demand.place not in self._balances:
            return demand.at((OVERFLOW, limit))
        return demand

    def _drained(self, now: int) -> None:
        """Closes the overflow of every limit under which nothing counts there any more."""
        for limit in list(self._overflows):
            shared = self._balances.get((OVERFLOW, limit))
            if shared is None or _idle(shared, now):
                self._forget((OVERFLOW, limit))
                self._overflows.discard(limit)

    def _drop_idle(self, now: int) -> None:
        for _ in range(SWEEP):
            place = next(self._walk, None)
            if place is None:
                self._walk = iter(list(self._balances))
                continue
            balance = self._balances.get(place)
            if balance is not None and place[0] != OVERFLOW and _idle(balance, now):
                self._forget(place)

    def _forget(self, place: Place) -> None:
        # With its balance a sketch ends, too: whatever it knows belongs to a window that has run out.
        self._balances.pop(place, None)
        self._sketches.pop(place, None)


def _idle(balance: Balance, now: int) -> bool:
    """Whether a balance is as good as untouched: nothing counts, and nothing is held or may still be charged."""
    if balance.until > now:
        return False
    holds = balance.holds
    return holds is None or all(
        hold.until <= now and (hold.lapsed or balance.kind == "max") for hold in holds.by_rid.values()
    )
