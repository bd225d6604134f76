"""Where the calls go: a master that sentinels tell, nodes that pass slots on, replicas that must have it, too."""

from __future__ import annotations

import asyncio
import threading
import time
from binascii import crc_hqx
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from headgate.errors import StoreError
from headgate.quota.command import Demand, Granted, Look, Outcome, Reserve, Seen
from headgate.quota.window import Total
from headgate.stores.redis import RedisStore
from headgate.stores.redis.script.codec import tag_of
from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server
from servers.proxy import Proxy
from servers.replicated import Replicated
from servers.sentinels import Sentinels
from timing import took

LEASE = 60_000_000
PATIENT = 30.0


def life(who: bytes = b"acme") -> Demand:
    return Demand((who, "life"), Total(2**40), 1)


def ask(rid: bytes, who: bytes = b"acme") -> tuple[Reserve]:
    return (Reserve(rid, (life(who),), LEASE),)


def slot_of(who: bytes) -> int:
    return crc_hqx(tag_of(who), 0) % 16_384


@asynccontextmanager
async def opened(url: str, deadline: float = PATIENT, **how: object) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, deadline=deadline, **how)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.close()


async def used(store: RedisStore, who: bytes = b"acme") -> int:
    [seen] = await store.transact((Look((life(who),)),))
    assert isinstance(seen, Seen)
    [balance] = seen.balances
    return 0 if balance is None else balance.used


async def persistently(store: RedisStore, rid: bytes, who: bytes = b"acme", within: float = PATIENT) -> list[Outcome]:
    """The same, said until it is answered."""
    end = time.perf_counter() + within
    while True:
        try:
            return await store.transact(ask(rid, who))
        except StoreError as fault:
            assert fault.transient, fault
            if time.perf_counter() > end:
                raise
            await asyncio.sleep(0.01)


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """Something of the operators' goes on beside."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


# Sentinels.


def test_sentinels_tell_the_master_and_a_new_one_is_found(sentinels: Sentinels) -> None:
    async def story() -> None:
        async with opened(sentinels.url) as store:
            for n in range(10):
                assert type((await store.transact(ask(b"%d" % n)))[0]) is Granted
            before = sentinels.primary
            sentinels.promote()
            for n in range(10):
                await persistently(store, b"new-%d" % n)
            assert sentinels.primary is not before
            assert sentinels.primary.ask("DBSIZE") > 0
            assert await used(store) == 20

    asyncio.run(story())


def test_a_master_that_dies_is_replaced_within_what_the_sentinels_need(sentinels: Sentinels) -> None:
    async def story() -> None:
        async with opened(sentinels.url, 0.05) as store:
            await persistently(store, b"before")
            sentinels.primary.kill()
            await persistently(store, b"after", within=60)

    asyncio.run(story())


def test_what_sentinels_do_not_know_is_told(sentinels: Sentinels) -> None:
    async def story() -> None:
        hosts = ",".join(f"{host}:{port}" for host, port in sentinels.addresses)
        async with opened(f"redis+sentinel://{hosts}/nobody") as store:
            with pytest.raises(StoreError, match="the sentinels know no master `nobody`"):
                await store.transact(ask(b"1"))
        async with opened(f"redis+sentinel://127.0.0.1:1,{hosts}/{sentinels.service}") as store:
            await store.transact(ask(b"1"))  # one that is down keeps nobody
        async with opened("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main") as store:
            with pytest.raises(StoreError, match=r"no sentinel tells .*127\.0\.0\.1:1: nothing listens there"):
                await store.transact(ask(b"1"))
        async with opened(f"redis://127.0.0.1:{sentinels.addresses[0][1]}") as store:
            with pytest.raises(StoreError, match=r"redis\+sentinel://HOST:PORT/NAME"):
                await store.transact(ask(b"1"))

    asyncio.run(story())


# Replicas.


def test_replicated_is_answered_when_a_replica_has_it(primary: Replicated) -> None:
    async def story() -> None:
        async with opened(primary.primary.url, durability="replicated") as store:
            outcomes = await asyncio.gather(*[store.transact(ask(b"%d" % n)) for n in range(100)])
            assert all(type(outcome) is Granted for [outcome] in outcomes)
            keys = primary.primary.ask("DBSIZE")
            assert primary.replica.ask("DBSIZE") == keys > 100

    asyncio.run(story())


def test_what_no_replica_has_is_unknown(primary: Replicated) -> None:
    async def story() -> None:
        async with opened(primary.primary.url, 0.1, durability="replicated") as store:
            await persistently(store, b"1")
            primary.replica.pause()
            call = asyncio.ensure_future(store.transact(ask(b"2")))
            seconds = await took(call, 0.1)
            with pytest.raises(StoreError, match="no replica took it within 100 ms") as told:
                call.result()
            assert (told.value.transient, told.value.unknown) == (True, True)
            assert seconds.own < 0.15
            primary.replica.resume()
            await persistently(store, b"3")
        async with opened(primary.primary.url) as store:
            assert await used(store) == 3

    asyncio.run(story())


def test_what_was_lost_before_a_replica_had_it_is_unknown_and_not_asked_again(primary: Replicated) -> None:
    async def story() -> None:
        async with Proxy(primary.primary.address) as proxy, opened(proxy.url, durability="replicated") as store:
            await store.transact(ask(b"1"))
            primary.replica.pause()
            call = asyncio.ensure_future(store.transact(ask(b"2")))
            while not proxy.requests[b"WAIT"] > 1:
                await asyncio.sleep(0.001)
            proxy.cut()
            with pytest.raises(StoreError, match="lost") as told:
                await call
            assert told.value.unknown
            primary.replica.resume()

    asyncio.run(story())


def test_many_calls_wait_for_replicas_together(primary: Replicated) -> None:
    async def story() -> None:
        async with Proxy(primary.primary.address) as proxy, opened(proxy.url, durability="replicated") as store:

            async def caller(n: int) -> None:
                for m in range(20):
                    assert type((await store.transact(ask(b"%d-%d" % (n, m))))[0]) is Granted

            await asyncio.gather(*[caller(n) for n in range(50)])
            assert proxy.requests[b"WAIT"] < 200
            assert await used(store) == 1_000

    asyncio.run(story())


# A cluster.

ORGS = [b"org-%04d-the-key" % n for n in range(60)]


def test_each_call_goes_to_the_node_that_serves_its_slot(cluster: Cluster) -> None:
    async def story() -> None:
        async with opened(cluster.url) as store:
            outcomes = await asyncio.gather(*[store.transact(ask(b"%d" % n, who)) for n, who in enumerate(ORGS)])
            assert all(type(outcome) is Granted for [outcome] in outcomes)
            assert [await used(store, who) for who in ORGS] == [1] * len(ORGS)
            assert all(node.ask("DBSIZE") for node in cluster.primaries())

    asyncio.run(story())


def test_one_call_may_name_commands_of_many_slots(cluster: Cluster) -> None:
    async def story() -> None:
        async with opened(cluster.url) as store:
            outcomes = await store.transact([ask(b"%d" % n, who)[0] for n, who in enumerate(ORGS)])
            assert [type(outcome) for outcome in outcomes] == [Granted] * len(ORGS)
            seen = await store.transact([Look((life(who),)) for who in reversed(ORGS)])
            assert all(isinstance(one, Seen) and one.balances[0] is not None for one in seen)

    asyncio.run(story())


def test_while_slots_move_nothing_is_lost_and_nothing_counted_twice(cluster: Cluster) -> None:
    who = ORGS[0]
    source = cluster.owner(slot_of(who))
    [target] = [node for node in cluster.primaries() if node is not source][:1]

    def back_and_forth() -> None:
        for to in (target, source, target, source):
            cluster.begin_move(slot_of(who), to)
            time.sleep(0.05)
            cluster.end_move(slot_of(who), to)
            time.sleep(0.05)

    async def story() -> None:
        async with opened(cluster.url) as store:
            count = 0
            with meanwhile(back_and_forth) as moving:
                while moving.is_alive():
                    calls = [store.transact(ask(b"%d" % (count + n), who)) for n in range(8)]
                    # A key that the slot does not have yet is asked for where the slot goes to.
                    new = who[:8] + b"%08d" % count
                    outcomes = await asyncio.gather(*calls, store.transact(ask(b"n%d" % count, new)))
                    assert all(type(outcome) is Granted for [outcome] in outcomes)
                    count += 8
                    await asyncio.sleep(0)
            assert await used(store, who) == count

    asyncio.run(story())


def test_a_slot_that_has_moved_is_asked_for_once_where_it_was(cluster: Cluster) -> None:
    who = ORGS[0]

    async def story() -> None:
        async with opened(cluster.url) as store:
            await store.transact(ask(b"1", who))
            source = cluster.owner(slot_of(who))
            [target] = [node for node in cluster.primaries() if node is not source][:1]
            cluster.move(slot_of(who), target)
            try:
                for n in range(10):
                    await store.transact(ask(b"later-%d" % n, who))
                assert "calls=1," not in str(target.ask("INFO", "commandstats").get("cmdstat_evalsha", ""))
                assert await used(store, who) == 11
                [here] = store._lines.values()
                assert here.line.under_way == 0
            finally:
                cluster.move(slot_of(who), source)

    asyncio.run(story())


def test_a_node_that_dies_is_replaced_and_the_others_go_on(fresh_cluster: Cluster) -> None:
    async def story() -> None:
        async with opened(fresh_cluster.url, 0.1) as store:
            for n, who in enumerate(ORGS):
                await persistently(store, b"before-%d" % n, who)
            victim = fresh_cluster.primaries()[0]

            def taken_over() -> bool:
                return fresh_cluster.owner(slot_of(mine[0])) is not victim

            mine = [who for who in ORGS if fresh_cluster.owner(slot_of(who)) is victim]
            others = [who for who in ORGS if who not in mine]
            victim.kill()
            after = asyncio.ensure_future(persistently(store, b"after", mine[0], within=60))
            with meanwhile(lambda: fresh_cluster.until("fail over", taken_over)) as failing_over:
                meantime = 0
                for n, who in enumerate(others):
                    assert type((await persistently(store, b"others-%d" % n, who))[0]) is Granted
                    meantime += not after.done()
                assert meantime >= len(others) / 4, "nobody waits for the one that died"
                while failing_over.is_alive():
                    await asyncio.sleep(0.01)
            begun = time.perf_counter()
            await after
            assert time.perf_counter() - begun <= 3.0 + 4.0, "3 s after the cluster, and some for a busy machine"

    asyncio.run(story())


def test_a_cluster_of_which_one_named_node_is_gone_is_found_by_the_others(cluster: Cluster) -> None:
    async def story() -> None:
        [host, port] = cluster.addresses[0]
        async with opened(f"redis+cluster://127.0.0.1:1,{host}:{port}") as store:
            assert type((await store.transact(ask(b"1")))[0]) is Granted

    asyncio.run(story())


def test_what_is_no_cluster_is_told_and_then_nobody_waits(valkey: Server) -> None:
    async def story() -> None:
        async with opened(f"redis+cluster://127.0.0.1:{valkey.port}") as store:
            with pytest.raises(StoreError, match="no node of a cluster; write redis://"):
                await store.transact(ask(b"1"))
            waited = []
            for n in range(20):  # now and then one asks whether it has changed
                begun = time.perf_counter()
                with pytest.raises(StoreError) as told:
                    await store.transact(ask(b"2-%d" % n))
                if "nobody asks again" in str(told.value):
                    waited.append(time.perf_counter() - begun)
            assert len(waited) >= 10 and min(waited) < 0.1

    asyncio.run(story())


def test_a_node_of_a_cluster_alone_is_told(cluster: Cluster) -> None:
    async def story() -> None:
        async with opened(f"redis://127.0.0.1:{cluster.addresses[0][1]}") as store:
            with pytest.raises(StoreError, match=r"redis\+cluster://HOST:PORT"):
                await store.transact(ask(b"1"))

    asyncio.run(story())


# TLS.


def test_tls_is_spoken_and_a_certificate_that_nobody_knows_is_told(make_server: Callable[..., Server]) -> None:
    server = make_server(tls=True)

    async def story() -> None:
        async with opened(server.url) as store:
            outcomes = await asyncio.gather(*[store.transact(ask(b"%d" % n)) for n in range(100)])
            assert all(type(outcome) is Granted for [outcome] in outcomes)
        plain = server.url.partition("?")[0]
        async with opened(plain) as store:
            with pytest.raises(StoreError, match=r"not trusted .*ssl_ca_certs=PATH") as told:
                await store.transact(ask(b"x"))
            assert not told.value.transient

    asyncio.run(story())
