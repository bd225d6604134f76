"""Slices: the store's contract holds with them, most requests need no store, and what is taken comes back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from headgate.clock import SECOND
from headgate.errors import AmountError, StoreError
from headgate.quota.balance import Verb
from headgate.quota.command import (
    Cancel,
    Demand,
    Extend,
    Gone,
    Granted,
    Join,
    Look,
    Merge,
    Outcome,
    Refused,
    Reserve,
    Settle,
    Settled,
)
from headgate.quota.decision import reading
from headgate.quota.gcra import Rate
from headgate.quota.ledger import followed
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores import MemoryStore, SqliteStore, Store
from headgate.stores.redis import RedisStore
from headgate.stores.slices import SlicedStore, holdings, keeper, reservations
from headgate.stores.slices.errands import LEASE
from headgate.testing import ManualClock
from headgate.testing.servers import Server
from headgate.testing.stores import StoreContract
from headgate.testing.story import answer, held, naming, standing, used
from stores.fronts import Counted, Elapsed, EverybodySlices

MINUTE = 60 * SECOND


class TestSlicedStore(StoreContract):
    """Where no demand has a slice, it is the store behind it."""

    def make_store(self, clock: ManualClock) -> Store:
        return SlicedStore(MemoryStore(clock=clock), clock=Elapsed(clock))

    def make_peer(self, store: Store, clock: ManualClock) -> Store:
        assert isinstance(store, SlicedStore)
        return SlicedStore(store._inner, clock=Elapsed(clock))


class TestSlicesForEverybody(StoreContract):
    """Where every demand has one, each promise holds as well."""

    def make_store(self, clock: ManualClock) -> Store:
        return EverybodySlices(SlicedStore(MemoryStore(clock=clock), clock=Elapsed(clock)))

    def make_peer(self, store: Store, clock: ManualClock) -> Store:
        assert isinstance(store, EverybodySlices) and isinstance(store.store, SlicedStore)
        return EverybodySlices(SlicedStore(store.store._inner, clock=Elapsed(clock)))

    def test_many_open_holds_of_one_balance_are_kept_apart(self) -> None:
        """A minute in which nobody looks after the slices does not pass but where the whole worker stands still."""

    def test_the_store_answers_as_the_specification_does(self) -> None:
        """Balances are told as far as this worker knows them; test_slices_exact.py says what holds instead."""


class TestSlicesOverSqlite(TestSlicesForEverybody):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self._names = (f"{tmp_path}/ledger-{n}.db" for n in count())

    def make_store(self, clock: ManualClock) -> Store:
        inner = SqliteStore(next(self._names), clock=clock)
        return EverybodySlices(SlicedStore(inner, clock=Elapsed(clock)))

    def make_peer(self, store: Store, clock: ManualClock) -> Store:
        assert isinstance(store, EverybodySlices) and isinstance(store.store, SlicedStore)
        inner = store.store._inner
        assert isinstance(inner, SqliteStore)
        return EverybodySlices(SlicedStore(SqliteStore(inner._path, clock=clock), clock=Elapsed(clock)))


class TestSlicesOverValkey(TestSlicesForEverybody):
    @pytest.fixture(autouse=True)
    def _there(self, valkey: Server) -> None:
        self._server = valkey

    def make_store(self, clock: ManualClock) -> Store:
        self._server.flush()
        inner = RedisStore(self._server.url, clock=clock, deadline=30)
        return EverybodySlices(SlicedStore(inner, clock=Elapsed(clock)))

    def make_peer(self, store: Store, clock: ManualClock) -> Store:
        return EverybodySlices(
            SlicedStore(RedisStore(self._server.url, clock=clock, deadline=30), clock=Elapsed(clock))
        )


# Stories of one or two workers over a store that counts how often it is asked.


class House:
    """Workers with slices over one store, and a clock for all of them."""

    def __init__(self, workers: int = 1) -> None:
        self.clock = ManualClock()
        self.shared = MemoryStore(clock=self.clock)
        self.inner = [Counted(self.shared) for _ in range(workers)]
        self._ids = count()
        self.workers = [SlicedStore(inner, clock=Elapsed(self.clock), new_id=self._id) for inner in self.inner]
        self.worker = self.workers[0]

    def _id(self) -> bytes:
        return b"own-%d" % next(self._ids)

    @property
    def calls(self) -> int:
        return self.inner[0].calls

    async def ask(self, *demands: Demand, rid: bytes = b"", worker: int = 0) -> Outcome:
        rid = rid or b"r-%d" % next(self._ids)
        return await answer(self.workers[worker], Reserve(rid, demands, 600 * SECOND))

    async def granted(self, demand: Demand, tries: int, worker: int = 0) -> int:
        outcomes = [await self.ask(demand, worker=worker) for _ in range(tries)]
        return sum(isinstance(outcome, Granted) for outcome in outcomes)

    async def pass_time(self, seconds: int) -> None:
        """Time passes as it does where a worker looks after its slices."""
        for _ in range(4 * seconds):
            self.clock.advance(0.25)
            for worker in self.workers:
                await worker.tidy()


def told(story: Callable[[House], Awaitable[None]]) -> Callable[[], None]:
    def test() -> None:
        async def from_begin_to_end() -> None:
            house = House(2)
            await story(house)
            for worker in house.workers:
                await worker.close()
            assert all(worker._holdings.empty for worker in house.workers), "nothing is left behind"

        asyncio.run(from_begin_to_end())

    test.__name__, test.__doc__ = story.__name__, story.__doc__
    return test


def on(
    limit: str, verb: Verb, amount: int = 1, *, slice: int = 10, who: bytes = b"acme", hold: bool = False
) -> Demand:
    return Demand((who, limit), verb, amount, hold=hold, slice=slice)


LIFE = on("life", Total(1_000))
TOKENS = on("tokens", Total(1_000), 5, slice=50, hold=True)


def done(work: Coroutine[Any, Any, list[Outcome]]) -> list[Outcome]:
    """The answer of a call that does not wait."""
    try:
        work.send(None)
    except StopIteration as answered:
        return answered.value
    raise AssertionError("it waited")


@told
async def test_of_ten_requests_nine_need_no_store(house: House) -> None:
    assert await house.granted(LIFE, 500) == 500
    assert house.calls <= 60
    assert house.worker.granted >= 440


@told
async def test_what_names_things_is_left_to_the_store(house: House) -> None:
    records = on("records", Total(30), 0, slice=0, hold=True)
    with pytest.raises(AmountError, match="slice"):
        naming(records._replace(slice=5), 1)
    for n in range(40):
        asked = (LIFE, naming(records, n % 6, 6))
        assert isinstance(await house.ask(*asked, rid=b"%d" % n, worker=n % 2), Granted)
        settled = await answer(house.workers[n % 2], Settle(b"%d" % n, asked[1:]))
        assert isinstance(settled, Settled)
        assert settled.balances[0] is not None
    assert settled.balances[0].used == 7
    assert await used(house.worker, records) == 7


@told
async def test_a_slice_is_spent_without_waiting_for_anything(house: House) -> None:
    await house.granted(LIFE, 2)
    for n in range(10):
        [outcome] = done(house.worker.transact((Reserve(b"%d" % n, (LIFE,), 0),)))
        assert isinstance(outcome, Granted)
    assert house.calls == 2


@told
async def test_what_comes_once_in_a_while_takes_no_slice(house: House) -> None:
    for _ in range(5):
        await house.granted(LIFE, 1)
        await house.pass_time(5)
    assert (await used(house.shared, LIFE), await held(house.shared, LIFE)) == (5, 0)
    assert house.calls == 5


@told
async def test_the_last_units_are_granted_one_by_one_and_not_one_more(house: House) -> None:
    small = on("life", Total(57))
    counts = [await house.granted(small, 1, worker=n % 2) for n in range(100)]
    assert sum(counts) == 57
    assert counts[:37] == [1] * 37, "nobody is refused while no worker has the last units"
    alone = on("alone", Total(57))
    assert [await house.granted(alone, 1) for _ in range(60)] == [1] * 57 + [0] * 3


@told
async def test_before_it_refuses_a_worker_gives_back_what_it_has_left(house: House) -> None:
    await house.granted(LIFE, 2)
    assert await held(house.shared, LIFE) == 10
    assert isinstance(await house.ask(LIFE._replace(amount=998)), Granted)
    assert isinstance(await house.ask(LIFE), Refused)
    assert await used(house.shared, LIFE) == 1_000


@told
async def test_who_may_hold_no_slice_is_answered_by_the_store_and_gets_what_slices_have_left(house: House) -> None:
    plain = LIFE._replace(slice=0)
    assert await house.granted(plain, 5) == 5
    assert (house.calls, house.worker.granted) == (5, 0)
    await house.granted(LIFE, 2)
    assert await held(house.shared, LIFE) == 10
    assert isinstance(await house.ask(plain._replace(amount=993)), Granted)
    assert isinstance(await house.ask(plain), Refused)
    assert await used(house.shared, LIFE) == 1_000


@told
async def test_an_id_that_the_store_has_decided_is_never_granted_from_a_slice(house: House) -> None:
    assert isinstance(await house.ask(LIFE._replace(slice=0), rid=b"once"), Granted)
    await house.granted(LIFE, 3)
    assert isinstance(await house.ask(LIFE, rid=b"once"), Granted)
    assert (await used(house.shared, LIFE), house.worker.granted) == (3, 1), "one of three came out of the slice"


@told
async def test_what_another_worker_holds_comes_back_with_its_lease(house: House) -> None:
    await house.granted(LIFE, 2, worker=1)
    rest = LIFE._replace(amount=998)
    assert isinstance(await house.ask(rest), Refused)
    await house.pass_time(4)
    assert isinstance(await house.ask(rest), Granted)


@told
async def test_a_limit_that_refuses_costs_the_others_their_slices_nothing(house: House) -> None:
    full = on("full", Rolling(2, MINUTE), slice=1)
    await house.granted(LIFE, 3)
    for _ in range(4):
        await house.ask(LIFE, full)
    assert await held(house.shared, LIFE) == 10
    calls = house.calls
    assert isinstance(await house.ask(LIFE), Granted)
    assert house.calls == calls


@told
async def test_all_or_nothing_holds_between_slices_too(house: House) -> None:
    other = on("other", Total(100), slice=3)
    for _ in range(40):
        await house.ask(LIFE, other)
    await house.worker.close()
    assert await used(house.shared, LIFE) == await used(house.shared, other) == 40


@told
async def test_nothing_is_spent_in_the_last_tenth_of_a_lease(house: House) -> None:
    await house.granted(LIFE, 2)
    house.clock.advance(microseconds=LEASE * 9 // 10 - 1)
    calls = house.calls
    assert await house.granted(LIFE, 1) == 1
    assert house.calls == calls
    house.clock.advance(microseconds=1)
    assert await house.granted(LIFE, 1) == 1
    assert house.calls == calls + 1


@told
async def test_a_slice_ends_as_what_was_spent_of_it(house: House) -> None:
    await house.granted(LIFE, 5)
    await house.pass_time(4)
    assert (await used(house.shared, LIFE), await held(house.shared, LIFE)) == (5, 0)


def test_slices_are_looked_after_without_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setattr(keeper, "ROUND", 0)
        house = House()
        await house.granted(LIFE, 5)
        house.clock.advance(microseconds=LEASE * 9 // 10)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (await used(house.shared, LIFE), await held(house.shared, LIFE)) == (5, 0)
        assert len(asyncio.all_tasks()) == 1, "and then nobody looks any more"

    asyncio.run(story())


@told
async def test_a_worker_that_dies_loses_its_slice_and_no_more(house: House) -> None:
    await house.granted(LIFE, 5)
    house.workers[0] = SlicedStore(house.inner[0], clock=Elapsed(house.clock))
    await house.pass_time(5)
    assert isinstance(await house.ask(LIFE), Granted)
    assert (await used(house.shared, LIFE), await held(house.shared, LIFE)) == (2 + 10 + 1, 0)


@told
async def test_balances_are_told_as_without_slices(house: House) -> None:
    plain, clock = MemoryStore(clock=house.clock), house.clock
    verbs = (
        Total(90),
        Rolling(80, MINUTE),
        Quota(70, tuple(clock.now + n * MINUTE for n in range(4)), 1),
        Rate(60, 9),
    )
    demands = tuple(on(f"limit-{n}", verb, slice=5) for n, verb in enumerate(verbs))
    for n in range(40):
        command = Reserve(b"%d" % n, demands, 0)
        one, other = await answer(house.worker, command), await answer(plain, command)
        assert isinstance(one, Granted) and isinstance(other, Granted)
        assert one.now == other.now
        told = [[reading(d, b, o.now).left for d, b in zip(demands, o.balances, strict=True)] for o in (one, other)]
        assert told[0] == told[1]
    assert house.calls < 20


@told
async def test_a_look_tells_what_is_spent_and_held_here(house: House) -> None:
    await house.granted(LIFE, 6)
    await house.granted(TOKENS, 4)
    assert (await used(house.worker, LIFE), await held(house.worker, LIFE)) == (6, 0)
    balance = await standing(house.worker, TOKENS)
    assert balance is not None and balance.holds is not None
    assert (balance.used, balance.holds.held, len(balance.holds.by_rid)) == (0, 20, 4)
    await house.pass_time(5)
    for rid in balance.holds.by_rid:
        await answer(house.worker, Settle(rid, (TOKENS.of(1),)))


# What was granted here is settled, cancelled and extended here.


@told
async def test_what_is_held_here_is_settled_here_once(house: House) -> None:
    await house.granted(TOKENS, 2)
    await house.ask(TOKENS, rid=b"mine")
    calls = house.calls
    for added in (3, 0, 0):
        settled = await answer(house.worker, Settle(b"mine", (TOKENS.of(3),)))
        assert isinstance(settled, Settled) and settled.added == (added,)
    assert isinstance(await house.ask(TOKENS, rid=b"mine"), Granted), "said again, it is what it was"
    assert house.calls == calls
    assert (await used(house.worker, TOKENS), await held(house.worker, TOKENS)) == (3, 10)
    await house.pass_time(5)
    assert (await used(house.shared, TOKENS), await held(house.shared, TOKENS)) == (3, 10)


@told
async def test_more_than_was_held_is_charged_at_once(house: House) -> None:
    await house.granted(TOKENS, 2)
    await house.ask(TOKENS, rid=b"mine")
    await answer(house.worker, Settle(b"mine", (TOKENS.of(800),)))
    assert await used(house.shared, TOKENS) == 800
    await house.granted(TOKENS, 2)
    await house.ask(TOKENS, rid=b"long")
    await house.ask(TOKENS, rid=b"short")
    await answer(house.worker, Settle(b"short", (TOKENS.of(700),)))
    assert isinstance(await house.ask(TOKENS, worker=1), Refused), "though another is still open"
    await answer(house.worker, Settle(b"long", (TOKENS.of(1),)))
    # Four are open still, and four units wait with one of them for the end of the slice.
    assert (await used(house.worker, TOKENS), await held(house.worker, TOKENS)) == (1_501, 4 * 5 + 4)


@told
async def test_a_debt_that_finds_no_free_unit_is_charged_when_there_is_one(house: House) -> None:
    await house.granted(TOKENS, 2)
    await house.ask(TOKENS, rid=b"long")
    await house.ask(TOKENS, rid=b"short")
    assert isinstance(await house.ask(TOKENS._replace(amount=940), rid=b"all", worker=1), Granted)
    await answer(house.worker, Settle(b"short", (TOKENS.of(100),)))
    assert await used(house.shared, TOKENS) == 0
    await answer(house.workers[1], Settle(b"all", (TOKENS.of(1),)))
    await house.worker.tidy()
    assert await used(house.shared, TOKENS) == 1 + 55
    await answer(house.worker, Settle(b"long", (TOKENS.of(1),)))
    assert await used(house.shared, TOKENS) == 102


@told
async def test_a_cancellation_gives_back_to_the_slice_once(house: House) -> None:
    await house.granted(LIFE, 2)
    await house.ask(LIFE, rid=b"mine")
    calls = house.calls
    for _ in range(3):
        assert isinstance(await answer(house.worker, Cancel(b"mine", (LIFE,), 0)), Settled)
    assert isinstance(await house.ask(LIFE, rid=b"mine"), Gone)
    assert await used(house.worker, LIFE) == 2
    assert house.calls == calls + 1, "the look alone"


@told
async def test_what_is_cancelled_after_its_slice_is_settled_stays_used(house: House) -> None:
    await house.granted(LIFE, 2)
    await house.ask(LIFE, rid=b"mine")
    await house.pass_time(4)
    await answer(house.worker, Cancel(b"mine", (LIFE,), 0))
    await house.granted(LIFE, 3)
    assert await used(house.worker, LIFE) == 6


@told
async def test_a_reservation_after_its_cancellation_is_gone_slice_or_not(house: House) -> None:
    await house.granted(LIFE, 2)
    await answer(house.worker, Cancel(b"late", (LIFE,), 60 * SECOND))
    assert isinstance(await house.ask(LIFE, rid=b"late"), Gone)


@told
async def test_an_extension_takes_from_the_slice_and_then_lets_it_grow(house: House) -> None:
    await house.granted(TOKENS, 2)
    await house.ask(TOKENS, rid=b"mine")
    calls = house.calls
    for _ in range(2):
        assert isinstance(await answer(house.worker, Extend(b"mine", (TOKENS.of(20),), 9, step=1)), Granted)
    assert house.calls == calls
    assert isinstance(await answer(house.worker, Extend(b"mine", (TOKENS.of(100),), 9 * SECOND, step=2)), Granted)
    assert house.calls == calls + 1
    assert await held(house.worker, TOKENS) == 10 + 125
    refused = await answer(house.worker, Extend(b"mine", (TOKENS.of(990),), 9 * SECOND, step=3))
    assert isinstance(refused, Refused) and [r.limit for r in refused.refusals] == ["tokens"]
    assert await held(house.worker, TOKENS) == 10 + 125
    await answer(house.worker, Settle(b"mine", (TOKENS.of(125),)))
    assert isinstance(await answer(house.worker, Extend(b"mine", (TOKENS.of(1),), 9, step=4)), Gone)


@told
async def test_what_is_held_here_lapses_with_its_lease_and_is_corrected_if_that_is_known_in_time(
    house: House,
) -> None:
    await house.granted(TOKENS, 2)
    for rid in (b"mine", b"other"):
        await answer(house.worker, Reserve(rid, (TOKENS,), 2 * SECOND if rid == b"mine" else 60 * SECOND))
    await house.pass_time(3)
    assert (await used(house.worker, TOKENS), await held(house.worker, TOKENS)) == (5, 15)
    await answer(house.worker, Settle(b"mine", (TOKENS.of(2),)))
    assert await used(house.worker, TOKENS) == 2
    await answer(house.worker, Settle(b"other", (TOKENS.of(5),)))


@told
async def test_long_reservations_keep_a_few_slices_open_and_then_the_store_decides(house: House) -> None:
    wide = on("tokens", Total(100_000), 5, slice=50, hold=True)
    for n in range(12):
        await house.ask(wide, rid=b"long-%d" % n)
        for _ in range(8):
            outcome = await house.ask(wide, rid=b"short-%d" % n)
            assert isinstance(outcome, Granted)
            await answer(house.worker, Settle(b"short-%d" % n, (wide.of(5),)))
        await house.pass_time(4)
    kept = await held(house.shared, wide)
    assert kept <= 12 * 5 + 5 * 50
    for n in range(12):
        await answer(house.worker, Settle(b"long-%d" % n, (wide.of(5),)))
    await house.pass_time(4)
    assert (await used(house.shared, wide), await held(house.shared, wide)) == (12 * 5 + 12 * 5, 0)


@told
async def test_what_a_reservation_still_holds_at_the_end_is_charged_as_held(house: House) -> None:
    await house.granted(TOKENS, 2)
    await house.ask(TOKENS, rid=b"mine")
    await house.worker.close()
    assert (await used(house.shared, TOKENS), await held(house.shared, TOKENS)) == (5, 10)


# Groups, policies, and other things that change.


@told
async def test_a_merge_moves_what_was_spent_of_a_slice_too(house: House) -> None:
    group = LIFE.at((b"group", "life"))
    await house.granted(LIFE, 7)
    await answer(house.worker, Merge(group, (LIFE,)))
    assert await used(house.shared, group) == 7


@told
async def test_a_slice_that_is_still_open_is_found_where_a_merge_has_moved_it(house: House) -> None:
    group = TOKENS.at((b"group", "tokens"))
    await house.granted(TOKENS, 2)
    await house.ask(TOKENS, rid=b"mine")
    await answer(house.workers[1], Merge(group, (TOKENS,)))
    await house.pass_time(30)
    assert await held(house.shared, group) == 10 + 50
    settled = await answer(house.worker, Settle(b"mine", (TOKENS.of(4),)))
    assert followed(Settle(b"mine", (TOKENS,)), settled) is None
    assert (await used(house.shared, group), await held(house.shared, group)) == (4, 10)


@told
async def test_a_group_is_raised_to_what_was_spent_of_a_slice_too(house: House) -> None:
    group = LIFE.at((b"group", "life"))
    await house.granted(LIFE, 7)
    await answer(house.worker, Join(group, (LIFE,)))
    assert (await used(house.shared, group), await used(house.shared, LIFE)) == (7, 7)


@told
async def test_another_amount_is_another_slice(house: House) -> None:
    await house.granted(LIFE, 5)
    smaller = LIFE._replace(verb=Total(8))
    assert await house.granted(smaller, 9) == 3
    assert await house.granted(LIFE, 2) == 2, "and back again"


@told
async def test_a_call_with_an_instant_of_its_own_is_the_stores_alone(house: House) -> None:
    await house.granted(LIFE, 3)
    for n in range(3):
        [outcome] = await house.worker.transact((Reserve(b"at-%d" % n, (LIFE,), 0),), house.clock.now + 5)
        assert outcome.now == house.clock.now + 5
    assert await used(house.shared, LIFE) == 3 + 3


@told
async def test_several_commands_of_one_call_keep_their_order(house: House) -> None:
    await house.granted(TOKENS, 2)
    outcomes = await house.worker.transact(
        [
            Reserve(b"1", (TOKENS,), 60 * SECOND),
            Settle(b"1", (TOKENS.of(2),)),
            Reserve(b"2", (TOKENS._replace(amount=980),), 60 * SECOND),
            Cancel(b"2", (TOKENS,), 60 * SECOND),
            Look((TOKENS,)),
        ]
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["Granted", "Settled", "Granted", "Settled", "Seen"]


@told
async def test_a_place_that_is_named_twice_is_a_fault_of_whoever_asks(house: House) -> None:
    await house.granted(LIFE, 3)
    with pytest.raises(ValueError, match="twice"):
        await house.ask(LIFE, LIFE)
    await house.granted(LIFE, 1)
    assert await used(house.worker, LIFE) == 4


@told
async def test_no_place_at_a_time_is_held_beforehand(house: House) -> None:
    seats = on("seats", Max(3, 60 * SECOND), slice=0, hold=True)
    for n in range(3):
        assert isinstance(await house.ask(seats, LIFE, rid=b"%d" % n), Granted)
    assert isinstance(await house.ask(seats, LIFE), Refused)
    assert await held(house.shared, LIFE) == 0, "a slice that would spare nothing is not taken"


@told
async def test_a_flood_of_subjects_asks_the_store_and_leaves_others_their_slices(house: House) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(holdings, "SPOTS", 20)
        await house.granted(LIFE, 3)
        for n in range(200):
            await house.ask(on("life", Total(1_000), who=b"stranger-%d" % n))
        calls = house.calls
        assert await house.granted(LIFE, 5) == 5
        assert house.calls == calls
        assert len(house.worker._holdings.spots) <= 20


@told
async def test_what_is_remembered_does_not_grow(house: House) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reservations, "SAID", 50)
        patched.setattr(reservations, "PLANS", 10)
        for _ in range(300):
            await house.ask(on("life", Total(1_000)))
        kept = house.worker._reservations
        assert len(kept._notes) + len(kept._older) <= 100
        assert len(kept._plans) <= 10


# A store that fails.


class Broken(Counted):
    """Loses a call, or the answer to it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.loses: list[str] = []

    async def transact(self, commands: Any, now: int | None = None) -> list[Outcome]:
        lost = self.loses.pop(0) if self.loses else ""
        if lost == "call":
            raise StoreError("not sent", transient=True)
        outcomes = await super().transact(commands, now)
        if lost == "answer":
            raise StoreError("no answer", transient=True, unknown=True)
        if lost == "slow":
            await asyncio.sleep(5)
        return outcomes


def broken() -> tuple[House, Broken]:
    house = House()
    house.inner[0] = wire = Broken(house.shared)
    house.worker = house.workers[0] = SlicedStore(wire, clock=Elapsed(house.clock), new_id=house._id)
    return house, wire


@pytest.mark.parametrize("lost", ["call", "answer"])
def test_a_slice_that_was_asked_for_in_vain_is_given_back(lost: str) -> None:
    async def story() -> None:
        house, wire = broken()
        await house.granted(LIFE, 1)
        wire.loses = [lost]
        with pytest.raises(StoreError):
            await house.ask(LIFE, rid=b"mine")
        assert isinstance(await house.ask(LIFE, rid=b"mine"), Granted), "the same id is the store's to answer"
        await house.worker.tidy()
        await house.worker.close()
        assert (await used(house.shared, LIFE), await held(house.shared, LIFE)) == (2, 0)

    asyncio.run(story())


@pytest.mark.parametrize("lost", ["call", "answer"])
def test_a_settlement_that_was_not_answered_is_said_again(lost: str) -> None:
    async def story() -> None:
        house, wire = broken()
        await house.granted(LIFE, 6)
        house.clock.advance(microseconds=LEASE)
        wire.loses = [lost, "call"]
        for _ in range(2):
            with pytest.raises(StoreError):
                await house.worker.tidy()
        await house.worker.tidy()
        assert (await used(house.shared, LIFE), await held(house.shared, LIFE)) == (6, 0)
        assert house.worker._holdings.empty

    asyncio.run(story())


def test_a_slice_that_did_not_grow_gives_no_more() -> None:
    async def story() -> None:
        house, wire = broken()
        await house.granted(TOKENS, 2)
        await house.ask(TOKENS, rid=b"mine")
        wire.loses = ["call"]
        more = Extend(b"mine", (TOKENS.of(100),), 60 * SECOND, step=1)
        with pytest.raises(StoreError):
            await answer(house.worker, more)
        assert await held(house.worker, TOKENS) == 15
        assert isinstance(await answer(house.worker, more), Granted)
        await answer(house.worker, Settle(b"mine", (TOKENS.of(90),)))
        await house.worker.close()
        assert await used(house.shared, TOKENS) == 90

    asyncio.run(story())


def test_what_is_settled_here_is_settled_though_the_store_is_away() -> None:
    async def story() -> None:
        house, wire = broken()
        await house.granted(TOKENS, 2)
        await house.ask(TOKENS, rid=b"mine")
        wire.loses = ["call"]
        assert isinstance(await answer(house.worker, Settle(b"mine", (TOKENS.of(300),))), Settled)
        await house.worker.tidy()
        assert await used(house.shared, TOKENS) == 300

    asyncio.run(story())


def test_while_the_store_is_away_slices_go_on() -> None:
    async def story() -> None:
        house, wire = broken()
        await house.granted(LIFE, 2)
        wire.loses = ["call"] * 9
        assert await house.granted(LIFE, 10) == 10
        with pytest.raises(StoreError):
            await house.ask(LIFE)
        wire.loses = []
        await house.worker.close()
        assert await used(house.shared, LIFE) == 12

    asyncio.run(story())


def test_a_caller_that_is_cancelled_leaves_no_slice_behind() -> None:
    async def story() -> None:
        house, _ = broken()
        wire = Slow(house.shared)
        worker = SlicedStore(wire, clock=Elapsed(house.clock), new_id=house._id)
        await answer(worker, Reserve(b"1", (LIFE,), 0))
        call = asyncio.ensure_future(answer(worker, Reserve(b"2", (LIFE,), 0)))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await worker.close()
        assert (await used(house.shared, LIFE), await held(house.shared, LIFE)) == (2, 0)

    asyncio.run(story())


def test_a_slice_that_a_cancelled_caller_had_asked_for_is_given_back_without_further_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "ROUND", 0.001)

    async def story() -> None:
        house, _ = broken()
        wire = Slow(house.shared)
        worker = SlicedStore(wire, clock=Elapsed(house.clock), new_id=house._id)
        await answer(worker, Reserve(b"1", (LIFE,), 0))
        call = asyncio.ensure_future(answer(worker, Reserve(b"2", (LIFE,), 0)))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await held(house.shared, LIFE) > 0
        async with asyncio.timeout(30):
            while await held(house.shared, LIFE):
                await asyncio.sleep(0.001)

    asyncio.run(story())


def test_a_call_that_fails_after_part_of_it_was_granted_here_may_have_been_done() -> None:
    async def story() -> None:
        house, wire = broken()
        await house.granted(LIFE, 3)
        wire.loses = ["call"]
        into, source = on("month", Total(9)), Demand((b"elsewhere", "month"), Total(9), 0)
        with pytest.raises(StoreError) as fault:
            await house.worker.transact((Merge(into.of(0), (source,)), Reserve(b"mine", (LIFE,), 0)))
        assert fault.value.unknown
        await answer(house.worker, Cancel(b"mine", (LIFE,), 0))
        await house.worker.close()
        assert await used(house.shared, LIFE) == 3

    asyncio.run(story())


@pytest.mark.parametrize("lost", ["call", "answer", "slow"])
def test_who_was_refused_stays_refused_if_the_second_question_is_not_answered_in_time(lost: str) -> None:
    async def story() -> None:
        house, wire = broken()
        await house.granted(LIFE, 3)
        await house.worker.tidy()
        wire.loses = ["", lost]
        house.worker.punctual, house.worker.deadline = True, 0.01
        rest = LIFE.verb.capacity - 3
        refused = await answer(house.worker, Reserve(b"mine", (LIFE.of(rest),), 0))
        assert isinstance(refused, Refused)
        wire.loses = []
        await house.worker.close()
        assert (await used(house.shared, LIFE), await held(house.shared, LIFE)) == (3, 0)

    asyncio.run(story())


class Slow(Counted):
    """Applies at once and answers a moment later."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.immediate = False

    async def transact(self, commands: Any, now: int | None = None) -> list[Outcome]:
        outcomes = await super().transact(commands, now)
        await asyncio.sleep(0)
        return outcomes


def test_of_many_at_once_exactly_as_many_pass_as_may_and_few_ask_for_a_slice() -> None:
    async def story() -> None:
        house, _ = broken()
        wire = Slow(house.shared)
        worker = SlicedStore(wire, clock=Elapsed(house.clock), new_id=house._id)
        demand = on("life", Total(300), slice=20)

        async def caller(name: int) -> int:
            asks = [Reserve(b"%d-%d" % (name, n), (demand,), 0) for n in range(10)]
            return sum([isinstance(await answer(worker, ask), Granted) for ask in asks])

        assert sum(await asyncio.gather(*[caller(n) for n in range(50)])) == 300
        await worker.close()
        assert (await used(house.shared, demand), await held(house.shared, demand)) == (300, 0)

    asyncio.run(story())


def test_the_next_slice_is_there_before_the_last_one_is_spent() -> None:
    async def story() -> None:
        house, _ = broken()
        wire = Slow(house.shared)
        worker = SlicedStore(wire, clock=Elapsed(house.clock), new_id=house._id)
        for n in range(2):
            await answer(worker, Reserve(b"%d" % n, (LIFE,), 0))
        for n in range(200):
            done(worker.transact((Reserve(b"at-once-%d" % n, (LIFE,), 0),)))
            for _ in range(5):
                await asyncio.sleep(0)
        assert worker.granted == 200
        await worker.close()
        assert (await used(house.shared, LIFE), await held(house.shared, LIFE)) == (202, 0)

    asyncio.run(story())


def test_a_next_slice_that_nobody_waits_for_any_more_blocks_nothing() -> None:
    async def story() -> None:
        house, _ = broken()
        worker = SlicedStore(Slow(house.shared), clock=Elapsed(house.clock), new_id=house._id)
        for n in range(11):
            await answer(worker, Reserve(b"%d" % n, (LIFE,), 0))
        [task] = worker._keeper._filling
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for n in range(40):
            await answer(worker, Reserve(b"later-%d" % n, (LIFE,), 0))
        assert worker.granted >= 9 + 30
        await worker.close()
        assert (await used(house.shared, LIFE), await held(house.shared, LIFE)) == (51, 0)

    asyncio.run(story())


FORKED = """
import asyncio, os, sys
from headgate.quota.command import Demand, Reserve
from headgate.quota.window import Total
from headgate.stores import MemoryStore
from headgate.stores.slices import SlicedStore

store = SlicedStore(MemoryStore())
ask = (Demand((b"acme", "life"), Total(1_000), 1, slice=10),)

async def granted():
    for n in range(4):
        await store.transact((Reserve(b"%d" % n, ask, 0),))

asyncio.run(granted())
kept = [slice.rest for slice in store._holdings.slices.values()]
child = os.fork()
if not child:
    os._exit(len(store._holdings.slices))
assert kept == [8] == [slice.rest for slice in store._holdings.slices.values()], kept
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_worker_spends_nothing_of_its_parents() -> None:
    assert subprocess.run([sys.executable, "-I", "-c", FORKED], check=False).returncode == 0
