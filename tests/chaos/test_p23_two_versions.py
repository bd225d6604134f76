"""P23: workers of two versions, whose scripts differ, share one ledger exactly. When the pepper is replaced, workers
that know both go on where those before them ended. What workers do that know the old one alone is told here, too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chaos.crew import Crew
from chaos.house import House, house, policy, secret_of
from chaos.rounds import PLANS, round_of
from headgate.testing.servers import Server

OTHER = Path(__file__).with_name("worker_of_another_version.py")

OLD, NEW = "the pepper of before", "the pepper of now on"
LIMIT = 400
SECRET = secret_of("acme")
TASKS = 16


def rounds(server: Server, folder: Path, turns: Iterable[int]) -> None:
    """Two workers of each version, and scripts that are forgotten from time to time."""
    file = folder / "headgate.yaml"
    file.write_text(policy())
    with Crew(folder, 2, 2, OTHER) as crew:
        crew.open(server.url, file)
        for turn in turns:
            server.ask("SCRIPT", "FLUSH")
            round_of(crew, server.url, file, PLANS[turn % len(PLANS)], f"{turn}")
        crew.close()
    assert server.ask("INFO", "memory")["number_of_cached_scripts"] == 2, "each has used its own"


def test_p23_workers_of_two_versions_share_a_ledger(valkey: Server, tmp_path: Path) -> None:
    rounds(valkey, tmp_path, (3,))


@pytest.mark.chaos
def test_p23_workers_of_two_versions_share_a_ledger_for_long(valkey: Server, tmp_path: Path) -> None:
    rounds(valkey, tmp_path, range(10))


async def served(workers: Iterable[House], times: int, secret: str = SECRET) -> None:
    """Each is asked so often, all at once."""
    await asyncio.gather(*[one.asked(secret, times, TASKS) for one in workers])


async def replaced(store: str, folder: Path, used: int) -> None:
    """Workers with the old pepper end, and others begin that know both: under load, all at once."""
    file, secret = folder / "headgate.yaml", secret_of(f"org-{used}")
    file.write_text(policy(LIMIT, network=1_000_000))
    async with house(store, file, pepper=OLD) as before:
        await served([before], used, secret)
        assert before.origin.served == used
    async with AsyncExitStack() as stack:
        now = [await stack.enter_async_context(house(store, file, pepper=NEW, before=OLD)) for _ in range(4)]
        await served(now, LIMIT, secret)
        assert used + sum(one.origin.served for one in now) == LIMIT
        assert (await now[0].quiet(secret))["total"] == (LIMIT, 0)


@pytest.fixture(params=["valkey", "cluster"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param).url)


def test_p23_when_the_pepper_is_replaced_nobody_begins_anew(store: str, tmp_path: Path) -> None:
    asyncio.run(replaced(store, tmp_path, 150))


@pytest.mark.chaos
def test_p23_whenever_the_pepper_is_replaced_nobody_begins_anew(store: str, tmp_path: Path) -> None:
    for used in (1, 90, 200, 310, LIMIT):
        asyncio.run(replaced(store, tmp_path, used))


async def both(store: str, folder: Path, starts: int) -> tuple[int, int]:
    """Workers start one by one that know both peppers, while others know the old one alone: how often their apps were
    reached, and what the ledger has of it."""
    file = folder / "headgate.yaml"
    file.write_text(policy(LIMIT))
    async with AsyncExitStack() as stack:

        async def started(pepper: str, before: str | None = None) -> House:
            return await stack.enter_async_context(house(store, file, pepper=pepper, before=before))

        workers = [await started(OLD)]
        await served(workers, 2 * LIMIT)
        assert workers[0].origin.served == LIMIT
        for _ in range(starts):
            # One that knows both takes over all that was used; the others see nothing of it any more.
            workers += [await started(NEW, OLD), await started(OLD)]
            await workers[-2].status(SECRET)
            await served(workers, 2 * LIMIT)
        last = await started(NEW, OLD)
        assert await last.status(SECRET) == 429
        counted, _ = (await last.quiet(SECRET))["total"]
        return sum(one.origin.served for one in workers), counted


def one_more_window_for_each_start(store: str, folder: Path, starts: int) -> None:
    reached, counted = asyncio.run(both(store, folder, starts))
    print(f"limit {LIMIT}, {starts} starts: {reached} served")
    assert reached <= LIMIT * (1 + starts)
    assert counted == reached, "none of it is forgotten"


def test_p23_workers_with_the_old_pepper_alone_get_one_more_window_when_another_starts(
    valkey: Server, tmp_path: Path
) -> None:
    one_more_window_for_each_start(valkey.url, tmp_path, 1)


@pytest.mark.chaos
def test_p23_workers_with_the_old_pepper_alone_get_one_more_window_for_each_that_starts(
    store: str, tmp_path: Path
) -> None:
    one_more_window_for_each_start(store, tmp_path, 4)
