"""The shipped contract suite on stores behind `limits`: what holds there, and what does not, test by test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from limits.aio.storage import MemoryStorage

from headgate.errors import StoreError
from headgate.quota.command import (
    Cancel,
    Command,
    Extend,
    Gone,
    Granted,
    Join,
    Merge,
    Reserve,
    Settle,
    Settled,
)
from headgate.quota.gcra import Rate
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores.contract import Store
from headgate.stores.foreign import ForeignStore
from headgate.stores.foreign.counters import Counters
from headgate.stores.foreign.promises import WEAKER
from headgate.testing import ManualClock
from headgate.testing.store_things import ThingsContract
from headgate.testing.stores import DAY, MINUTE, StoreContract
from headgate.testing.story import LEASE, answer, ask, granted, naming, on, standing, told, used

SHOWN: set[str] = set()
"""Which of the weaker promises a test below shows to be weaker."""


def shows(name: str) -> Callable[[Any], Any]:
    """Marks a test that shows how a promise is weaker."""
    SHOWN.add(name)
    return lambda test: test


def weaker(name: str, test: Any) -> Any:
    """The contract's test as one that must fail here: if it ever holds, the promise is weaker no more."""
    SHOWN.add(name)

    def fails(self: Any) -> None:
        with pytest.raises((AssertionError, StoreError)):
            test(self)

    fails.__name__ = test.__name__
    return fails


def without_things(contract: type) -> type:
    """Every test about different things as one that must fail here."""
    for name, test in vars(ThingsContract).items():
        if name.startswith("test_"):
            setattr(contract, name, weaker("holds", test))
    return contract


@without_things
class ForeignContract(StoreContract):
    """What is not written here holds as it does everywhere."""

    test_an_extension_that_arrives_twice_is_added_once = weaker(
        "holds", StoreContract.test_an_extension_that_arrives_twice_is_added_once
    )
    test_a_settlement_replaces_what_was_held_and_twice_is_once = weaker(
        "holds", StoreContract.test_a_settlement_replaces_what_was_held_and_twice_is_once
    )
    test_a_settlement_of_what_was_never_reserved_changes_nothing = weaker(
        "holds", StoreContract.test_a_settlement_of_what_was_never_reserved_changes_nothing
    )
    test_a_cancellation_gives_back_once_and_only_what_was_its_own = weaker(
        "holds", StoreContract.test_a_cancellation_gives_back_once_and_only_what_was_its_own
    )
    test_commands_of_one_call_are_applied_in_their_order = weaker(
        "holds", StoreContract.test_commands_of_one_call_are_applied_in_their_order
    )
    test_a_look_changes_nothing = weaker("holds", StoreContract.test_a_look_changes_nothing)
    test_a_lease_that_ends_charges_what_was_held_and_frees_the_place = weaker(
        "holds", StoreContract.test_a_lease_that_ends_charges_what_was_held_and_frees_the_place
    )
    test_a_settlement_after_the_lease_corrects_the_charge_once = weaker(
        "holds", StoreContract.test_a_settlement_after_the_lease_corrects_the_charge_once
    )
    test_many_open_holds_of_one_balance_are_kept_apart = weaker(
        "holds", StoreContract.test_many_open_holds_of_one_balance_are_kept_apart
    )
    test_what_is_held_as_owed_is_held_whatever_is_free = weaker(
        "holds", StoreContract.test_what_is_held_as_owed_is_held_whatever_is_free
    )
    test_debts_without_end_are_counted_up_to_the_largest_number = weaker(
        "holds", StoreContract.test_debts_without_end_are_counted_up_to_the_largest_number
    )
    test_what_was_counted_outlives_closing = weaker("holds", StoreContract.test_what_was_counted_outlives_closing)
    test_workers_that_share_a_store_share_every_count = weaker(
        "holds", StoreContract.test_workers_that_share_a_store_share_every_count
    )
    test_a_merge_moves_what_was_used_and_held_and_moves_it_once = weaker(
        "merging", StoreContract.test_a_merge_moves_what_was_used_and_held_and_moves_it_once
    )
    test_a_join_raises_a_group_to_what_its_orgs_have_used_and_leaves_it_to_them = weaker(
        "merging", StoreContract.test_a_join_raises_a_group_to_what_its_orgs_have_used_and_leaves_it_to_them
    )
    test_what_is_held_when_orgs_are_joined_is_held_by_both_until_it_is_settled = weaker(
        "holds", StoreContract.test_what_is_held_when_orgs_are_joined_is_held_by_both_until_it_is_settled
    )
    test_orgs_whose_windows_differ_are_brought_to_that_of_their_group = weaker(
        "merging", StoreContract.test_orgs_whose_windows_differ_are_brought_to_that_of_their_group
    )
    test_a_rate_grants_its_amount_at_once_and_then_as_time_passes = weaker(
        "rate", StoreContract.test_a_rate_grants_its_amount_at_once_and_then_as_time_passes
    )
    test_a_limit_that_changes_keeps_what_was_used = weaker(
        "windows", StoreContract.test_a_limit_that_changes_keeps_what_was_used
    )
    test_a_clock_that_is_set_back_opens_no_window = weaker(
        "clocks", StoreContract.test_a_clock_that_is_set_back_opens_no_window
    )
    test_a_clock_that_was_set_back_locks_nobody_out = weaker(
        "clocks", StoreContract.test_a_clock_that_was_set_back_locks_nobody_out
    )

    def test_the_store_answers_as_the_specification_does(self) -> None:
        """It does for what it can count: test_foreign_laws.py."""

    def test_clocks_that_differ_a_little_open_no_window_twice(self) -> None:
        """Windows of the calendar are kept apart here, so that one that has ended does not begin anew: see below."""

    # What holds of the tests above, without what is held.

    @told
    async def test_a_cancellation_gives_back_once_what_was_used_at_once(
        self, store: Store, clock: ManualClock
    ) -> None:
        life, hour = on("life", Total(100), 4), on("hour", Rolling(100, 60 * MINUTE), 3)
        shadow = on("shadow", Total(100), 2)._replace(shadow=True)
        await ask(store, b"1", life, hour, shadow)
        await ask(store, b"2", life, hour)
        clock.advance(50)
        for _ in range(3):
            assert isinstance(await answer(store, Cancel(b"1", (life, hour, shadow), LEASE)), Settled)
        assert [await used(store, each) for each in (life, hour, shadow)] == [4, 3, 2]
        assert isinstance(await ask(store, b"1", life), Gone)

    @told
    async def test_closing_forgets_nothing(self, store: Store, clock: ManualClock) -> None:
        life = on("life", Total(9), 5)
        await ask(store, b"1", life)
        await store.close()
        assert isinstance(await ask(store, b"1", life), Granted), "the verdict is remembered"
        assert await used(store, life) == 5

    @told
    async def test_workers_share_every_count(self, store: Store, clock: ManualClock) -> None:
        peer = self.make_peer(store, clock)
        assert peer is not None
        for limit in (on("life", Total(10)), on("hour", Rolling(10, 60 * MINUTE)), on("rpm", Rate(10, MINUTE))):
            passed = [
                await granted(worker, limit, 7, b"%b-%d-%d" % (limit.place[1].encode(), turn, n))
                for turn in range(2)
                for n, worker in enumerate((store, peer))
            ]
            assert sum(passed) == 10
        await peer.close()

    @told
    async def test_an_amount_that_changes_keeps_what_was_used(self, store: Store, clock: ManualClock) -> None:
        edges = tuple(clock.now + n * DAY for n in range(4))
        for verb in (lambda n: Quota(n, edges, 1), lambda n: Rolling(n, 60 * MINUTE), lambda n: Rate(n, MINUTE)):
            name = verb(1).kind
            assert await granted(store, on(name, verb(4)), 4, b"before" + name.encode()) == 4
            assert await granted(store, on(name, verb(6)), 9, b"more" + name.encode()) == 2
            assert await granted(store, on(name, verb(3)), 9, b"less" + name.encode()) == 0

    @told
    async def test_a_window_of_the_calendar_is_itself_again_when_the_clock_is_set_back(
        self, store: Store, clock: ManualClock
    ) -> None:
        begun = clock.now
        minute = on("minute", Quota(5, tuple(begun + n * MINUTE for n in range(-1, 4)), spec=1))
        assert await granted(store, minute, 9, b"first") == 5
        clock.now = begun + MINUTE
        assert await granted(store, minute, 9, b"second") == 5
        clock.now = begun + MINUTE - 40
        assert await granted(store, minute, 9, b"first again") == 0

    @told
    async def test_what_cannot_be_done_is_said_before_anything_is_done(
        self, store: Store, clock: ManualClock
    ) -> None:
        life, seat = on("life", Total(9)), on("seats", Max(3, LEASE), hold=True)
        held, other = on("tokens", Total(9), hold=True), on("life", Total(9), who=b"other")
        cannot: list[Command] = [
            Reserve(b"1", (life, seat), LEASE),
            Reserve(b"1", (life, held), LEASE),
            Reserve(b"1", (life, naming(held, 1, 2)), LEASE),
            Extend(b"1", (held,), LEASE, 1),
            Settle(b"1", (held,)),
            Merge(other, (life,)),
            Join(other, (life,)),
        ]
        for command in cannot:
            with pytest.raises(StoreError) as fault:
                await store.transact((Reserve(b"0", (life,), LEASE), command))
            assert not fault.value.transient and not fault.value.unknown
        assert await used(store, life) == 0
        assert await standing(store, seat.of(0)) is None, "of places at a time nothing is ever seen"


class TestInTheMemoryOfLimits(ForeignContract):
    @pytest.fixture(autouse=True)
    def _memory(self, in_memory: Callable[[], Callable[[ManualClock], Store]]) -> None:
        self._fresh = in_memory

    def make_store(self, clock: ManualClock) -> Store:
        self._made = self._fresh()
        return self._made(clock)

    def make_peer(self, store: Store, clock: ManualClock) -> Store:
        return self._made(clock)


class TestInMemcached(ForeignContract):
    @pytest.fixture(autouse=True)
    def _server(self, memcached: Any) -> None:
        self._memcached = memcached

    def make_store(self, clock: ManualClock) -> Store:
        self._memcached.ask("flush_all")
        return ForeignStore(self._memcached.uri, clock=clock)

    def make_peer(self, store: Store, clock: ManualClock) -> Store:
        return ForeignStore(self._memcached.uri, clock=clock)


class TestInMongo(ForeignContract):
    """Over a stand-in; see mongo_stand_in.py for what that shows."""

    @pytest.fixture(autouse=True)
    def _server(self, mongodb: str) -> None:
        self._uri = mongodb

    def make_store(self, clock: ManualClock) -> Store:
        from pymongo import MongoClient

        client: MongoClient[Any]
        with MongoClient(self._uri) as client:
            client.drop_database("limits")
        return ForeignStore(self._uri, clock=clock)

    def make_peer(self, store: Store, clock: ManualClock) -> Store:
        return ForeignStore(self._uri, clock=clock)


# What is weaker, shown without the contract's help.


class Interrupted(Counters):
    """Counters of which one cannot be charged, nor any be taken back: the server has failed in between."""

    charged: list[str]

    async def add(self, key: str, amount: int, seconds: int, *, opens: bool = False) -> int:
        if len(self.charged) == 1:
            raise StoreError("gone", transient=True, unknown=True)
        self.charged.append(key)
        return await super().add(key, amount, seconds, opens=opens)

    async def back(self, key: str, amount: int) -> None:
        raise StoreError("gone", transient=True, unknown=True)


@shows("atomic")
def test_a_failure_between_two_limits_leaves_one_of_them_charged(in_memory: Any) -> None:
    async def story() -> list[int]:
        clock, storage = ManualClock(), MemoryStorage()
        counters = Interrupted(storage, "memory-of-limits://")
        counters.charged = []
        store = ForeignStore("memory-of-limits://", clock=clock, opened=lambda: counters)
        tight, roomy = on("tight", Total(5)), on("roomy", Total(9))
        with pytest.raises(StoreError) as fault:
            await ask(store, b"1", tight, roomy)
        assert fault.value.unknown
        return [await used(store, tight), await used(store, roomy)]

    assert asyncio.run(story()) == [1, 0]


@shows("races")
def test_of_two_that_race_for_the_last_units_of_two_limits_both_may_be_refused(in_memory: Any) -> None:
    async def story() -> list[str]:
        store = in_memory()(ManualClock())
        one, other = on("one", Total(2)), on("other", Total(2))
        outcomes = await asyncio.gather(
            ask(store, b"1", one.of(1), other.of(2)), ask(store, b"2", one.of(2), other.of(1))
        )
        assert [await used(store, each) for each in (one, other)] == [0, 0], "nothing stays charged"
        return [type(outcome).__name__ for outcome in outcomes]

    assert asyncio.run(story()) == ["Refused", "Refused"]


@shows("repeats")
def test_a_reservation_that_another_worker_repeats_counts_twice(in_memory: Any) -> None:
    async def story() -> int:
        clock, made = ManualClock(), in_memory()
        store, peer, life = made(clock), made(clock), on("life", Total(9))
        for worker in (store, peer):
            assert isinstance(await ask(worker, b"same", life), Granted)
        await answer(peer, Cancel(b"same", (life,), LEASE))
        return await used(store, life)

    assert asyncio.run(story()) == 1


@shows("first_use")
def test_a_window_that_opened_at_its_first_use_does_not_end_by_our_clock(in_memory: Any) -> None:
    async def story() -> int:
        clock = ManualClock()
        store, day = in_memory()(clock), on("day", Quota(5, (), spec=1, length=DAY))
        assert await granted(store, day, 9) == 5
        clock.advance(2 * 86_400)
        return await granted(store, day, 9, b"later")

    assert asyncio.run(story()) == 0


@shows("forgets")
def test_memcached_forgets_everything_when_it_restarts(memcached: Any) -> None:
    async def story() -> list[int]:
        store, life = ForeignStore(memcached.uri), on("life", Total(5))
        before = await granted(store, life, 9)
        memcached.stop()
        with pytest.raises(StoreError):
            await ask(store, b"meanwhile", life)
        memcached.start()
        after = await granted(store, life, 9, b"after")
        await store.close()
        return [before, after]

    assert asyncio.run(story()) == [5, 5]


def test_what_is_called_weaker_is_what_tests_show_to_be_weaker() -> None:
    assert {each.name for each in WEAKER} == SHOWN
    assert len({each.words for each in WEAKER}) == len(WEAKER)
