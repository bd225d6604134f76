"""One slice: an amount of one balance that this worker has charged at the store, and spends by itself.

Law: what is spent or lent of a slice was held at the store before, under an id of the slice's own. So whatever the
worker does, and if it dies, everybody else's count is right: used + held at the store is never less than what was
granted. Arithmetic only: it asks no store and reads no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headgate.quota.balance import FOREVER, Balance, Hold, Holds, Standing, Verb, new
from headgate.quota.command import Demand
from headgate.quota.holds import brought

NEAR = 4
"""No slice is taken of the last so many slices of a limit: they are decided one by one, exactly, and no worker keeps
from another what it may not need itself."""


class Slice:
    """A reservation of this worker's own at one place.

    | field | meaning |
    | --- | --- |
    | `place` | where it was taken |
    | `demand` | where it is held at the store by now (a merge may have moved it), by which verb; the units asked |
    | `rid` | under which it is held there |
    | `held` | units that are held there |
    | `spent`, `lent` | of them: used at once, and held here for reservations that are still open |
    | `rest` | what may still be given away; -1 where nothing may be any more |
    | `open` | how many reservations are held here |
    | `until` | the local instant from which on nothing is given away any more |
    | `low` | with fewer units to give away it is time to ask for another slice; -1 once that was told |
    | `step` | of the last extension at the store |
    | `closed` | what was spent has been said to the store: it changes no more |

    INVARIANT: rest == held - spent - lent, or rest == -1.
    """

    __slots__ = (
        "_now", "_others", "_standing", "closed", "demand", "held", "lent", "low", "open", "place", "rest", "rid",
        "spent", "step", "until", "verb",
    )  # fmt: skip

    def __init__(self, demand: Demand, rid: bytes, until: int) -> None:
        self.place, self.verb, *_ = self.demand = demand
        self.rid, self.until = rid, until
        self.held = self.rest = demand.amount
        self.low = self.held // 4
        self.spent = self.lent = self.open = self.step = 0
        self.closed = False
        self._standing: Standing = (0, 0, 0, ())
        self._others = self._now = 0

    @property
    def retired(self) -> bool:
        """Whether nothing is given away from it any more."""
        return self.rest < 0

    @property
    def unused(self) -> int:
        """Units that are neither spent nor lent; negative where more was settled than was held."""
        return self.held - self.spent - self.lent

    def retire(self) -> None:
        """Give nothing away any more; what is lent is still to come back."""
        self.rest = -1

    def spend(self, amount: int) -> None:
        """Use units at once; fewer with a negative amount, when they are given back."""
        self.spent += amount
        self._recount()

    def lend(self, amount: int, reservations: int) -> None:
        """Hold units for reservations that are open; both may be negative, when they are given back."""
        self.lent += amount
        self.open += reservations
        self._recount()

    def grow(self, amount: int, until: int) -> None:
        """More units are held, and for longer. What is retired stays so."""
        self.held, self.until = self.held + amount, max(self.until, until)
        self._recount()

    def _recount(self) -> None:
        if self.rest >= 0:
            self.rest = self.unused
            # More was settled than was held: the debt has to be said to the store.
            if self.rest < 0:
                self.rest = -1

    def tell(self, balance: Balance | None, now: int, mine: Iterable[Slice]) -> None:
        """Take notice of the store's balance at `now`; `mine` are all slices of this worker at the place."""
        verb, others = self.verb, [slice for slice in mine if slice is not self]
        self._standing, holds = brought(told(balance, verb, now, others) if others else balance, verb, now)
        self._others, self._now = max(0, (holds.held if holds is not None else 0) - self.held), now

    def shown(self) -> Balance:
        """The balance as the store last told it, with what has been spent and lent here since; the rest of the slice
        counts as free, because it is this worker's to give.

        >>> from headgate.quota.window import Total
        >>> mine = Slice(Demand((b"acme", "life"), Total(100), 10, hold=True), b"r", until=0)
        >>> mine.tell(Balance("total", 40, 0, FOREVER, 0, (), Holds(15, 90, {})), 7, ())
        >>> mine.spend(3)
        >>> mine.shown().used, mine.shown().holds.held, mine.rest
        (43, 5, 7)
        """
        held = self._others + self.lent
        # No lease is told here, so none is due: what it would do to the balance is the store's to say.
        holds = new(Holds, (held, FOREVER, {}, self._now)) if held else None
        return self.verb.put(self._standing, self.spent, holds, self._now)


def told(
    balance: Balance | None,
    verb: Verb,
    now: int,
    mine: Iterable[Slice],
    lent: Mapping[bytes, Hold] | None = None,
) -> Balance | None:
    """A store's balance as a caller should see it: of this worker's slices there, what is spent is used, what is lent
    is held, and what may still be given away is free.

    `lent`: of a look, which tells each hold by itself, those that are held here."""
    if balance is None:
        return None
    standing, holds = brought(balance, verb, now)
    if holds is None:
        return balance
    spent, held = 0, holds.held
    by_rid = {**holds.by_rid, **lent} if lent is not None else {}
    for own in mine:
        # What is left of one that is retired is nobody's until it is settled.
        left = 0 if own.rest >= 0 else max(0, own.unused)
        spent, held = spent + own.spent, held - own.held + own.lent + left
        if own.rid in by_rid:
            del by_rid[own.rid]
            if left:
                by_rid[own.rid] = new(Hold, (left, holds.by_rid[own.rid].until, own.step, False, None, False))
    if held <= 0 and not by_rid:
        return verb.put(standing, spent, None, now)
    each = by_rid if lent is not None else holds.by_rid
    return verb.put(standing, spent, Holds(max(0, held), holds.due, each, holds.seen), now)


class Spot:
    """What this worker knows of one place.

    | field | meaning |
    | --- | --- |
    | `live` | the slice that is given away from, or None |
    | `pinned` | slices that are spent but for reservations which are still open |
    | `filling` | a slice is being asked for |
    | `asked` | when the store was asked last about the place, by the local clock |
    | `quiet` | before this instant no slice is asked for |
    | `near` | by the store's last word, so little is left that no slice is taken |
    """

    __slots__ = ("asked", "filling", "live", "near", "pinned", "quiet")

    def __init__(self) -> None:
        self.live: Slice | None = None
        self.pinned: list[Slice] = []
        self.filling = self.near = False
        self.asked = self.quiet = -FOREVER

    @property
    def mine(self) -> list[Slice]:
        """All slices of this worker there."""
        return [*self.pinned, self.live] if self.live is not None else self.pinned

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return self.live is None and not self.pinned and not self.filling

    def look(self, demand: Demand, balance: Balance | None, now: int) -> None:
        """Whether enough is left, by what the store has just told, for a slice to be taken of it."""
        verb = demand.verb
        standing, holds = brought(balance, verb, now)
        left = verb.free(standing) - (holds.held if holds is not None else 0)
        # A large share (`slice: 50%`) would else never be had at all.
        self.near = left < max(demand.slice, min(NEAR * demand.slice, verb.capacity // 2))
