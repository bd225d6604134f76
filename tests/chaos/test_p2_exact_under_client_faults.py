"""P2: lost replies, callers that give up, scripts that are forgotten, slots that move: the app is reached exactly as
often as the limit allows, and when nothing is owed any more, what is charged is what was served."""

from __future__ import annotations

import asyncio
import random
from binascii import crc_hqx
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from chaos.house import House, house, policy, secret_of
from headgate.quota.command import Cancel, Settle
from headgate.stores.redis.script.codec import tag_of
from headgate.testing.clusters import SLOTS, Cluster
from headgate.testing.servers import Server
from servers.proxied import proxied
from servers.proxy import Fate, Faults, Proxy

SCRIPTS = frozenset({b"EVALSHA", b"EVAL"})
TASKS = 64
SECRET = secret_of("acme", "total")


def lossy(share: float = 0.05) -> dict[str, Any]:
    """Of the replies to scripts so many are lost with their connection; some have come half."""
    return {"lose": share * 0.6, "tear": share * 0.2, "unsent": share * 0.2, "commands": SCRIPTS}


async def restless(one: House, times: int, lot: random.Random, give_up: float = 0.05) -> Counter[int]:
    """So many requests by `TASKS` callers, of which a share gives up at some moment: those count as 0."""
    left, found = iter(range(times)), Counter[int]()

    async def caller() -> None:
        for _ in left:
            task = asyncio.ensure_future(one.status(SECRET))
            if lot.random() < give_up:
                for _ in range(lot.randrange(12)):
                    await asyncio.sleep(0)
                if lot.random() < 0.5:
                    await asyncio.sleep(lot.random() * 0.02)
                task.cancel()
            try:
                found[status := await task] += 1
            except asyncio.CancelledError:
                found[status := 0] += 1
            if status == 503:
                await asyncio.sleep(0.02)  # as a client would that is told to come back later

    await asyncio.gather(*[caller() for _ in range(TASKS)])
    return found


@asynccontextmanager
async def meanwhile(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Something of the operators' goes on beside."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for told in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(told, Exception):
                raise told


async def flushed(nodes: list[Server], every: float = 0.1) -> None:
    """The servers forget all scripts, every so many seconds."""
    clients: list[Redis] = [node.client() for node in nodes]
    try:
        while True:
            for client in clients:
                await asyncio.to_thread(client.script_flush, "SYNC")
            await asyncio.sleep(every)
    finally:
        for client in clients:
            client.close()


async def moved(cluster: Cluster, slots: list[int], counted: Counter[str]) -> None:
    """The slots go from node to node, with their keys, for as long as this runs; each move is finished."""
    nodes = cluster.primaries()
    home = {slot: cluster.owner(slot) for slot in slots}
    at = dict(home)

    async def move(slot: int, to: Server) -> None:
        await asyncio.to_thread(cluster.begin_move, slot, to)
        await asyncio.sleep(0.03)
        await asyncio.to_thread(cluster.end_move, slot, to)
        at[slot] = to
        counted["moves"] += 1

    try:
        for turn in count():
            for slot in slots:
                to = [node for node in nodes if node is not at[slot]][turn % 2]
                await asyncio.shield(moving := asyncio.ensure_future(move(slot, to)))
                await asyncio.sleep(0.02)
    finally:
        await asyncio.wait({moving})
        for slot in slots:
            if at[slot] is not home[slot]:
                await move(slot, home[slot])


async def held_to_its_word(one: House, limit: int, times: int, heal: Callable[[], None], lot: random.Random) -> None:
    """The story of each test: requests under faults, then peace: then the ledger says what the app has counted."""
    before = one.origin.served
    answers = await restless(one, times, lot)
    served = one.origin.served
    heal()
    found = await one.quiet(SECRET)
    assert served <= limit, "excess"
    assert answers[200] <= served - before <= answers[200] + answers[0], answers
    assert answers[0] >= times // 200, "enough have given up"
    charged = {name: found[name][0] for name in ("total", "quota", "rolling", "network")}
    assert charged == dict.fromkeys(charged, served), "no more and no less than was served"
    assert found["streams"] == (0, 0), "nobody's place is kept"
    # And nothing has got lost on the way: the rest of the limit is there for those who come now.
    for _ in range(200):
        await one.asked(SECRET, limit - one.origin.served + 20, TASKS)
        await one.gate.resolver.idle()  # on a busy machine some are answered too late, and undone
        if one.origin.served >= limit:
            break
    assert (one.origin.served, await one.status(SECRET)) == (limit, 429)


def file_of(folder: Path, limit: int) -> Path:
    file = folder / "headgate.yaml"
    file.write_text(policy(limit, network=1_000_000))
    return file


async def on_one_server(valkey: Server, folder: Path, limit: int, seed: int) -> None:
    async with (
        Proxy(valkey.address, faults=Faults(**lossy()), seed=seed) as proxy,
        house(proxy.url, file_of(folder, limit)) as one,
        meanwhile(flushed([valkey])),
    ):
        await held_to_its_word(one, limit, limit * 3 // 2, proxy.heal, random.Random(seed))
        assert proxy.accepted > 5, "connections were lost"


async def on_a_cluster(cluster: Cluster, folder: Path, limit: int, seed: int) -> None:
    async with proxied(cluster, seed=seed) as through, house(through.url, file_of(folder, limit)) as one:
        demands = await one.demands(SECRET)
        slots = sorted({crc_hqx(tag_of(demand.place[0]), 0) % SLOTS for demand in demands})
        assert len(slots) == 2, "the org's, and the address's"
        through.set(**lossy())
        moves = Counter[str]()
        async with meanwhile(moved(cluster, slots, moves), flushed(cluster.primaries())):
            await held_to_its_word(one, limit, limit * 3 // 2, through.set, random.Random(seed))
        assert moves["moves"] > 2


@pytest.mark.parametrize("fate", [Fate.LOSE, Fate.TEAR, Fate.CLOSE])
@pytest.mark.parametrize("shape", ["redis", "cluster"])
def test_at_04_a_request_whose_reply_was_lost_is_charged_once(
    shape: str, fate: Fate, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    there: Any = request.getfixturevalue("valkey" if shape == "redis" else "cluster")

    async def story() -> None:
        async with AsyncExitStack() as stack:
            if shape == "redis":
                proxies = [await stack.enter_async_context(Proxy(there.address))]
                url = proxies[0].url
            else:
                through = await stack.enter_async_context(proxied(there))
                proxies, url = list(through.proxies.values()), through.url
            one = await stack.enter_async_context(house(url, file_of(tmp_path, 10)))
            assert await one.status(SECRET) == 200  # the scripts are known, and no text need be sent
            for proxy in proxies:
                proxy.spoil(fate, b"EVALSHA")
            assert await one.status(SECRET) == 200
            assert (await one.quiet(SECRET))["total"] == (2, 0)
            assert one.origin.served == 2
            assert sum(proxy.accepted for proxy in proxies) > len([proxy for proxy in proxies if proxy.open])

    asyncio.run(story())


SHORT = 20
"""Milliseconds that are waited for a server which is now and then slower than that."""


async def slow_now_and_then(proxy: Proxy) -> None:
    while True:
        proxy.faults = Faults(latency=SHORT / 1_000, jitter=SHORT / 1_000)
        await asyncio.sleep(0.04)
        proxy.heal()
        await asyncio.sleep(0.08)


def counted(one: House) -> Counter[str]:
    """What the gate says behind its answers, by the command's name."""
    said, owe = Counter[str](), one.gate.resolver.owe

    def noted(command: Cancel | Settle, *more: Any) -> None:
        said[type(command).__name__] += 1
        owe(command, *more)

    one.gate.resolver.owe = noted  # type: ignore[method-assign]
    return said


async def with_late_replies(valkey: Server, folder: Path, limit: int, seed: int) -> None:
    async with (
        Proxy(valkey.address, seed=seed) as proxy,
        house(proxy.url, file_of(folder, limit), deadline_ms=SHORT) as one,
    ):
        undone, answers, lot = counted(one), Counter[int](), random.Random(seed)
        async with meanwhile(slow_now_and_then(proxy)):
            while undone["Cancel"] < 100 and one.origin.served < limit - TASKS:
                answers += await restless(one, TASKS, lot)
        proxy.heal()
        assert answers[503], "some were not answered in time"
        assert undone["Cancel"] >= 100
        await held_to_its_word(one, limit, TASKS, proxy.heal, lot)


def test_p2_what_was_answered_too_late_is_undone_and_then_charged_to_nobody(valkey: Server, tmp_path: Path) -> None:
    asyncio.run(with_late_replies(valkey, tmp_path, 1_000, seed=1))


def test_p2_lost_replies_callers_that_give_up_and_forgotten_scripts_change_no_count(
    valkey: Server, tmp_path: Path
) -> None:
    asyncio.run(on_one_server(valkey, tmp_path, 1_000, seed=1))


def test_p2_moving_slots_change_no_count_either(cluster: Cluster, tmp_path: Path) -> None:
    asyncio.run(on_a_cluster(cluster, tmp_path, 1_000, seed=1))


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(5))
def test_p2_ten_thousand_requests_under_faults_on_one_server(valkey: Server, tmp_path: Path, seed: int) -> None:
    asyncio.run(on_one_server(valkey, tmp_path, 7_000, seed))


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(5))
def test_p2_ten_thousand_requests_under_faults_on_a_cluster(cluster: Cluster, tmp_path: Path, seed: int) -> None:
    asyncio.run(on_a_cluster(cluster, tmp_path, 7_000, seed))
