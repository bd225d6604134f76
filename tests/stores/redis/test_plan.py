"""Commands over several slots, against one ledger: without servers, with nodes and workers that fail."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.clock import SECOND
from headgate.errors import StoreError
from headgate.quota.command import (
    Cancel,
    Demand,
    Extend,
    Gone,
    Granted,
    Join,
    Look,
    Merge,
    Never,
    Outcome,
    Refused,
    Reserve,
    Settle,
    Settled,
)
from headgate.quota.ledger import followed
from headgate.quota.window import Max, Total
from headgate.stores.contract import Store
from headgate.stores.redis.script.codec import tag_of
from headgate.stores.redis.script.parcel import Give, Given, Take, Try, Undo, Weigh
from headgate.stores.redis.slots import errands, moving, raising
from headgate.stores.redis.slots.phases import SHORT
from headgate.stores.redis.slots.plan import Planner, waves
from headgate.testing import ManualClock
from headgate.testing.story import LEASE, answer, ask, granted, held, on, standing, used
from stores.redis.fake_cluster import FakeCluster, FakeStore
from stores.redis.scattered import ScatteredContract
from timing import took

HERE, THERE, YONDER = b"acme", b"org", b"group"
"""Subjects in three slots."""


class TestPlansOverAFakeCluster(ScatteredContract):
    def make_store(self, clock: ManualClock) -> Store:
        return FakeStore(FakeCluster(clock))

    def make_peer(self, store: Store, clock: ManualClock) -> Store:
        assert isinstance(store, FakeStore)
        return FakeStore(store.cluster)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "PAUSES", (0.0,))
    monkeypatch.setattr(moving, "PAUSES", (0.0, 0.0))


Story = Callable[[FakeStore, FakeCluster, ManualClock], Awaitable[None]]


def told(story: Story) -> Callable[[], None]:
    """A test of a story about one worker's store, its cluster and the clock."""

    def test() -> None:
        async def from_begin_to_end() -> None:
            clock = ManualClock()
            cluster = FakeCluster(clock)
            store = FakeStore(cluster)
            try:
                await story(store, cluster, clock)
            finally:
                await store.close()

        asyncio.run(from_begin_to_end())

    test.__name__ = story.__name__
    return test


async def quiet(store: FakeStore) -> None:
    """Until nothing is owed any more."""
    for _ in range(200):
        if store.planner is None or not len(store.planner.errands):
            return
        await asyncio.sleep(0)
    raise AssertionError("something is owed for ever")


def both(amount: int = 1, *, here: int = 9, there: int = 9, hold: bool = False) -> tuple[Demand, Demand]:
    return on("life", Total(here), amount, hold=hold), on("life", Total(there), amount, who=THERE, hold=hold)


# How a reservation goes.


@told
async def test_the_first_slot_is_tried_the_second_asked_in_earnest_and_the_first_confirmed_behind_the_answer(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    outcome = await ask(store, b"1", *both())
    assert isinstance(outcome, Granted)
    assert [b.used for b in outcome.balances if b] == [1, 1]
    assert [type(call) for call in cluster.calls] == [Try, Reserve, Settle]
    here, there = [await standing(store, demand) for demand in both()]
    assert here is not None
    assert there is not None
    assert (here.holds, there.holds) == (None, None)


@told
async def test_what_is_held_anyway_needs_no_confirmation(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    assert isinstance(await ask(store, b"1", *both(hold=True)), Granted)
    assert [type(call) for call in cluster.calls] == [Reserve, Reserve]
    clock.advance(microseconds=LEASE - 1)
    assert [await held(store, d) for d in both()] == [1, 1]


@told
async def test_of_three_slots_the_last_two_are_tried_side_by_side(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    three = (*both(), on("life", Total(9), who=YONDER))
    assert isinstance(await ask(store, b"1", *three), Granted)
    assert [type(call) for call in cluster.calls] == [Try] * 3 + [Settle] * 3
    assert [await used(store, d) for d in three] == [1, 1, 1]


@told
async def test_a_refusal_names_all_limits_whichever_slot_said_it_first(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    here, there = both(5, here=3, there=4)
    yonder = on("room", Total(9), who=YONDER)
    outcome = await ask(store, b"1", here, yonder, there._replace(place=(THERE, "other")))
    assert isinstance(outcome, Refused)
    assert outcome.refusals == (Never("life", 3), Never("other", 4))
    assert len(outcome.balances) == 3
    await quiet(store)
    assert [await used(store, d) for d in (here, yonder)] == [0, 0]
    assert not any(slot.receipts for slot in cluster.slots.values()), "a refusal leaves no receipt"


@told
async def test_a_refused_flood_costs_one_slot_once_it_is_known_which_is_full(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    here, there = both(here=100, there=3)
    for n in range(9):
        await ask(store, b"%d" % n, here, there)
    cluster.calls.clear()
    assert isinstance(await ask(store, b"late", here, there), Refused)
    assert [(type(c), c.demands[0].place[0]) for c in cluster.calls] == [(Try, THERE), (Weigh, HERE)]
    assert (await used(store, here), await used(store, there)) == (3, 3)


@told
async def test_a_refused_reservation_that_is_said_again_is_decided_anew(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    seat = on("seats", Max(1, LEASE), who=THERE, hold=True)
    await ask(store, b"other", seat)
    mine = (on("life", Total(9)), seat)
    assert isinstance(await ask(store, b"1", *mine), Refused)
    await answer(store, Settle(b"other", (seat,)))
    assert isinstance(await ask(store, b"1", *mine), Granted)
    assert isinstance(await ask(store, b"1", *mine), Granted)
    assert await used(store, mine[0]) == 1


@told
async def test_a_shadow_demand_refuses_nobody_in_any_slot(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    here, there = (d._replace(shadow=True) for d in both(here=1, there=2))
    yonder = on("life", Total(9), who=YONDER)
    outcomes = [await ask(store, b"%d" % n, here, there, yonder) for n in range(3)]
    assert all(isinstance(o, Granted) for o in outcomes)
    assert [len(o.shadowed) for o in outcomes if isinstance(o, Granted)] == [0, 1, 2]
    assert [await used(store, d) for d in (here, there, yonder)] == [1, 2, 3]


@told
async def test_nothing_is_asked_of_what_is_used_at_once_with_amount_0(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    full, empty = both(0, here=1)
    await ask(store, b"1", full.of(1))
    assert isinstance(await ask(store, b"2", full, empty), Granted)


# What comes in another order.


@told
async def test_a_cancellation_that_overtakes_is_kept_in_every_slot(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    assert isinstance(await answer(store, Cancel(b"1", both(), LEASE)), Settled)
    assert isinstance(await ask(store, b"1", *both()), Gone)
    assert [await standing(store, d) for d in both()] == [None, None]


@told
async def test_a_cancellation_between_the_phases_leaves_nothing_anywhere(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    peer = FakeStore(cluster)

    def overtaken(command: Any) -> str:
        if isinstance(command, Reserve):  # the second phase is about to begin
            cluster.fate = lambda command: "done"
            [only] = [d for d in both() if d.place == command.demands[0].place]
            peer.ask((Cancel(b"1", (only,), LEASE),), clock())
        return "done"

    cluster.fate = overtaken
    assert isinstance(await ask(store, b"1", *both()), Gone)
    await quiet(store)
    assert [(await used(store, d), await held(store, d)) for d in both()] == [(0, 0), (0, 0)]
    assert isinstance(await ask(store, b"1", *both()), Gone), "also where only the plan has cancelled it"


@told
async def test_a_cancellation_gives_back_before_the_confirmation_and_after_it(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    cluster.fate = lambda command: "silent" if isinstance(command, Settle) else "done"
    assert isinstance(await ask(store, b"1", *both()), Granted)
    await answer(store, Cancel(b"1", both(), LEASE))
    cluster.fate = lambda command: "done"
    await quiet(store)
    assert [await used(store, d) for d in both()] == [0, 0]
    assert isinstance(await ask(store, b"2", *both()), Granted)
    await quiet(store)
    await answer(store, Cancel(b"2", both(), LEASE))
    assert [await used(store, d) for d in both()] == [0, 0]


@told
async def test_a_settlement_and_a_renewal_are_the_same_before_the_confirmation_and_after_it(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    tokens = [on("tokens", Total(99), 20, who=who, hold=True) for who in (HERE, THERE)]
    for silent in (True, False):
        rid = b"%d" % silent
        unheard = lambda command: "silent" if silent and isinstance(command, Settle) else "done"  # noqa: B023, E731
        cluster.fate = unheard
        assert isinstance(await ask(store, rid, *both(), *tokens), Granted)
        more = Extend(rid, tuple(d.of(0) for d in tokens), LEASE, step=1)
        assert isinstance(await answer(store, more), Granted)
        cluster.fate = lambda command: "done"
        settled = await answer(store, Settle(rid, tuple(d.of(7) for d in tokens)))
        assert isinstance(settled, Settled)
        assert settled.added == (7, 7)
        await quiet(store)
    assert [await used(store, d) for d in (*both(), *tokens)] == [2, 2, 14, 14]


@told
async def test_an_extension_is_for_all_slots_or_for_none(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    tokens = [on("tokens", Total(size), 5, who=who, hold=True) for size, who in ((99, HERE), (8, THERE))]
    await ask(store, b"1", *tokens)
    refused = await answer(store, Extend(b"1", tuple(tokens), LEASE, step=1))
    assert isinstance(refused, Refused)
    assert [r.limit for r in refused.refusals] == ["tokens"]
    assert [await held(store, d) for d in tokens] == [5, 5]
    assert isinstance(await answer(store, Extend(b"1", tuple(d.of(3) for d in tokens), LEASE, step=1)), Granted)
    assert [await held(store, d) for d in tokens] == [8, 8]
    await answer(store, Settle(b"1", (tokens[1].of(1),)))
    assert isinstance(await answer(store, Extend(b"1", tuple(d.of(0) for d in tokens), LEASE, step=2)), Gone)


# Who fails.


@told
async def test_an_extension_of_what_was_moved_is_made_where_it_is_now_and_of_what_is_held_twice_at_both(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    async def extended(rid: bytes, amount: int) -> list[int]:
        first = Extend(rid, both(amount, hold=True), LEASE, 1)
        gone = await answer(store, first)
        assert isinstance(gone, Gone)
        here = [await held(store, demand) for demand in both()]
        again = followed(first, gone)
        assert again is not None
        assert isinstance(await answer(store, again), Granted)
        return [*here, await held(store, on("life", Total(9), who=YONDER))]

    group, (one, other) = on("life", Total(9), 0, who=YONDER), both()
    for amount in (1, 0):
        await ask(store, b"joined%d" % amount, *both(1, hold=True))
        await answer(store, Join(group, (other,)))
        assert await extended(b"joined%d" % amount, amount) == [1 + amount, 1 + amount, 1 + amount]
        await answer(store, Settle(b"joined%d" % amount, (one, other, group)))
        await ask(store, b"moved%d" % amount, *both(1, hold=True))
        await answer(store, Merge(group, (other,)))
        assert await extended(b"moved%d" % amount, amount) == [1, 0, 1 + amount]
        await answer(store, Settle(b"moved%d" % amount, (one, other, group)))


@told
async def test_a_second_slot_that_is_known_to_be_down_costs_nothing_anywhere(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    cluster.fate = lambda command: "down" if isinstance(command, Reserve) else "done"
    with pytest.raises(StoreError) as fault:
        await ask(store, b"1", *both())
    assert not fault.value.unknown
    await quiet(store)
    assert [(await used(store, d), await held(store, d)) for d in both()] == [(0, 0), (0, 0)]


@pytest.mark.parametrize("fate", ["lost", "silent", "late"])
def test_a_second_slot_that_does_not_answer_is_unknown_and_is_cancelled_whole(fate: str) -> None:
    @told
    async def story(store: FakeStore, cluster: FakeCluster, clock: ManualClock) -> None:
        cluster.fate = lambda command: fate if isinstance(command, Reserve) else "done"
        with pytest.raises(StoreError) as fault:
            await ask(store, b"1", *both())
        assert fault.value.unknown
        cluster.fate = lambda command: "done"
        clock.advance(microseconds=SHORT + SECOND)
        await answer(store, Cancel(b"1", both(), LEASE))
        cluster.arrive()
        assert [(await used(store, d), await held(store, d)) for d in both()] == [(0, 0), (0, 0)]

    story()


@told
async def test_what_is_admitted_without_an_answer_is_charged_in_full_if_nobody_cancels_it(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    cluster.fate = lambda command: "lost" if isinstance(command, Reserve) else "done"
    with pytest.raises(StoreError):
        await ask(store, b"1", *both())
    cluster.fate = lambda command: "done"
    clock.advance(microseconds=SHORT)
    await ask(store, b"2", *both())
    assert [await used(store, d) for d in both()] == [2, 2]


@told
async def test_what_could_not_be_taken_back_at_once_is_taken_back_later_even_after_the_lease(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    cluster.fate = lambda command: "down" if isinstance(command, Reserve | Undo) else "done"
    with pytest.raises(StoreError):
        await ask(store, b"1", *both())
    with pytest.raises(StoreError, match="taken back"):
        await ask(store, b"1", *both())
    clock.advance(microseconds=SHORT + SECOND)
    cluster.fate = lambda command: "down" if isinstance(command, Undo) else "done"
    await granted(store, both()[0], 1)
    await granted(store, both()[1], 1)
    cluster.fate = lambda command: "done"
    await quiet(store)
    assert [await used(store, d) for d in both()] == [1, 1]
    assert isinstance(await ask(store, b"1", *both()), Granted)


@told
async def test_a_confirmation_that_never_arrives_is_the_leases_to_make(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    cluster.fate = lambda command: "silent" if isinstance(command, Settle) else "done"
    assert isinstance(await ask(store, b"1", *both(here=1)), Granted)
    for _ in range(3):
        assert isinstance(await ask(store, b"2", *both(here=1)), Refused)
        clock.advance(microseconds=SHORT)
    cluster.fate = lambda command: "done"
    await quiet(store)
    assert [await used(store, d) for d in both()] == [1, 1]


@pytest.mark.parametrize("fate", ["silent", "down", "lost", "late"])
def test_a_refusal_stands_though_another_slot_does_not_answer_and_leaves_nothing_there(fate: str) -> None:
    @told
    async def story(store: FakeStore, cluster: FakeCluster, clock: ManualClock) -> None:
        full, mute, first = (on("life", Total(n), who=who) for n, who in ((0, HERE), (9, THERE), (9, YONDER)))
        assert tag_of(YONDER) < min(tag_of(HERE), tag_of(THERE)), "so that it is asked first"
        for rid in (b"nobody knows", b"it is known"):
            cluster.fate = lambda c: fate if isinstance(c, Try | Weigh) and c.demands[0] == mute else "done"
            outcome = await ask(store, rid, full, mute, first)
            assert isinstance(outcome, Refused)
            assert [r.limit for r in outcome.refusals] == ["life"]
            await quiet(store)
            cluster.arrive()
        clock.advance(microseconds=SHORT + SECOND)
        await ask(store, b"touch", *[d.of(0) for d in (mute, first)])
        assert [(await used(store, d), await held(store, d)) for d in (full, mute, first)] == [(0, 0)] * 3

    story()


@told
async def test_a_caller_that_is_cancelled_between_the_phases_has_reserved_nothing(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    for turns in range(6):
        call = asyncio.ensure_future(ask(store, b"%d" % turns, *both(here=99, there=99)))
        for _ in range(turns):
            await asyncio.sleep(0)
        before = call.done()
        call.cancel()
        outcomes = await asyncio.gather(call, return_exceptions=True)
        await quiet(store)
        if isinstance(outcomes[0], Granted):
            assert before
            await answer(store, Cancel(b"%d" % turns, both(here=99, there=99), LEASE))
        assert [(await used(store, d), await held(store, d)) for d in both()] == [(0, 0), (0, 0)]


@told
async def test_a_call_over_several_slots_keeps_one_deadline(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    def slow(commands: Any, now: int | None) -> asyncio.Future[list[Outcome]]:
        if isinstance(commands[0], Reserve):
            return asyncio.get_running_loop().create_future()
        return cluster.ask(commands, now)

    planner = Planner(slow, deadline=0.02, clock=clock)
    call = asyncio.ensure_future(planner.transact([Reserve(b"1", both(), LEASE)], clock()))
    seconds = await took(call, 0.02)
    with pytest.raises(StoreError, match=r"within 0\.02 s") as fault:
        call.result()
    assert fault.value.unknown
    assert seconds.own < 0.2
    assert [type(call) for call in cluster.calls] == [Try], "nothing is cancelled: the caller may want it counted"
    await planner.close()


@told
async def test_a_mistake_in_the_call_is_raised_and_leaves_nothing(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    here, there = both()
    with pytest.raises(ValueError, match="names a place twice"):
        await ask(store, b"1", here, there, there)
    await quiet(store)
    assert [(await used(store, d), await held(store, d)) for d in both()] == [(0, 0), (0, 0)]


@pytest.mark.parametrize("end", ["before", "after"])
@pytest.mark.parametrize("at", range(3))
def test_a_worker_that_dies_at_any_step_leaves_at_most_what_it_asked_for_and_holds_nothing(end: str, at: int) -> None:
    @told
    async def story(store: FakeStore, cluster: FakeCluster, clock: ManualClock) -> None:
        steps = deque([""] * at + [end])
        store.dies_at = lambda command: steps.popleft() if steps else ""
        call = asyncio.ensure_future(ask(store, b"1", *both()))
        for _ in range(9):
            await asyncio.sleep(0)
        admitted = call.done()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        clock.advance(microseconds=SHORT + SECOND)
        other = FakeStore(cluster)
        assert isinstance(await ask(other, b"2", *both()), Granted)
        spent = [await used(other, d) - 1 for d in both()]
        assert all(admitted <= one <= 1 for one in spent)
        assert [await held(other, d) for d in both()] == [0, 0]
        await other.close()

    story()


# Merges.


@told
async def test_sources_in_many_slots_give_at_once_and_all_is_taken_at_once(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    orgs = [on("life", Total(99), 2, who=b"org-%d" % n) for n in range(20)]
    for n, org in enumerate(orgs):
        await ask(store, b"%d" % n, org)
    cluster.calls.clear()
    group = on("life", Total(99), 0, who=YONDER)
    merged = await answer(store, Merge(group, tuple(orgs)))
    assert isinstance(merged, Settled)
    assert merged.balances[0] is not None
    assert merged.balances[0].used == 40
    kinds = [type(call) for call in cluster.calls]
    assert kinds == [Look] + [Give] * 20 + [Take] * 20 + [Given] * 20
    await asyncio.sleep(0)
    assert not any(slot.outbox for slot in cluster.slots.values())


@pytest.mark.parametrize("fate", ["lost", "silent", "down", "late"])
@pytest.mark.parametrize("step", [Give, Take, Given])
def test_a_merge_that_was_cut_off_anywhere_is_finished_by_the_next(step: type, fate: str) -> None:
    @told
    async def story(store: FakeStore, cluster: FakeCluster, clock: ManualClock) -> None:
        one, other = (on("life", Total(99), 10, who=who) for who in (HERE, THERE))
        group = on("life", Total(99), 0, who=YONDER)
        merge = Merge(group, (one, other))
        await ask(store, b"1", one)
        await ask(store, b"2", other)
        await ask(store, b"3", one._replace(hold=True))
        cluster.fate = lambda c: fate if type(c) is step and c.demands[0].place[0] in (HERE, YONDER) else "done"
        if step is Given:
            await answer(store, merge)
        else:
            with pytest.raises(StoreError) as fault:
                await answer(store, merge)
            assert fault.value.unknown
        cluster.fate = lambda command: "done"
        await ask(store, b"4", one)
        for _ in range(2):
            await answer(store, merge)
            cluster.arrive()
        await answer(store, merge)
        assert [await used(store, d) for d in (one, other, group)] == [0, 0, 30]
        settle = Settle(b"3", (one.of(3),))
        onward = followed(settle, await answer(store, settle))
        assert onward is not None
        await answer(store, onward)
        assert (await used(store, group), await held(store, group)) == (33, 0)

    story()


@told
async def test_a_parcel_left_for_another_group_goes_there_and_from_there_on(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    org, before, after = (on("life", Total(99), 7, who=who) for who in (HERE, THERE, YONDER))
    await ask(store, b"1", org._replace(hold=True))
    cluster.fate = lambda c: "down" if isinstance(c, Take) else "done"
    with pytest.raises(StoreError):
        await answer(store, Merge(before, (org,)))
    cluster.fate = lambda command: "done"
    await answer(store, Merge(after, (org, before)))
    assert [await held(store, d) for d in (org, before, after)] == [0, 0, 7]
    again: Any = Settle(b"1", (org.of(5),))
    while again is not None:
        again = followed(again, await answer(store, again))
    assert [await used(store, d) for d in (org, before, after)] == [0, 0, 5]


@told
async def test_a_merge_goes_on_behind_a_caller_that_has_given_up(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    one, group = on("life", Total(99), 10), on("life", Total(99), 0, who=YONDER)
    await ask(store, b"1", one)
    call = asyncio.ensure_future(answer(store, Merge(group, (one,))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await store.close()
    assert await used(store, group) == 10


@told
async def test_of_many_who_merge_the_same_at_once_two_do_it(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    one, group = on("life", Total(99), 10), on("life", Total(99), 0, who=YONDER)
    await ask(store, b"1", one)
    cluster.calls.clear()
    outcomes = await asyncio.gather(*[answer(store, Merge(group, (one,))) for _ in range(50)])
    assert all(isinstance(o, Settled) for o in outcomes)
    assert [type(call) for call in cluster.calls].count(Give) == 2
    assert await used(store, group) == 10


@told
async def test_a_confirmation_follows_a_merge_that_came_first(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    here, there = both()
    group = on("life", Total(99), 0, who=YONDER)
    cluster.fate = lambda command: "down" if isinstance(command, Settle) else "done"
    await ask(store, b"1", here, there)
    await answer(store, Merge(group, (here, there)))
    assert (await used(store, group), await held(store, group)) == (1, 1)
    cluster.fate = lambda command: "done"
    await quiet(store)
    assert (await used(store, group), await held(store, group)) == (2, 0)


# What goes together.


@told
async def test_commands_of_one_call_keep_their_order_where_they_share_a_place(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    one, other = both()
    group = on("life", Total(3), who=YONDER)
    await ask(store, b"1", one)
    outcomes = await store.transact(
        [
            Merge(group.of(0), (one, other)),
            Reserve(b"2", (group, on("room", Total(9))), LEASE),
            Reserve(b"3", (group,), LEASE),
            Reserve(b"4", (group,), LEASE),
            Look((group, one)),
        ]
    )
    assert [type(o).__name__ for o in outcomes] == ["Settled", "Granted", "Granted", "Refused", "Seen"]


def test_only_what_shares_a_place_or_a_reservation_waits() -> None:
    a, b, c = (on("life", Total(9), who=who) for who in (HERE, THERE, YONDER))
    commands = [
        Reserve(b"1", (a,), LEASE),
        Reserve(b"2", (a,), LEASE),
        Reserve(b"3", (b, c), LEASE),
        Settle(b"1", (a,)),
        Reserve(b"4", (a, b), LEASE),
        Look((c,)),
    ]
    assert waves(commands, [len(command.demands) > 1 for command in commands]) == [[0, 1, 2, 3], [4, 5]]


@told
async def test_a_fault_of_one_command_makes_the_call_unknown_if_another_was_done(
    store: FakeStore, cluster: FakeCluster, clock: ManualClock
) -> None:
    cluster.fate = lambda c: "down" if c.demands[0].place[0] == YONDER else "done"
    calls = [Reserve(b"1", both(), LEASE), Reserve(b"2", (on("life", Total(9), who=YONDER),), LEASE)]
    with pytest.raises(StoreError) as fault:
        await store.transact(calls)
    assert fault.value.unknown
    with pytest.raises(StoreError) as fault:
        await store.transact([Look((*both(), on("life", Total(9), who=YONDER)))])
    assert not fault.value.unknown


# All at once, at random.

FATES = ("done",) * 8 + ("lost", "silent", "down", "late", "slow", "slow")


class Client:
    """Asks, and does what the gate does: settles what was admitted, cancels what it does not know of."""

    def __init__(self, store: FakeStore, rid: bytes, demands: tuple[Demand, ...], ends: str) -> None:
        self.store, self.rid, self.demands, self.ends = store, rid, demands, ends
        self.charged: dict[Any, int] = {}

    async def run(self) -> None:
        try:
            outcome = await ask(self.store, self.rid, *self.demands)
        except StoreError as fault:
            if fault.unknown:
                await self.until_done(Cancel(self.rid, self.demands, LEASE))
            return
        if not isinstance(outcome, Granted):
            assert isinstance(outcome, Refused)
            return
        if self.ends == "cancel":
            await self.until_done(Cancel(self.rid, self.demands, LEASE))
            return
        held = tuple(d.of(d.amount // 2) for d in self.demands if d.hold)
        self.charged = {d.place: d.amount for d in (*self.demands, *held)}
        if held:
            await self.until_done(Settle(self.rid, held))

    async def until_done(self, command: Any) -> None:
        while True:
            try:
                await answer(self.store, command)
                return
            except StoreError:
                await asyncio.sleep(0)


def clients(many: int) -> st.SearchStrategy[list[tuple[int, tuple[Demand, ...], str]]]:
    def demand(who: bytes, limit: str, amount: int, hold: bool) -> Demand:
        return on(limit, Total(6), amount, who=who, hold=hold)

    places = st.builds(demand, st.sampled_from([HERE, THERE, YONDER]), st.sampled_from("xy"), st.integers(0, 3),
                       st.booleans())  # fmt: skip
    demands = st.lists(places, min_size=1, max_size=5, unique_by=lambda d: d.place).map(tuple)
    one = st.tuples(st.integers(0, 1), demands, st.sampled_from(["settle", "settle", "cancel"]))
    return st.lists(one, min_size=1, max_size=many)


EVERYWHERE = tuple(on(limit, Total(6), who=who) for who in (HERE, THERE, YONDER) for limit in "xy")


async def whole_story(
    asked: list[tuple[int, tuple[Demand, ...], str]], fates: list[str], moves: list[int], dies: int
) -> None:
    clock = ManualClock()
    cluster = FakeCluster(clock)
    stores = [FakeStore(cluster), FakeStore(cluster)]
    left, steps = deque(fates), iter(range(1_000_000))

    def fate(command: Any) -> str:
        # A hand-over of nothing: what is said until it is done must be done in the end.
        return left.popleft() if left else "done"

    cluster.fate = fate
    if dies >= 0:
        stores[1].dies_at = lambda command: ("before", "after")[dies % 2] if next(steps) == dies // 2 else ""
    all_of_them = [Client(stores[who], b"%d" % n, demands, ends) for n, (who, demands, ends) in enumerate(asked)]
    tasks = [asyncio.ensure_future(client.run()) for client in all_of_them]
    for move in moves:
        for _ in range(7):
            await asyncio.sleep(0)
        clock.advance(microseconds=move)
        cluster.arrive()
    living = [t for t, c in zip(tasks, all_of_them, strict=True) if not c.store.dead or t.done()]
    while pending := [t for t in living if not t.done() and not all_of_them[tasks.index(t)].store.dead]:
        await asyncio.sleep(0)
        cluster.arrive()
        if not pending:
            break
    for store in stores:
        if not store.dead:
            await quiet(store)
    cluster.arrive()
    cluster.fate = lambda command: "done"
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert result is None or isinstance(result, asyncio.CancelledError), result
    clock.advance(microseconds=LEASE + SECOND)
    after = FakeStore(cluster)
    for demand in EVERYWHERE:
        await ask(after, b"touch %s %s" % (demand.place[0], demand.place[1].encode()), demand.of(0))
        spent, still = await used(after, demand), await held(after, demand)
        admitted = sum(c.charged.get(demand.place, 0) for c in all_of_them)
        assert admitted <= 6, "never more than the limit"
        assert still == 0, "nothing is held when the leases are over"
        lost = [c for c in all_of_them if c.store.dead]
        most = sum(d.amount for c in lost for d in c.demands if d.place == demand.place)
        sure = sum(c.charged.get(demand.place, 0) for c in all_of_them if not c.store.dead)
        if lost:
            assert sure <= spent <= sure + most
        else:
            assert spent == admitted, "charged is what was admitted, to the unit"
    for store in (*stores, after):
        await store.close()


@given(clients(10), st.lists(st.sampled_from(FATES), max_size=60),
       st.lists(st.sampled_from([0, 0, 1_000, SHORT // 2]), max_size=6))  # fmt: skip
def test_whatever_fails_what_is_charged_is_what_was_admitted(
    asked: list[Any], fates: list[str], moves: list[int]
) -> None:
    asyncio.run(whole_story(asked, fates, moves, dies=-1))


@given(clients(10), st.lists(st.sampled_from(FATES), max_size=60),
       st.lists(st.sampled_from([0, 0, 1_000, SHORT // 2]), max_size=6), st.integers(0, 60))  # fmt: skip
def test_whoever_dies_whenever_no_more_is_charged_than_it_asked_for_and_never_less_than_was_admitted(
    asked: list[Any], fates: list[str], moves: list[int], dies: int
) -> None:
    asyncio.run(whole_story(asked, fates, moves, dies))


@given(st.lists(st.sampled_from(["one", "other", "merge", "back", "arrive"]), max_size=25),
       st.lists(st.sampled_from(FATES), max_size=60), st.booleans())  # fmt: skip
def test_whatever_fails_merges_neither_lose_nor_double_a_unit(
    said: list[str], fates: list[str], at_once: bool
) -> None:
    async def story() -> None:
        cluster = FakeCluster(ManualClock())
        store = FakeStore(cluster)
        left, charged = deque(fates), 0
        # A reservation's own faults apart: what has been merged before its cancellation stays charged, in any store.
        fails = (Give, Take, Given, Merge, Look)
        cluster.fate = lambda command: left.popleft() if left and isinstance(command, fails) else "done"
        one, other, group = (on("life", Total(1_000), who=who) for who in (HERE, THERE, YONDER))

        async def say(what: str, rid: bytes) -> None:
            nonlocal charged
            if what == "arrive":
                cluster.arrive()
            elif what in ("merge", "back"):
                # Another name of the group, and back again: what was cut off on its way there goes on from there.
                into, sources = (group, (one, other)) if what == "merge" else (other, (group, one))
                with suppress(StoreError):
                    await answer(store, Merge(into.of(0), sources))
            else:
                client = Client(store, rid, (one if what == "one" else other,), "settle")
                await client.run()
                charged += sum(client.charged.values())

        works = [say(what, b"%d" % n) for n, what in enumerate(said)]
        if at_once:
            await asyncio.gather(*works)
        else:
            for work in works:
                await work
        cluster.fate = lambda command: "done"
        await store.close()
        cluster.arrive()
        # Each place is named as a source once more: what a give that came late took out of it is found there.
        await answer(store, Merge(other.of(0), (group, one)))
        await answer(store, Merge(group.of(0), (one, other)))
        assert [await used(store, d) for d in (one, other, group)] == [0, 0, charged]
        await store.close()

    asyncio.run(story())


# How a group is joined.


def many(count: int, *, hold: bool = False) -> Join:
    orgs = [on("life", Total(9_000), 0, who=b"org-%d" % n) for n in range(count)]
    return Join(on("life", Total(9_000), 0, who=YONDER, hold=hold), tuple(orgs))


@pytest.mark.parametrize("things", [False, True], ids=["plain", "of different things"])
def test_a_join_of_many_is_read_in_pieces_and_comes_to_what_they_have_used(things: bool) -> None:
    named = (b"a thing.", b"another.")

    @told
    async def story(store: FakeStore, cluster: FakeCluster, clock: ManualClock) -> None:
        join = many(70, hold=things)
        for number, org in enumerate(join.sources):
            rid, said = b"%d" % number, Demand(org.place, org.verb, 2, hold=things)
            await ask(store, rid, said)
            if things:
                two = (named[number % 2], b"%08d" % number)
                await answer(store, Settle(rid, (said.of(0)._replace(things=two),)))
        asked: list[int] = []
        real = cluster.ask
        answered = 0

        def counting(commands: Any, now: int | None) -> Any:
            nonlocal answered
            future = real(commands, now)
            asked.append(len(asked) + 1 - answered)

            def done(_: Any) -> None:
                nonlocal answered
                answered += 1

            future.add_done_callback(done)
            return future

        cluster.ask = counting  # type: ignore[method-assign]
        [into, *_] = (await answer(store, join)).balances  # type: ignore[union-attr]
        assert into is not None
        assert into.used == (72 if things else 140)
        assert max(asked) <= (raising.SKETCHES if things else raising.PIECE), "at a time"

    story()


def test_a_join_by_itself_may_take_longer_than_a_request_waits() -> None:
    clock = ManualClock()
    cluster = FakeCluster(clock)

    def late(commands: Any, now: int | None) -> asyncio.Future[list[Any]]:
        async def after() -> list[Any]:
            await asyncio.sleep(0.01)
            return await cluster.ask(commands, now)

        return asyncio.ensure_future(after())

    async def story() -> None:
        planner = Planner(late, deadline=0.001, clock=clock)
        join = many(3)
        assert isinstance((await planner.transact([join], clock()))[0], Settled)
        with pytest.raises(StoreError, match="did not answer within"):
            await planner.transact([Look(join.demands)], clock())
        await planner.close()

    asyncio.run(story())


def test_a_join_goes_in_pieces_where_it_is_of_many_or_of_different_things() -> None:
    assert [raising.in_pieces(join) for join in (many(16), many(17), many(2, hold=True))] == [False, True, True]
    assert not raising.in_pieces(Look(many(40).demands))
