"""What one transaction has read and will write. A place that many calls name is read and written once.

Law: a call is applied whole, or leaves no trace of any of its commands; what is read is what the calls before it in
the same transaction have made of it. Who writes the page, writes all of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence

from headgate.quota.balance import CLOCK_SKEW, SAFE, Balance
from headgate.quota.command import Command, Look, Outcome, Place, Receipt
from headgate.quota.ledger import apply
from headgate.quota.things import Things
from headgate.stores.sqlite.rows import (
    READ_BALANCE,
    READ_RECEIPT,
    READ_SKETCH,
    REMOVE_HOLD,
    REMOVE_SKETCH,
    WRITE_BALANCE,
    WRITE_HOLD,
    WRITE_RECEIPT,
    WRITE_SKETCH,
    StoredHolds,
    balance_of,
    difference,
    hold_row_of,
    receipt_of,
    row_of,
    sketch_of,
)


class Sketched(Mapping[Place, Things]):
    """The sketches as one call finds them: what it has `drawn` itself, and each other read when it is asked for.

    Nobody goes through all of them, and that is no use of it."""

    def __init__(self, read: Callable[[Place], Things | None]) -> None:
        self._read = read
        self.drawn: dict[Place, Things] = {}

    def __getitem__(self, place: Place) -> Things:
        """The sketch of a place. Raises KeyError where there is none."""
        found = self.drawn[place] if place in self.drawn else self._read(place)
        if found is None:
            raise KeyError(place)
        return found

    def __iter__(self) -> Iterator[Place]:
        """Those that were drawn."""
        return iter(self.drawn)

    def __len__(self) -> int:
        """How many were drawn."""
        return len(self.drawn)


class Page:
    """The balances, sketches and receipts of one transaction over an open connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._read = connection.execute
        self._write = connection.executemany
        self._looked: set[Place] = set()
        self._balances: dict[Place, Balance] = {}
        self._holds: dict[Place, StoredHolds] = {}
        self._sketches: dict[Place, Things | None] = {}
        self._receipts: dict[bytes, Receipt] = {}
        self._changed: set[Place] = set()
        self._drawn: set[Place] = set()
        self._signed: set[bytes] = set()

    def applied(self, commands: Sequence[Command], now: int) -> list[Outcome]:
        """All commands of one call, or an exception and no trace of any."""
        balances: dict[Place, Balance] = {}
        sketches = Sketched(self._sketch)
        for command in commands:
            _check(command)
            for demand in command.demands:
                found = self._balance(demand.place)
                if found is not None:
                    balances[demand.place] = found
        outcomes: list[Outcome] = []
        changed: dict[Place, Balance] = {}
        receipts: dict[bytes, Receipt] = {}
        for command in commands:
            rid = getattr(command, "rid", None)
            kept = None if rid is None else receipts.get(rid) or self._receipt(rid)
            outcome, written, receipt, things = apply(balances, kept, command, now, sketches)
            balances.update(written)
            changed.update(written)
            sketches.drawn.update(things)
            if receipt is not None and rid is not None:
                receipts[rid] = receipt
            self._complete(command, outcome, now)
            self._emptied(written)
            outcomes.append(outcome)
        self._balances.update(changed)
        self._changed.update(changed)
        self._sketches.update(sketches.drawn)
        self._drawn.update(sketches.drawn)
        self._receipts.update(receipts)
        self._signed.update(receipts)
        return outcomes

    def write(self) -> int:
        """Writes what changed; how many rows that was."""
        if self._changed:
            self._write(WRITE_BALANCE, [(*place, *row_of(self._balances[place])) for place in self._changed])
        held = self._write_holds()
        self._write_sketches()
        if self._signed:
            kept = [(rid, self._receipts[rid]) for rid in self._signed]
            self._write(WRITE_RECEIPT, [(rid, int(r.granted), r.at, r.until) for rid, r in kept])
        return len(self._changed) + held + len(self._drawn) + len(self._signed)

    def end(self) -> None:
        """The transaction is over: what an outcome tells is all that can be read of it."""
        for holds in self._holds.values():
            holds.end()

    def _complete(self, command: Command, outcome: Outcome, now: int) -> None:
        """Reads every hold where somebody looks, or where a reader of the outcome has to go through the leases."""
        for demand, balance in zip(command.demands, getattr(outcome, "balances", ()), strict=False):
            holds = balance.holds if balance is not None else None
            if holds is not None and (type(command) is Look or holds.due <= now or holds.seen > now + CLOCK_SKEW):
                stored = self._holds.get(demand.place)
                if stored is not None:
                    stored.all()

    def _emptied(self, written: Mapping[Place, Balance]) -> None:
        """Reads the rest where the last hold has gone: what is wrong with it must fail this call, not the writing."""
        for place, balance in written.items():
            if balance.holds is None and place in self._holds:
                self._holds[place].all()

    def _write_holds(self) -> int:
        written, removed = [], []
        for place in self._changed:
            for rid, hold in difference(self._holds.get(place), self._balances[place].holds).items():
                if hold is None:
                    removed.append((*place, rid))
                else:
                    written.append(hold_row_of(place, rid, hold))
        if removed:
            self._write(REMOVE_HOLD, removed)
        if written:
            self._write(WRITE_HOLD, written)
        return len(removed) + len(written)

    def _write_sketches(self) -> None:
        drawn = [(place, things) for place in self._drawn if (things := self._sketches[place]) is not None]
        written = [(*place, *things) for place, things in drawn if things.data]
        if written:
            self._write(WRITE_SKETCH, written)
        if len(written) < len(drawn):
            self._write(REMOVE_SKETCH, [place for place, things in drawn if not things.data])

    def _sketch(self, place: Place) -> Things | None:
        if place not in self._sketches:
            row = self._read(READ_SKETCH, place).fetchone()
            self._sketches[place] = None if row is None else sketch_of(row, place)
        return self._sketches[place]

    def _balance(self, place: Place) -> Balance | None:
        if place not in self._looked:
            row = self._read(READ_BALANCE, place).fetchone()
            if row is not None:
                balance, holds = balance_of(row, place, self._read)
                self._balances[place] = balance
                if holds is not None:
                    self._holds[place] = holds
            self._looked.add(place)
        return self._balances.get(place)

    def _receipt(self, rid: bytes) -> Receipt | None:
        if rid not in self._receipts:
            row = self._read(READ_RECEIPT, (rid,)).fetchone()
            if row is None:
                return None
            self._receipts[rid] = receipt_of(row)
        return self._receipts[rid]


def _check(command: Command) -> None:
    """What could be read by nobody must not reach a table. A demand sees to its amount itself."""
    for name in ("lease", "step"):
        value = getattr(command, name, 0)
        if type(value) is not int or not 0 <= value <= SAFE:
            raise ValueError(f"a {name} is a whole number, 0 to 2^53 - 1; got {value!r}")
    if type(getattr(command, "rid", b"")) is not bytes:
        raise ValueError("a reservation's id is bytes")
    for (subject, limit), *_ in command.demands:
        if type(subject) is not bytes or type(limit) is not str:
            raise ValueError("a place is a digest in bytes and a limit's id")
