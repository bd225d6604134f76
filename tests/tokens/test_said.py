"""The text that a response generates, told to whoever counts it: all of it, once, however the bytes are cut."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headgate.tokens import KEPT, Reader, Said, plain, reader
from tokens.feeding import cut

WORDS = st.text(st.sampled_from('ab "\\\n\t/üß中😀'), max_size=12)


def of(kind: str = "text/event-stream") -> tuple[Reader, Said]:
    said = Said()
    found = reader(kind, encoded=False, said=said)
    assert found is not None
    return found, said


def text_of(said: Said) -> str:
    return plain(said.kept.decode("utf-8", "replace"))


def event(document: Any, ascii_only: bool) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=ascii_only).encode() + b"\n\n"


def chat(word: str, ascii_only: bool) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": word}}]}, ascii_only)


def claude(word: str, ascii_only: bool) -> bytes:
    return event(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}, ascii_only
    )


@given(st.lists(WORDS, max_size=30), st.booleans(), st.sampled_from([chat, claude]), st.lists(st.integers(0, 5_000)))
def test_a_stream_tells_all_that_it_says_however_its_bytes_are_cut(words, ascii_only, shape, places):
    found, said = of()
    for piece in cut(b"".join([shape(word, ascii_only) for word in words]), places):
        found.fed(piece)
    assert text_of(said) == "".join(words)
    assert found.text == len("".join(words).encode())


@given(st.lists(WORDS, max_size=30), st.booleans(), st.integers(1, 30))
def test_parts_that_are_read_together_tell_the_same(words, ascii_only, together):
    found, said = of()
    parts = [chat(word, ascii_only) for word in words]
    for at in range(0, len(parts), together):
        found.fed_all(parts[at : at + together])
    assert text_of(said) == "".join(words)


@given(WORDS, st.booleans(), st.lists(st.integers(0, 2_000)))
def test_a_body_tells_what_it_says(word, ascii_only, places):
    found, said = of("application/json")
    document = {"id": "x", "choices": [{"message": {"content": word, "refusal": None}}, {"text": "more"}]}
    for piece in cut(json.dumps(document, ensure_ascii=ascii_only).encode(), places):
        found.fed(piece)
    assert text_of(said) == word + "more"


def test_what_is_reported_is_forgotten():
    found, said = of()
    found.fed(chat("one two", ascii_only=False))
    report = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    found.fed(event(report, ascii_only=False))
    assert not said.kept
    found.fed(chat("three", ascii_only=False))
    assert text_of(said) == "three"
    body, said = of("application/json")
    body.fed(b'{"usage": {"prompt_tokens": 3, "completion_tokens": 2}, "choices": [{"text": "one two"}]}')
    assert not said.kept and body.text == 0


def test_an_event_of_any_size_tells_its_text_if_it_is_one():
    found, said = of()
    word = "long " * 14_000  # more than is read as one event
    found.fed(chat(word, ascii_only=False))
    assert text_of(said) == word[: len(said.kept)] and len(said.kept) + said.beyond == len(word)
    found, said = of()
    found.fed(b'data: {"choices":[{"delta":{"content":"' + b"x" * 70_000 + b"\n\n")
    assert (len(said.kept), said.beyond) == (0, 0), "an event that never became whole"


def test_no_more_is_kept_than_waits_to_be_counted_and_nothing_is_lost():
    found, said = of()
    for _ in range(1_000):
        found.fed(chat("a hundred" * 11, ascii_only=False))
    assert KEPT <= len(said.kept) <= KEPT + 99
    assert len(said.kept) + said.beyond == found.text == 99_000


def test_a_copy_stays_as_it_was():
    found, said = of()
    found.fed(chat("one", ascii_only=False))
    before = said.copy()
    found.fed(chat(" two", ascii_only=False))
    assert (text_of(before), text_of(said)) == ("one", "one two")


def test_halves_of_a_pair_are_no_text_and_two_halves_that_come_apart_are_one_sign():
    assert plain(r"\ud83d") == plain(r"\ude00") == "\ufffd"
    assert plain(r"\ud83d" + r"\ude00") == "😀"
    assert plain(r"\\u4e2d") == r"\u4e2d"
    assert plain("a\\") == "a\\", "cut in the middle of an escape"
