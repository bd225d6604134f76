"""The ledger in this process: for tests, and for an app of one worker that may forget on restart.

Law: bounded, and no bound gives anybody a fresh window. When the table is full, only balances that are as good as
untouched are dropped; who still finds no room shares one overflow balance with all others, limit by limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from headgate.clock import Clock, wall_clock
from headgate.quota.balance import Balance
from headgate.quota.ledger import Cancel, Command, Extend, Look, Outcome, Place, Receipt, Reserve, Settle, apply

Change = Reserve | Extend | Settle | Cancel

ROOM = 200_000
"""Balances that are kept; about 400 bytes each, 80 MB when full."""

OVERFLOW = b"\0overflow"
"""The subject of those who found no room. Nine bytes long: no digest, which has sixteen, can equal it."""

SWEEP = 8
"""Places looked at for dropping, for each new one: the table is walked in turns, never all at once."""


class MemoryStore:
    """Balances and receipts in two dictionaries. Not shared between processes.

    >>> import asyncio
    >>> from headgate.quota.ledger import Demand, Reserve
    >>> from headgate.quota.window import Total
    >>> store = MemoryStore()
    >>> ask = [Reserve(bytes([n]), (Demand((b"acme", "life"), Total(1), 1),), 60_000_000) for n in range(2)]
    >>> [type(outcome).__name__ for outcome in asyncio.run(store.transact(ask))]
    ['Granted', 'Refused']
    """

    immediate = True

    def __init__(self, *, clock: Clock = wall_clock, room: int = ROOM) -> None:
        self._clock = clock
        self._room = room
        self._balances: dict[Place, Balance] = {}
        self._receipts: dict[bytes, Receipt] = {}
        self._expiring: deque[tuple[int, bytes]] = deque()
        self._walk: Iterator[Place] = iter(())
        self._crowded = False

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        """Apply the commands, in order; never waits and never fails."""
        at = self._clock() if now is None else now
        return [self._applied(command, at) for command in commands]

    async def close(self) -> None:
        """Nothing to let go of; what is counted stays."""

    def _applied(self, command: Command, now: int) -> Outcome:
        balances = self._balances
        if isinstance(command, Look):
            return apply(balances, None, command, now).outcome
        if self._crowded or len(balances) + len(command.demands) > self._room:
            command = self._roomed(command, now)
        rid = command.rid
        outcome, written, receipt = apply(balances, self._receipts.get(rid), command, now)
        balances.update(written)
        if receipt is not None:
            self._receipts[rid] = receipt
            self._expiring.append((receipt.until, rid))
            self._forget(now)
        return outcome

    def _forget(self, now: int) -> None:
        """Drops receipts that have run out. Leases differ, so one may wait behind a longer one: late, never early."""
        expiring = self._expiring
        while expiring and expiring[0][0] <= now:
            _, rid = expiring.popleft()
            kept = self._receipts.get(rid)
            if kept is not None and kept.until <= now:
                del self._receipts[rid]

    def _roomed(self, command: Change, now: int) -> Change:
        """The command as it fits: places that find no room in the table become the overflow's.

        What was held in the overflow is settled there, whether or not there is room by then.
        """
        strangers = [demand for demand in command.demands if demand.place not in self._balances]
        for _ in strangers:
            self._drop_idle(now)
        crowded = isinstance(command, Reserve) and len(self._balances) + len(strangers) > self._room
        demands = tuple(
            demand._replace(place=(OVERFLOW, demand.place[1]))
            if demand in strangers and (crowded or self._overflowed(demand.place[1], command.rid))
            else demand
            for demand in command.demands
        )
        self._crowded = self._crowded or crowded
        return command._replace(demands=demands)

    def _overflowed(self, limit: str, rid: bytes) -> bool:
        shared = self._balances.get((OVERFLOW, limit))
        return shared is not None and shared.holds is not None and rid in shared.holds.by_rid

    def _drop_idle(self, now: int) -> None:
        for _ in range(SWEEP):
            place = next(self._walk, None)
            if place is None:
                self._walk = iter(list(self._balances))
                continue
            balance = self._balances.get(place)
            if balance is not None and balance.until <= now and balance.holds is None:
                del self._balances[place]
