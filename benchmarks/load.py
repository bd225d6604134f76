"""Load over HTTP/1.1 from so many connections, each of which asks again as soon as it is answered.

By `wrk`, or from here: an asyncio protocol with httptools, about as dear as the app that it asks.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import httptools


@dataclass(frozen=True, slots=True)
class Load:
    """What one round was answered: `count` requests, `rate` a second, latency in milliseconds, and how many were not
    answered by a 2xx."""

    count: int
    rate: float
    p50: float
    p99: float
    refused: int


REQUEST = (
    "GET /v1/hello HTTP/1.1\r\nhost: api.example\r\nuser-agent: bench/1\r\naccept: */*\r\nauthorization: {}\r\n\r\n"
)

SCRIPT = """
local requests, n = {}, 0
for _, key in ipairs(KEYS) do requests[#requests + 1] = REQUEST .. key .. "\\r\\n\\r\\n" end
request = function() n = n % #requests + 1; return requests[n] end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('FIGURES {"count":%d,"us":%d,"p50":%.1f,"p99":%.1f,"refused":%d}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    e.status + e.connect + e.read + e.write + e.timeout))
end
"""


def by_wrk(wrk: str, port: int, keys: Sequence[str], connections: int, seconds: int, folder: Path) -> Load:
    """A round of wrk, which takes the keys in turn. Raises CalledProcessError when it fails."""
    script = folder / "keys.lua"
    head = REQUEST.partition("{}")[0]
    quoted = ", ".join(json.dumps(key) for key in keys)
    script.write_text(f"local KEYS = {{{quoted}}}\nlocal REQUEST = {json.dumps(head)}\n" + SCRIPT)
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
    command = [wrk, *options, f"http://127.0.0.1:{port}/v1/hello"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    figures = json.loads(told.partition("FIGURES ")[2].partition("\n")[0])
    rate = figures["count"] / figures["us"] * 1e6
    return Load(figures["count"], rate, figures["p50"] / 1e3, figures["p99"] / 1e3, figures["refused"])


def from_here(port: int, keys: Sequence[str], connections: int, seconds: float) -> Load:
    """A round of our own."""
    return asyncio.run(_asked(port, [REQUEST.format(key).encode() for key in keys], connections, seconds))


class _Connection(asyncio.Protocol):
    """One that asks again when it is answered, until `end`."""

    def __init__(self, requests: Sequence[bytes], first: int, end: float) -> None:
        self.requests, self.end = cycle([*requests[first:], *requests[:first]]), end
        self.took: list[float] = []
        self.refused = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.begun = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self.took.append(now - self.begun)
        self.refused += self.parser.get_status_code() // 100 != 2
        if now < self.end:
            asyncio.get_running_loop().call_soon(self._ask)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.refused += time.perf_counter() < self.end
        self.over.set_result(None)


async def _asked(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    loop, begun = asyncio.get_running_loop(), time.perf_counter()
    asking = [_Connection(requests, number * 7 % len(requests), begun + seconds) for number in range(connections)]
    for each in asking:
        await loop.create_connection(lambda each=each: each, "127.0.0.1", port)  # type: ignore[misc]
    async with asyncio.timeout(seconds + 30):
        await asyncio.gather(*[each.over for each in asking])
    passed = time.perf_counter() - begun
    took = [one for each in asking for one in each.took]
    cuts = statistics.quantiles(took, n=100)
    return Load(len(took), len(took) / passed, cuts[49] * 1e3, cuts[98] * 1e3, sum(each.refused for each in asking))
