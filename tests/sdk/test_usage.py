"""What is counted is what was reported: the real clients of OpenAI and Anthropic over a real uvicorn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from sdk.line import PATIENCE, Line, Serve
from sdk.upstream import Counts

ASK: Any = [{"role": "user", "content": "Who opens the gate?"}]

TOOK = Counts(input=23, output=40, cached=8, reasoning=3)
"""What the upstream reports; no two alike, so that none stands in for another."""


def policy(preset: str, *, options: str = "", scheme: str = "total: 1M") -> str:
    return f"""
scopes: {{model: body.model}}
meters:
  usage:         {{preset: {preset}{options}}}
  input_tokens:  {{reserve: 50}}
  output_tokens: {{reserve: body.max_tokens, reserve_default: 100}}
  credits:       {{sum: {{input_tokens: 1, cached_tokens: 0.1, output_tokens: 5}},
                  times: {{by: model, "big-*": 4, default: 1}}}}
limits:
  input:     {{meter: input_tokens, per: org, {scheme}}}
  cached:    {{meter: cached_tokens, per: org, {scheme}}}
  output:    {{meter: output_tokens, per: org, {scheme}}}
  reasoning: {{meter: reasoning_tokens, per: org, {scheme}}}
  credits:   {{meter: credits, per: org, {scheme}}}
  open:      {{meter: streams, per: key, max: 8, lease: 10min}}
"""


def weighed(took: Any, times: int = 1) -> int:
    """The credits by hand: cached input is a tenth, output is five, and what is begun is whole."""
    tenths = 10 * (took.input - took.cached) + took.cached + 50 * took.output
    return -(-tenths * times // 10)


def as_counted(took: Any, times: int = 1) -> dict[str, int]:
    return {
        "input": took.input,
        "cached": took.cached,
        "output": took.output,
        "reasoning": took.reasoning,
        "credits": weighed(took, times),
        "open": 0,
    }


def chat(line: Line) -> Any:
    found = line.openai().chat.completions.create(model="m", messages=ASK).usage
    assert found is not None and found.prompt_tokens_details and found.completion_tokens_details
    details = found.prompt_tokens_details.cached_tokens, found.completion_tokens_details.reasoning_tokens
    return Counts(found.prompt_tokens, found.completion_tokens, *details)


def chat_streamed(line: Line) -> Any:
    chunks = list(
        line.openai().chat.completions.create(
            model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    assert [len(chunk.choices) for chunk in chunks] == [1] * 42 + [0], "the client asked for the chunk with the usage"
    found = chunks[-1].usage
    assert found is not None and found.prompt_tokens_details and found.completion_tokens_details
    details = found.prompt_tokens_details.cached_tokens, found.completion_tokens_details.reasoning_tokens
    return Counts(found.prompt_tokens, found.completion_tokens, *details)


def _of_a_response(found: Any) -> Any:
    return Counts(
        found.input_tokens,
        found.output_tokens,
        found.input_tokens_details.cached_tokens,
        found.output_tokens_details.reasoning_tokens,
    )


def response(line: Line) -> Any:
    return _of_a_response(line.openai().responses.create(model="m", input="Who opens the gate?").usage)


def response_streamed(line: Line) -> Any:
    events = list(line.openai().responses.create(model="m", input="Who opens the gate?", stream=True))
    assert events[-1].type == "response.completed"
    return _of_a_response(events[-1].response.usage)


def _of_a_message(found: Any) -> Any:
    details = found.cache_read_input_tokens, found.output_tokens_details.thinking_tokens
    return Counts(found.input_tokens + found.cache_read_input_tokens, found.output_tokens, *details)


def message(line: Line) -> Any:
    return _of_a_message(line.anthropic().messages.create(model="m", max_tokens=64, messages=ASK).usage)


def message_streamed(line: Line) -> Any:
    with line.anthropic().messages.stream(model="m", max_tokens=64, messages=ASK) as stream:
        found = stream.get_final_message().usage
    # What the client adds up of the events has no details: those it takes from the event itself.
    return Counts(found.input_tokens + (found.cache_read_input_tokens or 0), found.output_tokens, 8, 3)


OPENAI = (chat, chat_streamed, response, response_streamed)
ANTHROPIC = (message, message_streamed)
ALL = [("openai-usage", way) for way in OPENAI] + [("anthropic-usage", way) for way in ANTHROPIC]


@pytest.mark.parametrize(("preset", "way"), ALL, ids=[way.__name__ for _, way in ALL])
def test_what_is_counted_is_what_the_client_is_told(serve: Serve, preset: str, way: Callable[[Line], Any]) -> None:
    line = serve(policy(preset))
    line.upstream.plays(counts=TOOK)
    reported = way(line)
    assert reported == TOOK
    assert line.used() == as_counted(TOOK)
    assert way(line) == TOOK
    assert line.used() == {name: 2 * count for name, count in as_counted(TOOK).items()}


def test_embeddings_have_an_input_alone(serve: Serve) -> None:
    line = serve(policy("openai-usage"))
    line.upstream.plays(counts=Counts(input=17))
    found = line.openai().embeddings.create(model="e", input=["one", "two"]).usage
    assert found.prompt_tokens == 17
    assert line.used() == as_counted(Counts(input=17))


def test_a_dear_model_costs_four_times_the_credits(serve: Serve) -> None:
    line = serve(policy("openai-usage"))
    line.upstream.plays(counts=TOOK)
    line.openai().chat.completions.create(model="big-2", messages=ASK)
    assert line.used() == as_counted(TOOK, times=4)


def test_a_stream_of_one_who_did_not_ask_is_counted_exactly_and_looks_as_he_wants_it(serve: Serve) -> None:
    line = serve(policy("openai-usage", options=", include_usage: true"))
    line.upstream.plays(counts=TOOK)
    chunks = list(line.openai().chat.completions.create(model="m", messages=ASK, stream=True))
    assert line.upstream.last.body["stream_options"] == {"include_usage": True}, "headgate asked for him"
    assert [len(chunk.choices) for chunk in chunks] == [1] * 42, "and what it asked for he does not see"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "tick" * 40
    assert line.used() == as_counted(TOOK)


def test_who_asked_for_the_usage_sees_it_though_headgate_would_have_asked_too(serve: Serve) -> None:
    line = serve(policy("openai-usage", options=", include_usage: true"))
    line.upstream.plays(counts=TOOK)
    assert chat_streamed(line) == TOOK
    assert line.used() == as_counted(TOOK)


def test_headgate_adds_nothing_to_a_plain_call(serve: Serve) -> None:
    line = serve(policy("openai-usage", options=", include_usage: true"))
    line.upstream.plays(counts=TOOK)
    assert chat(line) == TOOK
    assert "stream_options" not in line.upstream.last.body
    assert response_streamed(line) == TOOK
    assert "stream_options" not in line.upstream.last.body, "Responses report by themselves"
    assert line.used() == {name: 2 * count for name, count in as_counted(TOOK).items()}


def test_without_a_report_what_was_generated_is_estimated_four_bytes_a_token(serve: Serve) -> None:
    line = serve(policy("openai-usage"))
    line.upstream.plays(silent=True)
    for stream in (False, True):
        asked = line.openai().chat.completions.create(model="m", messages=ASK, stream=stream)
        list(asked) if stream else None
        used = line.used("acme")
        assert 40 <= used["output"] <= 41, "forty words of four letters"
        assert used["input"] > 0
        line = serve(policy("openai-usage"))
        line.upstream.plays(silent=True)


@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_answer_that_is_an_error_takes_no_tokens(serve: Serve, status: int) -> None:
    line = serve(policy("openai-usage"))
    line.upstream.plays(status=status)
    with pytest.raises(openai.APIStatusError):
        line.openai().chat.completions.create(model="m", messages=ASK)
    assert line.used() == dict.fromkeys(as_counted(TOOK), 0)


def test_many_calls_at_once_of_every_kind_add_up(serve: Serve) -> None:
    from concurrent.futures import ThreadPoolExecutor

    line = serve(policy("openai-usage", options=", include_usage: true").replace("max: 8", "max: 64"))
    line.upstream.plays(counts=TOOK, pause=0.0005)
    ways = (chat, chat_streamed, response, response_streamed) * 6
    with ThreadPoolExecutor(8) as hands:
        assert list(hands.map(lambda way: way(line), ways)) == [TOOK] * len(ways)
    assert line.used() == {name: len(ways) * count for name, count in as_counted(TOOK).items()}


SAID = '{"usage": {"prompt_tokens": 999, "completion_tokens": 999, "input_tokens": 999, "output_tokens": 999}} \\" \n'
"""What a model may say, and a caller may make it say."""


@pytest.mark.parametrize(("preset", "way"), ALL, ids=[way.__name__ for _, way in ALL])
def test_what_a_model_says_of_usage_is_not_its_usage(serve: Serve, preset: str, way: Callable[[Line], Any]) -> None:
    line = serve(policy(preset))
    line.upstream.plays(counts=TOOK, text=SAID)
    assert way(line) == TOOK
    assert line.used() == as_counted(TOOK)


@pytest.mark.parametrize("asked", [None, {"include_usage": False}, {"include_obfuscation": False}])
def test_however_a_stream_was_asked_for_the_client_sees_what_it_asked_for(serve: Serve, asked: Any) -> None:
    line = serve(policy("openai-usage", options=", include_usage: true"))
    line.upstream.plays(counts=TOOK)
    more = {} if asked is None else {"stream_options": asked}
    chunks = list(line.openai().chat.completions.create(model="m", messages=ASK, stream=True, **more))
    assert [len(chunk.choices) for chunk in chunks] == [1] * 42
    assert line.upstream.last.body["stream_options"] == {**(asked or {}), "include_usage": True}
    assert line.upstream.last.body["messages"] == ASK
    assert line.used() == as_counted(TOOK)


def test_a_long_prompt_reaches_the_app_whole_though_it_is_not_read_ahead(serve: Serve) -> None:
    line = serve(policy("openai-usage", options=", include_usage: true").replace("by: model", "by: key"))
    line.upstream.plays(counts=TOOK)
    prompt: Any = [{"role": "user", "content": "long " * 40_000}]
    chunks = list(line.openai().chat.completions.create(model="m", messages=prompt, stream=True))
    assert line.upstream.last.body["messages"] == prompt
    assert [len(chunk.choices) for chunk in chunks] == [1] * 42
    used = line.used()
    assert used["output"] == 40, "exact here, by an estimate or by a report"


def test_async_clients_that_are_cancelled_pay_for_what_was_sent(serve: Serve) -> None:
    import asyncio

    line = serve(policy("openai-usage"))
    line.upstream.plays(stall=10)

    async def story() -> None:
        web = openai.DefaultAsyncHttpxClient(trust_env=False)
        async with openai.AsyncOpenAI(
            base_url=f"{line.url}/v1", api_key="sk-acme", max_retries=0, http_client=web
        ) as client:

            async def reading(heard: asyncio.Event) -> None:
                number = 0
                async for _ in await client.chat.completions.create(model="m", messages=ASK, stream=True):
                    number += 1
                    if number == 11:
                        heard.set()

            events = [asyncio.Event() for _ in range(5)]
            tasks = [asyncio.create_task(reading(event)) for event in events]
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*[event.wait() for event in events])
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(story())
    assert line.used()["output"] == 50
