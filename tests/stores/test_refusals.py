"""The negative cache: a flood of refusals costs the store little, and nobody is refused who would be granted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.clock import MILLISECOND, SECOND
from headgate.errors import StoreError
from headgate.quota.balance import Verb
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Extend,
    Gone,
    Granted,
    Join,
    Look,
    Merge,
    Never,
    NotYet,
    Outcome,
    Receipt,
    Refused,
    Reserve,
    Settle,
)
from headgate.quota.decision import retry_at
from headgate.quota.gcra import Rate
from headgate.quota.ledger import apply
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores import MemoryStore, SqliteStore, Store, refusals
from headgate.stores.redis import RedisStore
from headgate.stores.refusals import ASKING, BRIEF, LONGEST, RefusalsStore
from headgate.stores.slices import SlicedStore
from headgate.testing import ManualClock
from headgate.testing.servers import Server
from headgate.testing.stores import StoreContract
from headgate.testing.story import answer, naming
from stores.fronts import Counted, Elapsed, EverybodySlices

MINUTE = 60 * SECOND
LEASE = 600 * SECOND


class TestRefusalsStore(StoreContract):
    """It is the store behind it, but that a balance beside a refusal may be a second old."""

    def make_store(self, clock: ManualClock) -> Store:
        return RefusalsStore(MemoryStore(clock=clock), clock=Elapsed(clock))

    def test_the_store_answers_as_the_specification_does(self) -> None:
        """See below: it refuses nobody whom the specification grants."""


class TestRefusalsBeforeSlices(TestRefusalsStore):
    """The two together, as a gate has them."""

    def make_store(self, clock: ManualClock) -> Store:
        sliced = SlicedStore(MemoryStore(clock=clock), clock=Elapsed(clock))
        return EverybodySlices(RefusalsStore(sliced, clock=Elapsed(clock)))

    def test_many_open_holds_of_one_balance_are_kept_apart(self) -> None:
        """See test_slices.py."""


class TestRefusalsBeforeSlicesOverSqlite(TestRefusalsBeforeSlices):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self._names = (f"{tmp_path}/ledger-{n}.db" for n in count())

    def make_store(self, clock: ManualClock) -> Store:
        sliced = SlicedStore(SqliteStore(next(self._names), clock=clock), clock=Elapsed(clock))
        return EverybodySlices(RefusalsStore(sliced, clock=Elapsed(clock)))


class TestRefusalsBeforeSlicesOverValkey(TestRefusalsBeforeSlices):
    @pytest.fixture(autouse=True)
    def _there(self, valkey: Server) -> None:
        self._server = valkey

    def make_store(self, clock: ManualClock) -> Store:
        self._server.flush()
        sliced = SlicedStore(RedisStore(self._server.url, clock=clock, deadline=30), clock=Elapsed(clock))
        return EverybodySlices(RefusalsStore(sliced, clock=Elapsed(clock)))


# Stories over a store that counts how often it is asked.


class House:
    """A store with a negative cache; its own clock is an hour off this machine's."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.inner = Counted(MemoryStore(clock=self.clock))
        self.store = RefusalsStore(self.inner, clock=Elapsed(self.clock))
        self._ids = count()

    async def ask(self, *demands: Demand, rid: bytes = b"") -> Outcome:
        return await answer(self.store, Reserve(rid or b"r%d" % next(self._ids), demands, LEASE))

    async def refused(self, *demands: Demand, rid: bytes = b"") -> Refused:
        outcome = await self.ask(*demands, rid=rid)
        assert isinstance(outcome, Refused)
        return outcome


def told(story: Callable[[House], Awaitable[None]]) -> Callable[[], None]:
    def test() -> None:
        asyncio.run(story(House()))  # type: ignore[arg-type]

    test.__name__, test.__doc__ = story.__name__, story.__doc__
    return test


def on(limit: str, verb: Verb, amount: int = 1, *, who: bytes = b"acme", hold: bool = False) -> Demand:
    return Demand((who, limit), verb, amount, hold=hold)


HOUR = on("hour", Rolling(2, 60 * MINUTE))
SEATS = on("seats", Max(1, LEASE), hold=True)


@told
async def test_a_flood_of_refusals_reaches_the_store_once_a_second(house: House) -> None:
    await house.ask(HOUR.of(2))
    for _ in range(5_000 * 4):
        await house.refused(HOUR)
        house.clock.advance(microseconds=200)
    assert house.inner.calls <= 1 + 5
    assert house.store.repeated >= 5_000 * 4 - 5


@told
async def test_where_only_holds_stand_in_the_way_it_asks_ten_times_a_second(house: House) -> None:
    await house.ask(SEATS)
    for _ in range(5_000 * 2):
        await house.refused(SEATS)
        house.clock.advance(microseconds=200)
    assert house.inner.calls <= 1 + 2 * 10


class Fleeting(dict[Any, Any]):
    """What is remembered, where another loop's thread is always faster: what was just read is gone."""

    def get(self, place: Any, default: Any = None) -> Any:
        return self.pop(place, default)

    def __contains__(self, place: Any) -> bool:
        return self.pop(place, None) is not None


@told
async def test_loops_in_other_threads_may_forget_the_same_meanwhile(house: House) -> None:
    house.store._remembered = Fleeting()
    await house.ask(SEATS, rid=b"first")
    for _ in range(20):
        await house.refused(SEATS)
        house.clock.advance(microseconds=BRIEF)
    await answer(house.store, Cancel(b"first", (SEATS,), LEASE))
    assert isinstance(await house.ask(SEATS), Granted)


@told
async def test_a_refusal_ends_at_the_very_instant_that_the_store_has_told(house: House) -> None:
    rate = on("rate", Rate(100, MINUTE))  # one each 600 ms
    await house.ask(rate.of(100))
    [refusal] = (await house.refused(rate)).refusals
    assert isinstance(refusal, NotYet)
    house.clock.now = refusal.at - 1
    calls = house.inner.calls
    assert await house.refused(rate)
    assert house.inner.calls == calls
    house.clock.now = refusal.at
    assert isinstance(await house.ask(rate), Granted)


@told
async def test_retry_after_counts_down(house: House) -> None:
    await house.ask(HOUR.of(2))
    first = await house.refused(HOUR)
    house.clock.advance(0.7)
    later = await house.refused(HOUR)
    assert house.inner.calls == 2
    assert later.now - first.now == 700 * MILLISECOND
    assert retry_at(later.refusals) == retry_at(first.refusals)


@told
async def test_the_answer_is_whole_for_the_same_demands_and_as_far_as_it_is_known_for_others(house: House) -> None:
    other, shadow = on("other", Total(9)), on("shadow", Total(1))._replace(shadow=True)
    demands = (other, HOUR.of(2), shadow)
    await house.ask(*demands)
    first = await house.refused(*demands)
    assert await house.refused(*demands) == first
    assert await house.refused(*[demand._replace() for demand in demands]) == first
    [refusal] = first.refusals
    assert [r.limit for r in first.shadowed] == ["shadow"]
    elsewhere = await house.refused(HOUR.of(2), on("route", Total(9)))
    assert elsewhere.refusals == (refusal,)
    assert elsewhere.balances == (first.balances[1], None)
    assert house.inner.calls == 2


@told
async def test_what_names_things_is_never_refused_here(house: House) -> None:
    records = on("records", Total(3), 0, hold=True)
    for n in range(3):
        await house.ask(naming(records, n), rid=b"%d" % n)
        await answer(house.store, Settle(b"%d" % n, (naming(records, n),)))
    for n in range(20):
        await house.refused(naming(records, 3))
        await house.refused(records)  # which it will be is not known: this one is remembered
        assert isinstance(await house.ask(naming(records, n % 3)), Granted)
    assert house.store.repeated == 19
    assert house.inner.calls == 6 + 20 + 1 + 20


@told
async def test_a_flood_that_names_things_is_refused_here_for_what_else_it_asks(house: House) -> None:
    records = on("records", Total(3), 0, hold=True)
    await house.ask(HOUR.of(2))
    await house.refused(HOUR, naming(records, 1))
    calls = house.inner.calls
    for n in range(50):
        [refusal] = (await house.refused(HOUR, naming(records, n))).refusals
        assert refusal.limit == "hour"
    assert house.inner.calls == calls


@told
async def test_what_needs_less_or_runs_by_another_window_is_asked_for(house: House) -> None:
    await house.ask(HOUR)
    await house.refused(HOUR.of(2))
    assert isinstance(await house.ask(HOUR), Granted)
    await house.refused(HOUR)
    raised = HOUR._replace(verb=Rolling(3, 60 * MINUTE))
    assert isinstance(await house.ask(raised), Granted)


@told
async def test_never_is_repeated_for_a_second(house: House) -> None:
    assert (await house.refused(HOUR.of(3))).refusals == (Never("hour", 2),)
    assert (await house.refused(HOUR.of(4))).refusals == (Never("hour", 2),)
    assert house.inner.calls == 1
    house.clock.advance(microseconds=LONGEST)
    await house.refused(HOUR.of(3))
    assert house.inner.calls == 2


@told
async def test_a_limit_in_shadow_refuses_nobody(house: House) -> None:
    await house.ask(HOUR.of(2))
    await house.refused(HOUR)
    assert isinstance(await house.ask(HOUR._replace(shadow=True)), Granted)


@told
async def test_what_is_owed_is_never_refused_here_and_tells_nothing(house: House) -> None:
    owed = HOUR.of(9)._replace(owed=True)
    await house.ask(HOUR.of(2))
    await house.refused(HOUR)
    calls = house.inner.calls
    assert isinstance(await house.ask(owed), Granted)
    await house.refused(HOUR)
    assert house.inner.calls == calls + 1, "it refused what it had refused before"
    # Another demand on the same limit refuses; the place of what is owed has no part in it.
    await house.refused(owed.at((b"other", "hour")), HOUR.at((b"full", "hour")).of(9))
    assert isinstance(await house.ask(HOUR.at((b"other", "hour"))), Granted)


@pytest.mark.parametrize(
    "command",
    [
        Settle(b"holder", (SEATS,)),
        Cancel(b"holder", (SEATS,), LEASE),
        Merge(SEATS.at((b"group", "seats")), (SEATS,)),
    ],
)
def test_what_this_worker_gives_back_ends_a_refusal_at_once(command: Command) -> None:
    async def story() -> None:
        house = House()
        await house.ask(SEATS, rid=b"holder")
        await house.refused(SEATS)
        await answer(house.store, command)
        assert isinstance(await house.ask(SEATS), Granted)

    asyncio.run(story())


@told
async def test_an_extension_and_a_join_end_a_refusal_too(house: House) -> None:
    await house.ask(SEATS, rid=b"holder")
    for command in (Extend(b"holder", (SEATS.of(0),), LEASE, 1), Join(SEATS, (SEATS.at((b"org", "seats")),))):
        await house.refused(SEATS)
        calls = house.inner.calls
        await answer(house.store, command)
        await house.refused(SEATS)
        assert house.inner.calls == calls + 2


@told
async def test_what_is_given_back_counts_for_what_follows_it_in_the_same_call(house: House) -> None:
    await house.ask(SEATS, rid=b"holder")
    await house.refused(SEATS)
    outcomes = await house.store.transact(
        [
            Reserve(b"early", (SEATS,), LEASE),
            Look((SEATS,)),
            Settle(b"holder", (SEATS,)),
            Reserve(b"late", (SEATS,), LEASE),
        ]
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["Refused", "Seen", "Settled", "Granted"]
    outcomes = await house.store.transact([Reserve(b"%d" % n, (HOUR.of(9),), LEASE) for n in range(2)])
    outcomes = await house.store.transact([Reserve(b"b%d" % n, (HOUR.of(9),), LEASE) for n in range(2)])
    assert all(isinstance(outcome, Refused) for outcome in outcomes)


@told
async def test_a_reservation_that_is_said_again_is_the_stores_to_answer(house: House) -> None:
    await house.ask(HOUR.of(2), rid=b"mine")
    await house.refused(HOUR)
    assert isinstance(await house.ask(HOUR.of(2), rid=b"mine"), Granted)
    await answer(house.store, Cancel(b"late", (on("elsewhere", Total(1)),), LEASE))
    assert isinstance(await house.ask(HOUR, rid=b"late"), Gone)


@told
async def test_a_reservation_whose_answer_was_lost_is_never_refused_here(house: House) -> None:
    async def lost(commands: Any, now: int | None = None) -> list[Outcome]:
        await Counted.transact(house.inner, commands, now)
        raise StoreError("no answer", transient=True, unknown=True)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(house.inner, "transact", lost)
        with pytest.raises(StoreError):
            await house.ask(HOUR.of(2), rid=b"mine")
    await house.refused(HOUR)
    assert isinstance(await house.ask(HOUR.of(2), rid=b"mine"), Granted)


@told
async def test_a_call_with_an_instant_of_its_own_is_the_stores_alone(house: House) -> None:
    await house.ask(HOUR.of(2))
    await house.refused(HOUR)
    calls = house.inner.calls
    [outcome] = await house.store.transact((Reserve(b"then", (HOUR,), LEASE),), house.clock.now + 1)
    assert isinstance(outcome, Refused)
    assert house.inner.calls == calls + 1


@told
async def test_what_is_remembered_does_not_grow(house: House) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(refusals, "MOST", 50)
        patched.setattr(refusals, "SAID", 50)
        for n in range(500):
            await house.refused(on("hour", Rolling(2, 60 * MINUTE), 3, who=b"stranger-%d" % n))
            await answer(house.store, Settle(b"x", (SEATS.at((b"%d" % n, "seats")),)))
            house.clock.advance(microseconds=10)
        store = house.store
        assert max(len(store._remembered), len(store._said), len(store._said_before), len(store._freed)) <= 51
        house.clock.advance(microseconds=LONGEST + ASKING)
        for n in range(40):
            await house.refused(on("hour", Rolling(2, 60 * MINUTE), 3, who=b"another-%d" % n))
        assert len(store._remembered) <= 45, "what has run out goes first"


class Late(Counted):
    """Answers when it is told to."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.waiting: list[asyncio.Event] = []

    async def transact(self, commands: Any, now: int | None = None) -> list[Outcome]:
        outcomes = await super().transact(commands, now)
        event = asyncio.Event()
        self.waiting.append(event)
        await event.wait()
        return outcomes


def test_a_refusal_that_is_answered_after_something_was_given_back_is_not_remembered() -> None:
    async def story() -> None:
        clock = ManualClock()
        late = Late(MemoryStore(clock=clock))
        store = RefusalsStore(late, clock=Elapsed(clock))

        async def begin(command: Command) -> asyncio.Task[Outcome]:
            task = asyncio.ensure_future(answer(store, command))
            await asyncio.sleep(0)
            return task

        held = await begin(Reserve(b"holder", (SEATS,), LEASE))
        refused = await begin(Reserve(b"1", (SEATS,), LEASE))
        settled = await begin(Settle(b"holder", (SEATS,)))
        for event in (late.waiting[0], late.waiting[2], late.waiting[1]):
            event.set()
            await asyncio.sleep(0)
        await asyncio.gather(held, refused, settled)
        asked = await begin(Reserve(b"2", (SEATS,), LEASE))
        late.waiting[3].set()
        assert isinstance(await asked, Granted)

    asyncio.run(story())


def test_when_a_refusal_runs_out_one_asks_and_the_others_do_not_follow() -> None:
    async def story() -> None:
        clock = ManualClock()
        late = Late(MemoryStore(clock=clock))
        store = RefusalsStore(late, clock=Elapsed(clock))
        ids = count()

        async def crowd(many: int) -> None:
            tasks = [
                asyncio.ensure_future(answer(store, Reserve(b"%d" % next(ids), (SEATS,), LEASE))) for _ in range(many)
            ]
            await asyncio.sleep(0)
            for event in late.waiting:
                event.set()
            await asyncio.gather(*tasks)

        await crowd(1)
        await crowd(1)
        for _ in range(5):
            clock.advance(microseconds=BRIEF)
            await crowd(200)
        assert late.calls == 2 + 5

    asyncio.run(story())


LIMITS = ("rate", "hour", "seats", "life", "day")


def verb_of(limit: str, variant: int, begun: int) -> Verb:
    edges = tuple(begun + n * MINUTE for n in range(-1, 100))
    verbs: dict[str, Verb] = {
        "rate": Rate(5 + variant, MINUTE),
        "hour": Rolling(4 + variant, MINUTE),
        "seats": Max(2 + variant, LEASE),
        "life": Total(9 + variant),
        "day": Quota(5 + variant, edges, 1),
    }
    return verbs[limit]


asked = st.tuples(
    st.sampled_from(("reserve", "reserve", "reserve", "again", "settle", "cancel", "time", "time", "merge")),
    st.sets(st.sampled_from(LIMITS), min_size=1, max_size=3),
    st.sampled_from((0, 1, 1, 1, 2, 7)),
    st.integers(0, 1),
    st.sampled_from(((False, False), (True, False), (False, False), (True, False), (False, True), (True, True))),
    st.sampled_from((1, 20 * MILLISECOND, 99 * MILLISECOND, SECOND, 12 * SECOND)),
)


def done(work: Coroutine[Any, Any, list[Outcome]]) -> Outcome:
    """The answer of a call that does not wait."""
    try:
        work.send(None)
    except StopIteration as answered:
        return answered.value[0]  # type: ignore[no-any-return]
    raise AssertionError("it waited")


@given(st.lists(asked, max_size=60))
def test_it_refuses_nobody_whom_the_specification_grants(story: list[Any]) -> None:
    clock = ManualClock()
    begun, ids = clock.now, count()
    inner = MemoryStore(clock=clock)
    store = RefusalsStore(inner, clock=Elapsed(clock))
    said: list[Reserve] = []
    receipts: dict[bytes, Receipt] = {}
    for kind, limits, amount, variant, (hold, owed), microseconds in story:
        if kind == "time":
            clock.advance(microseconds=microseconds)
            continue
        demands = tuple(
            Demand((b"acme", limit), verb_of(limit, variant, begun), amount, hold or limit == "seats", owed=owed)
            for limit in sorted(limits)
        )
        if hold and amount > 1:
            named = range(5 * variant, 5 * variant + amount)
            demands = tuple([naming(d, *named) if d.place[1] in ("life", "day") else d for d in demands])
        command: Command = Reserve(b"%d" % next(ids), demands, LEASE)
        if kind == "merge":
            command = Merge(demands[0], (demands[0].at((b"other", demands[0].place[1])),))
        elif said and kind != "reserve":
            last = said[-1 - amount % len(said)]
            command = last
            if kind != "again":
                held = tuple([d for d in last.demands if d.hold])
                command = Settle(last.rid, held) if kind == "settle" else Cancel(last.rid, last.demands, LEASE)
        if isinstance(command, Reserve):
            said.append(command)
        rid = getattr(command, "rid", b"")
        expected, _, receipt, _ = apply(inner._balances, receipts.get(rid), command, clock.now, inner._sketches)
        if receipt is not None:
            receipts[rid] = receipt
        outcome = done(store.transact((command,)))
        assert type(outcome) is type(expected)
        if isinstance(outcome, Refused) and isinstance(expected, Refused):
            assert outcome.now == expected.now
            assert {r.limit for r in outcome.refusals} <= {r.limit for r in expected.refusals}
