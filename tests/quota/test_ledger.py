"""The ledger's promises as small stories; `test_ledger_machine` has the large one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from headgate.errors import AmountError
from headgate.quota.balance import LATE, SAFE, Balance, Verb
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Extend,
    Gone,
    Granted,
    Look,
    Never,
    NotYet,
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
from headgate.quota.ledger import REPEAT, Change, apply
from headgate.quota.window import POLL, Max, Quota, Rolling, Total

SECOND = 1_000_000
NOW = 1_800_057_600 * SECOND
LEASE = 60 * SECOND
LIFE: Place = (b"org", "life")
DAY: Place = (b"org", "day")
STREAMS: Place = (b"key", "streams")

VERBS: list[Verb] = [
    Rate(10, 60 * SECOND),
    Quota(10, edges=(0, NOW, 2 * NOW, 3 * NOW), spec=1),
    Rolling(10, 60 * SECOND),
    Total(10),
]
counting = pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.kind)


class Ledger:
    """A store in two dictionaries, and what it wrote last."""

    def __init__(self) -> None:
        self.balances: dict[Place, Balance] = {}
        self.receipts: dict[bytes, Receipt] = {}
        self.last: Change | None = None

    def __call__(self, command: Command, now: int = NOW) -> Outcome:
        rid = getattr(command, "rid", b"")
        self.last = apply(self.balances, self.receipts.get(rid), command, now)
        self.balances.update(self.last.balances)
        if self.last.receipt is not None:
            self.receipts[rid] = self.last.receipt
        return self.last.outcome

    def used(self, verb: Verb, now: int = NOW) -> tuple[int, int]:
        seen = reading(Demand(LIFE, verb, 0), self.balances.get(LIFE), now)
        return seen.used, seen.held


def reserve(rid: bytes, *demands: Demand, lease: int = LEASE) -> Reserve:
    return Reserve(rid, demands, lease)


def settle(rid: bytes, *demands: Demand) -> Settle:
    return Settle(rid, demands)


@counting
def test_a_reservation_that_arrives_twice_is_charged_once(verb: Verb) -> None:
    ledger, ask = Ledger(), reserve(b"r", Demand(LIFE, verb, 4))
    assert isinstance(ledger(ask), Granted)
    assert isinstance(ledger(ask, NOW + 1), Granted)
    assert ledger.used(verb) == (4, 0)


@counting
def test_a_repeat_is_answered_alike_even_when_there_is_no_room_any_more(verb: Verb) -> None:
    ledger = Ledger()
    ledger(reserve(b"first", Demand(LIFE, verb, 10)))
    assert isinstance(ledger(reserve(b"first", Demand(LIFE, verb, 10))), Granted)
    assert isinstance(ledger(reserve(b"second", Demand(LIFE, verb, 1))), Refused)


def test_a_verdict_outlives_any_repeat_however_short_the_lease() -> None:
    ledger = Ledger()
    ledger(reserve(b"r", Demand(LIFE, Total(9), 1), lease=1))
    assert ledger.receipts[b"r"].until == NOW + REPEAT
    ledger(reserve(b"r", Demand(LIFE, Total(9), 1), lease=1), NOW + REPEAT - 1)
    assert ledger.used(Total(9)) == (1, 0)


def test_what_is_held_cannot_be_held_twice_even_by_a_repeat_that_comes_too_late() -> None:
    ledger, ask = Ledger(), reserve(b"r", Demand(LIFE, Total(9), 2, hold=True))
    ledger(ask)
    ledger(Extend(b"r", (Demand(LIFE, Total(9), 1),), 10 * LEASE, 1))
    ledger(ask, NOW + LEASE)
    assert ledger.used(Total(9), NOW + LEASE) == (0, 3)


@counting
def test_a_refusal_consumes_nothing_anywhere(verb: Verb) -> None:
    ledger = Ledger()
    ledger(reserve(b"1", Demand(LIFE, verb, 9)))
    before = dict(ledger.balances)
    refused = ledger(reserve(b"2", Demand(DAY, Total(99), 5), Demand(LIFE, verb, 2)))
    assert isinstance(refused, Refused)
    assert ledger.last is not None and ledger.last.receipt is None
    assert ledger.balances == before
    assert [refusal.limit for refusal in refused.refusals] == ["life"]


def test_every_limit_that_refuses_is_named() -> None:
    ledger = Ledger()
    asked = [Demand((b"org", name), Total(units), 2) for name, units in (("a", 1), ("b", 5), ("c", 0))]
    refused = ledger(reserve(b"r", *asked))
    assert refused == Refused(NOW, (Never("a", 1), Never("c", 0)), (None, None, None))


@counting
def test_a_cost_above_the_limit_is_never_granted_and_leaves_it_untouched(verb: Verb) -> None:
    ledger = Ledger()
    refused = ledger(reserve(b"1", Demand(LIFE, verb, 5_000)))
    assert isinstance(refused, Refused)
    assert refused.refusals == (Never("life", 10),)
    assert isinstance(ledger(reserve(b"2", Demand(LIFE, verb, 1))), Granted)


@pytest.mark.parametrize("amount", [-1, 1.0, 0.5, math.nan, math.inf, True, False, "1", "1e3", None, SAFE + 1, b"1"])
def test_what_is_no_whole_number_never_becomes_a_demand(amount: Any) -> None:
    demand = Demand(LIFE, Total(10), 0)
    for made in (
        lambda: Demand(LIFE, Total(10), amount),
        lambda: demand.of(amount),
        lambda: demand._replace(amount=amount),
    ):
        with pytest.raises(AmountError, match="whole number"):
            made()


def test_an_amount_of_nothing_is_granted_and_a_hold_of_nothing_needs_one_free_unit() -> None:
    ledger = Ledger()
    assert isinstance(ledger(reserve(b"1", Demand(LIFE, Total(1), 0))), Granted)
    assert isinstance(ledger(reserve(b"2", Demand(LIFE, Total(1), 1))), Granted)
    assert isinstance(ledger(reserve(b"3", Demand(LIFE, Total(1), 0))), Granted)
    assert isinstance(ledger(reserve(b"4", Demand(LIFE, Total(1), 0, hold=True))), Refused)


@pytest.mark.parametrize("verb", [*VERBS[1:], Rate(SAFE, 1)], ids=lambda verb: verb.kind)
def test_the_largest_amounts_saturate_and_never_wrap(verb: Verb) -> None:
    ledger = Ledger()
    ledger(reserve(b"1", Demand(LIFE, verb, 1, hold=True)))
    ledger(settle(b"1", Demand(LIFE, verb, SAFE)))
    ledger(reserve(b"2", Demand(LIFE, verb, 0, hold=True)))
    ledger(settle(b"2", Demand(LIFE, verb, SAFE)))
    balance = ledger.balances[LIFE]
    assert balance.used == SAFE and balance.until <= SAFE
    assert isinstance(ledger(reserve(b"3", Demand(LIFE, verb, 1))), Refused)


def test_a_reservation_that_names_a_place_twice_is_a_fault() -> None:
    with pytest.raises(ValueError, match="twice"):
        Ledger()(reserve(b"r", Demand(LIFE, Total(9), 1), Demand(LIFE, Total(9), 1)))


@counting
def test_settling_replaces_what_was_held_once(verb: Verb) -> None:
    ledger = Ledger()
    ledger(reserve(b"r", Demand(LIFE, verb, 8, hold=True)))
    assert ledger.used(verb) == (0, 8)
    for _ in range(3):
        ledger(settle(b"r", Demand(LIFE, verb, 3)))
        assert ledger.used(verb) == (3, 0)


@counting
def test_more_than_was_held_becomes_debt_that_the_next_request_meets(verb: Verb) -> None:
    ledger = Ledger()
    ledger(reserve(b"r", Demand(LIFE, verb, 8, hold=True)))
    ledger(settle(b"r", Demand(LIFE, verb, 25)))
    assert ledger.used(verb) == (25, 0)
    assert isinstance(ledger(reserve(b"s", Demand(LIFE, verb, 1))), Refused)


def test_settling_what_was_never_reserved_does_nothing() -> None:
    ledger = Ledger()
    assert ledger(settle(b"r", Demand(LIFE, Total(9), 3))) == Settled(NOW, (None,), added=(0,))
    assert ledger.balances == {}


def test_a_settlement_that_overtakes_its_reservation_leaves_it_to_the_lease() -> None:
    ledger = Ledger()
    ledger(settle(b"r", Demand(LIFE, Total(9), 3)))
    ledger(reserve(b"r", Demand(LIFE, Total(9), 5, hold=True)))
    assert ledger.used(Total(9), NOW + LEASE) == (5, 0)


@counting
def test_a_dead_workers_hold_is_charged_once_when_its_lease_ends(verb: Verb) -> None:
    ledger = Ledger()
    ledger(reserve(b"r", Demand(LIFE, verb, 8, hold=True)))
    assert ledger.used(verb, NOW + LEASE - 1) == (0, 8)
    assert ledger.used(verb, NOW + LEASE) == (8, 0)
    assert isinstance(ledger(reserve(b"s", Demand(LIFE, verb, 3)), NOW + LEASE), Refused)
    assert ledger.used(verb, NOW + LEASE) == (8, 0)


def test_a_lapsed_hold_drains_from_the_end_of_its_lease_however_often_refusals_look_at_it() -> None:
    ledger, verb = Ledger(), Rate(10, 60 * SECOND)
    ledger(reserve(b"r", Demand(LIFE, verb, 10, hold=True)))
    for second in range(6):
        assert isinstance(ledger(reserve(b"s%d" % second, Demand(LIFE, verb, 1)), NOW + LEASE + second), Refused)
    assert isinstance(ledger(reserve(b"t", Demand(LIFE, verb, 1)), NOW + LEASE + 6 * SECOND), Granted)


def test_a_lapsed_hold_belongs_to_the_window_in_which_its_lease_ended() -> None:
    verb = Quota(10, edges=(NOW - LEASE, NOW, NOW + 2 * LEASE, NOW + 4 * LEASE), spec=1)
    ledger = Ledger()
    ledger(reserve(b"r", Demand(LIFE, verb, 10, hold=True)))
    assert ledger.used(verb, NOW + 2 * LEASE - 1) == (10, 0)
    assert ledger.used(verb, NOW + 2 * LEASE) == (0, 0)


@counting
def test_a_late_settlement_charges_the_difference_once(verb: Verb) -> None:
    for actual in (2, 8, 9):
        ledger = Ledger()
        ledger(reserve(b"r", Demand(LIFE, verb, 8, hold=True)))
        for _ in range(2):
            ledger(settle(b"r", Demand(LIFE, verb, actual)), NOW + LEASE)
            assert ledger.used(verb, NOW + LEASE) == (actual, 0)


def test_a_settlement_that_is_too_late_changes_nothing() -> None:
    ledger, verb = Ledger(), Total(10)
    ledger(reserve(b"r", Demand(LIFE, verb, 8, hold=True)))
    ledger(settle(b"r", Demand(LIFE, verb, 2)), NOW + LEASE + LATE)
    assert ledger.used(verb, NOW + LEASE + LATE) == (8, 0)


def test_a_place_is_freed_once_though_it_was_taken_again_meanwhile() -> None:
    ledger, place = Ledger(), Demand(STREAMS, Max(1, LEASE), 1, hold=True)
    ledger(reserve(b"dead", place))
    assert isinstance(ledger(reserve(b"next", place), NOW + LEASE - 1), Refused)
    assert isinstance(ledger(reserve(b"next", place), NOW + LEASE), Granted)
    ledger(settle(b"dead", place), NOW + LEASE + 10 * SECOND)
    assert isinstance(ledger(reserve(b"third", place), NOW + LEASE + 10 * SECOND), Refused)


@counting
def test_cancelling_undoes_what_was_charged_and_what_was_held_once(verb: Verb) -> None:
    ledger = Ledger()
    demands = (Demand(LIFE, verb, 4), Demand(DAY, verb, 5, hold=True))
    ledger(reserve(b"other", Demand(LIFE, verb, 1)))
    ledger(Reserve(b"r", demands, LEASE))
    for _ in range(2):
        ledger(Cancel(b"r", demands, LEASE))
        assert ledger.used(verb) == (1, 0)
        assert ledger.balances[DAY].holds is None


def test_a_reservation_that_arrives_after_its_cancellation_is_gone() -> None:
    ledger, ask = Ledger(), reserve(b"r", Demand(LIFE, Total(9), 1))
    ledger(Cancel(b"r", ask.demands, 1))
    assert ledger(ask, NOW + REPEAT - 1) == Gone(NOW + REPEAT - 1)
    assert ledger.used(Total(9)) == (0, 0)


def test_a_cancelled_refusal_gives_nothing_back() -> None:
    ledger = Ledger()
    ledger(reserve(b"1", Demand(LIFE, Total(3), 3)))
    refused = reserve(b"2", Demand(LIFE, Total(3), 1))
    ledger(refused)
    ledger(Cancel(b"2", refused.demands, LEASE))
    assert ledger.used(Total(3)) == (3, 0)


def test_an_extension_holds_more_once_and_renews_the_lease() -> None:
    ledger, verb = Ledger(), Total(10)
    ledger(reserve(b"r", Demand(LIFE, verb, 4, hold=True)))
    for _ in range(3):
        assert isinstance(ledger(Extend(b"r", (Demand(LIFE, verb, 3),), LEASE, 1), NOW + 1), Granted)
        assert ledger.used(verb) == (0, 7)
    assert ledger.used(verb, NOW + LEASE) == (0, 7)
    assert ledger.used(verb, NOW + LEASE + 1) == (7, 0)


def test_an_extension_that_does_not_fit_changes_nothing_and_says_whether_it_ever_will() -> None:
    ledger, verb = Ledger(), Total(10)
    ledger(reserve(b"r", Demand(LIFE, verb, 4, hold=True)))
    ledger(reserve(b"s", Demand(LIFE, verb, 4, hold=True)))
    assert ledger(Extend(b"r", (Demand(LIFE, verb, 3),), LEASE, 1)).refusals == (NotYet("life", NOW + POLL),)
    assert ledger(Extend(b"r", (Demand(LIFE, verb, 7),), LEASE, 1)).refusals == (Never("life", 10),)
    assert ledger.used(verb) == (0, 8)


def test_an_extension_after_the_end_is_gone() -> None:
    ledger, more = Ledger(), (Demand(LIFE, Total(10), 1),)
    for end in (settle(b"r", Demand(LIFE, Total(10), 1)), Cancel(b"r", more, LEASE)):
        ledger(reserve(b"r", Demand(LIFE, Total(10), 4, hold=True)))
        ledger(end)
        assert ledger(Extend(b"r", more, LEASE, 1)) == Gone(NOW)
        ledger.receipts.clear()
    ledger(reserve(b"late", Demand(LIFE, Total(10), 4, hold=True)))
    assert ledger(Extend(b"late", more, LEASE, 1), NOW + LEASE) == Gone(NOW + LEASE)


def test_a_shadow_limit_decides_and_never_refuses_nor_is_charged_what_does_not_fit() -> None:
    ledger, verb = Ledger(), Total(3)
    for rid, used in ((b"1", 2), (b"2", 2)):
        outcome = ledger(reserve(rid, Demand(LIFE, verb, 2, shadow=True), Demand(DAY, Total(9), 1)))
        assert isinstance(outcome, Granted)
        assert ledger.used(verb) == (used, 0)
    assert outcome.shadowed == (Never("life", 1),)
    assert ledger.balances[DAY].used == 2


def test_a_shadow_hold_that_is_not_there_does_not_end_the_others() -> None:
    ledger = Ledger()
    shadow, real = Demand(LIFE, Total(3), 5, hold=True, shadow=True), Demand(DAY, Total(9), 2, hold=True)
    ledger(reserve(b"r", shadow, real))
    assert isinstance(ledger(Extend(b"r", (shadow.of(1), real.of(1)), LEASE, 1)), Granted)
    ledger(settle(b"r", shadow.of(4), real.of(4)))
    assert ledger.used(Total(3)) == (0, 0)
    assert ledger.balances[DAY].used == 4


def test_a_shadow_extension_that_does_not_fit_renews_the_lease_only() -> None:
    ledger, shadow = Ledger(), Demand(LIFE, Total(5), 4, hold=True, shadow=True)
    ledger(reserve(b"r", shadow))
    outcome = ledger(Extend(b"r", (shadow.of(4),), LEASE, 1), NOW + LEASE - 1)
    assert outcome.shadowed == (Never("life", 5),)
    assert ledger.used(Total(5), NOW + LEASE) == (0, 4)


def test_holds_that_alone_stand_in_the_way_are_a_reason_to_ask_again_soon() -> None:
    month = Quota(10, edges=(NOW, NOW + 1, NOW + 10**12, NOW + 2 * 10**12), spec=1)
    for verb in (month, Total(10), Rolling(10, 10**12)):
        ledger = Ledger()
        ledger(reserve(b"1", Demand(LIFE, verb, 9, hold=True)), NOW + 2)
        refused = ledger(reserve(b"2", Demand(LIFE, verb, 5)), NOW + 2)
        assert refused.refusals == (NotYet("life", NOW + 2 + POLL),)


def test_usage_that_time_will_forget_is_never_called_never() -> None:
    ledger, verb = Ledger(), Rolling(10, 24 * SECOND)
    ledger(reserve(b"1", Demand(LIFE, verb, 5)))
    ledger(reserve(b"2", Demand(LIFE, verb, 5, hold=True)))
    [refusal] = ledger(reserve(b"3", Demand(LIFE, verb, 6)), NOW + 1).refusals
    assert refusal == NotYet("life", NOW + 25 * SECOND)


def test_a_lifetime_with_too_little_left_says_how_much_could_still_be_had() -> None:
    ledger = Ledger()
    ledger(reserve(b"1", Demand(LIFE, Total(10), 7)))
    assert ledger(reserve(b"2", Demand(LIFE, Total(10), 4))).refusals == (Never("life", 3),)


def test_a_look_changes_nothing() -> None:
    ledger = Ledger()
    ledger(reserve(b"1", Demand(LIFE, Total(10), 7, hold=True)))
    ledger(Look((Demand(LIFE, Total(10), 0), Demand(DAY, Total(10), 0))), NOW + 10 * LEASE)
    assert ledger.last is not None and dict(ledger.last.balances) == {}
