"""How many connections there are: one for each worker and server, however many ask and however slow it is; what
happens where a server takes no more; and what several event loops share."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chaos.house import PATIENT, House, Origin, house, policy, secret_of
from chaos.outage import DEADLINE_MS, PATIENCE, Staff, metronome
from headgate.stores import fitness
from headgate.testing.servers import Server
from servers.proxy import Faults, Proxy

TASKS = 500


async def crowded(server: Server, folder: Path) -> None:
    async with Proxy(server.address) as proxy, metronome() as ticking:
        proxy.faults = Faults(latency=0.05)
        async with Staff(proxy.url, folder, deadline_ms=PATIENT) as patient:
            worker = await patient.worker("closed")
            told = await asyncio.gather(*[worker.asked() for _ in range(TASKS)])
            assert {one.status for one in told} == {200}
            assert proxy.accepted == 1, "all share one connection"
        proxy.heal()
        async with Staff(proxy.url, folder, deadline_ms=DEADLINE_MS) as staff:
            worker = await staff.worker("closed")
            await worker.in_touch()
            before = proxy.accepted
            proxy.faults = Faults(latency=0.05)
            told = await asyncio.gather(*[worker.asked() for _ in range(TASKS)])
            assert {one.status for one in told} <= {200, 503}, "no fault but that the ledger is late"
            # They wait for each other, too: all of them are one tick's work.
            last = max(one.begun + one.took for one in told) - min(one.begun for one in told)
            first = min(one.begun for one in told)
            assert last - ticking.late(first, first + last) <= 2 * DEADLINE_MS / 1_000 + 0.1
            proxy.heal()
            await worker.in_touch()
            assert proxy.accepted - before <= 1


def test_fl_18_five_hundred_callers_of_a_slow_server_need_one_connection(valkey: Server, tmp_path: Path) -> None:
    asyncio.run(crowded(valkey, tmp_path))


MOST = 20
WORKERS = 8


@asynccontextmanager
async def strangers(server: Server, room: int) -> AsyncIterator[None]:
    """Other clients take all the server's connections but for so many."""
    held = []
    while server.ask("INFO", "clients")["connected_clients"] < MOST - room:
        held.append(await asyncio.open_connection(*server.address))
        await asyncio.sleep(0.002)
    try:
        yield
    finally:
        for _, writer in held:
            writer.close()


async def too_many(server: Server, folder: Path) -> None:
    async with Staff(server.url, folder, deadline_ms=PATIENT) as staff:
        early = [await staff.worker("closed") for _ in range(WORKERS)]
        late = [await staff.worker("closed"), await staff.worker("open")]
        async with strangers(server, WORKERS):
            await asyncio.gather(*[worker.in_touch() for worker in early])
            assert {(await worker.asked()).status for worker in early} == {200}, "one connection each"
            closed, opened = late
            assert (await closed.asked()).status == 503
            assert (await opened.asked()).status == 200
            assert opened.app.let_in == {"open": 1}, "and marked so"
            assert {(await worker.asked()).status for worker in early} == {200}
        for worker in late:
            await worker.in_touch()


def test_fl_19_a_server_that_takes_no_more_clients(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server(maxclients=MOST)
    for workers, told in ((WORKERS, None), (2 * MOST, "fault")):
        report = asyncio.run(fitness.look(server.url, workers=workers))
        found = {finding.name: finding.severity for finding in report.findings}
        assert found.get("connections") == told
    asyncio.run(too_many(server, tmp_path))


LIMIT = 200


async def asked(one: House, answers: Counter[int]) -> None:
    answers.update(await one.asked(secret_of("acme"), LIMIT, 16))


def loops(store: str, folder: Path) -> None:
    """Three event loops in threads of their own share one gate, at once; then one more after they have ended."""
    file = folder / "headgate.yaml"
    file.write_text(policy(LIMIT))
    answers: Counter[int] = Counter()

    async def story() -> None:
        async with house(store, file, origin=Origin()) as one:
            others = [threading.Thread(target=lambda: asyncio.run(asked(one, answers))) for _ in range(2)]
            for other in others:
                other.start()
            await asked(one, answers)
            while any(other.is_alive() for other in others):
                await asyncio.sleep(0.005)
            assert one.origin.served == answers[200] == LIMIT
            assert answers == {200: LIMIT, 429: 2 * LIMIT}, "no loop gets what is another's"
            assert (await one.quiet(secret_of("acme"), within=PATIENCE))["total"] == (LIMIT, 0)
            late = threading.Thread(target=lambda: asyncio.run(asked(one, answers)))
            late.start()
            while late.is_alive():
                await asyncio.sleep(0.005)
            assert answers == {200: LIMIT, 429: 3 * LIMIT}

    asyncio.run(story())


@pytest.mark.parametrize("server", ["valkey", "cluster"])
def test_fl_21_event_loops_share_a_gate(request: pytest.FixtureRequest, tmp_path: Path, server: str) -> None:
    loops(request.getfixturevalue(server).url, tmp_path)
