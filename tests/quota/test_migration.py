"""A reload that changes a limit's amount, window or verb keeps what everybody has used."""

from __future__ import annotations

import itertools

import pytest

from headgate.quota.balance import Balance, Verb
from headgate.quota.calendar import Calendar
from headgate.quota.command import Demand, Granted, Place, Refused, Reserve, Settle
from headgate.quota.decision import reading
from headgate.quota.gcra import Rate
from headgate.quota.ledger import apply
from headgate.quota.window import Max, Rolling, Total

SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
NOON = 1_800_057_600 * SECOND + DAY // 2
PLACE: Place = (b"s", "limit")

COUNTING: dict[str, Verb] = {
    "rate": Rate(10, MINUTE),
    "other rate": Rate(7, 3 * MINUTE, burst=3),
    "day": Calendar(10, "day").quota(NOON, None),
    "month": Calendar(10, "month", "Europe/Paris").quota(NOON, None),
    "first use": Calendar(10, "day", anchor="first_use").quota(NOON, None),
    "rolling": Rolling(10, DAY),
    "rolling week": Rolling(10, 7 * DAY),
    "total": Total(10),
}
PAIRS = list(itertools.permutations(COUNTING, 2))


def used(verb: Verb, amount: int, now: int = NOON) -> dict[Place, Balance]:
    return dict(apply({}, None, Reserve(b"1", (Demand(PLACE, verb, amount),), 1), now).balances)


def asked(balances: dict[Place, Balance], verb: Verb, amount: int, now: int = NOON) -> bool:
    change = apply(balances, None, Reserve(b"2", (Demand(PLACE, verb, amount),), 1), now)
    balances.update(change.balances)
    return isinstance(change.outcome, Granted)


@pytest.mark.parametrize("before, after", PAIRS)
def test_what_was_used_under_one_verb_counts_under_another(before: str, after: str) -> None:
    balances = used(COUNTING[before], 6)
    assert reading(Demand(PLACE, COUNTING[after], 0), balances[PLACE], NOON).used == 6
    assert not asked(balances, COUNTING[after], 5)
    assert asked(balances, COUNTING[after], 4)


@pytest.mark.parametrize("before, after", PAIRS)
def test_who_had_used_all_is_not_let_in_when_the_old_window_would_have_ended(before: str, after: str) -> None:
    # The first refusal after the reload keeps the usage under the new window, though nothing is charged.
    balances = used(COUNTING[before], 10)
    assert not asked(balances, COUNTING[after], 1)
    assert balances[PLACE].spec == COUNTING[after].spec
    assert balances[PLACE].kind == COUNTING[after].kind


@pytest.mark.parametrize("name", COUNTING)
def test_back_and_forth_between_two_policies_forgets_and_adds_nothing(name: str) -> None:
    balances = used(COUNTING["total"], 5)
    for _ in range(5):
        for verb in (COUNTING[name], COUNTING["total"]):
            assert asked(balances, verb, 0)
    assert balances[PLACE].used == 5


def test_a_larger_amount_adds_room_and_a_smaller_one_takes_it() -> None:
    for small, large in (
        (Rate(10, MINUTE), Rate(25, MINUTE)),
        (Calendar(10, "day").quota(NOON, None), Calendar(25, "day").quota(NOON, None)),
        (Rolling(10, DAY), Rolling(25, DAY)),
        (Total(10), Total(25)),
    ):
        balances = used(small, 10)
        assert not asked(balances, small, 1)
        assert asked(balances, large, 15)
        assert not asked(balances, large, 1)
        assert not asked(balances, small, 1)


def test_a_rate_whose_amount_changes_keeps_what_has_drained_by_then() -> None:
    balances = used(Rate(60, MINUTE), 60)
    later = NOON + MINUTE // 2
    assert reading(Demand(PLACE, Rate(100, MINUTE), 0), balances[PLACE], later).used == 30


def test_a_fast_rate_does_not_lock_a_slow_one_for_longer_than_its_window() -> None:
    balances = used(Rate(1_000, MINUTE), 1_000)
    assert not asked(balances, Rate(10, MINUTE), 1)
    assert asked(balances, Rate(10, MINUTE), 10, NOON + MINUTE)


def test_places_are_no_usage_and_open_ones_still_count() -> None:
    places = Max(2, MINUTE)
    change = apply({}, None, Reserve(b"1", (Demand(PLACE, places, 1, hold=True),), MINUTE), NOON)
    balances = dict(change.balances)
    seen = reading(Demand(PLACE, Total(10), 0), balances[PLACE], NOON)
    assert (seen.used, seen.held) == (0, 1)
    for verb in COUNTING.values():
        balances = used(verb, 10)
        assert reading(Demand(PLACE, places, 0), balances[PLACE], NOON).left == 2


def test_a_request_in_flight_is_settled_by_the_limit_that_it_was_reserved_under() -> None:
    old, new = COUNTING["day"], COUNTING["month"]
    change = apply({}, None, Reserve(b"1", (Demand(PLACE, old, 5, hold=True),), MINUTE), NOON)
    balances = dict(change.balances)
    assert asked(balances, new, 3)
    balances.update(apply(balances, None, Settle(b"1", (Demand(PLACE, old, 6),)), NOON + 1).balances)
    assert asked(balances, new, 1)
    assert not asked(balances, new, 1)


def test_a_candidate_keeps_its_own_count_beside_the_live_value() -> None:
    live, candidate = Total(3), Total(1)
    pair = (Demand((b"s", "limit"), live, 1), Demand((b"s", "limit~candidate"), candidate, 1, shadow=True))
    balances: dict[Place, Balance] = {}
    shadowed = []
    for n in range(4):
        change = apply(balances, None, Reserve(b"%d" % n, pair, 1), NOON)
        balances.update(change.balances)
        shadowed.append([refusal.limit for refusal in change.outcome.shadowed])  # type: ignore[union-attr]
    assert shadowed == [[], ["limit~candidate"], ["limit~candidate"], ["limit~candidate"]]
    assert isinstance(change.outcome, Refused)
    assert (balances[b"s", "limit"].used, balances[b"s", "limit~candidate"].used) == (3, 1)
