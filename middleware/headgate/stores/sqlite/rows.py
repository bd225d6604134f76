"""How a balance lies in a table: integers in columns, its parts and holds as JSON of integers.

Law: what is read is checked, value by value, before anything is decided by it; bytes that headgate did not write are
a fault with a name and never run as code. Whoever looks at the file with the `sqlite3` shell can read it.
"""

from __future__ import annotations

import json
from typing import Any

from headgate.errors import StoreError
from headgate.quota.balance import SAFE, Balance, Hold, Holds, Parts
from headgate.quota.ledger import Receipt

TABLES = """
CREATE TABLE balances (
  subject BLOB NOT NULL, limit_id TEXT NOT NULL,
  kind TEXT NOT NULL, used INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, spec INTEGER NOT NULL,
  parts TEXT, due INTEGER, seen INTEGER, holds TEXT,
  PRIMARY KEY (subject, limit_id)) WITHOUT ROWID;
CREATE TABLE receipts (
  rid BLOB PRIMARY KEY, granted INTEGER NOT NULL, at INTEGER NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE mark (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), instant INTEGER NOT NULL);
INSERT INTO mark VALUES (1, 0);
"""
"""One row a place. Six point reads and six upserts in one transaction cost 50 microseconds; `INSERT OR REPLACE` took
twice as long, a JSON value for the whole balance a fifth longer."""

READ_BALANCE = (
    "SELECT kind, used, since, until, spec, parts, due, seen, holds FROM balances WHERE subject = ? AND limit_id = ?"
)
WRITE_BALANCE = """INSERT INTO balances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, limit_id) DO UPDATE
SET kind = excluded.kind, used = excluded.used, since = excluded.since, until = excluded.until, spec = excluded.spec,
    parts = excluded.parts, due = excluded.due, seen = excluded.seen, holds = excluded.holds"""
READ_RECEIPT = "SELECT granted, at, until FROM receipts WHERE rid = ?"
WRITE_RECEIPT = """INSERT INTO receipts VALUES (?, ?, ?, ?)
ON CONFLICT (rid) DO UPDATE SET granted = excluded.granted, at = excluded.at, until = excluded.until"""

KINDS = frozenset({"rate", "quota", "rolling", "max", "total"})


def row_of(balance: Balance) -> tuple[str | int | None, ...]:
    """A balance's columns: kind, used, since, until, spec, parts, due, seen, holds.

    >>> row_of(Balance("max", 0, 5, 5, 0, (), Holds(2, 90, {b"r1": Hold(2, 90)}, seen=5)))
    ('max', 0, 5, 5, 0, None, 90, 5, '{"7231":[2,90,0,0]}')
    """
    kind, used, since, until, spec, parts, holds = balance
    if holds is None:
        return kind, used, since, until, spec, _json(parts) if parts else None, None, None, None
    _, due, by_rid, seen = holds
    written = {rid.hex(): _written(hold) for rid, hold in by_rid.items()}
    return kind, used, since, until, spec, _json(parts) if parts else None, due, seen, _json(written)


def balance_of(row: tuple[Any, ...], limit: str) -> Balance:
    """The balance that the columns hold; `limit` names it in an error.

    Raises StoreError when they hold anything that `row_of` does not write.

    >>> balance_of(("total", 3, 1, 9, 0, None, None, None, None), "life").used
    3
    >>> balance_of(("total", 3.5, 1, 9, 0, None, None, None, None), "life")
    Traceback (most recent call last):
    headgate.errors.StoreError: a balance of the limit `life` cannot be read: used is no amount
    """
    kind, used, since, until, spec, parts, due, seen, holds = row
    if kind not in KINDS:
        raise _unreadable(limit, "its kind is unknown")
    if not _amount(used):
        raise _unreadable(limit, "used is no amount")
    if type(since) is not int or type(until) is not int or type(spec) is not int:
        raise _unreadable(limit, "an instant is no integer")
    if parts is None and holds is None and due is None:
        return Balance(kind, used, since, until, spec)
    return Balance(kind, used, since, until, spec, _parts(parts, used, limit), _holds(holds, due, seen, limit))


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


def _holds(text: object, due: object, seen: object, limit: str) -> Holds | None:
    if text is None and due is None:
        return None
    found = _parsed(text, limit)
    if type(due) is not int or type(seen) is not int or not isinstance(found, dict) or not found:
        raise _unreadable(limit, "its holds are no table")
    try:
        by_rid = {bytes.fromhex(rid): _hold(values, limit) for rid, values in found.items()}
    except ValueError:
        raise _unreadable(limit, "an id in its holds is not hexadecimal") from None
    held = sum([hold.amount for hold in by_rid.values() if not hold.lapsed])
    return Holds(held, due, by_rid, seen)


def _written(hold: Hold) -> tuple[int | str, ...]:
    amount, until, step, lapsed, to = hold
    return (amount, until, step, int(lapsed), *(() if to is None else (to[0].hex(), to[1])))


def _hold(values: object, limit: str) -> Hold:
    match values:
        case [int(amount), int(until), int(step), 0 | 1 as lapsed, *to]:
            if not _amount(amount) or type(until) is not int or type(step) is not int:
                raise _unreadable(limit, "a hold is not four integers")
            match to:
                case []:
                    return Hold(amount, until, step, lapsed == 1)
                case [str(subject), str(other)]:
                    return Hold(amount, until, step, lapsed == 1, (bytes.fromhex(subject), other))
    raise _unreadable(limit, "a hold is not four integers, and a place if it was moved")


def _parsed(text: object, limit: str) -> object:
    try:
        if isinstance(text, str):
            return json.loads(text)
    except (ValueError, RecursionError):
        pass
    raise _unreadable(limit, "its parts or holds are no JSON")


def _amount(value: object) -> bool:
    return type(value) is int and 0 <= value <= SAFE


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _unreadable(limit: str, why: str) -> StoreError:
    return StoreError(f"a balance of the limit `{limit}` cannot be read: {why}", transient=False)
