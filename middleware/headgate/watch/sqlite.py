"""The stream of the workers of one host: a file beside the ledger's, so that no decision waits for it.

Law: as every stream's. Written in WAL mode without a sync for each batch: a power cut may lose the last moments of
what was seen, never the order of what is left. It holds keyed digests and numbers, and is of no use without the
pepper; who deletes it loses what waits to be looked at and what was learnt, and no count of the ledger's.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

from headgate.errors import StoreError
from headgate.watch.lead import Lead
from headgate.watch.stream import KEEP, Found, Marks, order

FORMAT = 1
"""The `user_version` of its tables."""

BUSY = 2.0
"""Seconds that a writer waits for another one: a batch takes a millisecond."""

TABLES = (
    "CREATE TABLE IF NOT EXISTS parcels (mark INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
)


class SqliteStream:
    """The stream in the file `path`, for one event loop in a thread of its own: its calls wait for the disk.

    >>> import asyncio, tempfile
    >>> async def story(path):
    ...     stream = SqliteStream(path)
    ...     await stream.put("0", [b"a", b"b"])
    ...     found = await stream.read({"0": "1"}, 10)
    ...     await stream.close()
    ...     return found
    >>> with tempfile.TemporaryDirectory() as there:
    ...     asyncio.run(story(f"{there}/watch"))
    [Found(shard='0', mark='2', data=b'b')]
    """

    shared = True

    def __init__(self, path: str, keep: int = KEEP) -> None:
        self._path = path
        self._keep = keep
        self._lead = Lead(f"{path}-lead")
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    async def put(self, shard: str, parcels: Sequence[bytes]) -> bool:
        """Append them in one transaction, and drop what is too old."""
        with self._transaction() as connection:
            connection.executemany("INSERT INTO parcels (body) VALUES (?)", [(data,) for data in parcels])
            [last] = connection.execute("SELECT max(mark) FROM parcels").fetchone()
            connection.execute("DELETE FROM parcels WHERE mark <= ?", (last - self._keep,))
        return True

    async def read(self, marks: Marks, most: int) -> list[Found]:
        """Those after the mark."""
        with self._opened() as connection:
            after = int(marks.get("0", "") or 0)
            asked = "SELECT mark, body FROM parcels WHERE mark > ? ORDER BY mark LIMIT ?"
            return [Found("0", str(mark), bytes(body)) for mark, body in connection.execute(asked, (after, most))]

    async def leads(self) -> bool:
        """Whether this process holds the lock; it falls when the process dies."""
        try:
            return self._lead.taken()
        except OSError as error:
            raise self._fault(error) from None

    async def resign(self) -> None:
        """Give the lock up."""
        self._lead.resign()

    async def keep(self, name: str, data: bytes, read: Marks) -> None:
        """Keep them, and drop the parcels that they make needless, in one transaction."""
        if not await self.leads():
            raise StoreError(f"{self._path}: another process leads by now", transient=True)
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, data))
            [upto] = order(read.get("0", "")) or (0,)
            connection.execute("DELETE FROM parcels WHERE mark <= ?", (upto,))

    async def kept(self, name: str) -> bytes | None:
        """What was kept."""
        with self._opened() as connection:
            row = connection.execute("SELECT body FROM kept WHERE name = ?", (name,)).fetchone()
            return None if row is None else bytes(row[0])

    async def close(self) -> None:
        """Let go of the file and of the lead."""
        self._lead.resign()
        self._let_go()

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        # What was opened before a fork is the parent's: SQLite forbids its child even to close it.
        if connection is not None and self._pid == os.getpid():
            with suppress(sqlite3.Error):
                connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.execute("COMMIT")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The connection; after a fault it is let go of, and the next call looks at the file afresh."""
        try:
            if self._connection is None or self._pid != os.getpid():
                self._let_go()
                self._pid, self._connection = os.getpid(), self._made()
            yield self._connection
        except (sqlite3.Error, OSError) as error:
            self._let_go()
            raise self._fault(error) from None

    def _made(self) -> sqlite3.Connection:
        # Made with its mode before SQLite makes it with another one.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
        connection = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            with closing(connection.execute("PRAGMA user_version")) as asked:
                [found] = asked.fetchone()
            if found not in (0, FORMAT):
                raise StoreError(f"{self._path}: it was written by another version (format {found})", transient=False)
            for table in TABLES:
                connection.execute(table)
            connection.execute(f"PRAGMA user_version={FORMAT}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _fault(self, error: Exception) -> StoreError:
        says = str(error.strerror if isinstance(error, OSError) else error)
        if "malformed" in says or "not a database" in says:
            return StoreError(
                f"{self._path}: {says}; delete it with its -wal and -shm: what was seen lately is lost, no count",
                transient=False,
            )
        return StoreError(f"{self._path}: {says}", transient=True)
