"""P4: `kill -9` of a worker. What it held ends with its lease and is charged as held, its places are free again, and
what it had answered stays charged. (SQLite's own is in tests/stores/test_sqlite_processes.py.)"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.crew import Crew, Member
from chaos.house import House, house, secret_of
from headgate.clock import SECOND
from headgate.quota.command import Granted, Look, Refused, Reserve, Seen

SECRET, ADDRESS = secret_of("acme", "total"), "192.0.2.1"
PLACES = 200
HELD = 10
"""Tokens that are held for each request until it says what it took; here none says anything, and pays nothing."""

HOLDING, TASKS = 16, 32
LEASE = 60
SHORT = 2


def policy(lease: int) -> str:
    return f"""\
headgate: v1
policy: killed
mode: enforce
on_store_error: closed
identify: {{key: [header.x-api-key], directory: "python:chaos.house:whose", anonymous: refuse}}
plans: [total]
meters: {{tokens: {{from: app, reserve: {HELD}, max: 1k}}}}
limits:
  total:   {{meter: requests, per: org, total: 1M}}
  network: {{meter: requests, per: ip, total: 1M}}
  tokens:  {{meter: tokens, per: org, total: 1M}}
  streams: {{meter: streams, per: org, max: {PLACES}, lease: {lease}s}}
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Crew]:
    """Three workers of the test's own."""
    with Crew(tmp_path, 3) as crew:
        yield crew


def at_work(member: Member) -> None:
    """It serves one short request after the other, for as long as it lives."""
    member.tell(do="ask", secret=SECRET, times=1_000_000, tasks=TASKS, address=ADDRESS)


def killed_at_work(crew: Crew, after: int) -> int:
    """The first holds some responses open, the second serves: both are killed; the third goes on, holds some and ends
    in order. How many were served in all."""
    holder, server, survivor = crew.members
    hold = {"do": "hold", "secret": SECRET, "times": HOLDING, "address": ADDRESS}
    for member in (holder, survivor):
        member.tell(**hold)
        assert member.answer() == HOLDING
    at_work(server)
    while server.served < after:
        time.sleep(0.002)
    server.kill()
    holder.kill()
    survivor.tell(do="let go")
    assert survivor.answer() == {"200": HOLDING}
    survivor.tell(do="close")
    survivor.answer()
    return crew.served


async def seen(one: House, now: int | None = None) -> Seen:
    """What lies under each of the four limits."""
    [found] = await one.gate.store.transact((Look(await one.demands(SECRET, ADDRESS)),), now)
    assert isinstance(found, Seen)
    return found


async def left_behind(one: House, served: int) -> int:
    """What the killed ones have left: as much as they held, and no more than the callers that each had. The instant
    at which the last of its leases ends."""
    # On a cluster what was under way may stand in one slot alone: it is charged there, as every lease's end charges.
    found = await seen(one)
    total, network, _, streams = found.balances
    assert total is not None and network is not None and streams is not None and streams.holds is not None
    charged = [b.used + (b.holds.held if b.holds is not None else 0) for b in (total, network)]
    for count in charged:
        assert served <= count <= served + TASKS, "what was served is charged, and at most what was under way besides"
    assert HOLDING <= streams.holds.held <= HOLDING + TASKS
    leases = [hold.until for hold in streams.holds.by_rid.values()]
    assert max(leases) <= found.now + LEASE * SECOND
    return max(leases)


async def free_again(one: House, served: int, late: int) -> None:
    """When the leases have ended: all places are there, and the tokens of the dead are charged as they were held."""
    standing = await one.standing(SECRET, ADDRESS, now=late)
    assert {limit: held for limit, (_, held) in standing.items()} == dict.fromkeys(standing, 0)
    assert HELD * HOLDING <= standing["tokens"][0] <= HELD * (HOLDING + TASKS)
    for limit in ("total", "network"):
        assert served <= standing[limit][0] <= served + TASKS
    streams = (await one.demands(SECRET, ADDRESS))[3]
    asked = [Reserve(b"after-%d" % n, (streams,), LEASE * SECOND) for n in range(PLACES + 1)]
    outcomes = await one.gate.store.transact(asked, late)
    assert [type(outcome) for outcome in outcomes] == [Granted] * PLACES + [Refused]


def test_p4_what_killed_workers_held_ends_with_its_lease_and_no_place_is_lost(
    own: Crew, servers: str, tmp_path: Path
) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(policy(LEASE))
    own.open(servers, file)
    served = killed_at_work(own, after=200)

    async def story() -> None:
        async with house(servers, file) as one:
            late = await left_behind(one, served)
            await free_again(one, served, late)

    asyncio.run(story())


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(5))
def test_p4_a_second_after_the_lease_nothing_of_a_killed_worker_is_held(
    own: Crew, servers: str, tmp_path: Path, seed: int
) -> None:
    """By the servers' own time, without anybody's help."""
    file = tmp_path / "headgate.yaml"
    file.write_text(policy(SHORT))
    own.open(servers, file)
    served = killed_at_work(own, after=random.Random(seed).randrange(1, 2_000))
    killed = time.monotonic()

    async def story() -> None:
        async with house(servers, file) as one:
            while any(held for _, held in (await one.standing(SECRET, ADDRESS)).values()):
                assert time.monotonic() - killed < SHORT + 1 + 2, "two more, for this machine is busy"
                await asyncio.sleep(0.05)
            await free_again(one, served, (await seen(one)).now)

    asyncio.run(story())
