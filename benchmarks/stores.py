"""Decisions a second, store by store: one and six limits, one and many callers, one and two processes.

    python benchmarks/stores.py [SECONDS]

A decision is one reservation, made and answered. Six limits are three of a key, two of an org of ten keys and one
of the group. Beside it stands the `limits` library's fixed window in memory, asynchronous and called by hand once a
limit, as its middlewares do: it gives no part of a decision back when a later limit refuses, and counts in one
process only. Only the ratios mean anything on another machine.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from rich.console import Console
from rich.table import Table

from headgate.ids import new_id
from headgate.quota.command import Demand, Granted, Reserve
from headgate.quota.gcra import Rate
from headgate.quota.window import Rolling, Total
from headgate.stores import open_store

SECONDS = 1.5
LEASE = 10_000_000
MINUTE, WEEK = 60_000_000, 7 * 86_400_000_000
KEYS = 200

Decide = Callable[[int], Awaitable[None]]


def demands(key: int, limits: int) -> tuple[Demand, ...]:
    """What a request of one key asks; the verbs are those of a common plan."""
    mine, org, group = b"key-%012d" % key, b"org-%012d" % (key // 10), b"group-0000000001"
    asked = (
        Demand((mine, "rpm"), Rate(10**6, MINUTE), 1),
        Demand((mine, "week"), Rolling(10**12, WEEK), 1),
        Demand((org, "rpm"), Rate(10**7, MINUTE), 1),
        Demand((org, "week"), Rolling(10**12, WEEK), 1),
        Demand((group, "rpm"), Rate(10**8, MINUTE), 1),
        Demand((mine, "life"), Total(10**12), 1),
    )
    return asked[:limits]


async def measured(decide: Decide, callers: int, seconds: float) -> float:
    """Decisions a second of so many callers, each asking again when it is answered."""
    count = 0
    end = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        nonlocal count
        while time.perf_counter() < end:
            await decide(number + callers * (count % KEYS))
            count += 1

    begun = time.perf_counter()
    await asyncio.gather(*[caller(number) for number in range(callers)])
    return count / (time.perf_counter() - begun)


async def of_store(uri: str, limits: int, callers: int, seconds: float) -> float:
    """A store's figure."""
    store = open_store(uri)
    asked = [demands(key, limits) for key in range(KEYS)]

    async def decide(key: int) -> None:
        [outcome] = await store.transact((Reserve(new_id(), asked[key % KEYS], LEASE),))
        assert isinstance(outcome, Granted), "nothing is refused here"

    try:
        return await measured(decide, callers, seconds)
    finally:
        await store.close()


async def of_limits(limits: int, callers: int, seconds: float) -> float:
    """The figure of the `limits` library, called by hand."""
    limiter = FixedWindowRateLimiter(MemoryStorage())
    items = [parse(f"{10**9 + n}/minute") for n in range(limits)]

    async def decide(key: int) -> None:
        for item in items:
            assert await limiter.hit(item, f"key-{key % KEYS}"), "nothing is refused here"

    return await measured(decide, callers, seconds)


def in_processes(count: int, uri: str, limits: int, callers: int, seconds: float) -> float:
    """The sum over processes that share the store, each of so many callers."""
    command = [sys.executable, __file__, "worker", uri, str(limits), str(callers), str(seconds)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return sum(float(worker.communicate(timeout=seconds + 60)[0]) for worker in workers)


def synced(directory: str) -> float:
    """Milliseconds to bring one page to this disk for good, at the median of some."""
    times = []
    with Path(directory, "page").open("wb", buffering=0) as page:
        for _ in range(15):
            begun = time.perf_counter()
            page.write(b"\0" * 4_096)
            os.fsync(page.fileno())
            times.append(time.perf_counter() - begun)
    return sorted(times)[7] * 1_000


def figures(directory: str, seconds: float) -> Table:
    """The table."""
    table = Table(title="decisions a second, and the memory store's share of them")
    for heading in ("store", "processes", "callers", "1 limit", "", "6 limits", ""):
        table.add_column(heading, justify="left" if heading == "store" else "right", no_wrap=True)
    memory: dict[tuple[int, int], float] = {}

    def row(name: str, processes: int, callers: int, of: Callable[[int], float]) -> None:
        cells = []
        for limits in (1, 6):
            rate = of(limits)
            reference = memory.setdefault((callers, limits), rate)
            cells += [f"{rate:,.0f}", f"x {rate / reference:.2f}"]
        table.add_row(name, str(processes), str(callers), *cells)

    for callers in (1, 64):
        row("memory://", 1, callers, lambda n, c=callers: asyncio.run(of_store("memory://", n, c, seconds)))
        row("limits, memory", 1, callers, lambda n, c=callers: asyncio.run(of_limits(n, c, seconds)))
        for processes in (1, 2):
            name = f"sqlite:///{directory}/ledger-{processes}-{callers}"
            row(
                "sqlite:///",
                processes,
                callers,
                lambda n, c=callers, p=processes, u=name: in_processes(p, f"{u}-{n}.db", n, c, seconds),
            )
    return table


def main(arguments: list[str]) -> None:
    """Prints the figures; with `worker …`, one process's share of them."""
    if arguments[:1] == ["worker"]:
        _, uri, limits, callers, seconds = arguments
        print(asyncio.run(of_store(uri, int(limits), int(callers), float(seconds))))
        return
    seconds = float(arguments[0]) if arguments else SECONDS
    console = Console()
    with tempfile.TemporaryDirectory() as directory:
        console.print(figures(directory, seconds))
        sync = synced(directory)
        console.print(
            "A commit waits for no disk (WAL, synchronous=NORMAL): it outlives the process; a power cut loses what "
            f"came after the last checkpoint. An fsync takes {sync:.2f} ms in {directory}: one a transaction would "
            f"bound a lone caller to {1_000 / sync:,.0f} decisions a second."
        )


if __name__ == "__main__":
    main(sys.argv[1:])
