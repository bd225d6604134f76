"""A server that is told to end while it streams: what its responses hold is settled before it is gone."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from chaos.house import house, secret_of
from chaos.server import PATIENCE, served

STREAMS = 50
SECRET, ADDRESS = secret_of("acme"), "127.0.0.1"
GRACE = 1
"""Seconds that the server gives its responses."""

BUSY = 20
"""Seconds more than the promised one, for this machine is busy."""

POLICY = f"""\
headgate: v1
policy: shutdown
mode: enforce
on_store_error: closed
identify: {{key: [header.x-api-key], directory: "python:chaos.house:whose", anonymous: refuse}}
plans: [total]
meters: {{tokens: {{from: app, reserve: 10, max: 1k}}}}
limits:
  total:   {{meter: requests, per: org, total: 1M}}
  network: {{meter: requests, per: ip, total: 1M}}
  tokens:  {{meter: tokens, per: org, total: 1M}}
  streams: {{meter: streams, per: org, max: {STREAMS}, lease: 10min}}
"""


def streaming(folder: Path, store: str) -> AbstractContextManager[tuple[subprocess.Popen[bytes], int]]:
    """A server of streams that gives its responses so long to end."""
    return served(folder, "chaos.streams:app", store, "--timeout-graceful-shutdown", str(GRACE))


async def stream(port: int) -> asyncio.StreamWriter:
    """A response that has begun."""
    reader, writer = await asyncio.open_connection(ADDRESS, port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nx-api-key: %s\r\n\r\n" % SECRET.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await reader.readuntil(b"more\n")
    return writer


@pytest.mark.parametrize(
    "ledger", ["sqlite", "redis", pytest.param("cluster", marks=pytest.mark.chaos)], indirect=True
)
def test_fl_25_a_server_that_is_told_to_end_settles_all_its_streams(ledger: str, tmp_path: Path) -> None:
    (tmp_path / "headgate.yaml").write_text(POLICY)

    async def story() -> None:
        with streaming(tmp_path, ledger) as (process, port):
            writers = await asyncio.gather(*[stream(port) for _ in range(STREAMS)])
            async with house(ledger, tmp_path / "headgate.yaml") as one:
                found = await one.standing(SECRET, ADDRESS)
                assert (found["streams"], found["tokens"]) == ((0, STREAMS), (0, 10 * STREAMS))
                process.send_signal(signal.SIGTERM)
                told = time.monotonic()
                await asyncio.to_thread(process.wait, PATIENCE)
                assert time.monotonic() - told < GRACE + 1 + BUSY
                found = await one.standing(SECRET, ADDRESS)
                assert found == {"total": (STREAMS, 0), "network": (STREAMS, 0), "tokens": (0, 0), "streams": (0, 0)}
            for writer in writers:
                writer.close()

    asyncio.run(story())
