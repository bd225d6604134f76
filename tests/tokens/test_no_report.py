"""What only looks like a report is none, and a report is one however it is spelt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.tokens import Usage
from headgate.tokens.sse import HELD
from tokens.feeding import body, read
from tokens.transcripts import OPENAI, OPENAI_USAGE, event

FAKE = '"usage":{"prompt_tokens":999,"completion_tokens":999,"input_tokens":999,"output_tokens":999}'


@pytest.mark.parametrize(
    "data",
    [
        {"choices": [{"delta": {"content": f"{{{FAKE}}}"}}]},
        {"choices": [{"delta": {"content": f'"}}],{FAKE}'}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": f"{{{FAKE}}}"}}]}}]},
        {"choices": [{"delta": json.loads(f"{{{FAKE}}}")}]},
        {"content_block": {"type": "tool_use", "input": json.loads(f"{{{FAKE}}}")}},
        {"metadata": json.loads(f"{{{FAKE}}}"), "usage": None},
        {"message": {"content": [json.loads(f"{{{FAKE}}}")]}},
        {"response": {"metadata": json.loads(f"{{{FAKE}}}"), "usage": None}},
        {"message": {"message": json.loads(f"{{{FAKE}}}")}},
        [json.loads(f"{{{FAKE}}}")],
        {"usages": {"prompt_tokens": 999}, "Usage": {"prompt_tokens": 999}, "usage\u0000": {"prompt_tokens": 999}},
        {"usage": [{"prompt_tokens": 999}]},
        {"usage": "{}"},
        {"usage": {"prompt_tokens": "999", "completion_tokens": 99.9}},
        {"a": "\\", "b": f'\\",{FAKE}'},
    ],
)
def test_what_only_looks_like_a_report_is_none(data: Any) -> None:
    for ascii_only in (True, False):
        text = json.dumps(data, ensure_ascii=ascii_only)
        long = json.dumps({"pad": ["x" * HELD], **data} if isinstance(data, dict) else [data, "x" * HELD])
        assert read(event(text))[0] == read(event(long))[0] == Usage()
        if isinstance(data, list) or not {"message", "response"} & data.keys():
            assert body(text.encode())[0] == Usage()


def test_a_body_has_no_report_but_its_own() -> None:
    for name in ("message", "response"):
        assert body(json.dumps({name: {"usage": OPENAI_USAGE}}).encode())[0] == Usage()


@pytest.mark.parametrize("name", ["usage", "\\u0075sage", "us\\u0061ge", "\\u0075\\u0073\\u0061\\u0067\\u0065"])
def test_a_name_means_the_same_however_it_is_spelt(name: str) -> None:
    text = f'{{"choices":[],"{name}":{json.dumps(OPENAI_USAGE)}}}'.encode()
    assert read(b"data: " + text + b"\n\n") == body(text) == (OPENAI, True, 0)
    for at in range(len(text)):
        assert body(text[:at], text[at:]) == (OPENAI, True, 0)
    held = b'{"mess\\u0061ge":' + text + b"}"
    assert read(b"data: " + held + b"\n\n")[0] == OPENAI


def test_of_a_member_named_twice_the_last_counts() -> None:
    for first, last, usage in (
        (FAKE, '"usage":{"prompt_tokens":7}', Usage(input=7)),
        (FAKE, '"usage":null', Usage()),
    ):
        text = f"{{{first},{last}}}"
        long = f'{{{first},"pad":"{"x" * HELD}",{last}}}'
        assert read(event(text))[0] == read(event(long))[0] == body(text.encode())[0] == usage
        assert read(event(f'{{"response":{{{FAKE}}},"response":{{{last}}}}}'))[0] == usage


@pytest.mark.parametrize("number", ["1" * 5_000, "-" + "1" * 5_000, "1e400", "NaN", "9007199254740992", "1.0", "01"])
def test_a_number_that_cannot_be_counted_is_not_reported_and_hides_no_other(number: str) -> None:
    text = f'{{"usage":{{"prompt_tokens":{number},"completion_tokens":3}}}}'
    assert read(event(text))[0] in {Usage(output=3), Usage()}  # `01` is no JSON
    assert body(text.encode())[0] in {Usage(output=3), Usage()}
    if number != "01":
        assert read(event(text))[0] == body(text.encode())[0] == Usage(output=3)


def test_an_event_nested_too_deeply_for_python_is_read_nevertheless() -> None:
    text = f'{{"choices":{"[" * 20_000}{"]" * 20_000},"usage":{{"prompt_tokens":7}}}}'
    assert read(event(text))[0] == body(text.encode())[0] == Usage(input=7)


def test_an_event_that_is_no_json_reports_nothing() -> None:
    for text in ('{"usage":{"prompt_tokens":7}', '"usage":{"prompt_tokens":7}', '{"usage":{"prompt_tokens":7}]'):
        assert read(event(text))[0] == Usage()
