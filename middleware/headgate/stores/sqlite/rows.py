"""How a balance lies in the tables: one row of integers, its parts as JSON of integers, and a row for each hold.

Law: what is read is checked, value by value, before anything is decided by it; bytes that headgate did not write are
a fault with a name and never run as code. Whoever looks at the file with the `sqlite3` shell can read it.

A hold is read when it is asked for, and written when it has changed: a command costs the same however many holds its
balance has. The balance's row knows their number and their sum.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headgate.errors import StoreError
from headgate.quota.balance import SAFE, Balance, Hold, Holds, Parts
from headgate.quota.command import Place, Receipt
from headgate.quota.holds import Altered
from headgate.quota.things import Things, readable

TABLES = """
CREATE TABLE balances (
  subject BLOB NOT NULL, limit_id TEXT NOT NULL,
  kind TEXT NOT NULL, used INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, spec INTEGER NOT NULL,
  parts TEXT, held INTEGER, due INTEGER, seen INTEGER, holds INTEGER,
  PRIMARY KEY (subject, limit_id)) WITHOUT ROWID;
CREATE TABLE holds (
  subject BLOB NOT NULL, limit_id TEXT NOT NULL, rid BLOB NOT NULL,
  amount INTEGER NOT NULL, until INTEGER NOT NULL, step INTEGER NOT NULL, lapsed INTEGER NOT NULL,
  to_subject BLOB, to_limit TEXT,
  PRIMARY KEY (subject, limit_id, rid)) WITHOUT ROWID;
CREATE TABLE receipts (
  rid BLOB PRIMARY KEY, granted INTEGER NOT NULL, at INTEGER NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE mark (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), instant INTEGER NOT NULL);
INSERT INTO mark VALUES (1, 0);
"""
"""One row a place, and one a hold. Six point reads and six upserts in one transaction cost 50 microseconds; `INSERT
OR REPLACE` took twice as long, a JSON value for the whole balance a fifth longer. With all holds as JSON in their
balance's row a command took 20 milliseconds where 4,000 were open; in rows of their own 0.15, as where ten are."""

SKETCHES = """
CREATE TABLE IF NOT EXISTS sketches (
  subject BLOB NOT NULL, limit_id TEXT NOT NULL, since INTEGER NOT NULL, things BLOB NOT NULL,
  PRIMARY KEY (subject, limit_id))
"""
"""A table of its own, because whoever reads a balance would read 14 kB with it; and with row ids, because in a table
without them such a value would lie in the way of every search."""

READ_BALANCE = (
    "SELECT kind, used, since, until, spec, parts, held, due, seen, holds FROM balances"
    " WHERE subject = ? AND limit_id = ?"
)
WRITE_BALANCE = """INSERT INTO balances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, limit_id) DO UPDATE
SET kind = excluded.kind, used = excluded.used, since = excluded.since, until = excluded.until, spec = excluded.spec,
    parts = excluded.parts, held = excluded.held, due = excluded.due, seen = excluded.seen, holds = excluded.holds"""
READ_HOLD = (
    "SELECT rid, amount, until, step, lapsed, to_subject, to_limit FROM holds"
    " WHERE subject = ? AND limit_id = ? AND rid = ?"
)
READ_HOLDS = READ_HOLD.removesuffix(" AND rid = ?")
WRITE_HOLD = """INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, limit_id, rid) DO UPDATE
SET amount = excluded.amount, until = excluded.until, step = excluded.step, lapsed = excluded.lapsed,
    to_subject = excluded.to_subject, to_limit = excluded.to_limit"""
REMOVE_HOLD = "DELETE FROM holds WHERE subject = ? AND limit_id = ? AND rid = ?"
READ_SKETCH = "SELECT since, things FROM sketches WHERE subject = ? AND limit_id = ?"
WRITE_SKETCH = """INSERT INTO sketches VALUES (?, ?, ?, ?)
ON CONFLICT (subject, limit_id) DO UPDATE SET since = excluded.since, things = excluded.things"""
REMOVE_SKETCH = "DELETE FROM sketches WHERE subject = ? AND limit_id = ?"
READ_RECEIPT = "SELECT granted, at, until FROM receipts WHERE rid = ?"
WRITE_RECEIPT = """INSERT INTO receipts VALUES (?, ?, ?, ?)
ON CONFLICT (rid) DO UPDATE SET granted = excluded.granted, at = excluded.at, until = excluded.until"""

KINDS = frozenset({"rate", "quota", "rolling", "max", "total"})


Row = tuple[Any, ...]
Read = Callable[[str, Row], Any]
"""How a statement is executed."""


class StoredHolds(Mapping[bytes, Hold]):
    """The holds of one balance as they lie in the table, each read when it is first asked for.

    `many` and `held` are their number and sum as the balance's row has them. Any access raises StoreError when the
    table holds anything that headgate does not write, and after `end` for what had not been read by then.
    """

    def __init__(self, read: Read, place: Place, many: int, held: int) -> None:
        self._read: Read | None = read
        self._place, self._many, self._held = place, many, held
        self._found: dict[bytes, Hold | None] = {}
        self._all: dict[bytes, Hold] | None = None

    def __getitem__(self, rid: bytes) -> Hold:
        """The hold of a reservation. Raises KeyError where there is none."""
        if self._all is not None:
            return self._all[rid]
        if rid not in self._found:
            row = self._execute(READ_HOLD, (*self._place, rid)).fetchone()
            self._found[rid] = None if row is None else _hold(row, self._place[1])
        hold = self._found[rid]
        if hold is None:
            raise KeyError(rid)
        return hold

    def __iter__(self) -> Iterator[bytes]:
        """Reads all of them."""
        return iter(self.all())

    def __len__(self) -> int:
        """How many there are, known without reading them."""
        return self._many

    def all(self) -> dict[bytes, Hold]:
        """All of them, not to be changed."""
        if self._all is None:
            limit = self._place[1]
            found = {row[0]: _hold(row, limit) for row in self._execute(READ_HOLDS, self._place)}
            held = sum([hold.amount for hold in found.values() if not hold.lapsed])
            if (len(found), held) != (self._many, self._held):
                raise _unreadable(limit, "its holds do not add up")
            self._all = found
        return self._all

    def end(self) -> None:
        """The transaction is over: nothing is read any more, by whichever thread."""
        self._read = None

    def _execute(self, statement: str, parameters: Row) -> Any:
        if self._read is None:
            raise StoreError("an outcome tells the sum of the holds; ask for each of them by a Look", transient=False)
        return self._read(statement, parameters)


def row_of(balance: Balance) -> tuple[str | int | None, ...]:
    """A balance's columns: kind, used, since, until, spec, parts; and of its holds the sum, due, seen, the number.

    >>> row_of(Balance("max", 0, 5, 5, 0, (), Holds(2, 90, {b"r1": Hold(2, 90)}, seen=5)))
    ('max', 0, 5, 5, 0, None, 2, 90, 5, 1)
    """
    kind, used, since, until, spec, parts, holds = balance
    written = _json(parts) if parts else None
    if holds is None:
        return kind, used, since, until, spec, written, None, None, None, None
    held, due, by_rid, seen = holds
    return kind, used, since, until, spec, written, held, due, seen, len(by_rid)


def hold_row_of(place: Place, rid: bytes, hold: Hold) -> Row:
    """A hold's columns: the balance's place, the reservation's id, and what is held."""
    amount, until, step, lapsed, to, also = hold
    return (*place, rid, amount, until, step, lapsed + 2 * also, *(to or (None, None)))


def balance_of(row: Row, place: Place, read: Read) -> tuple[Balance, StoredHolds | None]:
    """The balance that the columns hold, and its holds, for which `read` will be asked.

    Raises StoreError when they hold anything that `row_of` does not write.

    >>> balance_of(("total", 3, 1, 9, 0, None, None, None, None, None), (b"acme", "life"), print)[0].used
    3
    >>> balance_of(("total", 3.5, 1, 9, 0, None, None, None, None, None), (b"acme", "life"), print)
    Traceback (most recent call last):
    headgate.errors.StoreError: a balance of the limit `life` cannot be read: used is no amount
    """
    kind, used, since, until, spec, parts, held, due, seen, many = row
    limit = place[1]
    if kind not in KINDS:
        raise _unreadable(limit, "its kind is unknown")
    if not _amount(used):
        raise _unreadable(limit, "used is no amount")
    if type(since) is not int or type(until) is not int or type(spec) is not int:
        raise _unreadable(limit, "an instant is no integer")
    if parts is None and many is None and due is None:
        return Balance(kind, used, since, until, spec), None
    found = _parts(parts, used, limit)
    if many is None and due is None:
        return Balance(kind, used, since, until, spec, found), None
    if not (_amount(held) and _amount(many) and many) or type(due) is not int or type(seen) is not int:
        raise _unreadable(limit, "the sum or the number of its holds is no amount")
    stored = StoredHolds(read, place, many, held)
    return Balance(kind, used, since, until, spec, found, Holds(held, due, stored, seen)), stored


def difference(stored: StoredHolds | None, holds: Holds | None) -> Mapping[bytes, Hold | None]:
    """What to write so that the stored holds of a balance are these: by rid the hold, or None to remove it."""
    wanted: Mapping[bytes, Hold] = holds.by_rid if holds is not None else {}
    if isinstance(wanted, Altered) and wanted.base is stored:
        return wanted.changes
    if wanted is stored:
        return {}
    # The ledger has gone through all of them, or the last one has gone.
    before = stored.all() if stored is not None else {}
    removed: dict[bytes, Hold | None] = {rid: None for rid in before if rid not in wanted}
    return removed | {rid: hold for rid, hold in wanted.items() if before.get(rid) != hold}


def sketch_of(row: Row, place: Place) -> Things:
    """The sketch that the columns hold. Raises StoreError when they hold something else.

    >>> sketch_of((7, b"a thing."), (b"acme", "models"))
    Things(since=7, data=b'a thing.')
    >>> sketch_of((7, b"a thing and a half"), (b"acme", "models"))
    Traceback (most recent call last):
    headgate.errors.StoreError: a balance of the limit `models` cannot be read: its things are no sketch
    """
    since, data = row
    if type(since) is not int or type(data) is not bytes or not data or not readable(data):
        raise _unreadable(place[1], "its things are no sketch")
    return Things(since, data)


def receipt_of(row: tuple[Any, ...]) -> Receipt:
    """What is remembered of a reservation. Raises StoreError when the columns hold something else.

    >>> receipt_of((1, 5, 90))
    Receipt(granted=True, at=5, until=90)
    """
    granted, at, until = row
    if granted not in (0, 1) or type(at) is not int or type(until) is not int:
        raise StoreError("a receipt cannot be read: an instant is no integer", transient=False)
    return Receipt(granted == 1, at, until)


def _parts(text: object, used: int, limit: str) -> Parts:
    if text is None:
        return ()
    found = _parsed(text, limit)
    if not isinstance(found, list) or not all(
        isinstance(p, list) and len(p) == 2 and type(p[0]) is int and _amount(p[1]) for p in found
    ):
        raise _unreadable(limit, "its sub-windows are no pairs of integers")
    parts: Parts = tuple([(part, units) for part, units in found])
    if sum(units for _, units in parts) != used:
        raise _unreadable(limit, "its sub-windows do not add up")
    return parts


def _hold(row: Row, limit: str) -> Hold:
    rid, amount, until, step, lapsed, subject, other = row
    if type(rid) is not bytes or not _amount(amount) or type(until) is not int or type(step) is not int:
        raise _unreadable(limit, "a hold is no row of integers")
    if lapsed not in ((0, 1) if subject is None else (0, 1, 2, 3)):
        raise _unreadable(limit, "a hold has lapsed or not")
    if subject is None and other is None:
        return Hold(amount, until, step, lapsed == 1)
    if type(subject) is not bytes or type(other) is not str:
        raise _unreadable(limit, "where a hold was moved to is no place")
    return Hold(amount, until, step, lapsed % 2 == 1, (subject, other), lapsed > 1)


def _parsed(text: object, limit: str) -> object:
    try:
        if isinstance(text, str):
            return json.loads(text)
    except (ValueError, RecursionError):
        pass
    raise _unreadable(limit, "its sub-windows are no JSON")


def _amount(value: object) -> bool:
    return type(value) is int and 0 <= value <= SAFE


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _unreadable(limit: str, why: str) -> StoreError:
    return StoreError(f"a balance of the limit `{limit}` cannot be read: {why}", transient=False)
