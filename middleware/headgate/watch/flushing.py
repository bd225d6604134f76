"""From the ring to the stream: digests are made, raw texts let go of, parcels put.

Law: what is behind a request waits for none and is waited for by none. What the stream does not take is tried again
with the same numbers, so that it counts once whoever lost the answer; a bounded heap of it is kept, the newest goes
first, and what went is told once a minute. A raw text lives from the end of its request to the next flush.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from headgate.clock import SECOND, Clock, monotonic_clock
from headgate.errors import StoreError
from headgate.linking.observation import Blind, Observation
from headgate.telemetry import events
from headgate.watch.eye import Eye
from headgate.watch.parcel import parcelled
from headgate.watch.stream import Stream

EVERY: Final = 0.05
"""Seconds between two flushes."""

AT_ONCE: Final = 512
"""Glimpses that are digested before their parcels are put."""

PENDING: Final = 256
"""Parcels that wait for a stream that does not take them: some megabytes."""

PUT: Final = 64
"""Parcels in one put."""

SLICE: Final = 8
"""Glimpses that are digested before the requests of this process have their turn: some 300 microseconds."""

BREATH: Final = 0.00005
"""Seconds of a pause between slices. A thread that computes keeps an event loop from waking for 5 ms; one that
sleeps does not."""

BEHIND: Final = 2_048
"""Glimpses in the ring from which on it goes without pauses: to lose what was seen is worse."""

TELL_EVERY: Final = 60 * SECOND


@dataclass(slots=True)
class Lost:
    """What was not passed on: `full`: the ring had no room; `cut`: noted without their prompt; `untaken`: parcels
    that the stream did not take in time; `unwatched`: those for which nobody had watched for long; `faults`: requests
    that could not be looked at."""

    full: int = 0
    cut: int = 0
    untaken: int = 0
    unwatched: int = 0
    faults: int = 0


class Flushing:
    """One worker's flush. `shards`: between which workers are spread, each with all of its parcels in one."""

    def __init__(
        self, eye: Eye, blind: Blind, stream: Stream, *, shards: int = 1, pace: Clock = monotonic_clock
    ) -> None:
        self._eye = eye
        self._blind = blind
        self._stream = stream
        self._pace = pace
        self._author = secrets.token_bytes(8)
        self._shard = str(self._author[0] % shards)
        self._number = 0
        self._pending: deque[bytes] = deque()
        self._lost = Lost()
        self._told = Lost()
        self._tell_at = 0

    @property
    def lost(self) -> Lost:
        """What was not passed on until now."""
        eye, lost = self._eye, self._lost
        return Lost(eye.ring.lost, eye.ring.cut, lost.untaken, lost.unwatched, lost.faults + eye.faults)

    async def flush(self) -> int:
        """Pass on all that is in the ring; how many parcels still wait. Never raises StoreError."""
        while len(self._eye.ring):
            self._packed(self._digested())
            if not await self._put():
                break
        else:
            if self._pending:
                await self._put()
        self._tell()
        return len(self._pending)

    def _digested(self) -> list[Observation]:
        """Observations of the oldest glimpses, which are gone when this returns."""
        seen: list[Observation] = []
        for at, (sight, glimpse) in enumerate(self._eye.taken(AT_ONCE), 1):
            try:
                seen.append(sight.observation(glimpse, self._blind))
            except Exception as fault:
                # The kind alone: what a fault says may quote the text.
                self._lost.faults += 1
                if self._lost.faults == 1:
                    events.error("headgate.fault", where="linking: digest", kind=type(fault).__name__)
            if at % SLICE == 0 and len(self._eye.ring) < BEHIND:
                time.sleep(BREATH)
        return seen

    def _packed(self, seen: list[Observation]) -> None:
        for number, data in parcelled(self._author, self._number, seen):
            # A number is used up also where its parcel is lost: who reads then knows how many are missing.
            self._number = number + 1
            if len(self._pending) < PENDING:
                self._pending.append(data)
            else:
                self._lost.untaken += 1

    async def _put(self) -> bool:
        """Whether all that waits was taken, or nobody wants it."""
        while self._pending:
            some = [self._pending[at] for at in range(min(PUT, len(self._pending)))]
            try:
                taken = await self._stream.put(self._shard, some)
            except StoreError as fault:
                self._troubled(fault)
                return False
            for _ in some:
                self._pending.popleft()
            if not taken:
                self._lost.unwatched += len(some)
        return True

    def _troubled(self, fault: StoreError) -> None:
        now = self._pace()
        if now >= self._tell_at:
            self._tell_at = now + TELL_EVERY
            events.warning("headgate.watch.untaken", reason=str(fault), waiting=len(self._pending))

    def _tell(self) -> None:
        now = self._pace()
        if now < self._tell_at:
            return
        told, lost = self._told, self.lost
        if told != lost:
            self._tell_at, self._told = now + TELL_EVERY, lost
            events.warning(
                "headgate.watch.lost",
                full=lost.full - told.full, cut=lost.cut - told.cut, untaken=lost.untaken - told.untaken,
                unwatched=lost.unwatched - told.unwatched, faults=lost.faults - told.faults,
            )  # fmt: skip
