"""What a leader knows, as bytes that outlive it: how far it has read, and what it has learnt from that.

Law: both stand in one snapshot, so that whoever goes on from it counts nothing twice and leaves nothing out. One that
is torn, damaged or of another version is refused as a whole; nothing in it is run. There are two places, written in
turn: while one is written, the other is whole, and the stream keeps all that came since that one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import msgspec

MAGIC = b"HGW1"
"""What a snapshot begins with: its kind and its version."""

DIGEST = 16
"""Bytes of the digest that follows, of all that comes after it."""

PLACES = ("a", "b")
"""Names of the two places."""


class Snapshot(NamedTuple):
    """`serial`: how many there were before; `marks`: how far each shard was read; `authors`: the last parcel's number
    of each author; `learnt`: the learner's own state; `whole_from`: from when on (microseconds) what it finds is all
    that there is to find, 0 for always: who began to learn anew knows too little to take back what was found before.
    """

    serial: int
    marks: dict[str, str]
    authors: list[tuple[bytes, int]]
    learnt: bytes
    whole_from: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode


def place_of(serial: int) -> str:
    """Where the snapshot of that number goes."""
    return PLACES[serial % len(PLACES)]


def written(snapshot: Snapshot) -> bytes:
    """The snapshot as bytes.

    >>> snapshot = Snapshot(1, {"0": "5-0"}, [(b"me", 3)], b"learnt")
    >>> read(written(snapshot)) == snapshot
    True
    """
    body = _encode(snapshot)
    return MAGIC + blake2b(body, digest_size=DIGEST).digest() + body


def read(data: bytes) -> Snapshot:
    """The snapshot that bytes hold. Raises ValueError for what is none, or not whole.

    >>> read(b"HGW1" + bytes(40))
    Traceback (most recent call last):
    ValueError: it is not whole
    """
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("it is none, or of another version")
    at = len(MAGIC) + DIGEST
    body = data[at:]
    if blake2b(body, digest_size=DIGEST).digest() != data[len(MAGIC) : at]:
        raise ValueError("it is not whole")
    try:
        return _decode(body)
    except msgspec.MsgspecError as error:
        raise ValueError(f"it cannot be read: {error}") from None
