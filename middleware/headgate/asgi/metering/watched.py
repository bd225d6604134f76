"""One request under way of which amounts are held: what it has used by now, what the endpoint says, what is settled.

Law: what passes is counted where it passes (`answer`, `socket`); here it is known what that means. What the endpoint
spends is held before it is spent, or the endpoint is told that it is denied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from itertools import islice
from typing import Any

from headgate.asgi.dialects import Dialect
from headgate.asgi.identify import Intake, Scope
from headgate.asgi.metering.cutting import CutOff
from headgate.asgi.metering.gauge import Gauge, Passed, Touched
from headgate.asgi.metering.growing import Growth, Owed
from headgate.asgi.metering.metered import Metered, Receive, Send, adding, behind
from headgate.errors import Denied
from headgate.gate import Gate
from headgate.quota.ahead import thing
from headgate.quota.balance import SAFE
from headgate.quota.decision import Decision
from headgate.quota.things import MOST_THINGS
from headgate.quota.under_way import Things, placeless
from headgate.telemetry import events


class Watched(Metered):
    """One request under way, and what passed of it.

    `gauge` says what its limits measure, with the `factors` of its sums.
    """

    __slots__ = ("_factors", "_growth", "_held", "_scope", "gauge", "passed")

    def __init__(
        self,
        gate: Gate,
        intake: Intake,
        dialect: Dialect,
        decision: Decision,
        receive: Receive,
        send: Send,
        *,
        scope: Scope,
        gauge: Gauge,
        factors: Mapping[str, int],
    ) -> None:
        super().__init__(gate, intake, dialect, decision, receive, send)
        self.gauge = gauge
        self.passed = Passed()
        self._scope = scope
        self._factors = factors
        self._growth: Growth | None = None
        self._held: Mapping[str, int] | None = None

    @property
    def growth(self) -> Growth:
        """What it holds; made when something may grow, for most responses end before."""
        if self._growth is None:
            self._growth = Growth(
                self.gate, self.decision, self.gauge, self._factors, self.passed.touched, self.amounts
            )
        return self._growth

    def amounts(self) -> dict[str, int]:
        """What it has used by now, by meter. What a header of the response was to tell and did not counts as held."""
        if self._held is None:
            pairs = zip(self.decision.demands, self.decision.limits, strict=True) if self.gauge.told else ()
            self._held = {limit.meter.name: demand.amount for demand, limit in pairs if demand.hold}
        return self.gauge.amounts(self.passed, self._factors, self._held)

    # What the endpoint says.

    def added(self, units: Mapping[str, int]) -> None:
        """Count what was reported."""
        with adding:
            reported = self.passed.reported
            for name, amount in units.items():
                reported[name] = min(reported.get(name, 0) + amount, SAFE)
            self.passed.stirred = True

    def handed(self, things: Iterable[str], meter: str) -> None:
        """Count what was handed out, by its digests."""
        if meter not in self.gauge.parts:
            return  # no limit of this request counts them
        tariff = self.decision.tariff or self.gate.tariff(self.decision.principal)
        named = [thing(tariff.digest, meter, _text(one)) for one in things]
        with adding:
            self.passed.touched.setdefault(meter, Touched()).add(named)
            self.passed.stirred = True

    async def spent(self, units: Mapping[str, int]) -> None:
        """Hold what is about to be used, then count it. Raises Denied where a limit refuses, and counts nothing."""
        self.allowed(units)
        async with self.growth.spending:
            refused = None if self.settled else await self.growth.secured(self._more(units))
            if refused is None:
                self.charged(units)
                return
        self.verdict = Denied(refused)
        who, limits = refused.principal, [refusal.limit for refusal in refused.refusals]
        events.info(
            "headgate.spend.denied", decision=refused.id, key=who.key, org=who.org,
            limits=limits,
        )  # fmt: skip
        raise self.verdict

    def _more(self, units: Mapping[str, int]) -> dict[str, int]:
        """What these units would add, by meter. They are not counted before they are held: what passes meanwhile
        would be taken to have used them."""
        with adding:
            before, reported = self.amounts(), self.passed.reported
            self.passed.reported = {
                **reported, **{name: min(reported.get(name, 0) + amount, SAFE) for name, amount in units.items()}
            }  # fmt: skip
            after = self.amounts()
            self.passed.reported = reported
        return {name: amount - before.get(name, 0) for name, amount in after.items()}

    # Its end.

    def cut_by(self, refused: Decision) -> CutOff:
        """The response ends here: what the app is told."""
        self.verdict = fault = CutOff(refused)
        who, limits = refused.principal, [refusal.limit for refusal in refused.refusals]
        events.info(
            "headgate.cut", decision=refused.id, key=who.key, org=who.org, limits=limits,
        )  # fmt: skip
        return fault

    def left(self) -> None:
        """The client went away, or the request was given up, before it was answered in full."""
        self.passed.gone = True

    def renewed(self) -> Coroutine[Any, Any, None]:
        """Keep what it holds for one more lease."""
        return self.gate.renew(self.decision) if self._growth is None else self._growth.renewed(self.gate)

    def without_places(self) -> None:
        """From here on it holds amounts alone."""
        super().without_places()
        if self._growth is not None:
            self._growth.rest = placeless(self._growth.rest)

    def settlement(self) -> Coroutine[Any, Any, None]:
        """What is said to the ledger at the end."""
        self.passed.ended = True
        used = self.amounts()
        if self._growth is None and all(len(one.named) <= MOST_THINGS for one in self.passed.touched.values()):
            things, owed = self._things()
            return self.gate.settle(self.decision, {**used, **owed}, things)
        return self._settled_whole(self.growth, used)

    async def _settled_whole(self, growth: Growth, used: Mapping[str, int]) -> None:
        """Several commands, brought to their end though whoever waits is cancelled after the first."""
        await asyncio.shield(behind(asyncio.get_running_loop(), growth.settled(self.gate, used, self._things)))

    def _things(self) -> tuple[Things, Owed]:
        """What was handed out since the last settlement, by meter: as the request names it, and as the app did; and
        how many more have no names."""
        touched = self.passed.touched
        if not self.passed.served:
            return {}, dict.fromkeys(touched, 0)
        found: dict[str, dict[bytes, None]] = {}
        for demand, limit in zip(self.decision.demands, self.decision.limits, strict=True):
            if demand.things:
                found.setdefault(limit.meter.name, {}).update(dict.fromkeys(demand.things))
        for name, one in tuple(touched.items()):
            found.setdefault(name, {}).update(one.named)
        named = {name: tuple(islice(things, MOST_THINGS)) for name, things in found.items()}
        return named, {
            name: one.unnamed + max(0, len(found[name]) - MOST_THINGS) for name, one in tuple(touched.items())
        }


def _text(one: str) -> str:
    if not isinstance(one, str):
        raise TypeError(f"a thing is named by a text; got {type(one).__name__}")
    return one
