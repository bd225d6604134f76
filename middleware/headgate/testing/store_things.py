"""The part of the store contract that is about different things: each counts once, as long as its window lasts.

Law: as for all of the contract (see `stores`). Up to a thousand things of one balance every count is exact and every
store's is the same; beyond, it is an estimate, and every store's is the same as well.
"""

# ruff: noqa: D102 - the name of each test is its sentence

from __future__ import annotations

import asyncio

import pytest

from headgate.clock import SECOND
from headgate.quota.balance import Verb
from headgate.quota.command import Cancel, Granted, Join, Merge, Refused, Settle, Settled
from headgate.quota.window import Quota, Total
from headgate.stores.contract import Store
from headgate.testing.clock import ManualClock
from headgate.testing.story import LEASE, Stories, answer, ask, held, naming, on, taken, told, used

DAY = 86_400 * SECOND


class ThingsContract(Stories):
    """Every test is a promise about demands that name things."""

    @told
    async def test_a_thing_counts_once_however_often_it_is_named(self, store: Store, clock: ManualClock) -> None:
        records = on("records", Total(100))
        for n, named in enumerate(((1, 2, 3), (2, 3, 4), (4,), (1, 2, 3, 4))):
            asked = naming(records, *named)
            assert isinstance(await ask(store, b"%d" % n, asked), Granted)
            assert isinstance(await answer(store, Settle(b"%d" % n, (asked,))), Settled)
        assert (await used(store, records), await held(store, records)) == (4, 0)

    @told
    async def test_what_was_named_before_is_granted_though_nothing_is_left(
        self, store: Store, clock: ManualClock
    ) -> None:
        records = on("records", Total(3))
        for n in range(3):
            await taken(store, b"%d" % n, naming(records, n))
        assert isinstance(await ask(store, b"new", naming(records, 3)), Refused)
        assert isinstance(await ask(store, b"partly new", naming(records, 2, 3)), Refused)
        assert isinstance(await ask(store, b"unknown", naming(records)), Refused), "it may be a new one"
        for n in range(3):
            assert isinstance(await ask(store, b"again-%d" % n, naming(records, n)), Granted)
        assert (await used(store, records), await held(store, records)) == (3, 0)

    @told
    async def test_only_new_things_are_held_and_their_settlement_may_arrive_twice(
        self, store: Store, clock: ManualClock
    ) -> None:
        records = on("records", Total(100))
        await taken(store, b"1", naming(records, 1, 2))
        more = naming(records, 1, 2, 3, 4, 5)
        assert isinstance(await ask(store, b"2", more), Granted)
        assert await held(store, records) == 3
        for _ in range(3):
            assert isinstance(await answer(store, Settle(b"2", (naming(records, 3, amount=2),))), Settled)
        assert (await used(store, records), await held(store, records)) == (2 + 1 + 2, 0)
        await answer(store, Settle(b"nobody's", (naming(records, 9),)))
        assert await used(store, records) == 5

    @told
    async def test_things_that_are_known_only_afterwards_are_named_when_it_is_settled(
        self, store: Store, clock: ManualClock
    ) -> None:
        records = on("records", Total(10_000), 5, hold=True)
        for n in range(4):
            await ask(store, b"%d" % n, records)
            settled = await answer(store, Settle(b"%d" % n, (naming(records, *range(n * 10, n * 10 + 20)),)))
            assert isinstance(settled, Settled)
            assert settled.added == (20 if n == 0 else 10,)
        assert (await used(store, records), await held(store, records)) == (50, 0)

    @told
    async def test_a_cancellation_gives_back_what_was_held_for_things_and_nothing_is_known_of_them(
        self, store: Store, clock: ManualClock
    ) -> None:
        records = on("records", Total(3))
        await taken(store, b"1", naming(records, 1))
        await ask(store, b"2", naming(records, 1, 2, 3))
        await answer(store, Cancel(b"2", (naming(records, 1, 2, 3),), LEASE))
        assert (await used(store, records), await held(store, records)) == (1, 0)
        await taken(store, b"3", naming(records, 2, 3))
        assert await used(store, records) == 3

    @told
    async def test_things_whose_worker_was_slow_are_charged_as_held_and_then_as_they_were(
        self, store: Store, clock: ManualClock
    ) -> None:
        records = on("records", Total(100))
        for name in (b"too many", b"too few"):
            await ask(store, name, naming(records, *range(10)))
        clock.advance(microseconds=LEASE + 10 * SECOND)
        for _ in range(2):
            await answer(store, Settle(b"too many", (naming(records, 1, 2),)))
        assert await used(store, records) == 2 + 10
        await answer(store, Settle(b"too few", (naming(records, *range(30)),)))
        assert await used(store, records) == 2 + 28
        await taken(store, b"next", naming(records, *range(31)))
        assert await used(store, records) == 31

    @told
    async def test_a_new_window_knows_no_thing(self, store: Store, clock: ManualClock) -> None:
        begun = clock.now
        edges = tuple(begun + n * DAY for n in range(-1, 4))
        day, later = on("records", Quota(5, edges, spec=1)), on("records", Quota(5, (), spec=2, length=DAY), who=b"b")
        for records in (day, later):
            await taken(store, records.place[0] + b"1", naming(records, 1, 2, 3))
            await taken(store, records.place[0] + b"2", naming(records, 1, 2, 3))
            assert await used(store, records) == 3
        clock.now = begun + DAY
        for records in (day, later):
            assert isinstance(await ask(store, records.place[0] + b"3", naming(records, 1, 2, 7)), Granted)
            assert await held(store, records) == 3
            await answer(store, Settle(records.place[0] + b"3", (naming(records, 1, 2, 7),)))
            await taken(store, records.place[0] + b"4", naming(records, 2, 7, 8))
            assert await used(store, records) == 4

    @told
    async def test_of_more_things_than_a_list_has_the_number_is_estimated_alike_by_all(
        self, store: Store, clock: ManualClock
    ) -> None:
        records = on("records", Total(50_000))
        for n in range(8):
            await taken(store, b"%d" % n, naming(records, *range(n * 700, n * 700 + 900)))
            if n == 0:
                assert await used(store, records) == 900
        estimate = await used(store, records)
        # The last step to a sketch may have charged a little more than its estimate: what is charged stays charged.
        assert abs(estimate - 5_800) <= 0.02 * 5_800
        await taken(store, b"again", naming(records, *range(3_000, 4_000)))
        assert await used(store, records) == estimate
        assert isinstance(await ask(store, b"whichever", naming(records, 1, 2)), Granted)
        assert await held(store, records) == 2, "nobody can tell whether they are new"

    @told
    async def test_what_two_orgs_have_named_counts_once_when_they_are_merged(
        self, store: Store, clock: ManualClock
    ) -> None:
        one, other, group = (on("records", Total(100), 0, who=who) for who in (b"one", b"other", b"group"))
        await taken(store, b"1", naming(one, *range(8)))
        await taken(store, b"2", naming(other, *range(5, 12)))
        for _ in range(3):
            await answer(store, Merge(group, (one, other)))
        assert [await used(store, each) for each in (group, one, other)] == [12, 0, 0]
        await taken(store, b"3", naming(group, *range(12)))
        assert await used(store, group) == 12
        await taken(store, b"4", naming(one, 0, 1, 99))
        assert await used(store, one) == 3, "what was moved is known there no more"
        await answer(store, Merge(group, (one, other)))
        assert await used(store, group) == 13

    @told
    async def test_a_merge_of_many_things_counts_their_union(self, store: Store, clock: ManualClock) -> None:
        one, other, group = (on("records", Total(9_000), 0, who=who) for who in (b"one", b"other", b"group"))
        await taken(store, b"1", naming(one, *range(2_000)))
        await taken(store, b"2", naming(other, *range(1_000, 1_900)))
        await answer(store, Merge(group, (one, other)))
        union = await used(store, group)
        assert abs(union - 2_000) <= 0.03 * 2_000
        await taken(store, b"3", naming(group, *range(2_000)))
        assert await used(store, group) == union

    @told
    async def test_a_group_is_raised_to_the_union_of_what_its_orgs_have_named(
        self, store: Store, clock: ManualClock
    ) -> None:
        one, other, group = (on("records", Total(100), 0, who=who) for who in (b"one", b"other", b"group"))
        await taken(store, b"1", naming(one, *range(8)))
        await taken(store, b"2", naming(other, *range(5, 12)))
        for _ in range(3):
            await answer(store, Join(group, (one, other)))
        assert [await used(store, each) for each in (group, one, other)] == [12, 8, 7]
        await taken(store, b"3", naming(group, *range(12)))
        assert await used(store, group) == 12
        await taken(store, b"4", naming(one, 0, 1, 99))
        assert await used(store, one) == 9, "what it named before is known there"
        await answer(store, Join(group, (one, other)))
        assert await used(store, group) == 13

    @told
    async def test_a_join_of_many_things_counts_their_union(self, store: Store, clock: ManualClock) -> None:
        one, other, group = (on("records", Total(9_000), 0, who=who) for who in (b"one", b"other", b"group"))
        await taken(store, b"1", naming(one, *range(2_000)))
        await taken(store, b"2", naming(other, *range(1_000, 1_900)))
        for _ in range(2):
            await answer(store, Join(group, (one, other)))
        union = await used(store, group)
        assert abs(union - 2_000) <= 0.03 * 2_000
        await taken(store, b"3", naming(group, *range(2_000)))
        assert await used(store, group) == union

    @told
    async def test_a_window_that_takes_over_what_was_used_takes_over_what_was_named(
        self, store: Store, clock: ManualClock
    ) -> None:
        edges = tuple(clock.now + n * DAY for n in range(-1, 4))
        day, week = Quota(9_000, edges, spec=1), Quota(9_000, (edges[0] - DAY, *edges[2:]), spec=3)
        for number, many in enumerate((3, 1_500)):
            records = on("records", day, who=b"who-%d" % number)
            await taken(store, b"a%d" % number, naming(records, *range(many)))
            before = await used(store, records)
            others: tuple[Verb, ...] = (week, Total(9_000), day)
            for turn, other in enumerate(others):
                again = naming(records._replace(verb=other), *range(many))
                held_back = again._replace(things=())
                await ask(store, b"b%d-%d" % (number, turn), held_back)
                await answer(store, Settle(b"b%d-%d" % (number, turn), (again,)))
                assert await used(store, again) == before, "it was named before"

    @told
    async def test_things_outlive_closing(self, store: Store, clock: ManualClock) -> None:
        few, many = on("records", Total(9_000)), on("records", Total(9_000), who=b"many")
        await taken(store, b"1", naming(few, 1, 2, 3))
        await taken(store, b"2", naming(many, *range(1_500)))
        before = await used(store, many)
        await store.close()
        await taken(store, b"3", naming(few, 1, 2, 3, 4))
        await taken(store, b"4", naming(many, *range(1_500)))
        assert (await used(store, few), await used(store, many)) == (4, before)

    @told
    async def test_workers_that_share_a_store_know_the_same_things(self, store: Store, clock: ManualClock) -> None:
        peer = self.make_peer(store, clock)
        if peer is None:
            pytest.skip("this store is not shared")
        try:
            records = on("records", Total(9_000))
            await asyncio.gather(
                *[
                    taken(worker, b"%d-%d" % (n, m), naming(records, *range(m, m + 5)))
                    for n, worker in enumerate((store, peer))
                    for m in range(20)
                ]
            )
            assert (await used(store, records), await held(peer, records)) == (24, 0)
        finally:
            await peer.close()
