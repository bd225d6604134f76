"""How a response ends that has reached its limit in the middle.

Law: what was cut never looks whole. A stream of server-sent events ends with the dialect's event, after the event
that was being sent; a WebSocket is closed; any other body is broken off, so that the client sees that it is not all
of it. The app is told once, as a client that went away is told: by an `OSError` out of `send`.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

from headgate.errors import Denied

BLANK = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
"""What ends an event: an empty line, by any of the three ways to end one."""

ENDS = (b"\n\n", b"\r\r", b"\n\r\n")

TAIL = 4
"""Bytes of what was sent last that tell, with what comes next, where an event ends."""

LONGEST_REST = 4_096
"""Bytes that are let through to the end of an event: whoever writes longer ones has the last of them cut in two."""


NO_WAIT = 4_096
"""Bytes of a body that are never kept waiting for the store, if they are all of it or its first part: an answer of a
few words begins as soon as the app lets it. Where more of a body is known before it is sent, all of it is held."""


class CutOff(Denied, OSError):
    """Told to an app whose response has reached a limit in the middle: nobody reads what it sends any more."""


BROKEN: MutableMapping[str, Any] = {"type": "http.response.pathsend", "path": ""}
"""A message that nobody can send in the middle of a body: a server that gets it fails, and drops the connection.

It is needed because an outer middleware may have a task of its own that reads what the app sends, and that ends the
response well when the app ends, whatever it ended by (Starlette's BaseHTTPMiddleware does). This one is handed on by
every middleware there, and after it none adds the end of a body.
"""


def caused(fault: BaseException, by: BaseException) -> bool:
    """Whether a fault of the app is this one, or was raised because of it, by whatever frameworks it passed."""
    seen: set[int] = set()
    left: list[BaseException | None] = [fault]
    while left:
        one = left.pop()
        if one is by:
            return True
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            left += [one.__cause__, one.__context__]
            if isinstance(one, BaseExceptionGroup):
                left += one.exceptions
    return False


def rest_of_event(tail: bytes, body: bytes) -> bytes | None:
    r"""What of the next part ends the event of which `tail` was sent last; None if the event goes on beyond it.

    >>> rest_of_event(b"\n\n", b"data: 2\n\n"), rest_of_event(b"a: ", b"1\n\na: 2\n\n"), rest_of_event(b"a: ", b"1")
    (b'', b'1\n\n', None)
    """
    if not tail or tail.endswith(ENDS):
        return b""
    for found in BLANK.finditer(tail + body):
        if found.end() > len(tail):
            return body[: found.end() - len(tail)]
    return None
