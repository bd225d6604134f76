"""A stream is asked to tell its usage, and its request is otherwise left as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.tokens import Unread, announced, with_usage


def asking(body: bytes) -> bytes | None:
    """The body as it is handed on, of a client that did not ask."""
    found = with_usage(body)
    assert found is None or found.unasked
    return None if found is None else found.body


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
    assert asking(body) == asks
    assert announced(json.loads(asks)) == (True, True)
    assert asking(asks) is None, "it asks already"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"null",
        b'"stream"',
        b'{"messages":[]}',
        b'{"stream":false,"messages":[]}',
        b'{"stream":null,"messages":[]}',
        b'{"stream":0,"messages":[]}',
        b'{"stream":"","messages":[]}',
        b'{"stream":true,"input":"Hi","prompt":{"id":"pmpt_1"}}',
        b'{"stream":true,"stream":false,"messages":[]}',
        b'{"stream":true,"input":"Hi"}',
        b'{"stream":true,"messages":"Hi"}',
        b'{"stream":true,"messages":[],"stream_options":{"include_usage":true}}',
    ],
)
def test_what_is_no_streaming_completion_or_asks_already_stays_as_it_is(body: bytes) -> None:
    assert with_usage(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"stream":true,"messages":[]',
        b'{"stream":true,"messages":[],}',
        b'{"stream":true,"messages":[]} {}',
        b'{"stream" true,"messages":[]}',
        b'{"stream":true "messages":[]}',
        b"{stream:true}",
        b'{"stream":true,"messages":["\xff"]}',
        b'{"stream":true,"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"stream":true,"messages":["\n"]}',
    ],
)
def test_what_cannot_be_read_is_told(body: bytes) -> None:
    with pytest.raises(Unread):
        with_usage(body)


@pytest.mark.parametrize("stream", ["1", '"true"', '"false"', "[]", "2e0", '"0"'])
def test_whatever_some_reader_takes_for_a_stream_is_asked(stream: str) -> None:
    body = f'{{"stream":{stream},"messages":[]}}'.encode()
    assert asking(body) == b"{" + OPTIONS + b"," + body[1:]


@pytest.mark.parametrize("options", ["[]", '"x"', "null", "0", '{"include_usage":0}', "{}"])
def test_options_that_some_reader_overlooks_are_put_right(options: str) -> None:
    body = b'{"messages":[],"stream_options":%s,"stream":true}' % options.encode()
    assert asking(body) == b'{"messages":[],"stream_options":{"include_usage":true},"stream":true}'


@pytest.mark.parametrize("wish", ['"yes"', "1", '"true"', "[]"])
def test_who_asks_in_words_that_some_readers_take_is_understood_and_sees_what_it_asked_for(wish: str) -> None:
    found = with_usage(b'{"messages":[],"stream_options":{"include_usage":%s},"stream":true}' % wish.encode())
    assert found == (b'{"messages":[],"stream_options":{"include_usage":true},"stream":true}', False)


@pytest.mark.parametrize("extra", ['"system":"Be kind"', '"anthropic_version":"x"', '"input":"Hi"'])
def test_a_member_that_belongs_to_another_api_spares_nobody(extra: str) -> None:
    body = f'{{{extra},"stream":true,"messages":[]}}'.encode()
    assert asking(body) == b"{" + OPTIONS + b"," + body[1:]


@pytest.mark.parametrize("prompt", ['"Say"', '["Say"]', "[1,2]"])
def test_the_older_kind_of_completion_is_asked_too(prompt: str) -> None:
    body = f'{{"prompt":{prompt},"stream":true}}'.encode()
    assert asking(body) == b"{" + OPTIONS + b"," + body[1:]


TEXT = '{"stream":true,"messages":["\u4e2d"]}'


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_body_stays_in_the_encoding_that_json_is_read_in(encoding: str, mark: str) -> None:
    after = asking((mark + TEXT).encode(encoding))
    assert after == (mark + "{" + OPTIONS.decode() + "," + TEXT[1:]).encode(encoding)
    assert announced(json.loads(after)) == (True, True)


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
    after = asking(body.encode("utf-8", "surrogatepass"))
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
