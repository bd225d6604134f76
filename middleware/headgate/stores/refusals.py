"""The negative cache: what a store has just refused is refused again here, without asking it.

Law: it refuses only what the store would refuse if it were asked, as far as this worker can know; it never grants.
A refusal is repeated until the instant at which it might no longer hold, and for `LONGEST` at most; where nothing
but what others hold stands in the way, for `BRIEF`, because that may be given back at any moment. Whatever this
worker says that gives something back at a place ends what is remembered of the place at once. So a flood of
refused requests costs the store ten operations a second for each subject, however large it is. Where different things
are counted the store is always asked: what it has seen before is granted at any time.

Time is the store's: kept is how long a refusal still holds, and that is measured by this machine's monotonic clock
from when the store was asked, so that nobody is refused for longer than the store has said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headgate.clock import MILLISECOND, SECOND, Clock, monotonic_clock
from headgate.quota.balance import FOREVER, Balance, Verb
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Granted,
    Look,
    NotYet,
    Outcome,
    Place,
    Refusal,
    Refused,
    Reserve,
)
from headgate.quota.holds import brought
from headgate.stores.contract import Store

LONGEST = SECOND
"""How long (microseconds) a refusal is repeated at most: the limit may be raised, or usage taken back, elsewhere."""

BRIEF = 100 * MILLISECOND
"""How long it is repeated where only holds stand in the way: ten questions a second for each subject."""

ASKING = 50 * MILLISECOND
"""How much longer at most, while the first who sees it run out asks again: a thousand who wait for the same answer
need not all ask for it. Never past the instant at which the refusal might no longer hold."""

MOST = 10_000
"""Refusals that are remembered, about 500 bytes each. One more and the oldest is forgotten: a question more."""

SAID = 30_000
"""Reservations whose ids are remembered at least (twice as many at most), about 150 bytes each: some seconds of a
busy worker. One that is said again may have been granted, whatever has been refused since."""


class Remembered(NamedTuple):
    """What the store said of one place: that it refused `need` units of `verb`, and until when that is repeated.

    By this machine's clock: when it was `asked`, until when (`until`) it is repeated, and when it `ends` by what the
    store has said. `demands`, `answer`: all that was asked with it, and the whole answer.
    """

    verb: Verb
    need: int
    refusal: Refusal
    balance: Balance | None
    asked: int
    until: int
    ends: int
    demands: tuple[Demand, ...]
    answer: Refused


class RefusalsStore:
    """A store that gives a refusal again by itself. Everything else is left to the store behind it, unchanged.

    `clock`: this machine's monotonic clock, microseconds. A call that brings its own `now` is passed on as it is.

    >>> import asyncio
    >>> from headgate.quota.window import Total
    >>> from headgate.stores.memory import MemoryStore
    >>> store = RefusalsStore(MemoryStore())
    >>> full = (Demand((b"acme", "life"), Total(1), 1),)
    >>> ask = lambda rid: asyncio.run(store.transact((Reserve(rid, full, 1_000),)))[0]
    >>> [type(ask(rid)).__name__ for rid in (b"1", b"2", b"3", b"4")], store.repeated
    (['Granted', 'Refused', 'Refused', 'Refused'], 2)
    """

    def __init__(self, inner: Store, *, clock: Clock = monotonic_clock) -> None:
        self.repeated = 0
        """How many reservations were refused here."""
        self.immediate, self.punctual, self.deadline = inner.immediate, inner.punctual, inner.deadline
        self._inner = inner
        self._clock = clock
        self._remembered: dict[Place, Remembered] = {}
        self._said: dict[bytes, None] = {}
        self._said_before: dict[bytes, None] = {}
        self._freed: dict[Place, int] = {}
        self._frees = self._frees_forgotten = 0

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        """Apply the commands, in order; reservations that are certain to be refused do not reach the store.

        Raises StoreError as the store behind it does.
        """
        if now is not None:
            return await self._inner.transact(commands, now)
        if len(commands) != 1 or type(commands[0]) is not Reserve:
            return await self._in_order(commands)
        command, at, frees = commands[0], self._clock(), self._frees
        refused = self._refused(command, at)
        if refused is not None:
            return [refused]
        outcomes = await self._inner.transact(commands)
        if self._remembered or type(outcomes[0]) is Refused:
            self._learn(command, outcomes[0], at, frees)
        return outcomes

    async def close(self) -> None:
        """Close the store behind it; what is remembered runs out by itself."""
        await self._inner.close()

    async def _in_order(self, commands: Sequence[Command]) -> list[Outcome]:
        """Several commands, or one that is no reservation: what gives something back counts for what follows it."""
        at = self._clock()
        refused: dict[int, Outcome] = {}
        asked: list[Command] = []
        for n, command in enumerate(commands):
            if isinstance(command, Reserve):
                answer = self._refused(command, at)
                if answer is not None:
                    refused[n] = answer
                    continue
            else:
                self._free(command)
            asked.append(command)
        if not asked:
            return list(refused.values())
        frees = self._frees
        try:
            outcomes = await self._inner.transact(asked)
        finally:
            # Once more: others may have asked before it was applied, and been refused for it.
            for command in asked:
                self._free(command)
        for command, outcome in zip(asked, outcomes, strict=True):
            self._learn(command, outcome, at, frees)
        answers = iter(outcomes)
        return [refused[n] if n in refused else next(answers) for n in range(len(commands))]

    def _refused(self, command: Reserve, at: int) -> Refused | None:
        """The refusal of a reservation that is certain to be refused; any other is going to be said to the store."""
        rid, demands, _ = command
        remembered = self._remembered
        if remembered and rid not in self._said and rid not in self._said_before:
            for demand in demands:
                found = remembered.get(demand[0])
                if found is not None and _refusable(demand) and self._holds(found, demand, at):
                    self.repeated += 1
                    return self._again(demands, at)
        self._say(rid)
        return None

    def _say(self, rid: bytes) -> None:
        self._said[rid] = None
        if len(self._said) >= SAID:
            self._said_before, self._said = self._said, {}

    def _holds(self, found: Remembered, demand: Demand, at: int) -> bool:
        """Whether what is remembered of the demand's place refuses it. The first who sees it run out asks again."""
        if at < found.until:
            return _covers(found, demand)
        if at < found.ends and _covers(found, demand):
            longer = min(at + ASKING, found.ends)
            self._remembered[demand[0]] = found._replace(until=longer, ends=longer)
        else:
            self._remembered.pop(demand[0], None)  # another loop's thread may have been here
        return False

    def _again(self, demands: tuple[Demand, ...], at: int) -> Refused:
        """The whole answer, at the instant which it is for the store by now; unknown balances are None."""
        refusals: list[Refusal] = []
        balances: list[Balance | None] = []
        same: Refused | None = None
        now = 0
        for demand in demands:
            found = self._remembered.get(demand[0])
            if found is None or found.until <= at:
                balances.append(None)
                continue
            if _covers(found, demand) and _refusable(demand):
                refusals.append(found.refusal)
            balances.append(found.balance)
            now = max(now, found.answer.now + at - found.asked)
            if found.demands is demands or found.demands == demands:
                same = found.answer
        if same is not None:
            balances = [same.balances[n] if known is None else known for n, known in enumerate(balances)]
        return Refused(now, tuple(refusals), tuple(balances), same.shadowed if same is not None else ())

    def _learn(self, command: Command, outcome: Outcome, asked: int, frees: int) -> None:
        """What the store's answer to a reservation tells of the places that it names."""
        if isinstance(command, Reserve) and isinstance(outcome, Refused):
            self._keep(command.demands, outcome, asked, frees)
        elif isinstance(command, Reserve) and isinstance(outcome, Granted):
            for demand in command.demands:
                found = self._remembered.get(demand[0])
                if found is not None and _covers(found, demand) and _refusable(demand):
                    self._remembered.pop(demand[0], None)

    def _keep(self, demands: tuple[Demand, ...], answer: Refused, asked: int, frees: int) -> None:
        """Remember a refusal at each place that refused, unless something was given back there meanwhile."""
        if frees < self._frees_forgotten:
            return
        by_limit = {refusal.limit: refusal for refusal in answer.refusals}
        for demand, balance in zip(demands, answer.balances, strict=True):
            place, verb, amount, hold, _, _, things, _ = demand
            refusal = by_limit.get(place[1])
            if refusal is None or things or not _refusable(demand) or self._freed.get(place, 0) > frees:
                continue
            need = amount or 1 if hold else amount
            standing, holds = brought(balance, verb, answer.now)
            left = verb.free(standing)
            if need <= left - (holds.held if holds is not None else 0):
                continue  # a limit of that name refused at another place
            most = BRIEF if need <= left else LONGEST
            ends = asked + (refusal.at - answer.now if isinstance(refusal, NotYet) else FOREVER)
            until = min(ends, asked + most)
            self._make_room(asked)
            self._remembered[place] = Remembered(verb, need, refusal, balance, asked, until, ends, demands, answer)

    def _make_room(self, at: int) -> None:
        """Forgets two that have run out for each one that comes, and the oldest of too many."""
        remembered = self._remembered
        for _ in range(2):
            try:
                oldest, found = next(iter(remembered.items()))
            except (StopIteration, RuntimeError):
                return  # there is none, or another loop's thread is at it
            if found.until + ASKING > at and len(remembered) < MOST:
                return
            remembered.pop(oldest, None)

    def _free(self, command: Command) -> None:
        """Forget what a command may make untrue: it gives something back, or moves it."""
        if isinstance(command, Reserve | Look):
            return
        if isinstance(command, Cancel):
            self._say(command.rid)  # a reservation that comes after it is gone, and not refused
        self._frees += 1
        for demand in command.demands:
            self._remembered.pop(demand[0], None)
            self._freed[demand[0]] = self._frees
        if len(self._freed) > MOST:
            # What was asked before this cannot be told from what was given back: nothing of it is remembered.
            self._freed.clear()
            self._frees_forgotten = self._frees


def _refusable(demand: Demand) -> bool:
    """Whether a demand may refuse at all: not in shadow, and not where it is charged whatever is left."""
    return not (demand[4] or demand[7])


def _covers(found: Remembered, demand: Demand) -> bool:
    """Whether a demand needs at least what was refused, of the same window and amount."""
    _, verb, amount, hold, _, _, things, _ = demand
    if things:
        return False  # which of them are new, only the store knows: those that are not need nothing
    # As the ledger has it: what is held needs one free unit at least.
    need = amount or 1 if hold else amount
    return need >= found.need and (verb is found.verb or verb == found.verb)
