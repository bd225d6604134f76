"""Sketches in the file: a table that is made where it is missing, rows that go with their balances."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headgate.clock import SECOND
from headgate.errors import StoreError
from headgate.quota.command import Command, Demand, Granted, Merge, Outcome, Reserve, Settle
from headgate.quota.window import Quota, Total
from headgate.stores import SqliteStore
from headgate.stores.sqlite import sweep
from headgate.stores.sqlite.file import FORMAT, Call, LedgerFile
from headgate.testing import ManualClock
from headgate.testing.story import naming

LEASE = 60 * SECOND
RECORDS = Demand((b"acme", "records"), Total(9_000), 0, hold=True)


def taking(rid: bytes, *numbers: int, demand: Demand = RECORDS) -> tuple[Command, Command]:
    """The things of these numbers are reserved and settled."""
    asked = naming(demand, *numbers)
    return Reserve(rid, (asked,), LEASE), Settle(rid, (asked,))


def run(file: LedgerFile, *commands: Command) -> list[Outcome]:
    [answer] = file.run([Call(commands)])
    if isinstance(answer, Exception):
        raise answer
    return answer


def added(file: LedgerFile, rid: bytes, *numbers: int) -> int:
    """Units that are charged for these things."""
    settled: Any = run(file, *taking(rid, *numbers))[1]
    return int(settled.added[0])


def rows(file: LedgerFile) -> list[tuple[bytes, str, int]]:
    assert file.connection is not None
    return file.connection.execute("SELECT subject, limit_id, length(things) FROM sketches ORDER BY 1, 2").fetchall()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


def test_a_file_of_before_there_were_sketches_gets_their_table_and_keeps_all_it_has(path: str) -> None:
    file = LedgerFile(path, ManualClock())
    life = Demand((b"acme", "life"), Total(9), 5)
    run(file, Reserve(b"before", (life,), LEASE))
    file.close()
    with closing(sqlite3.connect(path)) as before:
        before.execute("DROP TABLE sketches")
    for turn in range(2):
        file = LedgerFile(path, ManualClock())
        assert added(file, b"%d" % turn, 1, 2, 3) == (3 if turn == 0 else 0)
        assert isinstance(run(file, Reserve(b"before", (life,), LEASE))[0], Granted)
        assert file.connection is not None
        assert file.connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        assert file.connection.execute("SELECT used FROM balances WHERE limit_id = 'life'").fetchone() == (5,)
        file.close()


def test_a_worker_that_knows_no_sketches_goes_on_beside_one_that_does(path: str) -> None:
    older, newer = LedgerFile(path, ManualClock()), LedgerFile(path, ManualClock())
    life = Demand((b"acme", "life"), Total(9), 1)
    run(older, Reserve(b"1", (life,), LEASE))
    assert older.connection is not None
    older.connection.execute("DROP TABLE sketches")
    assert added(newer, b"2", 1, 2) == 2
    assert isinstance(run(older, Reserve(b"3", (life,), LEASE))[0], Granted)
    older.close()
    newer.close()


def test_many_workers_that_open_such_a_file_at_once_make_one_table(path: str) -> None:
    file = LedgerFile(path, ManualClock())
    run(file, *taking(b"0", 1))
    assert file.connection is not None
    file.connection.execute("DROP TABLE sketches")
    file.close()

    async def story() -> list[list[Outcome]]:
        stores = [SqliteStore(path, clock=ManualClock()) for _ in range(6)]
        answers = await asyncio.gather(*[s.transact(taking(b"w%d" % n, 1, 2)) for n, s in enumerate(stores)])
        await asyncio.gather(*[store.close() for store in stores])
        return answers

    settled: list[Any] = [answer[1] for answer in asyncio.run(story())]
    assert sum(outcome.added[0] for outcome in settled) == 2


def test_what_was_named_before_is_not_written_again(path: str) -> None:
    file = LedgerFile(path, ManualClock())
    run(file, *taking(b"0", *range(50)))
    said: list[str] = []
    assert file.connection is not None
    file.connection.set_trace_callback(said.append)
    assert added(file, b"1", 7, 8) == 0
    assert not [statement for statement in said if "INTO sketches" in statement]
    assert added(file, b"2", 7, 99) == 1
    assert len([statement for statement in said if "INTO sketches" in statement]) == 1
    file.close()


def test_who_names_nothing_reads_no_sketch(path: str) -> None:
    file = LedgerFile(path, ManualClock())
    run(file, *taking(b"0", 1))
    said: list[str] = []
    assert file.connection is not None
    file.connection.set_trace_callback(said.append)
    run(file, Reserve(b"1", (RECORDS.of(2),), LEASE), Settle(b"1", (RECORDS.of(2),)))
    assert not [statement for statement in said if "sketches" in statement]
    file.close()


def test_a_call_that_fails_leaves_no_trace_of_its_things_and_those_of_one_transaction_know_each_others(
    path: str,
) -> None:
    file = LedgerFile(path, ManualClock())
    other = RECORDS._replace(amount=1, hold=False)
    failing = Call((*taking(b"2", 2), Reserve(b"3", (other, other), LEASE)))
    first, wrong, last = file.run([Call(taking(b"1", 1)), failing, Call(taking(b"4", 1, 2))])
    assert isinstance(wrong, ValueError)
    assert isinstance(first, list) and isinstance(last, list)
    assert [outcome.added for outcome in (first[1], last[1])] == [(1,), (1,)]  # type: ignore[union-attr]
    file.close()


def test_what_is_moved_leaves_no_row_behind(path: str) -> None:
    file = LedgerFile(path, ManualClock())
    group, org = RECORDS.at((b"group", "records")), RECORDS.at((b"org", "records"))
    run(file, *taking(b"1", *range(1_200), demand=org), Merge(group, (org,)))
    assert rows(file) == [(b"group", "records", 14_309)]
    run(file, Merge(group, (org,)))
    assert rows(file) == [(b"group", "records", 14_309)]
    file.close()


def test_a_sketch_is_forgotten_with_its_balance(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "EVERY", 1)
    clock = ManualClock()
    file = LedgerFile(path, clock)
    edges = tuple(clock.now + n * 60 * SECOND for n in range(4))
    minute = Demand((b"gone", "records"), Quota(9, edges, spec=1), 0, hold=True)
    run(file, *taking(b"1", 1, 2, demand=minute), *taking(b"2", 1, 2))
    assert len(rows(file)) == 2
    clock.advance(microseconds=60 * SECOND + sweep.QUIET)
    for n in range(3):
        run(file, *taking(b"later-%d" % n, 1, 2))
    assert rows(file) == [(b"acme", "records", 16)]
    file.close()


@pytest.mark.parametrize(
    "written",
    ["since = 'now'", "things = 'text, no bytes'", "things = x'0102'", "things = x''", "things = zeroblob(14309)"],
)
def test_a_sketch_that_cannot_be_read_is_a_fault_of_that_limit_alone(path: str, written: str) -> None:
    file = LedgerFile(path, ManualClock())
    run(file, *taking(b"1", 1, 2))
    assert file.connection is not None
    file.connection.execute(f"UPDATE sketches SET {written}")
    with pytest.raises(StoreError, match="limit `records` cannot be read: its things are no sketch"):
        run(file, *taking(b"2", 1))
    life = Demand((b"acme", "life"), Total(9), 1)
    assert isinstance(run(file, Reserve(b"3", (life,), LEASE))[0], Granted)
    file.close()
