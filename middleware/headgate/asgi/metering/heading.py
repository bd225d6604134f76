"""What the headers of a response tell of its body, before any of it is sent.

Law: a header that comes twice counts as it came last; what cannot be read is not told. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

EVENTS = b"text/event-stream"

MUTE = (
    b"image/",
    b"audio/",
    b"video/",
    b"font/",
    b"application/octet-stream",
    b"application/pdf",
    b"application/zip",
)
"""Types of what is no text, of which no tokens can be estimated."""

EMPTY = frozenset({204, 304})
"""The statuses of responses without a body, whatever length they tell."""

NOT_TOLD = -1


class Heading(NamedTuple):
    """What is told of a body: its type, whether it is `packed` (gzip and the like), `mute` (a picture, a sound: no
    text), or a stream of server-sent `events` that can be read; its length in bytes, `NOT_TOLD` for none."""

    kind: str
    packed: bool
    mute: bool
    events: bool
    length: int


def heading_of(status: int, headers: Mapping[bytes, bytes]) -> Heading:
    """What the headers (names in lower case) of a response tell.

    >>> heading_of(200, {b"content-type": b"image/png", b"content-length": b"70000"})
    Heading(kind='image/png', packed=False, mute=True, events=False, length=70000)
    """
    kind = headers.get(b"content-type", b"")
    packed = headers.get(b"content-encoding", b"identity").strip().lower() not in {b"", b"identity"}
    return Heading(
        kind.decode("latin-1"),
        packed,
        mute=kind.lower().startswith(MUTE),
        events=not packed and kind.partition(b";")[0].strip().lower() == EVENTS,
        length=0 if status in EMPTY else amount_told(headers.get(b"content-length", b"")),
    )


def amount_told(value: bytes) -> int:
    """A header's value as an amount, `NOT_TOLD` if it is none that can be counted.

    >>> amount_told(b" 12"), amount_told(b"-1"), amount_told(b"1e9")
    (12, -1, -1)
    """
    text = value.strip()
    return int(text) if text.isdigit() and len(text) < 16 else NOT_TOLD
