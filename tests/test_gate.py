"""The fast path: what a request is asked for, what it gets, and what happens when the store does not answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gates import PEPPERS
from headgate.clock import SECOND
from headgate.directory import Callback
from headgate.errors import StoreError
from headgate.gate import Gate
from headgate.policy.compiled import Policy
from headgate.quota.command import Cancel, Command, Outcome, Reserve
from headgate.quota.decision import Action
from headgate.quota.explain import recounted
from headgate.quota.facts import Call, Principal
from headgate.stores import open_store
from headgate.testing import ManualClock

ACME = Principal("k1", "acme")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    caplog.set_level(logging.DEBUG, "headgate")
    lines: Callable[[], list[dict[str, Any]]] = lambda: [json.loads(r.getMessage()) for r in caplog.records]  # noqa: E731
    yield lambda name: [line for line in lines() if line["event"] == name]


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def asked(gate: Gate, times: int, principal: Principal = ACME, **call: Any) -> list[str]:
    return [(await gate.admit(Call(principal, **call))).action.value for _ in range(times)]


async def used(gate: Gate, principal: Principal = ACME) -> dict[str, int]:
    return {limit.id: found.used for limit, found in await gate.look(principal)}


def test_what_one_limit_refuses_no_other_limit_is_charged_for(gate_of: Callable[[str], Gate]) -> None:
    async def story() -> None:
        gate = gate_of(
            "limits:\n"
            "  key: {meter: requests, per: key, rate: 2/min}\n"
            "  org: {meter: requests, per: org, quota: 9/day}\n"
        )
        assert await asked(gate, 5) == ["allow", "allow", "not_yet", "not_yet", "not_yet"]
        assert await used(gate) == {"key": 2, "org": 2}
        await gate.close()

    run(story())


def test_a_limit_that_is_changed_in_mid_window_keeps_its_usage(
    gate_of: Callable[[str], Gate], policy_of: Callable[[str], Policy], clock: ManualClock
) -> None:
    async def story() -> None:
        gate = gate_of("limits: {day: {meter: requests, per: org, quota: 5/day}}\n")
        assert await asked(gate, 6) == ["allow"] * 5 + ["not_yet"]
        gate.policy = policy_of("limits: {day: {meter: requests, per: org, quota: 7/day}}\n")
        assert await asked(gate, 3) == ["allow", "allow", "not_yet"]
        gate.policy = policy_of("limits: {day: {meter: requests, per: org, quota: 7/week}}\n")
        assert await asked(gate, 1) == ["not_yet"]
        clock.advance(7 * 86_400)
        assert await asked(gate, 1) == ["allow"]
        await gate.close()

    run(story())


def test_shadow_decides_and_refuses_nobody(
    gate_of: Callable[[str], Gate], heard: Callable[[str], list[dict[str, Any]]]
) -> None:
    async def story() -> None:
        gate = gate_of("limits: {day: {meter: requests, per: org, quota: 1/day, mode: shadow}}\n")
        decisions = [await gate.admit(Call(ACME)) for _ in range(3)]
        assert [d.allowed for d in decisions] == [True, True, True]
        assert [len(d.shadowed) for d in decisions] == [0, 1, 1]
        assert await used(gate) == {"day": 1}
        await gate.close()

    run(story())
    assert [line["limits"][0].get("refused") for line in heard("headgate.decision")] == [None]
    shadowed = [line for line in heard("headgate.shadowed") if line["level"] == "info"]
    assert [line["limits"][0]["refused"] for line in shadowed] == ["not_yet", "not_yet"]


def test_a_candidate_is_counted_beside_the_live_value(gate_of: Callable[[str], Gate]) -> None:
    async def story() -> None:
        gate = gate_of("limits: {day: {meter: requests, per: org, quota: 3/day, candidate: 1/day}}\n")
        decisions = [await gate.admit(Call(ACME)) for _ in range(4)]
        assert [d.action.value for d in decisions] == ["allow", "allow", "allow", "not_yet"]
        assert [[r.limit for r in d.shadowed] for d in decisions[:3]] == [[], ["day~candidate"], ["day~candidate"]]
        await gate.close()

    run(story())


def test_a_rollout_enforces_for_its_share_of_orgs_and_always_for_the_same(gate_of: Callable[[str], Gate]) -> None:
    async def story() -> None:
        gate = gate_of("rollout: 30%\nlimits: {life: {meter: requests, per: org, total: 1}}\n")
        orgs = [Principal(f"k{n}", f"org{n}") for n in range(200)]
        refused = [(await asked(gate, 2, org))[1] == "never" for org in orgs]
        again = [(await asked(gate, 1, org))[0] == "never" for org in orgs]
        assert 35 <= sum(refused) <= 90
        assert refused == again
        await gate.close()

    run(story())


def test_an_override_holds_until_its_day(gate_of: Callable[[str], Gate], clock: ManualClock) -> None:
    async def story() -> None:
        gate = gate_of(
            "limits: {day: {meter: requests, per: org, quota: 1/day}}\n"
            "overrides: [{org: acme, limits: [day], value: 3/day, reason: launch, until: 2027-01-17}]\n"
        )
        assert await asked(gate, 4) == ["allow", "allow", "allow", "not_yet"]
        clock.advance(5 * 86_400)
        assert await asked(gate, 2) == ["allow", "not_yet"]
        await gate.close()

    run(story())


def test_each_share_of_a_limit_is_told_once(
    gate_of: Callable[[str], Gate], heard: Callable[[str], list[dict[str, Any]]]
) -> None:
    async def story() -> None:
        gate = gate_of(
            "meters: {rows: {from: app, reserve: 1}}\n"
            "limits:\n"
            "  day: {meter: requests, per: org, quota: 10/day, alert: [50%, 100%]}\n"
            "  rows: {meter: rows, per: org, quota: 100/day, alert: [80%]}\n"
        )
        for _ in range(10):
            decision = await gate.admit(Call(ACME))
            await gate.settle(decision, {"rows": 9})
        await gate.close()

    run(story())
    told = [(line["limit"], line["percent"], line["used"]) for line in heard("headgate.alert")]
    assert told == [("day", 50, 5), ("rows", 80, 81), ("day", 100, 10)]


def test_a_share_is_told_once_though_a_settlement_is_repeated_or_comes_late(
    gate_of: Callable[[str], Gate], heard: Callable[[str], list[dict[str, Any]]], clock: ManualClock
) -> None:
    async def story() -> None:
        gate = gate_of(
            "meters: {rows: {from: app, reserve: 10}}\n"
            "limits: {day: {meter: rows, per: org, quota: 100/day, alert: [80%]}}\n"
        )
        for amount in (60, 9):
            await gate.settle(await gate.admit(Call(ACME)), {"rows": amount})
        late = await gate.admit(Call(ACME))
        clock.advance(601)  # its lease ends: 79 are used
        await gate.settle(await gate.admit(Call(ACME)), {"rows": 4})
        for _ in range(3):
            await gate.settle(late, {"rows": 10})
        await gate.close()

    run(story())
    assert [(line["percent"], line["used"]) for line in heard("headgate.alert")] == [(80, 83)]


def test_orgs_that_become_one_customer_bring_what_they_have_used(
    gate_of: Callable[[str], Gate], policy_of: Callable[[str], Policy]
) -> None:
    one, two = Principal("k1", "acme"), Principal("k2", "labs")
    limits = "limits: {month: {meter: requests, per: group, quota: 5/month}}\n"

    async def story() -> None:
        gate = gate_of(limits)
        assert await asked(gate, 2, one) + await asked(gate, 2, two) == ["allow"] * 4
        linked = "linking: {affiliated: [{orgs: [acme, labs], reason: one owner, until: 2036-12-31}]}\n"
        gate.policy = policy_of(limits + linked)
        assert await asked(gate, 2, one) == ["allow", "not_yet"]
        assert await asked(gate, 1, two) == ["not_yet"]
        assert await used(gate, two) == {"month": 5}
        await gate.close()

    run(story())


def test_what_was_held_before_the_link_is_settled_after_it(
    gate_of: Callable[[str], Gate], policy_of: Callable[[str], Policy]
) -> None:
    limits = "meters: {rows: {from: app, reserve: 10}}\nlimits: {month: {meter: rows, per: group, quota: 50/month}}\n"

    async def story() -> None:
        gate = gate_of(limits)
        under_way = await gate.admit(Call(ACME))
        gate.policy = policy_of(
            limits + "linking: {affiliated: [{orgs: [acme, labs], reason: one owner, until: 2036-12-31}]}\n"
        )
        await gate.settle(await gate.admit(Call(Principal("k2", "labs"))), {"rows": 1})
        await gate.settle(under_way, {"rows": 7})
        [(_, found)] = await gate.look(ACME)
        assert (found.used, found.held) == (8, 0)
        await gate.close()

    run(story())


def test_a_group_of_orgs_on_different_plans_has_the_best_of_them_once(
    gate_of: Callable[[str], Gate], clock: ManualClock
) -> None:
    keys = {"a": {"key": "k1", "org": "acme", "plan": "free"}, "b": {"key": "k2", "org": "labs", "plan": "pro"}}

    async def story() -> None:
        gate = gate_of(
            "plans: [free, pro]\n"
            "limits: {month: {meter: requests, per: group, quota: {free: 1/month, pro: 3/month}}}\n"
            "linking: {affiliated: [{orgs: [acme, labs], reason: one owner, until: 2036-12-31}]}\n"
        )
        gate.directory = Callback(keys.get, PEPPERS)
        pro = await gate.identify(b"b")
        free = await gate.identify(b"a")
        assert free is not None and pro is not None
        assert await asked(gate, 4, free) == ["allow", "allow", "allow", "not_yet"]
        await gate.close()

    run(story())


def test_an_unknown_key_is_refused_or_anonymous_as_the_policy_says(policy_of: Callable[[str], Policy]) -> None:
    limits = "limits: {rpm: {meter: requests, per: ip, rate: 1/min}}\n"

    async def story() -> None:
        gate = Gate(policy_of(limits), open_store("memory://"), PEPPERS, Callback({}.get, PEPPERS))
        assert [await gate.identify(secret) for secret in (None, b"hg_unknown")] == [None, None]
        gate.policy = replace(
            gate.policy, identify=replace(gate.policy.identify, anonymous="", unknown_key="anonymous")
        )
        nobody = [await gate.identify(secret) for secret in (None, b"hg_unknown", b"no key at all", b"hg_other")]
        assert [who is not None and who.anonymous for who in nobody] == [True] * 4
        assert len({id(who) for who in nobody}) == 1
        gate.policy = replace(gate.policy, identify=replace(gate.policy.identify, unknown_key="refuse"))
        assert await gate.identify(b"hg_unknown") is None
        assert await gate.identify(None) is not None

    run(story())


class Broken:
    """A store that hangs, fails, or answers late, and keeps what it was told."""

    immediate = False
    punctual = False
    deadline = 0.02

    def __init__(self, fault: Exception | None = None, hang: bool = False) -> None:
        self.fault, self.hang = fault, hang
        self.told: list[Command] = []

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        self.told += commands
        if self.hang and isinstance(commands[-1], Reserve):
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        return []

    async def close(self) -> None:
        pass


GONE = StoreError("it is gone", transient=True)


@pytest.mark.parametrize(
    ("way", "expected"),
    [("closed", ["unavailable"] * 3), ("open", ["allow"] * 3), ("local", ["allow", "allow", "unavailable"])],
)
def test_without_the_store_each_limit_goes_its_way(
    policy_of: Callable[[str], Policy], way: str, expected: list[str]
) -> None:
    async def story() -> None:
        limit = f"limits: {{day: {{meter: requests, per: org, quota: 20/day, on_store_error: {way}}}}}\n"
        gate = Gate(policy_of(limit), Broken(GONE), PEPPERS)
        assert await asked(gate, 3) == expected

    run(story())


def test_what_nobody_knows_of_a_limit_is_not_told_as_a_number(
    policy_of: Callable[[str], Policy], heard: Callable[[str], list[dict[str, Any]]]
) -> None:
    async def story() -> None:
        gate = Gate(policy_of("limits: {day: {meter: requests, per: org, quota: 20/day}}\n"), Broken(GONE), PEPPERS)
        assert await asked(gate, 1) == ["unavailable"]

    run(story())
    [denied] = heard("headgate.denied")
    [row] = denied["limits"]
    assert (row["asked"], row["of"]) == (1, 20)
    assert not {"used", "held", "left", "resets"} & row.keys()
    lines = recounted(denied, "UTC")
    assert "  day: not known" in lines
    assert "    stood at      asked 1, of 20" in lines


def test_what_a_server_does_after_a_stop_of_minutes_is_undone(
    policy_of: Callable[[str], Policy],
) -> None:
    async def story() -> None:
        lost = StoreError("no answer", transient=True, unknown=True)
        gate = Gate(policy_of("limits: {day: {meter: requests, per: org, quota: 20/day}}\n"), Broken(lost), PEPPERS)
        assert await asked(gate, 1) == ["unavailable"]
        [owed] = gate.resolver._owed
        assert owed.until > asyncio.get_running_loop().time() + 300
        await gate.resolver.close(0)

    run(story())


def test_one_closed_limit_closes(policy_of: Callable[[str], Policy]) -> None:
    async def story() -> None:
        gate = Gate(
            policy_of(
                "limits:\n"
                "  day: {meter: requests, per: org, quota: 20/day, on_store_error: open}\n"
                "  week: {meter: requests, per: org, quota: 90/week}\n"
            ),
            Broken(GONE),
            PEPPERS,
        )
        assert await asked(gate, 1) == ["unavailable"]

    run(story())


def test_a_store_that_hangs_is_left_at_the_deadline_and_told_to_forget(policy_of: Callable[[str], Policy]) -> None:
    async def story() -> None:
        store = Broken(hang=True)
        gate = Gate(policy_of("limits: {day: {meter: requests, per: org, quota: 20/day}}\n"), store, PEPPERS)
        decision = await gate.admit(Call(ACME))
        assert decision.action is Action.UNAVAILABLE
        await gate.close()
        [reserve, cancel] = store.told
        assert isinstance(reserve, Reserve) and isinstance(cancel, Cancel)
        assert cancel.rid == reserve.rid == bytes.fromhex(decision.id)

    run(story())


class Deaf:
    """A store that does what it is told and whose answers to reservations are lost, as often as it is told to."""

    immediate, punctual, deadline = False, True, 0.02

    def __init__(self, lost: int, clock: ManualClock) -> None:
        self.there, self.lost = open_store("memory://", clock=clock), lost

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        outcomes = await self.there.transact(commands, now)
        if isinstance(commands[-1], Reserve) and self.lost:
            self.lost -= 1
            raise StoreError("no answer", transient=True, unknown=True)
        return outcomes

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("way", "served", "used"),
    [("closed", "unavailable", 0), ("open", "allow", 3), ("local", "allow", 0)],
)
def test_a_lost_answer_is_undone_or_adopted_as_the_request_was_served_or_not(
    policy_of: Callable[[str], Policy], clock: ManualClock, way: str, served: str, used: int
) -> None:
    async def story() -> None:
        limits = (
            "meters: {rows: {from: app, reserve: 10}}\nlimits:\n"
            f"  day: {{meter: requests, per: org, quota: 90/day, on_store_error: {way}}}\n"
            f"  rows: {{meter: rows, per: org, total: 1k, on_store_error: {way}}}\n"
        )
        gate = Gate(policy_of(limits), Deaf(3, clock), PEPPERS, clock=clock)
        for _ in range(3):
            decision = await gate.admit(Call(ACME))
            assert decision.action.value == served
            if decision.allowed:
                await gate.settle(decision, {"rows": 4})
        await gate.resolver.idle()
        readings = {limit.id: (now.used, now.held) for limit, now in await gate.look(ACME)}
        assert readings == {"day": (used, 0), "rows": (used * 4, 0)}
        await gate.close()

    run(story())


def test_a_caller_that_goes_away_while_it_waits_is_not_charged(policy_of: Callable[[str], Policy]) -> None:
    async def story() -> None:
        store = Broken(hang=True)
        gate = Gate(
            policy_of("limits: {day: {meter: requests, per: org, quota: 20/day}}\n"), store, PEPPERS, deadline=9
        )
        waiting = asyncio.create_task(gate.admit(Call(ACME)))
        await asyncio.sleep(0)
        waiting.cancel()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
        await gate.close()
        assert [type(command).__name__ for command in store.told] == ["Reserve", "Cancel"]

    run(story())


def test_a_long_response_keeps_its_place_by_renewing(gate_of: Callable[[str], Gate], clock: ManualClock) -> None:
    async def story() -> None:
        gate = gate_of("limits: {open: {meter: streams, per: key, max: 1, lease: 60s}}\n")
        streaming = await gate.admit(Call(ACME))
        for _ in range(5):
            clock.advance(40)
            await gate.renew(streaming)
            assert await asked(gate, 1) == ["not_yet"]
        clock.advance(61)
        assert await asked(gate, 1) == ["allow"]
        await gate.close()

    run(story())


def test_a_decision_in_the_log_says_what_was_asked_and_tells_no_address(
    gate_of: Callable[[str], Gate], heard: Callable[[str], list[dict[str, Any]]]
) -> None:
    async def story() -> None:
        gate = gate_of("limits: {day: {meter: requests, per: [ip, key], quota: 1/day}}\n")
        await asked(gate, 2, network="198.51.100.77")
        await gate.close()

    run(story())
    [denied] = heard("headgate.denied")
    assert denied["limits"][0]["refused"] == "not_yet"
    assert (denied["key"], denied["org"]) == ("k1", "acme")
    assert denied["limits"][0]["retry"] % (86_400 * SECOND) == 0
    assert "198.51.100.77" not in json.dumps(denied)


def test_a_weak_key_of_an_org_forgets_nothing_of_what_a_strong_one_used(
    gate_of: Callable[[str], Gate], clock: ManualClock
) -> None:
    keys = {"s": {"key": "k1", "org": "acme", "plan": "pro"}, "w": {"key": "k2", "org": "acme", "plan": "free"}}

    async def story() -> None:
        gate = gate_of(
            "plans: [free, pro]\n"
            "limits:\n"
            "  rpm: {meter: requests, per: org, rate: {free: 3/min, pro: 60/min}}\n"
            "  long: {meter: requests, per: org, quota: {free: 90/day, pro: 1k/month}}\n"
        )
        gate.directory = Callback(keys.get, PEPPERS)
        strong, weak = await gate.identify(b"s"), await gate.identify(b"w")
        assert strong is not None and weak is not None
        served = 0
        for _ in range(10):
            served += (await asked(gate, 70, strong) + await asked(gate, 3, weak)).count("allow")
        assert served == 60
        await gate.close()

    run(story())


def test_a_group_whose_orgs_pay_on_different_days_has_one_month(
    gate_of: Callable[[str], Gate], clock: ManualClock
) -> None:
    keys = {
        "a": {"key": "k1", "org": "acme", "anchor": "2027-01-01"},
        "b": {"key": "k2", "org": "labs", "anchor": "2027-01-15"},
    }

    async def story() -> None:
        gate = gate_of(
            "limits: {month: {meter: requests, per: group, quota: 100/month, anchor: subscription}}\n"
            "linking: {affiliated: [{orgs: [acme, labs], reason: one owner, until: 2036-12-31}]}\n"
        )
        gate.directory = Callback(keys.get, PEPPERS)
        served = 0
        for _ in range(8 * 30):
            for secret in (b"a", b"b"):
                who = await gate.identify(secret)
                assert who is not None
                served += (await asked(gate, 3, who)).count("allow")
            clock.advance(8 * 3600)
        # 80 days: the rest of one month, two whole ones, and a part of the fourth.
        assert 300 <= served <= 400
        await gate.close()

    run(story())


def test_what_a_request_that_is_closed_in_the_middle_may_have_charged_is_given_back(
    policy_of: Callable[[str], Policy],
) -> None:
    """A server may throw a request's coroutine away instead of cancelling its task."""

    async def story() -> None:
        store = Broken(hang=True)
        gate = Gate(policy_of("limits: {rpm: {meter: requests, per: org, rate: 9/min}}\n"), store, PEPPERS)
        request = gate.admit(Call(ACME))
        request.send(None)
        request.close()
        await gate.resolver.idle()
        assert [type(command) for command in store.told] == [Reserve, Cancel]
        assert len({command.rid for command in store.told if isinstance(command, Reserve | Cancel)}) == 1
        await gate.close()

    run(story())


LINKED = "linking: {affiliated: [{orgs: [acme, labs], reason: one owner, until: UNTIL}]}\n"


@pytest.mark.parametrize("way", ["it ends", "it is removed", "it is reordered"])
def test_the_end_of_a_declaration_gives_nobody_a_fresh_window(
    gate_of: Callable[[str], Gate], policy_of: Callable[[str], Policy], clock: ManualClock, way: str
) -> None:
    limits = "limits: {month: {meter: requests, per: group, quota: 10/month}}\n"
    orgs = [Principal("k1", "acme"), Principal("k2", "labs")]

    async def story() -> None:
        gate = gate_of(limits + LINKED.replace("UNTIL", "2027-01-17" if way == "it ends" else "2036-12-31"))
        assert sum([(await asked(gate, 4, org)).count("allow") for org in orgs]) == 8
        if way == "it ends":
            clock.advance(5 * 86_400)
        elif way == "it is removed":
            gate.policy = policy_of(limits)
        else:
            gate.policy = policy_of(
                limits + LINKED.replace("UNTIL", "2036-12-31").replace("acme, labs", "labs, acme")
            )
        left = [(await asked(gate, 4, org)).count("allow") for org in orgs]
        assert left == ([2, 0] if way == "it is reordered" else [4, 4])
        if way != "it is reordered":
            assert [(await asked(gate, 4, org)).count("allow") for org in orgs] == [2, 2]
        await gate.close()

    run(story())


def test_what_was_reserved_before_a_reload_is_settled_by_what_holds_after_it(
    gate_of: Callable[[str], Gate], policy_of: Callable[[str], Policy]
) -> None:
    meters = "meters: {rows: {from: app, reserve: 1}}\n"

    async def story() -> None:
        gate = gate_of(meters + "limits: {rows: {meter: rows, per: org, rate: 3/min}}\n")
        under_way = [await gate.admit(Call(ACME)) for _ in range(2)]
        gate.policy = policy_of(meters + "limits: {rows: {meter: rows, per: org, rate: 600/min}}\n")
        served = 0
        for before in [*under_way, None]:
            while (decision := await gate.admit(Call(ACME))).allowed:
                await gate.settle(decision, {"rows": 50})
                served += 50
            if before is not None:
                await gate.settle(before, {"rows": 1})
        assert served <= 650
        await gate.close()

    run(story())


def test_a_new_pepper_begins_nobodys_window_anew(gate_of: Callable[[str], Gate]) -> None:
    async def story() -> None:
        gate = gate_of(
            "limits:\n"
            "  day: {meter: requests, per: org, quota: 5/day}\n"
            "  month: {meter: requests, per: group, quota: 9/month}\n"
        )
        assert await asked(gate, 3) == ["allow"] * 3
        rotated = Gate(gate.policy, gate.store, (b"another pepper of thirty-two bytes", *PEPPERS), clock=gate.clock)
        assert await used(rotated) == {"day": 3, "month": 3}
        assert await asked(rotated, 3) == ["allow", "allow", "not_yet"]
        await gate.close()

    run(story())
