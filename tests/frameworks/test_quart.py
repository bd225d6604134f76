"""Quart: plain views, streams, WebSockets, error handlers of the app's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from quart import Quart, stream_with_context, websocket
from quart.testing.connections import WebsocketResponseError

import headgate
from headgate.frameworks import quart as gate


def test_a_view_that_is_not_async_is_charged_too(stage: Any) -> None:
    app = Quart("stage")
    gate.install(app, gate=stage.gate())

    @app.get("/search")
    @gate.spends("search", cost=6)
    def search() -> str:
        gate.charge(rows=3)
        return "found"

    assert stage.statuses(app, "/search", "/search", "/search") == [200, 200, 429]
    used = stage.used(app)
    assert (used["searches"], used["rows_day"]) == (12, 6)


def test_a_stream_is_counted_by_its_scope_or_in_its_context(stage: Any) -> None:
    app = Quart("stage")
    gate.install(app, gate=stage.gate())

    @app.get("/scoped")
    async def scoped() -> Any:
        scope = gate.scope()

        async def lines() -> AsyncIterator[str]:
            for number in range(4):
                headgate.charge(scope, rows=1)
                yield f"{number}\n"

        return lines(), 200

    @app.get("/kept")
    async def kept() -> Any:
        @stream_with_context
        async def lines() -> AsyncIterator[str]:
            for number in range(4):
                gate.charge(rows=1)
                yield f"{number}\n"

        return lines(), 200

    assert stage.statuses(app, "/scoped", "/kept") == [200, 200]
    assert stage.used(app)["rows_day"] == 8


def test_outside_of_a_request_there_is_no_scope() -> None:
    with pytest.raises(RuntimeError):
        gate.charge(rows=1)


def test_an_apps_own_handler_for_every_fault_does_not_hide_a_refusal(stage: Any) -> None:
    app = Quart("stage")
    gate.install(app, gate=stage.gate())

    @app.errorhandler(500)
    async def sorry(fault: Exception) -> Any:
        return "sorry", 500

    @app.get("/search")
    async def search() -> str:
        await gate.spend(search=7)
        return "found"

    assert stage.statuses(app, "/search", "/search") == [200, 429]


def test_a_websocket_is_charged_before_it_is_accepted(stage: Any) -> None:
    app = Quart("stage")
    gate.install(app, gate=stage.gate())

    @app.websocket("/ws")
    @gate.spends("search", cost=lambda socket: 7 if socket.path == "/ws" else 0)
    async def ws() -> None:
        await websocket.accept()
        await websocket.send("hello")

    async def asked() -> str:
        async with app.test_client().websocket("/ws", headers={"x-api-key": "let-me-in"}) as socket:
            return str(await socket.receive())

    assert asyncio.run(asked()) == "hello"
    with pytest.raises(WebsocketResponseError) as caught:
        asyncio.run(asked())
    assert caught.value.response.status_code == 429
