"""What each verb promises over any interval, by brute force, and beside another package's strategies."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from headgate.quota.balance import Balance, Verb
from headgate.quota.command import Demand, Granted, Never, NotYet, Outcome, Place, Reserve
from headgate.quota.gcra import Rate
from headgate.quota.ledger import apply
from headgate.quota.share import share_of
from headgate.quota.window import SUB_WINDOWS, Quota, Rolling, Total

SECOND = 1_000_000
BEGIN = 1_800_057_600 * SECOND
WINDOW = 24 * SECOND

steps = st.lists(st.tuples(st.integers(0, 30 * SECOND), st.integers(1, 6)), min_size=1, max_size=40)
floods = st.lists(st.tuples(st.integers(0, SECOND), st.integers(1, 2)), min_size=1, max_size=80)


class Subject:
    """One balance under one verb, and what passed: (instant, units)."""

    def __init__(self, verb: Verb) -> None:
        self.verb, self.balances, self.passed = verb, dict[Place, Balance](), list[tuple[int, int]]()

    def asks(self, now: int, amount: int) -> Outcome:
        rid = b"%d" % len(self.passed)
        change = apply(self.balances, None, Reserve(rid, (Demand((b"s", "l"), self.verb, amount),), 1), now)
        self.balances.update(change.balances)
        if isinstance(change.outcome, Granted):
            self.passed.append((now, amount))
        return change.outcome

    def runs(self, traffic: list[tuple[int, int]]) -> list[tuple[int, int]]:
        now = BEGIN
        for step, amount in traffic:
            now += step
            self.asks(now, amount)
        return self.passed


rates = st.builds(Rate, st.integers(1, 9), st.integers(1, 20 * SECOND), st.integers(0, 5))


@given(rate=rates, traffic=st.one_of(steps, floods))
def test_in_any_interval_a_rate_passes_its_capacity_and_what_drains_and_no_more(
    rate: Rate, traffic: list[tuple[int, int]]
) -> None:
    passed = Subject(rate).runs(traffic)
    for first, (begin, _) in enumerate(passed):
        units = 0
        for end, amount in passed[first:]:
            units += amount
            assert units <= rate.capacity + Fraction((end - begin) * rate.amount, rate.period)


@given(rate=rates)
def test_a_rate_that_is_used_steadily_gives_all_that_it_promises(rate: Rate) -> None:
    subject, now = Subject(rate), BEGIN
    for _ in range(50):
        outcome = subject.asks(now, 1)
        if not isinstance(outcome, Granted):
            [refusal] = outcome.refusals  # type: ignore[union-attr]
            now = refusal.at
    due = rate.capacity + Fraction((now - BEGIN) * rate.amount, rate.period)
    # Nothing is asked between two microseconds.
    assert sum(units for _, units in subject.passed) >= due - 1 - Fraction(rate.amount, rate.period)


@given(capacity=st.integers(1, 8), length=st.integers(1, 40 * SECOND), traffic=st.one_of(steps, floods))
def test_no_trailing_window_ever_holds_more_than_a_rolling_limit(
    capacity: int, length: int, traffic: list[tuple[int, int]]
) -> None:
    passed = Subject(Rolling(capacity, length)).runs(traffic)
    for end, _ in passed:
        assert sum(units for at, units in passed if end - length < at <= end) <= capacity


@given(capacity=st.integers(1, 8), traffic=st.one_of(steps, floods))
def test_a_rolling_limit_refuses_only_what_a_window_a_twenty_fourth_longer_would(
    capacity: int, traffic: list[tuple[int, int]]
) -> None:
    subject, now = Subject(Rolling(capacity, WINDOW)), BEGIN
    for step, amount in traffic:
        now += step
        longer = sum(units for at, units in subject.passed if at > now - WINDOW - WINDOW // SUB_WINDOWS)
        if longer + amount <= capacity:
            assert isinstance(subject.asks(now, amount), Granted)
        else:
            subject.asks(now, amount)


@given(capacity=st.integers(1, 8), lengths=st.lists(st.integers(1, 40), min_size=4, max_size=20), traffic=steps)
def test_each_calendar_window_holds_its_quota_and_is_used_to_the_full(
    capacity: int, lengths: list[int], traffic: list[tuple[int, int]]
) -> None:
    edges = [BEGIN]
    for length in lengths:
        edges.append(edges[-1] + length * SECOND)
    edges.append(edges[-1] + 10_000 * SECOND)
    subject, now = Subject(Quota(capacity, tuple(edges), spec=1)), BEGIN
    for step, amount in traffic:
        now += step
        opened = max(edge for edge in edges if edge <= now)
        used = sum(units for at, units in subject.passed if at >= opened)
        assert isinstance(subject.asks(now, amount), Granted) == (used + amount <= capacity)


verbs: st.SearchStrategy[Verb] = st.one_of(
    rates,
    st.builds(Rolling, st.integers(1, 9), st.integers(1, 20 * SECOND)),
    st.builds(Total, st.integers(0, 9)),
    st.builds(lambda units: Quota(units, (0, BEGIN, BEGIN + 40 * SECOND, BEGIN + 80 * SECOND), 1), st.integers(1, 9)),
    st.builds(lambda units: Quota(units, (), 1, length=20 * SECOND), st.integers(1, 9)),
)


@given(verb=verbs, traffic=steps.map(lambda traffic: traffic[:8]), amount=st.integers(1, 10))
def test_not_yet_names_the_first_instant_at_which_it_is_granted(
    verb: Verb, traffic: list[tuple[int, int]], amount: int
) -> None:
    subject, now = Subject(verb), BEGIN
    for step, units in traffic:
        now += step // 10
        subject.asks(now, units)
    outcome = subject.asks(now, amount)
    if isinstance(outcome, Granted):
        return
    [refusal] = outcome.refusals  # type: ignore[union-attr]
    before = dict(subject.balances)
    if isinstance(refusal, NotYet):
        assert not isinstance(subject.asks(refusal.at - 1, amount), Granted)
        assert isinstance(subject.asks(refusal.at, amount), Granted)
    else:
        assert isinstance(refusal, Never)
        assert amount > refusal.most
        assert not isinstance(subject.asks(now + 10**15, amount), Granted)
        subject.balances = before
        assert refusal.most == 0 or isinstance(subject.asks(now + 10**9, refusal.most), Granted)


@given(rate=rates, share=st.integers(1, 10_000))
def test_a_share_of_a_rate_is_no_more_than_its_part(rate: Rate, share: int) -> None:
    part = share_of(rate, share)
    assert isinstance(part, Rate)
    assert part.amount <= max(1, rate.amount * share // 10_000)
    assert part.burst <= rate.burst * share // 10_000
    assert part.period == rate.period


@given(amount=st.integers(1, 10**8), period=st.integers(1, 10**8), share=st.integers(1, 10_000))
def test_every_rate_that_can_be_counted_has_a_share_that_can(amount: int, period: int, share: int) -> None:
    try:
        rate = Rate(amount, period)
    except ValueError:
        return
    assert share_of(rate, share).capacity >= 1


@pytest.mark.parametrize("amount, period, burst", [(0, 1, 0), (1, 0, 0), (1, 1, -1), (10**9 + 7, 10**9, 0)])
def test_a_rate_that_cannot_be_counted_is_refused_when_it_is_made(amount: int, period: int, burst: int) -> None:
    with pytest.raises(ValueError):
        Rate(amount, period, burst)


class Peer:
    """A strategy of the `limits` package, by the same manual clock."""

    def __init__(self, strategy: Callable[[MemoryStorage], Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = BEGIN
        monkeypatch.setattr("limits.storage.memory.time.time", lambda: self.now / SECOND)
        # Its storage forgets on a timer of real time; it reads the clock besides, so that nothing needs the timer.
        monkeypatch.setattr(MemoryStorage, "_MemoryStorage__schedule_expiry", lambda storage: None)
        self.strategy = strategy(MemoryStorage())

    def hit(self, capacity: int, seconds: int) -> bool:
        return bool(self.strategy.hit(RateLimitItemPerSecond(capacity, seconds), "subject"))


# Whole eighths of a second: the other package counts time in floats, and these are exact.
eighths = st.lists(st.integers(0, 40).map(lambda n: n * SECOND // 8), min_size=1, max_size=60)


@given(capacity=st.integers(1, 6), seconds=st.integers(1, 9), gaps=eighths)
def test_windows_from_the_first_use_decide_as_limits_fixed_window_does(
    capacity: int, seconds: int, gaps: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        peer = Peer(FixedWindowRateLimiter, monkeypatch)
        subject = Subject(Quota(capacity, (), 1, length=seconds * SECOND))
        for gap in gaps:
            peer.now += gap
            assert isinstance(subject.asks(peer.now, 1), Granted) == peer.hit(capacity, seconds)


@given(capacity=st.integers(1, 6), seconds=st.integers(1, 9), gaps=eighths)
def test_what_a_rolling_limit_admits_limits_moving_window_admits_too(
    capacity: int, seconds: int, gaps: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        peer = Peer(MovingWindowRateLimiter, monkeypatch)
        subject = Subject(Rolling(capacity, seconds * SECOND))
        for gap in gaps:
            peer.now += gap
            if isinstance(subject.asks(peer.now, 1), Granted):
                assert peer.hit(capacity, seconds)
