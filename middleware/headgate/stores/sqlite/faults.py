"""What went wrong with the file, in words: which file, what is the matter, and what helps.

Law: every fault of the file becomes a StoreError that an operator can act on; `transient` is true only for what
passes without anybody's help. Nothing of what the file holds is shown.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from headgate.errors import StoreError

FAULTS = {
    sqlite3.SQLITE_BUSY: (
        True,
        "another program holds its write lock; end the backup or shell that is open on it",
    ),
    sqlite3.SQLITE_LOCKED: (True, "another program holds its write lock"),
    sqlite3.SQLITE_PROTOCOL: (True, "other workers were opening it at the same time"),
    sqlite3.SQLITE_IOERR: (True, "the disk does not read or write as it should; see the system's log"),
    sqlite3.SQLITE_NOMEM: (True, "the process is out of memory"),
    sqlite3.SQLITE_FULL: (False, "the disk is full; free some space, and it goes on without a restart"),
    sqlite3.SQLITE_READONLY: (
        False,
        "it may not be written; give the file and its directory to the user that the server runs as",
    ),
    sqlite3.SQLITE_PERM: (False, "it may not be opened; give it to the user that the server runs as"),
    sqlite3.SQLITE_CORRUPT: (
        False,
        "it is damaged; stop the workers and restore it from a backup, or move it away to count from zero",
    ),
    sqlite3.SQLITE_NOTADB: (False, "it is no SQLite database; name another file, or move this one away"),
    sqlite3.SQLITE_SCHEMA: (True, "its tables were changed while it was in use"),
}
"""By SQLite's primary result code: whether it passes, and what to say. `SQLITE_CANTOPEN` is looked into."""

PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})
"""After these the connection is as good as before; after any other fault it is opened anew."""


def code_of(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where Python itself complained."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def fault_of(error: sqlite3.Error, path: str) -> StoreError:
    """An error of SQLite as an operator should read it."""
    code = code_of(error)
    if code == sqlite3.SQLITE_CANTOPEN:
        return not_opened(path)
    # What is not listed was not foreseen: SQLite's own words are better than none, and hold no values.
    transient, words = FAULTS.get(code, (False, f"{getattr(error, 'sqlite_errorname', '')} {error}".strip()))
    return StoreError(f"{path}: {words}", transient=transient)


def not_made(error: OSError, path: str) -> StoreError:
    """Why the file could not be made."""
    if error.errno == errno.ENOSPC:
        return fault_of_code(sqlite3.SQLITE_FULL, path)
    if error.errno == errno.EROFS:
        return fault_of_code(sqlite3.SQLITE_READONLY, path)
    return not_opened(path)


def fault_of_code(code: int, path: str) -> StoreError:
    """The fault that stands under a code."""
    transient, words = FAULTS[code]
    return StoreError(f"{path}: {words}", transient=transient)


def not_opened(path: str) -> StoreError:
    """Why the file cannot be opened, as far as looking at it tells."""
    directory = Path(path).parent
    if not directory.is_dir():
        words = f"the directory {directory} does not exist; make it, or name another file"
    elif Path(path).is_dir():
        words = "it is a directory; name a file in it"
    elif not os.access(directory, os.W_OK | os.X_OK):
        words = f"nothing can be written in {directory}; give it to the user that the server runs as"
    elif not os.access(path, os.R_OK | os.W_OK):
        words = "it may not be read and written; give it to the user that the server runs as"
    else:
        words = "it cannot be opened; is the process out of file descriptors?"
    return StoreError(f"{path}: {words}", transient=False)


def of_another(path: str) -> StoreError:
    """The file is a database of some other program."""
    return StoreError(f"{path}: it holds another program's tables; name a file of headgate's own", transient=False)


def of_another_format(path: str, version: int, known: int) -> StoreError:
    """The file was written by a headgate that lays its tables out in another way."""
    who, what = ("a newer", "upgrade, or name another") if version > known else ("an older", "move it away")
    return StoreError(
        f"{path}: {who} headgate wrote it (format {version}; this one knows {known}): {what}", transient=False
    )


def without_log(path: str) -> StoreError:
    """SQLite cannot keep a write-ahead log there."""
    return StoreError(
        f"{path}: no write-ahead log can be kept there; put it on a local disk, not a network one", transient=False
    )


def no_answer(path: str, waited: float) -> StoreError:
    """A caller has waited for its turn as long as anybody should."""
    return StoreError(
        f"{path}: no answer within {waited:g} s; another process holds {path}-turn, or the disk stands still",
        transient=True,
        unknown=True,
    )


def hangs(path: str) -> StoreError:
    """Others have waited in vain and the file has not come back: one more would only wait as well."""
    return StoreError(
        f"{path}: it does not answer at present; another process holds {path}-turn, or the disk stands still",
        transient=True,
    )


def no_thread(path: str, why: str) -> StoreError:
    """The thread that works on the file could not be started; the next call tries again."""
    return StoreError(f"{path}: no thread can be started for it ({why}); raise the limit of threads", transient=True)
