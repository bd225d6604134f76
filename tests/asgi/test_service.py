"""The middleware as an app uses it: everything from settings, by the server's lifespan or at the first request."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headgate.asgi import HeadgateMiddleware
from headgate.settings import Settings

POLICY = """
headgate: v1
policy: doc
mode: enforce
on_store_error: closed
identify: {anonymous: {per: ip}}
limits: {rpm: {meter: requests, per: ip, rate: 2/min}}
"""


@pytest.fixture(params=["memory://", "sqlite"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    (tmp_path / "headgate.yaml").write_text(POLICY, encoding="utf-8")
    store = request.param if request.param != "sqlite" else f"sqlite:///{tmp_path / 'usage.db'}"
    policies = str(tmp_path / "headgate.yaml")
    return Settings(policies=policies, store=store, pepper="a pepper of tests alone", reload_seconds=0)


async def served(stage: Any, app: Any) -> list[int]:
    return [(await stage.asked(app, key=None)).status for _ in range(3)]


async def lived(app: Any, middle: Any) -> tuple[list[str], Any]:
    said: list[str] = []
    go, ready = asyncio.Event(), asyncio.Event()
    told = [{"type": "lifespan.startup"}]

    async def receive() -> dict[str, Any]:
        if told:
            return told.pop()
        ready.set()
        await go.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: dict[str, Any]) -> None:
        said.append(message["type"] + (" " + message["message"] if message.get("message") else ""))
        ready.set()

    task = asyncio.create_task(app({"type": "lifespan"}, receive, send))
    await ready.wait()
    found = await middle() if said == ["lifespan.startup.complete"] else None
    go.set()
    await task
    return said, found


def test_from_the_servers_start_to_its_end(stage, settings):
    app = HeadgateMiddleware(stage.origin, settings=settings)
    said, found = asyncio.run(lived(app, lambda: served(stage, app)))
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert found == [200, 200, 429]


def test_where_no_lifespan_comes_the_first_request_starts_it(stage, settings):
    app = HeadgateMiddleware(stage.origin, settings=settings)

    async def story() -> list[int]:
        found = await served(stage, app)
        await app._stopped()
        return found

    assert asyncio.run(story()) == [200, 200, 429]


def test_a_policy_with_faults_stops_the_start_and_says_where(stage, settings):
    Path(settings.policies).write_text(POLICY.replace("rate: 2/min", "rate: 2/minn"), encoding="utf-8")
    app = HeadgateMiddleware(stage.origin, settings=settings)
    said, _ = asyncio.run(lived(app, None))
    assert len(said) == 1 and said[0].startswith("lifespan.startup.failed") and "headgate.yaml:" in said[0]


def test_a_store_that_keeps_usage_keeps_it_over_a_restart(stage, settings):
    found = []
    for _ in range(2):
        app = HeadgateMiddleware(stage.origin, settings=settings)
        found.append(asyncio.run(lived(app, lambda app=app: served(stage, app)))[1])
    again = [200, 200, 429] if settings.store == "memory://" else [429, 429, 429]
    assert found == [[200, 200, 429], again]
