"""What is said to the store: the callers' commands, and beside them those that take, renew and settle slices.

Law: each errand is one command and what its answer means. If no answer comes it is as if the worst had happened: a
slice that was asked for is not spent, one that was settled is settled again under the same id, and what may be held
at the store without being known here is cancelled later; until then it stays charged, the safe direction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from headgate.quota.command import Cancel, Command, Demand, Extend, Granted, Outcome, Reserve, Settle
from headgate.quota.ledger import REPEAT, followed
from headgate.stores.slices.holdings import Debt, Holdings
from headgate.stores.slices.slice import Slice, Spot

LEASE = 4_000_000
"""How long (microseconds) a slice is held at the store: so long others miss what a worker that died had left."""

SPENT = 9
"""In tenths of its lease, for how long a slice is given away from. The rest is for it to be settled, and for clocks
that do not run alike."""

QUIET = 100_000
"""How long (microseconds) no slice is asked for at a place where one was refused."""


def lasts(sent: int) -> int:
    """Until when a lease of the slices' length may be relied on that was asked for at an instant of this machine."""
    return sent + LEASE * SPENT // 10


class Errand(ABC):
    """One command to the store, what its answer means, and what it means if there is none."""

    __slots__ = ("command",)

    def __init__(self, command: Command) -> None:
        self.command = command

    @abstractmethod
    def answered(self, outcome: Outcome, sent: int) -> None:
        """The store's answer to what was said at the local instant `sent`."""

    @abstractmethod
    def lost(self, unknown: bool) -> None:
        """No answer came. `unknown`: the command may have been applied."""

    def again(self, outcome: Outcome) -> bool:
        """Whether it is to be said once more, where a merge has moved what it names."""
        return False


class Passed(Errand):
    """A caller's own command. The answer is the caller's, and so is what follows from it.

    `mine`: for each demand, this worker's slices that the answer's balances are going to count as held."""

    __slots__ = ("fresh", "mine", "outcome")

    def __init__(self, command: Command, mine: tuple[list[Slice], ...], fresh: bool = False) -> None:
        super().__init__(command)
        self.mine, self.fresh = mine, fresh

    outcome: Outcome

    def answered(self, outcome: Outcome, sent: int) -> None:
        """Keeps it for the caller."""
        self.outcome = outcome

    def lost(self, unknown: bool) -> None:
        """The caller is told."""


class Filling(Errand):
    """Asks for a slice."""

    __slots__ = ("_demand", "_holdings", "_rid", "_spot")

    def __init__(self, holdings: Holdings, spot: Spot, demand: Demand, rid: bytes) -> None:
        self._holdings, self._spot, self._rid = holdings, spot, rid
        self._demand = Demand(demand.place, demand.verb, demand.slice, hold=True)
        super().__init__(Reserve(rid, (self._demand,), LEASE))
        spot.filling = True

    def answered(self, outcome: Outcome, sent: int) -> None:
        """Begins to give it away, or leaves the place alone for a while."""
        self._spot.filling = False
        if isinstance(outcome, Granted):
            slice = Slice(self._demand, self._rid, lasts(sent))
            self._holdings.taken(self._spot, slice)
            slice.tell(outcome.balances[0], outcome.now, self._spot.mine)
        else:
            self._spot.quiet = sent + QUIET

    def lost(self, unknown: bool) -> None:
        """It may be held: then it is given back as soon as the store can be told."""
        self._spot.filling = False
        if unknown:
            self._holdings.undo(Cancel(self._rid, (self._demand,), REPEAT))


class Growing(Errand):
    """Renews a slice's lease, and holds more units for it."""

    __slots__ = ("_amount", "outcome", "slice")

    def __init__(self, slice: Slice, amount: int = 0) -> None:
        self.slice, self._amount = slice, amount
        self.outcome: Outcome | None = None
        slice.step += 1
        super().__init__(Extend(slice.rid, (slice.demand.of(amount),), LEASE, slice.step))

    def answered(self, outcome: Outcome, sent: int) -> None:
        """More units, and more time; or neither, where its lease has ended: what was spent is told all the same."""
        self.outcome = outcome
        if isinstance(outcome, Granted):
            self.slice.grow(self._amount, lasts(sent))

    def lost(self, unknown: bool) -> None:
        """What it may have grown by is not given away."""

    def again(self, outcome: Outcome) -> bool:
        """At its new place."""
        return _moved(self, self.slice, outcome)


class Settling(Errand):
    """Ends a slice: what was spent is used, and the rest is free again."""

    __slots__ = ("_holdings", "_slice")

    def __init__(self, holdings: Holdings, slice: Slice) -> None:
        self._holdings, self._slice = holdings, slice
        super().__init__(Settle(slice.rid, (slice.demand.of(slice.spent),)))

    def answered(self, outcome: Outcome, sent: int) -> None:
        """It is no more."""
        self._holdings.slices.pop(self._slice.rid, None)

    def lost(self, unknown: bool) -> None:
        """It is said again, under the same id, until it is answered."""
        self._holdings.owe(self._slice)

    def again(self, outcome: Outcome) -> bool:
        """At its new place."""
        return _moved(self, self._slice, outcome)


class Opening(Errand):
    """The first half of charging a debt: what is settled must have been held, if only as nothing."""

    __slots__ = ("opened",)

    def __init__(self, debt: Debt) -> None:
        self.opened = False
        super().__init__(Reserve(debt.rid, (debt.demand.of(0),), LEASE))

    def answered(self, outcome: Outcome, sent: int) -> None:
        """Refused where not a single unit is free; then nobody else is granted one either."""
        self.opened = isinstance(outcome, Granted)

    def lost(self, unknown: bool) -> None:
        """Said again with the other half."""


class Charging(Errand):
    """The other half: more is settled than is held."""

    __slots__ = ("_debt", "_holdings", "_opening")

    def __init__(self, holdings: Holdings, debt: Debt, opening: Opening) -> None:
        self._holdings, self._debt, self._opening = holdings, debt, opening
        super().__init__(Settle(debt.rid, (debt.demand,)))

    def answered(self, outcome: Outcome, sent: int) -> None:
        """Charged, unless it could not be opened: then it is tried again."""
        if not self._opening.opened:
            self._holdings.owe(self._debt)

    def lost(self, unknown: bool) -> None:
        """Both halves are said again, under the same id."""
        self._holdings.owe(self._debt)

    def again(self, outcome: Outcome) -> bool:
        """At its new place."""
        onward = followed(self.command, outcome)
        if isinstance(onward, Settle):
            self.command = onward
        return onward is not None


class Undoing(Errand):
    """Gives back what may be held though it is not known here."""

    __slots__ = ("_holdings", "_undo")

    def __init__(self, holdings: Holdings, undo: Cancel) -> None:
        self._holdings, self._undo = holdings, undo
        super().__init__(undo)

    def answered(self, outcome: Outcome, sent: int) -> None:
        """It is given back."""

    def lost(self, unknown: bool) -> None:
        """It is said again."""
        self._holdings.undo(self._undo)

    def again(self, outcome: Outcome) -> bool:
        """Where it is now."""
        onward = followed(self.command, outcome)
        if isinstance(onward, Cancel):
            self.command = self._undo = onward
        return onward is not None


def _moved(errand: Errand, slice: Slice, outcome: Outcome) -> bool:
    onward = followed(errand.command, outcome)
    if isinstance(onward, Extend | Settle):
        errand.command = onward
        slice.demand = slice.demand.at(onward.demands[0].place)
    return onward is not None
