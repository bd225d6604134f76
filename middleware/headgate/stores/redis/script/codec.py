"""How commands are written for the script: keys, and a body that says all the rest.

Law: pure; no I/O, no clock. A command is written whole, so that the script decides it by nothing else than what lies
in Redis. The layout of a body is told in `wire.lua`, that of the keys in `keys`, how answers are read in `replies`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from headgate.errors import StoreError
from headgate.quota.balance import LATE, Balance, Hold, new
from headgate.quota.command import Cancel, Command, Demand, Extend, Join, Look, Merge, Reserve, Settle
from headgate.stores.redis.script.keys import holds_key, overflow_keys, sketch_key, tag_of
from headgate.stores.redis.script.lines import KINDS, Kept, asked, distinct, name_of, place_bytes, sketches_of, usual
from headgate.stores.redis.script.parcel import Give, Given, Lift, Parcelled, Show, Take, Tie, Try, Undo, Weigh
from headgate.stores.redis.script.replies import outcome

__all__ = ["Packed", "arguments", "outcome", "packed", "tag_of"]

_head = struct.Struct("<BHdddB").pack
"""Number of the command, number of its keys, now, lease, step, length of the rid."""


_asked = Kept(distinct, usual)
"""What was written of the demands of reservations: a tariff hands out the same tuple again and again."""


class Packed(NamedTuple):
    """A command for the script: the keys that it names, its body, and the sketches that it may come to, each by its
    subject's key and the limit's name."""

    keys: tuple[bytes, ...]
    body: bytes
    sketches: tuple[tuple[bytes, bytes], ...] = ()


def packed(command: Command | Parcelled, now: int | None) -> Packed:
    """The command at `now` (microseconds; None: the server's clock). That its places lie in one slot is the caller's
    duty.

    Raises StoreError for what the script cannot be told: a verb that it does not know, a `rid` of over 255 bytes; and
    ValueError for a reservation that names a place twice.

    >>> from headgate.quota.command import Demand
    >>> from headgate.quota.window import Total
    >>> packed(Look((Demand((b"acme's--its key.", "life"), Total(9), 0),)), now=None).keys
    (b"hg{acme's--}its key.",)
    """
    at = -1 if now is None else now
    try:
        if type(command) is Reserve:  # nearly always
            rid, demands, lease = command
            receipts, keys, tail, sketches = _asked.of(demands)
            body = _head(1, len(keys) + 1, at, lease, 0, len(rid)) + rid + tail
            return new(Packed, ((receipts + rid, *keys), body, sketches))
        return _packers[type(command)](command, at)
    except KeyError:
        raise StoreError(f"the Redis store knows no {type(command).__name__}", transient=False) from None
    except struct.error as error:
        name = type(command).__name__
        raise StoreError(f"the Redis store cannot be told this {name}: {error}", transient=False) from None


def arguments(packs: Sequence[Packed], tag: bytes | None, *, full: bool) -> list[bytes]:
    """What follows the script's digest in EVALSHA: the keys' number, the keys, and the script's arguments.

    `tag`: what all keys share, None where there are no slots; `full`: the server has no memory left.
    """
    keys = [overflow_keys(tag)[0]]
    for pack in packs:
        keys += pack.keys
    read = len(keys)
    if tag is not None:
        # A slot that is on its way to another node is served only where all its keys are: so all have to be named.
        keys += {holds_key(key): None for key in keys if key[1] in b"go"}
        keys += {sketch_key(key, name): None for pack in packs for at, name in pack.sketches for key in (at, keys[0])}
    return [b"%d" % len(keys), *keys, b"full" if full else b"", b"%d" % read, *[pack.body for pack in packs]]


def _try(command: Try, now: int) -> Packed:
    rid, demands, lease, short = command
    receipts, keys, tail, sketches = _asked.of(demands)
    body = _head(8, len(keys) + 1, now, lease, short, len(rid)) + rid + tail
    return Packed((receipts + rid, *keys), body, sketches)


def _extend(command: Extend, now: int) -> Packed:
    rid, demands, lease, step = command
    _, keys, tail, _ = asked(demands)
    return Packed(keys, _head(2, len(keys), now, lease, step, len(rid)) + rid + tail)


def _settle(command: Settle, now: int) -> Packed:
    rid, demands = command
    _, keys, tail, sketches = asked(demands, naming=True)
    return Packed(keys, _head(3, len(keys), now, 0, 0, len(rid)) + rid + tail, sketches)


def _cancel(command: Any, now: int) -> Packed:
    receipts, keys, tail, _ = asked(command.demands)
    number, lease = (4, command.lease) if type(command) is Cancel else (9, 0)
    rid = command.rid
    return Packed((receipts + rid, *keys), _head(number, len(keys) + 1, now, lease, 0, len(rid)) + rid + tail)


def _look(command: Look, now: int) -> Packed:
    _, keys, tail, _ = asked(command.demands)
    return Packed(keys, _head(5, len(keys), now, 0, 0, 0) + tail)


def _weigh(command: Weigh, now: int) -> Packed:
    _, keys, tail, sketches = _asked.of(command.demands)
    return Packed(keys, _head(14, len(keys), now, 0, 0, 0) + tail, sketches)


def _show(command: Show, now: int) -> Packed:
    _, keys, tail, _ = asked(command.demands)
    return Packed(keys, _head(15, len(keys), now, 0, 0, 0) + tail, sketches_of(command.demands))


def _merge(command: Merge | Join, now: int) -> Packed:
    _, keys, tail, _ = asked(command.demands)
    number = 6 if type(command) is Merge else 7
    body = _head(number, len(keys), now, 0, 0, 0) + tail + place_bytes(command.into.place)
    return Packed(keys, body, sketches_of(command.demands))


def _give(command: Give, now: int) -> Packed:
    keys, tail = _moving(command.id, command.source)
    head = _head(10, 3, now, 0, 0, len(command.id)) + command.id
    return Packed(keys, head + tail + place_bytes(command.into.place), sketches_of(command.demands))


def _take(command: Take, now: int) -> Packed:
    (into, parcel) = command
    receipts, keys, tail, _ = asked((into,))
    # Remembered for longer than its sender keeps it, though their clocks may differ.
    head = _head(11, 2, now, parcel.until + LATE, 0, len(parcel.id)) + parcel.id
    body = head + tail + _balance(parcel.balance) + _things(parcel.things)
    return Packed((receipts + parcel.id, *keys), body, sketches_of((into,)))


def _given(command: Given, now: int) -> Packed:
    keys, tail = _moving(command.id, command.source)
    return Packed(keys, _head(12, 3, now, 0, 0, len(command.id)) + command.id + tail)


def _lift(command: Lift, now: int) -> Packed:
    _, keys, tail, _ = asked((command.into,))
    told = _balance(command.balance) + _things(command.things) + place_bytes(command.into.place)
    return Packed(keys, _head(13, 1, now, 0, 0, 0) + tail + told, sketches_of((command.into,)))


def _tie(command: Tie, now: int) -> Packed:
    _, keys, tail, _ = asked((command.source,))
    told = struct.pack("<I", len(command.rids)) + b"".join([b"%c%b" % (len(rid), rid) for rid in command.rids])
    body = _head(16, 1, now, 0, 0, 0) + tail + told + place_bytes(command.to)
    return Packed(keys, body, sketches_of((command.source,)))


def _moving(ident: bytes, source: Demand) -> tuple[tuple[bytes, ...], bytes]:
    """Keys and tail of a place that something is taken out of: whether it was given, the place, where it waits."""
    receipts, keys, tail, _ = asked((source,))
    return (receipts + b"given " + ident, *keys, b"hm" + keys[0][2:] + name_of(source.place[1])), tail


def _balance(balance: Balance | None) -> bytes:
    """A balance in a body, with each of its holds; a place at which they are besides is told by the command."""
    if balance is None:
        return b"\0"
    kind, used, since, until, spec, parts, holds = balance
    by_rid: Mapping[bytes, Hold]
    by_rid, seen = (holds.by_rid, holds.seen) if holds is not None else ({}, 0)
    written = [struct.pack("<BdddddHI", KINDS[kind], used, since, until, spec, seen, len(parts), len(by_rid))]
    written += [struct.pack("<dd", part, units) for part, units in parts]
    for rid, hold in by_rid.items():
        written += [struct.pack("<B", len(rid)), rid]
        flags = hold.lapsed + 2 * (hold.to is not None) + 4 * hold.also
        written.append(struct.pack("<dddB", hold.amount, hold.until, hold.step, flags))
    return b"".join(written)


def _things(data: bytes) -> bytes:
    """The bytes of a sketch in a body."""
    return struct.pack("<I", len(data)) + data


_packers: dict[type, Callable[[Any, int], Packed]] = {
    Extend: _extend, Settle: _settle, Cancel: _cancel, Look: _look, Merge: _merge,
    Join: _merge, Try: _try, Undo: _cancel, Weigh: _weigh, Give: _give, Take: _take, Given: _given, Lift: _lift,
    Tie: _tie, Show: _show,
}  # fmt: skip
