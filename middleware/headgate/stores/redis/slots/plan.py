"""How a command whose places lie in several slots of a cluster is carried out with commands that each lie in one.

Law: a slot runs its part atomically, and several slots cannot be made to do anything at one instant; so every plan is
made of steps that may each be repeated, and stops on the safe side wherever it is cut off: *more may be held or charged
than should be, never less, and nothing is admitted that is not charged everywhere*. What exactly holds:

| command | over several slots |
| --- | --- |
| `Reserve` | two phases, see `phases`: granted only when every slot has it. What a refusal held for a moment elsewhere may refuse somebody else meanwhile, who is told to ask again soon |
| `Settle`, `Cancel`, `Look` | each slot its part, side by side. A fault leaves the others done: said again, each counts once |
| `Extend` | first every slot is asked whether it is open and has room; then each extends. Only where room is lost between the two does one hold more for a while than another |
| `Join` | see `raising`: the sources are read, then the group is raised; nothing is on its way |
| `Merge` | see `moving`: what was taken out of a source is counted nowhere until it is put into the target, a round trip later; a merge that was cut off there is finished by the next one that names the same places |

The commands of one call keep their order where they share a place or a reservation; others go side by side. A call
that fails as `unknown` may have done any of its commands, and each may be said again. Of what is said behind an answer
(`errands`) nothing must be lost for this to hold: if it is, leases charge what was held.
"""  # noqa: E501

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from headgate.clock import Clock
from headgate.errors import StoreError
from headgate.quota.command import (
    Command,
    Extend,
    Gone,
    Granted,
    Join,
    Look,
    Merge,
    Outcome,
    Reserve,
    Seen,
    Settled,
)
from headgate.stores.redis.script.codec import tag_of
from headgate.stores.redis.slots import joined
from headgate.stores.redis.slots.errands import Errands
from headgate.stores.redis.slots.moving import Moving
from headgate.stores.redis.slots.parts import Part, divided, spread
from headgate.stores.redis.slots.phases import Phases
from headgate.stores.redis.slots.raising import Raising
from headgate.stores.redis.wire.asking import Answer, Ask, each, gravest

__all__ = ["Planner", "spread"]

TOGETHER = 32
"""Commands of one slot that are asked for at a time."""

MARGIN = 0.003
"""Seconds by which a call's deadline comes after a single question's, which knows better whether it was sent."""


class Planner:
    """Carries out the calls of one event loop on a cluster.

    `ask` puts at most `TOGETHER` commands of one slot on their way and promises their outcomes. `deadline` (seconds;
    0: none) bounds a whole call that spreads over slots, however many phases it has. `clock` where the callers'
    instants are not the servers' own.
    """

    def __init__(self, ask: Ask, *, deadline: float = 0.0, clock: Clock | None = None) -> None:
        self._ask = ask
        self._deadline = deadline
        self.errands = Errands(ask, clock)
        self._phases = Phases(ask, self.errands)
        self._moving = Moving(ask)
        self._raising = Raising(ask)

    async def transact(self, commands: Sequence[Command], now: int | None) -> list[Outcome]:
        """Apply the commands, as `Store.transact`. Raises StoreError, by the deadline at the latest; for a join by
        itself, which nobody need wait for, that is the deadline of each piece."""
        endless = not self._deadline or (len(commands) == 1 and type(commands[0]) is Join)
        try:
            async with asyncio.timeout(None if endless else self._deadline + MARGIN) as limit:
                return await self._planned(commands, now, limit)
        except TimeoutError:
            words = f"the cluster did not answer within {self._deadline:g} s"
            raise StoreError(words, transient=True, unknown=True) from None

    async def close(self) -> None:
        """Let what was answered be confirmed, for a second or two at most. Whoever asks after that may do so."""
        await self._moving.close()
        await self.errands.close()

    def drop(self) -> None:
        """The same without waiting, where the event loop ends: what was not confirmed is left to the leases."""
        self.errands.drop()

    async def _planned(self, commands: Sequence[Command], now: int | None, limit: asyncio.Timeout) -> list[Outcome]:
        """The commands wave by wave, each wave side by side."""
        far = [spread(command) for command in commands]
        if len(commands) == 1 and far[0]:  # nearly always
            return [await self._apart(commands[0], now, limit)]
        told: dict[int, Answer] = {}
        for wave in waves(commands, far):
            turns = [[at] for at in wave if far[at]]
            turns += by_slot(commands, [at for at in wave if not far[at]])
            works = [self._in_turn([commands[at] for at in turn], far[turn[0]], now, limit) for turn in turns]
            for turn, answers in zip(turns, await asyncio.gather(*works), strict=True):
                told.update(zip(turn, answers, strict=True))
            _raised(told)
        outcomes = [told[at] for at in range(len(commands))]
        return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]

    async def _in_turn(
        self, commands: Sequence[Command], far: bool, now: int | None, limit: asyncio.Timeout
    ) -> list[Answer]:
        """The answers to one command that spreads, or to those of one slot, some after the others."""
        answers: list[Answer] = []
        try:
            if far:
                return [await self._apart(commands[0], now, limit)]
            for at in range(0, len(commands), TOGETHER):
                answers += await self._ask(commands[at : at + TOGETHER], now)
        except Exception as fault:
            answers += [fault] * (len(commands) - len(answers))
        return answers

    async def _apart(self, command: Command, now: int | None, limit: asyncio.Timeout) -> Outcome:
        """One command that spreads."""
        if isinstance(command, Reserve):
            return await self._phases.reserve(command, divided(command), now, limit.expired)
        if isinstance(command, Merge):
            return await self._moving.merge(command, now)
        if isinstance(command, Join):
            return await self._raising.join(command, now)
        parts = divided(command)
        if isinstance(command, Extend):
            return await self._extended(command, parts, now)
        each_part = [command._replace(demands=part.demands) for part in parts]
        outcomes = await self._all(parts, each_part, now)
        if isinstance(command, Look):
            return joined.seen({part: one for part, one in outcomes.items() if type(one) is Seen})
        return joined.settled({part: one for part, one in outcomes.items() if type(one) is Settled})

    async def _extended(self, command: Extend, parts: Sequence[Part], now: int | None) -> Outcome:
        """First ask whether all would; what was extended cannot be taken back."""
        if any(demand.amount for demand in command.demands):
            looks = await self._all(parts, [Look(part.demands) for part in parts], now)
            found = {part: joined.would(command, part, o) for part, o in looks.items() if type(o) is Seen}
        else:
            # Step 0 is never new: it only tells whether the reservation is open.
            probes = [Extend(command.rid, part.demands, command.lease, 0) for part in parts]
            found = await self._all(parts, probes, now)
        no = joined.extended(command.rid, found)
        more = [command._replace(demands=part.demands) for part in parts]
        if type(no) is Gone and no.moved:
            looks = await self._all(parts, [Look(part.demands) for part in parts], now)
            if joined.goes_on(command, {part: one for part, one in looks.items() if type(one) is Seen}):
                await self._all(parts, more, now)
        if type(no) is not Granted:
            return no
        return joined.extended(command.rid, await self._all(parts, more, now))

    async def _all(self, parts: Sequence[Part], commands: Sequence[Command], now: int | None) -> dict[Part, Outcome]:
        """What each slot answers. Raises StoreError where one does not."""
        answers = dict(enumerate(await each(self._ask, commands, now)))
        _raised(answers, changes=not isinstance(commands[0], Look))
        pairs = zip(parts, answers.values(), strict=True)
        return {part: one for part, one in pairs if not isinstance(one, BaseException)}


def by_slot(commands: Sequence[Command], numbers: Sequence[int]) -> list[list[int]]:
    """The numbers of commands that do not spread, slot by slot; those that name no place by themselves."""
    slots: dict[bytes, list[int]] = {}
    for at in numbers:
        demands = commands[at].demands
        slots.setdefault(tag_of(demands[0].place[0]) if demands else b"", []).append(at)
    return list(slots.values())


def waves(commands: Sequence[Command], far: Sequence[bool]) -> list[list[int]]:
    """The numbers of the commands that may be said at once, and then of those that must wait for them.

    Two that share a place or a reservation keep their order; in one slot they may still travel together. `far`: which
    of them spread over slots.
    """
    last: dict[object, tuple[int, bool]] = {}
    found: list[list[int]] = []
    for at, command in enumerate(commands):
        shared: list[object] = [demand.place for demand in command.demands]
        rid = getattr(command, "rid", None)
        if rid is not None:
            shared.append(rid)
        before = [last[one] for one in shared if one in last]
        wave = max([turn + (far[at] or was_far) for turn, was_far in before], default=0)
        last.update(dict.fromkeys(shared, (wave, far[at])))
        while len(found) <= wave:
            found.append([])
        found[wave].append(at)
    return found


def _raised(answers: Mapping[int, Answer], *, changes: bool = True) -> None:
    """Raise the gravest fault among the answers. Where others were answered, some of it has been done."""
    faults = [answer for answer in answers.values() if isinstance(answer, BaseException)]
    if not faults:
        return
    fault = gravest(faults)
    if changes and len(faults) < len(answers) and isinstance(fault, StoreError) and not fault.unknown:
        raise StoreError(str(fault), transient=fault.transient, unknown=True) from fault
    raise fault
