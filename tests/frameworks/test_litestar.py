"""Litestar: route templates, mounts, headgate's own pages, CORS, WebSockets, and the OpenAPI document."""

from __future__ import annotations

from typing import Any

import pytest
from litestar import Litestar, Router, WebSocket, asgi, get, websocket
from litestar.config.cors import CORSConfig
from litestar.exceptions import WebSocketDisconnect
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, OpenAPIResponse
from litestar.params import FromPath
from litestar.testing import TestClient

from headgate.frameworks import litestar as gate
from headgate.settings import Settings

KEY = {"x-api-key": "let-me-in"}

BY_ROUTE = """
headgate: v1
policy: stage
mode: {mode}
zone: UTC
on_store_error: closed
identify: {{key: [header.x-api-key], directory: keys.yaml, anonymous: refuse}}
meters:
  search: {{from: app}}
limits:
  records: {{meter: requests, per: [key, route], quota: 2/day, when: {{route: "/records/{{number}}"}}}}
  one:     {{meter: requests, per: [key, path.number], quota: 1/day, when: {{route: "/one/*"}}}}
  mounted: {{meter: requests, per: key, quota: 2/day, when: {{route: "/mounted/*"}}}}
  searches: {{meter: search, per: key, quota: 10/day}}
"""


@get("/records/{number:str}")
async def record(number: FromPath[str]) -> str:
    return number


@get("/one/{number:int}")
async def one(number: FromPath[int]) -> str:
    return str(number)


@asgi("/mounted", is_mount=True, copy_scope=False)
async def mounted(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def test_limits_see_the_template_that_litestar_has_chosen_and_its_parameters(stage: Any) -> None:
    app = Litestar([record, one], plugins=[gate.HeadgatePlugin(gate=stage.gate(BY_ROUTE))])
    assert stage.statuses(app, "/records/1", "/records/2", "/records/3") == [200, 200, 429]
    assert stage.statuses(app, "/one/1", "/one/2", "/one/1", "/one/2") == [200, 200, 429, 429]


def test_a_mounted_app_is_limited_by_its_whole_path_and_sees_what_it_saw_before(stage: Any) -> None:
    app = Litestar([mounted], plugins=[gate.HeadgatePlugin(gate=stage.gate(BY_ROUTE))])
    answers = stage.ask(app, "/mounted/a/b", "/mounted/c", "/mounted/c")
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].text == "/a/b/"


def test_one_middleware_serves_all_routes_with_one_ledger(stage: Any) -> None:
    inner = Router("/v1", route_handlers=[get("/a", guards=[gate.spends("search", cost=4)])(_plain), mounted])
    outer = get("/a", guards=[gate.spends("search", cost=4)])(_plain)
    app = Litestar([inner, outer], plugins=[gate.HeadgatePlugin(gate=stage.gate(BY_ROUTE))])
    assert stage.statuses(app, "/a", "/v1/a", "/a", "/v1/a") == [200, 200, 429, 429]


async def _plain() -> str:
    return "plain"


def test_what_several_layers_spend_adds_up(stage: Any) -> None:
    layer = Router("/v1", route_handlers=[get("/a", guards=[gate.spends("search", cost=3)])(_plain)],
                   guards=[gate.spends("search", cost=2)])  # fmt: skip
    app = Litestar([layer], plugins=[gate.HeadgatePlugin(gate=stage.gate(BY_ROUTE))])
    assert stage.statuses(app, "/v1/a") == [200]
    assert stage.used(app)["searches"] == 5


def test_what_litestar_has_no_route_for_it_answers_itself(stage: Any) -> None:
    app = Litestar([record], plugins=[gate.HeadgatePlugin(gate=stage.gate(BY_ROUTE))])
    assert stage.statuses(app, "/nowhere", "/headgates", key="") == [404, 404]


def test_pages_of_headgate_are_there_and_no_others_under_its_prefix(stage: Any) -> None:
    app = Litestar([record], plugins=[gate.HeadgatePlugin(gate=stage.gate(BY_ROUTE))])
    assert stage.statuses(app, "/headgate/v1/usage", "/headgate/v1/nothing", "/headgate") == [200, 404, 404]


def test_the_pages_stand_where_the_settings_say_and_its_own_start_and_stop_are_the_apps(stage: Any) -> None:
    stage.gate(BY_ROUTE)  # writes the policy
    (stage.folder / "keys.yaml").write_text("headgate-keys: v1\nkeys: []\n")
    settings = Settings(
        policies=str(stage.folder / "headgate.yaml"),
        store="memory://",
        pepper="only for these tests",
        prefix="/quota",
    )
    app = Litestar([record], plugins=[gate.HeadgatePlugin(settings=settings)])
    with TestClient(app) as client:
        paths = ("/quota/v1/usage", "/headgate/v1/usage", "/records/1")
        assert [client.get(path).status_code for path in paths] == [401, 404, 401]
    off = settings.model_copy(update={"prefix": ""})
    with TestClient(Litestar([record], plugins=[gate.HeadgatePlugin(settings=off)])) as client:
        assert [client.get(path).status_code for path in ("/v1/usage", "/headgate/v1/usage")] == [404, 404]


def test_a_browser_may_read_a_refusal(stage: Any) -> None:
    cors = CORSConfig(allow_origins=["https://page.example"])
    app = Litestar([record], plugins=[gate.HeadgatePlugin(gate=stage.gate(BY_ROUTE))], cors_config=cors)
    refused = stage.ask(app, *["/records/1"] * 3, origin="https://page.example")[-1]
    assert refused.status_code == 429
    assert refused.headers["access-control-allow-origin"] == "https://page.example"


def test_a_websocket_is_charged_before_its_handler_runs(stage: Any) -> None:
    ran: list[str] = []

    @websocket("/ws", guards=[gate.spends("search", cost=5)])
    async def ws(socket: WebSocket) -> None:
        ran.append("ws")
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    with TestClient(Litestar([ws], plugins=[gate.HeadgatePlugin(gate=stage.gate(BY_ROUTE))])) as client:
        for _ in range(2):
            with client.websocket_connect("/ws", headers=KEY) as socket:
                assert socket.receive_text() == "hello"
        with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/ws", headers=KEY):
            pass
    assert caught.value.code == 1008
    assert ran == ["ws", "ws"]


def test_the_document_says_of_every_route_that_it_may_be_refused(stage: Any) -> None:
    own = Components(responses={"Own": OpenAPIResponse(description="Somebody's own.")})
    app = Litestar(
        [record, one],
        plugins=[gate.HeadgatePlugin(gate=stage.gate(BY_ROUTE))],
        openapi_config=OpenAPIConfig("Stage", "1", components=own),
    )
    document = app.openapi_schema.to_schema()
    told = document["paths"]["/records/{number}"]["get"]["responses"]
    assert {"200", "401", "429", "503"} <= set(told)
    shared = document["components"]["responses"]
    assert {"Own", "HeadgateRefused"} <= set(shared)
    assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= set(shared["HeadgateRefused"]["headers"])
    schema = shared["HeadgateRefused"]["content"]["application/problem+json"]["schema"]
    assert {"violated-policies", "clause", "instance"} <= set(schema["properties"])


def test_an_app_without_a_document_has_none(stage: Any) -> None:
    app = Litestar([record], plugins=[gate.HeadgatePlugin(gate=stage.gate(BY_ROUTE))], openapi_config=None)
    assert stage.statuses(app, "/records/1") == [200]
