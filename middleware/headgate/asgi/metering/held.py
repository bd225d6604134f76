"""What is held of one meter for one response.

Law: the hold grows before it is needed, and no unit that is cut off is charged; what was used all the same after a
limit had refused to hold more is owed. What is estimated, or may finish as it likes, is *extended*: settled once, at
the end. What is counted as it passes and may be cut is *turned over*: what
was used is settled while the stream lives, so that it drains from a rate, and things that were handed out before are
told from new ones. The next part is held before the last one is settled, for whatever was used beyond it is settled
under it, too; only where the response would else end here, it is settled first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.asgi.metering.metered import adding, behind
from headgate.errors import StoreError
from headgate.gate import Gate
from headgate.quota.decision import Decision
from headgate.quota.meter import Meter
from headgate.quota.things import MOST_THINGS
from headgate.quota.under_way import NO_THINGS, Extended, Things, holds, without
from headgate.telemetry import events

if TYPE_CHECKING:
    from headgate.asgi.metering.growing import Growth

PART, WHOLE = 4, 5
"""More is asked for when 80 % of what is held is used: the store answers while the rest is being used."""

LARGEST_STEP = 8
"""A step is at most an eighth of a limit: others would be refused for what this response may never use, and a rate
would be charged long after it was used. Up to that, each step is as large as all before it: a long stream asks
seldom."""

FACTS = frozenset({"bytes_in", "bytes_out", "messages", "app"})
"""Sources that are counted as they pass and never corrected."""

MANY_THINGS = MOST_THINGS * PART // WHOLE
"""Things after which they are settled: more than `MOST_THINGS` cannot be named at once."""


PAUSES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Seconds before each further try of a store that did not answer, behind the response; then what little was used
after a cut is let go."""


class Part(NamedTuple):
    """What is to be settled of a part: units or things that stand for `upto` units of all that was used."""

    upto: int
    used: Mapping[str, int]
    things: Things


class Held:
    """The hold of one meter, under one reservation at a time.

    `amount` is held since `base` units were used; `part` is the reservation, None for the decision's own. `refused`
    is the latest refusal; `let`: the response goes on in spite of it; `over`: it does not; `bare`: what it used was
    just what was left, so that nothing is held any more. `reads`: whether it counts tokens. `spent`: units that were
    asked for before they were used, all of which are held: nothing is to be expected from them.
    """

    __slots__ = (
        "_asking", "_gate", "_growth", "_largest", "_shadowed", "_unheard", "amount", "bare", "base", "cuts", "fact",
        "let", "name", "over", "part", "reads", "refused", "spent",
    )  # fmt: skip

    def __init__(self, growth: Growth, gate: Gate, decision: Decision, meter: Meter) -> None:
        mine = holds(decision, {meter.name})
        self.name = meter.name
        self.cuts = meter.overrun == "cut" and not all(demand.shadow for demand in mine.demands)
        self.reads = any(part.source.startswith("preset.") for part in (meter.parts or (meter,)))
        self.fact = meter.source in FACTS or meter.things != ""
        self.amount = min([demand.amount for demand in mine.demands], default=0)
        self.base = self.spent = 0
        self.part: Decision | None = None
        self.refused: Decision | None = None
        self.let = self.over = self.bare = False
        self._unheard: Part | None = None
        self._asking: asyncio.Task[None] | None = None
        self._gate = gate
        self._growth = growth
        self._largest = max(1, min([d.verb.capacity for d in mine.demands], default=1) // LARGEST_STEP)
        self._shadowed = False

    # As the response passes.

    def looked(self, used: int) -> None:
        """Ask for more, behind the response, if it is time to."""
        mine, amount = used - self.base - self.spent, self.amount - self.spent
        if self._asking is not None or self.over:
            return
        if self._named() >= MANY_THINGS:
            self._ask(self._carried(used))
        elif mine > 0 and not self.let and mine * WHOLE >= amount * PART and (self.refused is None or mine > amount):
            self._ask(self._grown(used))

    def room(self, used: int) -> int:
        """Units that may be used before the next look."""
        if self.let:
            return self._largest
        mine, amount = used - self.base - self.spent, self.amount - self.spent
        enough = amount * PART // WHOLE
        return max(0, enough - mine if mine < enough else amount + 1 - mine)

    def exhausted(self, used: int) -> bool:
        """Whether what is used up to here may not pass before more is held."""
        return self.cuts and (used - self.base > self.amount or self.over)

    async def answered(self, passed: int, used: int) -> None:
        """Ask for what is needed beyond what has `passed`, so that `used` may pass, and wait for the answer."""
        await self.idle()
        if self.exhausted(used) and not self.over:
            self.refused = None
            await asyncio.wait({self._ask(self._needed(passed, used))})
            if self.refused is None:
                self.amount = max(self.amount, used - self.base)  # not heard: it is not held, and passes

    async def idle(self) -> None:
        """Wait until nothing is being asked."""
        while self._asking is not None:
            await asyncio.wait({self._asking})

    def beat(self, used: int) -> None:
        """Settle what was used since the last beat, where that stands."""
        if self.fact and self._asking is None and not self.over and used > self.base:
            self._ask(self._carried(used))

    async def renewed(self) -> None:
        """Keep a reservation of its own for one more lease."""
        if self.part is not None and not self.over and not self.bare and self._asking is None:
            await self._gate.renew(self.part)

    async def secured(self, more: int) -> Decision | None:
        """Hold enough for `more` units beside all that is used; the verdict, if that is refused."""
        await self.idle()
        while not self.over and (lacking := self._growth.used(self.name) + more - self.base - self.amount) > 0:
            got = await self._extended(lacking)
            if got.refused is not None:
                return got.refused
        if self.over:
            return self.refused
        self.spent += more
        return None

    async def heard(self, used: int) -> None:
        """Ask once more whether a part is settled of which that is not known. If nobody answers, that very part is
        settled until somebody does, and what was used since is owed."""
        if self._unheard is not None:
            await self._ask(self._needed(used, used))
        if self._unheard is not None:
            part, own = self._unheard, self._own()
            self._unheard = None
            self._on(part, own, 0)
            self.bare = True
            await self._gate.settle(own, part.used, part.things)

    async def lightened(self) -> None:
        """Settle things until the rest can be named at once; what is refused meanwhile stays."""
        left = 0
        while MOST_THINGS < (named := self._named()) != left and not self.over:
            left = named
            await self._ask(self._carried(0))

    async def settled(self, used: int, owed: int, things: Things) -> None:
        """Settle a reservation of its own: `used` in all, of which `owed` units of a meter that counts things could
        not be named."""
        if self.part is None:
            return
        since = max(0, owed if self.name in self._growth.touched else used - self.base)
        if not self.bare:
            await self._gate.settle(self.part, {self.name: since}, things)
        elif since or things.get(self.name):
            await self._owed(self.part, since, things)

    async def _owed(self, part: Decision, since: int, things: Things) -> None:
        """Settle what was used of a meter of which nothing is held any more: the end of an event that was cut, or
        what the endpoint reports when it is told so."""
        if await self._charged(part, since, things):
            behind(asyncio.get_running_loop(), self._charged_later(part, since, things))

    async def _charged_later(self, part: Decision, since: int, things: Things) -> None:
        fault: StoreError | None = None
        for pause in PAUSES:
            await asyncio.sleep(pause)
            fault = await self._charged(part, since, things)
            if fault is None:
                return
        events.error("headgate.settle.failed", decision=part.id, reason=str(fault))

    async def _charged(self, part: Decision, since: int, things: Things) -> StoreError | None:
        """Hold what was used, whatever is left, and settle it; the fault of a store that does not answer."""
        try:
            held = await self._gate.turn_over(part, None, NO_THINGS, since, owed=True)
        except StoreError as fault:
            return fault
        if held.part is not None:
            await self._gate.settle(held.part, {self.name: since}, things)
        return None

    # What the store is asked.

    def _ask(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._asking = behind(asyncio.get_running_loop(), self._asked(work))
        return self._asking

    async def _asked(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as fault:
            # It must not end a response that was granted; the settlement charges what was used.
            self.amount += max(self._largest, self.amount)
            if not isinstance(fault, StoreError):
                events.error("headgate.fault", where="extend", kind=type(fault).__name__, meter=self.name)
        finally:
            self._asking = None
        if self.refused is None:
            self._growth.looked_again(self)

    async def _grown(self, used: int) -> None:
        """Hold as much again as was held, or what is left."""
        if self.fact and self.cuts:
            await self._carried(used)
            return
        step = max(1, min(max(self.amount, used - self.base), self._largest))
        got = await self._extended(step)
        if 0 < got.left < step:
            got = await self._extended(got.left)
        self.let = got.refused is not None and not self.cuts

    async def _needed(self, passed: int, used: int) -> None:
        """Hold enough for `used` units in all, or be over."""
        if self.fact:
            await self._cut_short(passed, used)
            return
        need = used - self.base - self.amount
        step = max(need, min(self.amount, self._largest))
        got = await self._extended(step)
        if need <= got.left < step:
            got = await self._extended(got.left)
        self.over = got.refused is not None

    async def _extended(self, more: int) -> Extended:
        if self.part is not None:
            got = await self._gate.extend(self.part, {self.name: more})
        else:
            async with self._growth.lock:
                got = await self._gate.extend(self._growth.rest, {self.name: more})
        if got.refused is None:
            # Unheard counts as held: it is asked for again when as much more is used.
            self.amount += more
        return self._noted(got)

    async def _carried(self, used: int) -> None:
        """Hold the next part, then settle the last one. Where it is refused, that one goes on, with its debt."""
        if self._unheard is not None:
            # First that part again: it may be settled already.
            await self._cut_short(used, used)
            return
        async with self._growth.lock:
            # What was asked for before it is used stays held.
            due = max(0, self.spent - (used - self.base))
            own, step = self._own(), max(due, self._next(used - self.base))
            got = self._noted(await self._gate.turn_over(own, None, NO_THINGS, step))
            if 0 < got.left < step and due <= got.left:
                step = got.left
                got = self._noted(await self._gate.turn_over(own, None, NO_THINGS, step))
            if got.part is None:
                return
            part = self._taken(used)
            settled = self.bare
            self._on(part, got.part, step)
            self.spent = due
            if not settled:
                await self._gate.settle(own, part.used, part.things)

    async def _cut_short(self, passed: int, used: int) -> None:
        """Settle what has passed, then hold what is needed to go on: all that is left under the limit can be had."""
        async with self._growth.lock:
            own = self._own()
            settled = self.bare
            part = self._unheard = self._unheard or self._taken(passed)
            need = max(1, used - part.upto)
            step = max(need, self._next(part.upto - self.base))
            got = await self._gate.turn_over(own, None if settled else part.used, part.things, step)
            self._unheard = None
            if need <= got.left < step:
                step = got.left
                got = await self._gate.turn_over(own, None, NO_THINGS, step)
            self._on(part, got.part or own, step if got.part is not None else 0)
            self._noted(got)
            self.bare = got.refused is not None
            # What has passed may be just what was left. More must not, nor anything else after it.
            self.over = self.bare and (settled or used > part.upto or got.left < 0)

    def _own(self) -> Decision:
        return self.part or holds(self._growth.rest, {self.name})

    def _next(self, mine: int) -> int:
        """The next part: twice what was used of this one."""
        return min(max(1, 2 * mine), self._largest)

    def _on(self, part: Part, then: Decision, amount: int) -> None:
        """`part` is settled; from there on `then` holds so much."""
        self.base, self.amount, self.part, self.spent = part.upto, amount, then, 0
        self.let = self.bare = False
        self._growth.rest = without(self._growth.rest, self.name)

    def _noted(self, got: Extended) -> Extended:
        self.refused = got.refused
        if got.shadowed and not self._shadowed:
            # One event a response, where a limit in shadow would have refused it more.
            self._shadowed = True
            events.info("headgate.overrun.shadowed", limits=list(got.shadowed), decision=self._growth.rest.id)
        return got

    # What is settled.

    def _named(self) -> int:
        touched = self._growth.touched.get(self.name)
        return 0 if touched is None else len(touched.named)

    def _taken(self, used: int) -> Part:
        """The things that were handed out since the last time, or the units."""
        if self.bare:
            return Part(self.base, {}, NO_THINGS)  # settled; what came after it is the next part's
        touched = self._growth.touched.get(self.name)
        if touched is None:
            return Part(used, {self.name: used - self.base}, NO_THINGS)
        with adding:
            named, unnamed = touched.taken()
            upto = touched.settled
        return Part(upto, {self.name: unnamed}, {self.name: named})
