"""The usage of a stream is read however its bytes are framed and cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.tokens import Usage
from tokens.feeding import body, cut, of, read, seen
from tokens.transcripts import MESSAGE, OPENAI, OPENAI_USAGE, STREAMS, chat, chunk, messages


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_read_as_its_api_writes_it(name: str) -> None:
    data, *expected = STREAMS[name]
    assert read(data) == tuple(expected)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_may_be_cut_anywhere(name: str) -> None:
    data, *expected = STREAMS[name]
    for at in range(len(data) + 1):
        assert read(data[:at], data[at:]) == tuple(expected), data[at - 20 : at]
    assert read(*[data[at : at + 1] for at in range(len(data))]) == tuple(expected)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_lines_may_end_in_any_way(end: str) -> None:
    data = messages().replace(b"\n", end.encode())
    for at in range(len(data) + 1):
        assert read(data[:at], data[at:]) == (MESSAGE, True, 0)


FRAMING = {
    "a byte order mark": b"\xef\xbb\xbf" + chat(),
    "comments": b": hello\n\n" + chat().replace(b"\n\n", b"\n\n: ping\n\n"),
    "comments within": chat().replace(b"data:", b":keep alive\ndata:"),
    "no blank": chat().replace(b"data: ", b"data:"),
    "other fields": chat().replace(b"data:", b"id: 7\nretry: 100\nevent: message\nfoo\ndata:"),
    "fields after": chat().replace(b"}\n\n", b"}\nid: 7\nevent: message\n\n"),
    "empty lines": chat().replace(b"\n\n", b"\n\n\n\n\n"),
    "data in many lines": chat().replace(b',"', b',\ndata: "').replace(b':{', b":\r\ndata:{\r\ndata:"),
    "data with empty lines": chat().replace(b"data: {", b"data\ndata:\ndata: {"),
    "line ends in a mixture": chat().replace(b"}\n\n", b"}\r\n\n").replace(b"]\n\n", b"]\r\r"),
    "blanks": chat().replace(b'"usage":', b'"usage" :\t').replace(b"data: ", b"data:   "),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMING)
def test_a_stream_may_be_framed_in_any_way(name: str) -> None:
    data = FRAMING[name]
    assert read(data) == (OPENAI, True, 0)
    for at in range(len(data) + 1):
        assert read(data[:at], data[at:]) == (OPENAI, True, 0), data[at - 20 : at + 20]


def test_an_event_without_its_empty_line_is_none() -> None:
    data = chunk(None, usage=OPENAI_USAGE)
    assert read(data[:-1])[0] == Usage()
    assert read(data[:-1], b"\n")[0] == OPENAI


def test_data_in_another_field_or_a_comment_is_none() -> None:
    report = json.dumps({"choices": [], "usage": OPENAI_USAGE}).encode()
    for line in (b": ", b"event: ", b"id: ", b"dat: ", b"data2: ", b" data: ", b"DATA: "):
        assert read(line + report + b"\n\n")[0] == Usage()


@given(
    parts=st.lists(
        st.sampled_from(
            [
                b"\n", b"\r", b"\r\n", b"data:", b"data: ", b"data", b"event: x", b": c", b"\xef\xbb\xbf", b"id",
                b'{"usage":{"input_tokens":3}}', b'{"usage":', b'{"output_tokens":4}', b"}", b'{"delta":"abc"}',
                b'{"\\u0075sage":{"prompt_tokens":5}}', b"[DONE]", "\u4e2d".encode(), b'{"type":"message_stop"}',
                b'{"delta":"a\\u4e2d"}', b'{"delta":"', b'"}', b"\xff",
            ]
        ),
        max_size=14,
    ),
    places=st.lists(st.integers(0, 400), max_size=6),
)  # fmt: skip
def test_whatever_is_fed_the_cuts_do_not_matter(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts)
    assert read(*cut(data, places)) == read(data) == read(*[data[at : at + 1] for at in range(len(data))])


@given(data=st.binary(max_size=300), places=st.lists(st.integers(0, 300), max_size=5))
def test_nothing_that_is_fed_is_an_error(data: bytes, places: list[int]) -> None:
    assert read(*cut(data, places)) == read(data)
    assert body(*cut(data, places)) == body(data)
    assert read(b"data: " + data + b"\n\n") == read(*cut(b"data: " + data + b"\n\n", places))


def test_a_view_of_memory_is_read_as_well() -> None:
    found = of()
    found.fed(memoryview(bytearray(chat())))
    assert seen(found) == (OPENAI, True, 0)
