"""How many different things: models, documents, addresses; each counted once, however often it is named.

Law: a sketch is a value, and its bytes are made by the set of things alone: neither the order in which they were
named, nor how often, nor how many sketches were united on the way leaves a trace. It knows no window, limit or clock,
and no thing by name: a thing is eight bytes of a keyed digest, so that nobody without the key can choose where it
falls.

Up to `EXACT` things the sketch is their sorted list, and counts exactly. One more and it is a HyperLogLog (Flajolet,
Fusy, Gandouet, Meunier 2007): of a thing's 64 bits the first 14 choose one of 16,384 registers, and the register
keeps the largest *rank* that fell into it, 1 + the leading zeros of the other 50 bits. What differs from the paper:

- 64 bits of a thing instead of 32: the paper's correction for large numbers, where things collide, is not needed;
- the estimate is Ertl's *improved raw estimator* (arXiv 1702.01284, algorithm 6), which needs no table of biases and
  no second formula for small numbers. It reads only how many registers have each value;
- this histogram is therefore kept in front of the registers: to count reads 105 bytes of 12,393, and to add a thing
  three more. A store that can read a part of a value need not move the whole.

Guarantee: exact up to 1,000. Beyond, the standard error is 0.81 % (1.04 / sqrt(16,384)), so that 98 of 100 sets are
counted within 2 %, and the estimate never falls when things are added. Every operation is one on doubles in a fixed
order, so that the twin in Lua comes to the same integer. What it is not, from then on: a set. Nobody can tell whether
a thing is among so many.

    bytes         content
    0 .. 8 k - 1  k <= 1,000 things, sorted as bytes
    or, and then there are 12,393 of them:
    0             1, the format
    1 + 2 v       how many registers have the value v, 0 <= v <= 51: two bytes, big-endian; they sum to 16,384
    105 ..        register i in the bits 6 i .. 6 i + 5 from here, the most significant first:
                  +--------+--------+--------+
                  |00000011|11112222|22333333|
                  +--------+--------+--------+
                  the order in which base64 reads bytes: it packs and unpacks all of them at once

A worked example: the thing 00 07 40 00 00 00 00 00 begins with 14 bits that say 1, and of the other 50 (11 0100 ...)
the first is a one: its rank is 1. It is in register 1, bits 6 to 11: the last two of byte 105, the first four of byte
106. If the register was 0, the histogram loses one at 0 and gains one at 1.

>>> thing = bytes.fromhex("0007400000000000")
>>> _spot(thing)
(1, 1)
>>> few = with_things(b"", (b"document", b"another."))
>>> count(few), count(with_things(few, (b"document",))), unseen(few, (b"document", b"a third."))
(2, 2, 1)
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from bisect import bisect_left
from collections.abc import Iterable
from itertools import chain
from math import sqrt
from struct import pack, unpack_from
from typing import NamedTuple

from headgate.errors import AmountError

SIZE = 8
"""Bytes of a thing. Of a million things two are alike with a chance of one in 37 million."""

EXACT = 1_000
"""Things that are counted exactly: as many as fit into two thirds of the room that the registers need anyway."""

MOST_THINGS = 10_000
"""What one demand may name: 80 kB, a millisecond to check and ten to add."""

REGISTERS = 16_384
"""2^14: a standard error of 0.81 % for 12 kB. Half of them: 1.15 % for 6 kB, and each twelfth set is off by 2 %."""

HIGHEST = 51
"""The highest rank: all 50 bits are zero."""

HEAD = 1 + 2 * (HIGHEST + 1)
"""Bytes before the registers."""

SKETCHED = HEAD + REGISTERS * 6 // 8
"""Bytes of a sketch that is no list."""

FORMAT = 1
"""Its first byte. Another format would be another number, and is not read."""

NUMERATOR = 0.7213475204444817 * REGISTERS * REGISTERS
"""alpha * m^2 of Ertl's estimator, alpha = 1 / (2 ln 2); m is a power of two, so that the products are exact."""

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_VALUES = bytes(range(64))
_TO_VALUES = bytes.maketrans(_BASE64, _VALUES)
_TO_BASE64 = bytes.maketrans(_VALUES, _BASE64)


class Things(NamedTuple):
    """A sketch in a store: when the window began that it belongs to (0 for a lifetime), and its bytes (b"":
    forgotten)."""

    since: int
    data: bytes


def checked_things(things: tuple[bytes, ...]) -> None:
    """Raises AmountError unless these are at most `MOST_THINGS` different things of eight bytes."""
    if type(things) is not tuple or any(type(thing) is not bytes or len(thing) != SIZE for thing in things):
        raise AmountError("things are a tuple of keyed digests of eight bytes each")
    if len(things) > MOST_THINGS:
        raise AmountError(f"a demand names at most {MOST_THINGS:,} things; got {len(things):,}")
    if len(set(things)) != len(things):
        raise AmountError("a demand names each thing once")


def readable(data: bytes) -> bool:
    """Whether bytes that were read somewhere can be a sketch: their length and format, and the histogram's sum."""
    if len(data) <= EXACT * SIZE:
        return len(data) % SIZE == 0
    return len(data) == SKETCHED and data[0] == FORMAT and sum(_histogram(data)) == REGISTERS


def count(data: bytes) -> int:
    """How many different things: exactly up to `EXACT`, beyond it by the estimator, rounded to the nearest.

    >>> from hashlib import blake2b
    >>> count(with_things(b"", tuple(blake2b(b"%d" % n, digest_size=8).digest() for n in range(5_000))))
    4956
    """
    if len(data) <= EXACT * SIZE:
        return len(data) // SIZE
    histogram = _histogram(data)
    # The order of these operations is the Lua twin's too: another one would round otherwise.
    z = REGISTERS * _tau(1.0 - histogram[HIGHEST] / REGISTERS)
    for rank in range(HIGHEST - 1, 0, -1):
        z = 0.5 * (z + histogram[rank])
    z = z + REGISTERS * _sigma(histogram[0] / REGISTERS)
    return int(NUMERATOR / z + 0.5)


def unseen(data: bytes, things: tuple[bytes, ...]) -> int:
    """How many of the things would be new: exactly while it is a list; else all of them, for nobody can tell."""
    if len(data) > EXACT * SIZE:
        return len(things)
    return sum([1 for thing in things if not _listed(data, thing)])


def with_things(data: bytes, things: Iterable[bytes]) -> bytes:
    """The sketch with these things in it; the very same object if that makes no difference."""
    if len(data) > EXACT * SIZE:
        return _raised(data, things)
    fresh = {thing for thing in things if not _listed(data, thing)}
    if not fresh:
        return data
    if len(data) // SIZE + len(fresh) <= EXACT:
        return b"".join(sorted(chain(_list(data), fresh)))
    registers = bytearray(REGISTERS)
    for thing in chain(_list(data), fresh):
        at, rank = _spot(thing)
        if rank > registers[at]:
            registers[at] = rank
    return _sketched(registers)


def united(one: bytes, other: bytes) -> bytes:
    """The sketch of what is in either: what is in both counts once.

    >>> both = united(with_things(b"", (b"document", b"another.")), with_things(b"", (b"document", b"a third.")))
    >>> count(both)
    3
    """
    if len(one) < len(other):
        one, other = other, one
    if len(other) <= EXACT * SIZE:
        return with_things(one, _list(other))
    return _sketched(bytes(map(max, _registers(one), _registers(other))))


def _spot(thing: bytes) -> tuple[int, int]:
    """Which register a thing falls into, and its rank."""
    bits = int.from_bytes(thing, "big")
    return bits >> 50, HIGHEST - (bits & (1 << 50) - 1).bit_length()


def _listed(data: bytes, thing: bytes) -> bool:
    at = SIZE * bisect_left(range(len(data) // SIZE), thing, key=lambda n: data[SIZE * n : SIZE * n + SIZE])
    return data[at : at + SIZE] == thing


def _list(data: bytes) -> list[bytes]:
    return [data[at : at + SIZE] for at in range(0, len(data), SIZE)]


def _histogram(data: bytes) -> tuple[int, ...]:
    return unpack_from(f">{HIGHEST + 1}H", data, 1)


def _raised(data: bytes, things: Iterable[bytes]) -> bytes:
    """A HyperLogLog with more things in it."""
    histogram = list(_histogram(data))
    registers = bytearray(data)
    for thing in things:
        spot, rank = _spot(thing)
        # Four registers are three bytes.
        at, shift = HEAD + 3 * (spot >> 2), 18 - 6 * (spot & 3)
        four = int.from_bytes(registers[at : at + 3], "big")
        before = four >> shift & 63
        if rank > before:
            histogram[before] -= 1
            histogram[rank] += 1
            registers[at : at + 3] = (four + (rank - before << shift)).to_bytes(3, "big")
    # Registers only rise, and so does their sum: whatever rises changes the histogram.
    head = _head(histogram)
    return data if data.startswith(head) else head + registers[HEAD:]


def _registers(data: bytes) -> bytes:
    """The registers, one a byte."""
    return b2a_base64(data[HEAD:], newline=False).translate(_TO_VALUES)


def _sketched(registers: bytes | bytearray) -> bytes:
    """A sketch of such registers."""
    histogram = [registers.count(value) for value in range(HIGHEST + 1)]
    return _head(histogram) + a2b_base64(registers.translate(_TO_BASE64))


def _head(histogram: Iterable[int]) -> bytes:
    return pack(f">B{HIGHEST + 1}H", FORMAT, *histogram)


def _sigma(x: float) -> float:
    """What registers that nothing has reached add: x + the sum of x^(2^k) * 2^(k - 1), k >= 1; x < 1."""
    y, z, before = 1.0, x, -1.0
    while z != before:
        x = x * x
        before = z
        z = z + x * y
        y = y + y
    return z


def _tau(x: float) -> float:
    """What registers that are full add: (1 - x - the sum of (1 - x^(2^-k))^2 * 2^-k, k >= 1) / 3."""
    if x in (0.0, 1.0):
        return 0.0
    y, z, before = 1.0, 1.0 - x, -1.0
    while z != before:
        x = sqrt(x)
        before = z
        y = 0.5 * y
        rest = 1.0 - x
        z = z - rest * rest * y
    return z / 3.0
