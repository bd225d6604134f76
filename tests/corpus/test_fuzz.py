"""Promise P21, routed implies charged: whatever target a client sends, what an app routes to a handler was charged
under the limit that names the handler, and under the limit of all.

Targets are made at random and fed to uvicorn's own two parsers, before apps of three kinds. A few thousand in the
default run; HYPOTHESIS_PROFILE=long makes a million. A failure tells the seed and the bytes.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from headgate.quota.identify import cleaned

ROUNDS = 1_000_000 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 6_000
SEED = int(os.environ.get("FUZZ_SEED", "21"))

POLICY = """
identify: {key: [header.x-api-key], anonymous: {per: ip}}
limits:
  items: {meter: requests, per: ip, total: 1G, when: {route: [/v1/items, /api/v1/items]}}
  users: {meter: requests, per: ip, total: 1G, when: {route: ["/v1/users/*", "/api/v1/users/*"]}}
  reads: {meter: requests, per: ip, total: 1G, when: {method: GET}}
  all:   {meter: requests, per: ip, total: 1G}
"""

SEGMENTS = [
    b"v1", b"items", b"users", b"7", b"api", b"..", b".", b"", b"%2e%2e", b"%2E", b"%2f", b"%5c", b"\\", b"%00",
    b"%ff",
    b"V1", b"ITEMS", b"%69tems", b"items;x=1", b"items%3b", b"items%23", b"items%3f", b"headgate", b"usage", b"%252e",
    b"i%74ems", b"items%20", b"items.", b"\xc3\xa9", b"a" * 40, b"items#", b"items;", b"*", b"%", b"%zz", b"@", b"?",
]  # fmt: skip
METHODS = [b"GET"] * 4 + [b"POST", b"HEAD", b"OPTIONS", b"PUT", b"get", b"FOO", b"TRACE", b"DELETE", b"CONNECT"]
HOSTS = [b"x", b"x/health?", b"x/v1/free#", b"[::1]", b"", b"x:80", b"x@y"]


def a_target(dice: random.Random) -> bytes:
    """Mostly near something that is routed; now and then nothing like it."""
    if dice.random() < 0.35:
        parts = dice.choice([[b"v1", b"items"], [b"v1", b"users", b"7"], [b"api", b"v1", b"items"]])
        parts = list(parts)
        for _ in range(dice.randrange(3)):
            parts.insert(dice.randrange(len(parts) + 1), dice.choice(SEGMENTS))
    else:
        parts = [dice.choice(SEGMENTS) for _ in range(dice.randrange(1, 6))]
    target = b"/" + b"/".join(parts)
    kind = dice.random()
    if kind < 0.05:
        return dice.choice([b"http://x", b"HTTP://y:80", b"//x", b"x:"]) + target
    if kind < 0.10:
        return target + dice.choice([b"#top", b"?q=/v1/items", b";a=b", b"/", b"//", b"/.", b"/..", b"?"])
    if kind < 0.13:
        return bytes(dice.randrange(33, 127) for _ in range(dice.randrange(1, 30)))
    return target


class Wire(asyncio.Transport):
    """A transport without a socket: what the server writes is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": ("127.0.0.1", 80), "peername": ("192.0.2.1", 50_000)}.get(name, default)

    def write(self, data: Any) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_protocol(self, protocol: Any) -> None:
        pass


@dataclass
class Truth:
    """What the handlers saw: how often each was reached, and whether it was charged when it was."""

    hits: dict[str, int] = field(default_factory=lambda: {"items": 0, "users": 0, "other": 0})
    uncharged: list[str] = field(default_factory=list)

    def reached(self, scope: Any, handler: str) -> None:
        self.hits[handler] += 1
        decision = (scope.get("state") or {}).get("headgate")
        limits = {limit.id for limit in decision.limits} if decision is not None else set()
        wanted = {"all", handler} - {"other"}
        if scope["method"] in {"GET", "HEAD"}:
            wanted.add("reads")
        if not wanted <= limits:
            self.uncharged.append(f"{handler} by {scope['method']} {scope['path']!r}: charged {sorted(limits)}")


def starlette(truth: Truth) -> Any:
    def at(handler: str) -> Any:
        async def page(request: Request) -> PlainTextResponse:
            truth.reached(request.scope, handler)
            return PlainTextResponse(handler)

        return page

    inner = [Route("/items", at("items"), methods=["GET", "POST"]), Route("/users/{user}", at("users"))]
    return Starlette(
        routes=[Mount("/api/v1", routes=inner), Mount("/v1", routes=inner), Route("/{rest:path}", at("other"))]
    )


def fastapi(truth: Truth) -> Any:
    app, router = FastAPI(), APIRouter()

    @router.get("/items")
    async def items(request: Request) -> str:
        truth.reached(request.scope, "items")
        return "items"

    @router.get("/users/{user}")
    async def users(request: Request, user: str) -> str:
        truth.reached(request.scope, "users")
        return user

    app.include_router(router, prefix="/v1")
    mounted = FastAPI()
    mounted.include_router(router, prefix="/v1")
    app.mount("/api", mounted)
    return app


def plain(truth: Truth) -> Any:
    """An app with a lenient router of its own: it cleans paths, and sees no parameters and no last slashes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].split("://", 1)[-1].partition("/")[2] if "://" in scope["path"] else scope["path"]
        path = cleaned("/" + path.partition(";")[0].partition("#")[0].partition("?")[0].partition("\0")[0])
        path = path.rstrip("/")
        handler = "items" if path in {"/v1/items", "/api/v1/items"} else "other"
        if path.startswith(("/v1/users/", "/api/v1/users/")):
            handler = "users"
        truth.reached(scope, handler)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    return app


APPS = {"starlette": starlette, "fastapi": fastapi, "plain": plain}
PARSERS = {"h11": H11Protocol, "httptools": HttpToolsProtocol}


async def fed(app: Any, protocol_class: Any, seed: int, rounds: int, truth: Truth) -> None:
    config = Config(
        app, loop="asyncio", ws="none", lifespan="off", log_config=None, proxy_headers=False, access_log=False
    )
    config.load()
    dice = random.Random(seed)
    for at in range(rounds):
        state = ServerState()
        protocol = protocol_class(config=config, server_state=state, app_state={}, _loop=asyncio.get_running_loop())
        protocol.connection_made(Wire())
        head = dice.choice(METHODS) + b" " + a_target(dice) + b" HTTP/1.1\r\nHost: " + dice.choice(HOSTS) + b"\r\n"
        protocol.data_received(head + b"\r\n")
        for _ in range(50):
            if not state.tasks:
                break
            await asyncio.gather(*state.tasks, return_exceptions=True)
        protocol.connection_lost(None)
        assert not truth.uncharged, f"seed {seed}, round {at}: {head!r}: {truth.uncharged[0]}"


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("kind", APPS)
def test_whatever_is_routed_is_charged(house, kind, parser, caplog):
    caplog.set_level("CRITICAL")
    truth = Truth()
    app = house.behind(POLICY, APPS[kind](truth))
    asyncio.run(fed(app, PARSERS[parser], SEED, ROUNDS // (len(APPS) * len(PARSERS)), truth))
    hits = truth.hits
    assert hits["items"] > 0 and hits["users"] > 0, "the targets no longer reach anything"
    assert house.used("items") >= hits["items"] and house.used("users") >= hits["users"]
    assert house.used("all") >= sum(hits.values())


def test_the_check_finds_a_request_that_was_not_charged(house):
    """The suite can fail: an app that is reached around headgate is found out."""
    truth = Truth()
    with pytest.raises(AssertionError, match="seed 1, round"):
        asyncio.run(fed(plain(truth), HttpToolsProtocol, 1, 200, truth))


def test_targets_are_near_enough_to_be_decoded():
    dice = random.Random(SEED)
    paths = {unquote(a_target(dice).decode("latin-1")) for _ in range(2_000)}
    assert len(paths) > 1_000 and "/v1/items" in paths
