"""A stream that reaches its limit: ended as its client understands it, or carried to its end as a debt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest

from sdk.line import Line, Serve
from sdk.test_usage import ASK

MOST = 20
"""Tokens that the limit grants; a stream has forty."""


def policy(preset: str = "openai-usage", *, overrun: str = "cut", dialect: str = "openai") -> str:
    return f"""
dialect: {dialect}
meters:
  usage:         {{preset: {preset}}}
  input_tokens:  {{reserve: 5}}
  output_tokens: {{reserve: body.max_tokens, reserve_default: 4, overrun: {overrun}}}
limits:
  output: {{meter: output_tokens, per: org, quota: {MOST}/year}}
  open:   {{meter: streams, per: key, max: 8, lease: 10min}}
"""


def chat(line: Line, text: list[str]) -> None:
    for chunk in line.openai().chat.completions.create(model="m", messages=ASK, stream=True):
        text += chunk.choices[0].delta.content or ""


def responses(line: Line, text: list[str]) -> None:
    for event in line.openai().responses.create(model="m", input="Who?", stream=True):
        assert event.type not in {"response.completed", "response.incomplete"}
        if event.type == "response.output_text.delta":
            text.append(event.delta)


def messages(line: Line, text: list[str]) -> None:
    for event in line.anthropic().messages.create(model="m", max_tokens=4, messages=ASK, stream=True):
        assert event.type != "message_stop"
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            text.append(event.delta.text)


WAYS = [
    ("openai-usage", "openai", chat, openai.APIError),
    ("openai-usage", "openai", responses, openai.APIError),
    ("anthropic-usage", "anthropic", messages, anthropic.APIStatusError),
]


@pytest.mark.parametrize(("preset", "dialect", "way", "error"), WAYS, ids=[way.__name__ for _, _, way, _ in WAYS])
def test_a_stream_is_cut_where_the_limit_is_and_its_client_raises(
    serve: Serve, preset: str, dialect: str, way: Callable[[Line, list[str]], None], error: type[Exception]
) -> None:
    line = serve(policy(preset, dialect=dialect))
    line.upstream.plays(pause=0.001)
    text: list[str] = []
    with pytest.raises(error) as caught:
        way(line, text)
    assert "output" in str(caught.value), "which limit it was"
    heard = "".join(text).count("tick")
    assert 0 < heard <= MOST
    assert line.used()["output"] == MOST, "all that there was, and nothing beyond it"
    assert line.upstream.last.sent <= heard + 1, "the model does not go on for nobody"
    with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)):
        way(line, text)


def test_a_stream_that_may_finish_does_and_the_next_one_waits(serve: Serve) -> None:
    line = serve(policy(overrun="finish"))
    line.upstream.plays(pause=0.001)
    text: list[str] = []
    chat(line, text)
    assert "".join(text) == "tick" * 40
    assert line.used()["output"] == 40
    with pytest.raises(openai.RateLimitError):
        chat(line, text)
    assert line.used()["output"] == 40


def test_a_stream_that_ends_at_the_limit_is_whole(serve: Serve) -> None:
    line = serve(policy())
    line.upstream.plays(chunks=MOST, pause=0.001)
    text: list[str] = []
    chat(line, text)
    assert "".join(text) == "tick" * MOST
    assert line.used()["output"] == MOST


def test_what_was_held_before_is_not_asked_for_again(serve: Serve) -> None:
    line = serve(policy())
    line.upstream.plays(chunks=MOST, pause=0.001)
    asked = line.openai().chat.completions.create(model="m", messages=ASK, stream=True, max_tokens=MOST)
    assert len(list(asked)) == MOST + 2
    assert line.used()["output"] == MOST


def test_a_plain_answer_is_whole_or_none_and_never_half_of_one(serve: Serve) -> None:
    line = serve(policy())
    try:
        answer = line.openai().chat.completions.create(model="m", messages=ASK)
        assert answer.choices[0].message.content == "tick" * 40
        assert line.used()["output"] == 40, "it left in one piece: all of it is charged, and a debt"
    except openai.APIConnectionError:
        assert line.used()["output"] <= 40
    with pytest.raises(openai.RateLimitError):
        line.openai().chat.completions.create(model="m", messages=ASK)


def test_a_stream_that_is_no_event_stream_is_broken_off(serve: Serve) -> None:
    def plainly(app: Any) -> Any:
        async def untyped(scope: Any, receive: Any, send: Any) -> None:
            async def sent(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [(b"content-type", b"text/plain")]}
                await send(message)

            await app(scope, receive, sent)

        return untyped

    line = serve(policy(), inside=plainly)
    line.upstream.plays(pause=0.001)
    body = {"model": "m", "stream": True, "messages": ASK}
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{line.url}/v1/chat/completions", json=body, headers={"x-api-key": "sk-acme"}, trust_env=False)
    assert line.used()["output"] <= 10 * MOST, "an estimate by all its bytes, in which the framing counts"


def test_many_streams_at_once_never_pass_the_limit_together(serve: Serve) -> None:
    from concurrent.futures import ThreadPoolExecutor

    line = serve(policy().replace(f"{MOST}/year", "100/year"))
    line.upstream.plays(pause=0.002)
    texts: list[list[str]] = [[] for _ in range(8)]

    def told(text: list[str]) -> None:
        with pytest.raises(openai.APIError):
            while True:
                chat(line, text)

    with ThreadPoolExecutor(8) as hands:
        list(hands.map(told, texts))
    heard = sum("".join(text).count("tick") for text in texts)
    assert heard <= 100
    assert line.used()["output"] <= 100 + 1
