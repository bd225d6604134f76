"""A reservation whose places lie in several slots, in two phases that add up to all or nothing.

Law: first the slot that is the likeliest to refuse is *tried*: what it should use at once is held there for `SHORT`.
Only if that is granted are the others asked. Granted by all, the reservation is granted, and what was tried is
confirmed behind the answer; refused by any, what was tried is taken back without a trace. So what is not charged
everywhere is never admitted. Of two slots the second is asked in earnest; of more, all are tried.

What is true at each instant, whoever fails:

- tried and nobody is heard of any more (the worker died): the hold ends after `SHORT` and is charged as every lease's
  end charges: too much by what one request asked, at that slot alone, as it is when a worker dies right after a
  reservation in one slot. It is never too little: granted and not yet confirmed is charged by that same rule.
- a later slot is *known* not to have done it (it was not connected to): what was tried is taken back; the
  fault is not `unknown`.
- a later slot did not answer: it may have done it. The fault is `unknown`, and what was tried stands until whoever
  asked cancels the reservation (all of it comes back, also after the lease) or lets it be: then what was tried is
  charged, and the other slot's part if it was done. Nothing is cancelled here, for who admits the request all the
  same wants it counted.
- the caller is cancelled: whatever was asked is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from headgate.clock import SECOND
from headgate.errors import StoreError
from headgate.quota.command import Cancel, Gone, Granted, Outcome, Refused, Reserve, Settle
from headgate.quota.ledger import REPEAT
from headgate.stores.redis.script.parcel import Try, Undo, Weigh
from headgate.stores.redis.slots import joined
from headgate.stores.redis.slots.errands import Errands
from headgate.stores.redis.slots.parts import Part
from headgate.stores.redis.slots.scarcity import Scarcity
from headgate.stores.redis.wire.asking import Answer, Ask, each, gravest

SHORT = 2_000_000
"""How long (microseconds) is held what a tried slot should use at once. A confirmation takes a millisecond; this
leaves it a failing-over node's pause, and bounds for how long a dead worker keeps others from what it never used."""

PATIENCE = 300.0
"""Seconds for which a node that does not answer is told to take back: half as long as it knows of a lapsed hold."""

KNOWN = 20_000
"""Reservations that are remembered, so as to know one that is said again; 100 bytes each."""


class Phases:
    """Reserves over several slots, for one event loop."""

    def __init__(self, ask: Ask, errands: Errands) -> None:
        self._ask = ask
        self._errands = errands
        self._scarcity = Scarcity()
        self._known: dict[bytes, None] = {}

    async def reserve(
        self, command: Reserve, parts: Sequence[Part], now: int | None, late: Callable[[], bool]
    ) -> Outcome:
        """Granted, refused or gone, as by one ledger. Raises StoreError. `late`: has the deadline ended it?"""
        await self._first_said(command.rid)
        first, *others = self._scarcity.ordered(parts)
        asked = [first]
        try:
            [found] = await self._ask((self._tried(command, first),), now)
            if type(found) is Gone:
                return found
            if type(found) is Refused:
                return await self._refused_first(first, found, others, now)
            asked += others
            way = self._tried if len(others) > 1 else _in_earnest
            answers = await each(self._ask, [way(command, part) for part in others], now)
        except asyncio.CancelledError:
            if not late():
                self._cancel(command, asked, now)
            raise
        return self._decided(command, dict(zip(asked, (found, *answers), strict=True)), now)

    async def _first_said(self, rid: bytes) -> None:
        if rid in self._known:
            await self._errands.rest(rid)
        elif len(self._known) >= KNOWN:
            del self._known[next(iter(self._known))]
        self._known[rid] = None

    @staticmethod
    def _tried(command: Reserve, part: Part) -> Try | Reserve:
        if not part.at_once:
            return Reserve(command.rid, part.demands, command.lease)  # all is held anyway
        return Try(command.rid, part.demands, command.lease, SHORT)

    async def _refused_first(self, first: Part, found: Refused, others: Sequence[Part], now: int | None) -> Refused:
        """The refusal with what the slots that were not asked would have said."""
        answers = await each(self._ask, [Weigh(part.demands) for part in others], now)
        told = {first: found}
        for part, weighed in zip(others, answers, strict=True):
            # Refused is refused, whatever a node that does not answer would have said.
            told[part] = weighed if type(weighed) is Refused else joined.silent(part, found.now)
        self._scarcity.saw(told, granted=False)
        return joined.refused(told)

    def _decided(self, command: Reserve, answers: Mapping[Part, Answer], now: int | None) -> Outcome:
        """What all the answers make together, and what follows from it for each slot."""
        granted = {part: answer for part, answer in answers.items() if type(answer) is Granted}
        if len(granted) == len(answers):
            tried = _tried_of(list(answers))
            self._confirm(command, granted, tried, now)
            self._scarcity.saw(granted, granted=True)
            return joined.granted(command.rid, granted, tried)
        refused = {part: answer for part, answer in answers.items() if type(answer) is Refused}
        gone = [answer for answer in answers.values() if type(answer) is Gone]
        faults = {part: answer for part, answer in answers.items() if isinstance(answer, BaseException)}
        unknown = [part for part, fault in faults.items() if not isinstance(fault, StoreError) or fault.unknown]
        if gone:
            self._cancel(command, [*granted, *unknown], now)
            return gone[0]
        if refused:
            self._take_back(command, granted, now)
            self._cancel(command, unknown, now)  # nobody else will: the reservation is decided
            first = next(iter(answers.values()))
            assert not isinstance(first, BaseException), "without the first one's answer no other was asked"
            silent = {part: joined.silent(part, first.now) for part in faults}
            back = {part: joined.taken_back(command.rid, part, answer) for part, answer in granted.items()}
            every = {**refused, **silent, **back}
            self._scarcity.saw(every, granted=False)
            return joined.refused(every)
        fault = gravest(faults.values())
        if not isinstance(fault, StoreError):
            self._cancel(command, list(answers), now)
        elif not unknown:
            self._take_back(command, granted, now)
        raise fault

    def _confirm(
        self, command: Reserve, granted: Mapping[Part, Granted], tried: Sequence[Part], now: int | None
    ) -> None:
        """Use what was held for the time being. When that lease has ended there is nothing left to say."""
        for part in tried:
            if part.at_once:
                at = None if now is None else granted[part].now
                self._errands.say(Settle(command.rid, part.at_once), at, SHORT / SECOND)

    def _take_back(self, command: Reserve, granted: Mapping[Part, Granted], now: int | None) -> None:
        for part, outcome in granted.items():
            at = None if now is None else outcome.now
            self._errands.say(Undo(command.rid, part.demands), at, PATIENCE)

    def _cancel(self, command: Reserve, parts: Sequence[Part], now: int | None) -> None:
        for part in parts:
            self._errands.say(Cancel(command.rid, part.demands, REPEAT), now, PATIENCE)


def _in_earnest(command: Reserve, part: Part) -> Reserve:
    return Reserve(command.rid, part.demands, command.lease)


def _tried_of(asked: Sequence[Part]) -> Sequence[Part]:
    """Of two the last was asked in earnest, when nothing else was open any more; of more all were tried."""
    return asked[:1] if len(asked) == 2 else asked
