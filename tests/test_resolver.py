"""What a store still has to be told is said until it answers, a little at a time, and not for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

import pytest

from headgate import resolver as resolvers
from headgate.errors import StoreError
from headgate.quota.command import Cancel, Command, Demand, Merge, Outcome, Reserve, Settle
from headgate.quota.ledger import REPEAT
from headgate.quota.window import Total
from headgate.resolver import BATCH, BATCH_MOST, Resolver
from headgate.stores import MemoryStore

TOKENS = Demand((b"acme", "tokens"), Total(100_000), 10, hold=True)
LIFE = Demand((b"acme", "life"), Total(100_000), 1)


class Ailing:
    """A store that fails as often as it is told to, and keeps how many calls it had in each turn of the loop."""

    immediate, punctual, deadline = False, True, 0.02

    def __init__(self, failures: int = 0, poison: bytes = b"-", fault: StoreError | None = None) -> None:
        self.there = MemoryStore()
        self.failures, self.poison = failures, poison
        self.fault = fault or StoreError("away", transient=True, unknown=True)
        self.turns: list[int] = []
        self.under_way = 0

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        if not self.under_way:
            self.turns.append(0)
        self.under_way += 1
        self.turns[-1] += len(commands)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.failures or any(getattr(command, "rid", b"") == self.poison for command in commands):
            self.failures = max(0, self.failures - 1)
            raise self.fault
        return await self.there.transact(commands, now)

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolvers, "PAUSES", (0.001, 0.001))


def told(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 10))


def logs(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == "headgate"]


async def counted(store: Ailing, demand: Demand) -> tuple[int, int]:
    from headgate.testing.story import held, used

    return await used(store.there, demand), await held(store.there, demand)


def test_what_a_store_did_not_answer_is_said_again_until_it_does() -> None:
    async def story() -> None:
        store = Ailing(failures=7)
        await store.there.transact([Reserve(b"r1", (TOKENS, LIFE), REPEAT), Reserve(b"r2", (TOKENS,), REPEAT)])
        resolver = Resolver(store, Random(1))
        resolver.owe(Cancel(b"r1", (TOKENS, LIFE), REPEAT), patience=60)
        resolver.owe(Settle(b"r2", (TOKENS.of(4),)), patience=60)
        await resolver.idle()
        assert await counted(store, TOKENS) == (4, 0)
        assert await counted(store, LIFE) == (0, 0)
        assert len(resolver) == 0

    told(story)


def test_a_store_that_comes_back_gets_little_at_first_and_more_with_each_answer() -> None:
    async def story() -> None:
        store = Ailing(failures=70)
        resolver = Resolver(store)
        for n in range(4_000):
            resolver.owe(Settle(b"%d" % n, (TOKENS,)), patience=60)
        await resolver.idle()
        assert sum(store.turns) == 4_070
        assert max(store.turns[:4]) <= BATCH, "while it fails, and when it comes back"
        assert max(store.turns) == BATCH_MOST

    told(story)


def test_one_lost_answer_repeats_no_other_command() -> None:
    async def story() -> None:
        store = Ailing(failures=1)
        resolver = Resolver(store)
        for n in range(BATCH):
            resolver.owe(Cancel(b"%d" % n, (LIFE,), REPEAT), patience=60)
        await resolver.idle()
        assert store.turns == [BATCH, 1]

    told(story)


@pytest.mark.parametrize("transient", [True, False])
def test_one_command_that_no_store_takes_keeps_nothing_else_back(
    transient: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        store = Ailing(poison=b"5", fault=StoreError("no", transient=transient))
        asked = [Reserve(b"%d" % n, (TOKENS,), REPEAT) for n in range(100)]
        await store.there.transact(asked)
        resolver = Resolver(store)
        for n in range(100):
            resolver.owe(Settle(b"%d" % n, (TOKENS.of(1),)), patience=60)
        while len(resolver) > 1 or (await counted(store, TOKENS))[0] < 99:
            await asyncio.sleep(0.001)
        assert await counted(store, TOKENS) == (99, 10)
        await resolver.close(patience=0.01)
        assert [(log["event"], log["decision"]) for log in logs(caplog)] == [("headgate.settle.failed", b"5".hex())]

    told(story)


def test_what_would_mean_nothing_any_more_is_given_up_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        resolver = Resolver(Ailing(failures=10**6))
        resolver.owe(Cancel(b"c", (LIFE,), REPEAT), patience=0.02)
        resolver.owe(Settle(b"s", (TOKENS,)), patience=0.02)
        await resolver.idle()
        assert sorted(log["event"] for log in logs(caplog)) == ["headgate.cancel.failed", "headgate.settle.failed"]

    told(story)


def test_what_is_owed_is_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(resolvers, "MOST", 10)

    async def story() -> None:
        resolver = Resolver(Ailing(failures=10**6))
        for n in range(25):
            resolver.owe(Settle(b"%d" % n, (TOKENS,)), patience=60)
        assert len(resolver) == 10
        assert [log["reason"] for log in logs(caplog)] == ["too many are owed"] * 15
        await resolver.close(patience=0)
        assert len(resolver) == 0

    told(story)


def test_a_settlement_follows_its_holds_and_tells_each_outcome() -> None:
    async def story() -> None:
        store, seen = Ailing(failures=2), []
        group = TOKENS.at((b"group", "tokens"))
        await store.there.transact([Reserve(b"r", (TOKENS,), REPEAT), Merge(group, (TOKENS,))])
        resolver = Resolver(store)
        resolver.owe(
            Settle(b"r", (TOKENS.of(3),)), 60, lambda command, outcome: seen.append(command.demands[0].place)
        )
        await resolver.idle()
        assert await counted(store, group) == (3, 0)
        assert seen == [TOKENS.place, group.place]

    told(story)


def test_what_a_closed_loop_left_behind_is_said_on_the_next_one() -> None:
    store = Ailing(failures=5)
    resolver = Resolver(store)

    async def first() -> None:
        await store.there.transact([Reserve(b"r", (TOKENS,), REPEAT)])
        resolver.owe(Settle(b"r", (TOKENS.of(3),)), patience=60)
        await asyncio.sleep(0)

    async def second() -> None:
        await resolver.close(patience=60)
        assert await counted(store, TOKENS) == (3, 0)

    asyncio.run(first())
    assert len(resolver) == 1
    told(second)
