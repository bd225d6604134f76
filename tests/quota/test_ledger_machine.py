"""The whole ledger against an oracle that keeps every event and computes by definition (see `oracle`)."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headgate.quota.balance import Balance, Verb
from headgate.quota.command import Cancel, Command, Demand, Extend, Merge, Outcome, Place, Receipt, Reserve, Settle
from headgate.quota.gcra import Rate
from headgate.quota.holds import brought
from headgate.quota.ledger import apply, followed
from headgate.quota.things import Things
from headgate.quota.window import Max, Quota, Rolling, Total

sys.path.insert(0, str(Path(__file__).parent))
from oracle import Ask, Law, Oracle

SECOND = 1_000_000
BEGIN = 1_800_057_600 * SECOND
EDGES = tuple(BEGIN + n * 50 * SECOND for n in range(-1, 400))
LEASE = 9 * SECOND

LAWS = {
    "rate": Law("rate", 3, 7 * SECOND, burst=2),
    "quota": Law("quota", 5, edges=EDGES),
    "first": Law("quota", 4, 20 * SECOND),
    "rolling": Law("rolling", 6, 24 * SECOND),
    "max": Law("max", 2),
    "total": Law("total", 40),
}
VERBS: dict[str, Verb] = {
    "rate": Rate(3, 7 * SECOND, burst=2),
    "quota": Quota(5, EDGES, spec=1),
    "first": Quota(4, (), spec=2, length=20 * SECOND),
    "rolling": Rolling(6, 24 * SECOND),
    "max": Max(2, LEASE),
    "total": Total(40),
}
SUBJECTS = (b"a", b"b", b"group")
MERGED = [limit for limit in LAWS if limit != "first"]
"""Of first-use windows two may be open at once: they are merged in a test of their own."""

EDGE = [LEASE, 20 * SECOND, 24 * SECOND, 50 * SECOND, 600 * SECOND]
steps = st.one_of(
    st.integers(0, 3 * SECOND),
    st.integers(0, 60 * SECOND),
    st.builds(lambda edge, more: edge + more, st.sampled_from(EDGE), st.sampled_from([-1, 0, 1, SECOND // 2])),
)
"""How long nothing happens: mostly a little, and often just as long as some window, lease or memory lasts."""

amounts = st.integers(0, 7)
leases = st.integers(1, 30).map(lambda seconds: seconds * SECOND + 1)
ways = st.sampled_from([(False, False)] * 3 + [(True, False), (False, True), (True, True)])
"""Whether a demand is in shadow, and whether it is owed."""

asks = st.dictionaries(st.sampled_from(list(LAWS)), st.tuples(amounts, st.booleans(), ways), min_size=1, max_size=6)

DISTINCT = ("quota", "total")
"""Limits that count different things where a demand names any."""

things = st.frozensets(st.sampled_from([b"thing %02d" % n for n in range(7)]), max_size=5)
named_asks = st.dictionaries(
    st.sampled_from(DISTINCT), st.tuples(st.integers(0, 2), things, ways), min_size=1, max_size=2
)


class Store:
    """The smallest store there is: three dictionaries around `apply`."""

    def __init__(self) -> None:
        self.balances: dict[Place, Balance] = {}
        self.sketches: dict[Place, Things] = {}
        self.receipts: dict[bytes, Receipt] = {}

    def run(self, command: Command, now: int) -> Outcome:
        rid = getattr(command, "rid", b"")
        change = apply(self.balances, self.receipts.get(rid), command, now, self.sketches)
        self.balances.update(change.balances)
        self.sketches.update(change.sketches)
        if change.receipt is not None:
            self.receipts[rid] = change.receipt
        again = followed(command, change.outcome)
        return change.outcome if again is None else self.run(again, now)


class LedgerMachine(RuleBasedStateMachine):
    """Commands in any order, repeated and late, on two subjects and the group they may be merged into."""

    @initialize()
    def begin(self) -> None:
        self.now = BEGIN + 1
        self.store = Store()
        self.oracle = Oracle(LAWS)
        self.made: list[tuple[bytes, list[Demand], int]] = []
        self.merged = 0

    @rule(step=steps)
    def time_passes(self, step: int) -> None:
        self.now += step

    @rule(subject=st.sampled_from(SUBJECTS), asked=asks, lease=leases)
    def reserve(self, subject: bytes, asked: dict[str, tuple[int, bool, tuple[bool, bool]]], lease: int) -> None:
        rid = b"r%d" % len(self.made)
        demands = []
        for limit, (amount, hold, (shadow, owed)) in asked.items():
            units = 1 if limit == "max" else amount
            hold = hold or limit == "max"
            demands.append(Demand((subject, limit), VERBS[limit], units, hold, shadow, owed=owed))
        self.made.append((rid, demands, self.merged))
        self.reserved(rid, demands, lease)

    def reserved(self, rid: bytes, demands: list[Demand], lease: int) -> None:
        outcome = self.store.run(Reserve(rid, tuple(demands), lease), self.now)
        assert told(outcome) == self.oracle.reserve(rid, worded(demands), lease, self.now)

    @precondition(lambda self: self.made)
    @rule(data=st.data(), lease=leases)
    def repeat(self, data: st.DataObject, lease: int) -> None:
        rid, demands, _ = data.draw(st.sampled_from(self.made))
        self.reserved(rid, demands, lease)

    @precondition(lambda self: self.made)
    @rule(data=st.data(), lease=leases, step=st.integers(1, 3), more=amounts)
    def extend(self, data: st.DataObject, lease: int, step: int, more: int) -> None:
        rid, demands, _ = data.draw(st.sampled_from(self.made))
        held = [demand.of(0 if demand.place[1] == "max" else more) for demand in demands if demand.hold]
        outcome = self.store.run(Extend(rid, tuple(held), lease, step), self.now)
        assert told(outcome) == self.oracle.extend(rid, worded(held), lease, step, self.now)

    @precondition(lambda self: self.made)
    @rule(data=st.data(), used=amounts)
    def settle(self, data: st.DataObject, used: int) -> None:
        rid, demands, _ = data.draw(st.sampled_from(self.made))
        held = [demand.of(used) for demand in demands if demand.hold]
        assert told(self.store.run(Settle(rid, tuple(held)), self.now)) == "settled"
        self.oracle.settle(rid, worded(held), self.now)

    @precondition(lambda self: any(merged == self.merged for _, _, merged in self.made))
    @rule(data=st.data(), lease=leases)
    def cancel(self, data: st.DataObject, lease: int) -> None:
        rid, demands, _ = data.draw(st.sampled_from([made for made in self.made if made[2] == self.merged]))
        assert told(self.store.run(Cancel(rid, tuple(demands), lease), self.now)) == "settled"
        self.oracle.cancel(rid, worded(demands), lease, self.now)

    @rule(limit=st.sampled_from(MERGED), sources=st.sets(st.sampled_from([b"a", b"b"]), min_size=1))
    def merge(self, limit: str, sources: set[bytes]) -> None:
        into, *others = [Demand((s, limit), VERBS[limit], 0) for s in (b"group", *sorted(sources))]
        assert told(self.store.run(Merge(into, tuple(others)), self.now)) == "settled"
        self.oracle.merge(into.place, [other.place for other in others], self.now)
        self.merged += 1

    @invariant()
    def both_ledgers_count_alike(self) -> None:
        for subject in SUBJECTS:
            for limit, verb in VERBS.items():
                standing, holds = brought(self.store.balances.get((subject, limit)), verb, self.now)
                counted, held = self.oracle.standing((subject, limit), self.now)
                assert verb.free(standing) == (LAWS[limit].most - counted) // 1, (subject, limit)
                assert verb.spent(standing) == -(-counted // 1)
                assert (holds.held if holds is not None else 0) == held


class ThingsMachine(LedgerMachine):
    """The same, where demands name different things."""

    @rule(subject=st.sampled_from(SUBJECTS), named=named_asks, lease=leases)
    def reserve(
        self, subject: bytes, named: dict[str, tuple[int, frozenset[bytes], tuple[bool, bool]]], lease: int
    ) -> None:
        rid = b"r%d" % len(self.made)
        demands = [
            Demand((subject, limit), VERBS[limit], amount, hold=True, shadow=shadow, things=tuple(those), owed=owed)
            for limit, (amount, those, (shadow, owed)) in named.items()
        ]
        self.made.append((rid, demands, self.merged))
        self.reserved(rid, demands, lease)

    @precondition(lambda self: self.made)
    @rule(data=st.data(), used=st.sampled_from([0, 0, 0, 2]), named=things)
    def settle(self, data: st.DataObject, used: int, named: frozenset[bytes]) -> None:
        rid, demands, _ = data.draw(st.sampled_from(self.made[-4:]))
        held = [demand.of(used)._replace(things=tuple(named)) for demand in demands]
        assert told(self.store.run(Settle(rid, tuple(held)), self.now)) == "settled"
        self.oracle.settle(rid, worded(held), self.now)

    @rule(limit=st.sampled_from(DISTINCT), sources=st.sets(st.sampled_from([b"a", b"b"]), min_size=1))
    def merge(self, limit: str, sources: set[bytes]) -> None:
        super().merge(limit, sources)


def told(outcome: Outcome) -> str:
    return type(outcome).__name__.lower()


def worded(demands: list[Demand]) -> list[Ask]:
    return [Ask(d.place, d.amount, d.hold, d.shadow, frozenset(d.things), d.owed) for d in demands]


TestLedgerMachine = LedgerMachine.TestCase
TestThingsMachine = ThingsMachine.TestCase
