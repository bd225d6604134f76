"""One connection to one server, which all callers of an event loop share.

Law: answers come in the order of the questions. What was asked stands in a queue, and each answer goes to the first
in it, whether anybody still waits for it or not: so a caller that has given up disturbs nobody. An answer that nobody
asked for, or that is no RESP, ends the connection, for nothing after it can be told apart.

redis-py makes the connection (TLS, password, database); from then on its transport is ours. Nothing is awaited here:
a question is written at once, and answers are taken as they arrive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import hiredis

MISSING: Final = object()
"""What the reader answers when a reply is not there as a whole."""


pack: Final[Callable[[tuple[str | bytes | int, ...]], bytes]] = hiredis.pack_command  # type: ignore[assignment]
"""A command as it goes over the wire. (The library's own annotation lets a command have one word.)"""


class ErrorReply(Exception):
    """An error that the server answers, as it came: `NOSCRIPT No matching script`. It is never raised; the library
    wants it to be an exception."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.code = text.split(" ", 1)[0]


class Expecting(Protocol):
    """Who waits in the queue for one answer."""

    def answered(self, reply: Any) -> None:
        """The answer: bytes, an int, None, a list, or an ErrorReply. Must not raise."""


class Owner(Protocol):
    """Whose connection it is."""

    def lost(self, connection: Connection, garbled: bool) -> None:
        """It is gone; who had no answer stands in `expected`. `garbled`: what came over it was no RESP."""


class Connection(asyncio.Protocol):
    """A live connection. `expected`: who waits for an answer, in the order of asking. `heard`: how often anything has
    arrived, by which a silence is told."""

    __slots__ = ("_owner", "_reader", "_writer", "ended", "expected", "garbled", "heard", "write")

    def __init__(self, writer: asyncio.StreamWriter, owner: Owner) -> None:
        # The writer is kept because it closes its transport when it is collected.
        self._writer = writer
        self._owner = owner
        # Text that is no UTF-8 comes back as bytes in errors only, and is shown with marks in their place.
        self._reader = hiredis.Reader(replyError=ErrorReply, notEnoughData=MISSING, errors="replace")
        self.expected: deque[Expecting] = deque()
        self.heard = 0
        self.garbled = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.write = writer.transport.write
        writer.transport.set_protocol(self)

    @property
    def closing(self) -> bool:
        """Whether it is of no use any more."""
        return self._writer.transport.is_closing()

    def ask(self, question: bytes, expecting: Iterable[Expecting]) -> None:
        """Write one or more commands, packed; each is answered to one of `expecting`, in their order."""
        self.expected.extend(expecting)
        self.write(question)

    def data_received(self, data: bytes) -> None:
        """Each whole reply goes to the first who waits."""
        self.heard += 1
        reader, expected = self._reader, self.expected
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not MISSING:
                if not expected:
                    self._garbled()
                    return
                expected.popleft().answered(reply)
        except hiredis.ProtocolError:
            self._garbled()

    def _garbled(self) -> None:
        self.garbled = True
        self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever still waits is told by the owner."""
        if not self.ended.done():
            self.ended.set_result(None)
        self._owner.lost(self, self.garbled)

    def end(self) -> None:
        """Drop it at once, with whatever is under way."""
        self._writer.transport.abort()
