"""How demands are written for the script: the bytes of each limit's window, and the keys of what is charged.

Law: what is written depends on the demand alone. Tariffs hand out the same demands for request after request, so what
was written of one is kept beside it, under its identity; a demand for another amount still has the same verb.

The layout is told in `wire.lua`; keys of windows in `rows.lua`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Generic, NamedTuple, TypeVar

from headgate.errors import StoreError
from headgate.quota.balance import Verb, new
from headgate.quota.command import Demand, Place
from headgate.quota.gcra import Rate
from headgate.quota.things import SIZE
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores.redis.script.keys import keys_of, receipt_key, tag_of

KINDS = {"rate": 1, "quota": 2, "rolling": 3, "max": 4, "total": 5}
NAMES = {number: kind for kind, number in KINDS.items()}

ROOM = 8_192
"""Things that are remembered at least, twice as many at most: of a tuple of demands some 600 bytes, 10 MB in all."""

POWERS = 6
"""The largest power of ten that is written beside a mantissa: lengths of time end in zeros."""

T = TypeVar("T")

_ROLLING = 196
_DRAIN_WIDTHS = (0, 1, 3, 7)
_demand = struct.Struct("<HBdH").pack
_number = struct.Struct("<H").pack
_length = struct.Struct("<I").pack
_doubles = [struct.Struct(f"<{n}d").pack for n in range(8)]


class Kept(Generic[T]):
    """What was made of objects, found by their identity. Bounded; an object is kept with what was made of it, so that
    no other can come to lie at its address. Of those that do not come again (`keeps`) nothing is kept.

    >>> kept, whole = Kept(len), (1, 2, 3)
    >>> kept.of(whole), kept.of(whole)
    (3, 3)
    """

    __slots__ = ("_keeps", "_make", "_older", "_young")

    def __init__(self, make: Callable[..., T], keeps: Callable[..., bool] | None = None) -> None:
        self._make = make
        self._keeps = keeps
        self._young: dict[int, tuple[object, T]] = {}
        self._older: dict[int, tuple[object, T]] = {}

    def of(self, thing: object) -> T:
        """What is made of it."""
        found = self._young.get(id(thing))
        if found is not None and found[0] is thing:
            return found[1]
        return self._found(thing)

    def _found(self, thing: object) -> T:
        if self._keeps is not None and not self._keeps(thing):
            return self._make(thing)
        found = self._older.get(id(thing))
        if found is None or found[0] is not thing:
            found = (thing, self._make(thing))
        if len(self._young) >= ROOM:
            self._older, self._young = self._young, {}
        self._young[id(thing)] = found
        return found[1]

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._young) + len(self._older)


class Asked(NamedTuple):
    """Demands as they are written: what their receipts' keys begin with, the keys of their subjects, all of them as
    the end of a body; and the sketches that they name, each by its subject's key and the limit's name."""

    receipts: bytes
    keys: tuple[bytes, ...]
    tail: bytes
    sketches: tuple[tuple[bytes, bytes], ...] = ()


def asked(demands: Sequence[Demand], *, naming: bool = False) -> Asked:
    """The demands, written; their things, too, if they are of a command that reads them (`naming`). Raises StoreError
    for a verb or ids that the script cannot tell."""
    keys: list[bytes] = []
    sketches: list[tuple[bytes, bytes]] = []
    parts = [_number(len(demands))]
    subject = b""
    for demand in demands:
        (who, limit), verb, amount, hold, shadow, _, things, owed = demand
        if who != subject or not keys:  # those of one subject mostly stand together
            subject = who
            key = _key(who)
            if key in keys:
                at = keys.index(key)
            else:
                at = len(keys)
                keys.append(key)
        if things and naming:
            window, name = _windows.of(verb), name_of(limit)
            parts += _demand(at, 5 + 2 * shadow + 8 * owed, amount, 4 + len(window)), name, window
            parts += _length(SIZE * len(things)), *things
            sketches.append((keys[at], name))
        elif hold:
            window = _windows.of(verb)
            parts += _demand(at, 1 + 2 * shadow + 8 * owed, amount, 4 + len(window)), name_of(limit), window
        else:
            parts += _number(at), _at_once.of(demand)
    receipts = _receipts(demands[0][0][0] if demands else b"")
    return new(Asked, (receipts, tuple(keys), b"".join(parts), tuple(sketches)))


def distinct(demands: Sequence[Demand]) -> Asked:
    """The demands of a reservation, written. Raises StoreError as `asked` does, ValueError if a place comes twice."""
    if len({demand[0] for demand in demands}) != len(demands):
        raise ValueError("a reservation names a place twice")
    return asked(demands, naming=True)


def usual(demands: Sequence[Demand]) -> bool:
    """Whether the demands may come again as they are: what names things is of one request."""
    return not any(demand[6] for demand in demands)


def sketches_of(demands: Sequence[Demand]) -> tuple[tuple[bytes, bytes], ...]:
    """Where the sketches of all demands would lie, as `Asked` tells it."""
    return tuple([(_key(demand.place[0]), name_of(demand.place[1])) for demand in demands])


def _used(demand: Demand) -> bytes:
    """What uses at once is mostly one request: the very demand comes again, whatever else is asked beside it."""
    place, verb, amount, _, shadow, _, _, owed = demand
    window = _windows.of(verb)
    return _demand(0, 2 * shadow + 8 * owed, amount, 4 + len(window))[2:] + name_of(place[1]) + window


@lru_cache(maxsize=ROOM)
def _key(subject: bytes) -> bytes:
    return keys_of(subject)[0]


@lru_cache(maxsize=ROOM)
def _receipts(subject: bytes) -> bytes:
    return receipt_key(tag_of(subject))


_limits: dict[bytes, str] = {}


@lru_cache(maxsize=ROOM)
def name_of(limit: str) -> bytes:
    """The name under which a limit's balances lie in a subject: a digest of its id, 4 bytes.

    Raises StoreError where two limits of this process have the same: one in four billion pairs. Then one of them must
    be called something else.
    """
    name = blake2b(limit.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    if _limits.setdefault(name, limit) != limit:
        raise StoreError(
            f"the limits `{limit}` and `{_limits[name]}` would be counted as one in Redis; give one another id",
            transient=False,
        )
    return name


def place_bytes(place: Place) -> bytes:
    """A place as it stands in a note that a hold was moved there.

    >>> place_of(place_bytes((b"group", "life")))
    (b'group', 'life')
    """
    subject, limit = place
    return struct.pack("<H", len(subject)) + subject + limit.encode("utf-8", "surrogatepass")


def place_of(written: bytes) -> Place:
    """The place that `place_bytes` wrote."""
    end = 2 + int.from_bytes(written[:2], "little")
    return written[2:end], written[end:].decode("utf-8", "surrogatepass")


def _window(verb: Verb) -> bytes:
    """What the script must know of a verb, behind the number of its kind."""
    if type(verb) is Rate:
        at, mantissa = _scaled(verb.spec)
        width = next(n for n, bytes_ in enumerate(_DRAIN_WIDTHS) if verb.drain == 1 or verb.drain < 256**bytes_)
        drain = verb.drain.to_bytes(_DRAIN_WIDTHS[width], "little") if width else b""
        key = bytes([4 * at + width]) + mantissa + drain
        return b"%c%c%b" % (1, len(key), key) + _doubles[3](verb.spec, verb.drain, verb.brim)
    if type(verb) is Quota:
        edges = struct.pack(f"<{len(verb.edges)}d", *verb.edges)
        return b"\2" + _doubles[3](verb.spec, verb.capacity, verb.length) + edges
    if type(verb) is Rolling:
        at, mantissa = _scaled(verb.length)
        key = bytes([_ROLLING + at]) + mantissa
        return b"%c%c%b" % (3, len(key), key) + _doubles[3](verb.length, verb.spec, verb.capacity)
    if type(verb) is Max:
        return b"\4" + _doubles[1](verb.capacity)
    if type(verb) is Total:
        return b"\5" + _doubles[1](verb.capacity)
    raise StoreError(f"the Redis store has no script for the verb `{verb.kind}`", transient=False)


def _scaled(number: int) -> tuple[int, bytes]:
    """A number as `mantissa` times a power of ten: which of the seven powers and seven widths, and the mantissa.

    >>> _scaled(1_000_000), _scaled(86_400_000)
    ((6, b'\\x01'), (12, b'`\\x03'))
    """
    power = 0
    while power < POWERS and number and number % 10 == 0:
        number, power = number // 10, power + 1
    width = max(1, (number.bit_length() + 7) // 8)
    return 7 * (width - 1) + power, number.to_bytes(width, "little")


_windows = Kept(_window)
_at_once = Kept(_used)
