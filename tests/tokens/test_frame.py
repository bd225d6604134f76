"""Events that differ in their words alone are read by comparison, and come to the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.tokens import Usage
from headgate.tokens.frame import LONGEST, frame_of
from headgate.tokens.reading import FRAMES, Streamed
from tokens.feeding import cut, of, read, seen
from tokens.transcripts import OPENAI_USAGE, STREAMS, chunk, event


def by_events(data: bytes) -> list[bytes]:
    return [part + b"\n\n" for part in data.split(b"\n\n")[:-1]]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_comes_event_by_event_is_read_alike(name: str) -> None:
    data, *expected = STREAMS[name]
    assert read(*by_events(data)) == tuple(expected)
    crlf = [part.replace(b"\n", b"\r\n") for part in by_events(data)]
    assert read(*crlf) == tuple(expected)


def test_the_words_of_a_frame_count_and_take_back_what_seemed_final() -> None:
    found = Streamed()
    found.fed(chunk({"content": "ab"}))
    found.fed(event({"choices": [], "usage": OPENAI_USAGE}))
    assert found.complete and found.text == 0
    found.fed(chunk({"content": ""}))
    assert found.complete
    found.fed(chunk({"content": "中文"}))
    assert (found.complete, found.text) == (False, 6)


@pytest.mark.parametrize(
    "data",
    [
        chunk({"content": "a"}, usage=OPENAI_USAGE),
        chunk({"content": "a", "reasoning": "b"}),
        chunk({"content": None}),
        chunk({"content": "a"}) * 2,
        chunk({"content": "a"})[:-1],
        chunk({"content": "a"}).replace(b"\n", b"\r"),
        event({"response": {"delta": {"content": "a"}}}),
        event({"text": "a"}),
        event({"delta": "a", "more": "x" * LONGEST}),
        b"\n" + chunk({"content": "a"}),
        b"\xef\xbb\xbf" + chunk({"content": "a"}),
    ],
)
def test_an_event_that_does_more_than_to_tell_one_text_is_no_frame(data: bytes) -> None:
    assert frame_of(data) is None


@pytest.mark.parametrize(
    "text", ["\n", "中", "\\", '"', '\\"usage', '{"usage":{"prompt_tokens":7}}', "😀", "é\u007f\u0800"]
)
def test_an_escaped_text_is_measured_as_it_is_meant(text: str) -> None:
    size = len(text.encode())
    for ascii_only in (True, False):
        data = f"data: {json.dumps({'delta': text}, ensure_ascii=ascii_only)}\n\n".encode()
        assert read(event({"delta": "ab"}), data) == (Usage(), False, 2 + size)
        assert read(data, event({"delta": "ab"}), data) == (Usage(), False, 2 + 2 * size)


def test_what_only_begins_and_ends_like_a_frame_is_not_read_as_one() -> None:
    first = event({"delta": "ab"})
    frame = frame_of(first)
    assert frame is not None and frame.size(first) == 2
    for between in (b'","usage":{"prompt_tokens":7},"x":"', b"\\", b'a"}\n\ndata: {"delta":"', b"\n", b"\r", b'"'):
        data = frame.before + between + frame.after
        assert frame.size(data) == -1
        assert read(first, data) == read(first + data)
    assert frame.size(frame.before[:-1] + frame.after) == -1
    assert frame.size(frame.before + b"x" * (LONGEST + 1) + frame.after) == -1


def test_a_stream_whose_events_are_numbered_is_soon_not_compared_any_more() -> None:
    found = of()
    assert isinstance(found, Streamed)
    for number in range(FRAMES * 2):
        found.fed(event({"delta": "ab", "sequence_number": number}))
    assert found._frames == 0
    assert seen(found) == (Usage(), False, FRAMES * 4)


EVENTS = st.one_of(
    st.text(max_size=6).map(lambda text: chunk({"content": text})),
    st.text(max_size=6).map(lambda text: f"data: {json.dumps({'delta': text}, ensure_ascii=False)}\n\n".encode()),
    st.sampled_from(
        [
            chunk({}, "stop"), chunk(None, usage=OPENAI_USAGE), chunk({"content": "a"}, usage=OPENAI_USAGE),
            b": ping\n\n", b"data: [DONE]\n\n", b'data: {"delta":"', b'ab"}\n\n', b"\n", b'data: {"delta":""}\n\n',
            b'data: {"delta":"a"}\r\n\r\n', b'data: {"delta":"b"}\r\n\r\n', b"event: x\n",
            b'data: {"delta":"ab"}\n\n',
        ]
    ),
)  # fmt: skip


@given(events=st.lists(EVENTS, max_size=12), places=st.lists(st.integers(0, 3_000), max_size=4))
def test_whatever_comes_comparing_changes_nothing(events: list[bytes], places: list[int]) -> None:
    data = b"".join(events)
    plain = Streamed()
    plain._frames = 0
    plain.fed(data)
    assert read(*events) == seen(plain) == read(data) == read(*cut(data, places))


PIECES = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["\\", '"', "\\\\", "\n", '","usage":{"completion_tokens":1},"x":"', "\u2028", "a" * (LONGEST + 1)]
    ),
)
RAW = st.sampled_from(
    [b'data: {"delta":"\\"}\n\n', b'data: {"delta":"a', b'"}\n\n', b'data: {"delta":"', b"\\", b'"']
)


@given(
    parts=st.lists(
        st.one_of(PIECES.map(lambda text: chunk({"content": text})), RAW, EVENTS), min_size=1, max_size=12
    ),
    first=st.integers(0, 12),
)
def test_parts_that_are_read_together_are_read_as_one_after_the_other(parts: list[bytes], first: int) -> None:
    alone, together = Streamed(), Streamed()
    for part in parts:
        alone.fed(part)
    for part in parts[:first]:
        together.fed(part)
    together.fed_all(parts[first:])
    assert seen(together) == seen(alone)


def test_many_events_of_one_frame_are_known_together() -> None:
    parts = [chunk({"content": f"word {number}"}) for number in range(30)]
    found = Streamed()
    found.fed(parts[0])
    found.fed_all(parts[1:])
    assert found._frame is not None
    assert found._frame.sizes(b"".join(parts), 30) == found.text == sum(len(f"word {n}") for n in range(30))
    assert found._frame.sizes(b"".join(parts), 29) == found._frame.sizes(b"".join([*parts, b": ping\n\n"]), 31) == -1
