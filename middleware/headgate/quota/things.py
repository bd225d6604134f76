"""How many different things: models, documents, addresses; each counted once, however often it is named.

Law: a sketch is a value, and its bytes are made by the set of things alone: neither the order in which they were
named, nor how often, nor how many sketches were united on the way leaves a trace. It knows no window, limit or clock,
and no thing by name: a thing is eight bytes of a keyed digest, so that nobody without the key can choose where it
falls.

Up to `EXACT` things the sketch is their sorted list, and counts exactly. One more and it is an ExaLogLog (Ertl 2024,
arXiv 2402.13726, t = 0, d = 3): as in a HyperLogLog the first half of a thing's 64 bits chooses one of 14,300
registers, and the other half has a *rank*, 1 + its leading zeros, at most 31. The register keeps not only the largest
rank that fell into it, but also which of the three below did: a byte, 8 * rank + window. What differs from the paper:

- the estimate is no maximum of a likelihood but a sum, as in Ertl's UltraLogLog (arXiv 2308.16862, FGRA): the more a
  register has seen, the less it *weighs*, and the sum of all weights tells the number. Likelihood would be 3 % nearer
  to the truth, but may fall when a thing is added, for a rank far above the others pushes them out of the window;
- weights are integers, so that their sum is exact in whatever order it comes about, and is kept in front of the
  registers: to count reads these 9 bytes of 14,309, and to add a thing one more. A store that can read a part of a
  value need not move the whole;
- an empty register is one of rank 0 whose window is full: no first thing is a special case;
- few things in many registers are no second formula, but a bend of the same curve (`_BEND`).

Guarantee: exact up to 1,000. Beyond, the standard error is 0.54 to 0.61 % (0.726 / sqrt(14,300)), so that 999 of
1,000 sets are counted within 2 %, whatever their size up to 10^11, and the estimate never falls when things are
added. Every operation is one on doubles in a fixed order, and of a kind that IEEE 754 rounds in one way (no power, no
logarithm), so that the twin in Lua comes to the same integer. What it is not, from then on: a set. Nobody can tell
whether a thing is among so many.

    bytes         content
    0 .. 8 k - 1  k <= 1,000 things, sorted as bytes
    or, and then there are 14,309 of them:
    0             1, the format
    1 .. 8        the sum of the registers' weights, big-endian
    9 + i         register i: 8 * rank + 4 (rank - 1 was there) + 2 (rank - 2 was) + 1 (rank - 3 was)

A worked example: the first half of the thing 00 00 00 00 20 00 00 00 is 0, and of the second (0010 ...) the third bit
is a one: its rank is 3. In register 0, which was empty (7: rank 0, window 111), that makes rank 3 with a window where
neither 2 nor 1 has been, but 0 counts as if it had: 8 * 3 + 1 = 25. A thing of rank 2 makes it 29.

>>> _spot(bytes.fromhex("0000000020000000")), _joined(7, 24), _joined(25, 16)
((0, 24), 25, 29)
>>> few = with_things(b"", (b"document", b"another."))
>>> count(few), count(with_things(few, (b"document",))), unseen(few, (b"document", b"a third."))
(2, 2, 1)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from functools import cache
from itertools import chain
from math import ldexp, sqrt
from typing import NamedTuple

from headgate.errors import AmountError

SIZE = 8
"""Bytes of a thing. Of a million things two are alike with a chance of one in 37 million."""

EXACT = 1_000
"""Things that are counted exactly: as many as fit into little more than half of what the registers take anyway."""

MOST_THINGS = 10_000
"""What one demand may name: 80 kB, a millisecond to check and ten to add."""

REGISTERS = 14_300
"""As many as Redis keeps in 14,336 bytes, the size of allocation that 12.5 kB take as well. For 999 of 1,000 within
2 % the standard error may be 0.608 %: 14,270 of them."""

HIGHEST = 31
"""The highest rank: it is one if all of 30 bits are zero. Counts are near the truth up to 10^11."""

HEAD = 9
"""Bytes before the registers."""

SKETCHED = HEAD + REGISTERS
"""Bytes of a sketch that is no list."""

FORMAT = 1
"""Its first byte. Another format would be another number, and is not read."""

EMPTY = 7
"""A register that nothing has reached: rank 0, as if all before it had been there."""

_WINDOWS = (4.3, 2.06, 2.6, 1.07, 2.8, 1.36, 1.86, 0.52)
"""What each window weighs. Chosen so that the largest standard error of all numbers from 1,000 up is least: they were
searched for, see docs/decisions/0017; to the third decimal it does not matter."""

_FIFTHS = (1.0, 0.5743491774985174, 0.32987697769322355, 0.18946457081379972, 0.1088188204120155)
"""2^(-0.8 n): what n ranks more take off a weight. Best is a little less than 1, and to undo 4/5 takes two square
roots."""

_STRAIGHT = 0.4742
"""The curve's one scale: at how many things a register it would weigh as an empty one, if it did not bend."""

_KNEE = 0.53
"""Where the curve begins to bend, for there are empty registers: at 11 things a register."""

_BEND = (9.35, -35.482, 53.247, -38.956, 13.134, -0.003, 0.558)
"""What it bends by, the highest power first: fitted to the average weight, and off from it by at most 0.02 %."""


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
    """Whether bytes that were read somewhere can be a sketch: their length and format, and a weight that can be."""
    if len(data) <= EXACT * SIZE:
        return len(data) % SIZE == 0
    lightest, heaviest = REGISTERS * WEIGHTS[-1], REGISTERS * WEIGHTS[EMPTY]
    return len(data) == SKETCHED and data[0] == FORMAT and lightest <= _weight(data) <= heaviest


def count(data: bytes) -> int:
    """How many different things: exactly up to `EXACT`, beyond it by the estimator, rounded to the nearest.

    >>> from hashlib import blake2b
    >>> count(with_things(b"", tuple(blake2b(b"%d" % n, digest_size=8).digest() for n in range(5_000))))
    4979
    """
    if len(data) <= EXACT * SIZE:
        return len(data) // SIZE
    # The order of these operations is the Lua twin's too: another one would round otherwise.
    y = sqrt(sqrt(_weight(data) / (REGISTERS * WEIGHTS[EMPTY])))
    u = max(0.0, (y - _KNEE) / (1.0 - _KNEE))
    bend = 0.0
    for factor in _BEND:
        bend = bend * u + factor
    curve = (1.0 - u) * (_STRAIGHT * (1.0 + u) + u * u * bend)
    return int(REGISTERS * curve / (y * y * y * y * y) + 0.5)


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
    return _raised(_head(REGISTERS * WEIGHTS[EMPTY]) + bytes([EMPTY]) * REGISTERS, chain(_list(data), fresh))


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
    # INVARIANT: two registers are joined alike in either order, so that of the two bytes either may be the first.
    pairs = bytearray(2 * REGISTERS)
    pairs[::2], pairs[1::2] = one[HEAD:], other[HEAD:]
    return _sketched(bytes(map(_pairs().__getitem__, memoryview(pairs).cast("H"))))


def _spot(thing: bytes) -> tuple[int, int]:
    """Which register a thing falls into, and the value of one that nothing else has reached."""
    first, second = int.from_bytes(thing[:4], "big"), int.from_bytes(thing[4:], "big")
    return first * REGISTERS >> 32, 8 * (HIGHEST - (second >> 2).bit_length())


def _joined(one: int, other: int) -> int:
    """A register that has seen what either has: the higher rank, and as much of the other as is within its window."""
    if one < other:
        one, other = other, one
    return one | (8 | other & 7) >> (one >> 3) - (other >> 3) & 7


@cache
def _pairs() -> bytes:
    """All pairs of registers, joined: 64 kB, made when it is first needed. One by one a union takes some times as
    long, and a group of a hundred orgs unites a hundred."""
    return bytes([_joined(pair >> 8, pair & 255) for pair in range(1 << 16)])


def _listed(data: bytes, thing: bytes) -> bool:
    at = SIZE * bisect_left(range(len(data) // SIZE), thing, key=lambda n: data[SIZE * n : SIZE * n + SIZE])
    return data[at : at + SIZE] == thing


def _list(data: bytes) -> list[bytes]:
    return [data[at : at + SIZE] for at in range(0, len(data), SIZE)]


def _weight(data: bytes | bytearray) -> int:
    return int.from_bytes(data[1:HEAD], "big")


def _raised(data: bytes, things: Iterable[bytes]) -> bytes:
    """An ExaLogLog with more things in it."""
    registers, weight = bytearray(data), _weight(data)
    for thing in things:
        spot, value = _spot(thing)
        before = registers[HEAD + spot]
        after = _joined(before, value)
        if after != before:
            weight += WEIGHTS[after] - WEIGHTS[before]
            registers[HEAD + spot] = after
    # INVARIANT: whatever changes a register makes it lighter.
    return data if weight == _weight(data) else _head(weight) + registers[HEAD:]


def _sketched(registers: bytes) -> bytes:
    """A sketch of such registers."""
    return _head(sum([WEIGHTS[value] * registers.count(value) for value in set(registers)])) + registers


def _head(weight: int) -> bytes:
    return bytes([FORMAT]) + weight.to_bytes(8, "big")


def _weight_of(value: int) -> int:
    """What a register of this value weighs: an empty one 2^39, so that all of them stay below 2^53."""
    rank, window = value >> 3, value & 7
    return 1 << 39 if rank == 0 else int(ldexp(_WINDOWS[window] * _FIFTHS[rank % 5], 39 - 4 * (rank // 5)) + 0.5)


WEIGHTS = tuple([_weight_of(value) for value in range(256)])
"""What a register weighs, by its value."""
