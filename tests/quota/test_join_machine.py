"""A group and its orgs, whoever knows of the link and whoever does not yet, and joins said at any time.

Law: whatever has happened, once everybody who had something to tell has told it and a join is said, the group has
used what its orgs have used together in its window, not more and not less; a repeat changes nothing; no new window
begins with old usage; and each org's own place tells what it alone has used.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headgate.quota.balance import Standing, Verb
from headgate.quota.command import Cancel, Command, Demand, Extend, Granted, Join, Outcome, Place, Reserve, Settle
from headgate.quota.gcra import Rate
from headgate.quota.holds import brought
from headgate.quota.ledger import followed
from headgate.quota.things import count
from headgate.quota.window import Max, Quota, Rolling, Total

sys.path.insert(0, str(Path(__file__).parent))
import test_ledger_machine as ledger_machine

SECOND = 1_000_000
BEGIN = 1_800_057_600 * SECOND
EDGES = tuple(BEGIN + n * 50 * SECOND for n in range(-1, 400))
LEASE = 40 * SECOND
VERBS: dict[str, Verb] = {
    "quota": Quota(60, EDGES, spec=1),
    "rolling": Rolling(60, 240 * SECOND),
    "total": Total(300),
    "max": Max(9, LEASE),
    "rate": Rate(30, 60 * SECOND),
}
EXACT = ("quota", "rolling", "total")
ORGS = (b"acme", b"labs", b"mill")
GROUP = b"the group"

TOLD = ("at once", "after a join", "after a join", "later")

amounts = st.integers(0, 5)
orgs = st.sampled_from(ORGS)
limits = st.sampled_from(list(VERBS))
things = st.frozensets(st.sampled_from([b"thing %02d" % n for n in range(9)]), max_size=4)


def place(who: bytes, limit: str) -> Place:
    return who, limit


class JoinMachine(RuleBasedStateMachine):
    """One group, from before the link on."""

    named = False
    lease = LEASE

    @initialize()
    def begin(self) -> None:
        self.now = BEGIN + 1
        self.store = ledger_machine.Store()
        self.open: dict[bytes, tuple[Demand, ...]] = {}
        self.untold: list[Command] = []
        self.spent: dict[Place, int] = {}
        self.numbers = 0

    @rule(step=st.sampled_from([0, SECOND, 3 * SECOND, 20 * SECOND, 50 * SECOND, LEASE, 700 * SECOND]))
    def time_passes(self, step: int) -> None:
        if step:
            self.tell()  # what is told in the next window is charged in the next
        self.now += step

    def demands(
        self, org: bytes, limit: str, amount: int, hold: bool, named: frozenset[bytes], knows: bool
    ) -> tuple[Demand, ...]:
        hold = hold or limit == "max"
        units = 1 if limit == "max" else amount
        those = tuple(named) if hold and self.named and limit in ("quota", "total") else ()
        own = Demand(place(org, limit), VERBS[limit], units, hold, things=those)
        return (own.at(place(GROUP, limit)), own._replace(owed=True)) if knows else (own,)

    @rule(org=orgs, limit=limits, amount=amounts, hold=st.booleans(), named=things, knows=st.booleans())
    def ask(self, org: bytes, limit: str, amount: int, hold: bool, named: frozenset[bytes], knows: bool) -> None:
        """A worker that `knows` of the link charges both; one that does not, the org alone."""
        self.asked(org, limit, amount, hold, named, knows)

    def asked(self, org: bytes, limit: str, amount: int, hold: bool, named: frozenset[bytes], knows: bool) -> None:
        self.numbers += 1
        rid = b"r%d" % self.numbers
        asked = self.demands(org, limit, amount, hold, named, knows)
        outcome, _ = self.said(Reserve(rid, asked, self.lease))
        if isinstance(outcome, Granted) and asked[0].hold:
            self.open[rid] = asked

    def said(self, command: Command) -> tuple[Outcome, Command | None]:
        """One command, without what follows it."""
        rid = getattr(command, "rid", b"")
        change = ledger_machine.apply(
            self.store.balances, self.store.receipts.get(rid), command, self.now, self.store.sketches
        )
        self.store.balances.update(change.balances)
        self.store.sketches.update(change.sketches)
        if change.receipt is not None:
            self.store.receipts[rid] = change.receipt
        return change.outcome, followed(command, change.outcome)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), used=amounts, named=things, told=st.sampled_from(TOLD), cancels=st.booleans())
    def end(self, data: st.DataObject, used: int, named: frozenset[bytes], told: str, cancels: bool) -> None:
        """It is settled or cancelled; where it is held elsewhere too, that is told there at once or later."""
        rid = data.draw(st.sampled_from(list(self.open)))
        asked = self.open.pop(rid)
        those = tuple(named) if self.named and asked[0].place[1] in ("quota", "total") else ()
        now_used = tuple([d.of(1 if d.place[1] == "max" else used)._replace(things=those) for d in asked])
        command = Cancel(rid, asked, LEASE) if cancels else Settle(rid, now_used)
        _, again = self.said(command)
        if again is not None:
            self.untold.append(again)
        if told == "after a join":
            self.join(asked[0].place[1])
        if told != "later":
            self.tell()

    @rule()
    def tell(self) -> None:
        for command in self.untold:
            _, again = self.said(command)
            assert again is None
        self.untold = []

    @precondition(lambda self: self.open)
    @rule(data=st.data(), more=amounts)
    def extend(self, data: st.DataObject, more: int) -> None:
        rid = data.draw(st.sampled_from(list(self.open)))
        asked = tuple([d.of(0 if d.place[1] == "max" else more)._replace(things=()) for d in self.open[rid]])
        self.numbers += 1
        _, again = self.said(Extend(rid, asked, self.lease, self.numbers))
        if again is not None:
            self.said(again)

    @rule(limit=limits)
    def join(self, limit: str) -> None:
        into, *sources = [Demand(place(who, limit), VERBS[limit], 0) for who in (GROUP, *ORGS)]
        self.said(Join(into, tuple(sources)))
        before = dict(self.store.balances), dict(self.store.sketches)
        self.said(Join(into, tuple(sources)))
        assert (self.store.balances, self.store.sketches) == before, "a repeat changes nothing"
        if not self.untold:
            self.check(limit, exact=True)

    def standing(self, who: bytes, limit: str) -> Standing:
        return brought(self.store.balances.get(place(who, limit)), VERBS[limit], self.now)[0]

    def held(self, who: bytes, limit: str) -> int:
        holds = brought(self.store.balances.get(place(who, limit)), VERBS[limit], self.now)[1]
        return holds.held if holds is not None else 0

    def together(self, limit: str) -> Standing:
        verb = VERBS[limit]
        total = verb.bring(None, self.now)
        for org in ORGS:
            total = verb.join(total, self.standing(org, limit))
        return total

    def check(self, limit: str, *, exact: bool) -> None:
        group, orgs_ = self.standing(GROUP, limit), self.together(limit)
        if limit in EXACT:
            assert group[0] <= orgs_[0], f"{limit}: above what the orgs have used"
        if self.named and limit in ("quota", "total"):
            return  # the union, see below
        if exact and limit in EXACT:
            assert (group[0], dict(group[3])) == (orgs_[0], dict(orgs_[3]))
        if exact and limit == "rate":
            assert group[0] >= orgs_[0], "a backlog was forgotten"
        if exact:
            assert self.held(GROUP, limit) >= sum(self.held(org, limit) for org in ORGS) or limit == "rate"

    @invariant()
    def a_group_is_never_above_its_orgs(self) -> None:
        for limit in EXACT if not self.untold else ():
            self.check(limit, exact=False)


class NamingMachine(JoinMachine):
    """The same, where things are named: the group knows their union, and has used as many and what had no name.

    No lease ends: what is then charged for things is an estimate, at each place by what was new there."""

    named = True
    lease = 10**6 * SECOND

    @rule(org=orgs, limit=st.sampled_from(["quota", "total"]), amount=amounts, named=things, knows=st.booleans())
    def ask(self, org: bytes, limit: str, amount: int, named: frozenset[bytes], knows: bool) -> None:
        self.asked(org, limit, amount, True, named, knows)

    @rule(limit=st.sampled_from(["quota", "total"]))
    def join(self, limit: str) -> None:
        super().join(limit)
        if self.untold:
            return
        seen = [self.things(who, limit) for who in (GROUP, *ORGS)]
        assert seen[0] == frozenset().union(*seen[1:]) if self.standing(GROUP, limit)[0] else True
        unnamed = sum(self.standing(org, limit)[0] - len(self.things(org, limit)) for org in ORGS)
        assert self.standing(GROUP, limit)[0] == len(seen[0]) + unnamed

    def things(self, who: bytes, limit: str) -> frozenset[bytes]:
        balance, sketch = (of.get(place(who, limit)) for of in (self.store.balances, self.store.sketches))
        standing = self.standing(who, limit)
        if balance is None or sketch is None or not standing[0]:
            return frozenset()
        if sketch.since != (0 if limit == "total" else standing[1]):
            return frozenset()
        return frozenset([sketch.data[at : at + 8] for at in range(0, 8 * count(sketch.data), 8)])


TestJoinMachine = JoinMachine.TestCase
TestNamingMachine = NamingMachine.TestCase
