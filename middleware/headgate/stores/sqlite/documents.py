"""Documents in the ledger's file, in a table of their own.

Law: what was swapped is on the disk before it is acknowledged (`synchronous = FULL`), other than counts, which a
machine's death may take back by a moment. Reading makes nothing: where there is no file yet, there is no document.

Each call opens the file, does its work and closes it, in a thread of its own: it takes a third of a millisecond once
a second, and leaves nothing open that a fork would share. Who changes a document waits for its turn as the ledger's
writers do.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from headgate.clock import Clock, wall_clock
from headgate.stores.documents import REMEMBERED, Document, checked, next_version
from headgate.stores.sqlite import faults
from headgate.stores.sqlite.file import BUSY, FORMAT, OURS, LedgerFile
from headgate.stores.sqlite.turn import Turn

WAIT: Final = 5.0
"""How long (seconds) a call waits at most: nobody's request does."""

THREADS: Final = 32
"""Calls under way at most: of a file that hangs they do not come back."""

TABLE: Final = """
CREATE TABLE IF NOT EXISTS documents (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, body TEXT NOT NULL, before TEXT NOT NULL
) WITHOUT ROWID, STRICT"""
"""`before`: the versions that its last swaps made, the newest first."""

FOUND: Final = "SELECT version, body, before FROM documents WHERE name = ?"
KNOWN: Final = "SELECT version FROM documents WHERE name = ?"
KEPT: Final = "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)"

Answer = TypeVar("Answer")


class SqliteDocuments:
    """Documents in a SQLite file, shared by all processes that open it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as there:
    ...     documents = SqliteDocuments(f"{there}/ledger.db")
    ...     asyncio.run(documents.swap("groups", "{}", 0, b"one"))
    ...     asyncio.run(documents.read("groups")).body
    True
    '{}'
    """

    def __init__(self, path: str, *, clock: Clock = wall_clock, wait: float = WAIT) -> None:
        self._path = path
        self._clock = clock
        self._wait = wait
        self._under_way: set[object] = set()

    async def version(self, name: str) -> int:
        """The version that stands now."""
        checked(name)
        return await self._done(partial(self._version, name))

    async def read(self, name: str) -> Document:
        """The document as it stands now."""
        checked(name)
        return await self._done(partial(self._read, name))

    async def swap(self, name: str, body: str, expected: int, rid: bytes) -> bool:
        """Replace the version `expected`."""
        checked(name, body)
        return await self._done(partial(self._swapped, name, body, expected, rid))

    async def close(self) -> None:
        """Nothing is open between two calls."""

    def _version(self, name: str) -> int:
        row = self._looked_up(KNOWN, name)
        return 0 if row is None else int(row[0])

    def _read(self, name: str) -> Document:
        row = self._looked_up(FOUND, name)
        return Document() if row is None else Document(row[0], row[1])

    def _looked_up(self, question: str, name: str) -> tuple[int, str, str] | None:
        if not Path(self._path).exists():
            return None
        try:
            with closing(self._opened()) as connection:
                there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'documents'").fetchone()
                row: tuple[int, str, str] | None = connection.execute(question, (name,)).fetchone() if there else None
                return row
        except sqlite3.Error as error:
            raise faults.fault_of(error, self._path) from None

    def _swapped(self, name: str, body: str, expected: int, rid: bytes) -> bool:
        file, turn = LedgerFile(self._path, self._clock), Turn(f"{self._path}-turn")
        try:
            file.run(())  # makes what is missing, and refuses what is another's
            with closing(self._opened()) as connection, turn:
                return _swapped(connection, name, body, expected, rid)
        except sqlite3.Error as error:
            raise faults.fault_of(error, self._path) from None
        finally:
            turn.close()
            file.close()

    def _opened(self) -> sqlite3.Connection:
        """A connection to a file that is there and ours; one that has no tables yet is as good as ours."""
        connection = sqlite3.connect(
            f"file:{quote(self._path)}?mode=rw", uri=True, timeout=BUSY, isolation_level=None
        )
        try:
            [owner] = connection.execute("PRAGMA application_id").fetchone()
            [version] = connection.execute("PRAGMA user_version").fetchone()
            tables = connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            if owner != OURS and (owner or version or tables):
                raise faults.of_another(self._path)
            if version not in (0, FORMAT):
                raise faults.of_another_format(self._path, version, FORMAT)
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    async def _done(self, work: Callable[[], Answer]) -> Answer:
        """What the work answers, done in a thread: a daemon, so that a file that hangs keeps no program alive."""
        if len(self._under_way) >= THREADS:
            raise faults.hangs(self._path)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        def told(answer: Answer | None, fault: BaseException | None) -> None:
            if future.done():
                return
            if fault is not None:
                future.set_exception(fault)
            else:
                future.set_result(answer)  # type: ignore[arg-type]  # without a fault there is an answer

        def run() -> None:
            answer, fault = None, None
            try:
                answer = work()
            except BaseException as error:
                fault = error
            self._under_way.discard(run)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(told, answer, fault)

        self._under_way.add(run)
        try:
            threading.Thread(target=run, name="headgate-documents", daemon=True).start()
        except RuntimeError as error:
            self._under_way.discard(run)
            raise faults.no_thread(self._path, str(error)) from None
        try:
            async with asyncio.timeout(self._wait):
                return await future
        except TimeoutError:
            raise faults.no_answer(self._path, self._wait) from None


def _swapped(connection: sqlite3.Connection, name: str, body: str, expected: int, rid: bytes) -> bool:
    made = next_version(expected, rid)
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(TABLE)
        version, _, before = connection.execute(FOUND, (name,)).fetchone() or (0, "", "")
        known = [int(number) for number in before.split()]
        if version == expected:
            kept = " ".join(map(str, [made, *known][:REMEMBERED]))
            connection.execute(KEPT, (name, made, body, kept))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return version == expected or made in known
