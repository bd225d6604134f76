"""A gate made by hand, an app that counts what it serves, and a client that speaks ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest

from headgate.asgi import HeadgateMiddleware
from headgate.gate import Gate
from headgate.policy.compiled import Policy
from headgate.quota.facts import Group, Principal
from headgate.quota.gcra import Rate
from headgate.quota.identify import Identify
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS, Meter
from headgate.quota.window import Max, Total
from headgate.stores import open_store
from headgate.testing import ManualClock

T = TypeVar("T")
MINUTE = 60_000_000
ROWS = Meter("rows", "app", reserve=10)


@dataclass
class Response:
    """What came back: all messages, and the parts of the first response among them."""

    messages: list[dict[str, Any]]

    @property
    def status(self) -> int:
        return next(m["status"] for m in self.messages if m["type"].endswith("response.start"))

    @property
    def headers(self) -> dict[str, str]:
        raw = next(m["headers"] for m in self.messages if m["type"].endswith("response.start"))
        return {name.decode(): value.decode() for name, value in raw}

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages if m["type"].endswith("response.body"))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Keys:
    """A directory of secrets that a test writes down."""

    files = ()
    version = 0

    def __init__(self, principals: Mapping[bytes, Principal]) -> None:
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


ALICE, BOB = Principal("k_alice", "acme"), Principal("k_bob", "acme")
CAROL = Principal("k_carol", "other")


@dataclass
class Stage:
    """A gate over the memory store, and what was settled under it."""

    clock: ManualClock = field(default_factory=ManualClock)
    hits: list[dict[str, Any]] = field(default_factory=list)

    def gate(self, *limits: Limit, **policy: Any) -> Gate:
        identify = policy.pop("identify", Identify())
        mode = policy.pop("mode", "enforce")
        compiled = Policy("stage", "0", mode, identify, limits, **policy)
        keys = Keys({b"alice": ALICE, b"bob": BOB, b"carol": CAROL})
        store = open_store("memory://", clock=self.clock)
        return Gate(compiled, store, peppers=(b"pepper",), directory=keys, clock=self.clock)

    def app(self, *limits: Limit, behind: Any = None, **policy: Any) -> HeadgateMiddleware:
        return HeadgateMiddleware(behind or self.origin, gate=self.gate(*limits, **policy))

    async def origin(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """The protected app: it counts, and answers with five bytes."""
        self.hits.append(scope)
        if scope["type"] == "lifespan":
            raise AssertionError("this app knows no lifespan")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    @staticmethod
    def run(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    @staticmethod
    def scope(path: str = "/", *, method: str = "GET", key: str | None = "alice", **more: Any) -> dict[str, Any]:
        headers = list(more.pop("headers", []))
        if key is not None:
            headers.append((b"authorization", b"Bearer " + key.encode()))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": method,
            "path": path, "raw_path": path.encode("utf-8", "surrogateescape"), "root_path": "", "query_string": b"",
            "headers": headers, "client": ("192.0.2.1", 50_000), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        return {**scope, **more}

    async def asked(self, app: Any, path: str = "/", *, body: Iterable[bytes] = (b"",), **scope: Any) -> Response:
        """One request, whole."""
        sent: list[dict[str, Any]] = []
        parts = list(body)
        messages = [
            {"type": "http.request", "body": part, "more_body": at < len(parts) - 1} for at, part in enumerate(parts)
        ]

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(dict(message))

        await app(self.scope(path, **scope), receive, send)
        return Response(sent)

    def ask(self, app: Any, path: str = "/", **given: Any) -> Response:
        return self.run(self.asked(app, path, **given))

    def statuses(self, app: Any, count: int, path: str = "/", **given: Any) -> list[int]:
        return [self.ask(app, path, **given).status for _ in range(count)]

    def balances(self, gate: Gate) -> dict[str, tuple[int, int]]:
        """What lies in the store, by limit, over all subjects: (used, held)."""
        found: dict[str, tuple[int, int]] = {}
        for (_, limit), balance in gate.store._balances.items():  # type: ignore[attr-defined]
            used, held = found.get(limit, (0, 0))
            live = balance.holds.held if balance.holds is not None else 0
            units = balance.used if balance.kind != "rate" else -(-balance.used // balance.spec)
            found[limit] = used + units, held + live
        return found


@pytest.fixture
def stage() -> Stage:
    return Stage()


class Limits:
    """The limits that most tests need."""

    @staticmethod
    def rpm(amount: int = 3, per: tuple[str, ...] = ("key",), **more: Any) -> Limit:
        return Limit("rpm", BUILT_IN_METERS["requests"], per, {"": Rate(amount, MINUTE)}, **more)

    @staticmethod
    def total(name: str, meter: Meter | str, amount: int = 1_000, per: tuple[str, ...] = ("key",), **m: Any) -> Limit:
        counted = BUILT_IN_METERS[meter] if isinstance(meter, str) else meter
        return Limit(name, counted, per, {"": Total(amount)}, **m)

    @staticmethod
    def slots(amount: int = 3, lease: int = MINUTE) -> Limit:
        return Limit("slots", BUILT_IN_METERS["streams"], ("key",), {"": Max(amount, lease)})


@pytest.fixture
def limits() -> type[Limits]:
    return Limits


Handler = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


@pytest.fixture
def rows() -> Meter:
    return replace(ROWS)
