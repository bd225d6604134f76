"""What is reported goes together with what was generated since; and which responses are read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.tokens import Usage, reader
from tokens.feeding import of, read, seen
from tokens.transcripts import MESSAGE_USAGE, chunk, event


def test_text_counts_until_the_output_is_reported() -> None:
    found = of()
    found.fed(chunk({"content": "12345678"}))
    assert seen(found) == (Usage(), False, 8)
    found.fed(chunk({"content": "9"}, usage={"prompt_tokens": 1, "completion_tokens": 3}))
    assert seen(found) == (Usage(input=1, output=3), False, 0)
    found.fed(chunk({"content": "abc"}))
    assert seen(found) == (Usage(input=1, output=3), False, 3)


def test_a_report_of_the_input_alone_leaves_the_text() -> None:
    assert read(chunk({"content": "1234"}), event({"usage": {"prompt_tokens": 5}})) == (Usage(input=5), False, 4)


def test_text_after_what_seemed_final_takes_that_back() -> None:
    found = of()
    found.fed(chunk({"content": "a"}, "stop", usage={"prompt_tokens": 1, "completion_tokens": 1}))
    assert found.complete
    found.fed(chunk({"content": "bb"}))
    assert seen(found) == (Usage(input=1, output=1), False, 2)


def test_an_end_without_a_report_since_the_last_text_is_not_final() -> None:
    last = {"prompt_tokens": 1, "completion_tokens": 1}
    assert not read(chunk({"content": "a"}, usage=last), chunk({"content": "b"}), b"data: [DONE]\n\n")[1]
    assert read(chunk({"content": "a"}, usage=last), b"data: [DONE]\n\n")[1]


def test_an_input_that_anthropic_corrects_keeps_the_cache_that_it_does_not_mention() -> None:
    start = event({"type": "message_start", "message": {"usage": MESSAGE_USAGE}})
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    assert read(start, event({**delta, "usage": {"input_tokens": 30, "output_tokens": 9}}))[0].input == 1130
    whole = {"input_tokens": 1, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 3, "output_tokens": 9}
    assert read(start, event({**delta, "usage": whole}))[0] == Usage(input=6, cached=2, output=9)


@pytest.mark.parametrize(
    ("delta", "size"),
    [
        ({"content": "Hello"}, 5),
        ({"content": "中文"}, 6),
        ({"content": '😀\n"\\'}, 7),
        ({"reasoning_content": "abc"}, 3),
        ({"reasoning": "abc", "content": ""}, 3),
        ({"refusal": "no"}, 2),
        ({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "long", "arguments": '{"a'}}]}, 3),
        ({"function_call": {"name": "f", "arguments": "{}"}}, 2),
        ({"audio": {"id": "audio_1", "transcript": "yes"}}, 3),
        ({"role": "assistant"}, 0),
        ({}, 0),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_text_is_what_was_generated_in_bytes(delta: dict[str, Any], size: int, ascii_only: bool) -> None:
    data = {"choices": [{"index": 0, "delta": delta, "logprobs": {"content": [{"token": "x", "bytes": [1]}]}}]}
    for text in (json.dumps(data, ensure_ascii=ascii_only), json.dumps(data, ensure_ascii=ascii_only, indent=1)):
        assert read("".join(f"data: {line}\n" for line in text.splitlines()).encode() + b"\n")[2] == size


def test_each_of_several_choices_counts() -> None:
    choices = [{"index": at, "delta": {"content": "ab"}} for at in range(3)]
    assert read(event({"choices": choices}))[2] == 6


@pytest.mark.parametrize(
    ("kind", "encoded", "reads"),
    [
        ("text/event-stream", False, True),
        ("Text/Event-Stream; charset=utf-8", False, True),
        ("application/json", False, True),
        ("application/json;charset=utf-8", False, True),
        ("application/problem+json", False, True),
        ("text/event-stream", True, False),
        ("application/json", True, False),
        ("application/x-ndjson", False, False),
        ("text/html", False, False),
        ("", False, False),
    ],
)
def test_json_and_events_are_read_unless_they_are_packed(kind: str, encoded: bool, reads: bool) -> None:
    assert (reader(kind, encoded) is not None) is reads
