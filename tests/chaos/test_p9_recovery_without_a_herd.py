"""P9: a ledger that comes back is not run over. Each worker leaves it alone within a second of its silence, tries it
once a second at most, is in touch with it two seconds after it is back; and in no second of its recovery does it get
more than three times the operations of a usual one, though it is owed what was settled meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from chaos.outage import Metronome, Staff, Worker, at_a_rate, metronome, squared
from headgate.stores.redis import RedisStore
from headgate.testing.servers import Server
from servers.proxy import Faults, Proxy

WORKERS = 4
RATE = 240.0
STEADY = 1.0
RECOVERY = 2.5
HELD = 120
"""Requests for each worker that are being served when the ledger goes, and end while it is away."""

SAMPLE = 0.05

BACK = 2.0
"""Seconds after which every worker is in touch again: its first probe comes within one, and is answered."""

TRIES = 4
"""Outages of one length: a probe that this machine did not answer in time is followed by another a second later."""


def operations(server: Server) -> int:
    """Scripts that the server has run so far."""
    stats = server.ask("INFO", "commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


def left_alone(worker: Worker) -> bool:
    """Whether a worker asks its server no more, but for a probe."""
    store = worker.house.gate.store
    while not isinstance(store, RedisStore):
        store = store._inner
    [here] = store._lines.values()
    return all(node.breaker.open for node in here.line.nodes)


async def opened(workers: Sequence[Worker]) -> float:
    """How long (seconds) until all workers leave the server alone."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while not all(left_alone(worker) for worker in workers):
        assert loop.time() - begun < 10
        await asyncio.sleep(0.005)
    return loop.time() - begun


async def sampled(server: Server, seconds: float) -> list[tuple[float, int]]:
    """When and how many operations there had been, again and again."""
    loop = asyncio.get_running_loop()
    begun, found = loop.time(), []
    while loop.time() - begun < seconds:
        found.append((loop.time(), operations(server)))
        await asyncio.sleep(SAMPLE)
    return found


def peak(samples: Sequence[tuple[float, int]]) -> float:
    """Operations in the busiest second, as far as the samples tell them apart."""
    return max(
        (after - before) / max(1.0, then - at)
        for n, (at, before) in enumerate(samples)
        for then, after in samples[n + 1 :]
        if then - at <= 1.0 + SAMPLE
    )


async def held(worker: Worker) -> list[asyncio.Task[int]]:
    """Requests that are being served until they are let go."""
    app, tasks = worker.app, []
    app.holding, app.let_go, before = True, asyncio.Event(), app.served
    while len(tasks) < HELD:
        tasks += [asyncio.create_task(worker.house.status(worker.secret)) for _ in range(10)]
        while app.served - before + sum(task.done() for task in tasks) < len(tasks):
            await asyncio.sleep(0.001)
    app.holding = False
    return tasks


async def outage(
    server: Server, proxy: Proxy, workers: Sequence[Worker], seconds: float, ticking: Metronome
) -> float:
    """One outage; how long (seconds) after it the last worker was in touch again."""
    loop = asyncio.get_running_loop()
    before = operations(server)
    begun = loop.time()
    await at_a_rate(workers, RATE, STEADY)
    steady = (operations(server) - before) / (loop.time() - begun)
    serving = [task for worker in workers for task in await held(worker)]
    calls = asyncio.create_task(at_a_rate(workers, RATE, seconds + RECOVERY))
    at = loop.time()
    proxy.faults = Faults(mute=True)
    took = await opened(workers)
    assert took - ticking.late(at, at + took) <= 1.0
    accepted, since = proxy.accepted, loop.time()
    for worker in workers:
        worker.app.let_go.set()
    await asyncio.gather(*serving)
    assert sum(len(worker.house.gate.resolver) for worker in workers) >= len(serving) / 2, "much is owed"
    await asyncio.sleep(seconds - took)
    probes = proxy.accepted - accepted
    assert 0 < probes <= len(workers) * (loop.time() - since + 1)
    back = loop.time()
    proxy.heal()
    samples = await sampled(server, RECOVERY)
    told = await calls
    touched = 0.0
    for worker, answers in told.items():
        first = min((one.begun for one in answers if one.begun > back and one.status == 200), default=math.inf)
        touched = max(touched, first - back - ticking.late(back, first))
        assert worker.way == "closed"
    most = peak(samples)
    print(f"away for {seconds:g} s: {steady:.0f} operations a second before, {most:.0f} in the busiest one after")
    assert most <= 3 * steady
    for worker in workers:
        await squared(worker)
    return touched


async def outages(server: Server, folder: Path, seconds: Sequence[float]) -> None:
    async with Proxy(server.address) as proxy, Staff(proxy.url, folder) as staff, metronome() as ticking:
        workers = [await staff.worker("closed") for _ in range(WORKERS)]
        for away in seconds:
            touched: list[float] = []
            while not touched or touched[-1] > BACK:
                assert len(touched) < TRIES, touched
                await asyncio.gather(*[worker.in_touch() for worker in workers])
                touched.append(await outage(server, proxy, workers, away, ticking))


def test_p9_a_ledger_that_comes_back_is_not_run_over(valkey: Server, tmp_path: Path) -> None:
    asyncio.run(outages(valkey, tmp_path, [1.3]))


@pytest.mark.chaos
def test_p9_a_ledger_that_comes_back_again_and_again_is_not_run_over(valkey: Server, tmp_path: Path) -> None:
    asyncio.run(outages(valkey, tmp_path, [1.5, 3.0, 2.2, 5.0, 7.0, 1.9, 4.0, 2.6]))
