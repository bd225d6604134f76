"""The usage of a body in JSON is read without keeping the body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.tokens import Usage
from tokens.feeding import body, cut
from tokens.transcripts import MESSAGE, MESSAGE_USAGE, OPENAI, OPENAI_USAGE

BODIES: dict[str, tuple[Any, Usage]] = {
    "chat": (
        {"object": "chat.completion", "choices": [{"message": {"content": 'a "usage": {"x'}}], "usage": OPENAI_USAGE},
        OPENAI,
    ),
    "usage first": ({"usage": OPENAI_USAGE, "choices": [{"message": {"content": "x" * 300}}]}, OPENAI),
    "message": (
        {
            "type": "message",
            "content": [{"type": "text", "text": "Hi"}],
            "usage": {**MESSAGE_USAGE, "output_tokens": 15},
        },
        MESSAGE._replace(reasoning=None),
    ),
    "embeddings": (
        {"data": [{"embedding": [0.5, -0.25] * 99}], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        Usage(input=8),
    ),
    "nothing": ({}, Usage()),
    "an error": ({"error": {"message": "no", "usage": OPENAI_USAGE}}, Usage()),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_body_is_read_wherever_it_is_cut(name: str, indent: int | None) -> None:
    data, usage = BODIES[name]
    text = json.dumps(data, indent=indent).encode()
    for at in range(len(text) + 1):
        assert body(text[:at], text[at:])[:2] == (usage, True)
    assert body(*[text[at : at + 1] for at in range(len(text))])[:2] == (usage, True)
    assert body(b"\xef\xbb\xbf \r\n" + text + b"\n")[:2] == (usage, True)
    assert not body(text[:-1])[1]


def test_a_body_without_a_report_has_text() -> None:
    for data in (
        {"choices": [{"message": {"role": "assistant", "content": "12345", "tool_calls": None}}]},
        {"content": [{"type": "text", "text": "123"}, {"type": "thinking", "thinking": "45"}]},
        {
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "12345"}]}],
            "text": {"format": {}},
        },
        {"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{...}"}}]}}]},
        {"choices": [{"text": "12345", "index": 0}]},
    ):
        text = json.dumps(data).encode()
        for at in range(len(text) + 1):
            assert body(text[:at], text[at:]) == (Usage(), True, 5)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.sampled_from(["usage", "text", '"usage":{', "\\", "\u0075sage", "content"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=3) | st.sampled_from(["text", "usage", "content"]), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(
    before=st.dictionaries(st.text(max_size=8).filter(lambda name: name != "usage"), JSON_VALUES, max_size=4),
    after=st.dictionaries(st.text(max_size=8).filter(lambda name: name != "usage"), JSON_VALUES, max_size=4),
    tokens=st.integers(0, 2**53 - 1),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    places=st.lists(st.integers(0, 5_000), max_size=6),
)
def test_whatever_stands_around_a_report_it_is_found(
    before: dict[str, Any],
    after: dict[str, Any],
    tokens: int,
    indent: int | None,
    ascii_only: bool,
    places: list[int],
) -> None:
    rest = {name: value for name, value in after.items() if name not in before}
    text = json.dumps(
        {**before, "usage": {"prompt_tokens": tokens}, **rest}, indent=indent, ensure_ascii=ascii_only
    ).encode("utf-8", "surrogatepass")
    assert body(*cut(text, places)) == body(text)
    assert body(text)[:2] == (Usage(input=tokens), True)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'"usage"', b"\xff\xfe{\0}\0", b"<html>", b"}", b'{"a" 1}'])
def test_what_is_no_object_reports_nothing(data: bytes) -> None:
    assert body(data + b'{"usage":{"prompt_tokens":1}}')[:2] != (Usage(input=1), True) or data == b""


def test_what_follows_a_body_is_not_its_own() -> None:
    assert body(b'{"usage":{"prompt_tokens":1}}\n{"usage":{"prompt_tokens":2}}')[0] == Usage(input=1)


def test_a_report_of_many_kilobytes_is_none() -> None:
    report = {"prompt_tokens": 1, "more": "x" * 20_000}
    assert body(json.dumps({"usage": report}).encode()) == (Usage(), True, 0)
