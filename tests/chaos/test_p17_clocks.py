"""P17: workers whose clocks are an hour off admit no more than the limit together; neither does a server that is set
back, and one that is set forward a year and back opens one window more at most."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from chaos.crew import Crew
from chaos.house import SCARCE, House, house, policy, secret_of
from chaos.rounds import round_of
from headgate.clock import SECOND
from headgate.quota.command import Granted, Look, Reserve, Seen

HOURS = (1, -1, 0, 1, -1, 0, 0.5, -0.5)
HOUR, YEAR = 3_600 * SECOND, 365 * 86_400 * SECOND
LIMIT = 10
LEASE = 60 * SECOND


@pytest.mark.parametrize("plan", ["rate", "quota"])
def test_p17_workers_whose_clocks_are_an_hour_off_admit_exactly_the_limit(
    crew: Crew, servers: str, tmp_path: Path, plan: str
) -> None:
    """SQLite's own, whose workers have one host's clock as a rule, is in tests/stores/test_sqlite.py."""
    file = tmp_path / "headgate.yaml"
    # A calendar's hours, whose edges each worker works out by its own clock.
    file.write_text(policy().replace("/day", "/hour").replace(", anchor: first_use", ""))
    crew.open(servers, file, HOURS)
    for turn in range(3):
        hour = time.time() // 3_600
        try:
            round_of(crew, servers, file, plan, f"hours-{turn}")
        except AssertionError:
            if time.time() // 3_600 == hour:
                raise
        else:
            return
    raise AssertionError("three rounds, and each began in one hour and ended in another")


async def granted(one: House, plan: str, times: int, name: str, now: int | None = None) -> int:
    """How many of so many reservations are granted; `now` is what the server's clock says, None for what it does."""
    demands = await one.demands(secret_of("acme", plan))
    outcomes = [
        (await one.gate.store.transact((Reserve(f"{name}-{n}".encode(), demands, LEASE),), now))[0]
        for n in range(times)
    ]
    return sum(isinstance(outcome, Granted) for outcome in outcomes)


async def servers_time(one: House, plan: str) -> int:
    [seen] = await one.gate.store.transact((Look(await one.demands(secret_of("acme", plan))),))
    assert isinstance(seen, Seen)
    return seen.now


@pytest.mark.parametrize("plan", SCARCE)
def test_p17_a_server_whose_clock_is_set_back_an_hour_opens_no_window(
    servers: str, tmp_path: Path, plan: str
) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(policy(LIMIT, network=1_000_000))

    async def story() -> None:
        async with house(servers, file) as one:
            # Until now it was an hour ahead; from here on it goes by what it reads itself.
            ahead = await servers_time(one, plan) + HOUR
            assert await granted(one, plan, LIMIT + 5, "ahead", ahead) == LIMIT
            assert await granted(one, plan, LIMIT, "set back") == 0

    asyncio.run(story())


@pytest.mark.parametrize("plan", SCARCE)
def test_p17_a_server_whose_clock_leaps_a_year_and_comes_back_opens_one_window_at_most(
    servers: str, tmp_path: Path, plan: str
) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(policy(LIMIT, network=1_000_000))

    async def story() -> None:
        async with house(servers, file) as one:
            assert await granted(one, plan, LIMIT + 5, "before") == LIMIT
            leapt = await granted(one, plan, LIMIT * 3, "a year ahead", await servers_time(one, plan) + YEAR)
            assert leapt == (0 if plan == "total" else LIMIT)
            assert leapt + await granted(one, plan, LIMIT * 3, "back again") <= LIMIT, "one window more"

    asyncio.run(story())
