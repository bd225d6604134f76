"""Different things under one limit: what is counted, for how long, and what becomes of it when the policy changes."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.quota.balance import Balance, Verb
from headgate.quota.calendar import Calendar
from headgate.quota.command import (
    Command,
    Demand,
    Extend,
    Granted,
    Merge,
    Never,
    NotYet,
    Outcome,
    Place,
    Receipt,
    Refused,
    Reserve,
    Settle,
)
from headgate.quota.ledger import Change, apply
from headgate.quota.things import Things, count
from headgate.quota.window import Quota, Rolling, Total
from headgate.testing.story import naming

SECOND = 1_000_000
DAY = 86_400 * SECOND
NOW = 1_800_057_600 * SECOND
LEASE = 60 * SECOND
RECORDS: Place = (b"org", "records")
EDGES = tuple(NOW + n * DAY for n in range(-1, 9))

WINDOWS: list[Verb] = [Quota(5, EDGES, spec=1), Quota(5, (), spec=2, length=DAY), Total(5)]
windowed = pytest.mark.parametrize("verb", WINDOWS, ids=["day", "first use", "total"])


class Ledger:
    """A store in three dictionaries."""

    def __init__(self) -> None:
        self.balances: dict[Place, Balance] = {}
        self.sketches: dict[Place, Things] = {}
        self.receipts: dict[bytes, Receipt] = {}
        self.last: Change | None = None

    def __call__(self, command: Command, now: int = NOW) -> Outcome:
        rid = getattr(command, "rid", b"")
        self.last = change = apply(self.balances, self.receipts.get(rid), command, now, self.sketches)
        self.balances.update(change.balances)
        self.sketches.update(change.sketches)
        if change.receipt is not None:
            self.receipts[rid] = change.receipt
        return change.outcome

    def takes(self, verb: Verb, *numbers: int, now: int = NOW, at: Place = RECORDS) -> Any:
        """What is charged for these things, or the refusal."""
        asked = naming(Demand(at, verb, 0, hold=True), *numbers)
        rid = b"%d-%d" % (len(self.receipts), now)
        outcome = self(Reserve(rid, (asked,), LEASE), now)
        if isinstance(outcome, Refused):
            return outcome.refusals[0]
        settled: Any = self(Settle(rid, (asked,)), now)
        return settled.added[0]


@windowed
def test_each_thing_is_charged_once_and_all_that_were_named_go_on_when_nothing_is_left(verb: Verb) -> None:
    ledger = Ledger()
    assert [ledger.takes(verb, *named) for named in ((1, 2), (2, 3), (3, 4, 5), (1, 5))] == [2, 1, 2, 0]
    assert isinstance(ledger.takes(verb, 6), NotYet | Never)
    assert [ledger.takes(verb, n) for n in range(1, 6)] == [0] * 5
    assert ledger.balances[RECORDS].used == 5


@windowed
def test_what_was_named_is_granted_in_debt_too(verb: Verb) -> None:
    ledger = Ledger()
    asked = Demand(RECORDS, verb, 2, hold=True)
    ledger(Reserve(b"r", (asked,), LEASE))
    ledger(Settle(b"r", (naming(asked, *range(40)),)))
    assert ledger.balances[RECORDS].used == 40
    assert ledger.takes(verb, 1, 39) == 0
    assert isinstance(ledger.takes(verb, 40), NotYet | Never)


def test_the_refusal_says_how_many_new_things_would_have_fitted_or_when() -> None:
    ledger = Ledger()
    assert ledger.takes(Total(5), 1, 2, 3) == 3
    assert ledger.takes(Total(5), 2, 3, 4, 5, 6) == Never("records", 2)
    day = Ledger()
    assert day.takes(WINDOWS[0], 1, 2, 3) == 3
    assert day.takes(WINDOWS[0], 3, 4, 5, 6) == NotYet("records", NOW + DAY)


def test_two_who_ask_for_the_same_new_thing_at_once_both_hold_it_and_it_is_charged_once() -> None:
    ledger, asked = Ledger(), naming(Demand(RECORDS, Total(5), 0, hold=True), 1, 2)
    for rid in (b"one", b"other"):
        assert isinstance(ledger(Reserve(rid, (asked,), LEASE)), Granted)
    holds = ledger.balances[RECORDS].holds
    assert holds is not None
    assert holds.held == 4
    for rid in (b"one", b"other"):
        ledger(Settle(rid, (asked,)))
    assert ledger.balances[RECORDS].used == 2


def test_an_extension_holds_units_whatever_it_names() -> None:
    ledger, asked = Ledger(), naming(Demand(RECORDS, Total(9), 0, hold=True), 1)
    ledger(Reserve(b"r", (asked,), LEASE))
    ledger(Extend(b"r", (asked.of(3),), LEASE, 1))
    holds = ledger.balances[RECORDS].holds
    assert holds is not None
    assert holds.held == 4
    assert not ledger.sketches


def test_in_shadow_things_are_counted_while_they_fit() -> None:
    ledger, asked = Ledger(), naming(Demand(RECORDS, Total(2), 0, hold=True, shadow=True), 1, 2)
    for n, those in enumerate((asked, naming(asked, 3), asked)):
        outcome = ledger(Reserve(b"%d" % n, (those,), LEASE))
        assert isinstance(outcome, Granted)
        assert bool(outcome.shadowed) == (n == 1)
        ledger(Settle(b"%d" % n, (those,)))
    assert ledger.balances[RECORDS].used == 2


# For how long.


@pytest.mark.parametrize("verb", WINDOWS[:2], ids=["day", "first use"])
def test_the_next_window_knows_nothing(verb: Verb) -> None:
    ledger = Ledger()
    assert ledger.takes(verb, 1, 2, 3) == 3
    assert ledger.takes(verb, 1, 2, 3, now=NOW + DAY - 1) == 0
    assert ledger.takes(verb, 1, 2, 3, now=NOW + DAY) == 3


def test_a_window_that_only_happens_to_begin_at_the_same_instant_knows_nothing() -> None:
    old, fresh = Quota(5, (NOW, NOW + DAY, NOW + 2 * DAY, NOW + 3 * DAY), 1), Quota(5, EDGES, spec=1)
    ledger = Ledger()
    ledger.takes(old, 1, 2, now=NOW + 1)
    [things] = ledger.sketches.values()
    ledger.balances[RECORDS] = ledger.balances[RECORDS]._replace(used=0)
    assert ledger.takes(fresh, 1, 2, now=NOW + 2) == 2
    assert things.since == ledger.sketches[RECORDS].since


def test_things_that_a_lease_of_the_window_before_has_paid_for_are_charged_when_they_are_named_next() -> None:
    day, ledger = Quota(9, EDGES, spec=1), Ledger()
    asked = naming(Demand(RECORDS, day, 0, hold=True), 1, 2, 3)
    ledger(Reserve(b"slow", (asked,), LEASE), NOW + DAY - LEASE - 1)
    ledger(Settle(b"slow", (naming(asked, 1, 2),)), NOW + DAY + 1)
    assert ledger.balances[RECORDS].used == 0, "three were charged yesterday"
    assert ledger.takes(day, 1, 2, now=NOW + DAY + 2) == 2


def test_a_clock_that_is_set_back_behind_the_window_opens_none_though_things_are_charged_again() -> None:
    day, ledger = Quota(9, EDGES, spec=1), Ledger()
    assert ledger.takes(day, 1, 2, 3) == 3
    assert ledger.takes(day, 1, 2, 3, now=NOW - 2 * SECOND) == 0, "a little is waited for"
    assert ledger.takes(day, 1, 2, 3, now=NOW - DAY // 2) == 3
    assert ledger.balances[RECORDS].used == 6
    assert ledger.takes(day, 1, 2, 3, now=NOW - DAY // 2 + 1) == 0


# When the policy changes.


def test_another_amount_and_another_window_keep_what_was_used_and_what_was_named() -> None:
    ledger = Ledger()
    assert ledger.takes(Total(3), 1, 2, 3) == 3
    assert ledger.takes(Total(4), 1, 2, 3, 4) == 1
    week = Calendar(9, "week").quota(NOW, None)
    assert ledger.takes(week, 1, 5) == 1
    assert ledger.balances[RECORDS].used == 5
    assert ledger.takes(week, 1, 5) == 0


def test_a_sketch_beside_another_verb_is_left_alone_and_changes_no_count() -> None:
    rolling = Rolling(100, DAY)
    ledger, group = Ledger(), (b"group", "records")
    for at in (RECORDS, group):
        assert ledger.takes(Total(9), 1, 2, 3, at=at) == 3
    into, source = Demand(group, rolling, 0), Demand(RECORDS, rolling, 0)
    ledger(Merge(into, (source,)))
    assert ledger.balances[group].used == sum(units for _, units in ledger.balances[group].parts) == 6
    assert not ledger.sketches[group].data and not ledger.sketches[RECORDS].data


def test_a_merge_into_another_window_goes_by_the_window_that_is_kept() -> None:
    ledger, group = Ledger(), (b"group", "records")
    first_use = Quota(50, (), spec=2, length=DAY)
    assert ledger.takes(first_use, 1, 2, 3) == 3
    assert ledger.takes(first_use, 3, 4, now=NOW + 9 * SECOND, at=group) == 2
    ledger(Merge(Demand(group, first_use, 0), (Demand(RECORDS, first_use, 0),)), NOW + 10 * SECOND)
    balance = ledger.balances[group]
    assert (balance.used, balance.since) == (4, NOW + 9 * SECOND)
    assert ledger.sketches[group].since == balance.since
    assert ledger.takes(first_use, 1, 2, 3, 4, now=NOW + 11 * SECOND, at=group) == 0
    assert ledger.takes(first_use, 1, now=NOW + 9 * SECOND + DAY, at=group) == 1


def test_merging_who_has_named_nothing_leaves_the_sketch_to_the_window_that_is_kept() -> None:
    ledger, group = Ledger(), (b"group", "records")
    first_use = Quota(50, (), spec=2, length=DAY)
    assert ledger.takes(first_use, 1, 2, at=group) == 2
    asked = Demand(RECORDS, first_use, 5)
    ledger(Reserve(b"later", (asked,), LEASE), NOW + 9 * SECOND)
    ledger(Merge(asked.of(0).at(group), (asked,)), NOW + 10 * SECOND)
    assert ledger.balances[group].used == 7
    assert ledger.takes(first_use, 1, 2, 3, now=NOW + 11 * SECOND, at=group) == 1


# Many.


def test_what_is_charged_follows_the_estimate_and_never_falls() -> None:
    ledger, charged = Ledger(), 0
    for n in range(60):
        charged += ledger.takes(Total(10**6), *range(n * 50, n * 50 + 100))
        seen = count(ledger.sketches[RECORDS].data)
        assert ledger.balances[RECORDS].used == charged >= seen
        assert charged - seen <= 0.01 * seen
    assert abs(charged - 3_050) <= 0.02 * 3_050


def test_of_many_things_nobody_can_tell_which_are_new_so_an_exhausted_limit_refuses_all() -> None:
    ledger, verb = Ledger(), Total(1_500)
    ledger.takes(verb, *range(1_400))
    ledger.takes(verb, *range(1_400, 1_450))
    free = 1_500 - ledger.balances[RECORDS].used
    assert isinstance(ledger.takes(verb, *range(free + 1)), Never)
    assert ledger.takes(verb, *range(free)) == 0
