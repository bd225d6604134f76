"""A clock that is set: no window opens again, and nobody is locked out for longer than it and five seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.quota.balance import Balance, Verb
from headgate.quota.calendar import Calendar
from headgate.quota.command import Demand, Granted, Outcome, Place, Refused, Reserve, Settle
from headgate.quota.gcra import Rate
from headgate.quota.ledger import apply
from headgate.quota.window import Max, Quota, Rolling, Total

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
YEAR = 365 * DAY
NOON = 1_800_057_600 * SECOND + 12 * HOUR
SKEW = 5 * SECOND

WINDOWS = {
    "rate": (lambda now: Rate(10, 60 * SECOND), 60 * SECOND),
    "quota": (lambda now: Calendar(10, "day").quota(now, None), DAY),
    "first use": (lambda now: Calendar(10, "day", anchor="first_use").quota(now, None), DAY),
    "rolling": (lambda now: Rolling(10, HOUR), HOUR + HOUR // 24),
}
"""By name: the verb as the gate resolves it at an instant, and the longest that it may lock out."""

names = pytest.mark.parametrize("name", list(WINDOWS))


class Subject:
    """One balance and the requests on it."""

    def __init__(self, name: str) -> None:
        self.made, self.longest = WINDOWS[name]
        self.balances: dict[Place, Balance] = {}
        self.count = 0

    def asks(self, now: int, amount: int = 1, *, hold: bool = False, verb: Verb | None = None) -> Outcome:
        self.count += 1
        demand = Demand((b"s", "limit"), verb or self.made(now), amount, hold)
        change = apply(self.balances, None, Reserve(b"%d" % self.count, (demand,), HOUR), now)
        self.balances.update(change.balances)
        return change.outcome

    def admitted(self, now: int, times: int = 30) -> int:
        return sum(isinstance(self.asks(now), Granted) for _ in range(times))

    def locked_out(self, now: int) -> int:
        """How long (microseconds) it is refused if it asks sixty times a window."""
        step, begin = self.longest // 60, now
        while isinstance(self.asks(now), Refused):
            now += step
            assert now - begin <= 3 * self.longest, "locked out for good"
        return now - begin - step


@names
def test_set_back_by_an_hour_reopens_nothing(name: str) -> None:
    subject = Subject(name)
    assert subject.admitted(NOON) == 10
    assert subject.admitted(NOON - HOUR) == 0


@names
@pytest.mark.parametrize("back", [1, 3 * SECOND, SKEW, SKEW + 1, HOUR, 13 * HOUR, 40 * DAY, YEAR])
def test_set_back_locks_out_no_longer_than_the_window(name: str, back: int) -> None:
    subject = Subject(name)
    subject.admitted(NOON)
    assert subject.locked_out(NOON - back) <= subject.longest + SKEW


@names
def test_forward_a_year_and_back_gives_one_extra_window_at_most(name: str) -> None:
    subject = Subject(name)
    assert subject.admitted(NOON) == 10
    ahead = subject.admitted(NOON + YEAR)
    assert ahead <= 10
    assert subject.admitted(NOON + SECOND, 30) <= 10 - ahead
    assert subject.locked_out(NOON + 2 * SECOND) <= subject.longest + SKEW


@names
def test_one_request_in_the_year_ahead_does_not_open_a_second_extra_window(name: str) -> None:
    subject = Subject(name)
    subject.admitted(NOON)
    extra = subject.admitted(NOON + YEAR, 1) + subject.admitted(NOON + SECOND, 30)
    assert extra <= 10


@names
@given(back=st.integers(1, 3 * DAY), used_before=st.integers(0, HOUR))
def test_a_window_that_was_used_up_stays_shut_for_as_long_as_it_would_have(
    name: str, back: int, used_before: int
) -> None:
    subject = Subject(name)
    midnight = NOON + 12 * HOUR
    subject.admitted(midnight + used_before)
    undisturbed = Subject(name)
    undisturbed.admitted(midnight + used_before)
    [refusal] = undisturbed.asks(midnight + used_before, 1).refusals  # type: ignore[union-attr]
    # A rolling window's last twenty-fourth is rounding, not promised: units folded into the present may lose it.
    remaining = min(refusal.at - (midnight + used_before), HOUR if name == "rolling" else DAY)
    assert subject.locked_out(midnight + used_before - back) + subject.longest // 60 >= remaining


def test_two_workers_whose_clocks_differ_by_a_little_share_one_window() -> None:
    subject = Subject("quota")
    midnight = NOON + 12 * HOUR
    assert subject.admitted(midnight + 1) == 10
    assert subject.admitted(midnight - 1) == 0
    assert subject.admitted(midnight + DAY - 1) == 0
    assert subject.admitted(midnight + DAY) == 10


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_worker_an_hour_off_resolves_windows_that_the_store_agrees_with(hours: int) -> None:
    subject = Subject("quota")
    for at in (NOON - 12 * HOUR, NOON - 30 * 60 * SECOND, NOON + 11 * HOUR):
        right, wrong = Calendar(10, "day").quota(at, None), Calendar(10, "day").quota(at + hours * HOUR, None)
        admitted = sum(isinstance(subject.asks(at, verb=verb), Granted) for verb in (right, wrong) * 10)
        assert admitted == (10 if at == NOON - 12 * HOUR else 0)


def test_a_place_taken_a_year_ahead_is_free_again_a_lease_after_the_clock_is_set_back() -> None:
    subject, places = Subject("rate"), Max(1, HOUR)
    assert isinstance(subject.asks(NOON + YEAR, hold=True, verb=places), Granted)
    assert isinstance(subject.asks(NOON, hold=True, verb=places), Refused)
    assert isinstance(subject.asks(NOON + HOUR - 1, hold=True, verb=places), Refused)
    assert isinstance(subject.asks(NOON + HOUR, hold=True, verb=places), Granted)


def test_what_was_held_a_year_ahead_is_charged_a_lease_after_the_clock_is_set_back() -> None:
    subject, life = Subject("rate"), Total(10)
    subject.asks(NOON + YEAR, 7, hold=True, verb=life)
    subject.asks(NOON, 9, hold=True, verb=life)
    subject.asks(NOON + HOUR, 9, hold=True, verb=life)
    assert subject.balances[b"s", "limit"].used == 7


def test_a_settlement_finds_its_hold_whatever_the_clock_did() -> None:
    for at in (NOON - YEAR, NOON, NOON + HOUR + SECOND):
        subject, life = Subject("rate"), Total(10)
        subject.asks(NOON, 7, hold=True, verb=life)
        settle = Settle(b"1", (Demand((b"s", "limit"), life, 2),))
        change = apply(subject.balances, None, settle, at)
        assert change.balances[b"s", "limit"][:2] == ("total", 2)
        assert change.balances[b"s", "limit"].holds is None


def test_many_small_steps_back_add_up_to_a_large_one() -> None:
    subject, now = Subject("rolling"), NOON
    assert subject.admitted(now) == 10
    for _ in range(100):
        now -= 4 * SECOND
        assert subject.admitted(now, 2) == 0
    assert subject.locked_out(now) <= subject.longest + SKEW


def test_a_shadow_limit_follows_the_clock_too() -> None:
    verb, place = Rate(1, 60 * SECOND), (b"s", "limit")
    balances: dict[Place, Balance] = {}
    shadowed = []
    for n, now in enumerate((NOON + YEAR, NOON, NOON + 61 * SECOND)):
        change = apply(balances, None, Reserve(b"%d" % n, (Demand(place, verb, 1, shadow=True),), 1), now)
        balances.update(change.balances)
        shadowed.append(len(change.outcome.shadowed))  # type: ignore[union-attr]
    assert shadowed == [0, 1, 0]


def test_the_edges_of_a_lagging_gate_do_not_reopen_a_window_that_has_ended() -> None:
    stale = Quota(1, edges=(0, 100, 200, 300), spec=1)
    subject = Subject("quota")
    assert isinstance(subject.asks(250, verb=stale), Granted)
    assert isinstance(subject.asks(350, verb=stale), Refused)
