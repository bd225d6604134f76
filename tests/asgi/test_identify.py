"""From the wire to facts: addresses, paths, methods, and what conditions may ask for."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_network
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from headgate.asgi import HeadgateMiddleware
from headgate.asgi.body import members, peek
from headgate.asgi.identify import intake, method_of, paths_of
from headgate.asgi.preflight import is_preflight
from headgate.asgi.routes import UNROUTED, routed, router_of
from headgate.policy.compiled import Policy
from headgate.quota.facts import Call
from headgate.quota.gcra import Rate
from headgate.quota.identify import Identify, Source
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS, Meter
from headgate.quota.window import Total

REQUESTS = BUILT_IN_METERS["requests"]
OPEN = Identify(anonymous="")


def when(text: str, test: Any) -> dict[str, Any]:
    """A limit's condition, as the policy's compiler would leave it."""
    return {"applies": test, "conditions": ((text, test),)}


# --- addresses


def test_the_charged_address_is_read_once_from_the_last_proxy_that_is_trusted(stage, limits):
    ways = Identify(anonymous="", proxies=(ip_network("10.0.0.0/8"),), proxy_header=b"x-forwarded-for")
    reads = intake(Policy("p", "0", "enforce", ways, ()))
    lines = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"198.51.100.7, 10.0.0.2")]
    assert reads.address(stage.scope(headers=lines, client=("10.0.0.1", 1))) == "198.51.100.7"
    assert reads.address(stage.scope(headers=lines, client=("203.0.113.1", 1))) == "203.0.113.1"


def test_a_proxy_header_of_any_length_fills_no_memory(stage):
    ways = Identify(anonymous="", proxies=(ip_network("10.0.0.0/8"),), proxy_header=b"x-forwarded-for")
    reads = intake(Policy("p", "0", "enforce", ways, ()))
    for at in range(20):
        line = b"1.1.1.1, " * 100 + b"198.51.100.%d" % at
        scope = stage.scope(headers=[(b"x-forwarded-for", line)], client=("10.0.0.1", 1))
        assert reads.address(scope) == f"198.51.100.{at}"
    assert reads.network.cache_info().currsize == 0  # type: ignore[attr-defined]


def test_a_server_that_tells_no_peer_has_one_subject(stage, limits):
    app = stage.app(limits.rpm(2, per=("ip",)), identify=OPEN)
    assert stage.statuses(app, 3, key=None, client=None) == [200, 200, 429]


# --- methods and paths


@pytest.mark.parametrize(("sent", "seen"), [("HEAD", "GET"), ("head", "GET"), ("get", "GET"), ("FOO", "FOO")])
def test_a_method_is_upper_case_and_head_is_a_get(sent, seen):
    assert method_of({"method": sent}) == seen


@pytest.mark.parametrize(
    "path",
    ["/v1/x/../items", "/v1//items", "//v1/items", "/v1/./items", "/v1\\items", "/v1/items/", "/v1/items;x=1",
     "/v1/items/.;a=b", "/v1/x;a/../items", "/v1;x=1/items",
     "/v1/items#top", "/v1/items?x", "/v1/items\0", "http://host/v1/items", "v1/items"],
)  # fmt: skip
def test_every_odd_spelling_is_also_seen_as_the_plain_path(path):
    forms = paths_of({"path": path})
    assert "/v1/items" in forms and path in forms and len(forms) < 10


def test_a_plain_path_has_one_form():
    assert paths_of({"path": "/v1/items.json"}) == ("/v1/items.json",)
    assert paths_of({"path": "/"}) == ("/",)
    assert paths_of({"path": "", "root_path": "/api"})[0] == "/"


def test_a_path_behind_a_prefix_is_seen_with_it_and_without():
    forms = paths_of({"path": "/api/v1/items", "root_path": "/api"})
    assert set(forms) == {"/v1/items", "/api/v1/items"}


def test_only_a_whole_preflight_is_one(stage):
    both = [(b"origin", b"x"), (b"access-control-request-method", b"GET")]
    assert is_preflight(stage.scope(method="OPTIONS", headers=both, key=None), {b"authorization"})
    assert not is_preflight(stage.scope(method="OPTIONS", headers=both), {b"authorization"})
    assert not is_preflight(stage.scope(method="POST", headers=both), set())
    for more in ((b"authorization", b"x"), (b"content-length", b"2"), (b"transfer-encoding", b"chunked")):
        assert not is_preflight(stage.scope(method="OPTIONS", headers=[*both, more]), {b"authorization"})
    assert is_preflight(stage.scope(method="OPTIONS", headers=[*both, (b"content-length", b"0")]), set())
    assert not is_preflight(stage.scope(method="OPTIONS", headers=both[1:]), set())


# --- what conditions ask for


def test_headers_queries_traits_and_claims_are_read_where_the_policy_says(stage):
    seen: dict[str, str] = {}

    def test(call: Call) -> bool:
        for name in (
            "header.x-region",
            "header.x-many",
            "query.q",
            "trait.ja4",
            "query.none",
            "header.none",
            "cookie.x",
        ):
            seen[name] = call.value(name)
        return True

    limit = Limit("rpm", REQUESTS, ("key",), {"": Rate(9, 60_000_000)}, **when("when header.x-region: *", test))
    ways = Identify(traits={"ja4": Source(b"x-ja4")})
    app = stage.app(limit, identify=ways)
    headers = [(b"x-region", b"eu"), (b"x-many", b"a"), (b"x-many", b"b"), (b"x-ja4", b"t13d")]
    stage.ask(app, headers=headers, query_string=b"q=1&q=a%20b&x")
    assert seen == {
        "header.x-region": "eu", "header.x-many": "a, b", "query.q": "a b", "trait.ja4": "t13d",
        "query.none": "", "header.none": "", "cookie.x": "",
    }  # fmt: skip


BIG = when("when body.model: big-*", lambda call: call.value("body.model").startswith("big-"))


def posted(stage: Any, app: Any, *parts: bytes) -> Any:
    return stage.ask(app, "/v1/chat", method="POST", body=parts)


def test_a_body_that_decides_is_looked_at_and_reaches_the_app_whole(stage):
    got: list[bytes] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        got.append(body)
        await stage.origin(scope, receive, send)

    app = stage.app(Limit("big", REQUESTS, ("key",), {"": Total(1)}, **BIG), behind=behind)
    parts = [b'{"model"', b': "bi', b'g-1", "x": [1, ', b"2]}"]
    assert [posted(stage, app, *parts).status for _ in range(2)] == [200, 429]
    assert posted(stage, app, b'{"model": "small"}').status == 200
    assert got == [b"".join(parts), b'{"model": "small"}']


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_of_json_hides_nothing(stage, encoding):
    app = stage.app(Limit("big", REQUESTS, ("key",), {"": Total(1)}, **BIG))
    body = ' \n{"model": "big-1"}'.encode(encoding)
    assert json.loads(body) == {"model": "big-1"}
    assert [posted(stage, app, body).status for _ in range(2)] == [200, 429]


def test_a_body_too_long_to_be_decided_on_is_refused_and_not_guessed(stage):
    app = stage.app(Limit("big", REQUESTS, ("key",), {"": Total(1)}, **BIG))
    padded = b'{"model": "small",' + b" " * 70_000 + b'"model": "big-1"}'
    answer = posted(stage, app, padded[:1_000], padded[1_000:])
    assert answer.status == 413 and "65536" in answer.json["detail"] and not stage.hits


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"big-1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"big-1","x":"\xff"}',
        b'{"model":"big-1",}',
    ],
    ids=["too deep", "no UTF-8", "a comma too many"],
)
def test_an_object_that_another_reader_may_read_hides_nothing(stage, body):
    app = stage.app(Limit("big", REQUESTS, ("key",), {"": Total(1)}, **BIG))
    answers = [posted(stage, app, body[:50_000], body[50_000:100_000]) for _ in range(2)]
    assert {answer.status for answer in answers} <= {400, 413} and not stage.hits


def test_a_body_that_is_packed_hides_nothing_where_it_decides(stage):
    app = stage.app(Limit("big", REQUESTS, ("key",), {"": Total(1)}, **BIG))
    packed = [(b"content-encoding", b"gzip")]
    assert stage.ask(app, method="POST", headers=packed, body=[b"\x1f\x8b..."]).status == 400
    assert stage.ask(app, method="POST", headers=[(b"content-encoding", b"identity")], body=[b"{}"]).status == 200


def test_a_header_that_decides_may_not_come_twice_and_differ(stage):
    limit = Limit(
        "batch", REQUESTS, ("key",), {"": Total(1)},
        **when("when header.x-tier: batch", lambda call: call.value("header.x-tier") == "batch"),
    )  # fmt: skip
    app = stage.app(limit)
    twice = [(b"x-tier", b"batch"), (b"x-tier", b"y")]
    answer = stage.ask(app, headers=twice)
    assert answer.status == 400 and "x-tier" in answer.json["detail"] and not stage.hits
    assert stage.ask(app, headers=[twice[0], twice[0]]).status == 200
    assert stage.ask(app, headers=[(b"x-other", b"a"), (b"x-other", b"b")]).status == 200


def test_a_parameter_that_decides_may_not_come_twice_and_differ(stage):
    app = stage.app(Limit("per", REQUESTS, ("key", "query.model"), {"": Total(1)}))
    assert stage.ask(app, query_string=b"model=a&model=b").status == 400
    assert stage.ask(app, query_string=b"model=a&x=1&x=2").status == 200


def test_a_long_body_that_is_no_json_object_is_not_waited_for(stage):
    taken: list[int] = []

    async def receive() -> dict[str, Any]:
        taken.append(1)
        return {"type": "http.request", "body": b"\x89PNG" + b"x" * 60_000, "more_body": True}

    found = asyncio.run(peek(receive, 65_536))
    assert len(taken) == 1 and found.members == {} and not found.why_not
    assert asyncio.run(found.receive())["body"].startswith(b"\x89PNG") and len(taken) == 1


@pytest.mark.parametrize("part", [b" " * 60_000, b"", b"{" + b" " * 60_000])
def test_a_body_that_never_begins_is_not_waited_for_either(part):
    taken: list[int] = []

    async def receive() -> dict[str, Any]:
        taken.append(1)
        return {"type": "http.request", "body": part, "more_body": True}

    found = asyncio.run(peek(receive, 65_536))
    assert found.why_not == "cut" and len(taken) <= 5_000


def test_a_client_that_leaves_while_its_body_is_looked_at_is_told_to_the_app(stage):
    app = stage.app(Limit("big", REQUESTS, ("key",), {"": Total(1)}, **BIG))
    seen: list[str] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([(await receive())["type"] for _ in range(2)])

    app.app = behind
    told = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return told.pop(0)

    asyncio.run(app(stage.scope(method="POST"), receive, None))
    assert seen == ["http.request", "http.disconnect"]


def test_a_policy_that_asks_nothing_of_the_body_does_not_touch_it(stage, limits):
    async def receive() -> dict[str, Any]:
        raise AssertionError("nobody asked for the body")

    async def send(message: Any) -> None:
        pass

    asyncio.run(stage.app(limits.rpm(3))(stage.scope(method="POST"), receive, send))
    assert len(stage.hits) == 1


def test_a_number_is_read_as_it_was_written():
    assert members(b'{"a": 1e3, "b": 9007199254740993, "c": true, "d": {"e": null}}') == {
        "a": "1e3", "b": "9007199254740993", "c": True, "d": {"e": None},
    }  # fmt: skip
    unread = [members(body) for body in (b"[1]", b"\xff\xfe\xff", b"[" * 100_000)]
    assert unread == [None] * 3
    assert members(b'{"n": ' + b"9" * 10_000 + b"}")["n"] == "9" * 10_000


def test_what_is_held_follows_what_the_request_announces(stage, limits):
    meter = Meter("tokens", "app", reserve=40, reserve_from=("body.max_tokens",), most=100)
    app = stage.app(limits.total("tokens", meter))
    held: list[int] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        held.append(stage.balances(app._entry.gate)["tokens"][1])

    app.app = behind
    bodies = (b'{"max_tokens": 7}', b"{}", b'{"max_tokens": 1000000000000000000}', b'{"max_tokens": -1}',
              b'{"max_tokens": 500}', b'{"max_tokens": 1e3}', b'{"max_tokens": null}', b"x" * 70_000)  # fmt: skip
    for body in bodies:
        posted(stage, app, body)
    assert held == [7, 40, 100, 40, 100, 40, 40, 40]


def test_a_body_is_looked_at_for_the_number_of_answers_alone(stage, limits):
    app = stage.app(limits.total("images", Meter("images", "app", reserve=2, reserve_times=("body.n",))))
    held: list[int] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        held.append(stage.balances(app._entry.gate)["images"][1])

    app.app = behind
    for body in (b'{"n": 4}', b'{"n": [4]}', b'{"n": true}', b"{}"):
        posted(stage, app, body)
    assert held == [8, 2, 2, 2]


# --- routes


def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("page")


def api() -> Starlette:
    inner = [Route("/items/{item:int}", page), Route("/items", page, methods=["POST"])]
    sub = Starlette(routes=[Route("/deep/{name}", page)])
    return Starlette(
        routes=[
            Route("/", page),
            Mount("/v1", routes=inner),
            Mount("/sub/{tenant}", app=sub),
            Mount("/files", app=lambda scope, receive, send: None),
            Host("api.example.com", Router([Route("/hosted", page)])),
            WebSocketRoute("/live", page),
        ]
    )


def fast() -> FastAPI:
    app, router, nested = FastAPI(), APIRouter(prefix="/users"), APIRouter(prefix="/posts")
    app.get("/v1/items/{item}")(lambda item: item)
    router.get("/{user}")(lambda user: user)
    nested.get("/{post}")(lambda user, post: post)
    router.include_router(nested, prefix="/{user}")
    app.include_router(router, prefix="/api")
    return app


@pytest.mark.parametrize(
    ("build", "path", "template", "params"),
    [
        (api, "/", "/", {}),
        (api, "/v1/items/7", "/v1/items/{item:int}", {"item": 7}),
        (api, "/v1/items", "/v1/items", {}),
        (api, "/v1/items/x", UNROUTED, {}),
        (api, "/sub/t1/deep/x", "/sub/{tenant}/deep/{name}", {"tenant": "t1", "name": "x"}),
        (api, "/files/a/b.png", "/files/{path:path}", {}),
        (api, "/nowhere", UNROUTED, {}),
        (fast, "/v1/items/9", "/v1/items/{item}", {"item": "9"}),
        (fast, "/api/users/u1", "/api/users/{user}", {"user": "u1"}),
        (fast, "/api/users/u1/posts/p1", "/api/users/{user}/posts/{post}", {"user": "u1", "post": "p1"}),
        (fast, "/api/nothing", UNROUTED, {}),
    ],
)
def test_the_template_is_told_before_the_app_routes(stage, build, path, template, params):
    app = build()
    scope = stage.scope(path, app=app)
    before = dict(scope)
    found, values = routed(router_of(app), scope)
    assert (found, {name: values[name] for name in params}) == (template, params)
    assert scope == before


def test_a_host_and_a_websocket_have_routes_too(stage):
    app = api()
    assert routed(app, stage.scope("/hosted", headers=[(b"host", b"api.example.com")]))[0] == "/hosted"
    assert routed(app, {**stage.scope("/live"), "type": "websocket"})[0] == "/live"
    assert routed(app, stage.scope("/live"))[0] == UNROUTED


def test_a_route_of_the_apps_own_making_that_fails_tells_nothing(stage):
    class Odd(Route):
        def matches(self, scope: Any) -> Any:
            raise RuntimeError

    assert routed(Starlette(routes=[Odd("/", page)]), stage.scope("/")) == ("", {})


def test_the_router_is_found_behind_other_middleware(stage, limits):
    per_route = Limit("each", REQUESTS, ("key", "route"), {"": Total(2)})
    gate = stage.gate(per_route)
    inside = Starlette(routes=api().routes, middleware=[Middleware(HeadgateMiddleware, gate=gate)])
    assert stage.statuses(inside, 2, "/v1/items/1") + stage.statuses(inside, 1, "/v1/items/2") == [200, 200, 429]
    outside = HeadgateMiddleware(api(), gate=stage.gate(per_route))
    assert stage.statuses(outside, 2, "/v1/items/1") + stage.statuses(outside, 1, "/v1/items/2") == [200, 200, 429]


def test_paths_that_no_route_matches_share_one_subject(stage):
    app = HeadgateMiddleware(api(), gate=stage.gate(Limit("each", REQUESTS, ("key", "route"), {"": Total(2)})))
    assert [stage.ask(app, f"/random/{n}").status for n in range(4)] == [404, 404, 429, 429]


def test_a_limit_on_a_template_is_met_however_the_route_was_found(stage):
    class AnyCase(Route):
        def matches(self, scope: Any) -> Any:
            return super().matches({**scope, "path": scope["path"].lower()})

    test = when("when route: /v1/items", lambda call: call.route == "/v1/items")
    limit = Limit("items", REQUESTS, ("key",), {"": Total(1)}, **test)
    app = HeadgateMiddleware(Starlette(routes=[AnyCase("/v1/items", page)]), gate=stage.gate(limit))
    assert stage.statuses(app, 1, "/V1/ITEMS") + stage.statuses(app, 1, "/v1/items") == [200, 429]
