"""The same answer behind each peer's limits, as ASGI apps that count in Redis.

A `Front` puts its limits before an app, as its users would: with its own middleware where it has one, else by hand
in a few lines of pure ASGI. slowapi needs Starlette and fastapi-limiter needs FastAPI: they bring the app with them,
and are held against that one bare (`floor`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import peers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi import LIMITS, bare, gate_of
from headgate import HeadgateMiddleware

Open = Callable[[ASGIApp, str, int], AbstractAsyncContextManager[ASGIApp]]


@dataclass(frozen=True, slots=True)
class Front:
    """`open`: the app behind so many limits that count at a URI. `floor`: what brings its own app; "" takes any."""

    name: str
    open: Open
    floor: str = ""


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """The barest app: two messages."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def credential(scope: Scope) -> str:
    """The caller's key, as the middlewares here read it."""
    return next(value for name, value in scope["headers"] if name == b"authorization").decode()


def _headgate(slice: str = "") -> Open:
    """The whole product: digest of the key, directory, limits, RateLimit headers; with `slice` on every limit."""

    @asynccontextmanager
    async def opened(app: ASGIApp, uri: str, limits: int) -> AsyncIterator[ASGIApp]:
        gate = gate_of(limits, store=peers.fronted(uri), slice=slice)
        try:
            yield HeadgateMiddleware(app, gate=gate)
        finally:
            await gate.close()

    return opened


@asynccontextmanager
async def dictionary(app: ASGIApp, uri: str, limits: int) -> AsyncIterator[ASGIApp]:
    """What no middleware can be cheaper than: a count a limit in a dictionary of this process, never reset."""
    counts: dict[tuple[str, int], int] = {}

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        key = credential(scope)
        for number in range(limits):
            counts[key, number] = used = counts.get((key, number), 0) + 1
            if used > 10**9:
                await PlainTextResponse("no", 429)(scope, receive, send)
                return
        await app(scope, receive, send)

    yield counting


def by_hand(way: peers.Way) -> Open:
    """A peer that has no ASGI form: its decision, awaited before the app; no reply headers."""

    @asynccontextmanager
    async def opened(app: ASGIApp, uri: str, limits: int) -> AsyncIterator[ASGIApp]:
        async with way(uri, limits) as decide:

            async def before(scope: Scope, receive: Receive, send: Send) -> None:
                if scope["type"] == "http" and not await decide(credential(scope)):
                    await PlainTextResponse("no", 429)(scope, receive, send)
                    return
                await app(scope, receive, send)

            yield before

    return opened


@asynccontextmanager
async def asgi_ratelimit(app: ASGIApp, uri: str, limits: int) -> AsyncIterator[ASGIApp]:
    """Its own middleware."""
    import redis.asyncio
    from ratelimit import RateLimitMiddleware
    from ratelimit.backends.redis import RedisBackend

    async def authenticate(scope: Scope) -> tuple[str, str]:
        return credential(scope), "default"

    client = redis.asyncio.StrictRedis.from_url(uri)
    rules = {r"^/": [peers.asgi_ratelimit_rule(limits)]}
    try:
        yield RateLimitMiddleware(app, authenticate, RedisBackend(client), rules)
    finally:
        await client.aclose()


@asynccontextmanager
async def slowapi(app: ASGIApp, uri: str, limits: int) -> AsyncIterator[ASGIApp]:
    """Its pure ASGI middleware, with default limits. Its Redis client is a synchronous one: it holds up the loop."""
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware

    behind = bare()
    behind.state.limiter = Limiter(
        key_func=lambda request: request.headers["authorization"], default_limits=[*LIMITS[:limits]], storage_uri=uri
    )
    behind.add_middleware(SlowAPIASGIMiddleware)
    yield behind


def bare_fastapi(dependencies: list[Any] | None = None) -> ASGIApp:
    """The same answer as a FastAPI app."""
    from fastapi import FastAPI

    app = FastAPI(openapi_url=None)

    @app.get("/v1/hello", dependencies=dependencies or [], response_class=PlainTextResponse)
    async def hello() -> str:
        return "hello"

    return app


@asynccontextmanager
async def fastapi_limiter(app: ASGIApp, uri: str, limits: int) -> AsyncIterator[ASGIApp]:
    """Its dependency, on pyrate's bucket for each key: the limits are the rates of one bucket."""
    from fastapi import Depends
    from fastapi_limiter.depends import RateLimiter

    async def identifier(request: Request) -> str:
        return request.headers["authorization"]

    async with peers.pyrate_limiter(uri, limits) as limiter:
        yield bare_fastapi([Depends(RateLimiter(limiter, identifier=identifier))])


BARE = {"Starlette": bare, "FastAPI": bare_fastapi}
"""The apps that some bring with them, with nothing before them."""

DICTIONARY = Front("a dictionary", dictionary)

HEADGATE = (Front("headgate", _headgate()), Front("headgate, slice: 1%", _headgate("1%")))

PEERS = (
    Front("asgi-ratelimit", asgi_ratelimit),
    Front("limits, fixed window, by hand", by_hand(peers.LIMITS_FIXED.way)),
    Front("throttled-py, GCRA, by hand", by_hand(peers.THROTTLED_GCRA.way)),
    Front("pyrate-limiter, by hand", by_hand(peers.PYRATE.way)),
    Front("slowapi", slowapi, "Starlette"),
    Front("fastapi-limiter", fastapi_limiter, "FastAPI"),
)
