"""A group is raised to what its orgs have used: windows that differ, windows that end, and rates."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.quota.balance import Balance, Verb
from headgate.quota.command import (
    Command,
    Demand,
    Extend,
    Gone,
    Join,
    Outcome,
    Place,
    Receipt,
    Reserve,
    Settle,
    Settled,
)
from headgate.quota.gcra import Rate
from headgate.quota.ledger import apply, followed
from headgate.quota.things import Things
from headgate.quota.window import Max, Quota, Rolling, Total

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
NOW = 1_800_057_600 * SECOND
LEASE = 60 * SECOND
GROUP = b"group"


def days(shift: int = 0, length: int = DAY, capacity: int = 100) -> Quota:
    begun = NOW - shift
    return Quota(capacity, tuple(begun + n * length for n in range(-1, 9)), spec=1 + shift // HOUR + length // DAY)


class Ledger:
    def __init__(self) -> None:
        self.balances: dict[Place, Balance] = {}
        self.sketches: dict[Place, Things] = {}
        self.receipts: dict[bytes, Receipt] = {}
        self.now = NOW
        self.numbers = 0

    def __call__(self, command: Command) -> Outcome:
        rid = getattr(command, "rid", b"")
        change = apply(self.balances, self.receipts.get(rid), command, self.now, self.sketches)
        self.balances.update(change.balances)
        self.sketches.update(change.sketches)
        if change.receipt is not None:
            self.receipts[rid] = change.receipt
        return change.outcome

    def uses(self, who: bytes, verb: Verb, amount: int, *, group: bool = False) -> None:
        self.numbers += 1
        own = Demand((who, "limit"), verb, amount)
        asked = (own.at((GROUP, "limit")), own._replace(owed=True)) if group else (own,)
        self(Reserve(b"%d" % self.numbers, asked, LEASE))

    def join(self, verb: Verb, *orgs: bytes) -> int:
        into = Demand((GROUP, "limit"), verb, 0)
        self(Join(into, tuple([into.at((org, "limit")) for org in orgs])))
        return self.used(GROUP, verb)

    def used(self, who: bytes, verb: Verb) -> int:
        return verb.spent(verb.bring(self.balances.get((who, "limit")), self.now))


def test_orgs_of_different_windows_are_counted_together_and_end_together() -> None:
    ledger, here, there = Ledger(), days(), days(12 * HOUR)
    ledger.uses(b"a", here, 10)
    ledger.uses(b"b", there, 20)
    assert ledger.join(here, b"a", b"b") == 30
    assert ledger.join(here, b"a", b"b") == 30
    ledger.now = NOW + DAY
    assert ledger.join(here, b"a", b"b") == 0
    ledger.uses(b"a", here, 1, group=True)
    ledger.uses(b"b", here, 1, group=True)
    assert ledger.join(here, b"a", b"b") == 2, "a new window begins with nothing"


@pytest.mark.parametrize("touched", [False, True])
def test_what_a_slow_worker_charges_by_another_window_counts_and_ends_with_the_groups(touched: bool) -> None:
    ledger, here, there = Ledger(), days(), days(12 * HOUR)
    ledger.uses(b"b", there, 20)
    assert ledger.join(here, b"a", b"b") == 20
    ledger.uses(b"b", there, 5)
    assert ledger.join(here, b"a", b"b") == 25
    ledger.now = NOW + DAY
    if touched:
        ledger.uses(b"a", here, 1, group=True)
    assert ledger.join(here, b"a", b"b") == int(touched)


def test_a_window_that_opened_before_the_groups_does_not_count() -> None:
    ledger, verb = Ledger(), Quota(100, (), spec=9, length=DAY)
    ledger.uses(b"a", verb, 10)
    ledger.now += HOUR
    ledger.uses(GROUP, verb, 1)
    assert ledger.join(verb, b"a", b"b") == 1
    ledger.now += SECOND
    ledger.uses(b"b", verb, 7)
    assert ledger.join(verb, b"a", b"b") == 7


@pytest.mark.parametrize(
    "verbs",
    [
        (days(), days(length=2 * DAY)),
        (Rolling(100, DAY), Rolling(100, HOUR)),
        (Total(100), Rolling(100, DAY)),
        (days(), Rate(100, DAY)),
        (Rate(100, DAY), Rate(100, HOUR)),
    ],
    ids=["quota", "rolling", "total", "quota and rate", "rate"],
)
def test_a_link_gives_nobody_a_fresh_window_whatever_the_plans_were(verbs: tuple[Verb, Verb]) -> None:
    for own, group in (verbs, verbs[::-1]):
        ledger = Ledger()
        ledger.uses(b"a", own, 40)
        ledger.uses(b"b", group, 30)
        ledger.now += SECOND
        assert ledger.join(group, b"a", b"b") >= 69
        before = dict(ledger.balances)
        assert ledger.join(group, b"a", b"b") >= 69
        assert ledger.balances == before, "a repeat changes nothing"


@pytest.mark.parametrize("verb", [days(), Rolling(100, DAY), Total(100), Rate(100, DAY)], ids=lambda verb: verb.kind)
def test_after_a_split_an_org_has_what_it_alone_used_whatever_the_group_does(verb: Verb) -> None:
    ledger = Ledger()
    ledger.uses(b"a", verb, 5)
    ledger.uses(b"b", verb, 30)
    ledger.join(verb, b"a", b"b")
    ledger.uses(b"a", verb, 7, group=True)
    ledger.uses(b"b", verb, 9, group=True)
    for _ in range(3):
        ledger.join(verb, b"a", b"b")
        ledger.uses(b"b", verb, 1, group=True)
    assert (ledger.used(b"a", verb), ledger.used(b"b", verb)) == (12, 42)


def test_the_backlogs_of_a_rate_add_up_once_and_then_drain_as_one() -> None:
    ledger, verb = Ledger(), Rate(60, MINUTE)
    for org in (b"a", b"b"):
        ledger.uses(org, verb, 20)
    assert ledger.join(verb, b"a", b"b") == 40
    ledger.now += 20 * SECOND
    assert (ledger.used(b"a", verb), ledger.used(b"b", verb), ledger.join(verb, b"a", b"b")) == (0, 0, 20)


def test_a_hold_that_ended_before_the_link_is_corrected_at_both_places() -> None:
    ledger, verb = Ledger(), Total(100)
    own = Demand((b"a", "limit"), verb, 20, hold=True)
    ledger(Reserve(b"slow", (own,), LEASE))
    ledger.now += LEASE
    assert ledger.join(verb, b"a") == 20
    settle = Settle(b"slow", (own.of(3),))
    onward = followed(settle, ledger(settle))
    assert onward is not None
    assert ledger.join(verb, b"a") == 20, "it is going to be told"
    ledger(onward)
    assert (ledger.join(verb, b"a"), ledger.used(b"a", verb)) == (3, 3)


def test_a_hold_is_followed_into_a_group_that_grows() -> None:
    ledger, verb = Ledger(), Max(5, LEASE)
    own = Demand((b"a", "limit"), verb, 1, hold=True)
    ledger(Reserve(b"r", (own,), LEASE))
    larger = own.at((b"larger", "limit")).of(0)
    ledger.join(verb, b"a", b"b")
    ledger(Join(larger, (larger.at((b"a", "limit")), larger.at((b"b", "limit")), larger.at((b"c", "limit")))))
    command: Any = Settle(b"r", (own,))
    outcome = ledger(command)
    assert isinstance(outcome, Settled)
    assert [demand.place for demand in outcome.moved] == [(b"larger", "limit")]
    ledger(followed(command, outcome) or command)
    assert ledger.balances[b"larger", "limit"].holds is None


def test_an_extension_of_a_copied_hold_renews_both() -> None:
    ledger, verb = Ledger(), Max(5, LEASE)
    own = Demand((b"a", "limit"), verb, 1, hold=True)
    ledger(Reserve(b"r", (own,), LEASE))
    ledger.join(verb, b"a", b"b")
    for step in range(1, 4):
        ledger.now += LEASE // 2
        extend = Extend(b"r", (own.of(0),), LEASE, step)
        outcome = ledger(extend)
        assert isinstance(outcome, Gone)
        ledger(followed(extend, outcome) or extend)
    held = [ledger.balances[who, "limit"].holds for who in (b"a", GROUP)]
    assert [one.by_rid[b"r"].until if one is not None else 0 for one in held] == [ledger.now + LEASE] * 2


amounts = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 9), st.booleans()), max_size=20)


@given(amounts, st.sets(st.integers(0, 20)))
def test_joins_in_between_make_no_difference(story: list[tuple[bytes, int, bool]], joined_at: set[int]) -> None:
    def told(joins: set[int]) -> int:
        ledger, verb = Ledger(), Rolling(10_000, DAY)
        for at, (org, amount, knows) in enumerate(story):
            if at in joins:
                ledger.join(verb, b"a", b"b", b"c")
            ledger.uses(org, verb, amount, group=knows)
            ledger.now += HOUR
        return ledger.join(verb, b"a", b"b", b"c")

    assert told(joined_at) == told(set()) == sum([amount for _, amount, _ in story])
