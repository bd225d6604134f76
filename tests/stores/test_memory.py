"""The memory store's bounds: a full table gives nobody a fresh window, and a flood makes nothing grow."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from headgate.quota.command import (
    Cancel,
    Demand,
    Extend,
    Granted,
    Look,
    Merge,
    Outcome,
    Refused,
    Reserve,
    Seen,
    Settle,
)
from headgate.quota.gcra import Rate
from headgate.quota.ledger import REPEAT
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores import memory
from headgate.stores.memory import OVERFLOW, MemoryStore
from headgate.testing.story import naming

SECOND = 1_000_000
NOW = 1_800_057_600 * SECOND
LIFE = Total(2)
DAY = Quota(2, edges=(0, 100, 200, 300), spec=1)


def done(work: Coroutine[Any, Any, list[Outcome]]) -> list[Outcome]:
    """The answer of a store that never waits."""
    try:
        work.send(None)
    except StopIteration as answer:
        return answer.value
    raise AssertionError("the memory store waited")


def ask(store: MemoryStore, who: bytes, *, rid: bytes, now: int = 0, hold: bool = False, verb: Any = LIFE) -> Outcome:
    [outcome] = done(store.transact([Reserve(rid, (Demand((who, "limit"), verb, 1, hold=hold),), 1_000)], now))
    return outcome


def test_it_answers_at_once_and_needs_no_deadline() -> None:
    assert MemoryStore.immediate
    assert MemoryStore.deadline == 0
    asyncio.run(MemoryStore().close())


def test_who_finds_no_room_shares_one_balance_and_nobody_begins_anew() -> None:
    store = MemoryStore(room=3)
    for who in (b"a", b"b", b"c"):
        ask(store, who, rid=b"1" + who)
        ask(store, who, rid=b"2" + who)
    strangers = [ask(store, b"new%d" % n, rid=b"3%d" % n) for n in range(5)]
    assert [isinstance(outcome, Granted) for outcome in strangers] == [True, True, False, False, False]
    assert isinstance(ask(store, b"a", rid=b"4a"), Refused)


def test_a_window_that_has_run_out_makes_room() -> None:
    store = MemoryStore(room=1)
    for now, who in ((100, b"a"), (200, b"b"), (201, b"b"), (202, b"b")):
        last = ask(store, who, rid=b"%d" % now, now=now, verb=DAY)
    assert isinstance(last, Refused)
    assert set(store._balances) <= {(b"b", "limit"), (OVERFLOW, "limit")}


def test_room_that_appears_gives_no_fresh_window_to_who_has_used_up_the_overflow() -> None:
    store = MemoryStore(room=1)
    ask(store, b"resident", rid=b"0", now=100, verb=DAY)
    for n in range(2):
        assert isinstance(ask(store, b"stranger", rid=b"1%d" % n, now=101, verb=DAY), Granted)
    store._room = 100
    assert isinstance(ask(store, b"stranger", rid=b"2", now=102, verb=DAY), Refused)
    assert isinstance(ask(store, b"stranger", rid=b"3", now=200, verb=DAY), Granted)
    assert (OVERFLOW, "limit") not in store._balances


def test_what_was_held_in_the_overflow_is_settled_there() -> None:
    held = (Demand((b"b", "limit"), LIFE, 1),)
    for end in (Settle(b"2", held), Cancel(b"2", held, 1)):
        store = MemoryStore(room=1)
        ask(store, b"a", rid=b"1")
        ask(store, b"b", rid=b"2", hold=True)
        store._room = 100
        done(store.transact([Extend(b"2", (Demand((b"b", "limit"), LIFE, 1),), 1_000, 1), end], 1))
        assert (b"b", "limit") not in store._balances
        assert store._balances[OVERFLOW, "limit"].holds is None


def test_a_look_at_a_stranger_shows_the_overflow_that_decides_for_it() -> None:
    store = MemoryStore(room=1)
    ask(store, b"a", rid=b"1")
    ask(store, b"b", rid=b"2")
    [seen] = done(store.transact([Look((Demand((b"c", "limit"), LIFE, 0),))], 1))
    assert isinstance(seen, Seen) and seen.balances[0] is not None
    assert seen.balances[0].used == 1


def test_a_merge_takes_nothing_out_of_the_overflow() -> None:
    store = MemoryStore(room=2)
    for n, who in enumerate((b"a", b"group", b"stranger")):
        ask(store, who, rid=b"%d" % n)
    into, *sources = [Demand((who, "limit"), LIFE, 0) for who in (b"group", b"a", b"stranger")]
    done(store.transact([Merge(into, tuple(sources))], 1))
    assert store._balances[b"group", "limit"].used == 2
    assert store._balances[OVERFLOW, "limit"].used == 1


def test_dead_leases_of_places_do_not_fill_the_table() -> None:
    store = MemoryStore(room=4)
    for n in range(50):
        outcome = ask(store, b"%d" % n, rid=b"%d" % n, now=n * 2_000, hold=True, verb=Max(1, 1_000))
        assert isinstance(outcome, Granted)
    assert len(store._balances) <= 5


def test_a_flood_of_granted_requests_is_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "REMEMBERED", 100)
    store, many = MemoryStore(), Total(10**9)
    for n in range(1_000):
        ask(store, b"s", rid=b"%d" % n, now=NOW, verb=many)
        assert len(store._receipts) + len(store._older) < 200
    for n in range(901, 1_000):
        ask(store, b"s", rid=b"%d" % n, now=NOW, verb=many)
    assert store._balances[b"s", "limit"].used == 1_000


def test_a_repeat_within_reach_is_answered_alike() -> None:
    store = MemoryStore()
    for _ in range(3):
        assert isinstance(ask(store, b"s", rid=b"r", now=NOW), Granted)
    assert store._balances[b"s", "limit"].used == 1
    ask(store, b"s", rid=b"r", now=NOW + REPEAT)
    assert store._balances[b"s", "limit"].used == 2


def test_refusals_leave_nothing_behind() -> None:
    store, verbs = MemoryStore(), (Rate(1, 3600 * SECOND), Rolling(1, 3600 * SECOND), Total(1))
    for n in range(300):
        for verb in verbs:
            ask(store, verb.kind.encode(), rid=b"%s%d" % (verb.kind.encode(), n), now=NOW, verb=verb)
    assert len(store._receipts) == len(store._balances) == 3


# Different things.


def names(store: MemoryStore, who: bytes, *numbers: int, rid: bytes, now: int = 0, verb: Any = LIFE) -> Outcome:
    asked = naming(Demand((who, "limit"), verb, 0, hold=True), *numbers)
    [outcome, _] = done(store.transact([Reserve(rid, (asked,), 1_000), Settle(rid, (asked,))], now))
    return outcome


def test_a_sketch_is_forgotten_with_its_balance_and_not_before() -> None:
    store = MemoryStore(room=1)
    for now in (100, 101):
        assert isinstance(names(store, b"a", 1, 2, rid=b"%d" % now, now=now, verb=DAY), Granted)
    assert isinstance(names(store, b"b", 3, rid=b"b", now=150, verb=DAY), Granted), "it shares the overflow"
    assert isinstance(names(store, b"a", 1, rid=b"a", now=151, verb=DAY), Granted), "it is still known"
    assert set(store._sketches) == {(b"a", "limit"), (OVERFLOW, "limit")}
    names(store, b"c", 3, rid=b"c", now=200, verb=DAY)
    names(store, b"d", 3, rid=b"d", now=300, verb=Quota(2, edges=(200, 300, 400, 500), spec=1))
    assert set(store._sketches) == set(store._balances)
    assert len(store._sketches) == 1


def test_who_shares_the_overflow_shares_what_was_named_there() -> None:
    store = MemoryStore(room=1)
    ask(store, b"resident", rid=b"0")
    outcomes = [names(store, b"%d" % n, n % 3, rid=b"n%d" % n) for n in range(6)]
    assert [isinstance(outcome, Granted) for outcome in outcomes] == [True, True, False, True, True, False]


def test_a_sketch_takes_at_most_sixteen_kilobytes_however_many_things_are_named() -> None:
    store, many = MemoryStore(), Total(10**9)
    for n in range(20):
        names(store, b"s", *range(n * 900, n * 900 + 1_000), rid=b"%d" % n, verb=many)
        [kept] = store._sketches.values()
        assert len(kept.data) <= 16_000
    assert abs(store._balances[b"s", "limit"].used - 18_100) <= 0.02 * 18_100


def test_a_hundred_thousand_subjects_pass_quickly_through_a_small_table() -> None:
    store, minute = MemoryStore(room=1_000), Rate(1, 60 * SECOND)
    begin = time.process_time()
    for n in range(100_000):
        ask(store, n.to_bytes(16, "big"), rid=n.to_bytes(16, "little"), now=NOW + n * SECOND, verb=minute)
    assert len(store._balances) <= 1_001
    assert time.process_time() - begin < 20  # seconds; about one on an idle machine


def test_in_a_small_table_nobody_is_admitted_more_often_than_in_a_large_one() -> None:
    dice = random.Random(7)
    small, large = MemoryStore(room=5), MemoryStore()
    verbs = (Rate(3, 10 * SECOND), Rolling(3, 10 * SECOND), Total(3))
    now, passed = NOW, dict[tuple[bytes, str], list[int]]()
    for n in range(5_000):
        now += dice.randrange(SECOND)
        who, verb = b"%d" % dice.randrange(12), dice.choice(verbs)
        demand = Demand((who, verb.kind), verb, 1, hold=dice.random() < 0.3)
        for store, label in ((small, "small"), (large, "large")):
            [outcome] = done(store.transact([Reserve(b"%d" % n, (demand,), SECOND)], now))
            if isinstance(outcome, Granted) and label == "small":
                passed.setdefault((who, verb.kind), []).append(now)
            if demand.hold and isinstance(outcome, Granted):
                done(store.transact([Settle(b"%d" % n, (demand.of(1),))], now))
    for (_, kind), times in passed.items():
        for first, begin in enumerate(times):
            for count, end in enumerate(times[first:], start=1):
                drained = 3 * (end - begin) // (10 * SECOND) if kind == "rate" else 0
                within = kind == "total" or end - begin < 10 * SECOND
                assert not within or count <= 3 + drained
    assert len(small._balances) <= 5 + len(verbs)
