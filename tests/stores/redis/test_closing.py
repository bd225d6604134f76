"""When `close` comes back nothing is left: no socket, no task. The loop may end at once."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.quota.command import Look
from headgate.quota.window import Total
from headgate.stores.redis import RedisStore
from headgate.stores.redis.wire.cluster import ClusterLine
from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server
from headgate.testing.story import on
from servers.sentinels import Sentinels

PATIENT = 30.0
LOOK = (Look((on("life", Total(9)),)),)

Doing = Callable[[RedisStore], Awaitable[None]]


@contextmanager
def nothing_left() -> Iterator[None]:
    """Whatever is collected that was not closed is told, and so is a task that was never asked for its fault."""
    gc.collect()
    told: list[str] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    told += [str(one.message) for one in warned if issubclass(one.category, ResourceWarning)]
    assert told == []


def closed_at_once(url: str, doing: Doing, **how: Any) -> None:
    """What is done with a store, and closing it: then the loop stands still, whatever it had still to do."""

    async def story() -> set[str]:
        store = RedisStore(url, **{"deadline": PATIENT, **how})
        await doing(store)
        await store.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
        return {str(task.get_coro()) for task in left}

    with nothing_left():
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _, context: pytest.fail(str(context)))
        try:
            assert loop.run_until_complete(story()) == set()
        finally:
            loop.close()


async def looked(store: RedisStore) -> None:
    await store.transact(LOOK)


async def looked_from_many(store: RedisStore) -> None:
    await asyncio.gather(*[store.transact((Look((on("life", Total(9), who=b"%d" % n),)),)) for n in range(40)])


def after(turns: int) -> Doing:
    """It is closed so many turns of the loop after somebody has begun to ask, who gives up."""

    async def doing(store: RedisStore) -> None:
        asking = asyncio.ensure_future(store.transact(LOOK))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})

    return doing


@pytest.mark.parametrize("doing", [looked, looked_from_many, *map(after, (0, 1, 2, 3, 4, 6, 8, 12, 20, 40))])
@pytest.mark.parametrize("kind", ["valkey", "cluster"])
def test_nothing_is_left_whenever_it_is_closed(kind: str, doing: Doing, request: pytest.FixtureRequest) -> None:
    closed_at_once(request.getfixturevalue(kind).url, doing)


def test_nothing_is_left_of_asking_the_sentinels(sentinels: Sentinels) -> None:
    for doing in (looked, *map(after, range(0, 30, 3))):
        closed_at_once(sentinels.url, doing)


def test_nothing_is_left_of_a_connection_that_was_given_up_before(valkey: Server) -> None:
    async def given_up(store: RedisStore) -> None:
        await looked(store)
        [here] = store._lines.values()
        here.line.nodes[0].leave()

    closed_at_once(valkey.url, given_up)


def test_nothing_is_left_of_a_server_that_says_nothing() -> None:
    async def refused(store: RedisStore) -> None:
        with pytest.raises(StoreError):
            await looked(store)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        closed_at_once(f"redis://127.0.0.1:{silent.getsockname()[1]}", refused, deadline=0.02)


@pytest.mark.parametrize("turns", range(12))
def test_nothing_is_left_of_a_map_that_was_being_read(cluster: Cluster, turns: int) -> None:
    async def reading(store: RedisStore) -> None:
        await looked_from_many(store)
        [here] = store._lines.values()
        line = here.line
        assert isinstance(line, ClusterLine)
        for node in line.nodes:
            node.leave()
        line._read_now()
        for _ in range(turns):
            await asyncio.sleep(0)

    closed_at_once(cluster.url, reading)


def test_nothing_is_left_of_nodes_that_are_of_the_cluster_no_more(cluster: Cluster) -> None:
    async def left(store: RedisStore) -> None:
        await looked_from_many(store)
        [here] = store._lines.values()
        line = here.line
        assert isinstance(line, ClusterLine)
        gone, *kept = line.nodes
        told = [[0, 16_383, [where[0].encode(), where[1]]] for where, node in line._known.items() if node is kept[0]]
        line._taken((kept[0], told))
        assert gone not in line.nodes

    closed_at_once(cluster.url, left)
