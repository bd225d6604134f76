"""Whatever callers write into a request, it makes no key longer, no subject larger and no script slower."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chaos.house import house
from headgate.quota.facts import Call
from headgate.testing.servers import Server

LIMITS = 4
LARGEST = 600
"""Bytes that any key may take with its value: a subject of four windows is at 250, its holds beside it."""

POLICY = """\
headgate: v1
policy: written
mode: enforce
on_store_error: open
identify: {key: [header.x-api-key], directory: "python:chaos.house:whose", anonymous: refuse}
plans: [total]
limits:
  model:  {meter: requests, per: [org, header.x-model], rate: 1M/min}
  route:  {meter: requests, per: [key, route], rolling: 1M/1h}
  org:    {meter: requests, per: org, total: 1M}
  tenant: {meter: requests, per: [org, header.x-tenant], max: 10k}
""".replace("meter: requests, per: [org, header.x-tenant], max", "meter: streams, per: [org, header.x-tenant], max")

WRITTEN = ("", "x" * 60_000, "{}" * 500, "\0\r\n" * 100, "hg{acme}", "*" * 1_000, "é" * 1_000, "]] .. x --" * 100)


def calls(server: Server, *names: str) -> int:
    """How often the server has run these commands, by itself or in a script."""
    stats = server.ask("INFO", "commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in names)


READ_AND_WRITTEN = ("get", "mget", "set", "hget", "hmget", "hset", "hdel", "hgetall", "pexpire", "del", "unlink")


def test_fl_24_nothing_that_a_caller_writes_makes_the_servers_work_harder(valkey: Server, tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(POLICY)

    async def story() -> None:
        async with house(valkey.url, file) as one:
            who = await one.principal("a-secret/acme/1/total")
            for n, text in enumerate(WRITTEN * 20):
                call = Call(who, paths=(f"/{text}",), lookup=lambda _, name, text=text, n=n: f"{text}{n % 40}{name}")
                decision = await one.gate.admit(call)
                assert (decision.allowed, decision.degraded, len(decision.demands)) == (True, "", LIMITS)
                if n % 2:
                    await one.gate.settle(decision, {})

    before = calls(valkey, *READ_AND_WRITTEN), calls(valkey, "evalsha", "eval")
    asyncio.run(story())
    client = valkey.client()
    keys = list(client.scan_iter(count=1_000))
    assert len(keys) > 40
    assert max(map(len, keys)) <= 64
    assert max(client.memory_usage(key) for key in keys if not key.startswith(b"hh{")) <= LARGEST
    inside = calls(valkey, *READ_AND_WRITTEN) - before[0]
    requests = calls(valkey, "evalsha", "eval") - before[1]
    assert inside <= requests * (4 * LIMITS + 4), "so many for each limit of a request, whatever is written"
    client.close()


@pytest.mark.parametrize("text", WRITTEN[1:3])
def test_fl_24_what_is_written_once_and_again_is_one_subject(valkey: Server, tmp_path: Path, text: str) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(POLICY.replace("rate: 1M/min", "total: 10"))

    async def story() -> None:
        async with house(valkey.url, file) as one:
            who = await one.principal("a-secret/acme/1/total")
            call = Call(who, lookup=lambda _, name: text)
            allowed = [(await one.gate.admit(call)).allowed for _ in range(20)]
            assert allowed == [True] * 10 + [False] * 10

    asyncio.run(story())
