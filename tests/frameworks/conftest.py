"""One small API, written in each framework, and somebody who asks it in the process.

Every app has the same three endpoints: `/search` costs 5 units before it runs, `/records/{id}` hands out one record,
`/deep` spends 5 units in the middle of its work. `served` lists what an endpoint's own code has done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from headgate import Gate, Principal, load, open_store
from headgate.directory import Callback
from headgate.testing import ManualClock

PEPPER = b"for tests alone"

POLICY = """
headgate: v1
policy: stage
mode: {mode}
zone: UTC
on_store_error: closed
identify: {{key: [header.x-api-key], directory: keys.yaml, anonymous: refuse}}
meters:
  search:  {{from: app}}
  rows:    {{from: app, reserve: 2}}
  records: {{distinct: app, reserve: 1}}
limits:
  searches: {{meter: search, per: key, quota: 12/day, when: {{route: [/search, /deep, /ws]}}}}
  rows_day: {{meter: rows, per: key, quota: 100/day}}
  coverage: {{meter: records, per: key, quota: 3/day, when: {{route: "/records/*"}}}}
"""


@dataclass
class Stage:
    """A gate with one key, `let-me-in`, and what happened behind it."""

    folder: Path
    mode: str = "enforce"
    served: list[str] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)

    def gate(self, text: str = POLICY) -> Gate:
        file = self.folder / "headgate.yaml"
        file.write_text(text.format(mode=self.mode))
        store = open_store("memory://", clock=self.clock)
        directory = Callback({"let-me-in": Principal("k1", "acme")}.get, [PEPPER])
        return Gate(load(str(file)), store, peppers=(PEPPER,), directory=directory, clock=self.clock)

    def ask(self, app: Any, *paths: str, key: str = "let-me-in", **headers: str) -> list[httpx.Response]:
        """The answers to GETs, one after the other."""
        carried = {**headers, **({"x-api-key": key} if key else {})}

        async def asked() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=carried) as client:
                return [await client.get(path) for path in paths]

        return asyncio.run(asked())

    def at_once(self, app: Any, *paths: str) -> list[int]:
        """The statuses of GETs that are all under way together."""

        async def asked() -> list[int]:
            transport = httpx.ASGITransport(app)
            headers = {"x-api-key": "let-me-in"}
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
                return [answer.status_code for answer in await asyncio.gather(*map(client.get, paths))]

        return asyncio.run(asked())

    def statuses(self, app: Any, *paths: str, **given: Any) -> list[int]:
        return [answer.status_code for answer in self.ask(app, *paths, **given)]

    def used(self, app: Any) -> dict[str, int]:
        """What the key has used, by limit; read where a caller reads it."""
        (answer,) = self.ask(app, "/headgate/v1/usage")
        return {row["limit"]: row["used"] for row in answer.json()["limits"]}

    def lived(self, app: Any) -> list[dict[str, Any]]:
        """What an app says to a server that starts and stops."""
        return asyncio.run(self._lived(app))

    @staticmethod
    async def _lived(app: Any) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = []
        coming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> dict[str, Any]:
            return coming.pop(0)

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        except Exception as fault:
            # A server prints it, and what the app has said of it before.
            said.append({"type": "raised", "message": str(fault)})
        return said


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


Build = Callable[..., Any]
"""(stage, gate or None for no headgate, cost of a search, its meter) -> the app."""


@pytest.fixture(params=["fastapi", "litestar", "django", "django_async", "quart"])
def build(request: pytest.FixtureRequest) -> Build:
    """The small API in one framework after the other."""
    from frameworks import apps

    made: Build = getattr(apps, request.param)
    return made
