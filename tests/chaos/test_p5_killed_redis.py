"""P5: `kill -9` of Redis or Valkey with an append-only file: what callers were told they have used is still used when
the server is back.

With `appendfsync always` nothing is lost, whenever it dies. With `everysec` the server holds back what it should
write while the disk is still syncing what came before, for two seconds at most: only what it has acknowledged in that
time can go with its process, and where the disk is quick, nothing does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from chaos.tally import Tally
from headgate.stores.redis import RedisStore
from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server

HELD_BACK = 2.0
"""Seconds for which the server holds writes back at most (`flushAppendOnlyFile`)."""

DEADLINE = 0.1
PATIENT = 20.0


class Rounds:
    """Servers that are killed under load and started again in place, again and again; what was lost, by the round."""

    def __init__(self, url: str, tags: Sequence[bytes], seed: int) -> None:
        self._lot = random.Random(seed)
        self._callers = RedisStore(url, deadline=DEADLINE)
        self._reader = RedisStore(url, deadline=PATIENT)
        self._tally = Tally(self._callers, tags)
        self.lost: list[list[float]] = []
        """For each round how long (seconds) before the kill each lost charge had been acknowledged."""
        self.acknowledged = 0

    async def run(self, victims: Sequence[Server], rounds: int, settled: Callable[[], object]) -> None:
        """In each round one of the servers dies."""
        loop = asyncio.get_running_loop()
        try:
            for turn in range(rounds):
                victim = victims[turn % len(victims)]
                async with self._tally.calling():
                    await self._tally.more()
                    await asyncio.sleep(self._lot.uniform(0, 0.3))
                    at = loop.time()
                    await asyncio.to_thread(victim.kill)
                    await asyncio.to_thread(victim.start)
                    await asyncio.to_thread(settled)
                    await self._tally.more(many=20)
                self.acknowledged += len(self._tally.acknowledged)
                lost = await self._tally.lost(self._reader)
                self.lost.append(sorted(at - told for told in lost.values()))
        finally:
            await self._callers.close()
            await self._reader.close()

    def nothing_lost(self, how: str) -> None:
        """As `appendfsync` has it."""
        if how == "always":
            assert not any(self.lost)
        else:
            assert all(ago <= HELD_BACK for lost in self.lost for ago in lost)
            assert not all(self.lost), "a disk that always lags: nothing is shown here"


def killed(server: Server, how: str, rounds: int, seed: int) -> None:
    told = Rounds(server.url, (b"the orgs",), seed)
    asyncio.run(told.run([server], rounds, lambda: None))
    told.nothing_lost(how)


def logged(make_server: Callable[..., Server], how: str, program: Path | None = None) -> Server:
    return make_server(appendonly=True, appendfsync=how, program=program)


@pytest.mark.parametrize("how", ["always", "everysec"])
def test_p5_what_a_killed_server_has_acknowledged_is_charged_when_it_is_back(
    make_server: Callable[..., Server], how: str
) -> None:
    killed(logged(make_server, how), how, 2, seed=5)


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["always", "everysec"])
def test_fl_13_a_server_is_killed_fifteen_times(make_server: Callable[..., Server], how: str) -> None:
    killed(logged(make_server, how), how, 15, seed=13)


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["always", "everysec"])
def test_fl_13_redis_7_is_killed_fifteen_times(make_server: Callable[..., Server], redis7: Server, how: str) -> None:
    killed(logged(make_server, how, redis7.program), how, 15, seed=7)


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["always", "everysec"])
def test_fl_13_each_node_of_a_cluster_is_killed_five_times(how: str) -> None:
    with Cluster(3, 0, appendonly=True, appendfsync=how) as cluster:
        told = Rounds(cluster.url, [b"orgs %03d" % n for n in range(12)], seed=3)
        asyncio.run(told.run(cluster.nodes, 15, cluster.settled))
        told.nothing_lost(how)
