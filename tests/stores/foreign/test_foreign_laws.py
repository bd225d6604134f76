"""What a store behind `limits` decides is what the specification decides, wherever it can count at all.

A `rate` is counted otherwise there; of it the law alone is asked, which bounds what passes in any stretch of time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.clock import MILLISECOND, SECOND
from headgate.quota.balance import Balance, Verb
from headgate.quota.command import Cancel, Command, Demand, Granted, Look, Outcome, Place, Receipt, Refused, Reserve
from headgate.quota.decision import reading
from headgate.quota.gcra import Rate
from headgate.quota.ledger import apply
from headgate.quota.window import Quota, Rolling, Total
from headgate.stores.foreign.windows import window_of
from headgate.testing import ManualClock

MINUTE, LEASE = 60 * SECOND, 60 * SECOND

STEPS = st.sampled_from((0, 1, 40 * MILLISECOND, SECOND, 7 * SECOND, 61 * SECOND, 400 * SECOND, 3_700 * SECOND))


def verb_of(limit: str, more: int, now: int) -> Verb:
    begun = now - now % MINUTE
    edges = tuple(begun + n * MINUTE for n in range(-1, 3))
    verbs: dict[str, Verb] = {
        "minute": Quota(6 + more, edges, spec=1),
        "hour": Rolling(20 + more, 60 * MINUTE),
        "life": Total(30 + more),
    }
    return verbs[limit]


DEMAND = st.tuples(
    st.sampled_from([(who, limit) for who in (b"one", b"other") for limit in ("minute", "hour", "life")]),
    st.sampled_from((0, 0, 0, 3)),
    st.sampled_from((0, 1, 1, 1, 2, 5, 40)),
    st.sampled_from((False, False, False, True)),
)
STORY = st.lists(
    st.tuples(STEPS, st.lists(DEMAND, min_size=1, max_size=4, unique_by=lambda d: d[0]), st.integers(0, 9)),
    max_size=40,
)


@given(story=STORY)
def test_it_decides_as_the_specification_does(story: Any, in_memory: Any) -> None:
    async def told() -> None:
        clock = ManualClock()
        store = in_memory()(clock)
        balances: dict[Place, Balance] = {}
        receipts: dict[bytes, Receipt] = {}
        asked: list[Command] = []
        for number, (step, wanted, kind) in enumerate(story):
            clock.now += step
            demands = tuple(
                Demand(place, verb_of(place[1], more, clock.now), amount, shadow=shadow)
                for place, more, amount, shadow in wanted
            )
            command: Command = Reserve(b"%d" % number, demands, LEASE)
            if kind == 0:
                command = Look(demands)
            elif kind < 3 and asked:
                earlier: Any = asked[-1]
                command = Cancel(earlier.rid, earlier.demands, LEASE) if kind == 1 else earlier
            asked += [command] if isinstance(command, Reserve) else []
            [outcome] = await store.transact((command,))
            rid = getattr(command, "rid", b"")
            change = apply(balances, receipts.get(rid), command, clock.now)
            balances.update(change.balances)
            if change.receipt is not None:
                receipts[rid] = change.receipt
            assert compared(command, outcome) == compared(command, change.outcome), command

    asyncio.run(told())


def compared(command: Command, outcome: Outcome) -> tuple[Any, ...]:
    """An outcome as its reader takes it: what it is, why, and what is left."""
    balances: Sequence[Balance | None] = getattr(outcome, "balances", ())
    pairs = zip(command.demands, balances, strict=True) if balances else ()
    return (
        type(outcome).__name__,
        getattr(outcome, "refusals", ()),
        getattr(outcome, "shadowed", ()),
        [(found.used, found.left) for found in [reading(d, b, outcome.now) for d, b in pairs]],
    )


@given(
    amount=st.integers(1, 20), burst=st.integers(0, 30), period=st.sampled_from((SECOND, 7 * SECOND, MINUTE)),
    asks=st.lists(st.tuples(STEPS, st.integers(1, 9)), max_size=60),
)  # fmt: skip
def test_a_rate_lets_no_more_pass_than_it_may_in_any_stretch_of_time(
    amount: int, burst: int, period: int, asks: list[tuple[int, int]], in_memory: Any
) -> None:
    rate = Rate(amount, period, burst)

    async def told() -> list[tuple[int, int]]:
        clock, passed = ManualClock(), []
        store = in_memory()(clock)
        for number, (step, units) in enumerate(asks):
            clock.now += step
            [outcome] = await store.transact(
                (Reserve(b"%d" % number, (Demand((b"one", "rpm"), rate, units),), LEASE),)
            )
            if isinstance(outcome, Granted):
                passed.append((clock.now, units))
            else:
                assert isinstance(outcome, Refused)
        return passed

    passed = asyncio.run(told())
    for first, (begun, _) in enumerate(passed):
        units = 0
        for at, more in passed[first:]:
            units += more
            assert units * period <= rate.capacity * period + (at - begun) * amount


@pytest.mark.parametrize("limit", ["minute", "hour", "life"])
def test_no_two_places_and_no_two_windows_share_a_key(limit: str) -> None:
    now = ManualClock().now
    places = [(b"a", limit), (b"a:", limit), (b"", "a" + limit), (b"a", limit + " "), (b"b", limit)]
    keys = [window_of(place, verb_of(place[1].strip("a "), 0, now), now).key for place in places]
    keys.append(window_of(places[0], Rolling(9, 59 * MINUTE), now).key)
    keys.append(window_of(places[0], Quota(9, (now - 1, now, now + 9, now + 10), 2), now).key)
    assert len(set(keys)) == len(keys)
    assert all(len(key) < 80 and key.isascii() and not set(key) & set(" \r\n\t\0") for key in keys)
