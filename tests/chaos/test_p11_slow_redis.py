"""P11: a ledger that takes its time costs a request its deadline and no more, whatever the delay; nothing piles up
meanwhile, and nobody asks for another connection because of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from chaos.outage import DEADLINE_MS, GRACE, MARGIN, Staff, Told, Worker, metronome, squared
from headgate.testing.servers import Server
from servers.proxy import Faults, Proxy

RATE = 200.0

DELAYS = (0, 5, 10, 15, 20, 24, 30, 50, 100, 200, 350, 500)
"""Milliseconds that each answer is held back."""

OWN = 40
"""Tasks beside those of the requests: the proxy's for each connection, the stores', the resolvers'."""


async def at_a_rate(worker: Worker, seconds: float) -> tuple[list[Told], int]:
    """Requests to one worker; and how many tasks there were at most, but for those of the requests themselves."""
    loop = asyncio.get_running_loop()
    begun, most = loop.time(), 0
    tasks: list[asyncio.Task[Told]] = []
    while (now := loop.time() - begun) < seconds:
        while len(tasks) < now * RATE:
            tasks.append(asyncio.create_task(worker.asked()))
        await asyncio.sleep(0.5 / RATE)
        most = max(most, len(asyncio.all_tasks()) - sum(not task.done() for task in tasks))
    return list(await asyncio.gather(*tasks)), most


async def slow(server: Server, folder: Path, delays: Sequence[float], seconds: float, jitter: float = 0.0) -> None:
    async with Proxy(server.address, seed=11) as proxy, Staff(proxy.url, folder) as staff, metronome() as ticking:
        worker = await staff.worker("closed")
        for delay in delays:
            await worker.in_touch()
            await worker.house.gate.resolver.idle()
            before = proxy.accepted
            proxy.faults = Faults(latency=delay / 1_000, jitter=jitter / 1_000)
            told, tasks = await at_a_rate(worker, seconds)
            own = sorted(one.took - ticking.late(one.begun, one.begun + one.took) for one in told)
            p99 = own[len(own) * 99 // 100]
            assert p99 <= DEADLINE_MS / 1_000 + GRACE + MARGIN, f"{delay} ms"
            assert {one.status for one in told} <= {200, 503}
            if delay > DEADLINE_MS * 2:
                assert {one.status for one in told} == {503}
                later = [one for one in told if one.begun - told[0].begun > 1.0]
                waited = sum(one.took - ticking.late(one.begun, one.begun + one.took) > GRACE for one in later)
                assert waited <= 2 + seconds, "after a second nobody waits any more, but for the probes"
            assert tasks <= OWN
            assert proxy.accepted - before <= 2 + seconds, "at most a probe a second"
            proxy.heal()
        await worker.in_touch()
        await squared(worker)


def test_p11_whatever_the_delay_a_request_waits_for_its_deadline(valkey: Server, tmp_path: Path) -> None:
    asyncio.run(slow(valkey, tmp_path, DELAYS[::3], 0.4))


@pytest.mark.chaos
@pytest.mark.parametrize("jitter", [0.0, 40.0])
def test_p11_whatever_the_delay_a_request_waits_for_its_deadline_for_long(
    valkey: Server, tmp_path: Path, jitter: float
) -> None:
    asyncio.run(slow(valkey, tmp_path, DELAYS, 5.0, jitter))


def test_fl_03_redis_takes_200_ms(valkey: Server, tmp_path: Path) -> None:
    asyncio.run(slow(valkey, tmp_path, [200], 1.5))
