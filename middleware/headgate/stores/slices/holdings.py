"""The slices that this worker holds, by place, and what is still to be said to the store about them.

Law: a slice is given away from, or waits for what is lent of it, or is due to be settled, or is owed that; from one
of these to the next and never back. What was settled beyond a slice is charged at once, whatever the slice waits for.
No I/O, and no clock: `at` is an instant of this machine's monotonic clock, microseconds.
"""

from __future__ import annotations

from typing import NamedTuple

from headgate.quota.balance import LATE
from headgate.quota.command import Cancel, Demand, Place
from headgate.stores.slices.slice import Slice, Spot

SPOTS = 10_000
"""Places of which something is remembered, about 250 bytes each. Who comes when all of them hold slices asks the
store each time: a flood of subjects costs nothing but the saving."""

EARLY = 1_500_000
"""How long (microseconds) before its time is over a slice is renewed that waits for open reservations."""

UNDONE = 1_000
"""Slices that are to be given back though they may not be held: as many as one outage interrupts."""


class Debt(NamedTuple):
    """What was settled beyond a slice that is not settled yet, to be charged under an id of its own."""

    rid: bytes
    demand: Demand


class Holdings:
    """Slices by place. Changed by whoever asks, one at a time."""

    def __init__(self) -> None:
        self.spots: dict[Place, Spot] = {}
        self.slices: dict[bytes, Slice] = {}
        """All that are not closed, by the ids under which they are held at the store."""
        self.due: list[Slice] = []
        """Those that have nothing open any more and are to be settled at the store at once."""
        self.low: list[Slice] = []
        """Those that are nearly spent."""
        self.debts: list[Demand] = []
        """What was settled beyond what slices hold that are not settled yet: to be charged at once."""
        self._owed: dict[bytes, Slice | Debt] = {}
        self._undone: dict[bytes, Cancel] = {}
        self.ahead = 0
        """The store's clock less this machine's, by its last answer."""

    def spot(self, place: Place) -> Spot | None:
        """What is known of a place; it is remembered from now on if there is room."""
        spot = self.spots.get(place)
        if spot is None:
            if len(self.spots) >= SPOTS and not self._forgotten():
                return None
            spot = self.spots[place] = Spot()
        return spot

    def _forgotten(self) -> bool:
        """Makes room for one: the oldest that holds nothing goes; of those that do, one is looked at each time."""
        place = next(iter(self.spots))
        spot = self.spots.pop(place)
        if spot.idle:
            return True
        self.spots[place] = spot
        return False

    def taken(self, spot: Spot, slice: Slice) -> None:
        """A slice that the store has granted."""
        self.slices[slice.rid] = slice
        if spot.live is not None:
            self.retire(spot)
        spot.live = slice

    def retire(self, spot: Spot) -> None:
        """Give nothing away any more from a place's slice: it is due if nothing of it is lent."""
        slice, spot.live = spot.live, None
        if slice is not None:
            slice.retire()
            spot.pinned.append(slice)
            self.came_back(slice)

    def came_back(self, slice: Slice) -> None:
        """Something of a slice was settled or given back: the last that is lent, or more than was held."""
        if not slice.retired:
            return
        if slice.open and slice.unused < 0:
            # It waits for others, and so does its settlement: what goes beyond it must not.
            debt = -slice.unused
            slice.spend(-debt)
            self.debts.append(slice.demand.of(debt))
        spot = self.spots.get(slice.place)
        if spot is not None and spot.live is slice:
            spot.live = None
            spot.pinned.append(slice)
        if not slice.open and not slice.closed:
            slice.closed = True
            self.due.append(slice)
            if spot is not None and slice in spot.pinned:
                spot.pinned.remove(slice)

    def outdated(self, at: int) -> list[Slice]:
        """Retires the slices whose time is over; those of which something is lent are answered: to be renewed."""
        kept: list[Slice] = []
        for slice in list(self.slices.values()):
            if slice.closed or at < slice.until - (EARLY if slice.retired else 0):
                continue
            spot = self.spots.get(slice.place)
            if spot is not None and spot.live is slice:
                self.retire(spot)
            if not slice.closed:
                kept.append(slice)
        return kept

    # What the store has not answered.

    def owe(self, what: Slice | Debt) -> None:
        """A slice whose settlement was not answered, or a debt that is not charged yet."""
        self._owed[what.rid] = what

    def undo(self, command: Cancel) -> None:
        """A slice that may be held though nobody has heard of it. Of too many the oldest is left to its lease."""
        self._undone[command.rid] = command
        if len(self._undone) > UNDONE:
            del self._undone[next(iter(self._undone))]

    def owed(self, at: int) -> tuple[list[Slice], list[Debt], list[Cancel]]:
        """What is to be said to the store again, as long as it remembers a hold that has lapsed (`LATE`)."""
        owed, cancels = list(self._owed.values()), list(self._undone.values())
        self._owed.clear()
        self._undone.clear()
        slices = [one for one in owed if isinstance(one, Slice)]
        for slice in slices:
            if at >= slice.until + LATE:
                self.slices.pop(slice.rid, None)
        debts = [one for one in owed if isinstance(one, Debt)]
        return [slice for slice in slices if slice.rid in self.slices], debts, cancels

    @property
    def empty(self) -> bool:
        """Whether nothing is left to be done behind the requests."""
        return not (self.slices or self._owed or self._undone)
