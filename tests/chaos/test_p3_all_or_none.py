"""P3: a shard dies between the two phases of a reservation: nobody is admitted who is charged in one place alone, and
nothing stays charged of whom was not admitted."""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.house import House, house, policy, secret_of
from headgate.quota.command import Demand, Look, Seen
from headgate.stores.redis import RedisStore
from headgate.stores.redis.script.codec import tag_of
from headgate.testing.clusters import SLOTS, Cluster
from headgate.testing.servers import Server

CALLERS = 200
SECRET = secret_of("acme", "total")
PATIENCE = 30.0

STILL = 6
"""Looks, a tenth of a second apart, that find the same: this machine is busy, and so may be who asks."""


@pytest.fixture(scope="module")
def durable() -> Iterator[Cluster]:
    """Shards that lose nothing when they are killed, and that nobody takes the place of meanwhile."""
    with Cluster(3, 0, appendonly=True, appendfsync="always") as cluster:
        yield cluster


def slot_of(demand: Demand) -> int:
    return crc_hqx(tag_of(demand.place[0]), 0) % SLOTS


async def taken(store: RedisStore, demand: Demand) -> int:
    """What one place has given: used and held."""
    [seen] = await store.transact((Look((demand,)),))
    assert isinstance(seen, Seen)
    [balance] = seen.balances
    if balance is None:
        return 0
    return balance.used + (balance.holds.held if balance.holds is not None else 0)


async def apart(one: House, cluster: Cluster, number: int) -> tuple[str, Demand, Demand]:
    """An address whose limit lies on another shard than the org's; and one demand of each."""
    for n in range(256):
        address = f"10.0.{number}.{n}"
        demands = await one.demands(SECRET, address)
        org, network = [next(d for d in demands if d.place[1] == limit) for limit in ("total", "network")]
        if cluster.owner(slot_of(org)) is not cluster.owner(slot_of(network)):
            return address, org, network
    raise AssertionError("all addresses lie on one shard")


async def killed(one: House, cluster: Cluster, which: int, number: int) -> tuple[int, int]:
    """All callers ask, one of the two shards says nothing and then dies; it comes back. What the other had given when
    the shard died, and how many were served."""
    address, *demands = await apart(one, cluster, number)
    await one.status(SECRET, address)
    before = {d.place: await taken_at(cluster, d) for d in demands}
    victim, other = (cluster.owner(slot_of(demands[n])) for n in (which, 1 - which))
    served = one.origin.served
    victim.pause()
    calls = [asyncio.ensure_future(one.status(SECRET, address)) for _ in range(CALLERS)]
    await settled_down(other)
    between = await taken_at(cluster, demands[1 - which]) - before[demands[1 - which].place]
    victim.kill()
    statuses = set(await asyncio.gather(*calls))
    assert statuses <= {200, 503}
    victim.start()
    await asyncio.to_thread(cluster.settled)
    found = await one.quiet(SECRET, address)
    served = one.origin.served - served
    assert found["streams"] == (0, 0)
    for demand in demands:
        assert found[demand.place[1]][0] - before[demand.place] == served, "charged everywhere or nowhere"
    return between, served


async def taken_at(cluster: Cluster, demand: Demand) -> int:
    store = RedisStore(cluster.url, deadline=PATIENCE)
    try:
        return await taken(store, demand)
    finally:
        await store.close()


async def settled_down(node: Server) -> None:
    """Wait until a shard has been asked nothing more for a while."""
    seen: list[int] = []
    while len(seen) < STILL or len(set(seen[-STILL:])) > 1:
        seen.append(calls_of(node))
        await asyncio.sleep(0.1)


def calls_of(node: Server) -> int:
    stats = node.ask("INFO", "commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


async def both_ways(cluster: Cluster, file: Path, rounds: int) -> None:
    async with house(cluster.url, file) as one:
        for number in range(rounds):
            told = [await killed(one, cluster, which, 2 * number + which) for which in (0, 1)]
            assert max(between for between, _ in told) >= CALLERS, "one of the two was killed between the phases"


def file_of(folder: Path) -> Path:
    file = folder / "headgate.yaml"
    file.write_text(policy(1_000_000, network=1_000_000))
    return file


def test_p3_a_shard_that_is_killed_between_the_phases_leaves_nobody_charged_in_one_place_alone(
    durable: Cluster, tmp_path: Path
) -> None:
    asyncio.run(both_ways(durable, file_of(tmp_path), 1))


@pytest.mark.chaos
def test_p3_shards_that_are_killed_again_and_again_leave_nobody_charged_in_one_place_alone(
    durable: Cluster, tmp_path: Path
) -> None:
    asyncio.run(both_ways(durable, file_of(tmp_path), 10))
