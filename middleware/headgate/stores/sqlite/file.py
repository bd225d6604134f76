"""The ledger in one SQLite file: opened, checked, and changed in transactions that hold many calls each.

Law: a call is applied whole or not at all. What is wrong with one call (a value that cannot be read, an amount that
is no integer) fails that call and no other; what is wrong with the file fails the transaction, and then nothing of it
is applied. After a fault the file is looked at afresh, so that the next transaction works when the cause is gone.

Whether anybody still waits for a call is asked when the file is in hand, and not before: until then much time may
have passed, and a caller may have given up. This module knows one thread and one process: see `store` for the others.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from headgate.clock import Clock
from headgate.errors import StoreError
from headgate.quota.balance import SAFE
from headgate.quota.command import Cancel, Command, Extend, Look, Outcome, Settle
from headgate.stores.sqlite import faults
from headgate.stores.sqlite.mark import Mark
from headgate.stores.sqlite.page import Page
from headgate.stores.sqlite.rows import SKETCHES, TABLES
from headgate.stores.sqlite.sweep import Sweep
from headgate.stores.sqlite.turn import Turn

FORMAT = 2
"""The `user_version` of the tables; a file with another one is left alone. Format 1 was never released. A table that
only adds to the others gets no number: it is made where it is missing, and an older worker goes on without it."""

OURS = 0x48474C31
"""The `application_id` that says whose file it is: `HGL1`."""

BUSY = 2.0
"""How long (seconds) SQLite waits for its write lock. Other workers stand in line before it (see `turn`), so that
only a foreign program, a backup or a shell, is waited for."""

CHECKED = 64 * 1024 * 1024
"""Bytes up to which a file is read whole for damage when it is opened: a quarter of a second. Of a larger one
SQLite finds the damage where it reads it."""

LOG_ROOM = 16 * 1024 * 1024
"""Bytes to which the write-ahead log is cut back after a burst."""


class Call(NamedTuple):
    """Commands to apply in order; the instant that replaces the clock's, if any; whether nobody waits any more."""

    commands: Sequence[Command]
    now: int | None = None
    given_up: Callable[[], bool] = lambda: False


def owed(commands: Sequence[Command]) -> tuple[Command, ...]:
    """Those of the commands that are applied also when nobody waits for them.

    A settlement or a cancellation is somebody's refund, a renewal keeps what somebody uses. A reservation that nobody
    waits for would be charged for nothing, and is cancelled behind it.
    """
    return tuple([command for command in commands if isinstance(command, Settle | Cancel | Extend)])


class LedgerFile:
    """One connection to the file, for the thread that made it.

    >>> import tempfile
    >>> from headgate.quota.command import Demand, Reserve
    >>> from headgate.quota.window import Total
    >>> with tempfile.TemporaryDirectory() as there:
    ...     file = LedgerFile(f"{there}/ledger.db", clock=lambda: 7)
    ...     ask = [Reserve(bytes([n]), (Demand((b"acme", "life"), Total(1), 1),), 60_000_000) for n in range(2)]
    ...     [answer] = file.run([Call(ask)])
    ...     file.close()
    >>> [type(outcome).__name__ for outcome in answer]
    ['Granted', 'Refused']
    """

    def __init__(self, path: str, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._turn = Turn(f"{path}-turn")
        self._mark = Mark()
        self._sweep = Sweep()
        self._inode = 0
        self.connection: sqlite3.Connection | None = None

    def run(self, calls: Sequence[Call]) -> list[list[Outcome] | Exception]:
        """Apply the calls in one transaction: for each its outcomes, or why it alone failed.

        Of a call that was given up, only what is `owed` is applied, and answered. Raises StoreError when the file
        fails; then nothing is applied.
        """
        only_looks = all(type(command) is Look for call in calls for command in call.commands)
        # Looks need no write lock, and no turn: they work on a file that is full or written by another worker.
        with nullcontext() if only_looks and self.connection is not None else self._turn:
            try:
                connection = self._opened()
                connection.execute("BEGIN" if only_looks else "BEGIN IMMEDIATE")
                answers = self._within(connection, calls, only_looks)
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._undone(keep=faults.code_of(error) in faults.PASSING)
                raise faults.fault_of(error, self._path) from None
            except BaseException:
                self._undone(keep=False)
                raise
        return answers

    def close(self) -> None:
        """Let go of the file. The last connection to it folds the write-ahead log into it."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
        self._turn.close()

    def _within(
        self, connection: sqlite3.Connection, calls: Sequence[Call], only_looks: bool
    ) -> list[list[Outcome] | Exception]:
        [kept] = connection.execute("SELECT instant FROM mark").fetchone() or (None,)
        if type(kept) is not int:
            raise StoreError(f"{self._path}: the mark of its time cannot be read", transient=False)
        page = Page(connection)
        mark, clock = kept, self._clock()
        answers: list[list[Outcome] | Exception] = []
        for commands, now, given_up in calls:
            try:
                if given_up():
                    commands = owed(commands)
                mark = self._mark.present(mark, _instant(clock if now is None else now))
                answers.append(page.applied(commands, mark))
            except Exception as error:
                # Without a code it is not the file's fault: whatever a command is, it is not to fail its neighbours.
                if isinstance(error, sqlite3.Error) and faults.code_of(error):
                    raise
                answers.append(error)
        if not only_looks:
            changes = page.write()
            if self._mark.moves(kept, mark, changed=changes > 0):
                connection.execute("UPDATE mark SET instant = ?", (mark,))
            self._sweep.after(connection, changes, mark)
        page.end()
        return answers

    def _opened(self) -> sqlite3.Connection:
        """The connection, made anew if the file was moved away: two files would be two ledgers."""
        if self.connection is not None:
            with suppress(OSError):
                if Path(self._path).stat().st_ino == self._inode:
                    return self.connection
            self._undone(keep=False)
        try:
            # Never opened and closed where it exists: closing it would drop the locks of this process's connections.
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise faults.not_made(error, self._path) from None
        connection = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
        try:
            self._prepared(connection)
        except BaseException:
            connection.close()
            raise
        self.connection, self._inode = connection, Path(self._path).stat().st_ino
        return connection

    def _prepared(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # one view of all three: another worker may be making the tables just now
        [owner] = connection.execute("PRAGMA application_id").fetchone()
        [version] = connection.execute("PRAGMA user_version").fetchone()
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
        connection.execute("COMMIT")
        if owner != OURS and (owner or version or tables):
            raise faults.of_another(self._path)
        if version not in (0, FORMAT):
            raise faults.of_another_format(self._path, version, FORMAT)
        if version and Path(self._path).stat().st_size <= CHECKED:
            [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise faults.fault_of_code(sqlite3.SQLITE_CORRUPT, self._path)
        if _logged(connection) != "wal":
            raise faults.without_log(self._path)
        # A commit is in the system's memory: it outlives the process. The disk has it at the next checkpoint.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_ROOM}")
        if not version or "sketches" not in tables:
            self._made(connection)

    def _made(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Where processes cannot take turns, another one may have been faster.
            [version] = connection.execute("PRAGMA user_version").fetchone()
            if not version:
                for statement in TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {OURS}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute(SKETCHES)
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _undone(self, *, keep: bool) -> None:
        connection = self.connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            keep = False
        if not keep:
            self.connection = None
            with suppress(sqlite3.Error):
                connection.close()


def _logged(connection: sqlite3.Connection) -> str:
    """Asks for a write-ahead log; how changes are logged then. Several workers may ask at once the first time."""
    patience = time.monotonic() + BUSY
    while True:
        try:
            [log] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return str(log)
        except sqlite3.OperationalError as error:
            # The one lock that SQLite does not wait for itself, lest two that ask wait for each other.
            if faults.code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                raise
            time.sleep(0.01)


def _instant(now: int) -> int:
    if type(now) is not int or not 0 <= now <= SAFE:
        raise ValueError(f"an instant is a whole number of microseconds, 0 to 2^53 - 1; got {now!r}")
    return now
