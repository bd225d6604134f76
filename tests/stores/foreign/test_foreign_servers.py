"""Stores behind `limits` beside real servers: how they fail, how long they keep, how they are opened."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from headgate.clock import SECOND, wall_clock
from headgate.errors import StoreError
from headgate.quota.balance import Verb
from headgate.quota.command import Granted, Look, NotYet, Refused, Reserve, Seen
from headgate.quota.decision import reading
from headgate.quota.gcra import Rate
from headgate.quota.window import Quota, Rolling, Total
from headgate.stores import open_store
from headgate.stores.foreign import ForeignStore, counters
from headgate.stores.foreign import store as module
from headgate.stores.foreign.windows import window_of
from headgate.testing import ManualClock
from headgate.testing.stores import DAY
from headgate.testing.story import LEASE, answer, ask, granted, on, used

WORKER = Path(__file__).parent.with_name("worker.py")


async def fault_of(call: Coroutine[Any, Any, Any]) -> StoreError:
    with pytest.raises(StoreError) as fault:
        await call
    return fault.value


# How they fail.


def test_a_server_that_is_not_there_is_told_without_its_password() -> None:
    async def story(uri: str) -> None:
        store = ForeignStore(uri)
        for call in (answer(store, Look(())), ask(store, b"1", on("life", Total(9)))):
            fault = await fault_of(call)
            assert fault.transient and not fault.unknown
            assert "127.0.0.1:1" in str(fault) and "hidden-word" not in str(fault) and len(str(fault)) < 300
        await store.close()

    pytest.importorskip("memcachio")
    asyncio.run(story("memcached://user:hidden-word@127.0.0.1:1"))
    pytest.importorskip("motor")
    asyncio.run(story("mongodb://user:hidden-word@127.0.0.1:1/?serverSelectionTimeoutMS=100"))


def test_a_server_that_hangs_is_left_after_a_while_and_served_when_it_goes_on(
    memcached: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        store, life = ForeignStore(memcached.uri), on("life", Total(9))
        assert isinstance(await ask(store, b"1", life), Granted)
        memcached.pause()
        try:
            with monkeypatch.context() as soon:
                soon.setattr(counters, "WAIT", 0.1)
                faults = await asyncio.gather(*[fault_of(ask(store, b"h%d" % n, life)) for n in range(20)])
        finally:
            memcached.resume()
        assert {str(fault) for fault in faults} == {f"{memcached.uri}: no answer within 0.1 s"}
        assert all(fault.transient for fault in faults)
        assert isinstance(await ask(store, b"2", life), Granted)
        assert await used(store, life) == 2
        await store.close()

    asyncio.run(story())


def test_a_store_whose_server_is_too_slow_takes_no_more_than_so_many_calls(
    memcached: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "WAIT", 0.1)
    monkeypatch.setattr(module, "MOST", 5)

    async def story() -> list[str]:
        store, life = ForeignStore(memcached.uri), on("life", Total(9))
        memcached.pause()
        try:
            return [str(f) for f in await asyncio.gather(*[fault_of(ask(store, b"%d" % n, life)) for n in range(8)])]
        finally:
            memcached.resume()
            await store.close()

    assert sum("under way already" in fault for fault in asyncio.run(story())) == 3


def test_a_key_of_ours_that_another_program_has_written_is_told(memcached: Any) -> None:
    async def story() -> StoreError:
        store, life = ForeignStore(memcached.uri), on("life", Total(9))
        key = window_of(life.place, life.verb, wall_clock()).key
        assert memcached.ask(f"set {key} 0 0 5", "hello") == "STORED"
        fault = await fault_of(ask(store, b"1", life))
        await store.close()
        return fault

    fault = asyncio.run(story())
    assert not fault.transient and "holds no number" in str(fault) and "hello" not in str(fault)


# How long they keep.


def test_memcached_keeps_what_counts_for_longer_than_it_takes_for_a_length_of_time(memcached: Any) -> None:
    def seconds(verb: Verb) -> int:
        told = memcached.ask(f"mg {window_of((b'acme', 'long'), verb, wall_clock()).key} t")
        return int(told.removeprefix("HD t"))

    async def story() -> None:
        store, now = ForeignStore(memcached.uri), wall_clock()
        edges = tuple(now + n * 365 * DAY for n in range(-1, 3))
        verbs: tuple[Verb, ...] = (
            Quota(5, edges, 1),
            Quota(5, (), 2, length=60 * DAY),
            Rolling(5, 90 * DAY),
            Total(5),
        )
        for n, verb in enumerate(verbs):
            assert await granted(store, on("long", verb), 9, b"%d" % n) == 5
            assert await used(store, on("long", verb)) == 5
        year, first, trailing, life = [seconds(verb) for verb in verbs]
        assert 365 * 86_400 <= year <= 366 * 86_400
        assert abs(first - 60 * 86_400) <= 2
        assert 90 * 86_400 < trailing < 95 * 86_400
        assert life == -1, "for good"
        await store.close()

    asyncio.run(story())


@pytest.mark.parametrize("days", [1, 60])
def test_a_window_that_opens_at_its_first_use_says_when_it_ends(memcached: Any, days: int) -> None:
    async def story() -> None:
        store, opened = ForeignStore(memcached.uri), wall_clock()
        limit = on("first", Quota(2, (), spec=1, length=days * DAY))
        assert await granted(store, limit, 2) == 2
        refused = await ask(store, b"third", limit)
        assert isinstance(refused, Refused)
        [refusal] = refused.refusals
        assert isinstance(refusal, NotYet) and abs(refusal.at - opened - days * DAY) < 10 * SECOND
        await store.close()

    asyncio.run(story())


# Many at once.


def test_several_processes_over_one_memcached_admit_exactly_the_limit(memcached: Any) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-I", str(WORKER), memcached.uri, f"w{n}", "16", "80", "100", "0"],
            stdout=subprocess.PIPE, text=True,
        )
        for n in range(3)
    ]  # fmt: skip
    found = [verdict for worker in workers for verdict in worker.communicate(timeout=300)[0].split()]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert len(found) == 240
    assert sum(verdict.startswith("+") for verdict in found) == 100


def test_of_many_that_cross_the_edge_of_a_part_no_more_pass_than_may(memcached: Any) -> None:
    async def story() -> int:
        clock = ManualClock()
        store, peer = ForeignStore(memcached.uri, clock=clock), ForeignStore(memcached.uri, clock=lambda: clock() + 1)
        hour = on("hour", Rolling(50, 3_600 * SECOND))
        clock.now += 149 * SECOND + 999_999
        assert window_of(hour.place, hour.verb, clock()).key != window_of(hour.place, hour.verb, clock() + 1).key
        turns = [ask(each, b"%d-%d" % (n, m), hour) for m in range(60) for n, each in enumerate((store, peer))]
        passed = sum(isinstance(outcome, Granted) for outcome in await asyncio.gather(*turns))
        assert passed == await used(store, hour)
        await store.close()
        await peer.close()
        return passed

    assert 0 < asyncio.run(story()) <= 50


def test_a_store_serves_one_event_loop_after_the_other(memcached: Any) -> None:
    store, life = ForeignStore(memcached.uri), on("life", Total(9))

    async def story(name: bytes) -> int:
        assert isinstance(await ask(store, name, life), Granted)
        units = await used(store, life)
        await store.close()
        return units

    assert [asyncio.run(story(b"%d" % n)) for n in range(3)] == [1, 2, 3]


# How they are opened.


def test_a_uri_of_limits_is_opened_and_others_are_told_with_what_there_is() -> None:
    pytest.importorskip("memcachio")
    assert isinstance(open_store("memcached://127.0.0.1:11211"), ForeignStore)
    assert open_store("memcached://127.0.0.1:11211", deadline=0.5).deadline == 0.5
    for uri in ("mongo://user:hidden-word@host", "async+memory://", "async+memcached://127.0.0.1:1", "etcd://host:1"):
        with pytest.raises(StoreError, match=r"no store is known for `[a-z+]+://`; there are .*mongodb://") as fault:
            open_store(uri)
        assert "hidden-word" not in str(fault.value)
    with pytest.raises(StoreError, match="cannot be `replicated`"):
        open_store("memcached://127.0.0.1:11211", durability="replicated")


@pytest.mark.parametrize(("scheme", "package"), [("memcached", "memcachio"), ("mongodb", "motor")])
def test_a_client_that_is_not_installed_is_named(scheme: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "find_spec", lambda name: None)
    with pytest.raises(StoreError, match=f"pip install {package}$") as fault:
        open_store(f"{scheme}://127.0.0.1:1")
    assert not fault.value.transient


@pytest.mark.parametrize(
    "uri",
    ["memcached://", "memcached://user:hidden-word@host", "memcached://host:port", "mongodb://user:hidden-word@h:x/"],
)
def test_an_address_that_cannot_be_read_is_told_without_its_password(uri: str) -> None:
    pytest.importorskip("memcachio")
    pytest.importorskip("motor")
    fault = asyncio.run(fault_of(answer(ForeignStore(uri), Look(()))))
    assert not fault.transient and "the address cannot be read; it is written" in str(fault)
    assert "hidden-word" not in str(fault)


def test_limits_is_imported_only_for_a_uri_of_its_own() -> None:
    code = (
        "import sys; from headgate.stores import keeping, open_store\n"
        "open_store('memory://'); open_store('sqlite:///x.db'); keeping('redis://host')\n"
        "assert 'limits' not in sys.modules; keeping('memcached://host:1'); assert 'limits' in sys.modules\n"
        "assert 'memcachio' not in sys.modules and 'motor' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0


def test_a_reservation_that_names_a_place_twice_is_a_mistake(in_memory: Any) -> None:
    life = on("life", Total(9))
    with pytest.raises(ValueError, match="twice"):
        asyncio.run(ask(in_memory()(ManualClock()), b"1", life, life))


def test_what_is_told_is_what_the_headers_read(in_memory: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        store = in_memory()(clock)
        rate, hour = on("rpm", Rate(10, 60 * SECOND, 5)), on("hour", Rolling(20, 3_600 * SECOND))
        life = on("life", Total(9))
        [outcome, seen] = await store.transact(
            (Reserve(b"1", (rate.of(3), hour, life.of(2)), LEASE), Look((rate, hour)))
        )
        assert isinstance(outcome, Granted) and isinstance(seen, Seen)
        found = [reading(d, b, outcome.now) for d, b in zip((rate, hour, life), outcome.balances, strict=True)]
        assert [(r.used, r.left) for r in found] == [(3, 12), (1, 19), (2, 7)]
        # Fifteen units refill in 90 s, a part of which, and the whole, may have to go by.
        assert 90 * SECOND < found[0].resets - clock.now <= 94 * SECOND
        assert seen.balances == outcome.balances[:2]

    asyncio.run(story())
