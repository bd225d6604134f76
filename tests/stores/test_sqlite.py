"""The SQLite store's own promises: one transaction for many, loops and forks kept apart, a file that stays small."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import sqlite3
import stat
import threading
import warnings
from base64 import b64encode
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.quota.command import Cancel, Command, Demand, Extend, Granted, Look, Merge, Outcome, Reserve, Settle
from headgate.quota.gcra import Rate
from headgate.quota.identify import digest
from headgate.quota.window import Max, Rolling, Total
from headgate.stores import SqliteStore, open_store
from headgate.stores.sqlite import desk as desks
from headgate.stores.sqlite import file as ledger_file
from headgate.stores.sqlite import serving, sweep
from headgate.stores.sqlite import turn as turns
from headgate.stores.sqlite.file import Call, LedgerFile
from headgate.stores.sqlite.mark import Mark
from headgate.stores.sqlite.turn import Turn
from headgate.testing import ManualClock

LEASE = 60_000_000
PATIENCE = 30
MINUTE = 60_000_000


def life(limit: int = 1_000_000, who: bytes = b"acme") -> Demand:
    return Demand((who, "life"), Total(limit), 1)


async def ask(store: SqliteStore, rid: bytes, *demands: Demand, now: int | None = None) -> Outcome:
    [outcome] = await store.transact((Reserve(rid, demands, LEASE),), now)
    return outcome


async def used(store: SqliteStore, demand: Demand) -> int:
    [seen] = await store.transact((Look((demand,)),))
    [balance] = seen.balances  # type: ignore[union-attr]
    return balance.used if balance is not None else 0


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls each transaction held."""
    seen: list[int] = []
    run = LedgerFile.run

    def counted(self: LedgerFile, calls: Sequence[Call]) -> list[list[Outcome] | Exception]:
        seen.append(len(calls))
        return run(self, calls)

    monkeypatch.setattr(LedgerFile, "run", counted)
    return seen


# Many in one.


def test_callers_of_one_tick_share_one_transaction(path: str, sizes: list[int]) -> None:
    async def story() -> None:
        store = SqliteStore(path)
        outcomes = await asyncio.gather(*[ask(store, b"%d" % n, life()) for n in range(64)])
        assert all(isinstance(outcome, Granted) for outcome in outcomes)
        assert sizes == [64]
        await store.close()

    asyncio.run(story())


def test_calls_that_arrive_while_the_file_is_busy_share_the_next_transaction(path: str, sizes: list[int]) -> None:
    async def story() -> None:
        store = SqliteStore(path)
        await ask(store, b"first", life())
        with Turn(f"{path}-turn"):
            waiting = []
            for n in range(20):
                waiting.append(asyncio.ensure_future(ask(store, b"%d" % n, life())))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert sum(sizes) == 21
        assert len(sizes) <= 3, "the first, what came alone before the wait, and all the others"
        await store.close()

    asyncio.run(story())


def test_a_call_that_fails_fails_alone(path: str, sizes: list[int]) -> None:
    async def story() -> list[Any]:
        store = SqliteStore(path)
        strange: Any = 1.5
        one, other = life(2), life(who=b"other")
        calls = [
            ask(store, b"1", one),
            # What is asked first fits; what is asked then is no command. The call leaves no trace of its beginning.
            store.transact((Reserve(b"2", (one,), LEASE), Reserve(b"3", (other, other), LEASE))),
            store.transact((Reserve(b"4", (one,), LEASE), Reserve(b"5", (one,), strange))),
            store.transact((Reserve(b"6", (one,), LEASE),), now=strange),
            store.transact((Reserve(strange, (one,), LEASE),)),
            store.transact((Reserve(b"8", (Demand((b"acme", "\ud800"), Total(1), 1),), LEASE),)),
            store.transact((Reserve(b"9", (Demand((strange, "life"), Total(1), 1),), LEASE),)),
            ask(store, b"7", one),
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert await used(store, one) == 2
        await store.close()
        return answers

    first, *wrong, last = asyncio.run(story())
    assert isinstance(first, Granted)
    assert isinstance(last, Granted)
    assert all(isinstance(answer, ValueError) for answer in wrong)
    assert sizes == [8, 1]


def test_who_gave_up_before_the_file_was_free_is_not_served(path: str) -> None:
    async def story() -> int:
        store = SqliteStore(path)
        await ask(store, b"first", life())
        store._wait = 0.05
        with Turn(f"{path}-turn"):
            with pytest.raises(StoreError, match=r"no answer within 0\.05 s") as fault:
                await ask(store, b"second", life())
            assert fault.value.transient
            with pytest.raises(StoreError, match="no answer"):
                await ask(store, b"third", life())
        fourth = SqliteStore(path)
        await ask(fourth, b"fourth", life())
        count = await used(fourth, life())
        await store.close()
        await fourth.close()
        return count

    # The second was already in the thread's hands when it gave up, and nobody was there any more when its turn came.
    assert asyncio.run(story()) == 2


async def no_answer(store: SqliteStore, *commands: Command) -> None:
    with pytest.raises(StoreError, match="no answer within"):
        await store.transact(commands)


def test_a_refund_that_nobody_waits_for_any_more_is_given_all_the_same(path: str) -> None:
    once, held = life(), Demand((b"acme", "held"), Total(100), 60, hold=True)

    async def story() -> None:
        store = SqliteStore(path)
        await ask(store, b"once", once)
        await ask(store, b"held", held)
        await ask(store, b"longer", held.of(5))
        store._wait = 0.05
        with Turn(f"{path}-turn"):
            await no_answer(store, Cancel(b"once", (once,), LEASE))
            await no_answer(store, Settle(b"held", (held.of(7),)))
            await no_answer(store, Extend(b"longer", (held.of(3),), LEASE, step=1), Reserve(b"new", (once,), LEASE))
        store._wait = PATIENCE
        await ask(store, b"after", life(who=b"other"))
        assert await used(store, once) == 0, "cancelled, and what was asked anew beside an extension is not charged"
        [seen] = await store.transact((Look((held,)),))
        [balance] = seen.balances  # type: ignore[union-attr]
        assert balance is not None
        assert balance.holds is not None
        assert (balance.used, balance.holds.held) == (7, 8)
        await store.close()

    asyncio.run(story())


def test_a_hung_file_is_given_no_new_work_and_no_more_refunds_than_there_is_room_for(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "HUNG", 0.0)
    monkeypatch.setattr(desks, "MOST_OWED", 3)
    one = life()

    async def story() -> None:
        store = SqliteStore(path)
        rids = [b"%d" % n for n in range(4)]
        for rid in rids:
            await ask(store, rid, one)
        store._wait = 0.05
        with Turn(f"{path}-turn"):
            await no_answer(store, Reserve(b"hangs", (one,), LEASE))
            desk = store._desk
            assert desk is not None
            lies = desk._put - desk._taken
            for new in (Reserve(b"new", (one,), LEASE), Look((one,)), Merge(life(who=b"group"), (one,))):
                with pytest.raises(StoreError, match="does not answer at present") as fault:
                    await store.transact((new,))
                assert fault.value.transient
            assert desk._put - desk._taken == lies, "nothing is piled up"
            refunds = [Cancel(rid, (one,), LEASE) for rid in rids]
            for refund in refunds[:3]:
                await no_answer(store, refund)
            with pytest.raises(StoreError, match="does not answer at present"):
                await store.transact((refunds[3],))
        store._wait = PATIENCE
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(StoreError):  # until the thread has come back
                    await ask(store, b"after", one)
                    break
                await asyncio.sleep(0.01)
        assert await used(store, one) == 2, "the one whose refund found no room, and the one after"
        await store.close()

    asyncio.run(story())


def test_who_leaves_while_the_file_works_as_ever_locks_nobody_out(path: str) -> None:
    async def story() -> None:
        store = SqliteStore(path)
        await ask(store, b"first", life())
        with Turn(f"{path}-turn"):
            leaves = asyncio.ensure_future(ask(store, b"leaves", life()))
            await asyncio.sleep(0)
            leaves.cancel()
            await asyncio.wait({leaves})
            stays = asyncio.ensure_future(ask(store, b"stays", life()))
            await asyncio.sleep(0)
        assert isinstance(await stays, Granted)
        await store.close()

    asyncio.run(story())


def test_a_refund_that_the_file_did_not_take_is_tried_again_without_being_said_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "BUSY", 0.01)
    monkeypatch.setattr(serving, "AGAIN", 0.01)

    async def story() -> None:
        store, other = SqliteStore(path), SqliteStore(path)
        await ask(store, b"1", life())
        with closing(sqlite3.connect(path, isolation_level=None)) as backup:
            backup.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="another program holds its write lock"):
                await store.transact((Cancel(b"1", (life(),), LEASE),))
            backup.execute("ROLLBACK")
        async with asyncio.timeout(PATIENCE):
            while await used(other, life()):
                await asyncio.sleep(0.01)
        await store.close()
        await other.close()

    asyncio.run(story())


def test_what_is_owed_when_the_store_closes_is_tried_once_more_and_else_said_to_be_left(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledger_file, "BUSY", 0.01)

    async def story() -> int:
        store, other = SqliteStore(path), SqliteStore(path)
        await ask(store, b"1", life())
        await ask(other, b"2", life())
        with closing(sqlite3.connect(path, isolation_level=None)) as backup:
            backup.execute("BEGIN IMMEDIATE")
            for worker, rid in ((store, b"1"), (other, b"2")):
                with pytest.raises(StoreError, match="another program"):
                    await worker.transact((Cancel(rid, (life(),), LEASE),))
            await other.close()
            backup.execute("ROLLBACK")
        await store.close()
        count = await used(other, life())
        await other.close()
        return count

    assert asyncio.run(story()) == 1
    [left] = [record.getMessage() for record in caplog.records if "headgate.store.left" in record.getMessage()]
    assert '"commands": 1' in left
    assert "the store is closed" in left


def test_a_fault_of_ours_is_not_met_again_and_again_by_what_is_owed(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = LedgerFile.run

    def poisoned(self: LedgerFile, calls: Sequence[Call]) -> list[list[Outcome] | Exception]:
        if any(type(command) is Cancel for call in calls for command in call.commands):
            raise RuntimeError("a slip")
        return run(self, calls)

    async def story() -> None:
        store = SqliteStore(path)
        await ask(store, b"1", life())
        store._wait = 0.05
        with Turn(f"{path}-turn"):
            await no_answer(store, Reserve(b"waits", (life(),), LEASE))
            await no_answer(store, Cancel(b"1", (life(),), LEASE))
            monkeypatch.setattr(LedgerFile, "run", poisoned)
        store._wait = PATIENCE
        with suppress(StoreError):  # where it shares the one transaction that fails
            await ask(store, b"2", life())
        assert isinstance(await ask(store, b"3", life()), Granted)
        await store.close()

    asyncio.run(story())
    assert "a fault of headgate's" in caplog.text


def test_a_thread_that_could_not_be_started_is_told_at_once_and_started_at_the_next_call(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def story() -> None:
        store = SqliteStore(path)
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refused)
            for _ in range(2):
                with pytest.raises(StoreError, match=r"no thread .* \(can't start new thread\)") as fault:
                    await asyncio.wait_for(ask(store, b"1", life()), timeout=PATIENCE)
                assert fault.value.transient
            await store.close()
        assert isinstance(await ask(store, b"1", life()), Granted)
        await store.close()

    asyncio.run(story())


# Many holds.


def statements(file: LedgerFile, *commands: Command) -> list[str]:
    """What is said to SQLite for these commands, each in a transaction of its own, without their values."""
    said: list[str] = []
    assert file.connection is not None
    file.connection.set_trace_callback(said.append)
    for command in commands:
        [answer] = file.run([Call((command,))])
        assert isinstance(answer, list)
    file.connection.set_trace_callback(None)
    return [re.sub(r"X'[0-9A-F]*'|'[^']*'|\d+", "?", statement) for statement in said]


def test_a_command_reads_and_writes_its_own_hold_however_many_are_open(path: str) -> None:
    file = LedgerFile(path, ManualClock())
    held = Demand((b"acme", "held"), Total(1_000_000), 3, hold=True)

    def one(rid: bytes) -> list[Command]:
        extended, settled = Extend(rid, (held.of(2),), LEASE, step=1), Settle(rid, (held.of(4),))
        return [Reserve(rid, (held,), LEASE), extended, settled]

    file.run([Call([Reserve(b"open-%d" % n, (held,), LEASE) for n in range(3)])])
    few = statements(file, *one(b"of few"))
    file.run([Call([Reserve(b"more-%d" % n, (held,), LEASE) for n in range(500)])])
    assert statements(file, *one(b"of many")) == few
    assert sum("FROM holds" in statement and "rid" not in statement.partition("WHERE")[2] for statement in few) == 0
    [[seen]] = file.run([Call((Look((held,)),))])  # type: ignore[misc]
    assert (seen.balances[0].used, seen.balances[0].holds.held) == (8, 503 * 3)  # type: ignore[union-attr]
    file.close()


def test_an_outcome_tells_the_sum_of_what_is_held_and_no_hold_that_was_not_read(path: str) -> None:
    file = LedgerFile(path, ManualClock())
    held = Demand((b"acme", "held"), Total(100), 3, hold=True)
    file.run([Call([Reserve(b"%d" % n, (held,), LEASE) for n in range(2)])])
    [[granted]] = file.run([Call((Reserve(b"mine", (held,), LEASE),))])  # type: ignore[misc]
    holds = granted.balances[0].holds  # type: ignore[union-attr]
    assert (holds.held, len(holds.by_rid), holds.by_rid[b"mine"].amount) == (9, 3, 3)  # type: ignore[union-attr]
    with pytest.raises(StoreError, match="ask for each of them by a Look"):
        dict(holds.by_rid)  # type: ignore[union-attr]
    file.close()


def test_holds_that_are_forgotten_with_their_balance_leave_no_row(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "EVERY", 1)
    clock = ManualClock()
    file = LedgerFile(path, clock)
    seats = Demand((b"acme", "seats"), Max(3, LEASE), 1, hold=True)
    file.run([Call((Reserve(b"lost", (seats,), LEASE),))])
    clock.advance(microseconds=LEASE + sweep.ORPHANED)
    for n in range(3):
        file.run([Call((Reserve(b"%d" % n, (life(who=b"other"),), LEASE),))])
    assert file.connection is not None
    assert file.connection.execute("SELECT count(*) FROM holds").fetchone() == (0,)
    assert file.connection.execute("SELECT count(*) FROM balances").fetchone() == (1,)
    file.close()


# Loops, threads, forks.


def test_a_store_goes_on_in_the_next_event_loop(path: str) -> None:
    store = SqliteStore(path)
    for n in range(3):
        assert isinstance(asyncio.run(ask(store, b"%d" % n, life(3))), Granted)
    assert not isinstance(asyncio.run(ask(store, b"4", life(3))), Granted)
    asyncio.run(store.close())


def test_two_event_loops_share_one_store_and_each_gets_its_own_answers(path: str) -> None:
    store = SqliteStore(path)
    answers: dict[bytes, list[bool]] = {}

    async def callers(name: bytes) -> None:
        outcomes = await asyncio.gather(*[ask(store, b"%s%d" % (name, n), life(100)) for n in range(80)])
        answers[name] = [isinstance(outcome, Granted) for outcome in outcomes]

    threads = [threading.Thread(target=lambda name=name: asyncio.run(callers(name))) for name in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(found) for found in answers.values()] == [80, 80]
    assert sum(map(sum, answers.values())) == 100
    asyncio.run(store.close())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_opens_the_file_for_itself(path: str) -> None:
    store = SqliteStore(path)
    asyncio.run(ask(store, b"parent", life()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a thread lives is the point
        child = os.fork()
    if not child:
        code = 1
        try:
            asyncio.run(ask(store, b"child", life()))
            code = 0 if asyncio.run(used(store, life())) == 2 else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    asyncio.run(ask(store, b"parent again", life()))
    assert asyncio.run(used(store, life())) == 3
    asyncio.run(store.close())


def test_a_child_does_not_keep_the_turn_of_a_parent_that_died(path: str) -> None:
    turn = Turn(f"{path}-turn")
    with turn:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            os._exit(0 if turn._file < 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    turn.close()


def test_a_store_that_is_closed_twice_or_never_used_is_closed(path: str) -> None:
    async def story() -> None:
        store = SqliteStore(path)
        await store.close()
        await ask(store, b"1", life())
        await store.close()
        await store.close()

    asyncio.run(story())
    assert not Path(f"{path}-wal").exists(), "the last one out folds the log into the file"


def test_where_processes_cannot_take_turns_the_count_is_exact_all_the_same(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "fcntl", None)

    async def story() -> int:
        workers = [SqliteStore(path) for _ in range(4)]
        count = 0
        for turn in range(25):
            outcomes = await asyncio.gather(
                *[ask(worker, b"%d-%d" % (turn, n), life(60)) for n, worker in enumerate(workers)]
            )
            count += sum(isinstance(outcome, Granted) for outcome in outcomes)
        for worker in workers:
            await worker.close()
        return count

    assert asyncio.run(story()) == 60
    assert not Path(f"{path}-turn").exists()


# Time.


def test_a_lag_is_waited_for_and_a_lasting_one_is_followed() -> None:
    mark, ahead = Mark(), 10_000_000_000
    back = ahead - 3_600_000_000
    assert mark.present(ahead, back) == ahead
    assert mark.present(ahead, back + 5_000_000) == ahead
    assert mark.present(ahead, back + 5_000_001) == back + 5_000_001
    assert mark.present(back + 5_000_001, back + 5_000_002) == back + 5_000_002


def test_a_lag_is_waited_for_as_long_as_another_worker_confirms_the_mark() -> None:
    mark, ahead = Mark(), 10_000_000_000
    for second in range(0, 60, 4):
        ahead += 4_000_000
        assert mark.present(ahead, 1_000_000 * second) == ahead


@pytest.mark.parametrize("verb", [Rolling(10, MINUTE), Rate(10, MINUTE)], ids=lambda verb: verb.kind)
def test_workers_whose_clocks_differ_by_an_hour_share_one_window(path: str, verb: Rolling | Rate) -> None:
    async def story() -> int:
        clock, ahead = ManualClock(), ManualClock()
        ahead.advance(3_600)
        workers = [SqliteStore(path, clock=ahead), SqliteStore(path, clock=clock)]
        limit = Demand((b"acme", "limit"), verb, 1)
        count = 0
        for turn in range(200):
            for n, worker in enumerate(workers):
                count += isinstance(await ask(worker, b"%d-%d" % (turn, n), limit), Granted)
            clock.advance(0.1)
            ahead.advance(0.1)
        for worker in workers:
            await worker.close()
        return count

    # Twenty seconds pass, in which a third of a rate's backlog drains.
    assert asyncio.run(story()) == (10 if isinstance(verb, Rolling) else 13)


# The file.


def test_the_file_and_what_lies_beside_it_are_the_owners_alone(path: str) -> None:
    async def story() -> None:
        store = SqliteStore(path)
        await ask(store, b"1", life())
        beside = sorted(Path(path).parent.iterdir())
        assert [p.name for p in beside] == ["ledger.db", "ledger.db-shm", "ledger.db-turn", "ledger.db-wal"]
        assert {stat.S_IMODE(p.stat().st_mode) for p in beside} == {0o600}
        await store.close()

    asyncio.run(story())


def test_the_file_does_not_grow_with_those_who_are_gone(path: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        store = SqliteStore(path, clock=clock)
        for _ in range(400):
            demands = [Demand((b"%d" % (clock.now + n), "rate"), Rate(60, MINUTE), 1) for n in range(20)]
            await asyncio.gather(*[ask(store, b"rid-" + d.place[0], d) for d in demands])
            clock.advance(60)
        await store.close()

    asyncio.run(story())
    with sqlite3.connect(path) as connection:
        [balances] = connection.execute("SELECT count(*) FROM balances").fetchone()
        [receipts] = connection.execute("SELECT count(*) FROM receipts").fetchone()
    connection.close()
    # Sixty minutes of twenty subjects are not idle long enough to be forgotten; 8,000 were there.
    assert 1_200 <= balances <= 1_900
    assert receipts <= 600


def test_what_is_still_counted_is_never_forgotten(path: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        store = SqliteStore(path, clock=clock)
        await ask(store, b"1", life(1))
        await ask(store, b"2", Demand((b"acme", "held"), Total(1), 1, hold=True))
        long = Demand((b"acme", "long"), Rate(60, MINUTE), 60, hold=True)
        await store.transact((Reserve(b"long", (long,), 100 * 86_400_000_000),))
        for n in range(2_000):
            clock.advance(3_600)
            await ask(store, b"other-%d" % n, Demand((b"%d" % n, "rate"), Rate(60, MINUTE), 1))
        assert not isinstance(await ask(store, b"3", life(1)), Granted)
        assert not isinstance(await ask(store, b"4", Demand((b"acme", "held"), Total(1), 1)), Granted)
        assert not isinstance(await ask(store, b"5", long.of(1)), Granted), "its lease has not ended"
        await store.close()

    asyncio.run(story())


def test_a_ledger_that_is_moved_away_is_begun_anew_by_every_worker(path: str) -> None:
    async def story() -> None:
        one, other = SqliteStore(path), SqliteStore(path)
        await ask(one, b"1", life(1))
        await ask(other, b"2", life(1))
        for moved in Path(path).parent.iterdir():
            moved.unlink()
        outcomes = [await ask(one, b"3", life(1)), await ask(other, b"4", life(1)), await ask(one, b"5", life(1))]
        assert [isinstance(outcome, Granted) for outcome in outcomes] == [True, False, False]
        await one.close()
        await other.close()

    asyncio.run(story())


def test_nothing_in_the_file_tells_who_was_charged(path: str) -> None:
    key, org = b"k_canary_7f3a", b"org-canary-acme"

    async def story() -> None:
        store = SqliteStore(path)
        subjects = [digest(b"pepper", b"subject", name) for name in (key, org)]
        await ask(store, os.urandom(16), *[life(who=subject) for subject in subjects])
        held = life(who=subjects[0])._replace(place=(subjects[0], "tokens"), hold=True)
        await ask(store, os.urandom(16), held)
        at_rest = b"".join(p.read_bytes() for p in Path(path).parent.iterdir())
        for name in (key, org):
            plain = hashlib.sha256(name)
            for canary in (name, b64encode(name), name.hex().encode(), plain.digest(), plain.hexdigest().encode()):
                assert canary not in at_rest
        await store.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("gopher://user:hunter2@host/0", r"`gopher://`; there are memory://.*sqlite:///PATH"),
        ("headgate.db", "a URI without `://`"),
        ("sqlite://headgate.db", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///ledgers/", "needs a file"),
        ("memory://x", "nothing after it"),
    ],
)
def test_a_uri_that_names_no_store_says_what_there_is(uri: str, says: str) -> None:
    with pytest.raises(StoreError, match=says) as fault:
        open_store(uri)
    assert "hunter2" not in str(fault.value)


def test_a_file_is_named_relative_to_the_working_directory_or_absolutely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in ("sqlite:///a b%20c?.db", f"sqlite:///{tmp_path}/absolute.db"):
        store = open_store(uri)
        asyncio.run(store.transact((Reserve(b"1", (life(),), LEASE),)))
        asyncio.run(store.close())
    assert {"a b%20c?.db", "absolute.db"} <= {p.name for p in tmp_path.iterdir()}


def test_looks_need_no_turn(path: str) -> None:
    file = LedgerFile(path, ManualClock())
    file.run([Call((Reserve(b"1", (life(),), LEASE),))])
    with Turn(f"{path}-turn"):
        [[seen]] = file.run([Call((Look((life(),)),))])  # type: ignore[misc]
    assert seen.balances[0].used == 1
    file.close()


def test_sqlite_is_asked_for_what_the_promises_need(path: str) -> None:
    file = LedgerFile(path, ManualClock())
    file.run([Call((Reserve(b"1", (life(),), LEASE),))])
    assert file.connection is not None
    [log], [synchronous], [version] = (
        file.connection.execute(f"PRAGMA {name}").fetchone()
        for name in ("journal_mode", "synchronous", "user_version")
    )
    assert (log, synchronous, version) == ("wal", 1, ledger_file.FORMAT)
    file.close()
