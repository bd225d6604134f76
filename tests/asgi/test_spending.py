"""What an endpoint asks for before it uses it: granted, or the refusal in the place of its answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute

from asgi.upstream import SSE, START, Client, held, rested, slowly, total
from headgate import Denied
from headgate.asgi import HeadgateMiddleware, charge, spend
from headgate.errors import IdentityError
from headgate.quota.meter import MILLION, Meter, Sum

SEARCH = Meter("search", "app")


def spending(*amounts: int, after: Any = None) -> Any:
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        for amount in amounts:
            await spend(scope, search=amount)
        await (after or _fine)(scope, receive, send)

    return behind


async def _fine(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("found")(scope, receive, send)


def test_what_is_spent_counts_and_what_is_refused_is_a_429_that_has_spent_nothing(stage):
    app = stage.app(total(SEARCH, 12), behind=spending(5))
    answers = [stage.ask(app) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert held(stage, app) == {"search": (10, 0)}
    assert answers[2].json["violated-policies"] == ["search"]
    assert "at most 12" in answers[2].json["detail"] or "2 search" in answers[2].json["detail"]


def test_several_spendings_of_one_request_add_up(stage):
    app = stage.app(total(SEARCH, 12), behind=spending(5, 5, 5))
    assert stage.ask(app).status == 429
    assert held(stage, app) == {"search": (10, 0)}


def test_what_a_request_holds_already_is_spent_first(stage):
    app = stage.app(total(replace(SEARCH, reserve=10), 12), behind=spending(11))
    assert stage.ask(app).status == 200
    assert held(stage, app) == {"search": (11, 0)}


def test_a_sum_refuses_what_its_part_would_cost(stage):
    cost = Meter("cost", "sum", sum=Sum({"search": 3 * MILLION}), parts=(SEARCH,))
    app = stage.app(total(SEARCH, 1_000), total(cost, 20), behind=spending(5))
    assert [stage.ask(app).status for _ in range(2)] == [200, 429]
    assert held(stage, app) == {"search": (5, 0), "cost": (15, 0)}


def test_two_spendings_at_once_have_all_that_fits(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.gather(*[spend(scope, search=amount) for amount in (5, 5)])
        await _fine(scope, receive, send)

    gate = stage.gate(total(SEARCH, 10))
    slowly(gate)
    assert stage.ask(HeadgateMiddleware(behind, gate=gate)).status == 200
    assert stage.balances(gate) == {"search": (10, 0)}


@pytest.mark.parametrize("overrun", ["cut", "finish"])
def test_what_is_asked_for_while_a_stream_goes_on_counts_when_it_is_granted_and_not_before(stage, overrun):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        async def streams() -> None:
            for _ in range(20):
                await send({"type": "http.response.body", "body": b"data: found\n\n", "more_body": True})
                await asyncio.sleep(0)

        async def spends() -> None:
            await spend(scope, search=5)
            with pytest.raises(Denied):
                await spend(scope, search=100)

        await send({**START, "headers": SSE})
        await asyncio.gather(streams(), spends())
        await send({"type": "http.response.body", "body": b""})

    gate = stage.gate(total(replace(SEARCH, overrun=overrun), 20))
    slowly(gate)
    answer = stage.ask(HeadgateMiddleware(behind, gate=gate))
    assert answer.body == b"data: found\n\n" * 20
    assert stage.balances(gate) == {"search": (5, 0)}


def test_two_requests_cannot_spend_the_same(stage):
    app = stage.app(total(SEARCH, 8), behind=spending(5))

    async def both() -> list[int]:
        return sorted([answer.status for answer in await asyncio.gather(stage.asked(app), stage.asked(app))])

    assert asyncio.run(both()) == [200, 429]
    assert held(stage, app) == {"search": (5, 0)}


def test_an_app_that_has_an_answer_of_its_own_is_believed(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        try:
            await spend(scope, search=50)
        except Denied as denied:
            text = denied.decision.refusals[0].limit
            await PlainTextResponse(text, status_code=402)(scope, receive, send)

    answer = stage.ask(stage.app(total(SEARCH, 8), behind=behind))
    assert (answer.status, answer.body) == (402, b"search")


class Outer(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("outer", [[], [Middleware(Outer)]])
def test_what_a_framework_makes_of_it_gives_way_to_the_refusal(stage, debug, inside, outer):
    """Inside Starlette's own handler of faults, and around it: that one has made a 500 of it, which never leaves."""

    async def endpoint(request: Any) -> JSONResponse:
        await spend(request, search=50)
        return JSONResponse({})

    gate = stage.gate(total(SEARCH, 8))
    ours = Middleware(HeadgateMiddleware, gate=gate)
    app: Any = Starlette(routes=[Route("/", endpoint)], middleware=[*outer, *([ours] if inside else [])], debug=debug)
    if not inside:
        app = HeadgateMiddleware(app, gate=gate)
    answer = stage.ask(app)
    assert answer.status == 429 and answer.json["instance"]
    assert [m["status"] for m in answer.messages if m["type"] == "http.response.start"] == [429]
    assert stage.balances(gate) == {"search": (0, 0)}


def test_an_apps_own_answer_to_something_else_is_left_as_it_is(stage):
    async def endpoint(request: Any) -> JSONResponse:
        await spend(request, search=5)
        raise HTTPException(503, "own")

    app = Starlette(
        routes=[Route("/", endpoint)], middleware=[Middleware(HeadgateMiddleware, gate=stage.gate(total(SEARCH)))]
    )
    assert stage.ask(app).body == b"own"


def test_a_meter_that_no_limit_counts_is_told_and_nothing_is_spent(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(IdentityError, match="did you mean `search`"):
            await spend(scope, search=1, serch=2)
        with pytest.raises(ValueError):
            await spend(scope, search=-1)
        await _fine(scope, receive, send)

    app = stage.app(total(SEARCH), behind=behind)
    assert stage.ask(app).status == 200
    assert held(stage, app) == {"search": (0, 0)}


def test_without_a_headgate_and_without_such_a_limit_nothing_is_asked(stage, limits):
    asyncio.run(spend(stage.scope(), search=5))
    app = stage.app(limits.rpm(3), behind=spending(5), meters={"search": SEARCH})
    assert stage.ask(app).status == 200


def test_in_a_stream_that_has_begun_it_ends_the_stream(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": SSE if scope["path"] == "/events" else []})
        for _ in range(5):
            await spend(scope, search=2)
            await send({"type": "http.response.body", "body": b"data: found\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def story(path: str) -> tuple[Client, BaseException | None]:
        client, fault = Client(), None
        try:
            await app(stage.scope(path), client.receive, client.send)
        except Exception as raised:
            fault = raised
        await rested()
        return client, fault

    app = stage.app(total(SEARCH, 4), behind=behind)
    client, fault = asyncio.run(story("/events"))
    assert fault is None and client.whole == 1
    assert client.text.startswith(b"data: found\n\n" * 2 + b"event: error\n")
    app = stage.app(total(SEARCH, 4), behind=behind)
    client, fault = asyncio.run(story("/plain"))
    assert isinstance(fault, Denied) and client.whole == 0 and client.text == b"data: found\n\n" * 2


def test_what_was_charged_before_it_was_refused_stays_charged(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        charge(scope, search=3)
        await spend(scope, search=50)

    app = stage.app(total(SEARCH, 8), behind=behind)
    assert stage.ask(app).status == 429
    assert held(stage, app) == {"search": (3, 0)}


@pytest.mark.parametrize(
    ("closes", "code"), [({"code": 1000}, 1008), ({"code": 4500}, 1008), ({}, 1008), ({"code": 4001}, 4001)]
)
def test_a_websocket_that_a_framework_closes_after_a_refusal_does_not_look_well(stage, closes, code):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with suppress(Denied):
            await spend(scope, search=50)
        await send({"type": "websocket.close", **closes})

    messages = asyncio.run(_socket(stage, stage.app(total(SEARCH, 8), behind=behind), {}))
    assert [message.get("code") for message in messages] == [None, code]


@pytest.mark.parametrize("accepts", [False, True])
@pytest.mark.parametrize("extended", [False, True])
def test_a_websocket_is_refused_before_it_is_accepted_and_closed_after(stage, accepts, extended):
    async def endpoint(socket: Any) -> None:
        if accepts:
            await socket.accept()
        await spend(socket, search=50)

    app = Starlette(
        routes=[WebSocketRoute("/", endpoint)],
        middleware=[Middleware(HeadgateMiddleware, gate=stage.gate(total(SEARCH, 8)))],
    )
    extensions = {"websocket.http.response": {}} if extended else {}
    messages = asyncio.run(_socket(stage, app, extensions))
    kinds = [message["type"] for message in messages]
    if accepts:
        assert kinds == ["websocket.accept", "websocket.close"] and messages[-1]["code"] == 1008
    elif extended:
        assert kinds == ["websocket.http.response.start", "websocket.http.response.body"]
        assert messages[0]["status"] == 429
    else:
        assert kinds == ["websocket.close"] and messages[0]["code"] == 1008


async def _socket(stage: Any, app: Any, extensions: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(stage.scope(type="websocket", extensions=extensions), receive, send)
    return sent
