"""The way of a request through the middleware."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from headgate.asgi import HeadgateMiddleware
from headgate.asgi.ratelimit_headers import RateLimitHeaders
from headgate.errors import IdentityError, PolicyError
from headgate.gate import Gate
from headgate.quota.identify import Identify, Source
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS, Meter
from headgate.quota.window import Total


def test_what_is_within_the_limit_is_served_and_what_is_beyond_it_never_reaches_the_app(stage, limits):
    app = stage.app(limits.rpm(3))
    assert stage.statuses(app, 5) == [200, 200, 200, 429, 429]
    assert len(stage.hits) == 3


def test_time_opens_the_limit_again(stage, limits):
    app = stage.app(limits.rpm(3))
    stage.statuses(app, 4)
    stage.clock.advance(20)
    assert stage.statuses(app, 2) == [200, 429]


def test_the_decision_is_on_the_requests_state(stage, limits):
    app = stage.app(limits.rpm(3))
    stage.ask(app)
    decision = stage.hits[0]["state"]["headgate"]
    assert decision.allowed and decision.principal.key == "k_alice"


def test_a_server_that_keeps_no_state_is_served_too(stage, limits):
    app = stage.app(limits.rpm(3))
    scope = stage.scope()
    del scope["state"]
    asyncio.run(app(scope, None, _nothing))
    assert scope["state"]["headgate"].allowed


async def _nothing(message: Any) -> None:
    pass


def test_no_key_and_an_unknown_key_are_refused_alike_byte_for_byte(stage, limits):
    app = stage.app(limits.rpm(3))
    answers = [stage.ask(app, key=key).messages for key in (None, "mallory")]
    assert answers[0] == answers[1]
    assert answers[0][0]["status"] == 401
    assert dict(answers[0][0]["headers"])[b"www-authenticate"] == b'Bearer realm="stage"'
    assert not stage.hits


def test_two_different_credentials_are_a_bad_request_and_the_same_one_twice_is_not(stage, limits):
    ways = Identify(key=(Source(b"authorization", True), Source(b"x-api-key")))
    app = stage.app(limits.rpm(3), identify=ways)
    assert stage.ask(app, headers=[(b"x-api-key", b"bob")]).status == 400
    assert stage.ask(app, headers=[(b"x-api-key", b"alice")]).status == 200


def test_a_disabled_policy_passes_everything_untouched(stage, limits):
    app = stage.app(limits.rpm(1), mode="disabled")
    answers = [stage.ask(app, key=None) for _ in range(3)]
    assert {answer.status for answer in answers} == {200}
    assert answers[0].headers == {"content-length": "5"}
    assert "headgate" not in stage.hits[0]["state"]


def test_a_preflight_is_free_and_another_options_request_is_not(stage, limits):
    app = stage.app(limits.rpm(1))
    asks = [(b"origin", b"https://a.example"), (b"access-control-request-method", b"POST")]
    assert stage.statuses(app, 3, method="OPTIONS", key=None, headers=asks) == [200, 200, 200]
    assert stage.statuses(app, 2, method="OPTIONS", headers=asks[:1]) == [200, 429]


def test_other_kinds_of_scope_pass(stage, limits):
    seen = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    app = stage.app(limits.rpm(0 + 1), behind=behind)
    asyncio.run(app({"type": "webtransport"}, None, None))
    assert seen == ["webtransport"]


def test_messages_that_headgate_does_not_know_pass_untouched_and_in_order(stage, limits):
    hint = {"type": "http.response.early_hint", "links": [b"</a>"]}
    debug = {"type": "http.response.debug", "info": {"template": 1}}
    trailers = {"type": "http.response.trailers", "headers": [], "more_trailers": False}

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        for message in (debug, hint, {"type": "http.response.start", "status": 200, "headers": [], "trailers": True}):
            await send(message)
        await send({"type": "http.response.body", "body": b"x"})
        await send(trailers)

    messages = stage.ask(stage.app(limits.rpm(3), behind=behind)).messages
    assert [m["type"].rpartition(".")[2] for m in messages] == ["debug", "early_hint", "start", "body", "trailers"]
    assert messages[0] == debug and messages[1] == hint and messages[4] == trailers


def test_the_apps_own_list_of_headers_is_not_touched(stage, limits):
    own = [(b"x-own", b"1")]

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": own})
        await send({"type": "http.response.body"})

    app = stage.app(limits.rpm(3), behind=behind)
    assert [len(stage.ask(app).headers) for _ in range(2)] == [3, 3]
    assert own == [(b"x-own", b"1")]


def test_each_part_of_a_response_leaves_as_soon_as_the_app_sends_it(stage, limits, rows):
    passed: list[int] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for at in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": at < 2})
            passed.append(len(seen))

    seen: list[Any] = []

    async def send(message: Any) -> None:
        seen.append(message)

    app = stage.app(limits.total("rows", rows), behind=behind)
    asyncio.run(app(stage.scope(), _empty, send))
    assert passed == [2, 3, 4]


async def _empty() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def test_what_the_app_raises_passes_through_and_was_charged(stage, limits):
    class Own(Exception):
        pass

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        raise Own

    app = stage.app(limits.rpm(2), behind=behind)
    for _ in range(2):
        with pytest.raises(Own):
            stage.ask(app)
    assert stage.ask(app).status == 429


# --- among frameworks


def api(stage: Any, *middleware: Middleware, mount: str = "") -> Starlette:
    async def items(request: Request) -> JSONResponse:
        stage.hits.append(request.scope)
        return JSONResponse({"key": request.state.headgate.principal.key, "pad": "x" * 2_000})

    routes = [Route("/v1/items", items)]
    return Starlette(routes=[Mount(mount, routes=routes)] if mount else routes, middleware=list(middleware))


def test_it_works_under_an_outer_base_http_middleware(stage, limits):
    class Outer(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            response = await call_next(request)
            response.headers["x-outer"] = request.state.headgate.principal.key
            return response

    app = api(
        stage, Middleware(Outer), Middleware(HeadgateMiddleware, gate=stage.gate(limits.rpm(1), limits.slots()))
    )
    served = stage.ask(app, "/v1/items")
    assert served.status == 200 and served.headers["x-outer"] == "k_alice"


def test_it_works_under_gzip_and_above_it(stage, limits):
    ask = [(b"accept-encoding", b"gzip")]
    gate = Middleware(HeadgateMiddleware, gate=stage.gate(limits.rpm(9)))
    for order in ((Middleware(GZipMiddleware), gate), (gate, Middleware(GZipMiddleware))):
        served = stage.ask(api(stage, *order), "/v1/items", headers=ask)
        assert served.headers["content-encoding"] == "gzip" and "ratelimit" in served.headers


def test_under_cors_a_browser_may_read_the_refusal(stage, limits):
    cors = Middleware(CORSMiddleware, allow_origins=["https://a.example"])
    app = api(stage, cors, Middleware(HeadgateMiddleware, gate=stage.gate(limits.rpm(1))))
    ask = [(b"origin", b"https://a.example")]
    answers = [stage.ask(app, "/v1/items", headers=ask) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    assert answers[1].headers["access-control-allow-origin"] == "https://a.example"


def test_one_gate_that_stands_twice_before_an_app_charges_once(stage, limits):
    gate = stage.gate(limits.rpm(2))
    app = HeadgateMiddleware(HeadgateMiddleware(stage.origin, gate=gate), gate=gate)
    assert stage.statuses(app, 3) == [200, 200, 429]


def test_it_works_inside_a_mount_where_no_lifespan_comes(stage, limits):
    gate = stage.gate(limits.rpm(1))
    inner = HeadgateMiddleware(stage.origin, gate=gate)
    app = Starlette(routes=[Mount("/api", inner), Route("/", lambda request: PlainTextResponse("free"))])
    assert stage.statuses(app, 2, "/api/v1/items") == [200, 429]
    assert stage.statuses(app, 2, "/") == [200, 200]


# --- faults of headgate's own


class Broken(Exception):
    pass


def test_a_directory_that_raises_is_a_503_and_an_event_without_the_secret(stage, limits, caplog):
    gate = stage.gate(limits.rpm(3))

    def known(secret: bytes) -> None:
        raise Broken(f"could not find {secret!r}")

    gate.directory.known = known
    answer = stage.ask(HeadgateMiddleware(stage.origin, gate=gate), key="alice-the-canary")
    assert answer.status == 503 and answer.json["type"].endswith("#temporary-reduced-capacity")
    assert int(answer.headers["retry-after"]) >= 1 and answer.headers["cache-control"] == "no-store"
    assert b"canary" not in answer.body and b"Traceback" not in answer.body
    assert "headgate.fault" in caplog.text and "Broken" in caplog.text and "canary" not in caplog.text
    assert not stage.hits


@pytest.mark.parametrize("where", ["transact", "condition", "clock"])
def test_no_fault_inside_opens_the_door(stage, limits, where):
    def broken(*_: object) -> bool:
        raise Broken

    gate = stage.gate(limits.rpm(3, applies=broken if where == "condition" else None))
    if where == "transact":
        gate.store.transact = broken
    if where == "clock":
        gate.clock = broken
    assert stage.ask(HeadgateMiddleware(stage.origin, gate=gate)).status == 503
    assert not stage.hits


def test_a_fault_while_headers_are_written_does_not_spoil_the_answer(stage, limits, caplog, monkeypatch):
    monkeypatch.setattr(RateLimitHeaders, "fields", None)
    answer = stage.ask(stage.app(limits.rpm(3)))
    assert answer.status == 200 and answer.body == b"hello" and "headgate.fault" in caplog.text


def test_a_fault_while_settling_is_an_event(stage, limits, rows, caplog, monkeypatch):
    async def settle(*_: object) -> None:
        raise Broken

    monkeypatch.setattr(Gate, "settle", settle)
    assert stage.ask(stage.app(limits.total("rows", rows))).status == 200
    assert "headgate.fault" in caplog.text


def test_a_request_is_decided_by_one_whole_policy_also_when_another_is_taken_meanwhile(stage, limits):
    """The old policy asks nothing of the body, the new one counts by it; the directory waits while it is taken."""
    big = Limit("big", BUILT_IN_METERS["requests"], ("key", "body.model"), {"": Total(1)})
    gate = stage.gate(limits.rpm(9))
    taken = stage.gate(big).policy
    known = gate.directory.known

    async def find(secret: bytes) -> Any:
        gate.policy = taken
        return known(secret)

    gate.directory.known, gate.directory.find = (lambda secret: None), find
    app = HeadgateMiddleware(stage.origin, gate=gate)
    body = [b'{"model": "big-1"}']
    assert stage.statuses(app, 2, method="POST", body=body) == [200, 429]
    assert set(stage.balances(gate)) == {"big"}


# --- starting and stopping


class FakeService:
    """A service that notes what is done with it."""

    log: ClassVar[list[str]] = []
    fault: ClassVar[Exception | None] = None
    gate: ClassVar[Gate]

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.log.append("made")

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        self.log.append("started")

    async def stop(self) -> None:
        self.log.append("stopped")


@pytest.fixture
def service(stage, limits, monkeypatch):
    import headgate.service

    class Settings:
        prefix, peek_bytes = "/headgate", 65_536

    FakeService.log, FakeService.fault = [], None
    FakeService.gate = stage.gate(limits.rpm(2))
    monkeypatch.setattr(headgate.service, "Service", FakeService)
    return HeadgateMiddleware(stage.origin, settings=Settings()), FakeService


async def lifespan(app: Any, *, until: str = "lifespan.shutdown", middle: Any = None) -> list[str]:
    said: list[str] = []
    told = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> dict[str, Any]:
        if len(told) == 1 and middle is not None:
            await middle()
        return told.pop(0)

    async def send(message: dict[str, Any]) -> None:
        said.append(message["type"] + (": " + message["message"] if message.get("message") else ""))

    await app({"type": "lifespan", "state": {}}, receive, send)
    return said


def test_making_the_middleware_opens_nothing(service):
    assert service[1].log == []


def test_the_service_starts_before_the_app_and_stops_after_it(stage, service):
    app, fake = service

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        fake.log.append("app started")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        fake.log.append("app stopped")
        await send({"type": "lifespan.shutdown.complete"})

    app.app = behind
    assert asyncio.run(lifespan(app)) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert fake.log == ["made", "started", "app started", "app stopped", "stopped"]


def test_an_app_without_a_lifespan_is_given_one(service):
    app, fake = service
    assert asyncio.run(lifespan(app)) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert fake.log == ["made", "started", "stopped"]


def test_a_policy_that_cannot_be_used_stops_the_start_with_its_report(service):
    app, fake = service
    fake.fault = PolicyError("headgate.yaml:3:1: HG204 …")
    assert asyncio.run(lifespan(app)) == ["lifespan.startup.failed: headgate.yaml:3:1: HG204 …"]


def test_an_app_that_fails_to_start_is_the_servers_to_see_and_the_service_stops(service):
    app, fake = service

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "own"})
        raise RuntimeError("own")

    app.app = behind
    with pytest.raises(RuntimeError):
        asyncio.run(lifespan(app))
    assert fake.log == ["made", "started", "stopped"]


def test_without_a_lifespan_the_first_requests_wait_for_one_start(stage, service):
    app, fake = service

    async def both() -> list[int]:
        answers = await asyncio.gather(*[stage.asked(app) for _ in range(3)])
        return [answer.status for answer in answers]

    assert asyncio.run(both()) == [200, 200, 429]
    assert fake.log == ["made", "started"]


def test_a_start_that_fails_at_a_request_is_a_503_and_is_not_tried_at_each(stage, service, monkeypatch):
    app, fake = service
    fake.fault = IdentityError("no pepper")
    now = [0.0]
    monkeypatch.setattr("headgate.asgi.middleware.time.monotonic", lambda: now[0])

    async def some() -> list[int]:
        found = [(await stage.asked(app)).status for _ in range(3)]
        now[0] += 1.5
        fake.fault = None
        return [*found, (await stage.asked(app)).status]

    assert asyncio.run(some()) == [503, 503, 503, 200]
    assert fake.log == ["made", "made", "started"]


def test_what_one_event_loop_began_goes_on_on_the_next(stage, service):
    app, fake = service
    assert [stage.ask(app).status for _ in range(4)] == [200, 200, 429, 429]
    assert fake.log == ["made", *["started"] * 4]
    assert len(app._starts) == 1


def test_a_preflight_hands_nothing_out_and_nothing_over(stage, limits):
    app = stage.app(limits.rpm(1))
    got: list[dict[str, Any]] = []

    async def answers_all(scope: Any, receive: Any, send: Any) -> None:
        got.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": b"sec", "more_body": True})
        await send({"type": "http.response.body", "body": b"ret"})

    app.app = answers_all
    asks = [(b"origin", b"https://a.example"), (b"access-control-request-method", b"POST")]
    answer = stage.ask(app, method="OPTIONS", key=None, headers=asks, body=[b"smuggled"])
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == "0"
    assert got == [{"type": "http.request", "body": b"", "more_body": False}]


def test_at_the_end_what_is_still_under_way_is_settled(stage, limits, rows):
    gate = stage.gate(limits.total("rows", rows))
    wait = asyncio.Event()

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise AssertionError
        await wait.wait()

    app = HeadgateMiddleware(behind, gate=gate)

    async def story() -> dict[str, tuple[int, int]]:
        request = asyncio.create_task(stage.asked(app))
        await asyncio.sleep(0)
        assert stage.balances(gate) == {"rows": (0, 10)}
        await lifespan(app)
        found = stage.balances(gate)
        wait.set()
        await request
        return found

    assert asyncio.run(story()) == {"rows": (0, 0)}


def test_a_meter_that_is_not_known_before_is_charged_by_what_the_app_says(stage, limits):
    meter = Meter("compute", "header.x-query-cost", reserve=10, most=50)

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        told = [(b"x-query-cost", scope["path"][1:].encode())] if scope["path"] != "/" else []
        await send({"type": "http.response.start", "status": 200, "headers": told})
        await send({"type": "http.response.body"})

    app = stage.app(limits.total("compute", meter), behind=behind)
    for path, used in (("/7", 7), ("/99", 57), ("/", 67), ("/-3", 77), ("/1e3", 87)):
        stage.ask(app, path)
        assert stage.balances(app._entry.gate) == {"compute": (used, 0)}, path
