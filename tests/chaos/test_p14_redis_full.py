"""P14: a Redis that is full gives nobody more. Who has used up a limit stays refused, who has something left gets
that and no more, newcomers share what one of them would have had; nobody is let in because the server is full, though
the policy says `open`; and when there is room again nobody begins anew. A server that would make room by forgetting
counts is not used at all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import MovedError, OutOfMemoryError

from chaos.house import PATIENT, House, secret_of
from chaos.outage import App, Staff, Worker
from headgate.errors import StoreError
from headgate.quota.command import Look
from headgate.stores import fitness
from headgate.stores.redis import RedisStore
from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server

LIMIT = 10
ROOM = "6mb"
ASKS = 100

EVICTING = (
    "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
)  # fmt: skip


def fill(server: Server) -> None:
    """Somebody else's keys take all the room that there is."""
    with server.client() as client, pytest.raises(OutOfMemoryError):
        tag = tag_at(client)
        for n in range(1_000_000):
            client.set(f"somebody else's {n}{tag}", b"\0" * 10_000)
    # What the server frees by itself, as that client's buffers, is no room for us.
    server.ask("CONFIG", "SET", "maxmemory", server.ask("INFO", "memory")["used_memory"] * 3 // 4)


def tag_at(client: Redis) -> str:
    """With this a key lies at that node, if it is a cluster's."""
    for n in range(1_000):
        with suppress(MovedError):
            client.exists(f"{{{n}}}")
            return f"{{{n}}}"
    raise AssertionError("it has no slots")


def empty(server: Server) -> None:
    """And go again."""
    with server.client() as client:
        for key in client.scan_iter("somebody*", count=1_000):
            client.delete(key)
    server.ask("CONFIG", "SET", "maxmemory", ROOM)


async def asked(one: House, times: int, org: str, key: str = "1") -> Counter[int]:
    return await one.asked(secret_of(org, key=key), times, 4)


async def flooded(one: House, newcomers: Sequence[tuple[str, str]]) -> int:
    """How many requests of newcomers (org and key) are let in; each asks three times."""
    answers = [await asked(one, 3, org, key) for org, key in newcomers]
    assert all(set(answer) <= {200, 429} for answer in answers)
    return sum(answer[200] for answer in answers)


async def full(store: str, servers: Sequence[Server], folder: Path, newcomers: Sequence[tuple[str, str]]) -> None:
    """The servers are filled, and emptied again."""
    async with Staff(store, folder, deadline_ms=PATIENT) as staff:
        worker = await staff.worker("open", LIMIT)
        one = worker.house
        assert await asked(one, LIMIT, "exhausted") == {200: LIMIT}
        assert await asked(one, 4, "resident") == {200: 4}
        for server in servers:
            fill(server)
        assert await asked(one, ASKS, "exhausted") == {429: ASKS}, "0 extra"
        assert await flooded(one, newcomers) == LIMIT, "newcomers share one balance"
        assert await asked(one, ASKS, "resident") == {200: LIMIT - 4, 429: ASKS - LIMIT + 4}
        for server in servers:
            empty(server)
        another = (await staff.worker("open", LIMIT)).house  # it remembers no refusal
        assert await flooded(another, newcomers) == 0, "there is room again, and no fresh window"
        for org in ("exhausted", "resident"):
            assert await asked(another, ASKS, org) == {429: ASKS}
        assert let_in_without(worker) == 0, "to fill the server opens no door"


def let_in_without(worker: Worker) -> int:
    """How many requests were let in that the ledger had not granted."""
    assert isinstance(worker.app, App)
    return sum(many for way, many in worker.app.let_in.items() if way)


def strangers(many: int) -> list[tuple[str, str]]:
    return [(f"stranger-{n}", "1") for n in range(many)]


def keys_of_one(many: int) -> list[tuple[str, str]]:
    """Keys of one org, which lie in one slot: newcomers share one balance for each slot."""
    return [("stranger", f"{n}") for n in range(many)]


def test_fl_16_filling_the_memory_opens_no_door(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server(maxmemory=ROOM)
    asyncio.run(full(server.url, [server], tmp_path, strangers(40)))


@pytest.mark.chaos
def test_fl_16_filling_the_memory_of_redis_7_opens_no_door(
    make_server: Callable[..., Server], redis7: Server, tmp_path: Path
) -> None:
    server = make_server(maxmemory=ROOM, program=redis7.program)
    asyncio.run(full(server.url, [server], tmp_path, strangers(500)))


@pytest.mark.chaos
def test_fl_16_filling_the_memory_of_a_cluster_opens_no_door(tmp_path: Path) -> None:
    with Cluster(3, 0, maxmemory=ROOM) as cluster:
        asyncio.run(full(cluster.url, cluster.primaries(), tmp_path, keys_of_one(40)))


# By headgate's own keys: whoever may send requests from many addresses can do that.


async def flooded_by_requests(server: Server, folder: Path) -> None:
    async with Staff(server.url, folder, deadline_ms=PATIENT) as staff:
        worker = await staff.worker("open", LIMIT)
        one = worker.house
        assert await asked(one, LIMIT, "exhausted") == {200: LIMIT}
        numbers, let_in = count(), 0
        while not server.ask("EXISTS", b"ho{}"):
            for _ in range(100):
                let_in += await one.status(secret_of(f"stranger-{next(numbers)}")) == 200
        number = next(numbers)
        assert await flooded(one, [(f"late-{n}", "1") for n in range(40)]) <= LIMIT
        assert await asked(one, ASKS, "exhausted") == {429: ASKS}
        assert let_in_without(worker) == 0
        print(f"{number} newcomers filled it; when it was full, {number - let_in} of them were refused")


def test_p14_newcomers_who_fill_the_server_open_no_door(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server()
    used = server.ask("INFO", "memory")["used_memory"]
    server.ask("CONFIG", "SET", "maxmemory", used + 800_000)
    asyncio.run(flooded_by_requests(server, tmp_path))


# Servers that forget.


async def refused(url: str) -> StoreError:
    store = RedisStore(url, deadline=PATIENT / 1_000)
    try:
        with pytest.raises(StoreError) as told:
            await store.transact((Look(()),))
        return told.value
    finally:
        await store.close()


def not_used(url: str, policy: str) -> None:
    """It is not used, and one is told why and what helps."""
    fault = asyncio.run(refused(url))
    assert f"its `maxmemory-policy` is {policy}" in str(fault)
    assert "CONFIG SET maxmemory-policy noeviction" in str(fault)
    assert (fault.transient, fault.unknown) == (False, False)


@pytest.mark.parametrize("policy", EVICTING)
def test_fl_15_a_server_that_evicts_is_not_used(
    make_server: Callable[..., Server], tmp_path: Path, policy: str
) -> None:
    server = make_server(maxmemory="20mb", maxmemory_policy=policy)
    not_used(server.url, policy)

    async def turned_away() -> None:
        async with Staff(server.url, tmp_path, deadline_ms=PATIENT) as staff:
            closed, opened = await staff.worker("closed"), await staff.worker("open")
            assert (await closed.asked()).status == 503
            assert (await opened.asked()).status == 200
            assert opened.app.let_in == {"open": 1}, "and marked so"

    asyncio.run(turned_away())
    report = asyncio.run(fitness.look(server.url))
    assert {finding.severity for finding in report.findings if finding.name == "eviction"} == {"fault"}


@pytest.mark.chaos
def test_fl_15_a_cluster_that_evicts_is_not_used() -> None:
    with Cluster(3, 0, maxmemory="20mb", maxmemory_policy="allkeys-lru") as cluster:
        not_used(cluster.url, "allkeys-lru")
