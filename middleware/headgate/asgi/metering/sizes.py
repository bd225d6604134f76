"""How many bytes of content pass with an ASGI message that is no plain body.

Law: what is counted is what leaves or arrives: a text as it is encoded, a file by its length. What cannot be known (a
pipe, a file that is not there) counts as nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]


def length(message: Message) -> int:
    """Bytes of a WebSocket's message, of either direction.

    >>> length({"type": "websocket.send", "text": "ü"}), length({"type": "websocket.receive", "bytes": b"abc"})
    (2, 3)
    """
    data = message.get("bytes")
    if data is None:
        data = (message.get("text") or "").encode("utf-8", "surrogatepass")
    return len(data)


def _file(message: Message) -> int:
    """Bytes of a file that the server sends by its path."""
    try:
        return os.stat(message["path"]).st_size  # noqa: PTH116  (no object for one number)
    except OSError:
        return 0  # the server will fail on it, and send nothing


def _part(message: Message) -> int:
    """Bytes of a part of an open file; 0 of a pipe, whose length nobody knows."""
    count: int | None = message.get("count")
    if count is not None:
        return count
    file, start = message["file"], message.get("offset")
    descriptor = file if isinstance(file, int) else file.fileno()
    try:
        at = os.lseek(descriptor, 0, os.SEEK_CUR) if start is None else start
        return max(0, os.fstat(descriptor).st_size - at)
    except OSError:
        return 0


FILES: Mapping[str, Callable[[Message], int]] = {
    "http.response.pathsend": _file,
    "http.response.zerocopysend": _part,
}
"""Bytes of the messages by which a server is told to send a file."""
