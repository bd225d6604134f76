"""How the stories of the store contract are told: one fresh store, one clock, and short words for what is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any

from headgate.clock import SECOND
from headgate.quota.balance import Balance, Verb
from headgate.quota.command import Command, Demand, Granted, Look, Outcome, Reserve, Settle
from headgate.quota.things import SIZE
from headgate.stores.contract import Store
from headgate.testing.clock import ManualClock

LEASE = 60 * SECOND

Story = Callable[[Any, Store, ManualClock], Awaitable[None]]


class Stories:
    """Stories about a store that the subclass makes."""

    def make_store(self, clock: ManualClock) -> Store:
        """A fresh, empty store that reads this clock; called once for every story, many times in a test."""
        raise NotImplementedError("say how a store is made")

    def make_peer(self, store: Store, clock: ManualClock) -> Store | None:
        """Another worker's store over the same balances; None if this kind of store is not shared."""
        return None


def told(story: Story) -> Callable[[Any], None]:
    """Makes a test of a story about one fresh store and its clock."""

    def test(self: Any) -> None:
        async def from_begin_to_end() -> None:
            clock = ManualClock()
            store = self.make_store(clock)
            try:
                await story(self, store, clock)
            finally:
                await store.close()

        asyncio.run(from_begin_to_end())

    test.__name__, test.__qualname__, test.__doc__ = story.__name__, story.__qualname__, story.__doc__
    return test


def on(limit: str, verb: Verb, amount: int = 1, *, who: bytes = b"acme", hold: bool = False) -> Demand:
    """A demand of one subject."""
    return Demand((who, limit), verb, amount, hold=hold)


def thing(number: int) -> bytes:
    """One of endlessly many different things, as it is counted."""
    return blake2b(b"%d" % number, digest_size=SIZE).digest()


def naming(demand: Demand, *numbers: int, amount: int = 0) -> Demand:
    """The demand, held, with the things of these numbers."""
    return demand._replace(amount=amount, hold=True, things=tuple([thing(number) for number in numbers]))


async def answer(store: Store, command: Command) -> Outcome:
    """The outcome of one command."""
    [outcome] = await store.transact((command,))
    return outcome


async def ask(store: Store, rid: bytes, *demands: Demand) -> Outcome:
    """A reservation's outcome."""
    return await answer(store, Reserve(rid, demands, LEASE))


async def taken(store: Store, rid: bytes, *demands: Demand) -> Outcome:
    """What becomes of demands that are reserved and settled as they were asked: the reservation's outcome."""
    outcome = await ask(store, rid, *demands)
    if isinstance(outcome, Granted):
        await answer(store, Settle(rid, demands))
    return outcome


async def standing(store: Store, demand: Demand) -> Balance | None:
    """The balance as a look sees it."""
    seen: Any = await answer(store, Look((demand,)))
    [balance] = seen.balances
    return balance  # type: ignore[no-any-return]


async def used(store: Store, demand: Demand) -> int:
    """Units that a look sees as used, of a verb whose balance counts units."""
    balance = await standing(store, demand)
    return balance.used if balance is not None else 0


async def held(store: Store, demand: Demand) -> int:
    """Units that a look sees as held."""
    balance = await standing(store, demand)
    return balance.holds.held if balance is not None and balance.holds is not None else 0


async def granted(store: Store, demand: Demand, tries: int, name: bytes = b"try") -> int:
    """How many of so many reservations, one after the other, are granted."""
    outcomes = [await ask(store, b"%s-%d" % (name, n), demand) for n in range(tries)]
    return sum(isinstance(outcome, Granted) for outcome in outcomes)
