"""The SQLite store's own promises: one transaction for many, loops and forks kept apart, a file that stays small."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import stat
import threading
import warnings
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.quota.gcra import Rate
from headgate.quota.identify import digest
from headgate.quota.ledger import Demand, Granted, Look, Outcome, Reserve
from headgate.quota.window import Rolling, Total
from headgate.stores import SqliteStore, open_store
from headgate.stores.sqlite import file as ledger_file
from headgate.stores.sqlite import turn as turns
from headgate.stores.sqlite.file import Call, LedgerFile
from headgate.stores.sqlite.mark import Mark
from headgate.stores.sqlite.turn import Turn
from headgate.testing import ManualClock

LEASE = 60_000_000
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

    # The second was already in the thread's hands when it gave up: it may count, as any command without an answer.
    assert asyncio.run(story()) in (2, 3)


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
        ("redis://user:hunter2@host/0", r"`redis://`; there are memory://.*sqlite:///PATH"),
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
    file.run([((Reserve(b"1", (life(),), LEASE),), None)])
    with Turn(f"{path}-turn"):
        [[seen]] = file.run([((Look((life(),)),), None)])  # type: ignore[misc]
    assert seen.balances[0].used == 1
    file.close()


def test_sqlite_is_asked_for_what_the_promises_need(path: str) -> None:
    file = LedgerFile(path, ManualClock())
    file.run([((Reserve(b"1", (life(),), LEASE),), None)])
    assert file.connection is not None
    [log], [synchronous], [version] = (
        file.connection.execute(f"PRAGMA {name}").fetchone()
        for name in ("journal_mode", "synchronous", "user_version")
    )
    assert (log, synchronous, version) == ("wal", 1, ledger_file.FORMAT)
    file.close()
