"""Observations on their way from a worker to whoever watches: packed, numbered, bounded.

Law: a parcel that is read is whole and of our making, or it is refused; nothing in it is run. Its author and its
number tell two sendings of one parcel: what was sent twice, because the first answer was lost, counts once.

MessagePack of plain arrays: small, quick, and without any type that could do something when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from headgate.linking.observation import Observation

FORMAT = 1
"""The first number of a parcel; one with another number is left alone."""

TOGETHER = 16
"""Observations in one parcel at most."""

LARGEST = 16_384
"""Bytes after which a parcel is closed; one observation more may stand in it, of some kilobytes at most."""

LONGEST_NAME = 256
"""Letters of a key or an org that are sent; one that has more is not watched, for two that begin alike are two."""


class Parcel(NamedTuple):
    """Observations of one worker, oldest first. `author`: a number drawn at the worker's start; `number`: how many
    parcels it had made before."""

    author: bytes
    number: int
    seen: list[Observation]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, bytes, int, list[Observation]]).decode


def packed(parcel: Parcel) -> bytes:
    """The parcel as bytes.

    >>> parcel = Parcel(b"me", 3, [Observation(7, "k1", "acme", True, clauses=(1, 2))])
    >>> unpacked(packed(parcel)) == parcel
    True
    """
    return _encode((FORMAT, parcel.author, parcel.number, parcel.seen))


def unpacked(data: bytes) -> Parcel:
    """The parcel that bytes hold. Raises ValueError for what is none."""
    try:
        number, *rest = _decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no parcel of observations: {error}") from None
    if number != FORMAT:
        raise ValueError(f"a parcel of format {number}; this version reads {FORMAT}")
    return Parcel(*rest)  # type: ignore[arg-type]


def parcelled(author: bytes, number: int, seen: Sequence[Observation]) -> Iterator[tuple[int, bytes]]:
    """Observations as parcels with their numbers, from `number` on: each bounded in count and in bytes."""
    waiting: list[Observation] = []
    size = 0
    for one in seen:
        if len(one.key) > LONGEST_NAME or len(one.org) > LONGEST_NAME:
            continue
        waiting.append(one)
        size += _size(one)
        if len(waiting) >= TOGETHER or size >= LARGEST:
            yield number, packed(Parcel(author, number, waiting))
            waiting, size, number = [], 0, number + 1
    if waiting:
        yield number, packed(Parcel(author, number, waiting))


def _size(one: Observation) -> int:
    """Bytes at most, about: 9 a number."""
    return (
        64
        + len(one.key)
        + len(one.org)
        + 9 * (len(one.clauses) + len(one.names))
        + 27 * (len(one.runs) + len(one.traits))
    )
