"""What this worker has granted by itself: reservations out of slices, and what comes after them.

Law: a reservation is granted here only if every one of its demands is covered by a slice, and then all of them are;
else it is not decided here at all. Nothing is refused here. What was granted here is settled, extended and cancelled
here, once however often it is said, out of the same slices; what a slice cannot cover is the store's to decide.
No I/O, and no clock: `at` is an instant of this machine's monotonic clock, microseconds.
"""

from __future__ import annotations

from typing import NamedTuple

from headgate.quota.balance import Balance, Hold, new
from headgate.quota.command import (
    Cancel,
    Demand,
    Extend,
    Gone,
    Granted,
    Outcome,
    Place,
    Reserve,
    Settle,
    Settled,
)
from headgate.stores.slices.holdings import Holdings
from headgate.stores.slices.slice import Slice

PLANS = 4_000
"""Choices of demands that are kept worked out; all are dropped when there are more."""

SAID = 30_000
"""Reservations that are remembered at least (twice as many at most), about 150 bytes each: a repeat comes within a
second or so, if it comes at all, and must be answered alike."""


class Plan(NamedTuple):
    """From which slices some demands are granted, until an instant: (slice, needed, amount, whether it is held)."""

    demands: tuple[Demand, ...]
    parts: tuple[tuple[Slice, int, int, bool], ...]
    until: int
    holds: bool


class Part:
    """What one reservation holds of one slice, and the number of its last extension."""

    __slots__ = ("amount", "slice", "step")

    def __init__(self, slice: Slice, amount: int) -> None:
        self.slice, self.amount, self.step = slice, amount, 0


class Lent:
    """A reservation that was granted here and holds something: by place, until its lease ends."""

    __slots__ = ("lapsed", "parts", "plan", "until")

    def __init__(self, plan: Plan, until: int) -> None:
        self.plan, self.until, self.lapsed = plan, until, False
        self.parts = {s.place: Part(s, amount) for s, _, amount, hold in plan.parts if hold}


class Word:
    """What is remembered of an id where there is nothing to undo."""


ASKED, CANCELLED = Word(), Word()
"""It was said to the store, which knows all about it; it was granted here and cancelled."""

Note = Plan | Lent | Word


class Reservations:
    """What was granted here, by id. Changed by whoever asks, one at a time.

    >>> from headgate.quota.window import Total
    >>> ask = (Demand((b"acme", "life"), Total(100), 1, slice=2),)
    >>> holdings = Holdings()
    >>> holdings.taken(holdings.spot((b"acme", "life")), Slice(ask[0].of(2), b"own", until=90))
    >>> here = Reservations(holdings)
    >>> [here.granted(Reserve(rid, ask, 0), at=80) is not None for rid in (b"1", b"2", b"3")]
    [True, True, False]
    """

    def __init__(self, holdings: Holdings) -> None:
        self.open: dict[bytes, Lent] = {}
        """Those that hold something."""
        self._holdings = holdings
        self._notes: dict[bytes, Note] = {}
        self._older: dict[bytes, Note] = {}
        self._plans: dict[int, Plan] = {}

    def granted(self, command: Reserve, at: int) -> Granted | None:
        """Grants a reservation that slices cover, unless its id was seen before; None where they do not."""
        rid, demands, lease = command
        plan = self._plans.get(id(demands))
        if plan is None or plan[0] is not demands:
            plan = self._planned(demands)
            if plan is None:
                return None
        if rid in self._notes or rid in self._older:
            return None
        return self.take(rid, plan, lease, at)

    def covered(self, demands: tuple[Demand, ...]) -> Plan | None:
        """From which slices the demands could be granted now; None if from none."""
        plan = self._plans.get(id(demands))
        return plan if plan is not None and plan.demands is demands else self._planned(demands)

    def take(self, rid: bytes, plan: Plan, lease: int, at: int) -> Granted | None:
        """Takes all that a plan says, or nothing."""
        demands, parts, until, holds = plan
        enough = at < until
        for slice, need, _, _ in parts:
            if slice.rest < need:
                enough = False
        if not enough:
            self._plans.pop(id(demands), None)  # the next who comes looks anew
            return None
        balances: list[Balance] = []
        for slice, _, amount, hold in parts:
            slice.rest -= amount
            if hold:
                slice.lent += amount
                slice.open += 1
            else:
                slice.spent += amount
            if slice.rest < slice.low:
                slice.low = -1
                self._holdings.low.append(slice)
            balances.append(slice.shown())
        if holds:
            self.note(rid, self.open.setdefault(rid, Lent(plan, at + lease)))
        else:
            self.note(rid, plan)
        return new(Granted, (at + self._holdings.ahead, tuple(balances), ()))

    def _planned(self, demands: tuple[Demand, ...]) -> Plan | None:
        parts = []
        for demand in demands:
            place, verb, amount, hold, _, units, _, owed = demand
            if not units or owed:
                return None
            spot = self._holdings.spots.get(place)
            slice = spot.live if spot is not None else None
            if slice is None or slice.rest < 0:
                return None
            if slice.verb is not verb:
                if slice.verb != verb:
                    return None
                slice.verb = verb  # the next who compares it finds the very same
            # As the ledger has it: what is held needs one free unit at least.
            parts.append((slice, amount or 1 if hold else amount, amount, hold))
        if len({id(part[0]) for part in parts}) != len(parts):
            return None  # a place is named twice: the ledger says what is wrong with that
        if len(self._plans) >= PLANS:
            self._plans.clear()
        # The demands are kept with it: an id is free for another tuple only once they are dropped.
        plan = Plan(demands, tuple(parts), min([p[0].until for p in parts]), any(p[3] for p in parts))
        self._plans[id(demands)] = plan
        return plan

    def note(self, rid: bytes, note: Note) -> None:
        """Remember what became of an id."""
        self._notes[rid] = note
        if len(self._notes) >= SAID:
            self._older, self._notes = self._notes, {}

    def noted(self, rid: bytes) -> Note | None:
        """What is remembered of an id."""
        return self.open.get(rid) or self._notes.get(rid) or self._older.get(rid)

    def repeated(self, command: Reserve, at: int) -> Outcome | None:
        """The answer to a reservation that was granted here before; None if it was not."""
        note = self.noted(command.rid)
        if note is None or note is ASKED:
            return None
        if note is CANCELLED:
            return Gone(at + self._holdings.ahead)
        return Granted(at + self._holdings.ahead, self.balances(command.demands))

    def balances(self, demands: tuple[Demand, ...]) -> tuple[Balance | None, ...]:
        """What is known here of the places; None where no slice is."""
        return tuple([self._balance(demand.place) for demand in demands])

    def _balance(self, place: Place) -> Balance | None:
        spot = self._holdings.spots.get(place)
        mine = spot.mine if spot is not None else []
        return mine[-1].shown() if mine else None

    # What comes after a reservation.

    def settled(self, command: Settle, at: int) -> Settled | None:
        """Replaces what is held here by what was used; None if the reservation was not granted here."""
        rid, demands = command
        note = self.noted(rid)
        if note is None or note is ASKED:
            return None
        added: list[int] = []
        balances: list[Balance | None] = []
        for demand in demands:
            part = note.parts.pop(demand.place, None) if isinstance(note, Lent) else None
            if isinstance(note, Lent) and part is not None and not part.slice.closed:
                added.append(self._settle(part, demand, lapsed=note.lapsed))
                balances.append(part.slice.shown())
                self._holdings.came_back(part.slice)
            else:
                added.append(0)
                balances.append(self._balance(demand.place))
        if isinstance(note, Lent) and not note.parts:
            self._end(rid, note.plan)
        return Settled(at + self._holdings.ahead, tuple(balances), (), tuple(added))

    def _settle(self, part: Part, demand: Demand, *, lapsed: bool) -> int:
        slice, actual = part.slice, demand.amount
        if lapsed:
            # It was charged as held, and the slice waits for others: so the estimate becomes the truth after all.
            slice.spend(actual - part.amount)
            return max(0, actual - part.amount)
        if demand.verb.kind == slice.verb.kind:
            # By the window that holds now, if a reload has changed it: see `Gate.settle`.
            slice.demand = slice.demand._replace(verb=demand.verb)
        slice.lend(-part.amount, -1)
        slice.spend(actual)
        return actual

    def cancelled(self, command: Cancel, at: int) -> Settled | None:
        """Gives back what a reservation holds or has used here; None if it was not granted here.

        What it has used of a slice that is settled by now stays used: the safe direction."""
        rid, demands, _ = command
        note = self.noted(rid)
        if note is None or note is ASKED:
            return None
        places = {demand.place for demand in demands}
        if isinstance(note, Lent):
            for place in places & set(note.parts):
                part = note.parts.pop(place)
                if not note.lapsed:
                    part.slice.lend(-part.amount, -1)
                    self._holdings.came_back(part.slice)
        plan = note.plan if isinstance(note, Lent) else note
        if isinstance(plan, Plan):
            for slice, _, amount, hold in plan.parts:
                if not hold and not slice.closed and slice.place in places:
                    slice.spend(-amount)
        if not isinstance(note, Lent) or not note.parts:
            self._end(rid, CANCELLED)
        return Settled(at + self._holdings.ahead, self.balances(demands))

    def _end(self, rid: bytes, note: Note) -> None:
        self.open.pop(rid, None)
        self.note(rid, note)

    def extended(self, command: Extend, at: int) -> Outcome | list[tuple[Slice, int]] | None:
        """Holds more for a reservation of here and renews its lease; None if it was not granted here.

        Answers (slice, units) for each slice that has to grow before it can: then nothing is changed yet."""
        rid, demands, lease, step = command
        note = self.noted(rid)
        if note is None or note is ASKED:
            return None
        if not isinstance(note, Lent) or note.lapsed:
            return Gone(at + self._holdings.ahead)
        grown: list[tuple[Part, int]] = []
        lacking: list[tuple[Slice, int]] = []
        for demand in demands:
            part = note.parts.get(demand.place)
            if part is None:
                if demand.shadow:
                    continue
                return Gone(at + self._holdings.ahead)
            if part.step >= step:
                continue
            grown.append((part, demand.amount))
            free = max(0, part.slice.unused) if at < part.slice.until else 0
            if demand.amount > free:
                lacking.append((part.slice, demand.amount - free))
        if lacking:
            return lacking
        for part, amount in grown:
            part.slice.lend(amount, 0)
            part.amount, part.step = part.amount + amount, step
        if grown:
            note.until = at + lease
        return Granted(at + self._holdings.ahead, self.balances(demands))

    def lent(self, place: Place) -> dict[bytes, Hold]:
        """What is held here of a place for open reservations, by their ids; their leases by the store's time."""
        return {
            rid: Hold(part.amount, lent.until + self._holdings.ahead, part.step)
            for rid, lent in self.open.items()
            if (part := lent.parts.get(place)) is not None
        }

    def lapse(self, at: int) -> None:
        """Charges what is held for reservations whose leases have ended."""
        for rid, lent in [(rid, lent) for rid, lent in self.open.items() if lent.until <= at]:
            for part in lent.parts.values():
                part.slice.lend(-part.amount, -1)
                part.slice.spend(part.amount)
                self._holdings.came_back(part.slice)
            lent.lapsed = True
            self._end(rid, lent)
