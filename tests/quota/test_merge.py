"""Usage from before a link counts: what orgs used alone moves into their group's balance, once."""

from __future__ import annotations

import random

import pytest

from headgate.quota.balance import FOREVER, LATE, SAFE, Balance, Verb
from headgate.quota.calendar import Calendar
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Extend,
    Gone,
    Granted,
    Merge,
    Outcome,
    Place,
    Receipt,
    Refused,
    Reserve,
    Settle,
    Settled,
)
from headgate.quota.decision import reading
from headgate.quota.gcra import Rate
from headgate.quota.ledger import apply, followed
from headgate.quota.things import Things, count, with_things
from headgate.quota.window import Max, Quota, Rolling, Total

SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
NOW = 1_800_057_600 * SECOND + DAY // 2
LEASE = MINUTE

VERBS: list[Verb] = [
    Rate(30, MINUTE),
    Calendar(30, "day").quota(NOW, None),
    Calendar(30, "day", anchor="first_use").quota(NOW, None),
    Rolling(30, DAY),
    Total(30),
]
counting = pytest.mark.parametrize("verb", VERBS, ids=["rate", "day", "first use", "rolling", "total"])


class Ledger:
    """Three orgs and their group, all under one limit."""

    def __init__(self, verb: Verb) -> None:
        self.verb = verb
        self.balances: dict[Place, Balance] = {}
        self.receipts: dict[bytes, Receipt] = {}

    def __call__(self, command: Command, now: int = NOW) -> Outcome:
        rid = getattr(command, "rid", b"")
        change = apply(self.balances, self.receipts.get(rid), command, now)
        self.balances.update(change.balances)
        if change.receipt is not None:
            self.receipts[rid] = change.receipt
        return change.outcome

    def at(self, who: bytes, amount: int = 0, *, hold: bool = False, verb: Verb | None = None) -> Demand:
        return Demand((who, "limit"), verb or self.verb, amount, hold)

    def asks(self, who: bytes, rid: bytes, amount: int, now: int = NOW, *, hold: bool = False) -> Outcome:
        return self(Reserve(rid, (self.at(who, amount, hold=hold),), LEASE), now)

    def merge(self, now: int = NOW) -> Outcome:
        return self(Merge(self.at(b"group"), (self.at(b"a"), self.at(b"b"), self.at(b"c"))), now)

    def counts(self, who: bytes, now: int = NOW) -> tuple[int, int]:
        seen = reading(self.at(who), self.balances.get((who, "limit")), now)
        return seen.used, seen.held


@counting
def test_what_each_used_alone_adds_up_and_is_moved_once(verb: Verb) -> None:
    ledger = Ledger(verb)
    for who, amount in ((b"a", 3), (b"b", 4), (b"group", 5)):
        ledger.asks(who, who, amount)
    for _ in range(3):
        assert isinstance(ledger.merge(), Settled)
        assert ledger.counts(b"group") == (12, 0)
        assert ledger.counts(b"a") == ledger.counts(b"b") == ledger.counts(b"c") == (0, 0)


@counting
def test_what_trickles_in_afterwards_is_moved_by_the_next_merge(verb: Verb) -> None:
    ledger = Ledger(verb)
    ledger.asks(b"a", b"1", 3)
    ledger.merge()
    ledger.asks(b"a", b"2", 2)
    ledger.merge()
    assert ledger.counts(b"group") == (5, 0)
    assert ledger.counts(b"a") == (0, 0)


@counting
def test_an_operators_accounts_have_one_quota_from_the_merge_on(verb: Verb) -> None:
    ledger = Ledger(verb)
    for who in (b"a", b"b", b"c"):
        ledger.asks(who, who, 25)
    ledger.merge()
    assert ledger.counts(b"group") == (75, 0)
    assert isinstance(ledger.asks(b"group", b"g", 1), Refused)


@counting
def test_merging_nobodys_usage_writes_nothing(verb: Verb) -> None:
    ledger = Ledger(verb)
    ledger.merge()
    assert ledger.balances == {}


@counting
def test_a_place_merged_into_itself_or_named_twice_counts_once(verb: Verb) -> None:
    ledger = Ledger(verb)
    ledger.asks(b"a", b"1", 3)
    ledger.asks(b"group", b"2", 4)
    ledger(Merge(ledger.at(b"group"), (ledger.at(b"group"), ledger.at(b"a"), ledger.at(b"a"))))
    assert ledger.counts(b"group") == (7, 0)


@counting
def test_what_has_run_out_is_not_carried(verb: Verb) -> None:
    ledger = Ledger(verb)
    ledger.asks(b"a", b"1", 3)
    later = NOW + 3 * DAY
    if verb.kind != "total":
        ledger.verb = Calendar(30, "day").quota(later, None) if verb == VERBS[1] else verb
        ledger.merge(later)
        assert ledger.counts(b"group", later) == (0, 0)


def test_rolling_usage_is_forgotten_when_each_part_would_have_been() -> None:
    ledger = Ledger(Rolling(30, 24 * SECOND))
    ledger.asks(b"a", b"1", 3, NOW)
    ledger.asks(b"b", b"2", 4, NOW + 10 * SECOND)
    ledger.asks(b"group", b"3", 5, NOW + 10 * SECOND)
    ledger.merge(NOW + 20 * SECOND)
    counts = [ledger.counts(b"group", NOW + second * SECOND)[0] for second in (24, 25, 34, 35)]
    assert counts == [12, 9, 9, 0]


def test_backlogs_of_different_plans_add_up_in_units() -> None:
    ledger = Ledger(Rate(60, MINUTE))
    slow = Rate(7, 3 * MINUTE)
    ledger(Reserve(b"1", (ledger.at(b"a", 5, verb=slow),), 1))
    ledger.asks(b"group", b"2", 10)
    ledger(Merge(ledger.at(b"group"), (ledger.at(b"a", verb=slow),)))
    assert ledger.counts(b"group") == (15, 0)
    assert ledger.counts(b"group", NOW + 5 * SECOND) == (10, 0)


@counting
def test_more_than_can_be_counted_saturates_and_stays_whole(verb: Verb) -> None:
    ledger = Ledger(verb)
    for n, who in enumerate((b"a", b"b")):
        ledger.asks(who, who, 1, NOW + n * MINUTE, hold=True)
        ledger(Settle(who, (ledger.at(who, SAFE),)), NOW + n * MINUTE)
    ledger.merge(NOW + MINUTE)
    balance = ledger.balances[b"group", "limit"]
    assert balance.used == SAFE
    assert sum(units for _, units in balance.parts) in (0, SAFE)


def test_first_use_windows_that_differ_unite_in_the_one_that_ends_later() -> None:
    ledger = Ledger(VERBS[2])
    ledger.asks(b"a", b"1", 3, NOW)
    ledger.asks(b"b", b"2", 4, NOW + DAY // 2)
    ledger.merge(NOW + DAY // 2 + 1)
    assert ledger.counts(b"group", NOW + DAY) == (7, 0)
    assert ledger.counts(b"group", NOW + DAY + DAY // 2) == (0, 0)


def test_an_untouched_group_takes_over_the_window_that_was_open() -> None:
    ledger = Ledger(VERBS[2])
    ledger.asks(b"a", b"1", 3, NOW)
    ledger.merge(NOW + DAY - 1)
    assert ledger.counts(b"group", NOW + DAY) == (0, 0)


def test_billing_windows_of_different_anchors_carry_what_is_open() -> None:
    group, own = (Calendar(30, "month", anchor="subscription").quota(NOW, at) for at in (0, NOW - 5 * DAY))
    ledger = Ledger(group)
    ledger(Reserve(b"1", (ledger.at(b"a", 6, verb=own),), 1))
    ledger(Merge(ledger.at(b"group"), (ledger.at(b"a", verb=own),)))
    assert ledger.counts(b"group") == (6, 0)
    assert isinstance(group, Quota)
    assert ledger.balances[b"group", "limit"].until == group.edges[2]


@counting
def test_what_was_held_moves_and_is_settled_where_it_went(verb: Verb) -> None:
    ledger = Ledger(verb)
    ledger.asks(b"a", b"r", 8, hold=True)
    ledger.asks(b"group", b"s", 2, hold=True)
    ledger.merge()
    assert (ledger.counts(b"a"), ledger.counts(b"group")) == ((0, 0), (0, 10))
    command = Settle(b"r", (ledger.at(b"a", 5),))
    for _ in range(3):
        outcome = ledger(command)
        assert ledger.counts(b"a") == (0, 0)
        again = followed(command, outcome)
        assert again == Settle(b"r", (ledger.at(b"group", 5),))
        assert followed(again, ledger(again)) is None
        assert ledger.counts(b"group") == (5, 2)


def test_a_place_taken_before_the_merge_counts_in_the_group_and_is_freed_there() -> None:
    ledger = Ledger(Max(2, LEASE))
    ledger.asks(b"a", b"r", 1, hold=True)
    ledger.asks(b"b", b"s", 1, hold=True)
    ledger.merge()
    assert isinstance(ledger.asks(b"group", b"t", 1, hold=True), Refused)
    command = Settle(b"r", (ledger.at(b"a", 1),))
    again = followed(command, ledger(command))
    assert again is not None
    ledger(again)
    assert isinstance(ledger.asks(b"group", b"t", 1, hold=True), Granted)


@counting
def test_a_moved_hold_is_extended_and_cancelled_where_it_went(verb: Verb) -> None:
    ledger = Ledger(verb)
    ledger.asks(b"a", b"r", 8, hold=True)
    ledger.merge()
    extend = Extend(b"r", (ledger.at(b"a", 2),), LEASE, 1)
    told = ledger(extend, NOW + 1)
    assert isinstance(told, Gone)
    again = followed(extend, told)
    assert again is not None and isinstance(ledger(again, NOW + 1), Granted)
    assert ledger.counts(b"group", NOW + LEASE) == (0, 10)
    cancel = Cancel(b"r", (ledger.at(b"a", 8, hold=True),), LEASE)
    again = followed(cancel, ledger(cancel))
    assert again is not None
    ledger(again)
    assert ledger.counts(b"group") == (0, 0)


@counting
def test_nobody_settles_a_moved_hold_and_its_lease_charges_it_once(verb: Verb) -> None:
    ledger = Ledger(verb)
    ledger.asks(b"a", b"r", 8, hold=True)
    ledger.merge()
    ledger.merge(NOW + LEASE)
    assert ledger.counts(b"group", NOW + LEASE) == (8, 0)
    assert ledger.counts(b"a", NOW + LEASE) == (0, 0)


@counting
def test_a_lapsed_hold_that_was_moved_is_still_put_right_by_a_late_settlement(verb: Verb) -> None:
    ledger = Ledger(verb)
    ledger.asks(b"a", b"r", 8, hold=True)
    ledger.merge(NOW + LEASE)
    assert ledger.counts(b"group", NOW + LEASE) == (8, 0)
    command = Settle(b"r", (ledger.at(b"a", 3),))
    again = followed(command, ledger(command, NOW + LEASE))
    assert again is not None
    ledger(again, NOW + LEASE)
    assert ledger.counts(b"group", NOW + LEASE) == (3, 0)


def test_the_note_of_a_moved_hold_is_forgotten_with_it() -> None:
    ledger = Ledger(Total(30))
    ledger.asks(b"a", b"r", 8, hold=True)
    ledger.merge()
    ledger.asks(b"a", b"s", 1, NOW + LEASE + LATE)
    assert ledger.balances[b"a", "limit"].holds is None


def test_holds_of_one_reservation_at_both_places_become_one() -> None:
    ledger = Ledger(Total(30))
    ledger(Reserve(b"r", (ledger.at(b"a", 3, hold=True), ledger.at(b"group", 4, hold=True)), LEASE))
    ledger.merge()
    assert ledger.counts(b"group") == (0, 7)
    ledger(Settle(b"r", (ledger.at(b"group", 6),)))
    assert ledger.counts(b"group") == (6, 0)


def test_a_hold_that_moves_twice_is_found_step_by_step() -> None:
    ledger = Ledger(Total(30))
    ledger.asks(b"a", b"r", 3, hold=True)
    for into, source in ((b"b", b"a"), (b"group", b"b")):
        ledger(Merge(ledger.at(into), (ledger.at(source),)))
    command: Command | None = Settle(b"r", (ledger.at(b"a", 2),))
    steps = 0
    while command is not None:
        command, steps = followed(command, ledger(command)), steps + 1
    assert steps == 3
    assert ledger.counts(b"group") == (2, 0)


def test_what_a_hundred_sketches_have_counted_is_what_their_union_counts() -> None:
    """Each union errs a little; were those above their parts cut off, the errors would add up to some per cent."""
    lot, verb, into = random.Random(7), Total(10**9), (b"group", "docs")
    balances, sketches = {}, {}
    for n in range(100):
        seen = with_things(b"", [lot.randbytes(8) for _ in range(1_000)])
        balances[b"org-%d" % n, "docs"] = Balance("total", 1_000, 0, FOREVER, 0)
        sketches[b"org-%d" % n, "docs"] = Things(0, seen)
    merge = Merge(Demand(into, verb, 0), tuple(Demand(place, verb, 0) for place in balances))
    change = apply(balances, None, merge, NOW, sketches)
    used = change.balances[into].used
    assert used == count(change.sketches[into].data)
    assert abs(used - 100_000) <= 2_000
