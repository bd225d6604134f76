"""A store in front of a store, which spends what it has charged there beforehand.

Law: what it grants by itself was held at the store before, so that no limit is ever passed, whatever happens to this
worker; what it cannot grant it asks the store, whole, and tells the same answer. It refuses nobody by itself: before
a caller is told no, what this worker holds unspent of the limits that refused is given back, and it is asked again.

A slice is taken where requests come one after the other and enough is left; it is spent for a few seconds and then
settled at what was spent. If the worker dies, the slice's lease ends and charges all of it: the safe direction. What
is held for open reservations is kept as long as they last, with the slice renewed at the store.

Not promised: balances and instants beside a grant are this worker's view, the store's last word and what was spent
here since. For one event loop at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakSet

from headgate.clock import SECOND, Clock, monotonic_clock
from headgate.errors import StoreError
from headgate.ids import new_id
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Extend,
    Gone,
    Granted,
    Join,
    Merge,
    Never,
    Outcome,
    Refused,
    Reserve,
    Seen,
    Settle,
)
from headgate.quota.ledger import REPEAT
from headgate.stores.contract import Store
from headgate.stores.slices.errands import LEASE, Errand, Growing, Passed
from headgate.stores.slices.holdings import Holdings
from headgate.stores.slices.keeper import Keeper, worth
from headgate.stores.slices.reservations import ASKED, Reservations
from headgate.stores.slices.slice import Slice, Spot, told


class Grown(NamedTuple):
    """An extension that waits for slices to grow."""

    command: Extend
    growing: list[Growing]


Answer = Outcome | Passed | Grown

_OF_ONE_RESERVATION = (Reserve, Extend, Settle)


class SlicedStore:
    """A store whose demands with a `slice` are mostly answered without asking.

    `clock`: this machine's monotonic clock, microseconds; it measures leases, and nothing else. `new_id` makes the
    ids under which slices are held. A call that brings its own `now` is decided by the store alone.

    >>> import asyncio
    >>> from headgate.quota.command import Look
    >>> from headgate.quota.window import Total
    >>> from headgate.stores.memory import MemoryStore
    >>> inner = MemoryStore()
    >>> store = SlicedStore(inner)
    >>> asked = (Demand((b"acme", "life"), Total(1_000), 1, slice=10),)
    >>> async def story():
    ...     outcomes = [(await store.transact((Reserve(b"%d" % n, asked, 0),)))[0] for n in range(8)]
    ...     [seen] = await inner.transact([Look(asked)])
    ...     left = outcomes[-1].balances[0].used, seen.balances[0].used, seen.balances[0].holds.held
    ...     await store.close()
    ...     [seen] = await inner.transact([Look(asked)])
    ...     return left, (seen.balances[0].used, seen.balances[0].holds), store.granted
    >>> asyncio.run(story())
    ((8, 2, 10), (8, None), 6)
    """

    def __init__(self, inner: Store, *, clock: Clock = monotonic_clock, new_id: Callable[[], bytes] = new_id) -> None:
        self.granted = 0
        """How many reservations were granted here."""
        self.immediate, self.punctual, self.deadline = inner.immediate, inner.punctual, inner.deadline
        self._inner = inner
        self._clock = clock
        self._new_id = new_id
        self._begin()
        _stores.add(self)

    def _begin(self) -> None:
        self._holdings = Holdings()
        self._reservations = Reservations(self._holdings)
        self._keeper = Keeper(self._inner, self._holdings, self._reservations, self._clock, self._new_id)

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        """Apply the commands, in order. Never waits where slices cover all that is asked.

        Raises StoreError as the store behind it does.
        """
        if len(commands) == 1 and now is None:
            command = commands[0]
            if type(command) is Reserve and command[1] and command[1][0][5]:
                outcome = self._reservations.granted(command, self._clock())
                if outcome is not None:
                    self.granted += 1
                    if self._holdings.low:
                        self._keeper.fill_ahead()
                    return [outcome]
            elif isinstance(command, _OF_ONE_RESERVATION) and self._unconcerned(command):
                # The short way, of all that a policy without slices asks: `_asked` would do the same at length.
                asked = self._clock()
                outcomes = await self._inner.transact(commands)
                if type(outcomes[0]) is Refused and type(command) is Reserve and self._holdings.spots:
                    # Slices may have been taken there meanwhile.
                    return [await self._before_refusing(command, outcomes[0], asked) or outcomes[0]]
                return outcomes
        return await self._asked(commands, now)

    async def tidy(self) -> None:
        """Settle the slices whose time is over, and renew those that are needed longer.

        Done by itself, four times a second, where an event loop runs and there are any.

        Raises StoreError if the store does not answer; then it is tried again at the next time.
        """
        await self._keeper.tidy()

    async def close(self) -> None:
        """Settle every slice, then close the store behind it. What reservations still hold is charged as held."""
        await self._keeper.end()
        await self._inner.close()

    def _unconcerned(self, command: Reserve | Extend | Settle) -> bool:
        """Whether slices have nothing to do with a command: no demand may have one, none is known at its places, and
        nothing was granted here under its id. A reservation's id is the store's from now on."""
        spots, reservations, rid = self._holdings.spots, self._reservations, command[0]
        for demand in command[1]:
            if demand[5] or (spots and demand[0] in spots):
                return False
        note = reservations.noted(rid)
        if note is None and type(command) is Reserve:
            reservations.note(rid, ASKED)
        return note is None or note is ASKED

    async def _asked(self, commands: Sequence[Command], now: int | None) -> list[Outcome]:
        errands: list[Errand] = []
        at = self._clock()
        rids = [getattr(command, "rid", None) for command in commands]
        answers: list[Answer] = []
        for command in commands:
            if isinstance(command, Reserve):
                # What is said of it later in the call comes too soon for it to be asked twice.
                once = len(rids) > 1 and rids.count(command.rid) > 1
                answers.append(self._reserve(command, errands, at, alone=now is not None or once))
            else:
                answers.append(self._said(command, errands, at))
        try:
            await self._keeper.run(errands, now)
        except StoreError as fault:
            # Only slices were to be settled, behind commands that were answered here: that is owed, not failed.
            if any(isinstance(errand, Passed | Growing) for errand in errands):
                if not fault.unknown and not all(isinstance(answer, Passed | Grown) for answer in answers):
                    # Some of it was done here, and whoever asked must know that it may have been.
                    raise StoreError(str(fault), transient=fault.transient, unknown=True) from fault
                raise
        return [await self._heard(answer, at) for answer in answers]

    def _said(self, command: Command, errands: list[Errand], at: int) -> Answer:
        """The answer to a command, if it is known here; else what will have it once the errands are run."""
        reservations = self._reservations
        answer: Outcome | None = None
        if isinstance(command, Settle):
            answer = reservations.settled(command, at)
        elif isinstance(command, Cancel):
            answer = reservations.cancelled(command, at)
            if answer is None:
                reservations.note(command.rid, ASKED)  # a reservation that comes after it is the store's to refuse
        elif isinstance(command, Extend):
            extended = reservations.extended(command, at)
            if isinstance(extended, list):
                return self._grow(command, extended, errands)
            answer = extended
        elif isinstance(command, Merge | Join):
            for demand in command.demands:
                self._retire(demand)
        errands += self._keeper.settling()
        return self._pass(command, errands) if answer is None else answer

    def _pass(self, command: Command, errands: list[Errand], *, fresh: bool = False) -> Passed:
        spots = [self._holdings.spots.get(demand.place) for demand in command.demands]
        passed = Passed(command, tuple([list(spot.mine) if spot is not None else [] for spot in spots]), fresh)
        errands.append(passed)
        return passed

    def _retire(self, demand: Demand) -> None:
        """Give nothing away any more from the slice at a demand's place; it is settled by the demand's window."""
        spot = self._holdings.spots.get(demand.place)
        if spot is not None and spot.live is not None:
            if demand.verb.kind == spot.live.verb.kind:
                spot.live.demand = spot.live.demand._replace(verb=demand.verb)
            self._holdings.retire(spot)

    # A reservation.

    def _reserve(self, command: Reserve, errands: list[Errand], at: int, *, alone: bool) -> Answer:
        """`alone`: the store decides, without slices."""
        reservations = self._reservations
        rid, demands, lease = command
        if reservations.noted(rid) is not None:
            return reservations.repeated(command, at) or self._pass(command, errands)
        wanted: list[tuple[Spot, Demand]] = []
        if alone:
            for demand in demands:
                self._retire(demand)
        else:
            plan = reservations.covered(demands)
            granted = reservations.take(rid, plan, lease, at) if plan is not None else None
            if granted is not None:
                self.granted += 1
                return granted
            wanted = self._wanted(demands, at)
        reservations.note(rid, ASKED)
        errands += self._keeper.settling()
        passed = self._pass(command, errands, fresh=not alone)
        # After the caller's: what is left goes to callers first.
        errands += [self._keeper.filling(spot, demand) for spot, demand in wanted]
        return passed

    def _wanted(self, demands: tuple[Demand, ...], at: int) -> list[tuple[Spot, Demand]]:
        """The places at which a slice is to be asked for; none if that would not spare the next request the store.

        Slices that cannot be spent any more are retired on the way."""
        wanted: list[tuple[Spot, Demand]] = []
        useful = True
        for demand in demands:
            place, verb, amount, hold, _, units, _, owed = demand
            need = amount or 1 if hold else amount
            able = units >= need and units > 0 and not owed  # what a slice holds must have been free
            spot = self._holdings.spot(place) if able else self._holdings.spots.get(place)
            if spot is None:
                useful = False
                continue
            live = spot.live
            if live is not None and (live.verb != verb or at >= live.until or (able and live.rest < need)):
                self._retire(demand)
            # What comes once in a while is not worth it: a slice that is taken has to be settled, too.
            often, spot.asked = at - spot.asked < LEASE, at
            if spot.live is not None or spot.filling:
                continue
            wanted.append((spot, demand))
            useful &= able and often and worth(spot, at)
        return wanted if useful else []

    async def _heard(self, answer: Answer, asked: int) -> Outcome:
        """What a caller is told, once the store has answered what was asked at the local instant `asked`."""
        if isinstance(answer, Grown):
            return self._grown(answer)
        if not isinstance(answer, Passed):
            return answer
        command, outcome = answer.command, answer.outcome
        if isinstance(command, Reserve) and isinstance(outcome, Granted | Refused):
            for demand, balance in zip(command.demands, outcome.balances, strict=True):
                spot = self._holdings.spots.get(demand.place) if demand.slice else None
                if spot is not None:
                    spot.look(demand, balance, outcome.now)
            if answer.fresh and isinstance(outcome, Refused):
                return await self._before_refusing(command, outcome, asked) or self._seen(answer)
        return self._seen(answer)

    async def _before_refusing(self, command: Reserve, refused: Refused, asked: int) -> Outcome | None:
        """Gives back what is unspent here of the limits that refused, and asks again; None if that is nothing, or is
        not answered by the deadline: refused it was, and what may have been granted since is undone behind us."""
        if any(isinstance(refusal, Never) for refusal in refused.refusals):
            return None  # what is held has no part in it
        reservations, at = self._reservations, self._clock()
        plan = reservations.covered(command.demands)
        granted = reservations.take(command.rid, plan, command.lease, at) if plan is not None else None
        if granted is not None:  # a slice has come meanwhile
            self.granted += 1
            return granted
        refusing = {refusal.limit for refusal in refused.refusals}
        for demand in command.demands:
            spot = self._holdings.spots.get(demand.place)
            if demand.place[1] in refusing and spot is not None and spot.live is not None and spot.live.rest > 0:
                self._retire(demand)
        errands: list[Errand] = []
        errands += self._keeper.settling()
        if not errands:
            return None
        passed = self._pass(command, errands)
        try:
            async with asyncio.timeout(self._left(asked)):
                await self._keeper.run(errands)
        except (StoreError, TimeoutError) as fault:
            if getattr(fault, "unknown", True):
                self._keeper.undo(Cancel(command.rid, command.demands, REPEAT))
            return None
        return self._seen(passed)

    def _left(self, asked: int) -> float | None:
        """Seconds until a caller's time is over who asked at a local instant; None where somebody else sees to it."""
        if not self.punctual or not self.deadline:
            return None
        return max(0.0, self.deadline - (self._clock() - asked) / SECOND)

    def _seen(self, passed: Passed) -> Outcome:
        """The store's answer with balances as a caller should see them: this worker's slices are its own to give."""
        outcome, command = passed.outcome, passed.command
        if isinstance(outcome, Gone) or not any(passed.mine):
            return outcome
        balances = [
            told(
                balance,
                d.verb,
                outcome.now,
                mine,
                self._reservations.lent(d.place) if isinstance(outcome, Seen) else None,
            )
            if mine
            else balance
            for d, balance, mine in zip(command.demands, outcome.balances, passed.mine, strict=True)
        ]
        return outcome._replace(balances=tuple(balances))

    # An extension of what is held here.

    def _grow(self, command: Extend, lacking: list[tuple[Slice, int]], errands: list[Errand]) -> Grown:
        for slice, _ in lacking:
            spot = self._holdings.spots.get(slice.place)
            if spot is not None and spot.live is not None and spot.live is not slice:
                self._holdings.retire(spot)  # what is unspent of it may be what is lacking
        errands += self._keeper.settling()
        growing = [Growing(slice, amount) for slice, amount in lacking]
        errands += growing
        return Grown(command, growing)

    def _grown(self, grown: Grown) -> Outcome:
        """The outcome of an extension once the slices have grown, or have not: then nothing is added."""
        told = [growing.outcome for growing in grown.growing if growing.outcome is not None]
        refused = [outcome for outcome in told if isinstance(outcome, Refused)]
        gone = [outcome for outcome in told if isinstance(outcome, Gone)]
        command, at = grown.command, self._clock()
        if not refused and not gone:
            answer = self._reservations.extended(command, at)
            # It was settled meanwhile, or time has stood still for longer than a lease.
            return answer if isinstance(answer, Granted | Gone) else Gone(at + self._holdings.ahead)
        if gone:
            return Gone(gone[0].now)
        refusals = tuple([refusal for outcome in refused for refusal in outcome.refusals])
        return Refused(refused[0].now, refusals, self._reservations.balances(command.demands))


_stores: WeakSet[SlicedStore] = WeakSet()


def _begin_anew() -> None:
    """A forked worker has its parent's memory: what that holds must not be spent by both."""
    for store in list(_stores):
        store._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
