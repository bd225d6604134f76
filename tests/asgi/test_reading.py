"""Tokens: as they are reported, as they are estimated where nothing is, and what they weigh together."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi.upstream import (
    CREDITS,
    CUT,
    INPUT,
    JSON,
    OUTPUT,
    PRESET,
    SSE,
    START,
    Client,
    Stream,
    event,
    held,
    last,
    rested,
    token,
    total,
    usage,
)
from headgate.asgi import HeadgateMiddleware, charge
from headgate.asgi.metering.asking import LARGEST
from headgate.quota.meter import BUILT_IN_METERS, MILLION, Meter, Sum

CACHED, REASONING = Meter("cached_tokens", PRESET), Meter("reasoning_tokens", PRESET)
ALL = (total(INPUT), total(CACHED), total(OUTPUT), total(REASONING))


def answering(status: int, body: bytes, headers: Any = JSON) -> Any:
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({**START, "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return behind


def used(stage: Any, app: HeadgateMiddleware) -> dict[str, int]:
    found = held(stage, app)
    assert not any(still for _, still in found.values())
    return {name: units for name, (units, _) in found.items()}


CHAT = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "four words of text"}}],
    "usage": {
        **usage(20, 9),
        "prompt_tokens_details": {"cached_tokens": 12},
        "completion_tokens_details": {"reasoning_tokens": 4},
    },
}


def test_a_plain_answer_counts_as_it_reports(stage):
    app = stage.app(*ALL, behind=answering(200, json.dumps(CHAT).encode()))
    stage.ask(app, method="POST", body=[b"{}"])
    assert used(stage, app) == {"input_tokens": 20, "cached_tokens": 12, "output_tokens": 9, "reasoning_tokens": 4}


def test_a_stream_counts_as_it_reports_however_its_parts_are_cut(stage):
    whole = b"".join([token()] * 5) + last(7, 5) + event("[DONE]")

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        at = int(scope["path"][1:])
        await send({**START, "headers": SSE})
        for part in (whole[:at], whole[at:]):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    app = stage.app(total(INPUT, 10_000_000), total(OUTPUT, 10_000_000), behind=behind)
    for at in range(len(whole)):
        stage.ask(app, f"/{at}")
    assert used(stage, app) == {"input_tokens": 7 * len(whole), "output_tokens": 5 * len(whole)}


def test_what_is_not_reported_is_estimated_from_the_text_and_from_the_question(stage):
    app = stage.app(*ALL, behind=Stream(9, reports=False))
    stage.ask(app, method="POST", body=[b"x" * 41])
    assert used(stage, app) == {"input_tokens": 11, "cached_tokens": 0, "output_tokens": 9, "reasoning_tokens": 0}


def test_an_answer_that_is_packed_or_no_json_is_estimated_from_its_bytes(stage):
    packed = gzip.compress(json.dumps(CHAT).encode())
    app = stage.app(total(OUTPUT), behind=answering(200, packed, [*JSON, (b"content-encoding", b"gzip")]))
    stage.ask(app, method="POST")
    assert used(stage, app) == {"output_tokens": -(-len(packed) // 4)}
    app = stage.app(total(OUTPUT), behind=answering(200, b"x" * 10, [(b"content-type", b"text/plain")]))
    stage.ask(app, method="POST")
    assert used(stage, app) == {"output_tokens": 3}


UNREADABLE = {
    "a list": json.dumps([CHAT] * 9).encode(),
    "utf-16": json.dumps(CHAT, indent=9).encode("utf-16"),
    "events": b"".join([token()] * 9),
    "broken": b"  " * 20 + b'{"choices" [], "usage": {"completion_tokens": 1}}' + b" " * 99,
}


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_an_answer_that_is_not_the_object_that_its_type_says_is_estimated_from_its_bytes(stage, body, size):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": JSON})
        for at in range(0, len(body), size):
            await send({"type": "http.response.body", "body": body[at : at + size], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    app = stage.app(total(OUTPUT), behind=behind)
    stage.ask(app, method="POST")
    assert used(stage, app) == {"output_tokens": -(-len(body) // 4)}


def test_an_answer_that_cannot_be_read_is_cut_by_what_it_is_taken_for(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": JSON})
        for part in [b"   ["] + [b'"x",'] * 40:
            await send({"type": "http.response.body", "body": part, "more_body": True})

    app = stage.app(total(replace(CUT, reserve=4), 12), behind=behind)
    with pytest.raises(OSError, match="refused by output_tokens"):
        stage.ask(app, method="POST")
    assert used(stage, app) == {"output_tokens": 12}


def test_an_app_is_not_asked_to_pack_what_is_to_be_read_and_an_outer_one_packs_it(stage):
    gate = stage.gate(total(OUTPUT))

    async def endpoint(request: Any) -> JSONResponse:
        return JSONResponse(CHAT)

    gated, packing = Middleware(HeadgateMiddleware, gate=gate), Middleware(GZipMiddleware, minimum_size=1)
    for at, (order, packs) in enumerate((([packing, gated], True), ([gated, packing], False)), 1):
        app = Starlette(routes=[Route("/", endpoint)], middleware=order)
        answer = stage.ask(app, headers=[(b"accept-encoding", b"gzip")])
        assert ("content-encoding" in answer.headers) is packs
        assert stage.balances(gate) == {"output_tokens": (9 * at, 0)}


def test_where_no_tokens_count_an_app_may_pack_what_it_likes(stage, limits):
    gated = Middleware(HeadgateMiddleware, gate=stage.gate(total(BUILT_IN_METERS["bytes_out"])))

    async def endpoint(request: Any) -> JSONResponse:
        return JSONResponse(CHAT)

    app = Starlette(routes=[Route("/", endpoint)], middleware=[gated, Middleware(GZipMiddleware, minimum_size=1)])
    assert stage.ask(app, headers=[(b"accept-encoding", b"gzip")]).headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("media", ["image/png", "audio/mpeg", "Application/Octet-Stream", "application/pdf"])
def test_what_is_no_text_has_no_tokens(stage, media):
    app = stage.app(
        total(OUTPUT), total(INPUT), behind=answering(200, b"x" * 4_000, [(b"content-type", media.encode())])
    )
    stage.ask(app, method="POST", body=[b"x" * 40])
    assert used(stage, app) == {"output_tokens": 0, "input_tokens": 10}


def test_a_picture_in_a_question_cuts_no_stream_that_reports_what_it_was(stage):
    app = stage.app(total(replace(CREDITS, overrun="cut"), 1_000), behind=Stream(20))
    answer = stage.ask(app, method="POST", body=[b"x" * 400_000])
    assert answer.body.count(b"word") == 20 and used(stage, app) == {"credits": 7 + 5 * 20}


def test_a_meter_that_the_app_reports_is_not_fed_by_a_preset_of_the_same_name(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        charge(scope, input_tokens=3)
        await answering(200, json.dumps(CHAT).encode())(scope, receive, send)

    app = stage.app(total(Meter("input_tokens", "app")), total(OUTPUT), behind=behind)
    stage.ask(app, method="POST")
    assert used(stage, app) == {"input_tokens": 3, "output_tokens": 9}


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_what_failed_has_used_no_tokens_and_the_request_stays_charged(stage, limits, status):
    app = stage.app(limits.rpm(9), *ALL, behind=answering(status, json.dumps(CHAT).encode()))
    stage.ask(app, method="POST", body=[b"x" * 40])
    found = used(stage, app)
    assert found.pop("rpm") == 1 and set(found.values()) == {0}


def test_an_app_that_raises_before_it_answers_has_used_no_tokens(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ZeroDivisionError

    app = stage.app(*ALL, behind=behind)
    with pytest.raises(ZeroDivisionError):
        stage.ask(app, method="POST", body=[b"x" * 40])
    assert set(used(stage, app).values()) == {0}


def test_a_client_that_hangs_up_before_the_first_byte_has_used_its_question(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    app = stage.app(*ALL, behind=behind)
    stage.ask(app, method="POST", body=[b"x" * 40])
    assert used(stage, app) == {"input_tokens": 10, "cached_tokens": 0, "output_tokens": 0, "reasoning_tokens": 0}


def test_more_than_was_held_is_charged_and_less_is_given_back(stage):
    app = stage.app(total(OUTPUT), behind=answering(200, json.dumps(CHAT).encode()))
    stage.ask(app, method="POST", body=[b'{"max_tokens": 500}'])
    assert used(stage, app) == {"output_tokens": 9}
    app = stage.app(total(OUTPUT), behind=answering(200, json.dumps({**CHAT, "usage": usage(1, 77)}).encode()))
    stage.ask(app, method="POST", body=[b'{"max_tokens": 5}'])
    assert used(stage, app) == {"output_tokens": 77}


def test_a_sum_weighs_its_parts_by_the_factor_of_the_model(stage):
    asks = Sum({"input_tokens": MILLION, "output_tokens": 5 * MILLION}, "body.model", (("big-*", 4 * MILLION),))
    credits = replace(CREDITS, sum=asks)
    app = stage.app(total(credits), behind=answering(200, json.dumps(CHAT).encode()))
    stage.ask(app, method="POST", body=[b'{"model": "small-1"}'])
    assert used(stage, app) == {"credits": 65}
    stage.ask(app, method="POST", body=[b'{"model": "big-1"}'])
    assert used(stage, app) == {"credits": 65 + 260}


def test_who_hides_the_model_behind_a_long_body_is_not_charged_the_cheap_factor(stage):
    asks = Sum({"output_tokens": MILLION}, "body.model", (("big-*", 4 * MILLION),))
    app = stage.app(total(replace(CREDITS, sum=asks)), behind=answering(200, b"{}"))
    assert stage.ask(app, method="POST", body=[b'{"pad": "' + b"x" * 70_000 + b'"}']).status == 413


def test_a_sum_may_weigh_what_the_app_says(stage, limits):
    from headgate.asgi import charge

    rows = Meter("rows", "app")
    cost = Meter("cost", "sum", sum=Sum({"rows": 2 * MILLION, "bytes_out": MILLION}), parts=(
        rows, Meter("bytes_out", "bytes_out")
    ))  # fmt: skip

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        charge(scope, rows=10)
        await answering(200, b"12345")(scope, receive, send)

    app = stage.app(total(cost), behind=behind)
    stage.ask(app)
    assert used(stage, app) == {"cost": 25}


# --- usage that is asked for, and hidden


def asked_of(stage: Any, body: bytes, headers: Any = ()) -> tuple[Any, bytes, dict[bytes, bytes]]:
    """An answer that tells its usage if it is asked to, what the app was asked, and with which headers."""
    got: list[bytes] = []
    told: list[dict[bytes, bytes]] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        told.append(dict(scope["headers"]))
        whole, more = b"", True
        while more:
            message = await receive()
            whole, more = whole + message["body"], message["more_body"]
        got.append(whole)
        asks = json.loads(whole).get("stream_options", {}).get("include_usage", False)
        await Stream(5, reports=asks)(scope, lambda: asyncio.sleep(0, {"type": "http.request"}), send)

    app = stage.app(total(INPUT), total(OUTPUT), behind=behind, include_usage=True)
    headers = [(b"content-length", b"%d" % len(body)), *headers]
    answer = stage.ask(app, method="POST", body=[body[:9], body[9:]], headers=headers)
    assert used(stage, app) == {"input_tokens": 7, "output_tokens": 5}
    return answer, got[0], told[0]


def test_a_stream_that_does_not_ask_is_made_to_tell_its_usage_and_the_client_does_not_see_it(stage):
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    answer, got, headers = asked_of(stage, body)
    assert json.loads(got)["stream_options"] == {"include_usage": True}
    assert json.loads(got)["messages"] == [{"role": "user", "content": "hi"}]
    assert headers[b"content-length"] == b"%d" % len(got)
    assert answer.body == token() * 5 + event("[DONE]")


def test_who_asks_for_the_usage_sees_it(stage):
    body = json.dumps({
        "model": "m", "stream": True, "messages": [], "stream_options": {"include_usage": True}
    }).encode()  # fmt: skip
    answer, got, _ = asked_of(stage, body)
    assert got == body
    assert answer.body == token() * 5 + last(7, 5) + event("[DONE]")


EVASIONS = {
    "a header of another API": (b"%s", [(b"anthropic-version", b"2023-06-01")]),
    "blanks beyond what is looked at": (b"%s" + b" " * 200_000, []),
    "a byte order mark": (b"\xef\xbb\xbf%s", []),
}


@pytest.mark.parametrize("how", EVASIONS)
def test_nobody_gets_round_being_asked(stage, how):
    body = json.dumps({"model": "m", "stream": True, "system": "x", "messages": []}).encode()
    frame, headers = EVASIONS[how]
    _, got, _ = asked_of(stage, frame % body, headers)
    assert json.loads(got)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"stream": true, "messages": ["\n"]}', [], 400),
        (b'{"stream": true, "messages": []}', [(b"content-encoding", b"x")], 400),
        (gzip.compress(b'{"stream": true, "messages": []}'), [(b"content-encoding", b"gzip")], 400),
        (b'{"stream": true, "messages": []' + b" " * LARGEST, [], 413),
    ],
)
def test_what_cannot_be_asked_is_refused(stage, limits, body, headers, status):
    app = stage.app(limits.rpm(9), total(OUTPUT), behind=answering(200, b"{}"), include_usage=True)
    assert stage.ask(app, method="POST", body=[body[:9], body[9:]], headers=headers).status == status
    assert used(stage, app) == {"rpm": 1, "output_tokens": 0}


@pytest.mark.parametrize("body", [b"", b"--boundary", b"[1]", b'{"a": 1}', b"{}"])
def test_other_bodies_pass_as_they_are(stage, body):
    got = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        got.append((await receive())["body"] + (await receive())["body"])
        await answering(200, b"{}")(scope, lambda: asyncio.sleep(0, {}), send)

    app = stage.app(total(OUTPUT), behind=behind, include_usage=True)
    assert stage.ask(app, method="POST", body=[body[:2], body[2:]]).status == 200
    assert got == [body]


def test_a_client_that_goes_away_while_its_body_is_taken_is_told_to_the_app_and_not_refused(stage):
    told = [{"type": "http.request", "body": b'{"stream": true' + b" " * 70_000, "more_body": True}]
    seen = []

    async def receive() -> Any:
        return told.pop(0) if told else {"type": "http.disconnect"}

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([(await receive())["type"] for _ in range(2)])

    client = Client()
    app = stage.app(total(OUTPUT), behind=behind, include_usage=True)
    asyncio.run(app(stage.scope(method="POST"), receive, client.send))
    assert seen == ["http.request", "http.disconnect"] and client.messages == []


def test_nobody_fills_memory_by_what_is_refused_anyway(stage):
    taken = []

    async def receive() -> Any:
        taken.append(len(taken))
        return {
            "type": "http.request",
            "body": b'{"stream": true' if len(taken) == 1 else b" " * 65_536,
            "more_body": 1,
        }

    app = stage.app(total(replace(OUTPUT, reserve=10), 5), behind=Stream(1), include_usage=True)
    client = Client()
    asyncio.run(app(stage.scope(method="POST"), receive, client.send))
    assert client.messages[0]["status"] == 429 and len(taken) <= 3


def test_messages_of_anthropic_are_told_by_their_path_and_stay_as_they_are(stage):
    got = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        got.append((await receive())["body"])
        await answering(200, b"{}")(scope, lambda: asyncio.sleep(0, {}), send)

    app = stage.app(total(OUTPUT), behind=behind, include_usage=True)
    body = b'{"stream": true, "messages": []}'
    stage.ask(app, "/v1/messages", method="POST", body=[body])
    assert got == [body]


def test_a_length_that_the_app_told_is_not_that_of_a_stream_of_which_a_part_is_hidden(stage):
    whole = token() + last(7, 1) + event("[DONE]")
    headers = [*SSE, (b"Content-Length", b"%d" % len(whole)), (b"x-a", b"b")]
    app = stage.app(total(OUTPUT), behind=answering(200, whole, headers), include_usage=True)
    answer = stage.ask(app, method="POST", body=[b'{"stream": true, "messages": []}'])
    assert answer.body == token() + event("[DONE]") and used(stage, app) == {"output_tokens": 1}
    assert "content-length" not in answer.headers and answer.headers["x-a"] == "b"


# --- at its end


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize("how", ["", "os error", "cancel"])
def test_a_client_that_goes_away_after_any_chunk_is_charged_for_what_was_sent(stage, reports, how):
    app = stage.app(total(OUTPUT, 100_000), total(INPUT, 100_000))
    charged = [0]

    async def story(leaves: int) -> int:
        client = Client(b"x" * 28, leaves, how)
        app.app = Stream(40, reports=reports)
        task = asyncio.create_task(app(stage.scope(method="POST"), client.receive, client.send))
        await client.gone.wait()
        if how == "cancel":
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await rested()
        return client.tokens

    for leaves in range(1, 41):
        sent = asyncio.run(story(leaves))
        found = used(stage, app)
        charged.append(found["output_tokens"])
        if how:
            assert abs(charged[-1] - charged[-2] - sent) <= 1, leaves
        assert found["input_tokens"] == 7 * leaves


def test_what_the_app_generates_for_nobody_is_not_charged(stage):
    """As uvicorn has it: sending does nothing any more, and only the app's `receive` tells."""

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({**START, "headers": SSE})
        for _ in range(5):
            await send({"type": "http.response.body", "body": token(), "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        for _ in range(20):
            await send({"type": "http.response.body", "body": token(), "more_body": True})
        await send({"type": "http.response.body", "body": last(7, 25)})

    client = Client(b"", 5)
    app = stage.app(total(OUTPUT), behind=behind)
    asyncio.run(app(stage.scope(method="POST"), client.receive, client.send))
    assert used(stage, app) == {"output_tokens": 5}


def test_who_reads_to_the_end_and_then_goes_is_charged_as_reported(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await Stream(5)(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    async def story() -> None:
        client = Client()
        task = asyncio.create_task(app(stage.scope(method="POST"), client.receive, client.send))
        await rested()
        client.gone.set()
        await task

    app = stage.app(total(OUTPUT), total(INPUT), behind=behind)
    asyncio.run(story())
    assert used(stage, app) == {"output_tokens": 5, "input_tokens": 7}


def test_a_stream_holds_more_as_it_grows_and_asks_for_it_seldom(stage):
    gate = stage.gate(total(replace(CUT, reserve=10), 100_000))
    transact, told = gate.store.transact, []

    async def overheard(commands: Any, now: Any = None) -> Any:
        told.extend(type(command).__name__ for command in commands)
        return await transact(commands, now)

    gate.store.transact = overheard
    app = HeadgateMiddleware(Stream(1_000), gate=gate)
    client = Client()
    asyncio.run(app(stage.scope(method="POST"), client.receive, client.send))
    assert client.tokens == 1_000 and told[0] == "Reserve" and told[-1] == "Settle"
    assert 5 <= len(told) - 2 <= 9 and set(told[1:-1]) == {"Extend"}
    assert stage.balances(gate) == {"output_tokens": (1_000, 0)}


def test_a_stream_that_stalls_has_hold_of_all_it_sent_while_the_store_was_asked(stage):
    gate = stage.gate(total(replace(OUTPUT, reserve=8), 100_000))
    transact, answers, stalled = gate.store.transact, asyncio.Event(), asyncio.Event()

    class Stalling(Stream):
        def parts(self) -> Iterator[bytes]:
            yield from [token()] * 20
            stalled.set()

    async def slow(commands: Any, now: Any = None) -> Any:
        if type(commands[0]).__name__ == "Extend":
            await answers.wait()
        return await transact(commands, now)

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.create_task(Stalling(0)(scope, receive, send))
        await stalled.wait()
        task.cancel()
        seen.append(stage.balances(gate)["output_tokens"])
        answers.set()
        await rested()
        seen.append(stage.balances(gate)["output_tokens"])

    gate.store.transact, seen = slow, []
    client = Client()
    asyncio.run(HeadgateMiddleware(behind, gate=gate)(stage.scope(method="POST"), client.receive, client.send))
    [before, after] = seen
    assert client.tokens == 20 and before == (0, 8)
    assert after[0] == 0 and after[1] >= 20, "though nothing was sent after the store had answered"
