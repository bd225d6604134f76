"""What a request for a chat completion announces, and how a stream is made to tell its usage.

Law: a body is changed in one place alone: every other byte stays as the client wrote it, blanks, order and doubled
members too. Whatever some reader may take for a stream is asked for its usage, however oddly it was put: a client
must not get round it by its spelling. What cannot be read is not for us to change, and not for the app to serve.
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

NO = frozenset({"false", "null", "0", '""'})
"""What no reader takes for a yes. Some take `1` or `"true"` for one."""

BOM = "\ufeff"


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


class Unread(ValueError):
    """A body that cannot be read."""


class Asked(NamedTuple):
    """A body that asks for usage, and whether the client did not: it is spared the chunk that comes of it (see
    `Hiding`)."""

    body: bytes
    unasked: bool


def with_usage(body: bytes) -> Asked | None:
    """The body of a streaming completion (one with `messages` or a `prompt`), asking for usage; None if it is none,
    or asks already. Read as `json.loads` reads it, UTF-16 and all. Raises Unread for what is no JSON.

    Not for the messages of Anthropic, which look the same and refuse the option: whoever knows the path does not call
    this for them.

    >>> with_usage(b'{ "stream": true, "messages": [] }').body
    b'{"stream_options":{"include_usage":true}, "stream": true, "messages": [] }'
    """
    try:
        encoding = _encoding(body)
        text = body.decode(encoding, "surrogatepass")
        members = _members(text, len(BOM) if text.startswith(BOM) else 0)
        if _next(text, members[-1].end)[1] != len(text.rstrip(BLANKS)) - 1:
            raise Unread("something comes after the object")
    except (ValueError, IndexError, RecursionError):
        if _is_json(body):
            return None  # and none with members
        raise Unread("no JSON") from None
    values = {member.name: member for member in members}
    stream = values.get("stream")
    if stream is None or text[stream.start : stream.end] in NO or not _completes(values):
        return None
    changed = _with_options(text, values.get("stream_options"))
    return None if changed is None else Asked(changed[0].encode(encoding, "surrogatepass"), changed[1])


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


class Member(NamedTuple):
    """A member of an object: its name, its value, and where in the text that is."""

    name: str
    value: Any
    start: int
    end: int


def _encoding(body: bytes) -> str:
    """The encoding of a JSON text, such that its byte order mark is a letter of it and stays what it is."""
    found: str = json.detect_encoding(body)
    if found in {"utf-16", "utf-32"}:
        found += "-le" if body.startswith(b"\xff\xfe") else "-be"
    return found.removesuffix("-sig")


def _completes(values: Mapping[str, Member]) -> bool:
    """Whether this asks for a completion: a chat, or the older kind. (A `prompt` that is an object is a template.)"""
    chat, prompt = values.get("messages"), values.get("prompt")
    return (chat is not None and isinstance(chat.value, list)) or (
        prompt is not None and isinstance(prompt.value, str | list)
    )


def _with_options(text: str, options: Member | None) -> tuple[str, bool] | None:
    """The text with the option, and whether the client did not ask in any way; None if it asks plainly."""
    if options is None:
        at = text.index("{") + 1
        return f'{text[:at]}"stream_options":{{{ASKS}}},{text[at:]}', True
    if not isinstance(options.value, dict):
        return f"{text[: options.start]}{{{ASKS}}}{text[options.end :]}", True
    if "include_usage" not in options.value:
        at = options.start + 1
        comma = "," if options.value else ""
        return f"{text[:at]}{ASKS}{comma}{text[at:]}", True
    if options.value["include_usage"] is True:
        return None
    asked = [member for member in _members(text, options.start) if member.name == "include_usage"][-1]
    # `1` or `"yes"` is a wish that some readers grant.
    return f"{text[: asked.start]}true{text[asked.end :]}", text[asked.start : asked.end] in NO


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
