"""What is found wrong with a ledger's file: each matter appears where it should, and only there."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headgate.errors import StoreError
from headgate.quota.command import Look
from headgate.stores.finding import Finding
from headgate.stores.sqlite import SqliteStore, doctor

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room, whatever the machine that runs the tests has."""
    monkeypatch.setattr(doctor, "file_system", lambda folder: "ext4")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**12, 10**11, 9 * 10**11))


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"

    async def made() -> None:
        store = SqliteStore(str(path))
        await store.transact([Look(())])
        await store.close()

    asyncio.run(made())
    return path


def found(path: Path | str, **how: bool) -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor.look(str(path), "sqlite:///x", **how).findings}


def test_of_a_ledger_that_is_well_nothing_is_found(ledger: Path) -> None:
    report = doctor.look(str(ledger), "sqlite:///x")
    assert (report.findings, report.not_known) == ((), ())
    assert report.seen[0][1].startswith(f"SQLite {sqlite3.sqlite_version}, 0.0 MB, ")


def test_looking_makes_and_changes_no_file(ledger: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    found(ledger)
    found(tmp_path / "another.db")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_ledger_in_use_is_looked_at_beside_its_users(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as using:
        using.execute("SELECT * FROM mark").fetchone()
        using.execute("BEGIN IMMEDIATE")
        assert found(ledger) == {}


def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    assert "does not exist" in found(tmp_path / "no" / "ledger.db")["file-folder"].what
    assert "it is a directory" in found(tmp_path)["file-folder"].what
    assert found(tmp_path / "ledger.db") == {}


@pytest.mark.parametrize(
    ("kind", "name", "severity"),
    [("nfs4", "file-remote", "fault"), ("cifs", "file-remote", "fault"), ("tmpfs", "file-passing", "warning"),
     ("overlay", "file-passing", "warning")],
)  # fmt: skip
def test_where_a_file_must_not_lie_is_told(
    kind: str, name: str, severity: str, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "file_system", lambda folder: kind)
    [finding] = found(ledger).values()
    assert (finding.name, finding.severity) == (name, severity) and f"({kind})" in finding.what


def test_where_the_system_does_not_say_what_a_disk_is_it_is_not_known(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "file_system", lambda folder: None)
    report = doctor.look(str(ledger), "sqlite:///x")
    assert report.findings == () and [what.what for what in report.not_known] == [
        "whether the file lies on this machine"
    ]


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/share /srv nfs4 rw 0 0
/dev/sdb1 /srv/my\\040disk xfs rw 0 0
tmpfs /run tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/var/lib", "ext4"), ("/srv", "nfs4"), ("/srv/a/b", "nfs4"), ("/srv/my disk", "xfs"), ("/runner", "ext4")],
)
def test_the_nearest_mount_tells_the_kind_of_disk(folder: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    # The fixture stands in for this function elsewhere.
    assert FILE_SYSTEM(folder, str(tmp_path / "mounts")) == kind
    assert FILE_SYSTEM(folder, str(tmp_path / "none")) is None


FILE_SYSTEM = doctor.file_system


@pytest.mark.parametrize(("free", "severity"), [(10**6, "fault"), (10**8, "warning"), (10**9, None)])
def test_a_disk_without_room_is_told(
    free: int, severity: str | None, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**12, 0, free))
    told = found(ledger).get("file-disk")
    assert (told and told.severity) == severity


def test_a_file_that_others_may_read_is_told(ledger: Path) -> None:
    ledger.chmod(0o640)
    assert "its mode is 0640" in found(ledger)["file-exposed"].what


def test_a_file_that_cannot_be_written_is_told(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
    assert found(ledger)["file-rights"].severity == "fault"
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert found(ledger) == {}, "another user's rights are not asked for"


def test_a_log_that_cannot_be_cut_is_told(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as using:
        using.execute("SELECT * FROM mark").fetchone()
        os.truncate(f"{ledger}-wal", 65 * 1024**2)  # sparse: it takes no room
        assert "65 MB" in found(ledger, thorough=False)["file-log-grows"].what


def test_another_way_of_keeping_the_log_is_told(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
    assert "journal_mode is delete" in found(ledger)["file-log"].what


def test_what_is_no_ledger_is_told(ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"no database at all, but long enough to be one" * 99)
    assert found(tmp_path / "notes")["file-foreign"].severity == "fault"
    with closing(sqlite3.connect(ledger)) as other:
        other.execute("PRAGMA user_version = 99")
    assert "a newer headgate wrote it" in found(ledger)["file-foreign"].what
    (tmp_path / "empty").touch()
    assert set(found(tmp_path / "empty")) <= {"file-exposed"}, "the service makes a ledger of it"


def test_damage_is_told(ledger: Path) -> None:
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    told = found(ledger)["file-damaged"]
    assert told.severity == "fault" and "restore it from a backup" in told.remedy
    assert found(ledger, thorough=False) == {}, "not opened"


def test_what_may_not_be_read_is_no_clean_bill(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    monkeypatch.setattr(sqlite3, "connect", refused)
    with pytest.raises(StoreError, match=r"ledger\.db: it cannot be opened"):
        doctor.look(str(ledger), "sqlite:///x")


@pytest.fixture
def holding(ledger: Path) -> Iterator[int]:
    """A process that holds the turn and does nothing with it."""
    script = (
        "import fcntl, sys, time\n"
        f"file = open({f'{ledger}-turn'!r}, 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="this system does not tell who holds a lock")
def test_a_process_that_keeps_the_turn_is_named(ledger: Path, holding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TURN", 0.1)
    assert f"process {holding} has held" in found(ledger)["file-turn"].what


def test_a_turn_that_goes_round_is_no_fault(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holders = iter([1, 1, 2])
    monkeypatch.setattr(doctor, "TURN", 0.1)
    monkeypatch.setattr(doctor, "holder", lambda path: next(holders))
    assert found(ledger) == {}


LOCKS = """\
1: POSIX  ADVISORY  WRITE 7 08:01:99 0 EOF
2: -> FLOCK  ADVISORY  WRITE 5 08:01:42 0 EOF
3: FLOCK  ADVISORY  WRITE 4711 08:01:{inode} 0 EOF
"""


def test_the_holder_of_a_lock_is_read_from_the_systems_list(ledger: Path, tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    locks.write_text(LOCKS.format(inode=ledger.stat().st_ino))
    assert doctor.holder(str(ledger), str(locks)) == 4711
    assert doctor.holder(str(locks), str(locks)) is None
    assert doctor.holder(str(ledger), str(tmp_path / "none")) is None


def test_every_matter_has_been_found_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{kind.name}"' in text for kind in doctor.KINDS)
