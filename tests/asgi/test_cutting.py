"""What happens to a response that reaches its limit in the middle."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route

from asgi.conftest import Stage
from asgi.upstream import (
    CREDITS,
    CUT,
    JSON,
    OUTPUT,
    START,
    Client,
    Stream,
    event,
    held,
    last,
    rested,
    slowly,
    token,
    total,
)  # fmt: skip
from headgate.asgi import HeadgateMiddleware, charge
from headgate.asgi.metering.cutting import CutOff, caused, rest_of_event
from headgate.errors import Denied
from headgate.quota.meter import BUILT_IN_METERS, Meter

BYTES = replace(BUILT_IN_METERS["bytes_out"], overrun="cut")


def run(stage: Any, app: Any, client: Client, **scope: Any) -> BaseException | None:
    """One request, whole; what came out of the app at the server's side."""

    async def story() -> BaseException | None:
        try:
            await app(stage.scope(method="POST", **scope), client.receive, client.send)
        except Exception as fault:
            return fault
        finally:
            await rested()
        return None

    return asyncio.run(story())


@pytest.mark.parametrize("granted", [1, 2, 7, 10, 11, 12, 13, 24, 39])
def test_a_stream_ends_with_the_dialects_event_where_its_limit_is(stage, granted):
    behind, client = Stream(40), Client()
    app = stage.app(total(replace(CUT, reserve=min(10, granted)), granted), behind=behind)
    assert run(stage, app, client) is None
    assert client.tokens == granted
    assert client.parts[-1].startswith(b"event: error") and client.whole == 1
    assert client.messages[-1]["more_body"] is False
    assert held(stage, app) == {"output_tokens": (client.tokens, 0)}


def test_the_app_is_told_once_as_a_client_that_went_away_and_whatever_else_it_sends_is_dropped(stage):
    told: list[OSError] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-type", b"text/event-stream")]})
        for _ in range(100):
            try:
                await send({"type": "http.response.body", "body": b"data: 12345678\n\n", "more_body": True})
            except OSError as fault:
                told.append(fault)
        assert await receive() == {"type": "http.disconnect"}
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    client = Client()
    app = stage.app(total(BYTES, 160), behind=behind)
    assert run(stage, app, client) is None
    assert len(told) == 1 and isinstance(told[0], Denied)
    assert client.text.count(b"12345678") == 10 and client.whole == 1
    assert client.parts[-1].startswith(b"event: error")
    assert held(stage, app) == {"bytes_out": (160, 0)}


def test_a_limit_that_may_finish_lets_the_stream_end_and_the_next_request_pays(stage):
    behind, client = Stream(40), Client()
    app = stage.app(total(OUTPUT, 12), behind=behind)
    assert run(stage, app, client) is None
    assert client.tokens == 40 and client.text.endswith(b"[DONE]\n\n")
    assert held(stage, app) == {"output_tokens": (40, 0)}
    assert stage.ask(app).status == 429


def test_a_stream_that_uses_just_what_there_is_is_whole(stage):
    behind, client = Stream(20), Client()
    app = stage.app(total(replace(CUT, reserve=4), 20), behind=behind)
    assert run(stage, app, client) is None
    assert client.tokens == 20 and client.text.endswith(b"[DONE]\n\n")
    assert held(stage, app) == {"output_tokens": (20, 0)}


def test_a_report_at_the_end_that_is_more_than_was_estimated_is_a_debt_and_cuts_nothing(stage):
    class More(Stream):
        def parts(self) -> Any:
            yield from [token()] * 20
            yield last(7, 31)
            yield event("[DONE]")

    client = Client()
    app = stage.app(total(replace(CUT, reserve=4), 20), behind=More())
    assert run(stage, app, client) is None
    assert client.text.endswith(b"[DONE]\n\n")
    assert held(stage, app) == {"output_tokens": (31, 0)}


@pytest.mark.parametrize("granted", [10, 12, 20, 35])
def test_a_sum_of_which_a_part_cuts_is_cut(stage, granted):
    behind, client = Stream(40), Client()
    credits = replace(CREDITS, overrun="cut")
    app = stage.app(total(credits, granted * 5), behind=behind)
    assert run(stage, app, client) is None
    assert client.tokens == granted
    assert held(stage, app) == {"credits": (client.tokens * 5, 0)}


def test_any_other_body_is_broken_off_and_never_ended_as_if_it_were_whole(stage):
    behind, client = Stream(40, headers=JSON), Client()
    app = stage.app(total(BYTES, 1_000), behind=behind)
    fault = run(stage, app, client)
    assert isinstance(fault, CutOff) and fault.decision.refusals[0].limit == "bytes_out"
    assert client.whole == 0 and 900 < len(client.text) <= 1_000
    assert held(stage, app) == {"bytes_out": (len(client.text), 0)}


def test_a_body_is_broken_off_also_if_the_app_thinks_that_all_is_well(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for _ in range(10):
            with suppress(OSError):
                await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    client = Client()
    assert isinstance(run(stage, stage.app(total(BYTES, 50), behind=behind), client), CutOff)
    assert client.text == b"x" * 50 and client.whole == 0


class Outer(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


WRAPS = {
    "nothing": [],
    "base": [Middleware(Outer)],
    "gzip": [Middleware(GZipMiddleware, minimum_size=1)],
    "cors": [Middleware(CORSMiddleware, allow_origins=["*"])],
    "base over gzip": [Middleware(Outer), Middleware(GZipMiddleware)],
    "gzip over base": [Middleware(GZipMiddleware), Middleware(Outer)],
    "base twice": [Middleware(Outer), Middleware(Outer)],
    "all": [Middleware(CORSMiddleware, allow_origins=["*"]), Middleware(Outer), Middleware(GZipMiddleware)],
}  # fmt: skip


def wrapped(gate: Any, outer: list[Middleware], media: str, parts: int = 40) -> Starlette:
    async def endpoint(request: Any) -> StreamingResponse:
        async def body() -> Any:
            for _ in range(parts):
                yield b"data: 12345678\n\n"
                await asyncio.sleep(0)

        return StreamingResponse(body(), media_type=media)

    routes = [Route("/", endpoint, methods=["GET", "POST"])]
    return Starlette(routes=routes, middleware=[*outer, Middleware(HeadgateMiddleware, gate=gate)])


@pytest.mark.parametrize("outer", WRAPS)
@pytest.mark.parametrize("version", ["2.3", "2.4"])
@pytest.mark.parametrize("packed", [False, True])
def test_whatever_wraps_us_a_plain_body_that_was_cut_does_not_end_well(stage, outer, version, packed):
    gate, client = stage.gate(total(BYTES, 160)), Client()
    ask = [(b"accept-encoding", b"gzip")] if packed else []
    asgi = {"version": "3.0", "spec_version": version}
    assert run(stage, wrapped(gate, WRAPS[outer], "text/plain"), client, asgi=asgi, headers=ask) is not None
    assert client.whole == 0 and client.text
    assert stage.balances(gate) == {"bytes_out": (160, 0)}


@pytest.mark.parametrize("outer", WRAPS)
@pytest.mark.parametrize("version", ["2.3", "2.4"])
def test_whatever_wraps_us_a_stream_that_was_cut_ends_once_and_without_a_fault(stage, outer, version):
    gate, client = stage.gate(total(BYTES, 160)), Client()
    app = wrapped(gate, WRAPS[outer], "text/event-stream")
    fault = run(stage, app, client, asgi={"version": "3.0", "spec_version": version})
    assert fault is None
    assert client.whole == 1 and client.text.count(b"12345678") == 10 and b"event: error" in client.text
    assert stage.balances(gate) == {"bytes_out": (160, 0)}


def test_an_event_that_was_begun_is_sent_to_its_end(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-type", b"text/event-stream")]})
        for part in (b"data: 1", b"23\r\n", b"\r\nda", b"ta: 4", b"56\n\nda", b"ta: 7\n\n", b"data: 8\n\n"):
            await send({"type": "http.response.body", "body": part, "more_body": True})

    texts = {}
    for granted in (7, 11, 15, 20, 26, 33):
        client = Client()
        assert run(stage, stage.app(total(replace(BYTES, reserve=granted), granted), behind=behind), client) is None
        texts[granted] = client.text.partition(b"event: error")[0]
    assert texts[7] == texts[11] == b"data: 123\r\n\r\n"
    assert texts[15] == texts[20] == b"data: 123\r\n\r\ndata: 456\n\n"
    assert texts[26] == texts[33] == b"data: 123\r\n\r\ndata: 456\n\ndata: 7\n\n"


def test_the_first_part_is_never_kept_waiting_for_the_store(stage):
    gate = stage.gate(total(BYTES, 1_000))
    transact, answers = gate.store.transact, asyncio.Event()

    async def slow(commands: Any, now: Any = None) -> Any:
        asked.append(commands)
        if len(asked) > 1:
            await answers.wait()
        return await transact(commands, now)

    async def story() -> None:
        gate.store.transact = slow
        task = asyncio.create_task(app(stage.scope(), client.receive, client.send))
        await rested()
        seen.append(len(client.parts))
        answers.set()
        await task
        await rested()

    asked: list[Any] = []
    seen: list[int] = []
    client = Client()
    app = HeadgateMiddleware(Stream(5), gate=gate)
    asyncio.run(story())
    assert seen == [1] and client.whole == 1
    assert stage.balances(gate)["bytes_out"] == (len(client.text), 0)


def test_a_store_that_is_not_heard_cuts_nobody_off(stage):
    from headgate.errors import StoreError

    gate = stage.gate(total(replace(CUT, reserve=5), 100))
    transact = gate.store.transact

    async def away(commands: Any, now: Any = None) -> Any:
        if type(commands[0]).__name__ == "Extend":
            raise StoreError("away", transient=True, unknown=True)
        return await transact(commands, now)

    gate.store.transact = away
    client = Client()
    app = HeadgateMiddleware(Stream(40), gate=gate)
    assert run(stage, app, client) is None
    assert client.tokens == 40 and b"event: error" not in client.text
    assert stage.balances(gate) == {"output_tokens": (40, 0)}


@given(parts=st.lists(st.integers(1, 300), min_size=2, max_size=120), loses=st.integers(1, 3), beats=st.booleans())
def test_an_answer_that_is_lost_once_charges_nobody_twice_and_nothing_is_free(parts, loses, beats):
    stage = Stage()

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for at, size in enumerate(parts):
            await send({"type": "http.response.body", "body": b"x" * size, "more_body": True})
            if at % 3:
                await asyncio.sleep(0)
            if beats and at % 7 == 0:
                [metered] = app._under_way[asyncio.get_running_loop()]
                await metered.renewed()
        await send({"type": "http.response.body", "body": b""})

    async def story() -> None:
        await app(stage.scope(), client.receive, client.send)
        await rested()

    gate = stage.gate(total(BYTES, 40_000))
    app, client = HeadgateMiddleware(behind, gate=gate), Client()
    slowly(gate, loses)
    asyncio.run(story())
    assert stage.balances(gate)["bytes_out"] == (sum(parts), 0) == (len(client.text), 0)


def test_what_others_gave_back_meanwhile_lets_a_stream_go_on(stage):
    gate = stage.gate(total(replace(CUT, reserve=10), 30))
    app = HeadgateMiddleware(Stream(25), gate=gate)

    async def story() -> int:
        from headgate.quota.facts import Call

        other = await gate.admit(Call(gate.directory.known(b"alice"), method="POST"))
        client = Client()
        task = asyncio.create_task(app(stage.scope(method="POST"), client.receive, client.send))
        while client.tokens < 12:
            await asyncio.sleep(0)
        await gate.settle(other, {"output_tokens": 0})
        await task
        await rested()
        return client.tokens

    assert asyncio.run(story()) == 25


def test_rows_that_the_app_reports_cut_its_stream_after_the_last_that_is_granted(stage, limits):
    rows = Meter("rows", "app", reserve=2, overrun="cut")

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-type", b"text/event-stream")]})
        for _ in range(20):
            charge(scope, rows=1)
            await send({"type": "http.response.body", "body": b"data: row\n\n", "more_body": True})
            await asyncio.sleep(0)

    client = Client()
    app = stage.app(limits.total("rows", rows, 9), behind=behind)
    assert run(stage, app, client) is None
    assert client.text.count(b"row\n") == 9
    assert held(stage, app)["rows"][0] in {9, 10} and held(stage, app)["rows"][1] == 0


@pytest.mark.parametrize("version", ["raises", "answers 500", "answers 400"])
def test_what_is_sent_to_us_in_many_parts_is_refused_where_the_limit_is(stage, version):
    taken: list[int] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        more = True
        try:
            while more:
                message = await receive()
                taken.append(len(message["body"]))
                more = message["more_body"]
        except Denied:
            if version == "raises":
                raise
            await send({**START, "status": int(version[-3:])})
            await send({"type": "http.response.body", "body": b"oh"})

    app = stage.app(total(replace(BUILT_IN_METERS["bytes_in"], overrun="cut"), 100), behind=behind)
    answer = stage.ask(app, method="POST", body=[b"x" * 30] * 9)
    assert answer.status == 429 and answer.json["violated-policies"] == ["bytes_in"]
    assert taken == [30, 30, 30]
    assert held(stage, app) == {"bytes_in": (90, 0)}


def test_who_tells_the_length_beforehand_is_refused_before_it_is_read(stage):
    app = stage.app(total(replace(BUILT_IN_METERS["bytes_in"], overrun="cut"), 100))
    assert stage.ask(app, method="POST", headers=[(b"content-length", b"270")], body=[b"x" * 270]).status == 429
    assert not stage.hits and held(stage, app) == {}


@given(
    limit=st.integers(20, 400),
    reserve=st.integers(8, 20),
    streams=st.lists(st.lists(st.integers(1, 8), min_size=1, max_size=40), min_size=1, max_size=5),
    kind=st.sampled_from(["bytes_out", "output_tokens", "rows"]),
)
def test_streams_side_by_side_never_take_more_than_there_is_and_leave_nothing_held(limit, reserve, streams, kind):
    """Whatever their parts are, and however they take turns: charged is what was sent, and no more than that."""
    stage = Stage()
    meter = replace({"bytes_out": BYTES, "output_tokens": CUT, "rows": Meter("rows", "app")}[kind], overrun="cut")

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-type", b"text/event-stream")]})
        for size in streams[int(scope["path"][1:])]:
            body = {
                "bytes_out": b"x" * size + b"\n\n",
                "output_tokens": token("word" * size),
                "rows": b"data: row\n\n",
            }[kind]
            if kind == "rows":
                charge(scope, rows=1)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})

    async def story() -> list[Client]:
        clients = [Client() for _ in streams]
        calls = [app(stage.scope(f"/{at}"), one.receive, one.send) for at, one in enumerate(clients)]
        await asyncio.gather(*calls)
        await rested()
        return clients

    app = stage.app(total(replace(meter, reserve=reserve, reserve_from=()), limit), behind=behind)
    served = [one for one in asyncio.run(story()) if one.messages[0]["status"] == 200]
    used, still = held(stage, app).get(kind, (0, 0))
    texts = [one.text.partition(b"event: error")[0] for one in served]
    sent = {"bytes_out": b"", "output_tokens": b"word", "rows": b"row\n"}[kind]
    said = sum(text.count(sent) if sent else len(text) for text in texts)
    assert still == 0 and said <= limit
    assert said <= used <= said + (len(streams) if kind == "rows" else 0)


def test_a_fault_that_frameworks_have_wrapped_is_known_again():
    from headgate.quota.decision import Action, Decision
    from headgate.quota.facts import Principal

    fault = CutOff(Decision("00", Action.NEVER, Principal("k", "o"), 0))
    try:
        try:
            raise fault
        except OSError:
            raise RuntimeError("a client went away")  # noqa: B904
    except RuntimeError as raised:
        assert caused(raised, fault) and caused(ExceptionGroup("many", [raised]), fault)
        assert not caused(ValueError(), fault)


@pytest.mark.parametrize(
    ("tail", "body", "rest"),
    [
        (b"", b"data: 1\n\n", b""),
        (b"1\n\n", b"data: 1\n\n", b""),
        (b"\r\n\r\n", b"x", b""),
        (b"1\r\r", b"x", b""),
        (b"1\n", b"\ndata", b"\n"),
        (b"\r\n\r", b"\ndata", b"\n"),
        (b"\n\nda", b"ta: 1\n\nx", b"ta: 1\n\n"),
        (b"data", b": 1", None),
    ],
)
def test_where_an_event_ends(tail, body, rest):
    assert rest_of_event(tail, body) == rest
