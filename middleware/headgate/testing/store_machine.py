"""A store against the specification, command by command, in an order that nobody would think of.

Law: whatever a store answers, `quota.ledger.apply` over a plain dictionary answers the same. Every outcome is
compared, and in the end every balance. The instant at which a store decides is its own (it may wait for a clock that
was set back); it says it in the outcome, and the specification is asked at that instant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from headgate.clock import MILLISECOND, SECOND
from headgate.quota.balance import Balance, Verb
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Extend,
    Join,
    Look,
    Merge,
    Outcome,
    Place,
    Receipt,
    Reserve,
    Seen,
    Settle,
)
from headgate.quota.decision import Reading, reading
from headgate.quota.gcra import Rate
from headgate.quota.ledger import apply, followed
from headgate.quota.things import Things
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores.contract import Store
from headgate.testing.clock import ManualClock
from headgate.testing.story import thing

SUBJECTS = (b"key-1", b"key-2", b"org")
LIMITS = ("minute", "hour", "ten", "seats", "life", "records")
FURTHEST_BACK = 50 * 60 * SECOND
"""How far the clock is set back below the highest it stood at: a store may forget what ran out an hour ago."""

EVENTS = ("say",) * 6 + ("say again",) * 2 + ("name",) * 2 + ("time",) * 3 + ("close",)

MOVES = (
    *(1, 40 * MILLISECOND, SECOND, 7 * SECOND, 61 * SECOND, 61 * SECOND, 400 * SECOND, 3_700 * SECOND),
    *(-1, -3 * SECOND, -90 * SECOND, -40 * 60 * SECOND),
)

LEASE = 90 * SECOND
RECORDS = tuple([thing(number) for number in range(2_000)])
FEW = tuple([RECORDS[at : at + many] for at in range(6) for many in (1, 2)])
MANY = (RECORDS[:700], RECORDS[500:1_200], RECORDS[:1_100], RECORDS[900:])
"""Things that are named together; two of the larger bundles are more than a list has."""
NAMED = st.sampled_from((*FEW, *MANY, *MANY))

WAYS = ((False, False),) * 5 + ((True, False), (False, True), (True, True))
"""Whether a demand is in shadow, and whether it is owed."""

Answered = TypeVar("Answered", bound=Outcome)


def verb_of(limit: str, variant: int, now: int) -> Verb:
    """A limit's verb in one of the policy's versions; another version changes the amount or the window."""
    minute, hour = 60 * SECOND, 3_600 * SECOND
    begun = now - now % minute
    edges = tuple(begun + n * minute for n in range(4))
    verbs: dict[str, tuple[Verb, ...]] = {
        "minute": (Quota(6, edges, spec=1), Quota(3, edges, spec=1), Rate(6, minute)),
        "hour": (Rolling(20, hour), Rolling(20, minute), Quota(9, (), spec=2, length=hour)),
        "ten": (Rate(10, minute), Rate(10, minute, burst=5), Rate(7, hour)),
        "seats": (Max(3, LEASE), Max(1, LEASE), Max(5, LEASE)),
        "life": (Total(30), Total(10), Rolling(30, hour)),
        "records": (Quota(3_000, edges, spec=1), Quota(10, edges, spec=1), Total(2_000)),
    }
    return verbs[limit][variant]


def demands(now: int, *, fewest: int = 1) -> st.SearchStrategy[tuple[Demand, ...]]:
    """Demands on distinct places."""

    def demand(
        place: Place, variant: int, amount: int, hold: bool, way: tuple[bool, bool], things: tuple[bytes, ...]
    ) -> Demand:
        hold = hold or place[1] == "seats"
        named = things if hold and place[1] == "records" else ()
        verb = verb_of(place[1], variant, now)
        return Demand(place, verb, amount, hold=hold, shadow=way[0], things=named, owed=way[1])

    one = st.builds(
        demand,
        st.tuples(st.sampled_from(SUBJECTS), st.sampled_from(LIMITS)),
        st.sampled_from((0, 0, 0, 1, 2)),
        st.sampled_from((0, 1, 1, 1, 2, 5, 40)),
        st.booleans(),
        st.sampled_from(WAYS),
        NAMED,
    )
    return st.lists(one, min_size=fewest, max_size=4, unique_by=lambda demand: demand.place).map(tuple)


class StoreMachine(RuleBasedStateMachine):
    """One run: a fresh store from `make_store`, beside it a dictionary."""

    moves = MOVES

    def __init__(self, make_store: Callable[[ManualClock], Store]) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.highest = self.latest = self.clock.now
        self.runner = asyncio.Runner()
        self.store = make_store(self.clock)
        self.balances: dict[Place, Balance] = {}
        self.sketches: dict[Place, Things] = {}
        self.receipts: dict[bytes, Receipt] = {}
        self.said: list[Command] = []
        self.onward: list[Command] = []
        self.numbers = 0

    # One rule, because Hypothesis leaves out some of several in each run: without commands there is nothing to see.
    @rule(data=st.data(), event=st.sampled_from(EVENTS))
    def happen(self, data: Any, event: str) -> None:
        """New commands; one that was said before and arrives once more; time that goes on or back; a restart."""
        if event == "close":
            self.runner.run(self.store.close())
        elif event == "time":
            self.move(data.draw(st.sampled_from(self.moves), label="moved"))
        elif event == "name":
            self.transact(self.naming(data))
        elif event == "say again" and (said := self.certain(self.said)):
            self.transact([data.draw(st.sampled_from(said[-12:]), label="again")])
        else:
            self.transact([self.drawn(data) for _ in range(data.draw(st.sampled_from((1, 1, 2, 3)), label="many"))])

    def move(self, microseconds: int) -> None:
        """Time goes on, or the clock is set back."""
        self.clock.now = max(self.clock.now + microseconds, self.highest - FURTHEST_BACK)
        self.highest = max(self.highest, self.clock.now)

    def certain(self, said: list[Command]) -> list[Command]:
        """Without those whose verdict ran out before the clock was set back: a store may remember it or not. And
        without reservations that were cancelled where they were moved to: a store may remember that only there, and
        so for longer."""
        elsewhere = {command.rid for command in self.onward if isinstance(command, Cancel)}

        def doubtful(command: Command) -> bool:
            receipt = self.receipts.get(getattr(command, "rid", b""))
            ran_out = receipt is not None and self.clock.now < receipt.until <= self.latest
            return ran_out or (isinstance(command, Reserve) and command.rid in elsewhere)

        return [command for command in said if not doubtful(command)]

    def drawn(self, data: Any) -> Command:
        """A new command; mostly about what was reserved lately."""
        now = self.clock.now
        earlier = [command for command in self.certain(self.said) if isinstance(command, Reserve)][-6:]
        kinds = ("reserve", "reserve", "extend", "settle", "settle", "cancel", "merge", "look")
        kind = data.draw(st.sampled_from(kinds))
        if kind == "merge":
            return self.merge(data, now)
        if kind == "look":
            return Look(self.asked(data, now))
        if kind == "reserve" or not earlier:
            self.numbers += 1
            return Reserve(b"rid-%d" % self.numbers, self.asked(data, now), LEASE)
        of = data.draw(st.sampled_from(earlier), label="of")
        amounts = data.draw(st.lists(st.sampled_from((0, 1, 3)), min_size=4, max_size=4), label="amounts")
        now_asked = tuple(d.of(n) for d, n in zip(of.demands, amounts, strict=False) if d.hold)
        if kind == "extend":
            return Extend(of.rid, now_asked, LEASE, data.draw(st.integers(1, 3), label="step"))
        if kind == "settle":
            return Settle(of.rid, tuple([self.touched(data, d) for d in now_asked]))
        return Cancel(of.rid, of.demands, LEASE)

    def naming(self, data: Any) -> list[Command]:
        """Somebody asks for different things, and mostly it is settled at once what they were."""
        who, variant = data.draw(st.sampled_from(SUBJECTS)), data.draw(st.sampled_from((0, 0, 0, 1, 2)))
        verb = verb_of("records", variant, self.clock.now)
        self.numbers += 1
        rid = b"rid-%d" % self.numbers
        asked = Demand((who, "records"), verb, 0, hold=True, things=data.draw(NAMED, label="named"))
        ends = data.draw(st.sampled_from((True, True, False)), label="settled at once")
        reserve = Reserve(rid, (asked,), LEASE)
        return [reserve, Settle(rid, (self.touched(data, asked),))] if ends else [reserve]

    def touched(self, data: Any, demand: Demand) -> Demand:
        """A demand as it is settled: what it names may be other things than it asked for, or none."""
        if demand.place[1] != "records":
            return demand
        return demand._replace(
            things=data.draw(st.one_of(NAMED, st.just(demand.things), st.just(())), label="touched")
        )

    def asked(self, data: Any, now: int) -> tuple[Demand, ...]:
        """What a new command asks for."""
        return data.draw(demands(now))  # type: ignore[no-any-return]

    def merge(self, data: Any, now: int) -> Command:
        """Two subjects' balances of one limit go into the third's, or raise it."""
        limit = data.draw(st.sampled_from((*LIMITS, "records")), label="merged")
        into, *sources = data.draw(st.permutations(SUBJECTS), label="into, sources")
        verb = verb_of(limit, 0, now)
        kind = Join if data.draw(st.booleans(), label="joins") else Merge
        return kind(Demand((into, limit), verb, 0), tuple(Demand((s, limit), verb, 0) for s in sources))

    def transact(self, commands: list[Command]) -> None:
        """Says the commands to both and compares what they answer."""
        outcomes = self.runner.run(self.store.transact(commands))
        assert len(outcomes) == len(commands), "one outcome for each command"
        onward: list[Command] = []
        for command, outcome in zip(commands, outcomes, strict=True):
            expected = self.specified(command, outcome.now)
            self.latest = max(self.latest, outcome.now)
            self.compare(command, outcome, expected)
            again = followed(command, outcome)
            onward += [] if again is None else [again]
        self.said += [*commands, *onward]
        self.onward += onward

    def compare(self, command: Command, outcome: Outcome, expected: Outcome) -> None:
        """The store's answer is the specification's."""
        assert same(outcome, outcome.now) == same(expected, outcome.now), f"{command}\n{outcome}\n{expected}"
        assert readings(command, outcome) == readings(command, expected), f"{command}\n{outcome}\n{expected}"

    def specified(self, command: Command, now: int) -> Outcome:
        """The specification's answer."""
        rid = getattr(command, "rid", None)
        receipt = self.receipts.get(rid) if rid is not None else None
        change = apply(self.balances, receipt, command, now, self.sketches)
        self.balances.update(change.balances)
        self.sketches.update(change.sketches)
        if change.receipt is not None and rid is not None:
            self.receipts[rid] = change.receipt
        return change.outcome

    def teardown(self) -> None:
        """In the end every balance is what the specification says."""
        now = self.clock.now
        try:
            everything = [Demand((s, limit), verb_of(limit, 0, now), 0) for s in SUBJECTS for limit in LIMITS]
            self.transact([Look(tuple(everything))])
        finally:
            self.runner.run(self.store.close())
            self.runner.close()


def same(outcome: Answered, now: int) -> Answered:
    """An outcome to compare: a balance that is as good as untouched may have been forgotten.

    With it went since when a `total` was counted, which decides nothing. Each hold is told by a `Seen` alone."""
    balances = getattr(outcome, "balances", ())
    kept = [None if b is None or (b.until <= now and b.holds is None) else b for b in balances]
    kept = [b._replace(since=0) if b is not None and b.kind == "total" else b for b in kept]
    if not isinstance(outcome, Seen):
        kept = [b._replace(holds=b.holds._replace(by_rid={})) if b is not None and b.holds else b for b in kept]
    return outcome._replace(balances=tuple(kept)) if balances else outcome  # type: ignore[call-arg, return-value]


def readings(command: Command, outcome: Outcome) -> list[Reading]:
    """What a reader makes of the balances that hold something, with the leases that have ended charged."""
    pairs = zip(command.demands, getattr(outcome, "balances", ()), strict=False)
    return [reading(demand, b, outcome.now) for demand, b in pairs if b is not None and b.holds is not None]
