"""A policy in its own words before an app that counts, served by a real uvicorn or called in process.

Ground truth is what the app counted, never what headgate says.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from headgate.asgi import HeadgateMiddleware
from headgate.gate import Gate
from headgate.policy import load
from headgate.quota.facts import Group, Principal
from headgate.stores import open_store
from headgate.testing import ManualClock

STATUS = re.compile(rb"HTTP/1\.\d (\d{3})")

PARSERS = ("h11", "httptools")

PATIENCE = 30.0
"""Seconds within which a server on loopback must answer."""

HEAD = "headgate: v1\npolicy: corpus\nmode: enforce\nzone: UTC\non_store_error: closed\n"


class Keys:
    """A directory that a test fills."""

    files = ()
    version = 0

    def __init__(self, principals: dict[bytes, Principal]) -> None:
        self.principals = principals

    def known(self, secret: bytes) -> Principal | None:
        return self.principals.get(secret)

    async def find(self, secret: bytes) -> Principal | None:
        return self.principals.get(secret)

    def org(self, name: str) -> Group | None:
        plans = frozenset(one.plan for one in self.principals.values() if one.org == name)
        return Group(name, frozenset({name}), plans) if plans else None

    def refresh(self) -> bool:
        return False


@dataclass
class Origin:
    """The protected app: counts what reaches it, by path, and reads whatever body there is."""

    hits: int = 0
    paths: list[str] = field(default_factory=list)
    read: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise AssertionError("this app knows no lifespan")
        self.hits += 1
        self.paths.append(scope["path"])
        while (message := await receive())["type"] == "http.request":
            self.read += len(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@dataclass
class House:
    """Makes gates of policies, serves apps behind them, and asks them."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    origin: Origin = field(default_factory=Origin)
    keys: dict[bytes, Principal] = field(
        default_factory=lambda: {b"A" * 20: Principal("k_a", "org_a"), b"B" * 20: Principal("k_b", "org_b")}
    )
    gate: Gate | None = None

    def behind(self, policy: str, app: Any = None, *, directory: Any = None) -> HeadgateMiddleware:
        file = self.folder / "policy.yaml"
        file.write_text(HEAD + policy, encoding="utf-8")
        store = open_store("memory://", clock=self.clock)
        self.gate = Gate(
            load(file),
            store,
            peppers=(b"a pepper of tests",),
            directory=directory or Keys(self.keys),
            clock=self.clock,
        )
        return HeadgateMiddleware(app or self.origin, gate=self.gate)

    def used(self, limit: str) -> int:
        """What lies in the ledger under a limit, over all subjects."""
        assert self.gate is not None
        balances = self.gate.store._balances.items()  # type: ignore[attr-defined]
        found = [balance for (_, name), balance in balances if name == limit]
        return sum(b.used if b.kind != "rate" else -(-b.used // b.spec) for b in found)

    def held(self) -> int:
        """What is held under all limits."""
        assert self.gate is not None
        balances = self.gate.store._balances.values()  # type: ignore[attr-defined]
        return sum(balance.holds.held for balance in balances if balance.holds is not None)

    def subjects(self, limit: str) -> int:
        assert self.gate is not None
        return len([name for _, name in self.gate.store._balances if name == limit])  # type: ignore[attr-defined]

    def call(
        self, app: Any, path: str = "/", *, body: Sequence[bytes] = (b"",), **scope: Any
    ) -> tuple[int, Any, bytes]:
        """One request in process: (status, headers, body)."""
        return asyncio.run(self.called(app, path, body=body, **scope))

    async def called(
        self, app: Any, path: str = "/", *, body: Sequence[bytes] = (b"",), **scope: Any
    ) -> tuple[int, Any, bytes]:
        sent: list[Any] = []
        told = [{"type": "http.request", "body": p, "more_body": at < len(body) - 1} for at, p in enumerate(body)]

        async def receive() -> Any:
            return told.pop(0) if told else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        given = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode("utf-8", "surrogateescape"),
            "root_path": "", "query_string": b"", "headers": [], "client": ("192.0.2.1", 5), "server": ("x", 80),
            "scheme": "http", "http_version": "1.1", "asgi": {"version": "3.0"}, "state": {}, **scope,
        }  # fmt: skip
        await app(given, receive, send)
        start = next(m for m in sent if m["type"] == "http.response.start")
        return start["status"], dict(start["headers"]), b"".join(m.get("body", b"") for m in sent)

    def statuses(self, app: Any, count: int, path: str = "/", **given: Any) -> list[int]:
        return [self.call(app, path, **given)[0] for _ in range(count)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


class Line:
    """One TCP connection to a server: bytes out, all that comes back until it closes."""

    def __init__(self, port: int) -> None:
        self.port = port

    def say(self, data: bytes, *, answers: int = 0) -> bytes:
        """What comes back for these bytes: so many answers, or all until the server hangs up."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)) as line:
            line.sendall(data)
            if not answers:
                line.shutdown(socket.SHUT_WR)
            heard = b""
            while (not answers or len(STATUS.findall(heard)) < answers) and (part := line.recv(65_536)):
                heard += part
            return heard

    def ask(
        self, target: bytes, *headers: bytes, method: bytes = b"GET", host: bytes = b"x", body: bytes = b""
    ) -> int:
        """One request on a line of its own; its status, 0 if the server just hung up."""
        head = [method + b" " + target + b" HTTP/1.1", b"Host: " + host, b"Connection: close", *headers]
        heard = self.say(b"\r\n".join(head) + b"\r\n\r\n" + body)
        found = STATUS.match(heard)
        return int(found[1]) if found else 0


Serve = Callable[..., Line]


@pytest.fixture(params=PARSERS)
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Serves an app with one of uvicorn's two parsers, on loopback, until the test ends."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def served(app: Any, **config: Any) -> Line:
        given = {"proxy_headers": False, "log_level": "critical", "lifespan": "on", "ws": "none", **config}
        server = uvicorn.Server(uvicorn.Config(app, port=0, http=request.param, loop="asyncio", **given))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        for _ in range(int(PATIENCE * 1_000)):
            if server.started or not thread.is_alive():
                break
            threading.Event().wait(0.001)
        assert server.started, "the server did not start"
        return Line(server.servers[0].sockets[0].getsockname()[1])

    yield served
    for server, thread in servers:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()
