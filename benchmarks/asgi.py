"""What a request pays for its limits: CPU time added to a bare Starlette app, beside what else one could use.

    make bench

Everything runs in one process on the memory store of each, without sockets: an ASGI call from scope to the last
message, and CPU time, not the time that passes. The subjects take turns in many short rounds. The figure is the lower
quartile of a subject's rounds less that of the bare app's: what a neighbour on the machine disturbs lands above it.
The median stands beside it; where the two are far apart, the machine was too busy to measure on. Both leave out most
of what a full garbage collection takes, which comes once in thousands of requests and goes by the size of the whole
process. Only the ratios mean anything on another machine.

What the others do not do, and headgate does: all limits in one step or none, nothing consumed on a refusal, weights,
settlement. asgi-ratelimit counts at most one limit for each of five fixed periods, so it has no row for six. The row
with holds has among its six limits one of requests at a time and one of rows that the endpoint reports: both are held
before and settled after, which none of the others can do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from headgate import Gate, HeadgateMiddleware, load
from headgate.asgi import charge
from headgate.directory import Callback
from headgate.stores import Store, open_store

REQUESTS = 250
ROUNDS = 160
KEYS = 100

LIMITS = ("1000000/minute", "10000000/hour", "100000000/day", "1000001/minute", "10000001/hour", "100000001/day")
"""As `limits` writes them; never reached, so that everybody measures the way of a request that is served."""

HEADGATE = (
    "rpm: {meter: requests, per: key, rate: 1000k/min}",
    "rph: {meter: requests, per: org, quota: 10M/hour}",
    "rpd: {meter: requests, per: group, quota: 100M/day}",
    "org: {meter: requests, per: org, rate: 1001k/min}",
    "week: {meter: requests, per: org, rolling: 10M/7d}",
    "life: {meter: requests, per: key, total: 100M}",
)

HOLDING = (
    *HEADGATE[:4],
    "at_once: {meter: streams, per: key, max: 1000}",
    "rows: {meter: rows, per: org, rate: 1000M/min}",
)
"""Two of six limits hold: one counts requests at a time, one what the endpoint reports."""


async def hello(request: Request) -> PlainTextResponse:
    """The app behind all of them."""
    return PlainTextResponse("hello")


async def reporting(request: Request) -> PlainTextResponse:
    """The same, and it tells how many rows it read."""
    charge(request, rows=3)
    return PlainTextResponse("hello")


def bare(endpoint: Callable[[Request], Awaitable[PlainTextResponse]] = hello) -> Starlette:
    """A Starlette app with nothing before it."""
    return Starlette(routes=[Route("/v1/hello", endpoint)])


def headgate(count: int, *, holding: bool = False) -> ASGIApp:
    """The whole product: digest of the key, directory, limits, RateLimit headers, settlement."""
    return HeadgateMiddleware(bare(reporting if holding else hello), gate=gate_of(count, holding=holding))


def gate_of(count: int, *, holding: bool = False, store: Store | None = None, slice: str = "") -> Gate:
    """Its gate: so many limits, counted in this process or at a store; with `slice` on each of them, and then under
    another pepper: what is held in slices would be in the others' way."""
    text = "headgate: v1\npolicy: bench\nmode: enforce\nzone: UTC\non_store_error: closed\n"
    text += "identify: {key: [header.authorization.bearer], anonymous: refuse}\n"
    text += "meters: {rows: {from: app, reserve: 10}}\nlimits:\n"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "headgate.yaml")
        rows = (HOLDING if holding else HEADGATE)[:count]
        text += "".join(f"  {row.replace('}', f', slice: {slice}}}') if slice else row}\n" for row in rows)
        file.write_text(text)
        policy = load(file)
    keys = {f"hg_{n:040d}": {"key": f"k{n}", "org": f"o{n % 10}"} for n in range(KEYS)}
    peppers = ((b"slice" if slice else b"bench") * 7,)
    return Gate(policy, store or open_store("memory://"), peppers=peppers, directory=Callback(keys.get, peppers))


class ByHand:
    """`limits` as its documentation shows it: one `hit` a limit, the key as identifier, no reply headers."""

    def __init__(self, app: ASGIApp, count: int) -> None:
        self.app = app
        self.limiter = FixedWindowRateLimiter(MemoryStorage())
        self.items = [parse(text) for text in LIMITS[:count]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = next(value for name, value in scope["headers"] if name == b"authorization").decode()
        for item in self.items:
            if not await self.limiter.hit(item, key):
                await PlainTextResponse("no", 429)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def slowapi(count: int) -> ASGIApp:
    """slowapi's pure ASGI middleware with default limits."""
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware

    app = bare()
    app.state.limiter = Limiter(
        key_func=lambda request: request.headers["authorization"], default_limits=[*LIMITS[:count]]
    )
    app.add_middleware(SlowAPIASGIMiddleware)
    return app


def asgi_ratelimit(count: int) -> ASGIApp:
    """asgi-ratelimit with its memory backend."""
    from ratelimit import RateLimitMiddleware, Rule
    from ratelimit.backends.simple import MemoryBackend

    async def authenticate(scope: Scope) -> tuple[str, str]:
        return next(value for name, value in scope["headers"] if name == b"authorization").decode(), "default"

    rule = Rule(minute=1_000_000, hour=10_000_000, day=100_000_000)
    assert count == 3
    return RateLimitMiddleware(bare(), authenticate, MemoryBackend(), {r"^/": [rule]})


@dataclass
class Subject:
    """One thing to measure, and the rounds that it has run (microseconds of CPU a request)."""

    name: str
    limits: int
    app: ASGIApp
    rounds: list[float]


def scope_for(number: int) -> MutableMapping[str, Any]:
    key = f"Bearer hg_{number % KEYS:040d}".encode()
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": "/v1/hello", "raw_path": b"/v1/hello", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"api.example"), (b"user-agent", b"bench/1"), (b"accept", b"*/*"),
                    (b"authorization", key)],
        "client": ("192.0.2.7", 40_000), "server": ("127.0.0.1", 8_000),
    }  # fmt: skip


async def receive() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def round_of(app: Callable[..., Awaitable[None]], requests: int) -> float:
    served = 0

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal served
        if message["type"] == "http.response.start" and message["status"] == 200:
            served += 1

    begun = time.process_time_ns()
    for number in range(requests):
        await app(scope_for(number), receive, send)
    spent = (time.process_time_ns() - begun) / 1_000 / requests
    if served != requests:
        raise SystemExit(f"{requests - served} requests were not served: the figure would mean nothing")
    return spent


async def measured(requests: int, rounds: int) -> list[Subject]:
    """Every subject, with its rounds run in turns; the first round warms up and is dropped."""
    subjects = [Subject("bare Starlette", 0, bare(), [])]
    for count in (3, 6):
        subjects.append(Subject("headgate", count, headgate(count), []))
        subjects.append(Subject("limits, by hand", count, ByHand(bare(), count), []))
        subjects.append(Subject("slowapi", count, slowapi(count), []))
        if count == 3:
            subjects.append(Subject("asgi-ratelimit", count, asgi_ratelimit(count), []))
    subjects.append(Subject("headgate, two of them held", 6, headgate(6, holding=True), []))
    for turn in range(rounds + 1):
        for subject in subjects:
            spent = await round_of(subject.app, requests)
            if turn:
                subject.rounds.append(spent)
    return subjects


def main() -> None:
    """Measure and print; `--json` for figures alone."""
    logging.disable(logging.CRITICAL)
    floor, *others = asyncio.run(measured(REQUESTS, ROUNDS))
    added = {(s.name, s.limits): quartile(s.rounds) - quartile(floor.rounds) for s in others}
    usual = {(s.name, s.limits): statistics.median(s.rounds) - statistics.median(floor.rounds) for s in others}
    if "--json" in sys.argv:
        figures = {f"{name} {count}": us for (name, count), us in added.items()}
        print(json.dumps({"floor": quartile(floor.rounds), "added": figures}))
        return
    table = Table(title=f"CPU added to a request (bare Starlette: {quartile(floor.rounds):.1f} µs)")
    for name in ("", "limits", "added, µs", "median, µs", "of headgate's"):
        table.add_column(name, justify="left" if not name else "right")
    for (name, count), spent in sorted(added.items(), key=lambda row: (row[0][1], row[1])):
        ratio = spent / added["headgate", count]
        table.add_row(name, str(count), f"{spent:.1f}", f"{usual[name, count]:.1f}", f"{ratio:.1f} ×")
    Console().print(table)


def quartile(rounds: list[float]) -> float:
    """The lower quartile of the rounds."""
    return statistics.quantiles(rounds, n=4)[0]


if __name__ == "__main__":
    main()
