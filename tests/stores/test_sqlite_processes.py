"""Several processes over one file: exact together, and nothing is lost with the one that dies."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.quota.command import Cancel, Demand, Granted, Look, Reserve
from headgate.quota.window import Total
from headgate.stores import SqliteStore, open_store

WORKER = Path(__file__).with_name("worker.py")
LEASE = 600_000_000
PATIENCE = 120


def started(path: Path, name: str, *, tasks: int, asks: int, limit: int, hold: bool = False) -> subprocess.Popen[str]:
    arguments = [f"sqlite:///{path}", name, str(tasks), str(asks), str(limit), str(int(hold))]
    return subprocess.Popen([sys.executable, "-I", str(WORKER), *arguments], stdout=subprocess.PIPE, text=True)


def verdicts(workers: Sequence[subprocess.Popen[str]]) -> list[str]:
    found: list[str] = []
    for worker in workers:
        output, _ = worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 0
        found += output.split()
    return found


async def looked(path: Path, demand: Demand, now: int | None = None) -> Any:
    store = open_store(f"sqlite:///{path}")
    [seen] = await store.transact((Look((demand,)),), now)
    await store.close()
    return seen.balances[0]  # type: ignore[union-attr]


def together(path: Path, processes: int, tasks: int, limit: int) -> None:
    asks = limit * 3 // 2 // processes
    workers = [started(path, f"w{n}", tasks=tasks, asks=asks, limit=limit) for n in range(processes)]
    found = verdicts(workers)
    granted = [verdict for verdict in found if verdict[0] == "+"]
    assert len(found) == asks * processes
    assert len(granted) == len(set(granted)) == limit
    balance = asyncio.run(looked(path, Demand((b"org", "life"), Total(limit), 0)))
    own = [asyncio.run(looked(path, Demand((b"w%d" % n, "life"), Total(limit), 0))) for n in range(processes)]
    assert balance.used == sum(b.used for b in own if b is not None) == limit, "all six limits of a request, or none"


def test_four_processes_admit_exactly_the_limit_together(tmp_path: Path) -> None:
    together(tmp_path / "ledger.db", processes=4, tasks=32, limit=1_000)


def killed_in_flight(path: Path, name: str, after: int) -> list[str]:
    """Starts a worker, kills it after so many verdicts, and answers all that it was told."""
    worker = started(path, name, tasks=32, asks=100_000, limit=1_000_000, hold=True)
    assert worker.stdout is not None
    told = [worker.stdout.readline().strip() for _ in range(after)]
    os.kill(worker.pid, signal.SIGKILL)
    return told + rest_of(worker)


def rest_of(worker: subprocess.Popen[str]) -> list[str]:
    """What else it said; a line that the kill cut off was never told. Ends with the worker."""
    assert worker.stdout is not None
    with worker.stdout:
        rest = worker.stdout.read()
    worker.wait(PATIENCE)
    return [line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")]


def test_what_a_killed_worker_was_told_is_in_the_file_and_its_leases_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    told = killed_in_flight(path, "victim", after=200)
    life = Demand((b"org", "life"), Total(1_000_000), 1, hold=True)
    balance = asyncio.run(looked(path, life))
    assert {verdict[1:].encode() for verdict in told} <= set(balance.holds.by_rid)
    in_flight = balance.holds.held - len(told)
    assert 0 <= in_flight <= 32, "at most what each caller was waiting for"

    async def next_worker() -> Any:
        store = open_store(f"sqlite:///{path}")
        late = max(hold.until for hold in balance.holds.by_rid.values())
        # A repeat of what the dead one was told is answered alike; after the leases all of it is charged.
        [again] = await store.transact((Reserve(told[0][1:].encode(), (life,), LEASE),))
        assert isinstance(again, Granted)
        await store.transact((Reserve(b"next", (life,), LEASE),), late)
        await store.close()
        return await looked(path, life, late)

    after = asyncio.run(next_worker())
    assert (after.used, after.holds.held) == (balance.holds.held, 1)


HOLDER = """
import fcntl, os, sys
turn = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(turn, fcntl.LOCK_EX)
print("mine", flush=True)
sys.stdin.read()
"""


@contextmanager
def stopped_with_the_turn(path: Path) -> Iterator[None]:
    """Meanwhile another process has the turn and is stopped, as by a debugger; it ends with what is told."""
    command = [sys.executable, "-I", "-c", HOLDER, f"{path}-turn"]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        os.kill(holder.pid, signal.SIGSTOP)
        yield
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate(timeout=PATIENCE)


def test_what_timed_out_behind_a_stopped_process_is_not_charged_when_the_file_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    life = Demand((b"org", "life"), Total(1_000_000), 1)

    async def abandoned(store: SqliteStore, rid: bytes) -> str:
        """As the gate does it: a deadline, and a cancellation behind it, for which nobody waits long either."""
        try:
            async with asyncio.timeout(0.05):
                await store.transact((Reserve(rid, (life,), LEASE),))
        except TimeoutError:
            with pytest.raises(StoreError):
                await store.transact((Cancel(rid, (life,), LEASE),))
            return "timed out"
        except StoreError as fault:
            return "refused at once" if "does not answer at present" in str(fault) else str(fault)
        return "served"

    async def story() -> Any:
        store = SqliteStore(str(path))
        await store.transact((Reserve(b"first", (life,), LEASE),))
        store._wait = 0.5
        with stopped_with_the_turn(path):
            await asyncio.gather(*[abandoned(store, b"first-%d" % n) for n in range(50)])
            # A second after the file was last heard of, nobody waits in vain any more.
            rounds = [
                await asyncio.gather(*[abandoned(store, b"%d-%d" % (n, m)) for m in range(5)]) for n in range(4)
            ]
            assert rounds[-1] == ["refused at once"] * 5
        store._wait = PATIENCE
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(StoreError):  # until the thread has come back
                    await store.transact((Reserve(b"last", (life,), LEASE),))
                    break
                await asyncio.sleep(0.01)
        [seen] = await store.transact((Look((life,)),))
        await store.close()
        return seen.balances[0]  # type: ignore[union-attr]

    assert asyncio.run(story()).used == 2, "the first and the last: what was served"


@pytest.mark.chaos
@pytest.mark.parametrize("turn", range(20))
def test_eight_processes_admit_exactly_the_limit_in_every_round(tmp_path: Path, turn: int) -> None:
    together(tmp_path / "ledger.db", processes=8, tasks=64, limit=1_000)


@pytest.mark.chaos
def test_workers_killed_at_random_lose_nothing_and_admit_nothing_twice(tmp_path: Path) -> None:
    path, limit = tmp_path / "ledger.db", 6_000
    lot = random.Random(7)
    told: list[str] = []
    for turn in range(30):
        workers = [started(path, f"t{turn}w{n}", tasks=16, asks=400, limit=limit) for n in range(3)]
        victim = lot.choice(workers)
        assert victim.stdout is not None
        told += [victim.stdout.readline().strip() for _ in range(lot.randrange(1, 200))]
        os.kill(victim.pid, signal.SIGKILL)
        for worker in workers:
            told += rest_of(worker)
    granted = [verdict for verdict in told if verdict[0] == "+"]
    balance = asyncio.run(looked(path, Demand((b"org", "life"), Total(limit), 0)))
    assert len(granted) == len(set(granted)) <= balance.used == limit
    # Granted and never told: what the killed ones had in flight, sixteen callers each.
    assert balance.used - len(granted) <= 30 * 16
