"""What a response holds while it lives: more of it, a part of it settled, and what was handed out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from gates import PEPPERS
from headgate.errors import StoreError
from headgate.gate import Gate
from headgate.policy.compiled import Policy
from headgate.quota.ahead import thing
from headgate.quota.command import Command, Outcome
from headgate.quota.decision import Action
from headgate.quota.facts import Call, Principal
from headgate.quota.under_way import holds
from headgate.stores import open_store
from headgate.testing import ManualClock

ACME, LABS = Principal("k1", "acme"), Principal("k2", "labs")
ROWS = "meters: {rows: {from: app, reserve: 10}, big: {from: app, reserve: 1}}\n"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def seen(gate: Gate, principal: Principal = ACME) -> dict[str, tuple[int, int]]:
    return {limit.id: (found.used, found.held) for limit, found in await gate.look(principal)}


def test_what_a_response_needs_beyond_what_it_holds_is_granted_or_refused(gate_of: Callable[[str], Gate]) -> None:
    async def story() -> None:
        gate = gate_of(ROWS + "limits: {day: {meter: rows, per: org, quota: 30/day}}\n")
        decision = await gate.admit(Call(ACME))
        assert (await gate.extend(decision, {"rows": 15})).granted
        assert await seen(gate) == {"day": (0, 25)}
        got = await gate.extend(decision, {"rows": 6})
        assert not got.granted and got.left == 5
        assert got.refused is not None and got.refused.action is Action.NEVER
        assert [refusal.limit for refusal in got.refused.refusals] == ["day"] and got.refused.id == decision.id
        assert await seen(gate) == {"day": (0, 25)}
        assert (await gate.extend(decision, {"rows": 5})).granted
        await gate.settle(decision, {"rows": 28})
        assert await seen(gate) == {"day": (28, 0)}
        await gate.close()

    run(story())


def test_two_limits_on_one_meter_grow_together_or_not_at_all(gate_of: Callable[[str], Gate]) -> None:
    async def story() -> None:
        gate = gate_of(
            ROWS
            + "limits:\n  day: {meter: rows, per: org, quota: 30/day}\n  key: {meter: rows, per: key, total: 12}\n"
            "  other: {meter: big, per: org, quota: 9/day}\n"
        )
        decision = await gate.admit(Call(ACME))
        assert (await gate.extend(decision, {"rows": 3})).left == 2
        assert (await gate.extend(decision, {"rows": 2, "big": 3})).granted
        assert await seen(gate) == {"day": (0, 12), "key": (0, 12), "other": (0, 4)}
        await gate.settle(decision, {})
        await gate.close()

    run(story())


def test_what_others_hold_is_waited_for_and_what_is_used_up_is_not_yet(gate_of: Callable[[str], Gate]) -> None:
    async def story() -> None:
        gate = gate_of(ROWS + "limits: {day: {meter: rows, per: org, quota: 30/day}}\n")
        one, other = await gate.admit(Call(ACME)), await gate.admit(Call(ACME))
        await gate.extend(other, {"rows": 10})
        got = await gate.extend(one, {"rows": 1})
        assert got.refused is not None and got.refused.action is Action.NOT_YET and got.left == 0
        await gate.settle(other, {"rows": 0})
        assert (await gate.extend(one, {"rows": 20})).granted
        await gate.settle(one, {})
        await gate.close()

    run(story())


def test_an_extension_keeps_all_that_is_held_for_one_more_lease(
    gate_of: Callable[[str], Gate], clock: ManualClock
) -> None:
    async def story() -> None:
        gate = gate_of(
            ROWS + "limits:\n  day: {meter: rows, per: org, quota: 90/day}\n"
            "  open: {meter: streams, per: key, max: 1, lease: 60s}\n"
        )
        decision = await gate.admit(Call(ACME))
        for _ in range(4):
            clock.advance(50)
            assert (await gate.extend(decision, {"rows": 1})).granted
            assert not (await gate.admit(Call(ACME))).allowed
        await gate.settle(decision, {"rows": 14})
        assert await seen(gate) == {"day": (14, 0), "open": (0, 0)}
        await gate.close()

    run(story())


def test_a_part_is_settled_and_the_next_is_held_and_nothing_counts_twice(
    gate_of: Callable[[str], Gate], clock: ManualClock
) -> None:
    async def story() -> None:
        gate = gate_of(ROWS + "limits: {pace: {meter: rows, per: org, rate: 60/min}}\n")
        decision = await gate.admit(Call(ACME))
        part = holds(decision, {"rows"})
        for _ in range(10):
            clock.advance(10)  # ten are drained
            got = await gate.turn_over(part, {"rows": 10}, {}, 10)
            assert got.part is not None
            part = got.part
        await gate.settle(decision, {"rows": 100})  # settled long ago
        await gate.settle(part, {"rows": 3})
        assert await seen(gate) == {"pace": (13, 0)}
        await gate.close()

    run(story())


def test_a_part_that_is_refused_leaves_the_last_one_settled_with_its_debt(gate_of: Callable[[str], Gate]) -> None:
    async def story() -> None:
        gate = gate_of(ROWS + "limits: {day: {meter: rows, per: org, quota: 20/day}}\n")
        part = holds(await gate.admit(Call(ACME)), {"rows"})
        got = await gate.turn_over(part, {"rows": 12}, {}, 9)
        assert (got.part, got.left) == (None, 8) and got.refused is not None
        got = await gate.turn_over(part, None, {}, 8)
        assert got.part is not None
        got = await gate.turn_over(got.part, {"rows": 10}, {}, 1)
        assert got.part is None and got.left == -2
        assert await seen(gate) == {"day": (22, 0)}
        await gate.close()

    run(story())


def test_things_count_once_by_however_many_requests_they_are_handed_out(
    gate_of: Callable[[str], Gate],
) -> None:
    async def story() -> None:
        gate = gate_of(
            "meters: {docs: {distinct: app, reserve: 5}}\nlimits: {month: {meter: docs, per: org, quota: 50/month}}\n"
        )
        decision = await gate.admit(Call(ACME))
        assert decision.tariff is not None
        ids = [thing(decision.tariff.digest, "docs", f"doc:{n}") for n in range(30)]
        await gate.settle(decision, {}, {"docs": tuple(ids[:12])})
        assert await seen(gate) == {"month": (12, 0)}
        decision = await gate.admit(Call(ACME))
        await gate.settle(decision, {"docs": 2}, {"docs": tuple(ids[8:20])})
        await gate.settle(decision, {"docs": 2}, {"docs": tuple(ids)})
        assert await seen(gate) == {"month": (22, 0)}
        await gate.settle(await gate.admit(Call(ACME)), {})
        assert await seen(gate) == {"month": (22, 0)}
        await gate.close()

    run(story())


def test_a_thing_that_was_seen_is_handed_out_again_at_an_exhausted_limit(gate_of: Callable[[str], Gate]) -> None:
    async def story() -> None:
        gate = gate_of(
            "meters: {parcels: {distinct: query.id}}\nlimits: {month: {meter: parcels, per: org, quota: 2/month}}\n"
        )

        async def ask(parcel: str) -> str:
            decision = await gate.admit(Call(ACME, lookup=lambda source, name: parcel if source == "query" else ""))
            things = {"parcels": decision.demands[0].things} if decision.demands else {}
            await gate.settle(decision, {}, things)
            return decision.action.value

        assert [await ask(one) for one in ("a", "b", "a", "c", "b", "")] == [
            "allow", "allow", "allow", "not_yet", "allow", "allow",
        ]  # fmt: skip
        assert await seen(gate) == {"month": (2, 0)}
        await gate.close()

    run(story())


def test_the_things_of_two_orgs_that_become_one_customer_are_one(
    gate_of: Callable[[str], Gate], policy_of: Callable[[str], Policy]
) -> None:
    limits = "meters: {docs: {distinct: app}}\nlimits: {month: {meter: docs, per: group, quota: 50/month}}\n"

    async def handed_out(gate: Gate, who: Principal, numbers: range) -> None:
        decision = await gate.admit(Call(who))
        assert decision.tariff is not None
        named = tuple([thing(decision.tariff.digest, "docs", str(n)) for n in numbers])
        await gate.settle(decision, {}, {"docs": named})

    async def story() -> None:
        gate = gate_of(limits)
        await handed_out(gate, ACME, range(20))
        await handed_out(gate, LABS, range(10, 30))
        linked = "linking: {affiliated: [{orgs: [acme, labs], reason: one owner, until: 2036-12-31}]}\n"
        gate.policy = policy_of(limits + linked)
        await handed_out(gate, ACME, range(5))
        assert await seen(gate, LABS) == {"month": (30, 0)}
        await gate.close()

    run(story())


class Deaf:
    """A store that hears nothing more after the first call."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.deaf = inner, False
        self.immediate, self.punctual, self.deadline = False, True, 1.0
        self.told: list[str] = []

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        self.told += [type(command).__name__ for command in commands]
        if self.deaf:
            raise StoreError("away", transient=True, unknown=True)
        return list(await self.inner.transact(commands, now))

    async def close(self) -> None:
        pass


def test_a_store_that_is_not_heard_refuses_nobody_and_hears_of_it_later(
    policy_of: Callable[[str], Policy], clock: ManualClock
) -> None:
    async def story() -> None:
        store = Deaf(open_store("memory://", clock=clock))
        gate = Gate(
            policy_of(ROWS + "limits: {day: {meter: rows, per: org, quota: 30/day}}\n"), store, PEPPERS, clock=clock
        )
        decision = await gate.admit(Call(ACME))
        store.deaf = True
        got = await gate.extend(decision, {"rows": 50})
        assert not got.granted and got.refused is None
        with pytest.raises(StoreError):
            await gate.turn_over(holds(decision, {"rows"}), {"rows": 3}, {}, 10)
        await gate.settle(decision, {"rows": 44})
        store.deaf = False
        await gate.close()
        assert await seen(gate) == {"day": (44, 0)}
        assert "Cancel" in store.told, "what may have been held of the next part is given back"

    run(story())


def test_what_was_decided_without_the_store_grows_within_the_workers_share(
    policy_of: Callable[[str], Policy], clock: ManualClock
) -> None:
    async def story(way: str) -> tuple[bool, bool]:
        store = Deaf(open_store("memory://", clock=clock))
        store.deaf = True
        limit = f"limits: {{day: {{meter: rows, per: org, quota: 300/day, on_store_error: {way}}}}}\n"
        gate = Gate(policy_of(ROWS + limit), store, PEPPERS, clock=clock)
        decision = await gate.admit(Call(ACME))
        assert decision.degraded == way
        fits, beyond = await gate.extend(decision, {"rows": 20}), await gate.extend(decision, {"rows": 1})
        return fits.granted, beyond.refused is not None

    assert asyncio.run(story("local")) == (True, True)
    assert asyncio.run(story("open")) == (False, False)
