"""`take`, the way of nearly every request, does what its three steps do, whatever it finds."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from headgate.quota.balance import CLOCK_SKEW, Balance, Verb, taken
from headgate.quota.gcra import Rate
from headgate.quota.window import Max, Quota, Rolling, Total

DAY = 86_400_000_000
VERBS: tuple[Verb, ...] = (
    Rate(3, 60_000_000),
    Rate(7, 60_000_000, burst=5),
    Rate(1_000_003, 1_000_000),
    Quota(5, (0, DAY, 2 * DAY, 3 * DAY), spec=1),
    Quota(9, (0, DAY // 2, DAY, 3 * DAY // 2), spec=2),
    Quota(5, (), spec=3, length=DAY),
    Rolling(6, length=DAY),
    Rolling(6, length=240),
    Max(4, lease=1_000),
    Total(8),
)
verbs = st.sampled_from(VERBS)
instants = st.one_of(st.integers(0, 3 * DAY), st.integers(DAY - 1_000, DAY + 1_000))
amounts = st.integers(0, 4)


@st.composite
def histories(draw: st.DrawFn) -> Balance | None:
    """A balance as some verbs may have left it: mostly one and the same, now and then another one's."""
    balance: Balance | None = None
    mine, now = draw(verbs), draw(instants)
    for _ in range(draw(st.integers(0, 6))):
        now = max(0, now + draw(st.sampled_from((0, 1, 17, DAY // 24, DAY, -1, -CLOCK_SKEW - 1, -DAY))))
        verb = draw(st.sampled_from((mine, mine, mine, draw(verbs))))
        balance = verb.put(verb.bring(balance, now), draw(amounts), None, now)
    return balance


@given(
    histories(), verbs, amounts, instants, st.sampled_from((0, 0, -1, 1, CLOCK_SKEW, -CLOCK_SKEW, -CLOCK_SKEW - 1))
)
@example(None, VERBS[0], 4, 0, 0)
def test_taking_is_bringing_freeing_and_putting(
    balance: Balance | None, verb: Verb, amount: int, now: int, step: int
) -> None:
    at = now if balance is None or step == 0 else max(0, balance.since + step)
    assert verb.take(balance, amount, at) == taken(verb, balance, amount, at)


@given(histories(), verbs, amounts)
def test_taking_again_and_again_is_the_same_as_step_by_step(balance: Balance | None, verb: Verb, amount: int) -> None:
    now = DAY if balance is None else balance.since
    for _ in range(12):
        by_steps = taken(verb, balance, amount, now)
        assert verb.take(balance, amount, now) == by_steps
        balance, now = by_steps or balance, now + 1_000
