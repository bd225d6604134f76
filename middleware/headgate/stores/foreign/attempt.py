"""One reservation's way through the counters: read, charge the scarcest, charge the others, look again, or take back.

Law: charged before granted, and looked at after charging: of two that charge neighbouring keys at the same moment, at
least one sees both, and whoever sees too much takes its own back. So more than a limit is never let through. What
cannot be taken back, because the server fails, stays charged: too little is let through then, never too much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from headgate.errors import StoreError
from headgate.quota.balance import Balance
from headgate.quota.command import Demand, Refusal
from headgate.stores.foreign.counters import Counters
from headgate.stores.foreign.windows import Window, window_of


class Line:
    """One demand: where it counts, and whether it is charged."""

    __slots__ = ("amount", "charged", "demand", "window")

    def __init__(self, demand: Demand, now: int) -> None:
        self.demand = demand
        self.amount = demand.amount
        self.window: Window = window_of(demand.place, demand.verb, now)
        self.charged = False

    @property
    def owes(self) -> bool:
        """Whether it is charged whatever is left."""
        return self.demand.owed and not self.demand.shadow


class Attempt:
    """Some demands at `now` (microseconds), what was read where they count, and which of them are charged."""

    def __init__(self, counters: Counters, demands: Sequence[Demand], now: int) -> None:
        self._counters = counters
        self._now = now
        self._lines = [Line(demand, now) for demand in demands]
        self._units: dict[str, int] = {}

    async def look(self) -> None:
        """Read all that counts. Raises StoreError."""
        self._units = await self._counters.read([key for line in self._lines for key, _ in line.window.counts])
        for line in self._lines:
            if line.window.opens and self._units.get(line.window.key):
                end = await self._counters.ends(line.window.key)
                if end is not None:
                    line.window = line.window._replace(counts=((line.window.key, end),))

    def lacking(self) -> tuple[tuple[Refusal, ...], tuple[Refusal, ...]]:
        """The refusals of what was read: those that hold, and those of limits in shadow."""
        # Owed: whatever is left. In shadow as well it is charged like every demand in shadow, and says nothing.
        found = [
            (line, line.demand.owed or line.amount <= line.window.left(self._units))
            for line in self._lines
            if not line.charged
        ]
        refusals = [(line.demand, self._refusal(line)) for line, fits in found if not fits]
        return tuple([r for d, r in refusals if not d.shadow]), tuple([r for d, r in refusals if d.shadow])

    def balances(self) -> tuple[Balance | None, ...]:
        """What was read, and charged since, in the demands' order."""
        return tuple([line.window.balance(self._units, self._now) for line in self._lines])

    def charges(self) -> list[tuple[str, int]]:
        """What a cancellation gives back: keys and amounts. What a limit in shadow was charged stays charged, as
        everywhere."""
        return [(line.window.key, line.amount) for line in self._lines if line.charged and not line.demand.shadow]

    async def charge(self) -> None:
        """Charge what fits, and take back what turns out not to: all of it if an enforced limit has too little left.

        `lacking` tells afterwards. Raises StoreError when the server fails; what was charged is taken back then, as
        far as it lets.
        """
        fitting = [line for line in self._lines if line.amount > 0 and (line.owes or line.amount <= self._left(line))]
        # A limit in shadow holds nobody back; of the others, the one with the least left decides most races.
        fitting.sort(key=lambda line: (line.demand.shadow, self._left(line) - line.amount))
        try:
            for some in (fitting[:1], fitting[1:]):
                await self._add(some)
                if not await self._kept(some):
                    return
            await self._look_again()
            await self._kept(fitting)
        except StoreError as fault:
            await self._back([line for line in self._lines if line.charged])
            raise StoreError(str(fault), transient=fault.transient, unknown=True) from None

    async def _add(self, lines: Sequence[Line]) -> None:
        async def added(line: Line) -> None:
            window = line.window
            self._units[window.key] = await self._counters.add(
                window.key, line.amount, window.seconds, opens=window.opens
            )
            line.charged = True

        done = await asyncio.gather(*[added(line) for line in lines], return_exceptions=True)
        for fault in done:
            if fault is not None:
                raise fault

    async def _look_again(self) -> None:
        """Read what counts beside the keys that were charged: another worker's clock may be in the next one."""
        beside = [
            key for line in self._lines if line.charged for key, _ in line.window.counts if key != line.window.key
        ]
        if beside:
            found = await self._counters.read(beside)
            self._units.update({key: found.get(key, 0) for key in beside})

    async def _kept(self, lines: Sequence[Line]) -> bool:
        """Whether nothing is charged above an enforced limit. If something is, everything is taken back; what is
        charged above one in shadow is taken back alone."""
        over = [line for line in lines if line.charged and not line.owes and self._left(line) < 0]
        if any(not line.demand.shadow for line in over):
            await self._back([line for line in self._lines if line.charged])
            return False
        await self._back(over)
        return True

    async def _back(self, lines: Sequence[Line]) -> None:
        async def given(line: Line) -> None:
            line.charged = False
            self._units[line.window.key] = max(0, self._units.get(line.window.key, 0) - line.amount)
            with suppress(StoreError):  # it stays charged, and the caller has its answer all the same
                await self._counters.back(line.window.key, line.amount)

        await asyncio.gather(*[given(line) for line in lines])

    def _left(self, line: Line) -> int:
        return line.window.left(self._units)

    def _refusal(self, line: Line) -> Refusal:
        return line.window.refusal(line.demand.place[1], line.amount, self._units)
