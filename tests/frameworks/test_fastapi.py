"""FastAPI: dependencies of routers, plain endpoints, WebSockets, included and mounted apps, the OpenAPI document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import jsonschema
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from headgate.frameworks import fastapi as gate
from headgate.frameworks.documents import MEDIA, PROBLEM

KEY = {"x-api-key": "let-me-in"}

Paid = Annotated[None, Depends(gate.dependency("search", cost=6))]


def test_a_routers_dependency_and_a_routes_own_are_both_charged(stage: Any) -> None:
    app = FastAPI()
    gate.install(app, gate=stage.gate())
    router = APIRouter(dependencies=[Depends(gate.dependency("search", cost=1))])

    @router.get("/search", dependencies=[Depends(gate.dependency("search", cost=1))])
    def search() -> str:
        return "found"

    app.include_router(router)
    assert stage.statuses(app, "/search") == [200]
    assert stage.used(app)["searches"] == 2, "two dependencies that look alike are two"


def test_a_dependency_may_stand_among_the_endpoints_parameters(stage: Any) -> None:
    app = FastAPI()
    gate.install(app, gate=stage.gate())

    @app.get("/search")
    def search(request: Request, paid: Paid) -> str:
        return str(request.state.headgate.id)

    assert stage.statuses(app, "/search", "/search", "/search") == [200, 200, 429]


def test_a_websocket_is_charged_before_it_is_accepted(stage: Any) -> None:
    app = FastAPI()
    gate.install(app, gate=stage.gate())

    @app.websocket("/ws")
    async def ws(socket: WebSocket, paid: Paid) -> None:
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    with TestClient(app, headers=KEY) as client:
        for _ in range(2):
            with client.websocket_connect("/ws") as socket:
                assert socket.receive_text() == "hello"
        with pytest.raises(Exception) as caught, client.websocket_connect("/ws"):
            pass
    denied = caught.value
    status = getattr(denied, "status_code", None)
    assert status == 429 or (isinstance(denied, WebSocketDisconnect) and denied.code == 1008)


def test_a_request_that_turns_out_to_be_none_has_been_charged(stage: Any) -> None:
    app = FastAPI()
    gate.install(app, gate=stage.gate())

    @app.get("/search")
    def search(paid: Paid, limit: int) -> str:
        return "found"

    assert stage.statuses(app, "/search?limit=many", "/search?limit=1", "/search?limit=1") == [422, 200, 429]


def test_what_comes_after_a_refused_cost_is_not_opened(stage: Any) -> None:
    app, left = FastAPI(), []
    gate.install(app, gate=stage.gate())

    async def session() -> AsyncIterator[str]:
        try:
            yield "session"
        finally:
            left.append("closed")

    @app.get("/search")
    def search(paid: Paid, opened: str = Depends(session)) -> str:
        return "found"

    assert stage.statuses(app, "/search", "/search", "/search") == [200, 200, 429]
    assert left == ["closed"] * 2


def test_a_middleware_between_headgate_and_the_endpoint_does_not_hide_a_refusal(stage: Any) -> None:
    app = FastAPI()

    @app.middleware("http")
    async def timed(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    gate.install(app, gate=stage.gate())

    @app.get("/search")
    def search(paid: Paid) -> str:
        return "found"

    assert stage.statuses(app, "/search", "/search", "/search") == [200, 200, 429]


def test_wrong_names_are_found_in_included_routers_mounted_apps_and_websockets(stage: Any) -> None:
    app, mounted, router, inner = FastAPI(), FastAPI(), APIRouter(), APIRouter()
    gate.install(app, gate=stage.gate())

    @inner.get("/search", dependencies=[Depends(gate.dependency("serach"))])
    def search() -> str:
        return "found"

    @mounted.websocket("/ws")
    async def ws(socket: WebSocket, paid: None = Depends(gate.dependency("rwos"))) -> None: ...

    router.include_router(inner, prefix="/inner")
    app.include_router(router, prefix="/v1")
    app.mount("/mounted", mounted)
    said = stage.lived(app)[0]["message"]
    assert "/inner/search spends `serach`" in said
    assert "WebSocket /mounted/ws spends `rwos`" in said


def test_a_gate_that_no_lifespan_starts_tells_a_wrong_name_at_the_first_request(stage: Any) -> None:
    app = FastAPI()
    gate.install(app, gate=stage.gate())

    @app.get("/search", dependencies=[Depends(gate.dependency("serach"))])
    def search() -> str:
        return "found"

    with pytest.raises(Exception, match="serach"):
        stage.ask(app, "/search")


def test_a_browser_may_read_the_refusal_of_a_cost(stage: Any) -> None:
    app = FastAPI()
    gate.install(app, gate=stage.gate())
    app.add_middleware(CORSMiddleware, allow_origins=["https://page.example"], allow_headers=["x-api-key"])

    @app.get("/search", dependencies=[Depends(gate.dependency("search", cost=12))])
    def search() -> str:
        return "found"

    refused = stage.ask(app, "/search", "/search", origin="https://page.example")[-1]
    assert refused.status_code == 429
    assert refused.headers["access-control-allow-origin"] == "https://page.example"


def test_the_document_says_of_every_route_that_it_may_be_refused(stage: Any) -> None:
    app = FastAPI()
    gate.install(app, gate=stage.gate())
    router = APIRouter()

    @app.get("/search")
    def search() -> str:
        return "found"

    @router.post("/own", responses={429: {"description": "Our own words."}})
    def own() -> str:
        return "own"

    app.include_router(router, prefix="/v1")
    document = app.openapi()
    told = document["paths"]["/search"]["get"]["responses"]
    assert set(told) == {"200", "401", "429", "503"}
    shared = document["components"]["responses"][told["429"]["$ref"].rsplit("/", 1)[1]]
    assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= set(shared["headers"])
    assert document["paths"]["/v1/own"]["post"]["responses"]["429"]["description"] == "Our own words."
    app.get("/later")(search)
    assert "429" in app.openapi()["paths"]["/later"]["get"]["responses"], "a route that came later, too"
    assert app.openapi() == app.openapi()


def test_refusals_describe_one_route_where_only_that_is_wanted() -> None:
    app = FastAPI()

    @app.get("/search", responses=gate.refusals)
    def search() -> str:
        return "found"

    @app.get("/free")
    def free() -> str:
        return "free"

    paths = app.openapi()["paths"]
    told = paths["/search"]["get"]["responses"]["429"]
    assert set(told["content"]) == {MEDIA}
    assert "violated-policies" in told["content"][MEDIA]["schema"]["properties"]
    assert "Retry-After" in told["headers"]
    assert set(paths["/free"]["get"]["responses"]) == {"200"}


def test_the_document_is_true_of_what_is_sent(stage: Any) -> None:
    app = FastAPI()
    gate.install(app, gate=stage.gate())

    @app.get("/search", dependencies=[Depends(gate.dependency("search", cost=12))])
    def search() -> str:
        return "found"

    refused = stage.ask(app, "/search", "/search")[-1]
    nobody = stage.ask(app, "/search", key="")[0]
    for answer in (refused, nobody):
        described = gate.refusals[answer.status_code]
        assert answer.headers["content-type"] in described["content"]
        jsonschema.validate(answer.json(), {**PROBLEM, "additionalProperties": False})
        general = {"content-type", "content-length", "cache-control"}
        assert set(answer.headers) - general <= {name.lower() for name in described["headers"]}
