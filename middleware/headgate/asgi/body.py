"""A look at the beginning of a JSON body, before the app reads it.

Law: bounded, and nothing is lost: every message that was taken is handed on to the app, in order. A body that is not
a JSON object is recognised by its first character and not waited for.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

BEFORE = b" \t\r\n\0\xef\xbb\xbf\xfe\xff"
"""Bytes that may stand before the first character: blanks, byte order marks, the zeros of UTF-16 and UTF-32."""


PARTS = 4_096
"""Messages that are taken at most: some may be empty. Servers hand on what has come, rarely less than a kilobyte."""


class Replayed:
    """The app's `receive` after a look: first what was taken, then what comes."""

    __slots__ = ("_messages", "_receive")

    def __init__(self, messages: deque[Message], receive: Receive) -> None:
        self._messages = messages
        self._receive = receive

    async def __call__(self) -> Message:
        """The next message."""
        return self._messages.popleft() if self._messages else await self._receive()

    def taken(self) -> bytes:
        """What was taken of the body."""
        return b"".join([message.get("body", b"") for message in self._messages])

    async def whole(self, most: int) -> bytes | None:
        """The whole body, of which the rest is taken, too; None where it is longer than `most` bytes, b"" where the
        client went away."""
        size = len(self.taken())
        while self._messages[-1].get("more_body", False) and size <= most:
            message = await self._receive()
            self._messages.append(message)
            size += len(message.get("body", b""))
        if self._messages[-1]["type"] != "http.request":
            return b""
        return self.taken() if size <= most else None

    def put(self, body: bytes) -> None:
        """Hand on another body than what was taken."""
        self._messages.clear()
        self._messages.append({"type": "http.request", "body": body, "more_body": False})


def first_of(body: bytes) -> bytes:
    """The first character of a body, by which a JSON object is told; b"" where none has come yet.

    >>> first_of(b' {"model"'), first_of(b"\\n")
    (b'{', b'')
    """
    return body.lstrip(BEFORE)[:1]


class Peeked(NamedTuple):
    """What a look found: the object's members (numbers as they were written), why they are not known though there may
    be some (`cut`: the body goes on beyond what may be looked at; `unread`: it begins like an object and is none that
    we can read, which another reader may; "" for neither), and the `receive` that hands on what was taken."""

    members: Mapping[str, Any]
    why_not: str
    receive: Replayed


async def peek(receive: Receive, most: int) -> Peeked:
    """Look at a request's body, at most at `most` bytes of it.

    Of a longer body no member is believed: a JSON object may name a member twice, and the app takes the last one.
    """
    messages: deque[Message] = deque()
    replayed = Replayed(messages, receive)
    body = bytearray()
    begun = False
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            return Peeked({}, "", replayed)  # the client went away
        part = message.get("body", b"")
        if not begun and (first := first_of(part)):
            begun = True
            if first != b"{":
                return Peeked({}, "", replayed)
        body += part
        if len(body) > most or len(messages) > PARTS:
            return Peeked({}, "cut", replayed)
        if not message.get("more_body", False):
            found = members(bytes(body)) if begun else {}
            return Peeked(found or {}, "" if found is not None else "unread", replayed)


def members(body: bytes) -> Mapping[str, Any] | None:
    """The members of a JSON object; None where the body is none that can be read. Read as `json.loads` reads it,
    UTF-16 and all, but numbers stay text: what the policy compares is what was written, however many digits it has.

    >>> members(b'{"model": "big-1", "max_tokens": 100}')
    {'model': 'big-1', 'max_tokens': '100'}
    """
    try:
        found = json.loads(body, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
