"""P19: callers that give up at any moment get nobody else's answer, cost no connection, and are charged nothing."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from chaos.house import House, batches, house, policy, secret_of
from headgate.quota.command import Reserve
from headgate.quota.decision import reading
from headgate.quota.facts import Call
from headgate.testing.servers import Server
from servers.proxy import Faults, Proxy

CALLERS, AT_ONCE = 200, 100
APART = 10_000
"""How far the callers' counts lie apart: an answer that was another's shows at once."""

JITTER = 0.010
GIVE_UP = 0.030
"""Seconds within which a caller gives up: some before the server was asked, some after it has answered."""

IMPATIENT = 0.75
"""The share of those who give up if they are not answered by then."""

OWED = 1_000
"""Cancellations that may be owed before the next callers come."""


class Callers:
    """Orgs that each have used another amount before, and what each of them was told."""

    def __init__(self, one: House, lot: random.Random) -> None:
        self.one = one
        self.lot = lot
        self.secrets = [secret_of(f"caller-{n}", "total") for n in range(CALLERS)]
        self.asked: Counter[int] = Counter()
        self.served: Counter[int] = Counter()
        self.gave_up = 0

    async def begun(self) -> None:
        for n, secret in enumerate(self.secrets):
            total = (await self.one.demands(secret))[0]
            await self.one.gate.store.transact((Reserve(b"begin-%d" % n, (total.of(n * APART),), 0),))

    async def ask(self, n: int) -> None:
        principal = await self.one.principal(self.secrets[n])
        self.asked[n] += 1
        decision = await self.one.gate.admit(Call(principal, network=f"10.0.0.{n}"))
        assert decision.allowed, decision
        self.served[n] += 1
        told = reading(decision.demands[0], decision.balances[0], decision.now)
        assert n * APART < told.used <= n * APART + self.asked[n], "it is this caller's own"
        await self.one.gate.settle(decision, {})

    async def give_up(self, task: asyncio.Task[None]) -> None:
        await asyncio.sleep(self.lot.random() * GIVE_UP)
        task.cancel()

    async def round(self, many: int) -> None:
        calls = [asyncio.ensure_future(self.ask(self.lot.randrange(CALLERS))) for _ in range(many)]
        await asyncio.gather(*[self.give_up(call) for call in calls if self.lot.random() < IMPATIENT])
        for told in await asyncio.gather(*calls, return_exceptions=True):
            assert told is None or isinstance(told, asyncio.CancelledError), told
            self.gave_up += told is not None
        # Thousands a second are more than any store takes back behind its requests; ten seconds late is too late.
        while len(self.one.gate.resolver) > OWED:
            await asyncio.sleep(0.01)

    async def in_the_end(self) -> None:
        """When nothing is owed any more, each is charged what it was served."""
        await self.one.gate.resolver.idle()
        for n, secret in enumerate(self.secrets):
            found = await self.one.quiet(secret, f"10.0.0.{n}")
            assert found["total"][0] == n * APART + self.served[n]
            assert found["network"][0] == self.served[n]
            assert found["streams"] == (0, 0)


async def cancels(valkey: Server, folder: Path, calls: int, seed: int) -> None:
    file, lot = folder / "headgate.yaml", random.Random(seed)
    file.write_text(policy(1_000_000_000, network=1_000_000))
    async with Proxy(valkey.address, seed=seed) as proxy, house(proxy.url, file) as one:
        callers = Callers(one, lot)
        await callers.begun()
        proxy.faults = Faults(jitter=JITTER)
        for batch in batches(range(calls), AT_ONCE):
            await callers.round(len(batch))
        proxy.heal()
        await callers.in_the_end()
        assert callers.gave_up > calls / 10, "enough of them gave up while they waited"
        assert callers.served.total() > calls / 5, "and enough did not"
        assert proxy.accepted == 1, "no connection is given up for a caller that was"


def test_p19_five_thousand_callers_that_give_up_disturb_nobody(valkey: Server, tmp_path: Path) -> None:
    asyncio.run(cancels(valkey, tmp_path, 5_000, seed=19))


@pytest.mark.chaos
def test_p19_a_hundred_thousand_callers_that_give_up_disturb_nobody(valkey: Server, tmp_path: Path) -> None:
    asyncio.run(cancels(valkey, tmp_path, 100_000, seed=19))
