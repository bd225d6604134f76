"""What is wrong with a ledger's file, and with where it lies.

Law: looking makes no file and changes none; whoever looks may be another user than the service, which could then not
write to what was made. A file is opened by SQLite alone: opening it besides would drop the locks of this process.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headgate.errors import StoreError
from headgate.stores.finding import Finding, Kind, NotKnown, Report, sorted_out
from headgate.stores.sqlite import faults
from headgate.stores.sqlite.file import FORMAT, LOG_ROOM, OURS

WHOLE = 1024**3
"""Bytes up to which a file is read whole for damage: a few seconds."""

SCARCE, ROOM = 32 * 1024**2, 256 * 1024**2
"""Bytes free on the disk below which it is a fault, and a worry: the write-ahead log alone may take 16 MiB."""

TURN = 2.0
"""Seconds for which the same process must hold the turn to be told: a transaction takes milliseconds."""

REMOTE = (
    "nfs",
    "cifs",
    "smb",
    "afs",
    "ceph",
    "gluster",
    "lustre",
    "beegfs",
    "gpfs",
    "ocfs",
    "9p",
    "fuse.sshfs",
    "fuse.s3",
)
"""How the kinds of file systems begin whose files lie on another machine."""

NO_FOLDER = Kind("file-folder", ("fault",), "No ledger can be made there: requests go the way of on_store_error.")
REMOTE_FILE = Kind(
    "file-remote",
    ("fault",),
    "Locks and shared memory do not reach other machines: counts get lost, or the file does.",
)
PASSING_FILE = Kind("file-passing", ("warning",), "What lies there is gone after a restart of machine or container.")
DAMAGED = Kind(
    "file-damaged", ("fault",), "What cannot be read is not counted, and headgate leaves such a file alone."
)
FOREIGN = Kind("file-foreign", ("fault",), "headgate does not touch what is not its own, or newer than itself.")
UNLOGGED = Kind("file-log", ("note",), "Without the write-ahead log readers and writers wait for each other.")
LOG_GROWS = Kind(
    "file-log-grows", ("warning",), "The log cannot be cut back while somebody reads, and fills the disk."
)
DISK = Kind(
    "file-disk", ("warning", "fault"), "A full disk is an outage: on_store_error decides until there is room."
)
EXPOSED = Kind("file-exposed", ("warning",), "Others may read who used how much, if only under digests.")
NOT_WRITABLE = Kind("file-rights", ("fault",), "What cannot be written is not counted.")
HELD = Kind("file-turn", ("fault",), "All workers wait for who holds the turn, and requests time out.")

KINDS = (
    NO_FOLDER, REMOTE_FILE, PASSING_FILE, DAMAGED, FOREIGN, UNLOGGED, LOG_GROWS, DISK, EXPOSED, NOT_WRITABLE, HELD,
)  # fmt: skip
"""Every matter that may be found; docs/operations.md has a row for each."""


def look(path: str, store: str, *, thorough: bool = True) -> Report:
    """All that is wrong with the file. Not `thorough`: where it lies, without opening it.

    Raises StoreError where nothing can be looked at.
    """
    not_known: list[NotKnown] = []
    found = [*_place(path, not_known)]
    there = _there(path)
    if there:
        found += [*_rights(path), *_log(path)]
    if there and thorough:
        found += [*_inside(path, not_known), *_turn(path)]
    return Report(store, ((path, _seen(path)),), sorted_out(found), tuple(not_known))


def _there(path: str) -> bool:
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except FileNotFoundError:
        return False
    except OSError:
        raise faults.not_opened(path) from None


def _seen(path: str) -> str:
    if not _there(path):
        return "not there yet: the first request makes it"
    size = Path(path).stat().st_size / 1024**2
    free = shutil.disk_usage(Path(path).parent).free / 1024**3
    return f"SQLite {sqlite3.sqlite_version}, {size:.1f} MB, {free:.1f} GB free on its disk"


def _place(path: str, not_known: list[NotKnown]) -> Iterator[Finding]:
    folder = Path(path).resolve().parent
    if not folder.is_dir() or Path(path).is_dir():
        yield NO_FOLDER.found(path, str(faults.not_opened(path)).removeprefix(f"{path}: "), "see what was found")
        return
    kind = file_system(str(folder))
    if kind is None:
        not_known.append(NotKnown((path,), "whether the file lies on this machine", "the system has no /proc/mounts"))
    elif kind.startswith(REMOTE):
        yield REMOTE_FILE.found(
            path,
            f"it lies on a network file system ({kind})",
            "move it to a local disk; for several machines, use redis://",
        )
    elif kind in {"tmpfs", "ramfs", "overlay"}:
        where = "in memory" if kind != "overlay" else "in the container's own layer"
        yield PASSING_FILE.found(
            path, f"it lies {where} ({kind})", "name a file on a disk, or on a volume of its own"
        )
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        yield DISK.found(
            path,
            f"{free / 1024**2:,.0f} MB are free on its disk",
            "make room, or move the file (with the service stopped)",
            "fault" if free < SCARCE else "warning",
        )


def file_system(folder: str, mounts: str = "/proc/self/mounts") -> str | None:
    """The kind of file system that a folder lies on; None where the system does not tell."""
    try:
        rows = [row.split() for row in Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return None
    under = [(row[1].replace("\\040", " "), row[2]) for row in rows if len(row) > 2]
    # Of two mounts on one place the later one is seen.
    within = f"{folder}/"
    fitting = [(len(at), n, kind) for n, (at, kind) in enumerate(under) if within.startswith(at.rstrip("/") + "/")]
    return max(fitting)[2] if fitting else None


def _rights(path: str) -> Iterator[Finding]:
    said = Path(path).stat()
    if stat.S_IMODE(said.st_mode) & 0o077:
        yield EXPOSED.found(path, f"its mode is {stat.S_IMODE(said.st_mode):04o}", f"chmod 600 {path}*")
    mine = os.geteuid() == said.st_uid if hasattr(os, "geteuid") else True
    # Of another user's file it is that user's rights that count, and those are not asked for here.
    if mine and not (
        os.access(path, os.R_OK | os.W_OK) and os.access(Path(path).resolve().parent, os.W_OK | os.X_OK)
    ):
        yield NOT_WRITABLE.found(
            path, "the file or its folder may not be written", "give both to the user that the server runs as"
        )


def _log(path: str) -> Iterator[Finding]:
    log = Path(f"{path}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > 4 * LOG_ROOM:
        yield LOG_GROWS.found(
            path,
            f"its write-ahead log has {size / 1024**2:,.0f} MB",
            "end the program that reads the file all the time: a shell, a backup (fuser FILE names it)",
        )


def _inside(path: str, not_known: list[NotKnown]) -> Iterator[Finding]:
    # A file without log is nobody's just now. Read as unchanging, it gets none: SQLite would make it otherwise.
    alone = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro{alone}", uri=True, timeout=TURN)) as file:
            yield from _read(file, path, not_known, _mode(file, path, unused=bool(alone)))
    except sqlite3.Error as error:
        fault = faults.fault_of(error, path)
        if faults.code_of(error) not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise fault from None
        kind = FOREIGN if faults.code_of(error) == sqlite3.SQLITE_NOTADB else DAMAGED
        yield _said(kind, path, fault)


def _mode(file: sqlite3.Connection, path: str, *, unused: bool) -> str:
    """How SQLite keeps the file's log. Where nobody uses it now, its header says so, and may be read besides."""
    if not unused:
        return str(_one(file, "journal_mode"))
    with Path(path).open("rb") as header:
        return "wal" if header.read(20)[18:] == b"\2\2" else "delete"


def _read(file: sqlite3.Connection, path: str, not_known: list[NotKnown], mode: str) -> Iterator[Finding]:
    owner, version = _one(file, "application_id"), _one(file, "user_version")
    if owner != OURS:
        if owner or version or file.execute("SELECT 1 FROM sqlite_master").fetchone():
            yield _said(FOREIGN, path, faults.of_another(path))
        return
    if version != FORMAT:
        yield _said(FOREIGN, path, faults.of_another_format(path, version, FORMAT))
        return
    if mode != "wal":
        yield UNLOGGED.found(path, f"its journal_mode is {mode}", "start the service: it keeps a write-ahead log")
    if Path(path).stat().st_size > WHOLE:
        what = "whether it is damaged: sqlite3 FILE 'PRAGMA quick_check' reads it whole"
        not_known.append(NotKnown((path,), what, "it is larger than 1 GB"))
    elif (found := _one(file, "quick_check(1)")) != "ok":
        fault = faults.fault_of_code(sqlite3.SQLITE_CORRUPT, path)
        yield _said(DAMAGED, path, fault, f"{str(found).splitlines()[-1][:100]}: ")


def _one(file: sqlite3.Connection, pragma: str) -> Any:
    return file.execute(f"PRAGMA {pragma}").fetchone()[0]


def _said(kind: Kind, path: str, fault: StoreError, before: str = "") -> Finding:
    what, _, remedy = str(fault).removeprefix(f"{path}: ").partition("; ")
    return kind.found(path, before + what, remedy or "name another file")


def _turn(path: str) -> Iterator[Finding]:
    """Whether one process holds the turn all the time. The kernel queues who waits, so that nobody need be asked."""
    first = holder(f"{path}-turn")
    end = time.monotonic() + TURN
    while first is not None and time.monotonic() < end:
        time.sleep(TURN / 40)
        if holder(f"{path}-turn") != first:
            return
    if first is not None:
        yield HELD.found(
            path,
            f"process {first} has held {path}-turn for {TURN:g} s",
            f"look at it (ps -fp {first}); if it hangs, end it: nothing that was counted is lost",
        )


def holder(path: str, locks: str = "/proc/locks") -> int | None:
    """The process that holds a file's lock; None where nobody does, or the system does not tell."""
    try:
        inode = Path(path).stat().st_ino
        rows = Path(locks).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for row in rows:
        parts = row.split()
        # A row with an arrow is one that waits.
        if len(parts) > 5 and parts[1] == "FLOCK" and parts[5].rpartition(":")[2] == str(inode):
            return int(parts[4])
    return None
