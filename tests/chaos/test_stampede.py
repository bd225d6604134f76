"""Many keys whose windows end at the same instant: clients that do as they are told come back one after the other."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from chaos.house import House, batches, house, secret_of
from headgate.quota.command import Granted, Reserve
from headgate.testing import ManualClock

LIMIT, MINUTE = 10, 60
MOST = 3
"""How many times the steady load the first second may bring."""

POLICY = f"""\
headgate: v1
policy: stampede
mode: enforce
on_store_error: closed
identify: {{key: [header.x-api-key], directory: "python:chaos.house:whose", anonymous: refuse}}
plans: [total]
limits: {{minute: {{meter: requests, per: key, rolling: {LIMIT}/1min}}}}
"""


async def waits(one: House, secrets: list[str]) -> list[int]:
    """Milliseconds for which each is told to wait once its window is used up."""

    async def told(n: int) -> int:
        [minute] = await one.demands(secrets[n])
        [outcome] = await one.gate.store.transact((Reserve(b"all-%d" % n, (minute.of(LIMIT),), 0),))
        assert isinstance(outcome, Granted)
        status, headers = await one.answer(secrets[n])
        assert status == 429
        return int(headers[b"retry-after-ms"])

    found: list[int] = []
    for batch in batches(range(len(secrets)), 50):
        found += await asyncio.gather(*[told(n) for n in batch])
    return found


async def story(url: str, folder: Path, secrets: list[str]) -> None:
    file, clock = folder / "headgate.yaml", ManualClock()
    file.write_text(POLICY)
    async with house(url, file, clock=clock) as one:
        found = await waits(one, secrets)
        steady = len(secrets) * LIMIT / MINUTE
        assert min(found) >= MINUTE * 1_000, "nobody too early"
        assert max(Counter(wait // 1_000 for wait in found).values()) <= MOST * steady
        assert max(Counter((wait - min(found)) // 1_000 for wait in found).values()) <= MOST * steady
    clock.advance(microseconds=min(found) * 1_000)
    async with house(url, file, clock=clock) as another:
        assert await another.status(secrets[found.index(min(found))]) == 200, "and none in vain"


def of_one_org(count: int) -> list[str]:
    return [secret_of("acme", "total", f"{n}") for n in range(count)]


def of_many_orgs(count: int) -> list[str]:
    return [secret_of(f"org-{n}", "total") for n in range(count)]


@pytest.mark.parametrize("secrets", [of_one_org(600), of_many_orgs(600)], ids=["one org", "many orgs"])
def test_tm_08_keys_whose_windows_end_together_do_not_come_back_together(
    servers: str, tmp_path: Path, secrets: list[str]
) -> None:
    asyncio.run(story(servers, tmp_path, secrets))


@pytest.mark.chaos
def test_tm_08_ten_thousand_keys_whose_windows_end_together_do_not_come_back_together(
    servers: str, tmp_path: Path
) -> None:
    asyncio.run(story(servers, tmp_path, of_one_org(5_000) + of_many_orgs(5_000)))
