"""Who looks after the slices at the store: asks for the next, renews, settles, and says again what was not answered.

Law: no caller waits for what is done here, but for its own command and what travels with it. Whatever fails is as if
the worst had happened, and is made good later. A slice that nobody settles ends with its lease, at all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from headgate.clock import Clock
from headgate.errors import StoreError
from headgate.quota.balance import FOREVER
from headgate.quota.command import Cancel, Demand
from headgate.stores.contract import Store
from headgate.stores.slices.errands import Charging, Errand, Filling, Growing, Opening, Settling, Undoing
from headgate.stores.slices.holdings import Debt, Holdings
from headgate.stores.slices.reservations import Reservations
from headgate.stores.slices.slice import Spot

MOVES = 4
"""How many merges of its subject's groups a slice may outlive and still be found; then its lease settles it."""

PINNED = 4
"""How many slices of a place may wait for reservations that are still open. What they have spent does not run out of
a window before they are settled; while there are more, the store decides each request."""

ROUND = 0.25
"""How often (seconds) it is looked for slices whose time is over: well within the last tenth of their lease."""

PAUSE = 1.0
"""How long (seconds) the store is left alone, behind the requests, when it has not answered."""

BATCH = 32
"""Commands in one call, behind the requests: they must not keep a caller's waiting."""


class Keeper:
    """Speaks to the store for one worker."""

    def __init__(
        self,
        inner: Store,
        holdings: Holdings,
        reservations: Reservations,
        clock: Clock,
        new_id: Callable[[], bytes],
    ) -> None:
        self._inner, self._holdings, self._reservations = inner, holdings, reservations
        self._clock, self._new_id = clock, new_id
        self._watching: asyncio.Task[None] | None = None
        self._filling: set[asyncio.Task[None]] = set()

    async def run(self, errands: Sequence[Errand], now: int | None = None) -> None:
        """Says the commands of all errands in one call; what a merge has moved is said again where it is now.

        Raises StoreError where the errands themselves were not answered; then all of them know it."""
        for turn in range(MOVES):
            if not errands:
                return
            sent = self._clock()
            try:
                outcomes = await self._inner.transact([errand.command for errand in errands], now)
            except BaseException as fault:
                _lost(errands, unknown=not isinstance(fault, StoreError) or fault.unknown)
                self._watch()
                if turn and isinstance(fault, StoreError):
                    return  # what was asked was answered before: only what was moved is missing
                raise
            if now is None:
                self._holdings.ahead = outcomes[-1].now - self._clock()
            onward = []
            for errand, outcome in zip(errands, outcomes, strict=True):
                if errand.again(outcome):
                    onward.append(errand)
                else:
                    errand.answered(outcome, sent)
            errands = onward
            self._watch()
        _lost(errands, unknown=True)

    def settling(self) -> list[Errand]:
        """What has come due by now: slices to be settled, and what was settled beyond others."""
        due, debts = self._holdings.due, self._holdings.debts
        errands: list[Errand] = [Settling(self._holdings, slice) for slice in due]
        for demand in debts:
            errands += self._charging(Debt(self._new_id(), demand))
        due.clear()
        debts.clear()
        return errands

    def _charging(self, debt: Debt) -> tuple[Errand, Errand]:
        opening = Opening(debt)
        return opening, Charging(self._holdings, debt, opening)

    def undo(self, command: Cancel) -> None:
        """What may be held or used though nobody was told so: it is given back as soon as the store can be told."""
        self._holdings.undo(command)
        self._watch()

    def filling(self, spot: Spot, demand: Demand) -> Errand:
        """A slice that is to be asked for."""
        return Filling(self._holdings, spot, demand, self._new_id())

    def fill_ahead(self) -> None:
        """Asks for the next slice while there is something left of the last one, so that nobody waits for it."""
        holdings, at = self._holdings, self._clock()
        low, holdings.low = holdings.low, []
        if self._inner.immediate:
            return  # nobody waits for it anyhow
        errands: list[Errand] = []
        for slice in low:
            spot = holdings.spots.get(slice.place)
            if spot is not None and spot.live is slice and not spot.filling and worth(spot, at):
                place, verb, units, *_ = slice.demand
                errands.append(self.filling(spot, Demand(place, verb, 0, slice=units)))
        if errands:
            task = asyncio.get_running_loop().create_task(self._filled(errands))
            self._filling.add(task)
            task.add_done_callback(lambda task: self._gone(task, errands))

    async def _filled(self, errands: list[Errand]) -> None:
        with suppress(StoreError):  # whoever finds nothing left asks the store
            await self.run(errands)
            await self.run(self.settling())

    def _gone(self, task: asyncio.Task[None], errands: list[Errand]) -> None:
        self._filling.discard(task)
        if task.cancelled():
            _lost(errands, unknown=True)  # perhaps before it had begun

    async def tidy(self) -> None:
        """Settles the slices whose time is over, renews those that are needed longer, says again what is owed.

        Raises StoreError if the store does not answer; then it is tried again at the next time."""
        holdings, at = self._holdings, self._clock()
        self._reservations.lapse(at)
        errands: list[Errand] = [Growing(slice) for slice in holdings.outdated(at)]
        slices, debts, cancels = holdings.owed(at)
        errands += [Settling(holdings, slice) for slice in slices]
        for debt in debts:
            errands += self._charging(debt)
        errands += [Undoing(holdings, command) for command in cancels]
        errands += self.settling()
        for first in range(0, len(errands), BATCH):
            try:
                await self.run(errands[first : first + BATCH])
            except BaseException:
                _lost(errands[first + BATCH :], unknown=False)
                raise

    async def end(self) -> None:
        """Settles everything. What reservations still hold is charged as held, as the end of a lease would."""
        await self._at_rest()
        self._reservations.lapse(FOREVER)
        for spot in self._holdings.spots.values():
            self._holdings.retire(spot)
        with suppress(StoreError):  # then the leases settle them
            await self.tidy()
        await self._at_rest()

    async def _at_rest(self) -> None:
        loop, watching, self._watching = asyncio.get_running_loop(), self._watching, None
        if watching is not None and watching.get_loop() is loop:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await asyncio.gather(*[task for task in self._filling if task.get_loop() is loop], return_exceptions=True)

    def _watch(self) -> None:
        """See to it that somebody looks after the slices, if there are any."""
        if self._holdings.empty:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # driven by hand: so is `tidy`
        if self._watching is None or self._watching.done() or self._watching.get_loop() is not loop:
            self._watching = loop.create_task(self._look_after())

    async def _look_after(self) -> None:
        pause = ROUND
        while not self._holdings.empty:
            await asyncio.sleep(pause)
            try:
                await self.tidy()
                pause = ROUND
            except StoreError:
                pause = PAUSE


def worth(spot: Spot, at: int) -> bool:
    """Whether a slice may be asked for at a place."""
    return not spot.near and at >= spot.quiet and len(spot.pinned) < PINNED


def _lost(errands: Sequence[Errand], *, unknown: bool) -> None:
    for errand in errands:
        errand.lost(unknown)
