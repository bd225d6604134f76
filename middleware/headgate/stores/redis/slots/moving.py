"""How balances are merged where the places lie in several slots.

Law: what is moved is at each instant in the source, or in a parcel, or in the target, and in one of them only.
*Give* takes it out of a source, which keeps the parcel in an outbox; *Take* puts a parcel into the target, once
however often it is said; *Given* empties the outbox. Whatever is cut off in between is finished by the next merge
that names the source: it is given the same parcel again. Between give and take, a round trip apart, what is moved
counts nowhere: a merge opens that gap and no other command does. So a merge goes on behind a caller that has given
up, and tries for some seconds to put what it has been given where it belongs; if the target is not there for longer,
the worker dies, or a give arrives when nobody waits for it any more, the gap lasts until the next merge that names
the source. All sources give at once, and all parcels are taken at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from random import random
from typing import Any

from headgate.errors import StoreError
from headgate.quota.balance import Balance
from headgate.quota.command import Demand, Look, Merge, Place, Settled
from headgate.stores.redis.script.codec import tag_of
from headgate.stores.redis.script.parcel import Give, Given, Parcel, Take
from headgate.stores.redis.wire.asking import Ask, Said, begun, each, gravest

PAUSES = (0.05, 0.1, 0.3, 0.6, 1.0, 2.0)
"""Seconds before each further try to learn what a source has given, and to hand it over. Where another merge is in
the way, a random part of it."""


class Moving:
    """Merges, for one event loop."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._running: dict[Merge, asyncio.Task[Settled]] = {}
        self._next: dict[Merge, asyncio.Task[Settled]] = {}

    async def merge(self, command: Merge, now: int | None) -> Settled:
        """Move what the sources have. Raises StoreError; what was given by then is still handed over, if it can be.

        Of many callers who say the same at once, the first does it, and one more for all who came after it had begun.
        """
        task = self._running.get(command)
        if task is None:
            task = self._started(command, now)
        elif (after := self._next.get(command)) is not None:
            task = after
        else:
            task = self._next[command] = asyncio.get_running_loop().create_task(self._after(task, command, now))
            task.add_done_callback(_heard)
        return await asyncio.shield(task)

    def _started(self, command: Merge, now: int | None) -> asyncio.Task[Settled]:
        task = self._running[command] = asyncio.get_running_loop().create_task(self._merged(command, now))

        def ended(_: object) -> None:
            self._running.pop(command, None)

        task.add_done_callback(ended)
        task.add_done_callback(_heard)
        return task

    async def _after(self, before: asyncio.Task[Settled], command: Merge, now: int | None) -> Settled:
        await asyncio.wait({before})
        self._next.pop(command, None)
        return await self._started(command, now)

    async def _merged(self, command: Merge, now: int | None) -> Settled:
        into, sources, tag = command.into, command.sources, tag_of(command.into.place[0])
        near = tuple([source for source in sources if tag_of(source.place[0]) == tag])
        far = {source.place: source for source in sources if tag_of(source.place[0]) != tag}
        found = Found(into.place)
        asked: list[Said] = [Merge(into, near) if near else Look((into,)), *_gives(into, far.values())]
        for pause in (*PAUSES, None):
            answers = await each(self._ask, asked, now)
            # Who has not answered may have given: that counts nowhere until it is asked for again, and taken.
            unsure = [said for said, answer in zip(asked, answers, strict=True) if pause and _unsure(answer)]
            given = found.told(asked, answers, besides=unsure)
            if not await self._taken(into, [parcel for _, parcel in given], found, now):
                break
            for give, parcel in given:
                begun(self._ask, Given(parcel.id, give.source), now).add_done_callback(_heard)
            # What an earlier merge had left behind tells nothing of what was used since, and may go elsewhere first.
            old = [(give.source.place, parcel.into) for give, parcel in given if parcel.id != give.id]
            again = {place: far[place] for pair in old for place in pair if place in far}
            asked = [*unsure, *_gives(into, again.values())]
            if not asked:
                return found.settled(command)
            if pause:
                # Two who merge the same sources would find each other's parcels again and again.
                await asyncio.sleep(pause if unsure else pause * random())
        return found.settled(command, whole=False)

    async def _taken(self, into: Demand, parcels: Sequence[Parcel], found: Found, now: int | None) -> bool:
        """Put all parcels where they belong, and tell whether all are there."""
        takes: list[Said] = [Take(into.at(parcel.into), parcel) for parcel in parcels]
        for pause in (*PAUSES, None):
            answers = await each(self._ask, takes, now) if takes else []
            done = [(take, a) for take, a in zip(takes, answers, strict=True) if not isinstance(a, BaseException)]
            found.told([take for take, _ in done], [answer for _, answer in done])
            faults = [answer for answer in answers if isinstance(answer, BaseException)]
            takes = [take for take, a in zip(takes, answers, strict=True) if isinstance(a, BaseException)]
            if faults and (pause is None or not isinstance(gravest(faults), StoreError)):
                found.faults += faults
                return False
            if not faults:
                break
            await asyncio.sleep(pause or 0)
        return True

    async def close(self) -> None:
        """Let what has been given be handed over. Bounded by the time that a hand-over is tried for."""
        while tasks := {*self._running.values(), *self._next.values()}:
            await asyncio.wait(tasks)


class Found:
    """What the steps of a merge have told: balances, the latest instant, and what went wrong."""

    def __init__(self, into: Place) -> None:
        self.balances: dict[Place, Balance | None] = {}
        self.faults: list[BaseException] = []
        self.now = 0

    def told(
        self, commands: Sequence[Said], answers: Sequence[Any], besides: Sequence[Said] = ()
    ) -> list[tuple[Give, Parcel]]:
        """Note the answers to some steps, `besides` those that are said again; which gives have brought a parcel."""
        given: list[tuple[Give, Parcel]] = []
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, BaseException):
                self.faults += [] if command in besides else [answer]
                continue
            self.now = max(self.now, answer.now)
            if type(command) is Give:
                self.balances[command.source.place] = answer.balance
                given += [] if answer.parcel is None else [(command, answer.parcel)]
            else:
                self.balances.update({d.place: b for d, b in zip(command.demands, answer.balances, strict=True)})
        return given

    def settled(self, command: Merge, *, whole: bool = True) -> Settled:
        """The outcome, if all was done. Raises StoreError: part of it may have been, and all may be repeated."""
        if whole and not self.faults:
            return Settled(self.now, tuple([self.balances.get(demand.place) for demand in command.demands]))
        fault = gravest(self.faults or [StoreError("a merge found more and more to move", transient=True)])
        if isinstance(fault, StoreError):
            raise StoreError(str(fault), transient=fault.transient, unknown=True) from fault
        raise fault


def _gives(into: Demand, sources: Iterable[Demand]) -> list[Give]:
    return [Give(os.urandom(16), into, source) for source in sources]


def _unsure(answer: object) -> bool:
    return isinstance(answer, StoreError) and answer.unknown


def _heard(future: asyncio.Future[Any]) -> None:
    """Who is not waited for fails in silence: it is said again when it matters."""
    if not future.cancelled():
        future.exception()
