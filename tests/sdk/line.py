"""A policy before a model's API that does as it is told, on a real uvicorn, asked by both companies' own clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import uvicorn

from headgate import Gate, HeadgateMiddleware, load, open_store
from headgate.directory import Callback
from sdk.upstream import Upstream

PEPPERS = (b"a pepper of tests alone",)

PATIENCE = 30.0
"""Seconds within which a server on loopback must answer."""

WITHIN = 1.0
"""Seconds within which nothing is held any more of what has ended, as a rule: others use this machine, too."""

HEAD = """\
headgate: v1
policy: sdk
mode: enforce
zone: UTC
on_store_error: closed
identify: {key: [header.authorization.bearer, header.x-api-key], anonymous: refuse}
"""

KEYS = {f"sk-{org}": {"key": f"k_{org}", "org": org} for org in ("acme", "beech", "cedar", "dogwood")}


def line_up(app: Any, **config: Any) -> tuple[uvicorn.Server, threading.Thread, int]:
    """A uvicorn in a thread of its own that serves an app: it, its thread, its port."""
    given = {"log_level": "critical", "lifespan": "off", "ws": "none", "loop": "asyncio", **config}
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, **given))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + PATIENCE
    while not server.started and thread.is_alive() and time.monotonic() < until:
        threading.Event().wait(0.001)
    assert server.started, "the server did not start"
    return server, thread, server.servers[0].sockets[0].getsockname()[1]


@dataclass
class Line:
    """A server of one app: `upstream` behind headgate. Clients are made for an org of `KEYS`."""

    upstream: Upstream
    gate: Gate
    port: int
    clients: list[Any] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    """How long (seconds) it took each time until nothing was held any more."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def openai(self, org: str = "acme", **options: Any) -> openai.OpenAI:
        """OpenAI's own client. It tries once, unless told otherwise."""
        web = openai.DefaultHttpxClient(trust_env=False, timeout=PATIENCE)
        given = {
            "max_retries": 0,
            "base_url": f"{self.url}/v1",
            "api_key": f"sk-{org}",
            "http_client": web,
            **options,
        }
        self.clients.append(client := openai.OpenAI(**given))
        return client

    def anthropic(self, org: str = "acme", **options: Any) -> anthropic.Anthropic:
        """Anthropic's own client. It tries once, unless told otherwise."""
        web = anthropic.DefaultHttpxClient(trust_env=False, timeout=PATIENCE)
        given = {"max_retries": 0, "base_url": self.url, "api_key": f"sk-{org}", **options}
        self.clients.append(client := anthropic.Anthropic(**given, http_client=web))
        return client

    def limits(self, org: str = "acme") -> dict[str, dict[str, Any]]:
        """How the caller stands by its own account (`GET /headgate/v1/usage`), by limit."""
        answer = httpx.get(f"{self.url}/headgate/v1/usage", headers={"x-api-key": f"sk-{org}"}, trust_env=False)
        assert answer.status_code == 200, answer.text
        return {row["limit"]: row for row in answer.json()["limits"]}

    def used(self, org: str = "acme") -> dict[str, int]:
        """What it has used, by limit, when nothing is held any more."""
        begun = time.monotonic()
        while True:
            rows = self.limits(org)
            if not any(row["held"] for row in rows.values()):
                self.waited.append(time.monotonic() - begun)
                return {name: row["used"] for name, row in rows.items()}
            assert time.monotonic() < begun + PATIENCE, f"still held after {PATIENCE:g} s: {rows}"

    def close(self) -> None:
        for client in self.clients:
            client.close()


@contextmanager
def serving(
    policy: str,
    file: Path,
    store: str = "memory://",
    around: Callable[[Any], Any] = lambda app: app,
    inside: Callable[[Any], Any] = lambda app: app,
    **config: Any,
) -> Iterator[Line]:
    """The policy, written to a file, before a new upstream. `around` wraps headgate, `inside` what is behind it."""
    file.write_text(HEAD + policy, encoding="utf-8")
    gate = Gate(
        load(file),
        open_store(store, deadline=PATIENCE),
        peppers=PEPPERS,
        directory=Callback(KEYS.get, PEPPERS),
        deadline=PATIENCE,
    )
    upstream = Upstream()
    server, thread, port = line_up(around(HeadgateMiddleware(inside(upstream), gate=gate)), **config)
    line = Line(upstream, gate, port)
    try:
        yield line
    finally:
        line.close()
        server.should_exit = True
        thread.join(PATIENCE)
        with suppress(RuntimeError):  # its connections belonged to the server's loop, which is gone
            asyncio.run(gate.close())
    assert not thread.is_alive(), "the server did not end"


Serve = Callable[..., Line]
