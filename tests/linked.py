"""Orgs that are declared to be one customer: the words that stories of groups and of their joins share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from headgate.gate import Gate
from headgate.policy.compiled import Policy
from headgate.quota.facts import Call, Principal

DAY = 86_400
REQUESTS = "limits: {month: {meter: requests, per: group, quota: 100/month}}\n"
ROWS = "meters: {rows: {from: app}}\nlimits: {month: {meter: rows, per: group, quota: 100/month}}\n"

PolicyOf = Callable[[str], Policy]
GateOf = Callable[[str], Gate]


def linked(*groups: str) -> str:
    """The declarations that say so: `linked("acme, labs")`."""
    entries = ", ".join([f"{{orgs: [{group}], reason: one owner, until: 2036-12-31}}" for group in groups])
    return f"linking: {{affiliated: [{entries}]}}\n"


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def use(gate: Gate, who: Principal, rows: int = 1) -> bool:
    decision = await gate.admit(Call(who))
    await gate.settle(decision, {"rows": rows})
    return decision.allowed


async def used(gate: Gate, who: Principal) -> int:
    [(_, found)] = await gate.look(who)
    return found.used
