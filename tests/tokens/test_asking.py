"""A stream is asked to tell its usage, and its request is otherwise left as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.tokens import announced, with_usage

OPTIONS = b'"stream_options":{"include_usage":true}'


@pytest.mark.parametrize(
    ("body", "asks"),
    [
        (b'{"stream":true,"messages":[]}', b"{" + OPTIONS + b',"stream":true,"messages":[]}'),
        (
            b' {\n "messages": [],\t"stream": true }\r\n',
            b" {" + OPTIONS + b',\n "messages": [],\t"stream": true }\r\n',
        ),
        (
            b'{"stream":true,"messages":[],"stream_options":{}}',
            b'{"stream":true,"messages":[],"stream_options":{"include_usage":true}}',
        ),
        (
            b'{"stream":true,"messages":[],"stream_options": { } }',
            b'{"stream":true,"messages":[],"stream_options": {"include_usage":true } }',
        ),
        (
            b'{"stream":true,"messages":[],"stream_options":null}',
            b'{"stream":true,"messages":[],"stream_options":{"include_usage":true}}',
        ),
        (
            b'{"stream":true,"stream_options":{"include_obfuscation":false},"messages":[]}',
            b'{"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false},"messages":[]}',
        ),
        (
            b'{"stream":true,"stream_options":{"a":{"b":"}"},"include_usage" : false},"messages":[]}',
            b'{"stream":true,"stream_options":{"a":{"b":"}"},"include_usage" : true},"messages":[]}',
        ),
        (
            b'{"stream":true,"stream_options":{"include_usage":true,"include_usage":null},"messages":[]}',
            b'{"stream":true,"stream_options":{"include_usage":true,"include_usage":true},"messages":[]}',
        ),
        (
            b'{"stream_options":{"include_usage":true},"stream":true,"messages":[],"stream_options":{}}',
            b'{"stream_options":{"include_usage":true},"stream":true,"messages":[],'
            b'"stream_options":{"include_usage":true}}',
        ),
        (
            b'{"stream":true,"messages":[],"\\u0073tream_options":{"\\u0069nclude_usage":false}}',
            b'{"stream":true,"messages":[],"\\u0073tream_options":{"\\u0069nclude_usage":true}}',
        ),
        (
            b'{"stream":false,"stream":true,"messages":[]}',
            b"{" + OPTIONS + b',"stream":false,"stream":true,"messages":[]}',
        ),
        (
            '{"stream":true,"messages":[{"content":"\\"stream_options\\":{ 中"}]}'.encode(),
            b"{" + OPTIONS + ',"stream":true,"messages":[{"content":"\\"stream_options\\":{ 中"}]}'.encode(),
        ),
        (
            b'{"seed":1e400,"stream":true,"messages":[]}',
            b"{" + OPTIONS + b',"seed":1e400,"stream":true,"messages":[]}',
        ),
    ],
)
def test_the_wish_is_put_in_and_nothing_else_is_changed(body: bytes, asks: bytes) -> None:
    assert with_usage(body) == asks
    assert announced(json.loads(asks)) == (True, True)
    assert with_usage(asks) is None, "it asks already"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"stream"',
        b'{"stream":true,"messages":[]',
        b'{"stream":true,"messages":[],}',
        b'{"stream":true,"messages":[]} {}',
        b'{"stream" true,"messages":[]}',
        b'{"stream":true "messages":[]}',
        b"{stream:true}",
        b'{"messages":[]}',
        b'{"stream":false,"messages":[]}',
        b'{"stream":1,"messages":[]}',
        b'{"stream":"true","messages":[]}',
        b'{"stream":true,"stream":false,"messages":[]}',
        b'{"stream":true,"input":"Hi"}',
        b'{"stream":true,"messages":"Hi"}',
        b'{"stream":true,"messages":[],"system":"Be kind","max_tokens":9}',
        b'{"stream":true,"messages":[],"anthropic_version":"bedrock-2023-05-31"}',
        b'{"stream":true,"messages":[],"stream_options":[]}',
        b'{"stream":true,"messages":[],"stream_options":"x"}',
        b'{"stream":true,"messages":[],"stream_options":{"include_usage":true}}',
        b'{"stream":true,"messages":[],"stream_options":{"include_usage":"yes"}}',
        b'{"stream":true,"messages":[],"stream_options":{"include_usage":0}}',
        b'\xef\xbb\xbf{"stream":true,"messages":[]}',
        b'{"stream":true,"messages":["\xff"]}',
        '{"stream":true,"messages":[]}'.encode("utf-16"),
        b'{"stream":true,"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"stream":true,"messages":["\n"]}',
    ],
)
def test_what_is_no_streaming_chat_or_cannot_be_read_stays_as_it_is(body: bytes) -> None:
    assert with_usage(body) is None


@given(
    members=st.dictionaries(st.text(max_size=5), st.recursive(st.text() | st.booleans(), st.lists), max_size=4),
    options=st.none()
    | st.dictionaries(st.sampled_from(["a", "include_usage", "include_obfuscation"]), st.booleans()),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_the_members_are_those_that_it_had(
    members: dict[str, Any], options: dict[str, bool] | None, indent: int | None, ascii_only: bool
) -> None:
    asked = {"stream": True, "messages": ["{"], "stream_options": options}
    before = {**members, **asked} if options is not None else {**asked, **members}
    body = json.dumps(before, indent=indent, ensure_ascii=ascii_only)
    after = with_usage(body.encode("utf-8", "surrogatepass"))
    if announced(before).asks_usage:
        assert after is None
    else:
        assert after is not None
        assert json.loads(after) == {**before, "stream_options": {**(options or {}), "include_usage": True}}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, (False, False)),
        ({"stream": True}, (True, False)),
        ({"stream": "true"}, (False, False)),
        ({"stream": True, "stream_options": {"include_usage": True}}, (True, True)),
        ({"stream": True, "stream_options": {"include_usage": "1"}}, (True, False)),
        ({"stream": True, "stream_options": [True]}, (True, False)),
    ],
)
def test_a_request_announces_what_its_members_say(members: dict[str, Any], expected: tuple[bool, bool]) -> None:
    assert announced(members) == expected
