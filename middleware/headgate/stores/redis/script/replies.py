"""How the script's answers are read.

Law: an outcome comes back exactly as the ledger would have made it, or StoreError is raised: bytes that do not add up
are a fault with a name. All numbers are 8-byte integers, so that an answer is read in one step; the layout is told in
`wire.lua`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from headgate.errors import StoreError
from headgate.quota.balance import Balance, Hold, Holds, Parts, new
from headgate.quota.command import (
    Command,
    Demand,
    Gone,
    Granted,
    Never,
    NotYet,
    Refusal,
    Refused,
    Seen,
    Settled,
)
from headgate.quota.things import Things, readable
from headgate.quota.window import Rolling
from headgate.stores.redis.script.lines import NAMES, place_of
from headgate.stores.redis.script.parcel import Parcel, Parcelled, Parted, Shown

Read = TypeVar("Read")
Numbers = tuple[int, ...]
Balances = tuple[Balance | None, ...]

USUAL = 256
"""Integers in an answer up to which the way to read them is kept. Of longer ones each has a length of its own."""

_readers: dict[int, Callable[[bytes], Numbers]] = {8 * n: struct.Struct(f"<{n}q").unpack for n in range(USUAL)}


def outcome(command: Command | Parcelled, reply: bytes) -> Any:
    """What the script answered to a command; a `Parted` for a `Give`, a `Shown` for a `Show`. Raises StoreError for
    what cannot be read.

    >>> from headgate.quota.command import Look
    >>> outcome(Look(()), (5).to_bytes(8, "little") + (7).to_bytes(8, "little"))
    Seen(now=7, balances=())
    >>> outcome(Look(()), b"five")
    Traceback (most recent call last):
    headgate.errors.StoreError: the script's answer to a Look cannot be read: 4 bytes
    """
    try:
        reader = _readers.get(len(reply)) or struct.Struct(f"<{len(reply) // 8}q").unpack
        numbers = reader(reply)
        if numbers[0] == 7:  # nearly always
            return _granted_plainly(command.demands, numbers)
        return _READ[numbers[0]](command.demands, numbers, reply)
    except (struct.error, IndexError, KeyError, ValueError, TypeError):
        told = f"{len(reply)} bytes" if isinstance(reply, bytes) else type(reply).__name__
        name = type(command).__name__
        raise StoreError(f"the script's answer to a {name} cannot be read: {told}", transient=False) from None


def _granted_plainly(demands: Sequence[Demand], numbers: Numbers) -> Granted:
    at = 2
    balances = []
    for demand in demands:
        verb = demand[1]
        used, since, until = numbers[at : at + 3]
        parts: Parts = ()
        at += 3
        if type(verb) is Rolling:
            parts, at = _parts(numbers, at)
        balances.append(new(Balance, (verb.kind, used, since, until, verb.spec, parts, None)))
    if at != len(numbers):
        raise ValueError
    return new(Granted, (numbers[1], tuple(balances), ()))


def _granted(demands: Sequence[Demand], numbers: Numbers, reply: bytes) -> Granted:
    balances, at = _balances(demands, numbers, 3, reply)
    shadowed: tuple[Refusal, ...] = ()
    if numbers[2]:
        shadowed, at = _refusals(demands, numbers, at, numbers[2])
    return _whole(new(Granted, (numbers[1], balances, shadowed)), numbers, at)


def _refused(demands: Sequence[Demand], numbers: Numbers, reply: bytes) -> Refused:
    balances, at = _balances(demands, numbers, 4, reply)
    shadowed, at = _refusals(demands, numbers, at, numbers[2])
    refusals, at = _refusals(demands, numbers, at, numbers[3])
    return _whole(Refused(numbers[1], refusals, balances, shadowed), numbers, at)


def _gone(demands: Sequence[Demand], numbers: Numbers, reply: bytes) -> Gone:
    moved, at = _moved(demands, numbers, 3, numbers[2], reply)
    there = dict(moved)
    found = tuple([there.get(n, demand) for n, demand in enumerate(demands)]) if there else ()
    return _whole(Gone(numbers[1], found if found != tuple(demands) else ()), numbers, at)


def _settled(demands: Sequence[Demand], numbers: Numbers, reply: bytes) -> Settled:
    balances, at = _balances(demands, numbers, 4, reply)
    added = numbers[at : at + numbers[2]]
    moved, at = _moved(demands, numbers, at + numbers[2], numbers[3], reply)
    done = Settled(numbers[1], balances, tuple([demand for _, demand in moved]), added)
    return _whole(done, numbers, at)


def _seen(demands: Sequence[Demand], numbers: Numbers, reply: bytes) -> Seen:
    balances, at = _balances(demands, numbers, 2, reply)
    return _whole(Seen(numbers[1], balances), numbers, at)


def _parted(demands: Sequence[Demand], numbers: Numbers, reply: bytes) -> Parted:
    [source] = demands
    [balance], at = _balances(demands, numbers, 3, reply)
    parcel = None
    if numbers[2]:
        until = numbers[at]
        id_, at = _bytes(numbers, at + 1, reply)
        place, at = _bytes(numbers, at, reply)
        moving, at = _balance(source, numbers, at, reply)
        if moving is None:
            raise ValueError
        things, at = _sketch(numbers, at, reply) if at < len(numbers) else (b"", at)
        parcel = Parcel(id_, place_of(place), moving, until, things)
    return _whole(Parted(numbers[1], balance, parcel), numbers, at)


def _shown(demands: Sequence[Demand], numbers: Numbers, reply: bytes) -> Shown:
    [balance], at = _balances(demands, numbers, 2, reply)
    things = None
    if numbers[at]:
        data, end = _sketch(numbers, at + 2, reply)
        things, at = Things(numbers[at + 1], data), end - 1
    return _whole(Shown(numbers[1], balance, things), numbers, at + 1)


_READ: dict[int, Callable[[Sequence[Demand], Numbers, bytes], Any]] = {
    1: _granted, 2: _refused, 3: _gone, 4: _settled, 5: _seen, 6: _parted, 8: _shown,
}  # fmt: skip


def _whole(read: Read, numbers: Numbers, at: int) -> Read:
    """What was read, if that was all there is."""
    if at != len(numbers):
        raise ValueError
    return read


def _balances(demands: Sequence[Demand], numbers: Numbers, at: int, reply: bytes) -> tuple[Balances, int]:
    balances = []
    for demand in demands:
        balance, at = _balance(demand, numbers, at, reply)
        balances.append(balance)
    return tuple(balances), at


def _balance(demand: Demand, numbers: Numbers, at: int, reply: bytes) -> tuple[Balance | None, int]:
    flags = numbers[at]
    if not flags:
        return None, at + 1
    used, since, until = numbers[at + 1 : at + 4]
    at += 4
    verb, holds = demand.verb, None
    parts: Parts = ()
    kind, spec = verb.kind, verb.spec
    if flags & 2:
        kind, spec = NAMES[numbers[at]], numbers[at + 1]
        at += 2
    if flags & 4:
        parts, at = _parts(numbers, at)
    if flags & 8:
        held, due, seen, _ = numbers[at : at + 4]
        by_rid, at = _holds(numbers, at + 4, reply) if flags & 16 else ({}, at + 4)
        holds = new(Holds, (held, due, by_rid, seen))
    return new(Balance, (kind, used, since, until, spec, parts, holds)), at


def _parts(numbers: Numbers, at: int) -> tuple[Parts, int]:
    start, end = at + 1, at + 1 + 2 * numbers[at]
    return tuple(zip(numbers[start:end:2], numbers[start + 1 : end : 2], strict=True)), end


def _holds(numbers: Numbers, at: int, reply: bytes) -> tuple[dict[bytes, Hold], int]:
    by_rid = {}
    many, at = numbers[at], at + 1
    for _ in range(many):
        rid, at = _bytes(numbers, at, reply)
        amount, until, step, lapsed = numbers[at : at + 4]
        to, at = (None, at + 5) if numbers[at + 4] < 0 else _bytes(numbers, at + 4, reply)
        by_rid[rid] = Hold(amount, until, step, lapsed % 2 == 1, place_of(to) if to is not None else None, lapsed > 1)
    return by_rid, at


def _refusals(demands: Sequence[Demand], numbers: Numbers, at: int, many: int) -> tuple[tuple[Refusal, ...], int]:
    refusals: list[Refusal] = []
    for start in range(at, at + 4 * many, 4):
        which, never, one, other = numbers[start : start + 4]
        limit = demands[which].place[1]
        refusals.append(Never(limit, one) if never else NotYet(limit, one + other))
    return tuple(refusals), at + 4 * many


def _moved(
    demands: Sequence[Demand], numbers: Numbers, at: int, many: int, reply: bytes
) -> tuple[list[tuple[int, Demand]], int]:
    """Which demands a merge has moved, and the same at their new places."""
    moved = []
    for _ in range(many):
        which = numbers[at]
        place, at = _bytes(numbers, at + 1, reply)
        moved.append((which, demands[which].at(place_of(place))))
    return moved, at


def _sketch(numbers: Numbers, at: int, reply: bytes) -> tuple[bytes, int]:
    data, at = _bytes(numbers, at, reply)
    if not readable(data):
        raise ValueError
    return data, at


def _bytes(numbers: Numbers, at: int, reply: bytes) -> tuple[bytes, int]:
    """Bytes led by their length; they fill whole integers."""
    length, start = numbers[at], 8 * (at + 1)
    found = reply[start : start + length]
    if length < 0 or len(found) != length:
        raise ValueError
    return found, at + 1 - (-length // 8)
