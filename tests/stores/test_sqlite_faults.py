"""What can be wrong with the file: each fault is told, passes when its cause is gone, and loses nothing."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.quota.command import Command, Demand, Granted, Look, Outcome, Refused, Reserve, Settle
from headgate.quota.window import Rolling, Total
from headgate.stores import SqliteStore
from headgate.stores.sqlite import file as ledger_file
from headgate.stores.sqlite.file import Call, LedgerFile
from headgate.testing import ManualClock

LEASE = 60_000_000


def life(who: bytes = b"acme", limit: int = 1_000) -> Demand:
    return Demand((who, "life"), Total(limit), 1)


def reserve(rid: bytes, *demands: Demand) -> Command:
    return Reserve(rid, demands or (life(),), LEASE)


def said(path: str, *commands: Command) -> list[Outcome]:
    """The outcomes from a store of its own, opened and closed."""

    async def story() -> list[Outcome]:
        store = SqliteStore(path)
        try:
            return await store.transact(commands)
        finally:
            await store.close()

    return asyncio.run(story())


def used(path: str) -> int:
    [seen] = said(path, Look((life(),)))
    [balance] = seen.balances  # type: ignore[union-attr]
    return balance.used if balance is not None else 0


def told(path: str, says: str, *, transient: bool = False) -> None:
    with pytest.raises(StoreError, match=says) as fault:
        said(path, reserve(b"told"))
    assert str(fault.value).startswith(path), "which file it is"
    assert fault.value.transient is transient


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


@pytest.fixture
def filled(path: str) -> str:
    """A ledger with a few hundred balances, closed."""
    said(path, *[reserve(b"%d" % n, life(b"subject-%d" % n)) for n in range(600)], reserve(b"mine"))
    return path


def test_a_directory_that_does_not_exist_is_named_and_may_be_made_later(tmp_path: Path) -> None:
    path = str(tmp_path / "not yet" / "ledger.db")
    told(path, "the directory .*not yet does not exist; make it")
    Path(path).parent.mkdir()
    assert isinstance(said(path, reserve(b"1"))[0], Granted)


def test_a_store_that_failed_to_open_works_when_the_cause_is_gone_without_being_made_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "not yet" / "ledger.db")

    async def story() -> None:
        store = SqliteStore(path)
        for _ in range(2):
            with pytest.raises(StoreError):
                await store.transact((reserve(b"1"),))
        Path(path).parent.mkdir()
        assert isinstance((await store.transact((reserve(b"1"),)))[0], Granted)
        await store.close()

    asyncio.run(story())


def test_a_directory_is_no_ledger(tmp_path: Path) -> None:
    told(str(tmp_path), "it is a directory; name a file in it")


def test_a_file_that_is_no_database_is_left_as_it_is(path: str) -> None:
    Path(path).write_text("the accounts of 2026\n" * 500)
    told(path, "no SQLite database; name another file, or move this one away")
    assert Path(path).read_text() == "the accounts of 2026\n" * 500


def test_another_programs_database_is_left_as_it_is(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE accounts (id)")
    before = Path(path).read_bytes()
    told(path, "another program's tables")
    assert Path(path).read_bytes() == before


@pytest.mark.parametrize(
    ("version", "says"), [(99, "a newer headgate .*format 99"), (1, "an older headgate .*format 1")]
)
def test_a_ledger_in_another_format_is_left_as_it_is(filled: str, version: int, says: str) -> None:
    with closing(sqlite3.connect(filled)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    told(filled, says)


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_within_a_page(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1_000)


def scribbled_over(file: Path) -> None:
    with file.open("r+b") as pages:
        pages.seek(3 * 4_096)
        pages.write(os.urandom(2 * 4_096))


@pytest.mark.parametrize("torn", [truncated, cut_within_a_page, scribbled_over])
def test_a_torn_file_is_found_at_the_start_and_works_again_when_restored(
    filled: str, torn: Callable[[Path], None]
) -> None:
    shutil.copy(filled, f"{filled}.backup")
    torn(Path(filled))
    told(filled, "damaged; stop the workers and restore it from a backup, or move it away")
    shutil.copy(f"{filled}.backup", filled)
    assert used(filled) == 1


def test_a_file_that_is_torn_while_it_is_open_fails_the_command_and_not_the_process(filled: str) -> None:
    file = LedgerFile(filled, ManualClock())
    file.run([Call((Look((life(),)),))])
    assert file.connection is not None
    file.connection.execute("PRAGMA cache_size = 1")
    file.connection.execute("PRAGMA shrink_memory")
    scribbled_over(Path(filled))
    with pytest.raises(StoreError, match="damaged"):
        for n in range(600):
            file.run([Call((reserve(b"again-%d" % n, life(b"subject-%d" % n)),))])
    assert file.connection is None, "what it had read is not to be relied on"
    Path(filled).unlink()
    assert isinstance(file.run([Call((reserve(b"anew"),))])[0], list)
    file.close()


def test_a_full_disk_refuses_nobody_for_good_and_loses_nothing(path: str) -> None:
    file = LedgerFile(path, ManualClock())
    [[first]] = file.run([Call((reserve(b"first"),))])  # type: ignore[misc]
    assert isinstance(first, Granted)
    assert file.connection is not None
    [pages] = file.connection.execute("PRAGMA page_count").fetchone()
    file.connection.execute(f"PRAGMA max_page_count = {pages}")
    crowd = tuple(reserve(b"crowd-%d" % n, life(b"subject-%d" % n)) for n in range(300))
    for _ in range(2):
        with pytest.raises(StoreError, match="the disk is full; free some space") as fault:
            file.run([Call(crowd)])
        assert not fault.value.transient
    [[seen]] = file.run([Call((Look((life(), life(b"subject-0"))),))])  # type: ignore[misc]
    assert [balance and balance.used for balance in seen.balances] == [1, None], "none of the crowd, all of before"
    [[again]] = file.run([Call((reserve(b"one more"),))])  # type: ignore[misc]
    assert isinstance(again, Granted), "who has a place already is still counted"
    file.connection.execute("PRAGMA max_page_count = 100000")
    [outcomes] = file.run([Call(crowd)])
    assert isinstance(outcomes, list)
    assert all(isinstance(outcome, Granted) for outcome in outcomes)
    file.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where the test may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if mount is None or umount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run([umount, "-l", str(place)], check=True)


def test_a_disk_that_fills_and_is_freed_again(small_disk: Path) -> None:
    path = str(small_disk / "ledger.db")

    async def story() -> None:
        store = SqliteStore(path)
        count = faults = 0
        for n in range(400):
            crowd = [reserve(b"%d-%d" % (n, m), life(b"subject-%d-%d" % (n, m)), life()) for m in range(40)]
            try:
                count += len(await store.transact(crowd))
            except StoreError as fault:
                assert "disk" in str(fault)
                faults += 1
            if faults == 3:
                break
        assert faults == 3
        [seen] = await store.transact((Look((life(),)),))
        assert seen.balances[0].used == min(count, 1_000)  # type: ignore[union-attr]
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        assert isinstance((await store.transact((reserve(b"after", life(b"late")),)))[0], Granted)
        await store.close()

    asyncio.run(story())


@pytest.fixture
def others_directory() -> Iterator[Path]:
    """A directory that an unprivileged user may enter."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


def unprivileged(story: Callable[[], None]) -> str:
    """What a story says of its fault when it is told by a user whom file modes bind."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        words = "no fault"
        try:
            if os.geteuid() == 0:
                os.setgid(65_534)
                os.setuid(65_534)
            story()
        except BaseException as fault:
            words = f"{type(fault).__name__} {fault}"
        finally:
            os.write(writing, words.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        words = answer.read()
    os.waitpid(child, 0)
    return words


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no users to change here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "says"),
    [
        (0o000, 0o777, "it may not be read and written; give it to the user"),
        (0o444, 0o777, "it may not be written; give the file and its directory to the user"),
        (0o666, 0o555, "it may not be written; give the file and its directory to the user"),
        (None, 0o555, "nothing can be written in .*; give it to the user"),
    ],
)
def test_a_file_without_permission_says_whose_it_should_be(
    others_directory: Path, file_mode: int | None, directory_mode: int, says: str
) -> None:
    path = others_directory / "ledger.db"
    if file_mode is not None:
        said(str(path), reserve(b"mine"))
        (others_directory / "ledger.db-turn").unlink()
        path.chmod(file_mode)
    others_directory.chmod(directory_mode)
    words = unprivileged(lambda: told(str(path), says))
    others_directory.chmod(0o755)
    assert words == "no fault"
    if file_mode is not None:
        path.chmod(0o600)
        assert used(str(path)) == 1


def test_another_programs_lock_is_waited_for_a_while_and_then_told(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "BUSY", 0.05)
    with closing(sqlite3.connect(filled, isolation_level=None)) as backup:
        backup.execute("BEGIN IMMEDIATE")
        told(filled, "another program holds its write lock; end the backup or shell", transient=True)
        assert used(filled) == 1, "who only looks is not kept waiting"
        backup.execute("ROLLBACK")
    assert isinstance(said(filled, reserve(b"after"))[0], Granted)


class Trap:
    """Its pickle would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.abort, ()


WRONG: list[tuple[str, object]] = [
    ("kind", "lottery"),
    ("kind", b"total"),
    ("used", "many"),
    ("used", 1.5),
    ("used", -1),
    ("used", 2**53),
    ("since", "yesterday"),
    ("until", pickle.dumps(Trap())),
    ("spec", 0.5),
    ("parts", "[[1]]"),
    ("parts", "[[1,2.5]]"),
    ("parts", '[["a",1]]'),
    ("parts", "[[1,9]]"),
    ("parts", "[" * 100_000),
    ("parts", "__import__('os').abort()"),
    ("parts", pickle.dumps(Trap())),
    ("due", "soon"),
    ("due", 9),
    ("holds", 0),
    ("holds", 3),
    ("holds", "[]"),
    ("held", -1),
    ("held", 7),
    ("held", pickle.dumps(Trap())),
    ("hold.rid", "aa"),
    ("hold.amount", -1),
    ("hold.amount", 1.5),
    ("hold.until", "later"),
    ("hold.step", pickle.dumps(Trap())),
    ("hold.lapsed", 2),
    ("hold.to_limit", "life"),
    ("hold.to_subject", "zz"),
]


@pytest.mark.parametrize(("column", "value"), WRONG, ids=lambda value: repr(value)[:24])
def test_a_balance_that_headgate_did_not_write_fails_whoever_names_it_and_nobody_else(
    filled: str, column: str, value: object
) -> None:
    table, _, column = column.rpartition(".")
    with closing(sqlite3.connect(filled, isolation_level=None)) as stranger:
        if table or column in ("holds", "held"):
            # Beside what is wrong with it, a balance that holds two units and whose lease has ended.
            stranger.execute(
                "UPDATE balances SET held = 2, due = 9, seen = 1, holds = 1 WHERE subject = ?", (b"subject-7",)
            )
            stranger.execute("INSERT INTO holds VALUES (?, 'life', x'aa', 2, 9, 0, 0, NULL, NULL)", (b"subject-7",))
        stranger.execute(
            f"UPDATE {table + 's' if table else 'balances'} SET {column} = ? WHERE subject = ?", (value, b"subject-7")
        )

    async def story() -> list[Any]:
        store = SqliteStore(filled)
        calls = [store.transact((reserve(b"new-%d" % n, life(b"subject-%d" % n)),)) for n in (6, 7, 8)]
        answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        await store.close()
        return answers

    before, broken, after = asyncio.run(story())
    assert isinstance(before[0], Granted)
    assert isinstance(after[0], Granted)
    assert isinstance(broken, StoreError)
    assert not broken.transient
    assert "a balance of the limit `life` cannot be read" in str(broken)


def test_holds_whose_number_is_wrong_fail_whoever_settles_the_last_one_and_nobody_else(filled: str) -> None:
    held = Demand((b"acme", "held"), Total(9), 3, hold=True)
    said(filled, reserve(b"one", held), reserve(b"other", held))
    with closing(sqlite3.connect(filled, isolation_level=None)) as stranger:
        stranger.execute("UPDATE balances SET holds = 1 WHERE limit_id = 'held'")

    async def story() -> list[Any]:
        store = SqliteStore(filled)
        calls = [store.transact((command,)) for command in (Settle(b"one", (held,)), reserve(b"beside"))]
        answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        await store.close()
        return answers

    broken, beside = asyncio.run(story())
    assert isinstance(broken, StoreError)
    assert "its holds do not add up" in str(broken)
    assert isinstance(beside[0], Granted)


def test_a_receipt_or_a_mark_that_headgate_did_not_write_is_told(filled: str) -> None:
    with closing(sqlite3.connect(filled, isolation_level=None)) as stranger:
        stranger.execute("UPDATE receipts SET until = 'never' WHERE rid = ?", (b"told",))
        stranger.execute("INSERT OR REPLACE INTO receipts VALUES (?, 1, 1, 'never')", (b"told",))
        with pytest.raises(StoreError, match="a receipt cannot be read"):
            said(filled, reserve(b"told"))
        stranger.execute("UPDATE mark SET instant = 'now'")
        told(filled, "the mark of its time cannot be read")
        stranger.execute("DELETE FROM mark")
        told(filled, "the mark of its time cannot be read")


def test_what_is_written_is_read_as_it_was(path: str) -> None:
    rolling = Demand((b"acme", "hour"), Rolling(9, 3_600_000_000), 2)
    held = Demand((b"acme", "held"), Total(9), 3, hold=True)
    [first] = said(path, reserve(b"1", rolling, held))
    [second] = said(path, Look((rolling, held)))
    assert isinstance(first, Granted)
    assert first.balances == second.balances  # type: ignore[union-attr]
    assert isinstance(said(path, reserve(b"2", held.of(7)))[0], Refused)
