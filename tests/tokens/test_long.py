"""However long an event or a body is, it is read, and no more of it is kept than is needed."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from headgate.tokens import Hiding, Usage
from headgate.tokens.reading import Streamed
from headgate.tokens.sse import HELD
from tokens.feeding import of, read, seen
from tokens.transcripts import OPENAI, OPENAI_USAGE, RESPONSE_USAGE, chat, event


def test_an_event_that_is_too_long_to_be_kept_is_read_all_the_same() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "usage " * (HELD // 5)}]}
    data = {"type": "response.completed", "response": {"output": [item], "usage": RESPONSE_USAGE}}
    expected = Usage(input=37, cached=30, output=11, reasoning=6), True, 0
    for end in ("\n", "\r\n", "\r"):
        long = event(data, "response.completed", end)
        for size in (len(long), 65_536, 4_096, 999):
            assert read(*[long[at : at + size] for at in range(0, len(long), size)]) == expected
        tail = len(long) - 600
        for at in range(tail, len(long)):
            assert read(long[:at], long[at:]) == expected


@pytest.mark.parametrize("word", ["a", "中", "\n", "😀", '"'])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_text_counts_alike_in_a_long_event(word: str, ascii_only: bool) -> None:
    text = word * (HELD // len(word.encode()) + 1)
    for data in ({"type": "x", "delta": text}, {"choices": [{"delta": {"role": "assistant", "content": text}}]}):
        long = f"data: {json.dumps(data, ensure_ascii=ascii_only)}\n\n".encode()
        for size in (len(long), 1_021):
            assert read(*[long[at : at + size] for at in range(0, len(long), size)])[2] == len(text.encode())


def test_a_long_event_that_repeats_what_was_generated_counts_nothing() -> None:
    text = "x" * (HELD + 1)
    assert read(event({"type": "response.output_text.done", "text": text}))[2] == 0
    assert read(event({"type": "response.created", "response": {"instructions": text, "text": text}}))[2] == 0


def test_of_an_event_one_piece_waits_for_the_next_and_no_more_of_them() -> None:
    """Else each of many pieces would be put together with all before it: single bytes would take hours."""
    found, text = Streamed(), said("a word", "\n")
    for at in range(len(text) - 1):
        found.fed(text[at : at + 1])
        assert len(found._first) <= 1
    found.fed(text[-1:])
    assert seen(found) == (Usage(), False, 6)
    found.fed(b"data: " + b"x" * HELD)
    assert found._first == b"", "what is too long to be kept is not"


def said(word: str, end: str) -> bytes:
    return event({"choices": [{"delta": {"content": word}, "finish_reason": None}]}, "", end)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_that_are_cut_anywhere_in_two_are_known_by_what_they_have_in_common(end: str) -> None:
    words = ["one", "two and", "\n", "three"]
    events = [said(word, end) for word in words] * 3
    for at in range(1, len(min(events, key=len))):
        found = of()
        for one in events:
            found.fed(one[:at])
            found.fed(one[at:])
        assert seen(found) == (Usage(), False, 3 * len("".join(words)))


LONG = 64 * 1024 * 1024
SHORTER = 16 * 1024 * 1024
"""Bytes of lines without an end."""

KEPT = 4 * 1024 * 1024
"""Bytes that may be allocated meanwhile: many times what is, a sixteenth of the line."""

BLOCK = 256 * 1024


def most_kept(pieces: Iterator[bytes], fed: Callable[[bytes], object]) -> int:
    """The most bytes that were allocated while they were fed, but for the piece itself and what came of it."""
    tracemalloc.start()
    try:
        for piece in pieces:
            fed(piece)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def lines(first: bytes, filler: bytes, last: bytes, size: int = LONG) -> Iterator[bytes]:
    """A long line in pieces."""
    yield first
    block = filler * (BLOCK // len(filler))
    for _ in range(size // len(block)):
        yield block
    yield last


REPORTED = f',"usage":{json.dumps(OPENAI_USAGE)}}}'.encode()


@pytest.mark.parametrize(
    ("first", "filler", "last"),
    [
        (b'{"choices":[],"x":"', b"a", b'"'),
        (b'{"choices":[],"x":[', b"0.0123456789,", b"0]"),
        (b'{"choices":[],"x":', b"[", b"]" * SHORTER),
        (b'{"choices":[],"x":[', b'{"a":[{"b":"c"}]},', b"0]"),
        (b'{"choices":[],"x"', b" ", b":0"),
        (b'{"', b"usage", b'":0'),
    ],
    ids=["a string", "numbers", "brackets", "objects", "blanks", "a name"],
)
def test_a_line_of_many_mebibytes_is_read_and_not_kept(first: bytes, filler: bytes, last: bytes) -> None:
    for kind, before, after in (("text/event-stream", b"data: ", b"\n\n"), ("application/json", b"", b"")):
        found = of(kind)
        spare = len(last) + len(REPORTED)
        pieces = lines(before + first, filler, last + REPORTED + after, LONG if filler == b"a" else SHORTER)
        assert most_kept(pieces, found.fed) < KEPT + 2 * spare
        assert found.usage == OPENAI


def test_a_line_that_is_no_data_is_not_kept() -> None:
    for before in (b": ", b"event: ", b"x"):
        found = of()
        assert most_kept(lines(before, b"data: ", b"\n\n"), found.fed) < KEPT
        found.fed(chat())
        assert seen(found) == (OPENAI, True, 0)


def test_what_comes_in_one_piece_is_not_copied() -> None:
    line = b'data: {"x":"' + b"a" * LONG + b'"' + REPORTED + b"\n\n"
    for piece in (line, memoryview(line)):
        found = of()
        assert most_kept(iter([piece]), found.fed) < KEPT  # type: ignore[list-item, arg-type]
        assert found.usage == OPENAI


def test_what_may_be_hidden_is_not_kept_when_it_is_long() -> None:
    hiding, size = Hiding(), 0

    def fed(piece: bytes) -> None:
        nonlocal size
        size += len(hiding.fed(piece))

    assert most_kept(lines(b"data: ", b'{"usage":', b"\n\n"), fed) < KEPT
    assert size == sum(map(len, lines(b"data: ", b'{"usage":', b"\n\n")))
