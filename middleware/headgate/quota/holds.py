"""What is held for reservations that are still open: leases, how they end, and how they move.

Law: an amount is held until it is settled or its lease ends. Then it is charged, once, as of that very instant,
whenever that is noticed; a concurrent place is freed. A settlement that comes late still finds what was charged,
for `LATE` microseconds, and replaces it by the truth. It knows no limit: the verb that charges is handed in.

To hold one more, or one less, costs the same however many are held: one customer's thousand open responses are not to
slow down everybody who shares the store. Only what time does is done to all, and only when the first lease has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from headgate.quota.balance import CLOCK_SKEW, LATE, SAFE, Balance, Hold, Holds, Standing, Verb, new

FEW = 64
"""So many holds, or changes to more of them, are copied at each change: a microsecond."""


def brought(balance: Balance | None, verb: Verb, now: int) -> tuple[Standing, Holds | None]:
    """What counts as used at `now` and what is held then, with the leases that have ended charged.

    >>> from headgate.quota.window import Total
    >>> held = Balance("total", 1, 0, SAFE, 0, (), Holds(2, 50, {b"r1": Hold(2, until=50)}))
    >>> [(standing[0], holds.held) for standing, holds in (brought(held, Total(9), now) for now in (49, 50))]
    [(1, 2), (3, 0)]
    """
    if balance is None or balance.holds is None:
        return verb.bring(balance, now), None
    holds = balance.holds
    if holds.seen > now + CLOCK_SKEW:
        holds = _set_back(holds, now)
    if holds.due <= now:
        return _lapsed(balance, verb, holds, now)
    return verb.bring(balance, now), holds


def _set_back(holds: Holds, now: int) -> Holds:
    """The holds as they stand by a clock that was set back: what was left of each lease is left of it still."""
    by = holds.seen - now
    by_rid = {rid: hold._replace(until=hold.until - by) for rid, hold in holds.by_rid.items()}
    return Holds(holds.held, holds.due - by, by_rid, now)


def _lapsed(balance: Balance, verb: Verb, holds: Holds, now: int) -> tuple[Standing, Holds | None]:
    """Charges live holds as of the instants at which their leases ended, and forgets those that lapsed long ago."""
    kept: dict[bytes, Hold] = {}
    for rid, hold in sorted(holds.by_rid.items(), key=lambda item: item[1].until):
        if hold.until > now:
            kept[rid] = hold
        elif not hold.lapsed and verb.kind != "max":
            # INVARIANT: never before `since`: a backlog must not drain twice for the same time.
            at = min(now, max(hold.until, balance.since))
            balance = verb.put(verb.bring(balance, at), hold.amount, None, at)
            if hold.until + LATE > now:
                kept[rid] = hold._replace(until=hold.until + LATE, lapsed=True)
    return verb.bring(balance, now), summed(kept, max(now, holds.seen))


def held_also(holds: Holds | None, rid: bytes, hold: Hold, now: int) -> Holds:
    """The holds and one more."""
    if holds is None:
        return new(Holds, (0 if hold.lapsed else hold.amount, hold.until, {rid: hold}, now))
    by_rid = altered(holds.by_rid, rid, hold)
    held = holds.held + (0 if hold.lapsed else hold.amount)
    return Holds(held, min(holds.due, hold.until), by_rid, max(now, holds.seen))


def without(holds: Holds, rid: bytes, now: int) -> Holds | None:
    """The holds but one that is among them."""
    if len(holds.by_rid) == 1:
        return None
    mine = holds.by_rid[rid]
    kept = altered(holds.by_rid, rid, None)
    # `due` may stay earlier than it needs to be: then a later command looks once for nothing.
    return Holds(holds.held - (0 if mine.lapsed else mine.amount), holds.due, kept, max(now, holds.seen))


class Altered(Mapping[bytes, Hold]):
    """Many holds with a few changes: the same as a dictionary of the outcome, without copying the many.

    Neither `base` nor `changes` is changed any more; None in `changes` stands for a hold that was taken away. The
    base may be a store's own mapping that reads a hold when it is asked for one; in `changes` the store finds what
    it has to write.
    """

    __slots__ = ("_many", "base", "changes")

    def __init__(self, base: Mapping[bytes, Hold], changes: Mapping[bytes, Hold | None], many: int) -> None:
        self.base, self.changes, self._many = base, changes, many

    def __getitem__(self, rid: bytes) -> Hold:
        """The hold of a reservation. Raises KeyError where there is none."""
        hold = self.changes[rid] if rid in self.changes else self.base[rid]
        if hold is None:
            raise KeyError(rid)
        return hold

    def __iter__(self) -> Iterator[bytes]:
        """Goes through all of them: whoever does it makes the base read them."""
        yield from [rid for rid in self.base if rid not in self.changes]
        yield from [rid for rid, hold in self.changes.items() if hold is not None]

    def __len__(self) -> int:
        """How many there are, known without going through them."""
        return self._many


def altered(by_rid: Mapping[bytes, Hold], rid: bytes, hold: Hold | None) -> Mapping[bytes, Hold]:
    """The holds with this one for `rid`, or with none.

    >>> one, other = Hold(1, until=50), Hold(2, until=50)
    >>> altered(altered({b"r1": one}, b"r2", other), b"r1", None) == {b"r2": other}
    True
    """
    if type(by_rid) is dict and len(by_rid) < FEW:
        return _with(by_rid, {rid: hold})
    many = len(by_rid) - (rid in by_rid) + (hold is not None)
    base, changes = (by_rid.base, by_rid.changes) if isinstance(by_rid, Altered) else (by_rid, {})
    changes = {**changes, rid: hold}
    # Once in a while all are copied after all: a hundredth of what copying them each time costs.
    return _with(base, changes) if len(changes) > FEW else Altered(base, changes, many)


def _with(base: Mapping[bytes, Hold], changes: Mapping[bytes, Hold | None]) -> dict[bytes, Hold]:
    kept = dict(base)
    for rid, hold in changes.items():
        if hold is not None:
            kept[rid] = hold
        else:
            kept.pop(rid, None)
    return kept


def summed(by_rid: dict[bytes, Hold], now: int) -> Holds | None:
    """The holds by their ids, with their sum and when the first is due; None for none."""
    if not by_rid:
        return None
    held = sum([hold.amount for hold in by_rid.values() if not hold.lapsed])
    return Holds(held, min([hold.until for hold in by_rid.values()]), by_rid, now)


def united(one: Hold | None, other: Hold) -> Hold:
    """Two holds of one reservation at one place. If only one has lapsed, it is charged already: the other stays."""
    if one is None or one.gone or (one.lapsed and not other.lapsed):
        return other
    if other.lapsed and not one.lapsed:
        return one
    amount = min(one.amount + other.amount, SAFE)
    to, also = (one.to, one.also) if one.also else (other.to, other.also)
    return Hold(amount, max(one.until, other.until), max(one.step, other.step), one.lapsed, to, also)


def note(hold: Hold, to: tuple[bytes, str]) -> Hold:
    """What stays where a hold was, as long as anybody may ask for it. An earlier note is left as it is."""
    return hold if hold.gone else Hold(0, hold.until + (0 if hold.lapsed else LATE), hold.step, True, to)


def ended(hold: Hold, used: int, now: int) -> Hold:
    """What stays of a hold that is held elsewhere `also`, once it is settled here: how much was used of it and, by
    when it is forgotten, since when. Whoever says the settlement again is sent on again."""
    return Hold(used, now + LATE, hold.step, True, hold.to)
