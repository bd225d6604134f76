"""Orgs that are declared to be one customer, and orgs that are no more: stories through the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from headgate.clock import SECOND
from headgate.gate import Gate
from headgate.quota.ahead import thing
from headgate.quota.facts import Call, Principal
from headgate.quota.under_way import holds
from headgate.testing import ManualClock
from linked import DAY, ROWS, GateOf, PolicyOf, linked, run, use, used

ACME, LABS, MILL = Principal("k1", "acme"), Principal("k2", "labs"), Principal("k3", "mill")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_who_has_left_a_group_is_not_charged_for_what_the_others_use_afterwards(
    gate_of: GateOf, policy_of: PolicyOf, clock: ManualClock
) -> None:
    async def story() -> None:
        gate = gate_of(ROWS + linked("acme, labs, mill"))
        await use(gate, MILL, 1)
        await use(gate, ACME, 5)
        assert await used(gate, MILL) == 6
        gate.policy = policy_of(ROWS + linked("acme, labs"))
        assert (await used(gate, MILL), await used(gate, ACME)) == (1, 5), "each has what it alone has used"
        await use(gate, ACME, 50)
        gate.policy = policy_of(ROWS + linked("acme, labs"))  # an ordinary reload
        assert (await used(gate, MILL), await used(gate, LABS)) == (1, 55)
        clock.advance(31 * DAY)
        await use(gate, ACME, 99)
        gate.policy = policy_of(ROWS + linked("acme, labs"))
        assert (await used(gate, MILL), await used(gate, LABS)) == (0, 99)
        await gate.close()

    run(story())


def test_a_split_and_a_link_again_neither_forget_nor_count_twice(gate_of: GateOf, policy_of: PolicyOf) -> None:
    async def story() -> None:
        gate = gate_of(ROWS)
        await use(gate, ACME, 10)
        await use(gate, LABS, 20)
        for more in range(3):
            gate.policy = policy_of(ROWS + linked("acme, labs"))
            assert await used(gate, LABS) == 30 + 2 * more
            await use(gate, ACME)
            gate.policy = policy_of(ROWS)
            assert (await used(gate, ACME), await used(gate, LABS)) == (11 + more, 20 + more)
            await use(gate, LABS)
        gate.policy = policy_of(ROWS + linked("acme, labs", "mill, other"))
        await use(gate, MILL, 3)
        gate.policy = policy_of(ROWS + linked("acme, labs, mill, other"))
        assert await used(gate, MILL) == 39, "two groups that become one"
        gate.policy = policy_of(ROWS + linked("labs, mill"))
        assert [await used(gate, who) for who in (ACME, LABS, MILL)] == [13, 26, 26]
        await gate.close()

    run(story())


def handed_out(gate: Gate, named: dict[str, Sequence[int]]) -> Callable[[Principal, Sequence[int]], Any]:
    async def hand(who: Principal, numbers: Sequence[int]) -> None:
        decision = await gate.admit(Call(who))
        assert decision.tariff is not None
        things = tuple([thing(decision.tariff.digest, "docs", str(n)) for n in numbers])
        await gate.settle(decision, {}, {"docs": things})
        named.setdefault(who.org, []).extend(numbers)  # type: ignore[attr-defined]

    return hand


@pytest.mark.parametrize("anchor", ["calendar", "subscription", "first_use"])
def test_orgs_whose_months_begin_on_other_days_have_handed_out_the_union(
    gate_of: GateOf, policy_of: PolicyOf, clock: ManualClock, anchor: str
) -> None:
    limits = (
        "meters: {docs: {distinct: app}}\n"
        f"limits: {{month: {{meter: docs, per: group, quota: 100/month, anchor: {anchor}}}}}\n"
    )
    acme, labs = (replace(who, anchor=clock.now - days * DAY * SECOND) for who, days in ((ACME, 5), (LABS, 12)))

    async def story() -> None:
        gate = gate_of(limits)
        hand = handed_out(gate, {})
        await hand(acme, range(40))
        clock.advance(60)
        await hand(labs, range(20, 60))
        gate.policy = policy_of(limits + linked("acme, labs"))
        await hand(acme, ())
        assert await used(gate, acme) == 60
        await hand(labs, range(60))
        assert await used(gate, acme) == 60, "what either has handed out is handed out again for nothing"
        gate.policy = policy_of(limits)
        assert (await used(gate, acme), await used(gate, labs)) == (40, 60)
        await hand(acme, range(40))
        assert await used(gate, acme) == 40, "and what it has handed out alone, it knows again"
        await gate.close()

    run(story())


def test_a_reload_that_changes_a_window_knows_what_was_handed_out(gate_of: GateOf, policy_of: PolicyOf) -> None:
    text = "meters: {{docs: {{distinct: app}}}}\nlimits: {{cov: {{meter: docs, per: org, {verb}}}}}\n"

    async def story() -> None:
        gate = gate_of(text.format(verb="quota: 90/day"))
        hand = handed_out(gate, {})
        await hand(ACME, range(40))
        for verb in ("quota: 90/month", "total: 90", "quota: 90/week"):
            gate.policy = policy_of(text.format(verb=verb))
            await hand(ACME, range(10, 41))
            assert await used(gate, ACME) == 41, verb
        await gate.close()

    run(story())


def test_responses_under_way_at_a_link_count_for_the_group_and_at_a_split_for_their_org(
    gate_of: GateOf, policy_of: PolicyOf
) -> None:
    limits = (
        "meters: {rows: {from: app, reserve: 10}}\nlimits:\n"
        "  month: {meter: rows, per: group, quota: 100/month}\n"
        "  open: {meter: streams, per: group, max: 2}\n"
    )

    async def story() -> None:
        gate = gate_of(limits)
        one = await gate.admit(Call(ACME))
        gate.policy = policy_of(limits + linked("acme, labs"))
        two = await gate.admit(Call(LABS))
        assert not (await gate.admit(Call(ACME))).allowed, "two are open"
        await gate.renew(one)
        assert (await gate.extend(one, {"rows": 5})).granted
        seen = {limit.id: (found.used, found.held) for limit, found in await gate.look(ACME)}
        assert seen == {"month": (0, 25), "open": (0, 2)}
        await gate.settle(one, {"rows": 7})
        assert (await gate.admit(Call(ACME))).allowed, "a place is free again"
        gate.policy = policy_of(limits)
        await gate.settle(two, {"rows": 4})
        month = {org.org: (await gate.look(org))[0][1] for org in (ACME, LABS)}
        assert (month["acme"].used, month["labs"].used, month["labs"].held) == (7, 4, 0)
        await gate.close()

    run(story())


def test_a_stream_that_is_settled_in_parts_counts_at_both_places_and_follows_a_split(
    gate_of: GateOf, policy_of: PolicyOf
) -> None:
    limits = "meters: {rows: {from: app, reserve: 4}}\nlimits: {month: {meter: rows, per: group, quota: 50/month}}\n"

    async def standing(gate: Gate, who: Principal) -> tuple[int, int]:
        [(_, found)] = await gate.look(who)
        return found.used, found.held

    async def story() -> None:
        gate = gate_of(limits + linked("acme, labs"))
        part = holds(await gate.admit(Call(ACME)), {"rows"})
        turned = await gate.turn_over(part, {"rows": 3}, {}, 5)
        assert turned.part is not None
        assert await standing(gate, LABS) == (3, 5)
        gate.policy = policy_of(limits)
        assert (await standing(gate, ACME), await standing(gate, LABS)) == ((3, 5), (0, 0))
        turned = await gate.turn_over(turned.part, {"rows": 6}, {}, 7)
        assert turned.part is not None
        assert await standing(gate, ACME) == (9, 7)
        gate.policy = policy_of(limits + linked("acme, labs"))
        assert await standing(gate, LABS) == (9, 7)
        turned = await gate.turn_over(turned.part, {"rows": 1}, {}, 2)
        assert turned.part is not None
        await gate.resolver.idle()
        assert await standing(gate, LABS) == (10, 2)
        await gate.settle(turned.part, {"rows": 2})
        assert await standing(gate, LABS) == (12, 0)
        gate.policy = policy_of(limits)
        assert (await standing(gate, ACME), await standing(gate, LABS)) == ((12, 0), (0, 0))
        await gate.close()

    run(story())


def test_a_request_of_a_group_shows_one_line_for_each_limit_and_passes_each_mark_once(
    gate_of: GateOf, caplog: pytest.LogCaptureFixture
) -> None:
    limits = (
        "meters: {rows: {from: app, reserve: 1}}\nlimits:\n"
        "  month: {meter: rows, per: group, quota: 10/month, alert: [50%]}\n"
        "  day: {meter: requests, per: group, quota: 3/day, alert: [100%]}\n"
    )

    async def story() -> None:
        gate = gate_of(limits + linked("acme, labs"))
        for who in (ACME, LABS, ACME):
            decision = await gate.admit(Call(who))
            assert (
                [d.place[1] for d in decision.demands] == [limit.id for limit in decision.limits] == ["month", "day"]
            )
            assert len(decision.balances) == 2
            await gate.settle(decision, {"rows": 2})
        refused = await gate.admit(Call(LABS))
        assert [refusal.limit for refusal in refused.refusals] == ["day"]
        assert len(await gate.look(ACME)) == 2
        await gate.close()

    run(story())
    alerts = [record for record in caplog.records if "headgate.alert" in record.getMessage()]
    assert len(alerts) == 2


def test_a_limit_in_shadow_counts_a_group_and_refuses_nobody(gate_of: GateOf, policy_of: PolicyOf) -> None:
    limits = "limits: {month: {meter: requests, per: group, quota: 3/month, mode: shadow}}\n"

    async def story() -> None:
        gate = gate_of(limits + linked("acme, labs"))
        decisions = [await gate.admit(Call(who)) for who in (ACME, LABS, ACME, LABS, LABS)]
        assert [len(decision.shadowed) for decision in decisions] == [0, 0, 0, 1, 1]
        gate.policy = policy_of(limits)
        assert await used(gate, ACME) == 2
        await gate.close()

    run(story())
