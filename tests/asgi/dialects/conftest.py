"""Decisions of a gate whose clock stands still, and what each dialect makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headgate.asgi import replies
from headgate.asgi.dialects import Dialect, dialects
from headgate.policy.compiled import Policy
from headgate.quota.decision import Decision
from headgate.quota.facts import Call, Principal
from headgate.quota.match import Limit

NAMES = ("ietf", "openai", "anthropic", "github", "legacy")
ALICE = Principal("k_alice", "acme")

Decide = Callable[..., tuple[Decision, Policy]]


@pytest.fixture(params=NAMES)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Each of them in turn."""
    return dialects(b"pepper")[request.param]


@pytest.fixture
def decide(stage: Any) -> Decide:
    """`decide(*limits, times=4)`: the last of so many decisions, always under one id, and the policy."""

    def decided(*limits: Limit, times: int = 1, who: Principal = ALICE, **policy: Any) -> tuple[Decision, Policy]:
        gate = stage.gate(*limits, **policy)

        async def asked() -> Decision:
            return [await gate.admit(Call(who)) for _ in range(times)][-1]

        return replace(asyncio.run(asked()), id="1f" * 16), gate.policy

    return decided


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No jitter: a wait is what the limit needs."""
    monkeypatch.setattr(replies, "SPREAD", 0)
    monkeypatch.setattr(replies, "OUTAGE_SPREAD_MS", 1)
