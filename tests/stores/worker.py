"""A worker process over a shared SQLite store, for the tests that start several and kill some.

`python worker.py URI NAME TASKS ASKS LIMIT HOLD`: TASKS callers make ASKS reservations in all, six limits each, the
scarcest of LIMIT units. HOLD=1 holds instead of charging. Prints one line for each verdict: `+ID` granted, `-ID` not.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

from headgate.quota.command import Demand, Granted, Reserve
from headgate.quota.gcra import Rate
from headgate.quota.window import Rolling, Total
from headgate.stores import SqliteStore, Store, open_store

LEASE = 600_000_000

PATIENCE = 60
"""Seconds that a call may take: the disk is not ours alone."""

HOUR = 3_600_000_000


def demands(name: str, limit: int, hold: bool) -> tuple[Demand, ...]:
    """The worker's own limits have room for all; the three that all share do not."""
    own = name.encode()
    return (
        Demand((own, "rate"), Rate(1_000_000, HOUR), 1),
        Demand((own, "hour"), Rolling(1_000_000, HOUR), 1),
        Demand((own, "life"), Total(1_000_000), 1),
        Demand((b"org", "life"), Total(limit), 1, hold=hold),
        Demand((b"org", "rate"), Rate(1_000_000, HOUR), 1),
        Demand((b"org", "hour"), Rolling(1_000_000, HOUR), 1),
    )


async def caller(store: Store, name: str, numbers: Iterator[int], asked: tuple[Demand, ...]) -> None:
    for number in numbers:
        rid = f"{name}-{number}"
        [outcome] = await store.transact((Reserve(rid.encode(), asked, LEASE),))
        # One write each: what is read by the one who kills was acknowledged.
        sys.stdout.write(f"{'+' if isinstance(outcome, Granted) else '-'}{rid}\n")
        sys.stdout.flush()


async def main(uri: str, name: str, tasks: int, asks: int, limit: int, hold: bool) -> None:
    store = open_store(uri)
    if isinstance(store, SqliteStore):
        store._wait = PATIENCE
    numbers = iter(range(asks))
    asked = demands(name, limit, hold)
    await asyncio.gather(*[caller(store, name, numbers, asked) for _ in range(tasks)])
    await store.close()


if __name__ == "__main__":
    uri, name, tasks, asks, limit, hold = sys.argv[1:]
    asyncio.run(main(uri, name, int(tasks), int(asks), int(limit), hold == "1"))
