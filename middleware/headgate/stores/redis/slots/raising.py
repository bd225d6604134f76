"""How a group is raised to what its orgs have used where their places lie in several slots, or are many.

Law: nothing is on its way. The sources are read, slot by slot; what they are together is worked out here, by the
ledger's own rules; the group is raised to it by one command, and only then do the sources learn of holds that were
copied. Whatever of this is lost is said again by the next join, and comes to the same: a raise is a maximum.

What the slots are asked for is read at several instants. The group is looked at last and raised later still, so that
what is charged meanwhile is charged there already. What is given back meanwhile (a cancellation, a settlement that is
told to its two places one after the other) may be counted by the raise all the same: too much, by what was under way
in that moment, and never too little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import sleep
from typing import Any

from headgate.errors import StoreError
from headgate.quota.balance import Balance
from headgate.quota.command import Demand, Join, Place, Settled
from headgate.quota.holds import summed
from headgate.quota.join import gathered, other_window, raised
from headgate.quota.things import Things
from headgate.stores.redis.script.parcel import Lift, Show, Tie
from headgate.stores.redis.wire.asking import Ask, Said, each, gravest

WHOLE = 16
"""On one server so many sources are read and summed by one command, half a millisecond of it. Sketches never are: to
unite two takes it three milliseconds."""

PIECE = 32
"""Places that are asked about at a time: about 12 kB of answers, less than a millisecond of a server."""

SKETCHES = 8
"""The same where sketches may lie: 115 kB of answers where each is one of thousands."""

MUCH = 64
"""Sources from which on they are summed in a thread, so that the event loop goes on meanwhile; those with sketches
always, for to unite two takes about a millisecond."""

TURN = 0.0005
"""Seconds that a thread which unites sketches leaves to the event loop before each."""


def in_pieces(command: object) -> bool:
    """Whether a join is too large for one command, even where all its places lie together."""
    return type(command) is Join and (command.into.hold or len(command.sources) > WHOLE)


class Raising:
    """Joins, for one event loop."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def join(self, command: Join, now: int | None) -> Settled:
        """Raise the group. Raises StoreError; then some of it may have been done, and all may be repeated."""
        into, sources = command
        piece = SKETCHES if into.hold else PIECE
        answers = await self._in_pieces([Show(source) for source in sources], piece, now)
        answers += await self._said([Show(into)], now)
        shown = dict(zip([source.place for source in (*sources, into)], answers, strict=True))
        balances = {place: one.balance for place, one in shown.items() if one.balance is not None}
        sketches = {place: one.things for place, one in shown.items() if one.things is not None}
        latest = max([one.now for one in shown.values()])
        if sketches or len(sources) > MUCH:
            lift, ties = await asyncio.to_thread(_steps, command, balances, _InTurn(sketches), latest)
        else:
            lift, ties = _steps(command, balances, sketches, latest)
        if lift is not None:
            [told] = await self._said([lift], now)
            balances[into.place], latest = told.balances[0], max(latest, told.now)
        for tie, told in zip(ties, await self._in_pieces(ties, piece, now), strict=True):
            balances[tie.source.place], latest = told.balances[0], max(latest, told.now)
        return Settled(latest, tuple([balances.get(demand.place) for demand in command.demands]))

    async def _in_pieces(self, commands: Sequence[Said], many: int, now: int | None) -> list[Any]:
        """The answers, asked for `many` at a time: others have their turn between them."""
        answers: list[Any] = []
        for at in range(0, len(commands), many):
            answers += await self._said(commands[at : at + many], now)
        return answers

    async def _said(self, commands: Sequence[Said], now: int | None) -> list[Any]:
        answers = await each(self._ask, commands, now)
        faults = [answer for answer in answers if isinstance(answer, BaseException)]
        if faults:
            fault = gravest(faults)
            if isinstance(fault, StoreError):
                raise StoreError(str(fault), transient=fault.transient, unknown=True) from fault
            raise fault
        return answers


class _InTurn(dict[Place, Things]):
    """Sketches that are read in a thread, which lets the event loop have the interpreter before each: it need not
    wait for more than one union then. By itself the interpreter changes hands every five milliseconds."""

    def get(self, place: Place, default: Any = None) -> Any:
        """The sketch at a place."""
        found = super().get(place, default)
        if found is not None:
            sleep(TURN)
        return found


def _steps(
    command: Join, balances: dict[Place, Balance], sketches: dict[Place, Things], now: int
) -> tuple[Lift | None, list[Tie]]:
    """What is to be said to the group's slot, and then to those of sources."""
    into, verb = command.into, command.into.verb
    found = gathered(balances, command, now, sketches)
    written: dict[Place, Balance] = {}
    copied = raised(into.place, verb, balances.get(into.place), found, now, sketches, written, {})
    lift = None
    if written:
        together = verb.put(found.standing, 0, summed(found.holds, now), now)
        lift = Lift(into, together, found.things)
    ties = []
    for place, (balance, standing, holds) in found.sources.items():
        by_rid = holds.by_rid if holds is not None else {}
        rids = tuple([rid for rid in copied if rid in by_rid and not by_rid[rid].gone])
        if rids or (standing[0] and other_window(balance, verb)):
            ties.append(Tie(Demand(place, verb, 0), into.place, rids))
    return lift, ties
