"""`quota`, `rolling`, `max` and `total`: limits that count within a window, among the living, or for ever.

Law: a window, once opened, is never opened again, whatever the clock does; usage survives a change of the
limit's amount and of its window. Calendar arithmetic is done before the ledger is asked (see `calendar`): a
`Quota` knows instants only, so that a store without time zones can decide alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from headgate.quota.balance import CLOCK_SKEW, FOREVER, SAFE, Balance, Holds, Parts, Standing, carried, new, taken

SUB_WINDOWS = 24
"""Into how many parts a rolling window is cut. A unit is forgotten between W and W + W/24 after it was used:
never early (nothing is over-admitted in any trailing window), and at most 4.2 % late."""

POLL = 1_000_000
"""When to ask again for a concurrent place (microseconds): nobody knows when one is freed."""


@dataclass(frozen=True, slots=True)
class Quota:
    """`capacity` units a calendar window.

    `edges`: consecutive instants (microseconds) at which windows begin, from the one before the window in which
    the limit was resolved to the second after it, so that a store whose clock differs a little finds its window.
    `length`: for windows that open at the first use, their length; `edges` is then empty.
    `spec`: tells this calendar from any other (unit, zone, anchor); not the amount.

    >>> q = Quota(5, edges=(0, 100, 200, 300), spec=1)
    >>> b = q.put(q.bring(None, now=150), 5, None, now=150)
    >>> q.free(q.bring(b, now=199)), q.ready(q.bring(b, now=199), 1, now=199), q.free(q.bring(b, now=200))
    (0, 200, 5)
    """

    capacity: int
    edges: tuple[int, ...]
    spec: int
    length: int = 0
    kind: str = field(init=False, default="quota", repr=False)

    def window(self, now: int) -> tuple[int, int]:
        """The window that holds `now`; outside the known edges, the nearest known one."""
        if self.length:
            return now, now + self.length
        edges = self.edges
        at = 1
        while at < len(edges) - 2 and now >= edges[at + 1]:
            at += 1
        if now < edges[1]:
            at = 0
        return edges[at], edges[at + 1]

    def bring(self, balance: Balance | None, now: int) -> Standing:
        """The open window's usage, or a fresh window where the old one has run out."""
        if balance is None:
            return 0, *self.window(now), ()
        kind, used, since, until, spec, parts, _ = balance
        if spec != self.spec or kind != "quota":
            return carried(balance, now), *self.window(now), ()
        if not used and self.length:
            return 0, now, now + self.length, ()  # not opened by its first unit yet
        if now >= until:
            start, end = self.window(now)
            # The gate's clock may lag behind the store's: a window that has ended does not open again.
            return (0, start, end, parts) if end > until else (used, since, until, parts)
        if now < since - CLOCK_SKEW:
            # The clock was set back out of the window: it is held for one more length, then given up.
            return used, now, now + (until - since), parts
        return used, since, until, parts

    def free(self, standing: Standing) -> int:
        """Units left in the window."""
        return self.capacity - standing[0]

    def spent(self, standing: Standing) -> int:
        """Units used in the window."""
        return standing[0]

    def put(self, standing: Standing, amount: int, holds: Holds | None, now: int) -> Balance:
        """Adds to the window's usage; it saturates at 2^53 - 1."""
        used, since, until, _ = standing
        used += amount
        return new(Balance, ("quota", used if used < SAFE else SAFE, since, until, self.spec, (), holds))

    def take(self, balance: Balance | None, amount: int, now: int) -> Balance | None:
        """Adds to an open window; see `Verb.take`."""
        if balance is None:
            return taken(self, balance, amount, now)
        kind, used, since, until, spec, _, _ = balance
        if not (used and since <= now < until and spec == self.spec and kind == "quota"):
            return taken(self, balance, amount, now)
        used += amount
        return new(Balance, ("quota", used, since, until, spec, (), None)) if used <= self.capacity else None

    def less(self, standing: Standing, amount: int, since: int, now: int) -> Standing:
        """Gives back what was charged in this window; a charge of an earlier one is gone with it."""
        used, start, until, parts = standing
        return (max(0, used - amount) if since >= start else used), start, until, parts

    def join(self, one: Standing, other: Standing) -> Standing:
        """Usage adds up; of two open windows the one that ends later is kept: nothing is given up early."""
        if not one[0] or not other[0]:
            return one if one[0] or not other[0] else other
        longer = one if one[2] >= other[2] else other
        return min(one[0] + other[0], SAFE), longer[1], longer[2], ()

    def ready(self, standing: Standing, need: int, now: int) -> int:
        """The window's end."""
        return now if need <= self.free(standing) else standing[2]


@dataclass(frozen=True, slots=True)
class Rolling:
    """`capacity` units in any trailing `length` (microseconds), counted in sub-windows.

    Nothing is forgotten early; see `SUB_WINDOWS` for how late.

    >>> r = Rolling(10, length=24)
    >>> b = r.put(r.bring(None, now=0), 10, None, now=0)
    >>> r.free(r.bring(b, now=24)), r.ready(r.bring(b, now=24), 1, now=24), r.free(r.bring(b, now=25))
    (0, 25, 10)
    """

    capacity: int
    length: int
    spec: int = field(init=False)
    kind: str = field(init=False, default="rolling", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", -(-self.length // SUB_WINDOWS))

    def _forgotten(self, part: int) -> int:
        return (part + 1) * self.spec + self.length

    def bring(self, balance: Balance | None, now: int) -> Standing:
        """Drops the sub-windows that lie behind; those a set-back clock left ahead fold into the present."""
        if balance is None:
            return 0, now, now, ()
        kind, used, since, until, spec, parts, _ = balance
        present = now // self.spec
        if spec != self.spec or kind != "rolling":
            units = carried(balance, now)
            return (units, now, self._forgotten(present), ((present, units),)) if units else (0, now, now, ())
        if now >= since or since > now + CLOCK_SKEW:
            since = now
        if parts and (parts[-1][0] > present or self._forgotten(parts[0][0]) <= now):
            parts = self._live(parts, now)
            until = self._forgotten(parts[-1][0]) if parts else now
            return sum([units for _, units in parts]), since, until, parts
        return used, since, until, parts

    def _live(self, parts: Parts, now: int) -> Parts:
        horizon = (now + CLOCK_SKEW) // self.spec
        live = tuple((part, units) for part, units in parts if part <= horizon and self._forgotten(part) > now)
        ahead = sum(units for part, units in parts if part > horizon)
        return _added(live, now // self.spec, ahead) if ahead else live

    def free(self, standing: Standing) -> int:
        """Units left in the trailing window."""
        return self.capacity - standing[0]

    def spent(self, standing: Standing) -> int:
        """Units that still count."""
        return standing[0]

    def put(self, standing: Standing, amount: int, holds: Holds | None, now: int) -> Balance:
        """Adds to the present sub-window; it saturates at 2^53 - 1."""
        used, since, _, parts = standing
        if used + amount > SAFE:
            amount = SAFE - used
        if amount:
            parts = _added(parts, now // self.spec, amount)
        until = self._forgotten(parts[-1][0]) if parts else now
        return new(Balance, ("rolling", used + amount, since, until, self.spec, parts, holds))

    def take(self, balance: Balance | None, amount: int, now: int) -> Balance | None:
        """Adds to the sub-window that is open already, while none is to be forgotten; see `Verb.take`."""
        if balance is None or not amount:
            return taken(self, balance, amount, now)
        kind, used, since, until, spec, parts, _ = balance
        if (
            spec != self.spec or kind != "rolling" or now < since or not parts
            or parts[-1][0] != now // spec or (parts[0][0] + 1) * spec + self.length <= now
        ):  # fmt: skip
            return taken(self, balance, amount, now)
        used += amount
        if used > self.capacity:
            return None
        newest, units = parts[-1]
        return new(Balance, ("rolling", used, now, until, spec, (*parts[:-1], (newest, units + amount)), None))

    def less(self, standing: Standing, amount: int, since: int, now: int) -> Standing:
        """Gives back into the sub-window in which it was charged, if that still counts."""
        used, start, until, parts = standing
        at = since // self.spec
        back = min(amount, next((units for part, units in parts if part == at), 0))
        kept = tuple((part, units - back if part == at else units) for part, units in parts)
        return used - back, start, until, tuple(p for p in kept if p[1])

    def join(self, one: Standing, other: Standing) -> Standing:
        """Sub-windows unite: each unit is forgotten when it would have been."""
        by_part = dict(one[3])
        for part, units in other[3]:
            by_part[part] = by_part.get(part, 0) + units
        used, parts = sum(by_part.values()), tuple(sorted(by_part.items()))
        if used > SAFE:  # INVARIANT: `used` is the sum of the parts
            used, parts = SAFE, ((parts[-1][0], SAFE),)
        return used, max(one[1], other[1]), max(one[2], other[2]), parts

    def ready(self, standing: Standing, need: int, now: int) -> int:
        """When enough sub-windows will lie behind."""
        lacking = need - self.free(standing)
        for part, units in standing[3]:
            if lacking <= 0:
                break
            lacking -= units
            now = self._forgotten(part)
        return now if lacking <= 0 else FOREVER


def _added(parts: Parts, at: int, amount: int) -> Parts:
    # INVARIANT: sub-windows ascend. After a small step back the newest one goes on: never forgotten early.
    if parts and parts[-1][0] >= at:
        newest, units = parts[-1]
        return (*parts[:-1], (newest, units + amount))
    return (*parts, (at, amount))


@dataclass(frozen=True, slots=True)
class Max:
    """At most `capacity` at a time. Nothing is ever used up: all that counts are live holds.

    `lease` (microseconds): how long a place is kept for a worker that is not heard of.
    """

    capacity: int
    lease: int
    spec: int = field(init=False, default=0, repr=False)
    kind: str = field(init=False, default="max", repr=False)

    def bring(self, balance: Balance | None, now: int) -> Standing:
        """No usage."""
        return 0, now, now, ()

    def free(self, standing: Standing) -> int:
        """All places; the ledger deducts those that are held."""
        return self.capacity

    def spent(self, standing: Standing) -> int:
        """Nothing."""
        return 0

    def put(self, standing: Standing, amount: int, holds: Holds | None, now: int) -> Balance:
        """Keeps the holds; an amount that ended leaves no trace."""
        return new(Balance, ("max", 0, now, now, 0, (), holds))

    def take(self, balance: Balance | None, amount: int, now: int) -> Balance | None:
        """Whether so many are fewer than all places; see `Verb.take`."""
        return taken(self, balance, amount, now)

    def less(self, standing: Standing, amount: int, since: int, now: int) -> Standing:
        """Nothing was used, nothing is given back."""
        return standing

    def join(self, one: Standing, other: Standing) -> Standing:
        """Nothing was used; the holds unite, and they are the ledger's."""
        return one

    def ready(self, standing: Standing, need: int, now: int) -> int:
        """Soon: a place may be freed at any time."""
        return now + POLL


@dataclass(frozen=True, slots=True)
class Total:
    """`capacity` units in a lifetime; what is used stays used."""

    capacity: int
    spec: int = field(init=False, default=0, repr=False)
    kind: str = field(init=False, default="total", repr=False)

    def bring(self, balance: Balance | None, now: int) -> Standing:
        """All that was ever used."""
        if balance is None:
            return 0, now, FOREVER, ()
        kind, used, since, _, _, _, _ = balance
        return used if kind == "total" else carried(balance, now), since, FOREVER, ()

    def free(self, standing: Standing) -> int:
        """Units left for good."""
        return self.capacity - standing[0]

    def spent(self, standing: Standing) -> int:
        """Units used so far."""
        return standing[0]

    def put(self, standing: Standing, amount: int, holds: Holds | None, now: int) -> Balance:
        """Adds for good; it saturates at 2^53 - 1."""
        used, since, _, _ = standing
        used += amount
        return new(Balance, ("total", used if used < SAFE else SAFE, since, FOREVER, 0, (), holds))

    def take(self, balance: Balance | None, amount: int, now: int) -> Balance | None:
        """Adds for good; see `Verb.take`."""
        if balance is None or balance[0] != "total":
            return taken(self, balance, amount, now)
        used = balance[1] + amount
        return new(Balance, ("total", used, balance[2], FOREVER, 0, (), None)) if used <= self.capacity else None

    def less(self, standing: Standing, amount: int, since: int, now: int) -> Standing:
        """Gives back in full."""
        return max(0, standing[0] - amount), standing[1], standing[2], ()

    def join(self, one: Standing, other: Standing) -> Standing:
        """Usage adds up."""
        return min(one[0] + other[0], SAFE), min(one[1], other[1]), FOREVER, ()

    def ready(self, standing: Standing, need: int, now: int) -> int:
        """Never."""
        return FOREVER
