"""One store, many callers: what travels together, who is told what, which loop has which connection."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from headgate.errors import StoreError
from headgate.quota.command import (
    Cancel,
    Demand,
    Granted,
    Join,
    Look,
    Outcome,
    Refused,
    Reserve,
    Seen,
    Settle,
    Settled,
)
from headgate.quota.window import Total
from headgate.stores.redis import RedisStore
from headgate.stores.redis.slots.raising import SKETCHES, in_pieces
from headgate.stores.redis.wire import line
from headgate.testing.servers import Server
from headgate.testing.story import thing
from servers.proxy import Proxy

LEASE = 60_000_000
PATIENT = 30.0
HUGE = 2**40


def life(who: bytes = b"acme", amount: int = 1, of: int = HUGE) -> Demand:
    return Demand((who, "life"), Total(of), amount)


def ask(rid: bytes, *demands: Demand) -> tuple[Reserve]:
    return (Reserve(rid, demands or (life(),), LEASE),)


@asynccontextmanager
async def opened(url: str, deadline: float = PATIENT) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, deadline=deadline)
    try:
        yield store
    finally:
        await store.close()


async def used(store: RedisStore, who: bytes = b"acme") -> int:
    [seen] = await store.transact((Look((life(who),)),))
    assert isinstance(seen, Seen)
    [balance] = seen.balances
    return 0 if balance is None else balance.used


# What travels together.


async def tick(url: tuple[str, int]) -> None:
    async with Proxy(url) as proxy, opened(proxy.url) as store:
        await store.transact(ask(b"first"))
        before = proxy.requests[b"EVALSHA"]
        outcomes = await asyncio.gather(*[store.transact(ask(b"%d" % n)) for n in range(100)])
        assert all(type(outcome) is Granted for [outcome] in outcomes)
        assert proxy.requests[b"EVALSHA"] - before == 4, "a hundred commands, thirty-two a script call"
        assert proxy.accepted == 1


def test_the_calls_of_one_tick_travel_together(valkey: Server) -> None:
    asyncio.run(tick(valkey.address))


async def raised(url: str, orgs: int, named: int) -> None:
    """Each org has named so many documents, every other of them its neighbour's, too."""
    async with opened(url) as store:
        sources = [Demand((b"org-%d" % n, "docs"), Total(HUGE), 0, hold=True) for n in range(orgs)]
        for n, source in enumerate(sources):
            begin = n * named // 2
            touched = source._replace(things=tuple([thing(at) for at in range(begin, begin + named)]))
            await store.transact((Reserve(b"r%d" % n, (source,), LEASE),))
            await store.transact((Settle(b"r%d" % n, (touched,)),))
        used = []
        for group, hold in ((b"at once", False), (b"in pieces", True)):
            join = Join(sources[0].at((group, "docs"))._replace(hold=hold), tuple(sources))
            assert in_pieces(join) is hold
            for _ in "twice":
                [outcome] = await store.transact((join,))
                assert isinstance(outcome, Settled)
                assert outcome.balances[0] is not None
                used.append(outcome.balances[0].used)
        assert set(used) == {named * (orgs + 1) // 2}, "whichever way, and however often"


def test_a_group_of_more_sketches_than_one_command_may_unite_comes_to_the_same(valkey: Server) -> None:
    asyncio.run(raised(valkey.url, orgs=SKETCHES + 4, named=40))


def test_a_call_of_many_commands_keeps_their_order(valkey: Server) -> None:
    async def story() -> None:
        async with opened(valkey.url) as store:
            outcomes = await store.transact(
                [*ask(b"1", life(of=40)) * 1, *[ask(b"r%d" % n, life(of=40))[0] for n in range(79)]]
            )
            assert [type(o) for o in outcomes] == [Granted] * 40 + [Refused] * 40
            assert await store.transact([]) == []

    asyncio.run(story())


def test_what_is_wrong_with_one_call_is_told_to_its_caller_alone(valkey: Server) -> None:
    async def story() -> None:
        async with opened(valkey.url) as store:
            twice = Reserve(b"twice", (life(), life()), LEASE)
            wrong, right = await asyncio.gather(
                store.transact((twice,)), store.transact(ask(b"right")), return_exceptions=True
            )
            assert isinstance(wrong, ValueError)
            assert isinstance(right, list)
            assert await used(store) == 1

    asyncio.run(story())


def test_only_so_many_calls_are_under_way(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "MOST", 50)

    async def story() -> None:
        async with opened(valkey.url) as store:
            told = await asyncio.gather(*[store.transact(ask(b"%d" % n)) for n in range(80)], return_exceptions=True)
            crowded = [fault for fault in told if isinstance(fault, StoreError)]
            assert len(crowded) == 30
            assert "50 calls" in str(crowded[0])
            assert (crowded[0].transient, crowded[0].unknown) == (True, False)
            assert await used(store) == 50, "whoever was answered makes room"

    asyncio.run(story())


# Whoever gives up.


async def cancels(url: tuple[str, int], calls: int) -> None:
    """Everybody asks for their own balance; whoever is not cancelled must hear of it and of no other."""
    lot = random.Random(19)

    async def caller(store: RedisStore, n: int) -> None:
        who = b"caller-%d" % (n % 997)
        [outcome] = await store.transact((Reserve(b"%d" % n, (life(who, of=1_000_000 + n % 997),), LEASE),))
        assert type(outcome) is Granted
        [seen] = await store.transact((Look((life(who),)),))
        assert isinstance(seen, Seen)
        assert seen.balances[0] is not None
        told[n] = seen.balances[0].used

    told: dict[int, int] = {}
    async with Proxy(url) as proxy, opened(proxy.url) as store:
        for begun in range(0, calls, 200):
            tasks = [asyncio.ensure_future(caller(store, n)) for n in range(begun, begun + 200)]
            for _ in range(6):
                await asyncio.sleep(0)
                for task in lot.sample(tasks, 12):
                    task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
        assert proxy.accepted == 1, "no connection is given up for a caller that was"
        assert len(told) > calls / 3
        assert all(1 <= count <= 1 + n // 997 for n, count in told.items()), "each was told of its own balance"
        [here] = store._lines.values()
        assert here.line.under_way == 0


def test_callers_that_give_up_get_no_foreign_answer_and_lose_no_connection(valkey: Server) -> None:
    asyncio.run(cancels(valkey.address, 10_000))


@pytest.mark.chaos
def test_a_hundred_thousand_callers_that_give_up(valkey: Server) -> None:
    asyncio.run(cancels(valkey.address, 100_000))


def test_a_call_that_is_given_up_in_the_tick_in_which_it_was_made_is_not_sent(valkey: Server) -> None:
    async def story() -> None:
        async with opened(valkey.url) as store:
            await store.transact(ask(b"first"))
            call = asyncio.ensure_future(store.transact(ask(b"second")))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await used(store) == 1

    asyncio.run(story())


# The script.


def test_scripts_may_be_flushed_at_any_time(valkey: Server) -> None:
    async def story() -> None:
        async with opened(valkey.url) as store:
            for turn in range(20):
                valkey.ask("SCRIPT", "FLUSH")
                outcomes = await asyncio.gather(*[store.transact(ask(b"%d-%d" % (turn, n))) for n in range(70)])
                assert all(type(outcome) is Granted for [outcome] in outcomes)
            assert await used(store) == 20 * 70

    asyncio.run(story())


def test_the_text_of_the_script_is_sent_once_for_many_that_lack_it(valkey: Server) -> None:
    async def story() -> None:
        async with Proxy(valkey.address) as proxy, opened(proxy.url) as store:
            await asyncio.gather(*[store.transact(ask(b"%d" % n)) for n in range(300)])
            assert proxy.requests[b"EVAL"] == 1

    asyncio.run(story())


@pytest.mark.parametrize("spoil", [("SET", "hg{*", b"\xff" * 7), ("LPUSH", "hh{*", "somebody else's")])
def test_one_spoilt_balance_harms_nobody_else(valkey: Server, spoil: tuple[str, str, object]) -> None:
    async def story() -> None:
        async with opened(valkey.url) as store:
            held = life(b"spoilt")._replace(hold=True)
            await store.transact(ask(b"1", held))
            how, where, what = spoil
            [key] = valkey.ask("KEYS", where)
            valkey.ask("DEL", key)
            valkey.ask(how, key, what)
            told = await asyncio.gather(
                *[store.transact(ask(b"r%d" % n, held if n == 7 else life(b"sound"))) for n in range(20)],
                return_exceptions=True,
            )
            assert [n for n, outcome in enumerate(told) if isinstance(outcome, StoreError)] == [7]
            assert await used(store, b"sound") == 19

    asyncio.run(story())


# Loops, threads, processes.


def test_a_store_serves_one_loop_after_the_other_and_leaves_nothing_behind(valkey: Server) -> None:
    store = RedisStore(valkey.url, deadline=PATIENT)
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for n in range(30):
        asyncio.run(once(store, b"%d" % n))  # and is not closed
    gc.collect()
    assert len(store._lines) <= 1
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) <= before
    asyncio.run(store.close())


async def once(store: RedisStore, rid: bytes) -> list[Outcome]:
    return await store.transact(ask(rid))


def test_several_loops_at_once_share_a_store(valkey: Server) -> None:
    store = RedisStore(valkey.url, deadline=PATIENT)

    async def many(worker: int) -> None:
        for n in range(50):
            outcomes = await asyncio.gather(*[once(store, b"%d-%d-%d" % (worker, n, m)) for m in range(8)])
            assert all(type(outcome) is Granted for [outcome] in outcomes)

    threads = [threading.Thread(target=lambda w=w: asyncio.run(many(w))) for w in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def counted() -> int:
        async with opened(valkey.url) as other:
            return await used(other)

    assert asyncio.run(counted()) == 4 * 50 * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_makes_a_connection_of_its_own(valkey: Server) -> None:
    store = RedisStore(valkey.url, deadline=PATIENT)
    runner = asyncio.Runner()
    runner.run(once(store, b"parent"))
    child = os.fork()
    if not child:
        code = 1
        with suppress(BaseException):
            [outcome] = asyncio.run(once(store, b"child"))
            code = 0 if type(outcome) is Granted else 2
        os._exit(code)
    try:
        assert os.waitpid(child, 0)[1] == 0
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        raise
    assert type(runner.run(once(store, b"parent again"))[0]) is Granted
    assert runner.run(used(store)) == 3
    runner.run(store.close())
    runner.close()


def test_a_store_that_was_closed_opens_again_and_closing_waits_for_what_is_under_way(valkey: Server) -> None:
    async def story() -> None:
        store = RedisStore(valkey.url, deadline=PATIENT)
        await store.close()
        calls = [asyncio.ensure_future(once(store, b"%d" % n)) for n in range(50)]
        await asyncio.sleep(0)
        await store.close()
        assert all(call.done() and type(call.result()[0]) is Granted for call in calls)
        assert type((await once(store, b"again"))[0]) is Granted
        await store.close()
        await store.close()
        assert valkey.ask("CLIENT", "LIST", "TYPE", "normal").count(b"name=headgate") <= 1

    asyncio.run(story())


def test_a_cancellation_undoes_what_a_lost_call_may_have_done(valkey: Server) -> None:
    async def story() -> None:
        async with opened(valkey.url) as store:
            call = asyncio.ensure_future(once(store, b"lost"))
            for _ in range(3):
                await asyncio.sleep(0)
            call.cancel()
            await store.transact((Cancel(b"lost", (life(),), LEASE),))
            assert await used(store) == 0

    asyncio.run(story())
