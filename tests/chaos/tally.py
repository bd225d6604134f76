"""Callers whose every charge can be looked for afterwards, one by one, whatever became of the server meanwhile.

Law: each call charges a subject of its own, with one unit. So what was acknowledged and is not there any more is seen
by itself, and nothing that nobody was told of makes up for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from secrets import token_bytes

from headgate.errors import StoreError
from headgate.ids import new_id
from headgate.quota.command import Demand, Granted, Look, Outcome, Reserve, Seen
from headgate.quota.window import Total
from headgate.stores.contract import Store

LEASE = 10_000_000
TOGETHER = 32
VERB = Total(1)

BREATH = 0.005
"""Seconds that a caller waits after a fault."""

PATIENCE = 60.0
"""Seconds until something must have happened: this machine is busy."""


class Tally:
    """What callers were told by one store. `tags`: what their subjects begin with, in turn (8 bytes each)."""

    def __init__(self, store: Store, tags: Sequence[bytes] = (b"the orgs",)) -> None:
        self.acknowledged: dict[bytes, float] = {}
        """The subjects of the calls that were granted, and when (the loop's time)."""
        self.doubtful: set[bytes] = set()
        """Those of which nobody knows."""
        self._store = store
        self._tags = tags
        self._over = asyncio.Event()

    @asynccontextmanager
    async def calling(self, callers: int = 16) -> AsyncIterator[None]:
        """Meanwhile so many callers ask again and again."""
        self._over.clear()
        tasks = [asyncio.create_task(self._calling(self._tags[n % len(self._tags)])) for n in range(callers)]
        try:
            yield
        finally:
            self._over.set()
            await asyncio.gather(*tasks)

    async def _calling(self, tag: bytes) -> None:
        time = asyncio.get_running_loop().time
        while not self._over.is_set():
            subject = tag + token_bytes(8)
            try:
                [outcome] = await self._store.transact((Reserve(new_id(), (demand(subject),), LEASE),))
            except StoreError as fault:
                if fault.unknown:
                    self.doubtful.add(subject)
                await asyncio.sleep(BREATH)
                continue
            assert type(outcome) is Granted, "each has a subject of its own"
            self.acknowledged[subject] = time()

    async def more(self, tags: Sequence[bytes] = (), many: int = 200) -> None:
        """Wait until so many more were granted, of each of the tags."""
        marks = {tag: self._of(tag) + many for tag in tags or self._tags}
        until = asyncio.get_running_loop().time() + PATIENCE
        while any(self._of(tag) < mark for tag, mark in marks.items()):
            assert asyncio.get_running_loop().time() < until, "callers are granted nothing"
            await asyncio.sleep(0.002)

    def _of(self, tag: bytes) -> int:
        return sum(1 for subject in self.acknowledged if subject.startswith(tag))

    async def lost(self, store: Store) -> dict[bytes, float]:
        """What was acknowledged and `store` knows nothing of. What it knows of all is forgotten here."""
        known = await charged(store, list(self.acknowledged))
        assert set(known.values()) <= {0, 1}, "nothing is charged twice"
        lost = {subject: self.acknowledged[subject] for subject, used in known.items() if not used}
        self.acknowledged, self.doubtful = {}, set()
        return lost


def demand(subject: bytes) -> Demand:
    return Demand((subject, "life"), VERB, 1)


async def charged(store: Store, subjects: Sequence[bytes]) -> dict[bytes, int]:
    """How much each of the subjects has used."""
    found: dict[bytes, int] = {}
    for at in range(0, len(subjects), TOGETHER):
        some = subjects[at : at + TOGETHER]
        outcomes = await _answered(store, [Look((demand(subject),)) for subject in some])
        for subject, seen in zip(some, outcomes, strict=True):
            assert isinstance(seen, Seen)
            [balance] = seen.balances
            found[subject] = 0 if balance is None else balance.used
    return found


async def _answered(store: Store, looks: Sequence[Look]) -> Sequence[Outcome]:
    """Whoever reads may have to find the server again that has taken another's place."""
    until = asyncio.get_running_loop().time() + PATIENCE
    while True:
        try:
            return await store.transact(looks)
        except StoreError:
            if asyncio.get_running_loop().time() > until:
                raise
            await asyncio.sleep(0.05)
