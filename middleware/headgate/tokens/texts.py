r"""How many bytes of generated text an event or a body has.

Law: text is the string under one of `NAMES`, measured as UTF-8 and not as it was escaped: `\u4e2d` is three bytes. It
is the ground of an estimate, so that it has to be near and cheap, not proof against whoever writes JSON by hand.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.tokens.said import Said

NAMES = (
    b"delta", b"content", b"text", b"arguments", b"reasoning_content", b"reasoning", b"thinking", b"partial_json",
    b"refusal", b"transcript", b"input",
)  # fmt: skip
"""Members whose strings were generated: OpenAI's chats (content, refusal, arguments of tools, and the reasoning of
those that are like it), Responses (delta; whole bodies: text, arguments, a tool's input), Anthropic (text, thinking,
partial_json)."""

OF_NAMES = b"(?:%s)" % b"|".join(NAMES)

TEXT = re.compile(rb'"' + OF_NAMES + rb'"\s*+:\s*+"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
TEXTS = TEXT.findall

SIMPLE = re.compile(rb"\\[^u]", re.DOTALL)
ASCII = re.compile(rb"\\u00[0-7]").findall
BELOW_0800 = re.compile(rb"\\u0[0-7]").findall
HALF = re.compile(rb"\\u[dD][89a-fA-F]").findall


def text_size(piece: bytes) -> int:
    r"""Bytes of UTF-8 that a piece of a JSON string is, between two of its signs.

    Half of a surrogate pair counts two, so that it does not matter between which signs a string is cut.

    >>> text_size(b'a\\n\\"'), text_size("中".encode()), text_size(b"\\u4e2d"), text_size(b"\\ud83d\\ude00")
    (3, 3, 3, 4)
    """
    if b"\\" not in piece:
        return len(piece)
    escaped = piece.count(b"\\u")
    if b"\\\\" in piece or piece.count(b"\\") > escaped:
        piece = SIMPLE.sub(b".", piece)  # first, for it takes away the backslashes that stand for themselves
        escaped = piece.count(b"\\u")
    size = len(piece) - 3 * escaped  # six bytes become three, or fewer
    if escaped:
        if b"\\u0" in piece:
            size -= len(BELOW_0800(piece)) + len(ASCII(piece))
        if b"\\ud" in piece or b"\\uD" in piece:
            size -= len(HALF(piece))
    return max(0, size)


def delta_in(data: bytes, start: int, end: int) -> int:
    """Where an event's `delta` begins, of which all generated text is part; -1 if it has none. A response tells the
    tools that it was given, of which one may have a parameter of that name."""
    delta = data.find(b'"delta"', start, end)
    return delta if delta < 0 or data.find(b'"response"', start, delta) < 0 else -1


def generated(data: bytes, start: int, end: int, said: Said | None = None) -> int:
    r"""Bytes of text in one event's JSON, from where its `delta` begins; the text is told to `said`.

    >>> event = b'{"choices":[{"delta":{"role":"assistant","content":"Hello\\n"}}]}'
    >>> generated(event, event.index(b'"delta"'), len(event))
    6
    """
    size = 0
    for piece in TEXTS(data, start, end):
        size += text_size(piece)
        if said is not None:
            said.add(piece)
    return size
