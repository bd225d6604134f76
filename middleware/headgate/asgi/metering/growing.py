"""What a response holds, kept ahead of what it uses.

Law: more is asked for behind the response, when `ENOUGH` of what is held is used; a response waits for the answer
only when all of it is used and its meter is `cut`. A refusal counts when there is nothing left to go on with, not
before. A store that is not heard cuts nobody off: what was used without its word is charged at the settlement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from headgate.asgi.metering.gauge import Gauge, Touched
from headgate.asgi.metering.held import Held
from headgate.gate import Gate
from headgate.quota.decision import Decision
from headgate.quota.meter import MILLION
from headgate.quota.under_way import Things

FAR = 1 << 62
"""Bytes until a look at what is held, where no number of bytes changes anything."""

Owed = Mapping[str, int]
"""Units by meter that could not be named."""

Amounts = Callable[[], Mapping[str, int]]


class Growth:
    """All that one response holds. `amounts` tells what it has used by now, by meter; `factors` are those of its
    sums."""

    __slots__ = ("_amounts", "_ended", "_rates", "helds", "lock", "rest", "spending", "touched")

    def __init__(
        self,
        gate: Gate,
        decision: Decision,
        gauge: Gauge,
        factors: Mapping[str, int],
        touched: Mapping[str, Touched],
        amounts: Amounts,
    ) -> None:
        self.rest = decision
        self.lock, self.spending = asyncio.Lock(), asyncio.Lock()
        self.touched = touched
        self._amounts = amounts
        self._ended = False
        # Decided without the store, and asked of nobody: nothing grows.
        growing = gauge.meters.values() if decision.degraded != "open" else ()
        self.helds = [
            Held(self, gate, decision, meter)
            for meter in growing
            if not meter.source.startswith("header.") and meter.things in {"", "app"}
        ]
        self._rates = {m.name: gauge.rates(m, factors.get(m.name, MILLION)) for m in gauge.meters.values()}

    def looked(self) -> tuple[int, int]:
        """Ask for more of whatever is nearly used up; how many bytes may be sent, and how many of generated text,
        before the next look."""
        used, by_bytes, by_text = self._amounts(), FAR, FAR
        for held in self.helds:
            mine = used.get(held.name, 0)
            held.looked(mine)
            a_byte, a_letter = self._rates[held.name]
            if a_byte or a_letter:
                # Units are rounded up: the first of them may be begun by the next byte.
                least = max(0, (held.room(mine) - 1) * MILLION // (a_byte + a_letter) + 1)
                by_bytes = min(by_bytes, least) if a_byte else by_bytes
                by_text = min(by_text, least) if a_letter else by_text
        return by_bytes, by_text

    def looked_again(self, held: Held) -> None:
        """Look again at what was granted more: the response went on while it was asked for, and may stall now."""
        if not self._ended:
            held.looked(self.used(held.name))

    def exhausted(self, used: Mapping[str, int], reported: bool = False) -> Held | None:
        """What is to be had before all that is used, by meter, may pass; None if it may. `reported`: tokens are as
        they were reported for good, so that what they are beyond what was held is a debt, and nothing that could be
        cut."""
        for held in self.helds:
            if held.exhausted(used.get(held.name, 0)) and not (reported and held.reads):
                return held
        return None

    async def had(self, used: Mapping[str, int], reported: bool = False) -> Decision | None:
        """Wait until what is used, by meter, may pass; the verdict, if it may not."""
        while (held := self.exhausted(used, reported)) is not None:
            await held.answered(self.used(held.name), used.get(held.name, 0))
            if held.over:
                return held.refused
        return None

    async def secured(self, more: Mapping[str, int]) -> Decision | None:
        """Hold what the endpoint is about to use, by meter; the verdict, if a limit refuses that."""
        for held in self.helds:
            units = more.get(held.name, 0)
            if units > 0 and (refused := await held.secured(units)) is not None:
                return refused
        return None

    async def foreseen(self, more: Mapping[str, int]) -> Decision | None:
        """Hold what is sure to be used, by meter, of those that would else be cut; the verdict, if it may not be."""
        cut = {held.name for held in self.helds if held.cuts}
        async with self.spending:
            return await self.secured({name: units for name, units in more.items() if name in cut})

    def used(self, meter: str) -> int:
        """What the response has used of a meter by now."""
        return self._amounts().get(meter, 0)

    async def renewed(self, gate: Gate) -> None:
        """One more lease for all that is held; what stands as it was counted is settled and held anew."""
        used = self._amounts()
        for held in self.helds:
            held.beat(used.get(held.name, 0))
        async with self.lock:
            await gate.renew(self.rest)
        for held in self.helds:
            await held.renewed()

    async def settled(self, gate: Gate, used: Mapping[str, int], things: Callable[[], tuple[Things, Owed]]) -> None:
        """Settle all of it by what was used in the end; `things` that were handed out, and have not been settled."""
        self._ended = True
        for held in self.helds:
            await held.idle()
            await held.heard(used.get(held.name, 0))
            await held.lightened()
        named, unnamed = things()
        owed = {**used, **unnamed}
        await gate.settle(self.rest, owed, named)
        for held in self.helds:
            await held.settled(used.get(held.name, 0), owed.get(held.name, 0), named)
