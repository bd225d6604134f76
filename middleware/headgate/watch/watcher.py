"""The slow path, one loop: lead, read what was seen, learn, publish what was found, keep what was learnt.

Law: one process leads, and one alone publishes; when it dies, another leads within seconds and goes on where the last
snapshot ends. Whatever fails (the store, the register, the learner) delays what is found and harms no request: what
is due is tried again. A step is short, so that it can be stopped between two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from headgate.clock import SECOND, Clock, monotonic_clock, wall_clock
from headgate.errors import HeadgateError, StoreError
from headgate.linking.finding import Finding
from headgate.telemetry import events
from headgate.watch.learning import Learner, Learning, Tally
from headgate.watch.snapshot import PLACES, Snapshot, place_of, read, written
from headgate.watch.stream import Stream, fewest

T = TypeVar("T")


class Findings(Protocol):
    """Where findings go. Each method may raise StoreError; then it is tried again."""

    async def empty(self) -> bool:
        """Whether nothing that was ever found is in force."""
        ...

    async def publish(self, findings: Sequence[Finding], now: int, *, whole: bool) -> None:
        """Take all findings of an instant (microseconds). To say the same twice does no harm. `whole`: what was found
        before and is not among them does not hold any more."""
        ...


LEAD_EVERY: Final = SECOND
"""How often a leader says that it lives, and another asks whether it may lead."""

PUBLISH_EVERY: Final = SECOND // 2
"""How often what was found is looked at, if anything was seen: with a look of each gate a second it is in force
within two."""

SAVE_SHARE: Final = 20
"""So many times as long as it took to keep it, the next one waits at least."""

CONFIRM_EVERY: Final = 60 * SECOND
"""How often what nobody would act upon is published: counts that have grown, and that it still holds."""

SAVE_EVERY: Final = 30 * SECOND
"""How often what was learnt is kept: after a kill so much is read again."""

TELL_EVERY: Final = 60 * SECOND

RELEARNT: Final = 30 * 86_400 * SECOND
"""How long who began to learn anew takes nothing back that was found before: as long as the register remembers it."""

READ: Final = 64
"""Parcels in one step at most: a thousand observations, some 50 milliseconds of work."""

PAUSE: Final = 0.1
"""Seconds until the next look where nothing was there to read."""

TROUBLED: Final = 1.0
"""Seconds until the next try where the store did not answer."""


class Watcher:
    """One process's watch over a stream. `kind`: the class of the learner, made without arguments.

    `clock` says what time it is, `pace` what is due: a wall clock that is set back must hold up nothing. `breath`:
    called between slices of work. Made and used on one event loop.
    """

    def __init__(
        self,
        stream: Stream,
        kind: Any,
        findings: Findings,
        *,
        clock: Clock = wall_clock,
        pace: Clock = monotonic_clock,
        breath: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream = stream
        self._kind = kind
        self._findings = findings
        self._clock = clock
        self._pace = pace
        self._breath = breath
        self._learning: Learning | None = None
        self._saved_marks: dict[str, str] = {}
        self._lead_at = self._publish_at = self._save_at = 0
        self._tell_at = pace() + TELL_EVERY
        self._told = Tally()
        self._fresh = False
        self._unsaved = False
        self._published: list[Finding] = []
        self._gist: tuple[object, ...] | None = None
        self._confirm_at = 0
        self._troubled_until = float("-inf")

    @property
    def leading(self) -> bool:
        """Whether it leads, as far as it knows."""
        return self._learning is not None

    @property
    def tally(self) -> Tally:
        """What has happened since it leads."""
        return self._learning.tally if self._learning is not None else Tally()

    async def step(self) -> bool:
        """What is due now, and some reading; whether there may be more to read at once. Raises StoreError."""
        now = self._pace()
        if now >= self._lead_at:
            await self._lead(now)
        learning = self._learning
        if learning is None:
            return False
        found = await self._stream.read(learning.marks, READ)
        if found:
            learning.read(found)
            self._fresh = self._unsaved = True
        if self._fresh and now >= self._publish_at:
            await self.publish(now)
        if self._unsaved and now >= self._save_at:
            await self.save(now)
        if now >= self._tell_at:
            self._tell(now)
        return len(found) > 0

    async def _lead(self, now: int) -> None:
        """Ask to lead. Who leads anew begins with what was kept; who leads no more forgets what it knew."""
        try:
            leads = await self._stream.leads()
        except StoreError:
            # Nobody knows: whether another leads by now, the store says when anything is to be kept.
            self._lead_at = now
            raise
        self._lead_at = now + LEAD_EVERY
        if leads and self._learning is None:
            self._learning = await self._begun()
            self._fresh, self._unsaved, self._published = True, False, []
            self._gist, self._confirm_at = None, 0
            self._save_at = now + SAVE_EVERY
            self._told = Tally()
        elif not leads and self._learning is not None:
            events.warning("headgate.watch.deposed", reason="another process leads by now")
            self._learning = None

    async def _begun(self) -> Learning:
        """What the newest whole snapshot says, or a learner that knows nothing and reads all that the stream has."""
        snapshots: list[Snapshot] = []
        for place in PLACES:
            data = await self._stream.kept(place)
            if data is None:
                continue
            try:
                snapshots.append(read(data))
            except ValueError as error:
                events.error("headgate.watch.refused", place=place, reason=str(error))
        for snapshot in sorted(snapshots, reverse=True, key=lambda one: one.serial):
            try:
                learning = await self._meanwhile(partial(Learning.of, snapshot, self._kind, self._breath))
            except ValueError as error:
                events.error("headgate.watch.refused", place=place_of(snapshot.serial), reason=str(error))
                continue
            self._saved_marks = learning.marks.copy()
            events.info("headgate.watch.leads", snapshot=snapshot.serial)
            return learning
        learning = Learning(self._kind(), self._breath)
        if not await self._findings.empty():
            learning.whole_from = self._clock() + RELEARNT
        events.info("headgate.watch.leads", snapshot=0)
        self._saved_marks = {}
        learning.serial = max([one.serial for one in snapshots], default=0)
        return learning

    async def publish(self, now: int) -> None:
        """Publish what was found, if it is anything else than before. `now` is an instant of `pace`."""
        learning = self._learning
        if learning is None:
            return
        self._publish_at = now + PUBLISH_EVERY
        try:
            gist = await self._meanwhile(lambda: _gist(learning.learner))
            if gist == self._gist and now < self._confirm_at:
                self._fresh = False
                return
            found = await self._meanwhile(learning.learner.findings)
        except HeadgateError:
            raise
        except Exception as fault:
            events.error("headgate.fault", where="linking: findings", kind=type(fault).__name__)
            self._fresh = False  # the next observation is the next occasion
            return
        if gist != self._gist or found:
            instant = self._clock()
            await self._findings.publish(found, instant, whole=instant >= learning.whole_from)
            self._confirm_at = now + CONFIRM_EVERY
        self._gist, self._published, self._fresh = gist, found, False

    async def save(self, now: int) -> None:
        """Keep what was learnt. Where another leads by now nothing is kept, and this one leads no more."""
        learning = self._learning
        if learning is None:
            return
        begun = self._pace()
        self._save_at = now + SAVE_EVERY
        kept = await self._meanwhile(lambda: _kept(learning.snapshot()))
        if kept is None:
            self._unsaved = False
            return
        snapshot, data = kept
        upto = fewest(self._saved_marks, snapshot.marks)
        try:
            await self._stream.keep(place_of(snapshot.serial), data, upto)
        except StoreError:
            # The next one goes to the same place: the other one is whole.
            learning.serial -= 1
            self._lead_at = now
            raise
        self._saved_marks, self._unsaved = snapshot.marks, False
        self._save_at += (self._pace() - begun) * SAVE_SHARE

    async def _meanwhile(self, work: Callable[[], T]) -> T:
        """What may take long, done in a thread, while this one goes on saying that it leads."""
        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            while not (await asyncio.wait({task}, timeout=LEAD_EVERY / SECOND))[0]:
                if not await self._stream.leads():
                    self._lead_at = self._pace()
                    raise StoreError("another process leads by now", transient=True)
        finally:
            # Nobody may touch the learner while the thread does, whatever else went wrong.
            await asyncio.wait({task})
        return task.result()

    def _tell(self, now: int) -> None:
        """A line a minute: what has happened in it."""
        self._tell_at = now + TELL_EVERY
        learning = self._learning
        if learning is None:
            return
        told, self._told = self._told, replace(learning.tally)
        tally, found = learning.tally, self._published
        events.info(
            "headgate.watch.minute",
            observations=tally.observations - told.observations, parcels=tally.parcels - told.parcels,
            twice=tally.twice - told.twice, missed=tally.missed - told.missed, broken=tally.broken - told.broken,
            stumbled=tally.stumbled - told.stumbled, findings=len(found), keys=sum(len(one.members) for one in found),
            behind_ms=max(0, self._clock() - learning.latest) // 1_000 if self._fresh else 0,
        )  # fmt: skip

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until told to stop; then keep what was learnt and let another lead."""
        try:
            while not stop.is_set():
                pause = await self._stepped()
                if pause:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), pause)
                else:
                    await asyncio.sleep(0)
        finally:
            await self.end()

    async def once(self) -> tuple[Tally, list[Finding]]:
        """Read all that is there, publish and keep; then end. What was done and found. Raises StoreError, also where
        another leads."""
        try:
            while await self.step():
                pass
            if not self.leading:
                raise StoreError("another process watches already", transient=True)
            await self.publish(self._pace())
            await self.save(self._pace())
            return self.tally, self._published
        finally:
            await self.end()

    async def _stepped(self) -> float:
        """A step, and how long to pause after it."""
        try:
            return 0.0 if await self.step() else PAUSE
        except HeadgateError as fault:
            now = self._pace()
            if now >= self._troubled_until:
                # Once a minute: what is out of order stays so for a while.
                self._troubled_until = now + TELL_EVERY
                events.error("headgate.watch.error", reason=str(fault), transient=getattr(fault, "transient", False))
            return TROUBLED

    async def end(self) -> None:
        """Keep what was learnt, let another lead, let go of the stream. Never raises StoreError."""
        with suppress(StoreError):
            if self._unsaved:
                await self.save(self._pace())
        with suppress(StoreError):
            if self._learning is not None:
                await self._stream.resign()
        self._learning = None
        await self._stream.close()


def _gist(learner: Learner) -> tuple[object, ...]:
    """What anybody acts upon: who belongs together, and how sure that is, in hundredths."""
    groups = getattr(learner, "groups", None)
    if groups is not None:
        return tuple([(tuple(members), round(confidence, 2)) for members, confidence in groups()])
    return tuple([(tuple(one.members), round(one.confidence, 2)) for one in learner.findings()])


def _kept(snapshot: Snapshot | None) -> tuple[Snapshot, bytes] | None:
    return None if snapshot is None else (snapshot._replace(learnt=b""), written(snapshot))
