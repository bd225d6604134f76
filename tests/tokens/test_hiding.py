"""One chunk is hidden, the one that nobody asked for, and every other byte comes out as it went in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.tokens import Hiding
from headgate.tokens.hiding import HELD
from tokens.feeding import cut
from tokens.transcripts import OPENAI_USAGE, STREAMS, chat, chunk, event, messages

EXTRA = chunk(None, usage=OPENAI_USAGE)


def through(*pieces: bytes) -> bytes:
    hiding = Hiding()
    return b"".join([hiding.fed(piece) for piece in pieces]) + hiding.closed()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_chunk_is_hidden_wherever_the_stream_is_cut(end: str) -> None:
    data, extra = chat().replace(b"\n", end.encode()), EXTRA.replace(b"\n", end.encode())
    expected = data.replace(extra, b"")
    assert len(expected) == len(data) - len(extra)
    for at in range(len(data) + 1):
        assert through(data[:at], data[at:]) == expected
    assert through(*[data[at : at + 1] for at in range(len(data))]) == expected


@pytest.mark.parametrize(
    "event",
    [
        EXTRA.replace(b'"usage"', b'"\\u0075sage"'),
        EXTRA.replace(b',"', b',\ndata: "'),
        EXTRA.replace(b'"usage":', b'"usage":\ndata:\ndata: '),
        EXTRA.replace(b"data:", b"id: 7\nevent: message\ndata:"),
        EXTRA.replace(b"}\n\n", b"}\nid: 7\n\n"),
        EXTRA.replace(b"data: ", b"data:"),
        EXTRA.replace(b"\n", b"\r\n"),
        EXTRA.replace(b"\n\n", b"\r\r"),
        EXTRA.replace(b"\n\n", b"\n\r\n"),
        EXTRA.replace(b"\n\n", b"\n\r"),
    ],
)
def test_it_is_known_however_it_is_written(event: bytes) -> None:
    before, after = chat(asked=False), b"data: [DONE]\n\n"
    data = before + event + after
    for at in range(len(data) + 1):
        assert through(data[:at], data[at:]) == before + after, data[at - 20 : at]


def test_it_is_hidden_first_and_last_in_a_stream() -> None:
    assert through(EXTRA) == b""
    assert through(EXTRA[:-1]) == through(EXTRA[:-2]) == b"", "without its empty line some clients take it"
    assert through(b"\xef\xbb\xbf\n" + EXTRA + b": bye\n\n") == b"\xef\xbb\xbf\n: bye\n\n"
    assert through(EXTRA + EXTRA + b"\n\n" + EXTRA) == b"\n\n"


@pytest.mark.parametrize("name", STREAMS)
def test_other_streams_come_out_as_they_went_in(name: str) -> None:
    data = STREAMS[name][0].replace(EXTRA, b"")
    for at in range(len(data) + 1):
        assert through(data[:at], data[at:]) == data


@pytest.mark.parametrize(
    "data",
    [
        chunk({"content": "x"}, usage=OPENAI_USAGE),
        chunk({}, "stop", usage=OPENAI_USAGE),
        chunk(None),
        chunk(None, usage=None),
        chunk(None, usage=[OPENAI_USAGE]),
        event({"usage": OPENAI_USAGE}),
        event({"choices": None, "usage": OPENAI_USAGE}),
        event([{"choices": [], "usage": OPENAI_USAGE}]),
        event({"choices": [{"delta": {"content": json.dumps({"choices": [], "usage": {}})}}]}),
        event({"choices": [], "response": {"usage": OPENAI_USAGE}}),
        EXTRA.replace(b"data:", b":"),
        EXTRA.replace(b"data:", b"event:"),
        EXTRA.replace(b"}\n\n", b"\n\n"),
        EXTRA.replace(b'"usage":', b'"usage":{},"usage":null,"used":'),
        event({"choices": [], "usage": OPENAI_USAGE, "error": {"message": "overloaded"}}),
        event({"choices": [], "usage": OPENAI_USAGE, "prompt_filter_results": []}),
        messages(),
        b"\xff\xfe\n\n\r\r\ndata",
    ],
)
def test_what_is_not_the_chunk_is_let_through(data: bytes) -> None:
    for at in range(len(data) + 1):
        assert through(data[:at], data[at:]) == data


def test_no_more_is_held_back_than_an_event_that_has_not_ended() -> None:
    hiding, got = Hiding(), 0
    first = chat(asked=False)
    for sent in range(1, len(first) + 1):
        got += len(hiding.fed(first[sent - 1 : sent]))
        ended = first.rfind(b"\n\n", 0, sent) + 2 if b"\n\n" in first[:sent] else 0
        assert got == ended


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_a_long_event_is_let_through_as_it_comes(end: bytes) -> None:
    long = b'data: {"choices":[],"usage":{},"x":"' + b"x" * HELD + b'"}' + end
    data = long + EXTRA + b"data: [DONE]\n\n"
    for size in (len(data), 4_096, 7):
        assert through(*[data[at : at + size] for at in range(0, len(data), size)]) == long + b"data: [DONE]\n\n"
    for at in range(len(long) - 8, len(long) + 8):
        assert through(data[:at], data[at:]) == long + b"data: [DONE]\n\n"
        assert through(data[: HELD + 20], data[HELD + 20 : at], data[at:]) == long + b"data: [DONE]\n\n"
    hiding = Hiding()
    assert hiding.fed(long[: HELD + 1]) == long[: HELD + 1]
    assert hiding.fed(b"y") == b"y"


@given(
    parts=st.lists(
        st.sampled_from(
            [b"\n", b"\r", b"\r\n", b"\n\n", EXTRA, EXTRA[:-1], EXTRA[:-2], b"data: ", b"x", b'{"usage":', b": c",
             b"\xef\xbb\xbf", chunk({"content": "a"}), b"data: [DONE]\n\n", EXTRA.replace(b"\n", b"\r")]
        ),
        max_size=10,
    ),
    places=st.lists(st.integers(0, 3_000), max_size=6),
)  # fmt: skip
def test_whatever_is_sent_the_cuts_do_not_matter(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts)
    assert through(*cut(data, places)) == through(data) == through(*[data[at : at + 1] for at in range(len(data))])
    if EXTRA[6:-2] not in data:
        assert through(data) == data
