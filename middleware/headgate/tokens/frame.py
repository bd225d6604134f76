"""What an event and the next one have in common: all but the words.

Law: an event is a *frame* around one piece of text, if it came as one, generates that piece and reports
nothing. Whatever begins and ends with the same bytes and has between them only what a JSON string may hold as it is,
reads the same but for how long the piece is; so that of a stream whose events differ in their words alone (OpenAI's
chat, Anthropic's messages) nearly all are known by three comparisons.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from headgate.tokens.sse import EVENT, EVENT_WITH_CR
from headgate.tokens.texts import TEXT, delta_in, text_size
from headgate.tokens.usage import may_report

LONGEST = 4_096
"""Bytes of a frame, and of its text: what is kept of a stream for this. Real ones have hundreds. Together they are
less than what is read as one event."""

PLAIN = re.compile(rb'[^"\\\r\n]*+').fullmatch
ESCAPED = re.compile(rb'(?:[^"\\\r\n]++|\\[^\r\n])*+').fullmatch
"""What may stand in a string: for itself, or after a backslash too. An end of a line would be one of the event's, and
a quote the string's; without those it is in no name, so that no report begins in it."""


class Frame(NamedTuple):
    """The bytes before and after the text, quotes included."""

    before: bytes
    after: bytes

    def size(self, data: bytes) -> int:
        """Bytes of the text that it has in `data`; -1 if that is not this frame with another text.

        >>> Frame(b'data: {"delta":"', b'"}').size(b'data: {"delta":"Hello"}')
        5
        """
        before, after = self
        if data.startswith(before) and data.endswith(after):
            # A frame that overlaps itself has its end before its beginning: there the expressions match nothing.
            start, end = len(before), len(data) - len(after)
            if end - start > LONGEST:
                return -1
            if PLAIN(data, start, end) is not None:
                return end - start
            if ESCAPED(data, start, end) is not None:
                return text_size(data[start:end])
        return -1

    def text(self, data: bytes) -> bytes:
        r"""The text, as it is escaped, of bytes that were found to be this frame once or several times.

        >>> Frame(b'{"', b'"}').text(b'{"Hel"}{"lo"}')
        b'Hello'
        """
        before, after = self
        return data[len(before) : len(data) - len(after)].replace(after + before, b"")

    def sizes(self, data: bytes, many: int) -> int:
        """Bytes of text in `many` events, one behind the other; -1 if they are not all this frame.

        >>> Frame(b'data: {"delta":"', b'"}\\n\\n').sizes(b'data: {"delta":"Hel"}\\n\\ndata: {"delta":"lo"}\\n\\n', 2)
        5
        """
        before, after = self
        if not (data.startswith(before) and data.endswith(after)):
            return -1
        texts = data[len(before) : len(data) - len(after)].split(after + before)
        if len(texts) != many or max(map(len, texts)) > LONGEST:
            return -1
        whole = b"".join(texts)
        if PLAIN(whole) is not None:
            return len(whole)
        # Each by itself: a backslash at the end of one would else seem to belong to the beginning of the next.
        return sum(map(text_size, texts)) if all(map(ESCAPED, texts)) else -1


def frame_of(data: bytes) -> Frame | None:
    r"""The frame of one whole event that generates text and reports nothing; None if there is not one piece of it.

    >>> frame_of(b'data: {"delta":"Hi"}\n\n')
    Frame(before=b'data: {"delta":"', after=b'"}\n\n')
    """
    event = (EVENT_WITH_CR if b"\r" in data else EVENT)(data)
    if event is None or not event.end() == len(data) <= LONGEST or data.count(b"\r") != data.count(b"\r\n"):
        return None
    start, end = event.span(1)
    delta = delta_in(data, start, end)
    if delta < 0 or may_report(data, start, end):
        return None
    texts = list(TEXT.finditer(data, delta, end))
    if len(texts) != 1:
        return None
    return Frame(data[: texts[0].start(1)], data[texts[0].end(1) :])
