"""`rate: 60/min`: smooth, by the generic cell rate algorithm, in integers without rounding.

Law: a subject may run ahead of its steady rate by `capacity = amount + burst` units and never by more; what
it has run ahead drains at exactly `amount` units a `period`. So in any interval of length t at most
`capacity + t * amount / period` units pass. It knows no window edge: nothing is ever granted twice there.

Source: ITU-T I.371 (virtual scheduling), written here as its equal, a leaky bucket. To drain without fractions
the backlog is counted in *ticks*: with g = gcd(amount, period), one unit is `period / g` ticks and one
microsecond drains `amount / g`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd

from headgate.quota.balance import CLOCK_SKEW, FOREVER, SAFE, Balance, Holds, Standing, carried, new, taken


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` units a `period` (microseconds), and `burst` units ahead of that after a quiet time.

    3/min means: three at once, then one every twenty seconds.

    >>> r = Rate(amount=3, period=60_000_000)
    >>> b = r.put(r.bring(None, now=0), 3, None, now=0)
    >>> r.free(r.bring(b, now=0)), r.ready(r.bring(b, now=0), 1, now=0)
    (0, 20000000)

    Raises ValueError for numbers that could pass 2^53 - 1 in an intermediate (the policy's compiler says it
    better).
    """

    amount: int
    period: int
    burst: int = 0
    capacity: int = field(init=False)
    spec: int = field(init=False)
    scale: int = field(init=False)
    drain: int = field(init=False)
    brim: int = field(init=False)
    kind: str = field(init=False, default="rate", repr=False)

    def __post_init__(self) -> None:
        common = gcd(self.amount, self.period)
        put = object.__setattr__
        put(self, "capacity", self.amount + self.burst)
        put(self, "scale", self.period // common)
        put(self, "spec", self.scale)
        put(self, "drain", self.amount // common)
        put(self, "brim", self.capacity * self.scale)
        if self.amount < 1 or self.period < 1 or self.burst < 0:
            raise ValueError("a rate needs amount >= 1, period >= 1, burst >= 0")
        if self.brim > SAFE:
            raise ValueError(f"{self.capacity} units of {self.scale} ticks pass 2^53 - 1")

    def bring(self, balance: Balance | None, now: int) -> Standing:
        """Drains the backlog for the time that has passed."""
        if balance is None:
            return 0, now, now, ()
        kind, used, since, until, spec, _, _ = balance
        if spec != self.spec or kind != "rate":
            ticks = min(carried(balance, now), self.capacity) * self.scale
            return ticks, now, self._empty(ticks, now), ()
        if now < since:
            # A small step back is waited for; after a large one the backlog drains from here.
            since = since if now >= since - CLOCK_SKEW else now
            return used, since, self._empty(used, since), ()
        ticks = used - (now - since) * self.drain
        return ticks if ticks > 0 else 0, now, until, ()

    def free(self, standing: Standing) -> int:
        """Whole units below the brim."""
        return (self.brim - standing[0]) // self.scale

    def spent(self, standing: Standing) -> int:
        """The backlog in units, rounded up."""
        return -(-standing[0] // self.scale)

    def put(self, standing: Standing, amount: int, holds: Holds | None, now: int) -> Balance:
        """Adds to the backlog; it saturates at 2^53 - 1 ticks."""
        used, since, _, _ = standing
        ticks = used + amount * self.scale
        until = since - (-ticks // self.drain)
        if until > FOREVER or ticks > SAFE:
            ticks = min(ticks, SAFE)
            until = self._empty(ticks, since)
        return new(Balance, ("rate", ticks, since, until, self.spec, (), holds))

    def take(self, balance: Balance | None, amount: int, now: int) -> Balance | None:
        """Drains and adds; see `Verb.take`."""
        if balance is None:
            return taken(self, balance, amount, now)
        kind, used, since, _, spec, _, _ = balance
        if spec != self.spec or kind != "rate" or now < since:
            return taken(self, balance, amount, now)
        drain = self.drain
        ticks = used - (now - since) * drain
        ticks = (ticks if ticks > 0 else 0) + amount * spec
        if ticks > self.brim:
            return None
        until = now - (-ticks // drain)
        return new(Balance, ("rate", ticks, now, until if until < FOREVER else FOREVER, spec, (), None))

    def _empty(self, ticks: int, since: int) -> int:
        """When a backlog will have drained."""
        return min(since - (-ticks // self.drain), FOREVER)

    def less(self, standing: Standing, amount: int, since: int, now: int) -> Standing:
        """Gives back what of the charge has not drained meanwhile: time given once is not given again."""
        undrained = max(0, amount * self.scale - max(0, now - since) * self.drain)
        return max(0, standing[0] - undrained), standing[1], standing[2], ()

    def join(self, one: Standing, other: Standing) -> Standing:
        """The backlogs add up. Of two instants the later one counts: draining is never credited twice."""
        ticks, since = min(one[0] + other[0], SAFE), max(one[1], other[1])
        return ticks, since, self._empty(ticks, since), ()

    def ready(self, standing: Standing, need: int, now: int) -> int:
        """When enough of the backlog will have drained."""
        excess = standing[0] + need * self.scale - self.brim
        return standing[1] - (-max(0, excess) // self.drain)
