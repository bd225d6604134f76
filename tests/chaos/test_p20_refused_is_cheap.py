"""P20: refused requests, however many, cost the store at most ten operations a second for each subject and worker."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest

from chaos.house import House, house, policy, secret_of
from headgate.stores.refusals import RefusalsStore
from headgate.testing.servers import Server

A_SECOND = 5_000
MOST = 10
"""Operations a second for a subject."""

TASKS = 20
ORGS = 4
TRIES = 6
"""Floods: in one of them nobody else must have stopped this process for the time that a question takes."""

LIMIT = 5


def operations(server: Server) -> int:
    """Scripts that the server has run so far."""
    stats = server.ask("INFO", "commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


async def flood(one: House, secrets: list[str], seconds: float) -> tuple[int, float]:
    """Requests at 5,000 a second, or as fast as this machine makes them: how many were refused, in how long."""
    loop = asyncio.get_running_loop()
    begun, numbers = loop.time(), count()

    async def caller() -> None:
        while (now := loop.time() - begun) < seconds:
            number = next(numbers)
            # What is refused here waits for nothing; between two requests a server goes back to its loop.
            await asyncio.sleep(max(0.0, number / A_SECOND - now))
            assert await one.status(secrets[number % len(secrets)]) == 429

    await asyncio.gather(*[caller() for _ in range(TASKS)])
    return next(numbers), loop.time() - begun


async def refused(valkey: Server, file: Path, secrets: list[str], seconds: float, *, holding: bool) -> None:
    async with house(valkey.url, file) as one:
        store = one.gate.store
        assert isinstance(store, RefusalsStore), "as the service puts it together"
        one.origin.holding = holding
        served = [asyncio.ensure_future(one.status(secret)) for secret in secrets for _ in range(LIMIT)]
        while one.origin.served < len(served):
            await asyncio.sleep(0.001)
        told: list[tuple[float, int, int]] = []
        for _ in range(TRIES):
            assert [await one.status(secret) for secret in secrets] == [429] * len(secrets)
            before, repeated = operations(valkey), store.repeated
            times, took = await flood(one, secrets, seconds)
            asked, reached = operations(valkey) - before, times - (store.repeated - repeated)
            assert one.origin.served == len(served), "nobody more was let in"
            bound = len(secrets) * (MOST * took + 1)
            told.append((bound, asked, reached))
            # A script may carry several; a stop of a moment lets all callers of that moment ask.
            if asked <= bound and reached <= 2 * bound < times:
                break
        else:
            raise AssertionError(f"(allowed, scripts run, reservations that reached the store) of each try: {told}")
        one.origin.let_go.set()
        await asyncio.gather(*served)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Each org may make a few requests, and have as many open at a time."""
    made = tmp_path / "headgate.yaml"
    made.write_text(policy(LIMIT, network=1_000_000, streams=LIMIT))
    return made


@pytest.mark.parametrize(("plan", "holding"), [("total", False), ("rate", False), ("network", True)])
def test_p20_a_flood_of_refused_requests_costs_ten_operations_a_second_at_most(
    valkey: Server, file: Path, plan: str, holding: bool
) -> None:
    asyncio.run(refused(valkey, file, [secret_of("acme", plan)], 1.5, holding=holding))


@pytest.mark.chaos
@pytest.mark.parametrize(("plan", "holding"), [("total", False), ("quota", False), ("network", True)])
def test_p20_floods_of_several_orgs_cost_ten_operations_a_second_each_at_most(
    valkey: Server, file: Path, plan: str, holding: bool
) -> None:
    secrets = [secret_of(f"org-{n}", plan) for n in range(ORGS)]
    asyncio.run(refused(valkey, file, secrets, 15, holding=holding))
