"""What a request for a chat completion announces, and how a stream is made to tell its usage.

Law: a body is changed by insertion alone: every other byte stays as the client wrote it, blanks, order and doubled
members too. Where that cannot be done with certainty, nothing is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

BLANKS = " \t\r\n"
BLANK = re.compile(rf"[{BLANKS}]*+")
ASKS = '"include_usage":true'
DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
"""Numbers stay text: there are some that Python refuses to read."""

NOT_OPENAI = frozenset({"system", "anthropic_version"})
"""Members by which a request of Anthropic's messages is told, that looks the same but refuses `stream_options`."""


class Announced(NamedTuple):
    """What a request's members say of its response: it is a stream; the stream is asked to tell its usage."""

    streams: bool
    asks_usage: bool


def announced(members: Mapping[str, Any]) -> Announced:
    """What a request's members announce.

    >>> announced({"stream": True, "stream_options": {"include_usage": True}})
    Announced(streams=True, asks_usage=True)
    """
    options = members.get("stream_options")
    asks = isinstance(options, dict) and options.get("include_usage") is True
    return Announced(members.get("stream") is True, asks)


def with_usage(body: bytes) -> bytes | None:
    """The body of a streaming chat completion that asks for usage; None if it is none, asks already, or is not read
    with certainty.

    The client that did not ask is then to be spared the chunk that comes of it: see `Hiding`. Not for the messages of
    Anthropic, which refuse the option: whoever knows the path does not call this for them.

    >>> with_usage(b'{ "stream": true, "messages": [] }')
    b'{"stream_options":{"include_usage":true}, "stream": true, "messages": [] }'
    """
    try:
        text = body.decode()
        members = _members(text, 0)
        if _next(text, members[-1].end)[1] != len(text.rstrip(BLANKS)) - 1:
            return None  # something comes after the object
    except (ValueError, IndexError, RecursionError):
        return None
    values = {member.name: member for member in members}
    stream, messages = values.get("stream"), values.get("messages")
    if stream is None or stream.value is not True or messages is None or not isinstance(messages.value, list):
        return None
    if NOT_OPENAI & values.keys():
        return None
    changed = _with_options(text, values.get("stream_options"))
    return None if changed is None else changed.encode()


class Member(NamedTuple):
    """A member of an object: its name, its value, and where in the text that is."""

    name: str
    value: Any
    start: int
    end: int


def _with_options(text: str, options: Member | None) -> str | None:
    if options is None:
        at = text.index("{") + 1
        return f'{text[:at]}"stream_options":{{{ASKS}}},{text[at:]}'
    if options.value is None:
        return f"{text[: options.start]}{{{ASKS}}}{text[options.end :]}"
    if not isinstance(options.value, dict):
        return None
    if "include_usage" not in options.value:
        at = options.start + 1
        comma = "," if options.value else ""
        return f"{text[:at]}{ASKS}{comma}{text[at:]}"
    if options.value["include_usage"] not in (None, False):
        return None  # it asks already, or in words that the API itself should answer
    asked = [member for member in _members(text, options.start) if member.name == "include_usage"][-1]
    return f"{text[: asked.start]}true{text[asked.end :]}"


def _members(text: str, at: int) -> list[Member]:
    """The members of the object at an offset, in order. Raises ValueError or IndexError if there is none, or it has
    none."""
    found: list[Member] = []
    sign, at = _next(text, at)
    if sign != "{":
        raise ValueError("no object")
    while True:
        sign, at = _next(text, at + 1)
        if sign != '"':
            raise ValueError("no name")
        name, at = DECODER.raw_decode(text, at)
        sign, at = _next(text, at)
        if sign != ":":
            raise ValueError("no colon")
        _, start = _next(text, at + 1)
        value, end = DECODER.raw_decode(text, start)
        found.append(Member(name, value, start, end))
        sign, at = _next(text, end)
        if sign == "}":
            return found
        if sign != ",":
            raise ValueError("no comma")


def _next(text: str, at: int) -> tuple[str, int]:
    """The next sign that is no blank, and where it is. Raises IndexError at the end."""
    found = BLANK.match(text, at)
    at = found.end() if found is not None else at
    return text[at], at
