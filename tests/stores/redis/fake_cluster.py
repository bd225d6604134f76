"""A cluster in memory, a ledger a slot, whose nodes fail when a test says so; and what each slot does when asked.

It is the specification of what `parcel` adds to the ledger's commands, in terms of `quota.ledger.apply`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from headgate.errors import StoreError
from headgate.quota.balance import Balance
from headgate.quota.change import Change, carry
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Granted,
    Join,
    Merge,
    Outcome,
    Place,
    Receipt,
    Refused,
    Reserve,
    Settled,
)
from headgate.quota.holds import brought, summed
from headgate.quota.join import other_window
from headgate.quota.ledger import apply
from headgate.quota.things import Things
from headgate.quota.window import Total
from headgate.stores.redis.script.codec import tag_of
from headgate.stores.redis.script.parcel import (
    Give,
    Given,
    Lift,
    Parcel,
    Parted,
    Show,
    Shown,
    Take,
    Tie,
    Try,
    Undo,
    Weigh,
)
from headgate.stores.redis.slots.plan import Planner, spread
from headgate.testing.clock import ManualClock


class Slot:
    """One slot: what a script call does there, whole or not at all."""

    def __init__(self) -> None:
        self.balances: dict[Place, Balance] = {}
        self.receipts: dict[bytes, Receipt] = {}
        self.sketches: dict[Place, Things] = {}
        self.outbox: dict[Place, Parcel] = {}
        self.taken: set[bytes] = set()
        self.given: set[bytes] = set()

    def does(self, command: Any, now: int) -> Any:
        tags = {tag_of(demand.place[0]) for demand in command.demands}
        assert len(tags) <= 1, "a command that spreads was sent to one slot"
        if isinstance(command, Try):
            return self._try(command, now)
        if isinstance(command, Weigh):
            return self._weigh(command, now)
        if isinstance(command, Undo):
            return self._undo(command, now)
        if isinstance(command, Give):
            return self._give(command, now)
        if isinstance(command, Take):
            return self._take(command, now)
        if isinstance(command, Given):
            return self._given(command, now)
        if isinstance(command, Lift):
            return self._lift(command, now)
        if isinstance(command, Tie):
            return self._tie(command, now)
        if isinstance(command, Show):
            return self._show(command, now)
        return self._apply(command, now)

    def _apply(self, command: Command, now: int) -> Outcome:
        rid = getattr(command, "rid", None)
        receipt = self.receipts.get(rid) if rid is not None else None
        change = apply(self.balances, receipt, command, now, self.sketches)
        self._written(change)
        if change.receipt is not None and rid is not None:
            self.receipts[rid] = change.receipt
        return change.outcome

    def _written(self, change: Change) -> None:
        self.balances.update(change.balances)
        for place, things in change.sketches.items():
            self.sketches[place] = things
            if not things.data:
                self.sketches.pop(place)

    def _try(self, command: Try, now: int) -> Outcome:
        """A reservation that holds for a short while what it should use at once."""
        rid, demands, lease, short = command
        fleeting = {d.place for d in demands if d.amount and not d.hold}
        held_before = {p for p in fleeting if (b := self.balances.get(p)) and b.holds and rid in b.holds.by_rid}
        held = tuple(d._replace(hold=True) if d.place in fleeting else d for d in demands)
        known = self.receipts.get(rid)
        outcome = self._apply(Reserve(rid, held, lease), now)
        if type(outcome) is Granted and (known is None or known.until <= now):
            for place in fleeting - held_before:
                balance = self.balances.get(place)
                if balance is None or balance.holds is None or rid not in balance.holds.by_rid:
                    continue  # in shadow, and not charged
                by_rid = dict(balance.holds.by_rid)
                by_rid[rid] = by_rid[rid]._replace(until=now + short)
                self.balances[place] = balance._replace(holds=summed(by_rid, balance.holds.seen))
            outcome = outcome._replace(balances=tuple(self.balances.get(d.place) for d in demands))
        return outcome

    def _weigh(self, command: Weigh, now: int) -> Outcome:
        """A reservation that also asks for what there is none of."""
        nothing = Demand((command.demands[0].place[0], "nothing"), Total(0), 1)
        outcome = self._apply(Reserve(b"weighed", (*command.demands, nothing), 0), now)
        assert isinstance(outcome, Refused)
        return outcome._replace(refusals=outcome.refusals[:-1], balances=outcome.balances[:-1])

    def _undo(self, command: Undo, now: int) -> Outcome:
        """A cancellation that leaves no trace, and gives back nothing but what is held."""
        rid, demands = command
        before = self.receipts.get(rid)
        outcome = self._apply(Cancel(rid, tuple(d._replace(hold=True) for d in demands), 0), now)
        assert isinstance(outcome, Settled)
        del self.receipts[rid]
        if before is not None and not before.granted:
            self.receipts[rid] = before
        return outcome._replace(moved=tuple(d if d.things else d._replace(hold=False) for d in outcome.moved))

    def _give(self, command: Give, now: int) -> Parted:
        """What a merge would move, taken out of the source and kept until it is known to have arrived."""
        ident, into, source = command
        place = source.place
        if place not in self.outbox and ident not in self.given:
            only = {place: self.balances[place]} if place in self.balances else {}
            drawn = {place: self.sketches[place]} if place in self.sketches else {}
            change = apply(only, None, Merge(Demand(into.place, source.verb, 0), (source,)), now, drawn)
            if change.balances:
                self.balances[place] = change.balances[place]
                moving, (_, data) = change.balances[into.place], change.sketches.get(into.place, Things(0, b""))
                self.outbox[place] = Parcel(ident, into.place, moving, things=data)
                self.sketches.pop(place, None)
        return Parted(now, self.balances.get(place), self.outbox.get(place))

    def _take(self, command: Take, now: int) -> Outcome:
        """Joined once, as a merge joins it."""
        into, parcel = command
        if parcel.id not in self.taken:
            self.taken.add(parcel.id)
            road = (b"on the road", into.place[1])
            balances = {**self.balances, road: parcel.balance}
            sketches = {
                **self.sketches,
                road: Things(0 if parcel.balance.kind == "total" else parcel.balance.since, parcel.things),
            }
            self._written(apply(balances, None, Merge(into, (into.at(road),)), now, sketches))
            self.balances.pop(road, None)
        return Settled(now, (self.balances.get(into.place),))

    def _given(self, command: Given, now: int) -> Outcome:
        ident, source = command
        parcel = self.outbox.get(source.place)
        if parcel is not None and parcel.id == ident:
            del self.outbox[source.place]
            self.given.add(ident)
        return Settled(now, (self.balances.get(source.place),))

    def _lift(self, command: Lift, now: int) -> Outcome:
        """A join with one source, which is what all of them are together."""
        into, balance, data = command
        road = (b"on the road", into.place[1])
        things = Things(0 if balance.kind == "total" else balance.since, data)
        balances, sketches = {**self.balances, road: balance}, {**self.sketches, road: things}
        change = apply(balances, None, Join(into, (into.at(road),)), now, sketches)
        self._written(change)
        self.balances.pop(road, None)
        self.sketches.pop(road, None)
        return Settled(now, (self.balances.get(into.place),))

    def _tie(self, command: Tie, now: int) -> Outcome:
        """What a join leaves at a source, said by the ledger's own rules: the source alone, and a place that lacks
        what is to be told."""
        source, to, rids = command
        balance = self.balances.get(source.place)
        if balance is not None:
            standing, holds = brought(balance, source.verb, now)
            by_rid = dict(holds.by_rid) if holds is not None else {}
            told = {r: by_rid[r]._replace(to=to, also=True) for r in rids if r in by_rid and not by_rid[r].gone}
            if told and holds is not None:
                holds = summed(by_rid | told, max(now, holds.seen))
            if told or (standing[0] and other_window(balance, source.verb)):
                after = source.verb.put(standing, 0, holds, now)
                drawn: dict[Place, Things] = {}
                carry(drawn, self.sketches, source.place, balance, after, now)
                self._written(Change(None, {source.place: after}, None, drawn))  # type: ignore[arg-type]
        return Settled(now, (self.balances.get(source.place),))

    def _show(self, command: Show, now: int) -> Shown:
        place = command.source.place
        return Shown(now, self.balances.get(place), self.sketches.get(place))


Fate = Callable[[Any], str]
"""What becomes of a command: `done`; `lost` (done, and nobody is told); `late` (the same, but done later); `silent`
(not done, and nobody knows); `down` (not done, and that is known); `slow` (done, and told some turns later)."""


class FakeCluster:
    """All slots. `fate` decides on each command that is sent."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.slots: dict[bytes, Slot] = {}
        self.fate: Fate = lambda command: "done"
        self.calls: list[Any] = []
        self.late: list[Callable[[], Any]] = []

    def slot(self, subject: bytes) -> Slot:
        return self.slots.setdefault(tag_of(subject), Slot())

    def ask(self, commands: Sequence[Any], now: int | None) -> asyncio.Future[list[Any]]:
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.calls += commands
        slot = self.slot(commands[0].demands[0].place[0] if commands[0].demands else b"")
        at = self.clock() if now is None else now
        fate = self.fate(commands[0])
        if fate in ("done", "lost", "slow"):
            try:
                outcomes = [slot.does(command, at) for command in commands]
            except ValueError as error:
                future.set_exception(error)
                return future
            if fate == "done":
                future.set_result(outcomes)
            elif fate == "slow":
                _soon(5, future, outcomes)
        elif fate == "late":
            self.late.append(lambda: [slot.does(command, max(at, self.clock())) for command in commands])
        if fate in ("lost", "late", "silent"):
            future.set_exception(StoreError("no answer", transient=True, unknown=True))
        elif fate == "down":
            future.set_exception(StoreError("not connected", transient=True))
        return future

    def arrive(self) -> None:
        """What was late is done now."""
        late, self.late = self.late, []
        for do in late:
            do()


def _soon(turns: int, future: asyncio.Future[list[Any]], outcomes: list[Any]) -> None:
    if turns:
        asyncio.get_running_loop().call_soon(_soon, turns - 1, future, outcomes)
    elif not future.done():
        future.set_result(outcomes)


class FakeStore:
    """A worker's store over the fake cluster, as RedisStore is one over a real one."""

    immediate = False
    punctual = True
    deadline = 0.0

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.planner: Planner | None = None
        self.dead = False
        self.dies_at: Callable[[Any], str] = lambda command: ""

    def ask(self, commands: Sequence[Any], now: int | None) -> asyncio.Future[list[Any]]:
        """A worker that dies sends nothing any more, and hears nothing."""
        end = "" if self.dead else self.dies_at(commands[0])
        if self.dead or end == "before":
            self.dead = True
            return asyncio.get_running_loop().create_future()
        future = self.cluster.ask(commands, now)
        if end == "after":
            self.dead = True
            if future.done() and not future.cancelled():
                future.exception()
            return asyncio.get_running_loop().create_future()
        return future

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        at = self.cluster.clock() if now is None else now
        if self.planner is None:
            self.planner = Planner(self.ask, clock=self.cluster.clock)
        if len(commands) == 1 and not spread(commands[0]):
            return await self.ask(commands, at)
        return await self.planner.transact(commands, at)

    async def close(self) -> None:
        if self.planner is not None:
            await self.planner.close()
