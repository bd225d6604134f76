"""P8: while the ledger is away each limit goes its way, over the whole middleware: `open` is served and marked,
`closed` is a 503 and never a 429, `local` is served from the worker's share. Every decision is there by the deadline,
a worker's very first one too; and when the ledger is back it has been charged with what it granted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from chaos.outage import (
    LIMIT,
    SHARE,
    Staff,
    at_a_rate,
    by_the_policy,
    let_in,
    metronome,
    squared,
)
from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server
from servers.proxy import Faults, Proxy

RATE = 200.0
"""Requests a second."""

FLAP = 0.3
"""Seconds for which a flapping link is up, and then down."""

BUSY = 100
"""Milliseconds after which a server that runs a script says so."""

Away = Callable[[Proxy], object]


def refused(proxy: Proxy) -> None:
    """Nothing listens there any more."""
    proxy.faults = Faults(refuse=True)
    proxy.cut()


def black_hole(proxy: Proxy) -> None:
    """Nothing comes through, and nobody is told."""
    proxy.faults = Faults(hole=True)


def mute(proxy: Proxy) -> None:
    """Everything is carried out, and no answer comes back."""
    proxy.faults = Faults(mute=True)


def half_open(proxy: Proxy) -> None:
    """Nobody is at the other end of the connections that there are; new ones are let be."""
    proxy.half_open()


async def story(
    store: str,
    folder: Path,
    away: Callable[[], object],
    back: Callable[[], object],
    seconds: float,
    *,
    at_times: bool = False,
) -> None:
    """All ways at once: in touch, away, back. `at_times`: what is away may be there in between."""
    async with Staff(store, folder) as staff, metronome() as ticking:
        workers, new = await staff.one_of_each(), await staff.one_of_each()
        await asyncio.gather(*[worker.in_touch() for worker in workers])
        away()
        before = let_in(workers + new)
        firsts = {worker: [await worker.asked()] for worker in new}
        told = await at_a_rate(workers, RATE, seconds)
        for answers in (firsts, told):
            by_the_policy(answers, before, at_times=at_times)
            ticking.punctual([one for each in answers.values() for one in each])
        back()
        await asyncio.gather(*[worker.in_touch() for worker in workers + new])
        for worker in workers + new:
            await squared(worker)


@pytest.mark.parametrize("away", [black_hole, mute, half_open])
def test_p8_without_its_ledger_a_worker_does_what_the_policy_says(valkey: Server, tmp_path: Path, away: Away) -> None:
    async def through() -> None:
        async with Proxy(valkey.address) as proxy:
            await story(proxy.url, tmp_path, lambda: away(proxy), proxy.heal, 0.5, at_times=away is half_open)

    asyncio.run(through())


@pytest.mark.chaos
@pytest.mark.parametrize("away", [refused, black_hole, mute, half_open])
def test_p8_without_its_ledger_again_and_again(valkey: Server, tmp_path: Path, away: Away) -> None:
    async def through() -> None:
        async with Proxy(valkey.address) as proxy:
            for turn in range(10):
                valkey.flush()
                folder = tmp_path / str(turn)
                folder.mkdir()
                # Half open it is there again soon, and a limit of a hundred is used up.
                at_times, seconds = away is half_open, 1.0 if away is half_open else 3.0
                await story(proxy.url, folder, lambda: away(proxy), proxy.heal, seconds, at_times=at_times)

    asyncio.run(through())


def paused(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.pause()


def resumed(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.resume()


def test_p8_without_its_cluster_a_worker_does_what_the_policy_says(cluster: Cluster, tmp_path: Path) -> None:
    asyncio.run(story(cluster.url, tmp_path, lambda: paused(cluster), lambda: resumed(cluster), 0.5))


# The cases of the corpus.

REQUESTS = 1_000


async def stopped(store: str, folder: Path, stop: Callable[[], object]) -> None:
    """A thousand requests for each way; who has asked before, and who never has."""
    async with Staff(store, folder) as staff, metronome() as ticking:
        workers, new = await staff.one_of_each(), await staff.one_of_each()
        await asyncio.gather(*[worker.in_touch() for worker in workers])
        stop()
        before = let_in(workers + new)
        told = {worker: [await worker.asked()] for worker in new}
        for worker in workers:
            told[worker] = [await worker.asked() for _ in range(REQUESTS)]
        by_the_policy(told, before)
        ticking.punctual([one for answers in told.values() for one in answers])
        for worker in workers:
            assert worker.app.let_in["local"] == (SHARE if worker.way == "local" else 0)
            if worker.way == "open":
                assert (worker.app.let_in - before[worker])["open"] == REQUESTS


def test_fl_01_redis_is_stopped(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server()
    asyncio.run(stopped(server.url, tmp_path, server.kill))


@pytest.mark.chaos
def test_fl_01_the_cluster_is_stopped(tmp_path: Path) -> None:
    with Cluster(3, 0) as cluster:

        def stop() -> None:
            for node in cluster.nodes:
                node.kill()

        asyncio.run(stopped(cluster.url, tmp_path, stop))


async def flapping(proxy: Proxy, over: asyncio.Event) -> int:
    """The link is up and down for 300 ms each, until it is over: how often it was down."""
    times = 0
    while not over.is_set():
        proxy.faults = Faults(hole=True)
        proxy.cut()
        times += 1
        await asyncio.sleep(FLAP)
        proxy.heal()
        await asyncio.sleep(FLAP)
    return times


async def flapped(server: Server, folder: Path, seconds: float) -> None:
    async with Proxy(server.address) as proxy, Staff(proxy.url, folder) as staff, metronome() as ticking:
        workers = [await staff.worker("local", LIMIT, "acme") for _ in range(4)]
        await asyncio.gather(*[worker.in_touch() for worker in workers])
        over, before = asyncio.Event(), proxy.accepted
        link = asyncio.create_task(flapping(proxy, over))
        told = await at_a_rate(workers, RATE, seconds)
        over.set()
        times = await link
        ticking.punctual([one for answers in told.values() for one in answers])
        served = sum([worker.app.served for worker in workers])
        assert LIMIT < served <= LIMIT + len(workers) * SHARE, "one share for each worker, however often it needs it"
        assert proxy.accepted - before <= len(workers) * 2 * times, "a link that comes and goes is not run at"
        proxy.heal()
        await asyncio.gather(*[worker.house.gate.resolver.idle() for worker in workers])
        granted = sum([worker.app.let_in[""] for worker in workers])
        assert await workers[0].charged() == granted <= LIMIT


def test_fl_04_the_link_flaps(valkey: Server, tmp_path: Path) -> None:
    asyncio.run(flapped(valkey, tmp_path, 2.4))


@pytest.mark.chaos
def test_fl_04_the_link_flaps_for_a_minute(valkey: Server, tmp_path: Path) -> None:
    asyncio.run(flapped(valkey, tmp_path, 60.0))


class Foreign:
    """Somebody else's script, which runs on the server until it is killed."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        client = self._server.client(socket_timeout=60.0)
        with suppress(RedisError):  # it was killed
            client.eval("while true do end", 0)
        client.close()

    def begin(self) -> None:
        """It runs when this returns: the server answers nobody any more."""
        self._thread.start()
        client = self._server.client(socket_timeout=0.02)
        with suppress(RedisError):
            while client.ping():
                time.sleep(0.001)
        client.close()

    def kill(self) -> None:
        client = self._server.client()
        while self._thread.is_alive():
            with suppress(RedisError):  # it has not been long enough yet
                client.execute_command("SCRIPT", "KILL")
            self._thread.join(0.01)
        client.close()


def busy(server: Server, folder: Path, seconds: float) -> None:
    foreign = Foreign(server)
    try:
        asyncio.run(story(server.url, folder, foreign.begin, foreign.kill, seconds))
    finally:
        foreign.kill()
    stats = server.ask("INFO", "commandstats")["cmdstat_evalsha"]
    assert stats["usec_per_call"] < 1_000, "headgate's own script holds nobody up"


def test_fl_07_a_foreign_script_runs_and_is_killed(make_server: Callable[..., Server], tmp_path: Path) -> None:
    busy(make_server(busy_reply_threshold=BUSY), tmp_path, 0.5)


@pytest.mark.chaos
def test_fl_07_a_foreign_script_runs_for_ten_seconds(make_server: Callable[..., Server], tmp_path: Path) -> None:
    busy(make_server(), tmp_path, 10.0)
