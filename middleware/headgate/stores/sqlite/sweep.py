"""Forgetting, a little at a time: receipts that have run out, and balances that are as good as untouched.

Law: nothing is decided by it. A row that could still refuse anything stays, and so does one that cannot be read. The
tables are walked in turns, a few rows for each one written, so that the file is bounded and no command waits for a
cleaning.
"""

from __future__ import annotations

import sqlite3

from headgate.clock import SECOND
from headgate.quota.command import Place

EVERY = 256
"""Rows written between two steps of the walk."""

PACE = 4
"""Rows looked at for each one written: what is left lying is at most a third of what lives."""

QUIET = 3_600 * SECOND
"""How long a balance must have been idle: a clock that was set ahead or back by an hour opens no window by this."""

ORPHANED = 40 * 24 * 3_600 * SECOND
"""How long after its last lease a balance with holds is given up: longer than any month, in which the charge of a
dead worker would have run out, had anybody looked."""


class Sweep:
    """Where the walk stands, in this process. Each process walks for itself."""

    def __init__(self) -> None:
        self._written = 0
        self._place: Place = (b"", "")
        self._rid = b""

    def after(self, connection: sqlite3.Connection, written: int, now: int) -> None:
        """Takes a step within the open transaction, when enough was written since the last one."""
        self._written += written
        if self._written >= EVERY:
            rows = self._written * PACE
            self._written = 0
            self._balances(connection, rows, now)
            self._receipts(connection, rows, now)

    def _balances(self, connection: sqlite3.Connection, rows: int, now: int) -> None:
        found = connection.execute(
            "SELECT subject, limit_id, until, due, holds IS NULL FROM balances"
            " WHERE (subject, limit_id) > (?, ?) ORDER BY subject, limit_id LIMIT ?",
            (*self._place, rows),
        ).fetchall()
        idle = [(subject, limit) for subject, limit, until, due, free in found if _idle(until, due, free, now)]
        for table in ("balances", "holds", "sketches"):
            connection.executemany(f"DELETE FROM {table} WHERE subject = ? AND limit_id = ?", idle)
        self._place = found[-1][:2] if len(found) == rows else (b"", "")

    def _receipts(self, connection: sqlite3.Connection, rows: int, now: int) -> None:
        found = connection.execute(
            "SELECT rid, until FROM receipts WHERE rid > ? ORDER BY rid LIMIT ?", (self._rid, rows)
        ).fetchall()
        ended = [(rid,) for rid, until in found if type(until) is int and until <= now]
        connection.executemany("DELETE FROM receipts WHERE rid = ?", ended)
        self._rid = found[-1][0] if len(found) == rows else b""


def _idle(until: object, due: object, free: int, now: int) -> bool:
    if type(until) is not int or until + QUIET > now:
        return False
    if free:
        return due is None
    return type(due) is int and due + ORPHANED <= now
