"""What linking adds to a request: the same app and the same gate, with and without an eye on it.

    .venv/bin/python -m benchmarks.linking.request_path

Rounds take turns, so that what a neighbour on the machine disturbs falls on both; the figure is the median, over the
turns, of one round's CPU time less the other's. The ring is emptied between rounds: what is done with it (digests,
parcels) is done in another thread, and stands in rows of its own, per request. Only ratios mean anything on another
machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from headgate import Gate, HeadgateMiddleware, load
from headgate.asgi import touch
from headgate.directory import Callback
from headgate.linking.observation import Blind
from headgate.stores import open_store
from headgate.watch import Eye
from headgate.watch.flushing import AT_ONCE
from headgate.watch.parcel import parcelled

REQUESTS, ROUNDS, KEYS = 250, 120, 100

POLICY = """
headgate: v1
policy: bench
mode: enforce
zone: UTC
on_store_error: closed
identify: {key: [header.authorization.bearer], anonymous: refuse, traits: {ja4: header.x-ja4}}
meters: {docs: {distinct: app}}
limits:
  rpm: {meter: requests, per: key, rate: 1000k/min}
  rpd: {meter: requests, per: org, quota: 100M/day}
  model: {meter: requests, per: [key, body.model], rate: 1000k/min, when: {route: /v1/chat}}
  docs: {meter: docs, per: key, quota: 100M/month, when: {route: "/v1/docs/*"}}
linking: {states: {suspect: 0.7, linked: 0.97}}
"""

SENTENCE = "Summarise the letter from Ms Miller to the board, and say in one line what she asks for. "


async def chat(request: Request) -> PlainTextResponse:
    """An endpoint that reads its body."""
    await request.body()
    return PlainTextResponse("hello")


async def doc(request: Request) -> PlainTextResponse:
    """An endpoint that says which record it hands out."""
    touch(request, f"doc:{request.path_params['number']}")
    return PlainTextResponse("hello")


def gate_of() -> Gate:
    """The whole product on the memory store."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "headgate.yaml")
        file.write_text(POLICY)
        policy = load(file)
    traits = {"payment": "card-1", "email_domain": "x.example"}
    keys = {f"hg_{n:040d}": {"key": f"k{n}", "org": f"o{n % 10}", "traits": traits} for n in range(KEYS)}
    peppers = (b"bench" * 7,)
    return Gate(policy, open_store("memory://"), peppers=peppers, directory=Callback(keys.get, peppers))


Ask = Callable[[int], Any]


def asking(path: str, prompt: str = "") -> Ask:
    """Scope and receive of the n-th request."""

    def ask(n: int) -> Any:
        told = {"model": "m", "messages": [{"role": "user", "content": f"{prompt}{n % 50}"}]}
        body = json.dumps(told).encode() if prompt else b""
        headers = [
            (b"host", b"api.example"), (b"authorization", b"Bearer hg_%040d" % (n % KEYS)),
            (b"user-agent", b"python-httpx/0.28"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip"),
            (b"connection", b"keep-alive"), (b"content-type", b"application/json"), (b"x-ja4", b"t13d1516h2"),
        ]  # fmt: skip
        scope = {
            "type": "http", "method": "POST" if prompt else "GET", "headers": headers, "query_string": b"",
            "path": path if prompt else f"{path}{n}", "client": (f"192.0.2.{n % 200}", 1), "http_version": "1.1",
        }  # fmt: skip

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        return scope, receive

    return ask


async def round_of(app: Any, ask: Ask, begin: int) -> float:
    """Microseconds of CPU a request."""
    requests = [ask(begin + n) for n in range(REQUESTS)]

    async def send(message: Any) -> None:
        if message.get("status", 200) != 200:
            raise SystemExit("refused: the figure would mean nothing")

    used = time.process_time()
    for scope, receive in requests:
        await app(scope, receive, send)
    return (time.process_time() - used) / REQUESTS * 1e6


async def measured(ask: Ask) -> tuple[float, float, float]:
    """CPU without an eye, what the eye adds, and what is done with a glimpse elsewhere; microseconds a request."""
    gate, eye, blind = gate_of(), Eye(), Blind(b"bench")
    routes = [Route("/v1/chat", chat, methods=["POST"]), Route("/v1/docs/{number}", doc)]
    app = HeadgateMiddleware(Starlette(routes=routes), gate=gate)
    without: list[float] = []
    added: list[float] = []
    behind: list[float] = []
    for turn in range(ROUNDS):
        gate.eye = None
        bare = await round_of(app, ask, turn * 2 * REQUESTS)
        gate.eye = eye
        seen = await round_of(app, ask, (turn * 2 + 1) * REQUESTS)
        begun = time.process_time()
        digested = [sight.observation(glimpse, blind) for sight, glimpse in eye.taken(AT_ONCE)]
        assert len(list(parcelled(b"me", 0, digested))) > 0
        behind.append((time.process_time() - begun) / REQUESTS * 1e6)
        without.append(bare)
        added.append(seen - bare)
    if eye.faults or eye.ring.lost:
        raise SystemExit("something was lost: the figure would mean nothing")
    return statistics.median(without), statistics.median(added), statistics.median(behind)


def main() -> None:
    """Print the table."""
    table = Table(title=f"microseconds of CPU a request, medians of {ROUNDS} turns")
    for name in ("request", "without", "the eye adds", "ratio", "digests, elsewhere"):
        table.add_column(name, justify="left" if name == "request" else "right")
    for name, ask in {
        "GET of a record, touched": asking("/v1/docs/"),
        "POST, prompt of 100 letters": asking("/v1/chat", SENTENCE),
        "POST, prompt of 4,000 letters": asking("/v1/chat", SENTENCE * 44),
    }.items():
        without, added, behind = asyncio.run(measured(ask))
        table.add_row(name, f"{without:.1f}", f"{added:.1f}", f"{(without + added) / without:.3f}", f"{behind:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
