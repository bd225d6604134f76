"""P12, as far as it is the fleet's: whatever was said to a ledger in Redis, every key that it leaves has an end, also
one that was written while the server was full; and a subject with its windows takes 250 bytes or less."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

from chaos.mixture import Mixture, verbs
from headgate.clock import wall_clock
from headgate.ids import new_id
from headgate.quota.command import Demand, Granted, Reserve
from headgate.stores.redis import RedisStore
from headgate.stores.slices import SlicedStore
from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server

PATIENT = 20.0
MOST = 250
"""Bytes for a subject."""

REMEMBERED = 300_000
"""Milliseconds that a receipt is kept at most: ten seconds, or the lease, and a minute for clocks that differ."""


def keys(servers: Sequence[Server]) -> Iterator[tuple[bytes, int, int | None]]:
    """Each key with its time to live (milliseconds; -1: without end, -2: it ended meanwhile) and its size (bytes)."""
    for server in servers:
        with server.client() as client:
            for some in _batches(client.scan_iter(count=1_000)):
                asked = client.pipeline(transaction=False)
                for key in some:
                    asked.pttl(key)
                    asked.memory_usage(key)
                told = asked.execute()
                yield from zip(some, told[::2], told[1::2], strict=True)


def _batches(found: Iterator[bytes]) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    for key in found:
        some.append(key)
        if len(some) == 500:
            yield some
            some = []
    yield some


def all_have_an_end(servers: Sequence[Server]) -> Counter[bytes]:
    """How many keys there are of each kind, all of which have one. (A lifetime's total is kept for 200 years.)"""
    kinds: Counter[bytes] = Counter()
    for key, left, _ in keys(servers):
        assert left != -1, f"{key!r} has no end"
        assert left <= REMEMBERED or not key.startswith(b"hr") or len(servers) > 1, key
        kinds[key[:2]] += 1
    return kinds


async def mixed(url: str, times: int, seed: int) -> None:
    """A worker that asks the ledger, and one that asks it through slices, side by side."""
    stores = [RedisStore(url, deadline=PATIENT), SlicedStore(RedisStore(url, deadline=PATIENT))]
    try:
        mixtures = [Mixture(store, seed) for store in stores]
        await asyncio.gather(*[mixture.said(times) for mixture in mixtures])
        assert all(mixture.refused for mixture in mixtures)
        assert not any(mixture.failed for mixture in mixtures)
    finally:
        for store in stores:
            await store.close()


def told(url: str, servers: Sequence[Server], times: int, seed: int) -> Counter[bytes]:
    asyncio.run(mixed(url, times, seed))
    return all_have_an_end(servers)


def while_full(server: Server, times: int, seed: int) -> None:
    before = told(server.url, [server], times, seed)
    assert {b"hg", b"hh", b"hr"} <= set(before)
    server.ask("CONFIG", "SET", "maxmemory", 1)
    after = told(server.url, [server], times, seed + 1)
    assert b"ho" in after, "newcomers were counted together"
    server.ask("CONFIG", "SET", "maxmemory", 0)
    told(server.url, [server], times, seed + 2)


def test_p12_every_key_has_an_end(make_server: Callable[..., Server]) -> None:
    while_full(make_server(), 400, seed=12)


def test_p12_every_key_of_a_cluster_has_an_end(cluster: Cluster) -> None:
    told(cluster.url, cluster.primaries(), 300, seed=12)


@pytest.mark.chaos
def test_p12_every_key_has_an_end_after_many_more(make_server: Callable[..., Server]) -> None:
    server = make_server()
    for seed in range(3):
        while_full(server, 3_000, seed)


@pytest.mark.chaos
def test_p12_every_key_of_a_cluster_has_an_end_after_many_more(cluster: Cluster) -> None:
    for seed in range(3):
        told(cluster.url, cluster.primaries(), 2_000, seed)


async def used(url: str, subjects: int) -> None:
    """So many subjects with nine windows each, all of them in use."""
    store = RedisStore(url, deadline=PATIENT)
    limits = {name: verb for name, verb in verbs(wall_clock()).items() if name != "streams"}
    try:
        for begun in range(0, subjects, 100):
            calls = []
            for n in range(begun, begun + 100):
                subject = b"an org: %08d" % n
                demands = tuple([Demand((subject, name), verb, 1) for name, verb in limits.items()])
                calls.append(store.transact((Reserve(new_id(), demands, 1),)))
            assert all(type(outcome) is Granted for [outcome] in await asyncio.gather(*calls))
    finally:
        await store.close()


def a_subject(server: Server, subjects: int) -> None:
    before = server.ask("INFO", "memory")["used_memory"]
    asyncio.run(used(server.url, subjects))
    sizes = [size for key, _, size in keys([server]) if size and key.startswith(b"hg")]
    assert len(sizes) == subjects
    assert max(sizes) <= MOST
    receipts = sum(size for key, _, size in keys([server]) if size and key.startswith(b"hr"))
    whole = (server.ask("INFO", "memory")["used_memory"] - before - receipts) / subjects
    print(f"{subjects} subjects: {sum(sizes) / subjects:.0f} bytes each, {whole:.0f} with the server's own tables")


def test_p12_a_subject_takes_250_bytes(make_server: Callable[..., Server]) -> None:
    a_subject(make_server(), 1_000)


@pytest.mark.chaos
def test_p12_each_of_a_hundred_thousand_subjects_takes_250_bytes(make_server: Callable[..., Server]) -> None:
    a_subject(make_server(), 100_000)
