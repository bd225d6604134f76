"""When a server is left alone, and when it is tried again: times and lots are handed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.stores.redis.wire.breaker import FEW, FIRST, PACE, SPAN, SPREAD, Breaker


def opened(at: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FEW):
        breaker.failed(at, jitter=0.0, silent=False)
    assert breaker.open
    return breaker


def test_what_says_no_a_few_times_is_left_alone_at_once() -> None:
    breaker = Breaker()
    for n in range(FEW - 1):
        breaker.failed(100.0, jitter=0.0, silent=False)
        assert breaker.admits(100.0, jitter=0.0), n
    breaker.failed(100.0, jitter=0.0, silent=False)
    assert not breaker.admits(100.0, jitter=0.0)


def test_one_pause_of_a_server_is_no_reason_to_leave_it_alone() -> None:
    breaker = Breaker()
    for n in range(50):
        breaker.failed(100.0 + n / 1_000, jitter=0.0)
    assert not breaker.open
    breaker.failed(100.0 + SPAN * 1.01, jitter=0.0)
    assert breaker.open


def test_an_answer_between_failures_makes_them_begin_anew() -> None:
    breaker = Breaker()
    for n in range(200):
        breaker.failed(100.0 + n, jitter=0.0, silent=False)
        if n % (FEW - 1) == 0:
            breaker.succeeded()
        assert not breaker.open


def test_the_first_probe_comes_soon_and_the_next_ones_a_second_apart() -> None:
    breaker = opened(100.0)
    assert not breaker.admits(100.0 + FIRST * 0.99, jitter=0.0)
    assert breaker.admits(100.0 + FIRST, jitter=0.0)
    assert not breaker.admits(100.0 + FIRST + PACE * 0.99, jitter=0.0)
    assert breaker.admits(100.0 + FIRST + PACE, jitter=0.0)


def test_a_probe_that_fails_keeps_it_open_and_one_that_is_answered_closes_it() -> None:
    breaker = opened(100.0)
    assert breaker.admits(101.0, jitter=0.5)
    breaker.failed(101.2, jitter=0.5)
    assert breaker.open
    assert not breaker.admits(101.9, jitter=0.5)
    assert breaker.admits(102.3, jitter=0.5)
    breaker.succeeded()
    assert all(breaker.admits(102.3, jitter=0.5) for _ in range(100))


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from(("ask", "fail", "fail silently")), st.floats(0, 0.999))))
def test_whatever_happens_there_is_at_most_one_probe_a_second_and_at_least_one_in_a_second_and_a_half(
    story: list[tuple[float, str, float]],
) -> None:
    breaker, now, probes = opened(0.0), 0.0, [float("-inf")]
    for passed, event, lot in story:
        now += passed
        if event == "ask":
            if breaker.admits(now, lot):
                assert now - probes[-1] >= PACE
                probes.append(now)
            else:
                assert now - max(probes[-1], 0.0) < PACE + SPREAD
        else:
            breaker.failed(now, lot, silent=event == "fail silently")
        assert breaker.open
