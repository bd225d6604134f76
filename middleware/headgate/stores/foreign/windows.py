"""Windows as plain counters: which keys a demand counts in, and what their sums mean.

Law: pure, and it never lets more pass than the verb would. A key carries the subject, the limit and which stretch of
time it counts, never the amount: a limit that is made larger or smaller keeps what was used. A key, once its time is
over, counts no more, whenever the server throws it away.

| verb | keys | counts |
| --- | --- | --- |
| `quota` | one for each window of the calendar, by the instant at which it begins | exactly |
| `quota` from the first use | one, which the server lets expire | exactly; by the server's clock |
| `rolling` | one for each of the window's 24 parts, as everywhere | exactly; forgets up to a part late, never early |
| `rate` | as `rolling`: amount and burst, in the time in which they refill | never more than the rate lets pass |
| `total` | one | exactly |

`limits` has strategies of its own, which are not used. Its moving window gives nothing back and keeps an entry for
each unit; its sliding window lets up to twice the amount pass around a window's edge; its fixed window is charged for
what it refuses; and all three have the amount in the key, so that a limit that is changed begins anew.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

from headgate.errors import StoreError
from headgate.quota.balance import FOREVER, SAFE, Balance, Verb
from headgate.quota.command import Demand, Never, NotYet, Place, Refusal
from headgate.quota.gcra import Rate
from headgate.quota.window import SUB_WINDOWS, Quota, Rolling, Total

PREFIX = "hg:"
"""Begins every key: others may use the same server."""

LATER = 10_000_000
"""How long (microseconds) a part is kept beyond its time: as long as it may still be given back, and as clocks of
several hosts may differ."""

LONGER = 3_600_000_000
"""The same for a window of the calendar, of which there is one key: a clock that is set back by less finds it."""


class Window(NamedTuple):
    """Where one demand counts at an instant.

    `key` takes what is charged, and is kept for `seconds` from its first unit on (0: for good). `counts` are all keys
    whose sum is what is used, each with the instant (microseconds) from which on it counts no more, oldest first.
    `opens`: the server alone knows when it ends; the instant in `counts` is the latest at which it may.
    """

    verb: Verb
    key: str
    counts: tuple[tuple[str, int], ...]
    seconds: int
    opens: bool = False

    def used(self, found: Mapping[str, int]) -> int:
        """Units that count, by what was read."""
        return min(sum([found.get(key, 0) for key, _ in self.counts]), SAFE)

    def left(self, found: Mapping[str, int]) -> int:
        """Units that are free; negative where more is used than the limit has."""
        return self.verb.capacity - self.used(found)

    def until(self, found: Mapping[str, int], now: int) -> int:
        """The instant from which on it is as good as untouched."""
        return max([end for key, end in self.counts if found.get(key, 0)], default=now)

    def refusal(self, limit: str, amount: int, found: Mapping[str, int]) -> Refusal:
        """Why so many units do not fit, and when they will if nothing else happens."""
        free = self.left(found)
        most = max(0, free) if self.verb.kind == "total" else self.verb.capacity
        if amount > most:
            return Never(limit, most)
        at = 0
        for key, end in self.counts:
            if amount <= free:
                break
            if units := found.get(key, 0):
                free, at = free + units, end
        return NotYet(limit, at)

    def balance(self, found: Mapping[str, int], now: int) -> Balance | None:
        """What was read as a balance, for whoever tells what is left; None for an untouched one.

        It stands at `now` and is not to be brought to another instant: of a `rate` it is what counts, not a backlog
        that drains.
        """
        used, until, verb = self.used(found), self.until(found, now), self.verb
        if not used:
            return None
        match verb:
            case Rate():
                return Balance("rate", min(used * verb.scale, SAFE), now, until, verb.spec)
            case Rolling():
                return Balance("rolling", used, now, until, verb.spec, ((now // verb.spec, used),))
            case Quota():
                since = until - verb.length if verb.length else verb.window(now)[0]
                return Balance("quota", used, min(since, now), until, verb.spec)
            case _:
                return Balance("total", used, now, until, verb.spec)


def window_of(place: Place, verb: Verb, now: int) -> Window:
    """Where a verb counts a subject's units at `now` (microseconds). Raises StoreError for a verb that only holds.

    >>> here = window_of((b"acme", "day"), Quota(5, (0, 100, 200, 300), spec=10), now=150)
    >>> here.key.rpartition(":")[2], here.counts[0][1]
    ('qa.100', 200)
    """
    name = _name(place)
    match verb:
        case Total():
            return Window(verb, key := f"{name}t", ((key, FOREVER),), 0)
        case Quota() if verb.length:
            key = f"{name}f{verb.spec:x}.{verb.length}"
            return Window(verb, key, ((key, now + verb.length),), _seconds(verb.length), True)
        case Quota():
            start, end = verb.window(now)
            key = f"{name}q{verb.spec:x}.{start}"
            return Window(verb, key, ((key, end),), _seconds(max(end - now, 0) + LONGER))
        case Rolling():
            return _trailing(name, verb, verb.length, now)
        case Rate():
            # In any time t, capacity + t * amount / period pass; so many in each trailing refill are never more.
            return _trailing(name, verb, -(-verb.capacity * verb.period // verb.amount), now)
    raise StoreError(f"limit `{place[1]}`: a `{verb.kind}` is held, and this store can hold nothing", transient=False)


def _trailing(name: str, verb: Verb, length: int, now: int) -> Window:
    part = -(-length // SUB_WINDOWS)
    present = now // part
    oldest = (now - length) // part  # the first whose end, and the length after it, lie ahead
    # One part ahead, too: another host's clock may be there already.
    parts = range(oldest, present + 2)
    key = f"{name}w{part:x}."
    counts = tuple([(f"{key}{at}", (at + 1) * part + length) for at in parts])
    return Window(verb, f"{key}{present}", counts, _seconds(part + length + LATER))


def _seconds(microseconds: int) -> int:
    return -(-microseconds // 1_000_000)


def _name(place: Place) -> str:
    """A place as every server takes it: short, without blanks, and not to be mistaken for another's."""
    subject, limit = place
    told = b"%d:%b%b" % (len(subject), subject, limit.encode("utf-8", "surrogatepass"))
    return f"{PREFIX}{urlsafe_b64encode(blake2b(told, digest_size=15).digest()).decode()}:"


def checked(demands: tuple[Demand, ...]) -> None:
    """Raises StoreError where a demand names things or is to be held, ValueError where two name one place."""
    for demand in demands:
        if demand.things:
            raise StoreError(
                f"limit `{demand.place[1]}` counts different things, and this store can keep none of them; "
                "`headgate check` names all such limits",
                transient=False,
            )
        if demand.hold or demand.verb.kind == "max":
            raise StoreError(
                f"limit `{demand.place[1]}` needs an amount to be held, and this store can hold nothing; "
                "`headgate check` names all such limits",
                transient=False,
            )
    if len({demand.place for demand in demands}) != len(demands):
        raise ValueError("a reservation names a place twice")
