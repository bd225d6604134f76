"""A policy of six limits before an app that counts, as one worker has it; and the callers that ask it.

Law: ground truth is the app's own count, kept in a file's page so that it outlives the worker, also `kill -9`. What
headgate says of itself is held against it and never taken for it.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from headgate.asgi import HeadgateMiddleware
from headgate.clock import Clock, wall_clock
from headgate.gate import Gate
from headgate.quota.command import Demand, Look, Seen
from headgate.quota.decision import reading
from headgate.quota.facts import Call, Principal
from headgate.service import Service
from headgate.settings import Settings

LIMIT = 1_000
"""What the scarcest limit of a request grants."""

PATIENT = 10_000
"""Milliseconds that a worker waits for its store where the promise is not about time: this machine is busy."""

SCARCE = ("total", "rate", "quota", "rolling")
"""Which of an org's windows is the scarce one, by its plan; with the plan `network` it is the address's."""


def policy(limit: int = LIMIT, *, network: int = LIMIT, streams: int = 10_000, lease: str = "1min") -> str:
    """Six limits a request. Key and org lie in one slot of a cluster, the address in another; a place is held."""

    def scarce(plan: str, unit: str = "") -> str:
        return "{" + ", ".join(f"{p}: {limit if p == plan else '1M'}{unit}" for p in (*SCARCE, "network")) + "}"

    return f"""\
headgate: v1
policy: chaos
mode: enforce
on_store_error: closed
identify: {{key: [header.x-api-key], directory: "python:chaos.house:whose", anonymous: refuse}}
plans: [total, rate, quota, rolling, network]
limits:
  total:   {{meter: requests, per: org, total: {scarce("total")}}}
  rate:    {{meter: requests, per: org, rate: {scarce("rate", "/d")}}}
  quota:   {{meter: requests, per: org, quota: {scarce("quota", "/day")}, anchor: first_use}}
  rolling: {{meter: requests, per: key, rolling: {scarce("rolling", "/7d")}}}
  network: {{meter: requests, per: ip, total: {network}}}
  streams: {{meter: streams, per: org, max: {streams}, lease: {lease}}}
"""


def secret_of(org: str, plan: str = "total", key: str = "1") -> str:
    """What a caller shows."""
    return f"a-secret/{org}/{key}/{plan}"


async def whose(secret: str) -> dict[str, str] | None:
    """The policy's directory: a secret says by itself whose it is."""
    with suppress(ValueError):
        _, org, key, plan = secret.split("/")
        return {"key": f"{org}-{key}", "org": org, "plan": plan}
    return None


class Origin:
    """The protected app. `served`: how often it was reached. While `holding`, it answers nobody until `let_go`."""

    def __init__(self, file: Path | None = None) -> None:
        self._page: mmap.mmap | bytearray = bytearray(8)
        if file is not None:
            file.write_bytes(bytes(mmap.PAGESIZE))
            with file.open("r+b") as opened:
                self._page = mmap.mmap(opened.fileno(), mmap.PAGESIZE)
        self.holding = False
        self.let_go = asyncio.Event()
        self.by_org: Counter[str] = Counter()

    @property
    def served(self) -> int:
        return int(struct.unpack_from("<q", self._page)[0])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        struct.pack_into("<q", self._page, 0, self.served + 1)
        self.by_org[scope["state"]["headgate"].principal.org] += 1
        if self.holding:
            await self.let_go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


def served_in(file: Path) -> int:
    """What an app has counted, whether or not its worker still lives."""
    return int(struct.unpack_from("<q", file.read_bytes())[0]) if file.exists() else 0


class House:
    """A worker's whole headgate in process: middleware, gate and store as the service puts them together."""

    def __init__(self, gate: Gate, origin: Origin) -> None:
        self.gate = gate
        self.origin = origin
        self.app = HeadgateMiddleware(origin, gate=gate)

    async def status(self, secret: str, address: str = "192.0.2.1") -> int:
        """One request's answer."""
        status, _ = await self.answer(secret, address)
        return status

    async def answer(
        self, secret: str, address: str = "192.0.2.1", begins: Callable[[], object] = lambda: None
    ) -> tuple[int, dict[bytes, bytes]]:
        """One request's answer, with its headers. `begins` is called when it begins: settling comes after it."""
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if not sent:
                begins()
            sent.append(message)

        scope = {
            "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "root_path": "", "query_string": b"",
            "headers": [(b"x-api-key", secret.encode())], "client": (address, 1), "server": ("x", 80),
            "scheme": "http", "http_version": "1.1", "asgi": {"version": "3.0"},
        }  # fmt: skip
        await self.app(scope, receive, send)
        return int(sent[0]["status"]), dict(sent[0]["headers"])

    async def asked(self, secret: str, times: int, tasks: int, address: str = "192.0.2.1") -> Counter[int]:
        """The answers to so many requests, by so many callers at once."""
        left, found = iter(range(times)), Counter[int]()

        async def caller() -> None:
            for _ in left:
                found[await self.status(secret, address)] += 1

        await asyncio.gather(*[caller() for _ in range(tasks)])
        return found

    async def demands(self, secret: str, address: str = "192.0.2.1") -> tuple[Demand, ...]:
        """What a request asks of the ledger."""
        principal = await self.principal(secret)
        return self.gate.tariff(principal).asked(Call(principal, network=address)).demands

    async def principal(self, secret: str) -> Principal:
        found = await self.gate.identify(secret.encode())
        assert found is not None
        return found

    async def standing(
        self, secret: str, address: str = "192.0.2.1", *, now: int | None = None
    ) -> dict[str, tuple[int, int]]:
        """What the ledger says of each limit: (used, held)."""
        demands = await self.demands(secret, address)
        [seen] = await self.gate.store.transact((Look(demands),), now)
        assert isinstance(seen, Seen)
        found = [reading(d, b, seen.now) for d, b in zip(demands, seen.balances, strict=True)]
        return {one.limit: (one.used, one.held) for one in found}

    async def quiet(
        self, secret: str, address: str = "192.0.2.1", within: float = 60.0
    ) -> dict[str, tuple[int, int]]:
        """What the ledger says when nothing is owed to it any more, and nothing is held for a moment."""
        await self.gate.resolver.idle()
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        while True:
            found = await self.standing(secret, address)
            if loop.time() > until or not any(held for _, held in found.values()):
                return found
            await asyncio.sleep(0.02)


@asynccontextmanager
async def house(
    store: str,
    file: Path,
    *,
    origin: Origin | None = None,
    deadline_ms: int = PATIENT,
    pepper: str = "a pepper for tests alone",
    before: str | None = None,
    clock: Clock = wall_clock,
) -> AsyncIterator[House]:
    """A worker of the policy in `file`, over a store. `before`: the pepper before, if it is told. With a `clock` of
    its own the store goes by it, too."""
    settings = Settings(
        policies=str(file), store=store, pepper=pepper, pepper_previous=before, deadline_ms=deadline_ms
    )
    gate = Service(settings, environ={}, clock=clock).prepare()
    try:
        yield House(gate, origin or Origin())
    finally:
        await gate.close()


def batches(numbers: Iterable[int], size: int) -> Iterable[list[int]]:
    """So many at a time."""
    left = iter(numbers)
    while batch := list(islice(left, size)):
        yield batch
