"""What a hostile caller, an unlucky moment or a broken file may try: each of these was tried and came to nothing."""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from headgate.asgi import HeadgateMiddleware, replies
from headgate.asgi.ratelimit_headers import RateLimitHeaders
from headgate.asgi.replies import nobody, wait_ms
from headgate.clock import SECOND
from headgate.errors import PolicyError, StoreError
from headgate.gate import Gate
from headgate.policy import load
from headgate.quota.command import Command, Outcome
from headgate.quota.facts import Call, Principal
from headgate.service import Service
from headgate.settings import Settings
from headgate.stores import open_store
from headgate.testing import ManualClock

HEAD = "headgate: v1\npolicy: test\nmode: enforce\non_store_error: closed\nidentify: {anonymous: {per: ip}}\n"
ACME = Principal("k1", "acme", anchor=1_780_000_000 * SECOND)
PEPPERS = (b"a pepper of thirty-two bytes. ok.",)
DAY = 86_400 * SECOND

WINDOWS = (
    "rate: 3/min",
    "rate: 7/s, burst: 4",
    "quota: 5/hour",
    "quota: 4/month, anchor: subscription",
    "quota: 3/day, anchor: first_use",
    "quota: 8/2day, zone: Europe/Berlin",
    "rolling: 6/1h",
    "rolling: 3/7d",
)

GateOf = Callable[..., Gate]


@pytest.fixture
def gate_of(tmp_path: Path) -> GateOf:
    def made(limits: str, uri: str = "memory://", clock: ManualClock | None = None) -> Gate:
        file, clock = tmp_path / "headgate.yaml", clock or ManualClock()
        file.write_text(HEAD + limits)
        return Gate(load(file), open_store(uri, clock=clock), PEPPERS, clock=clock)

    return made


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def limits_of(windows: Sequence[str]) -> str:
    rows = [f"  l{at}: {{meter: requests, per: key, {window}}}\n" for at, window in enumerate(windows)]
    return "limits:\n" + "".join(rows)


async def standing(gate: Gate) -> dict[str, tuple[int, int]]:
    return {limit.id: (found.used, found.held) for limit, found in await gate.look(ACME)}


# What a refused client is told.


@pytest.mark.parametrize("windows", list(combinations(WINDOWS, 2)), ids=" and ".join)
def test_who_waits_as_long_as_it_was_told_is_let_in(
    windows: Sequence[str], gate_of: GateOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "SPREAD", 0)  # the jitter would hide a wait that is too short
    chance, clock = random.Random(str(windows)), ManualClock()
    gate = gate_of(limits_of(windows), clock=clock)

    async def story() -> None:
        told = 0
        clock.advance(microseconds=chance.randrange(400 * DAY))
        for _ in range(60):
            decision = await gate.admit(Call(ACME))
            if decision.allowed:
                clock.advance(microseconds=chance.choice((0, 0, chance.randrange(30 * SECOND))))
                continue
            told += 1
            clock.advance(microseconds=wait_ms(decision) * 1_000)
            assert (await gate.admit(Call(ACME))).allowed, decision.refusals
        assert told

    run(story())


@pytest.mark.parametrize("window", WINDOWS)
def test_the_header_tells_what_is_left_and_no_more(window: str, gate_of: GateOf) -> None:
    chance, clock = random.Random(window), ManualClock()

    async def story() -> None:
        for _ in range(20):
            clock.advance(microseconds=chance.randrange(1_000 * DAY))  # another day, and all of it is unused again
            gate, fields = gate_of(limits_of([window]), clock=clock), RateLimitHeaders(PEPPERS[0])
            for _ in range(chance.randrange(5)):
                await gate.admit(Call(ACME))
                clock.advance(microseconds=chance.choice((0, chance.randrange(1_000 * SECOND))))
            decision = await gate.admit(Call(ACME))
            if decision.allowed:
                policy, current = (value for _, value in fields.fields(decision))
                quota, told = (
                    re.search(rb";%b=(\d+)" % name, text) for name, text in ((b"q", policy), (b"r", current))
                )
                assert quota is not None
                assert told is not None
                served = [(await gate.admit(Call(ACME))).allowed for _ in range(20)].count(True)
                assert int(told[1]) == min(served, int(quota[1]))  # a burst is not told: it comes once

    run(story())


# Moments that are unlucky.


def test_callers_that_go_away_at_any_moment_are_charged_only_for_what_they_were_let_in_for(
    gate_of: GateOf, tmp_path: Path
) -> None:
    gate = gate_of(
        "limits:\n  life: {meter: requests, per: org, total: 1M}\n  open: {meter: streams, per: org, max: 1k}\n",
        f"sqlite:///{tmp_path / 'ledger.db'}",
    )
    served = 0

    async def visit() -> None:
        nonlocal served
        decision = await gate.admit(Call(ACME))
        served += 1
        await gate.settle(decision, {})

    async def story() -> None:
        for turns in range(12):
            visits = [asyncio.create_task(visit()) for _ in range(20)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for gone in visits[::2]:
                gone.cancel()
            await asyncio.gather(*visits, return_exceptions=True)
        await gate.resolver.idle()
        assert served >= 120
        assert await standing(gate) == {"life": (served, 0), "open": (0, 0)}
        await gate.close()

    run(story())


def test_what_timed_out_behind_a_foreign_lock_is_taken_back_when_the_file_is_free(
    gate_of: GateOf, tmp_path: Path
) -> None:
    gate = gate_of("limits: {life: {meter: requests, per: org, total: 1M}}\n", f"sqlite:///{tmp_path / 'ledger.db'}")

    async def story() -> None:
        assert (await gate.admit(Call(ACME))).allowed
        foreign = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        gate.deadline = 0.02
        refused = await asyncio.gather(*[gate.admit(Call(ACME)) for _ in range(30)])
        assert {decision.action.value for decision in refused} == {"unavailable"}
        foreign.execute("COMMIT")
        foreign.close()
        gate.deadline = None
        await gate.resolver.idle()
        assert await standing(gate) == {"life": (1, 0)}
        await gate.close()

    run(story())


class Away:
    """A store that is away until it is told to come back."""

    immediate = False
    punctual = False
    deadline = 1.0

    def __init__(self) -> None:
        self.there = open_store("memory://")
        self.away = True

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        if self.away:
            raise StoreError("away", transient=True)
        return await self.there.transact(commands, now)

    async def close(self) -> None:
        """Nothing to close."""


def test_a_place_that_was_granted_without_the_store_is_freed_there_though_the_store_is_back(gate_of: GateOf) -> None:
    gate = gate_of("limits: {open: {meter: streams, per: org, max: 10, on_store_error: local}}\n")
    gate.store = store = Away()

    async def story() -> None:
        first, second = await gate.admit(Call(ACME)), await gate.admit(Call(ACME))
        assert (first.degraded, second.action.value) == ("local", "unavailable")
        store.away = False
        assert (await gate.admit(Call(ACME))).degraded == ""
        await gate.settle(first, {})
        assert await standing(gate) == {"open": (0, 1)}
        store.away = True
        assert (await gate.admit(Call(ACME))).degraded == "local"

    run(story())


# Spellings.


@pytest.mark.parametrize("root_path", ["", "/api", "/headgate"])
@pytest.mark.parametrize(
    "path",
    [
        "/headgate", "/headgate/v1/usage", "/HEADGATE/v1/usage", "//headgate/v1/usage", "/x/../headgate/v1/usage",
        "/headgate/../secret", "/headgate;a/x", "/headgate?x", "/headgate#x", "/headgates", "/apiheadgate/x",
        "/api/headgate/v1/usage", "/api/headgate/../secret", "/headgate\\..\\secret", "http://host/headgate/v1/usage",
    ],
)  # fmt: skip
def test_headgates_own_pages_are_a_way_around_nothing(path: str, root_path: str, gate_of: GateOf) -> None:
    gate, reached, sent = gate_of("limits: {rpm: {meter: requests, per: ip, total: 1k}}\n"), [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])

    async def send(message: Any) -> None:
        sent.append(message)

    async def story() -> None:
        scope = {"type": "http", "method": "GET", "path": path, "root_path": root_path, "headers": []}
        await HeadgateMiddleware(app, gate=gate)({**scope, "client": ("192.0.2.1", 1)}, None, send)  # type: ignore[arg-type]
        decision = await gate.admit(Call(Principal("", ""), network="192.0.2.1"))
        [balance] = decision.balances
        assert balance is not None
        assert balance.used - 1 == len(reached)
        assert len(reached) + len(sent[:1]) == 1

    run(story())


BREAKING = r'"a\r\nset-cookie: b=1"'


@pytest.mark.parametrize(
    "text",
    [
        HEAD.replace("policy: test", f"policy: {BREAKING}")
        + "limits: {rpm: {meter: requests, per: ip, rate: 1/s}}\n",
        HEAD + f"limits: {{{BREAKING}: {{meter: requests, per: ip, rate: 1/s}}}}\n",
        HEAD + f"limits: {{rpm: {{meter: requests, per: ip, rate: 1/s, deny: {{message: {BREAKING}}}}}}}\n",
        HEAD + f"meters: {{{BREAKING}: {{from: app}}}}\nlimits: {{rpm: {{meter: {BREAKING}, per: ip, rate: 1/s}}}}\n",
        HEAD.replace("{anonymous", f"{{key: [{BREAKING.replace('a', 'header.a', 1)}], anonymous")
        + "limits: {rpm: {meter: requests, per: ip, rate: 1/s}}\n",
    ],
)
def test_no_word_of_a_policy_ends_a_line_of_a_reply(text: str, tmp_path: Path) -> None:
    (tmp_path / "headgate.yaml").write_text(text)
    with pytest.raises(PolicyError):
        load(tmp_path / "headgate.yaml")


def test_the_environment_ends_no_line_of_a_reply_either(tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(HEAD + "limits: {rpm: {meter: requests, per: ip, rate: 1/s}}\n")
    with pytest.raises(PolicyError, match="HEADGATE__POLICY"):
        load(file, environ={"HEADGATE__POLICY": "a\r\nset-cookie: b=1"})
    assert all(b"\n" not in value for _, value in nobody(load(file)).headers)


# Files that break while the service runs.


@pytest.mark.parametrize(
    "broken",
    [b"", b"\xff\xfe\x00", b"[" * 100_000, b"a: " * 5_000, b"&a [*a]", b"!!python/object/apply:os.system [x]", b"\0"],
    ids=["empty", "no text", "deep", "deep maps", "alias", "tag", "zero"],
)
def test_no_bytes_in_the_policys_file_end_the_service(broken: bytes, tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(HEAD + "limits: {rpm: {meter: requests, per: ip, total: 1}}\n")
    settings = Settings(policies=str(file), store="memory://", pepper="0" * 32, reload_seconds=0)

    async def story() -> None:
        service = Service(settings, environ={})
        await service.start()
        before = service.gate.policy
        file.write_bytes(broken)
        assert not await service.reload()
        assert service.degraded
        assert service.gate.policy is before
        assert (await service.gate.admit(Call(Principal("", ""), network="192.0.2.1"))).allowed
        await service.stop()

    run(story())


def test_a_policys_file_that_is_gone_or_a_folder_ends_no_service_either(tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(HEAD + "limits: {rpm: {meter: requests, per: ip, total: 1}}\n")
    settings = Settings(policies=str(file), store="memory://", pepper="0" * 32, reload_seconds=0)

    async def story() -> None:
        service = Service(settings, environ={})
        await service.start()
        before = service.gate.policy
        file.unlink()
        assert not await service.reload()
        file.mkdir()
        assert not await service.reload()
        assert service.gate.policy is before
        await service.stop()

    run(story())
