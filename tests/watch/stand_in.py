"""A learner for tests: keys that said the same clause are one group. It counts what it saw, and can be kept."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from headgate.errors import StoreError
from headgate.linking.finding import Evidence, Finding
from headgate.linking.observation import Observation
from headgate.watch.parcel import Parcel, packed

T = TypeVar("T")


class Forgetful:
    """It cannot be kept."""

    def __init__(self) -> None:
        self.holders: dict[int, dict[str, int]] = {}
        self.orgs: dict[str, str] = {}
        self.many = 0

    def saw(self, observation: Observation) -> None:
        if observation.key == "k_stumble":
            raise RuntimeError("said: " + observation.key)
        self.many += 1
        self.orgs[observation.key] = observation.org
        for clause in observation.clauses:
            self.holders.setdefault(clause, {}).setdefault(observation.key, observation.at)

    def findings(self) -> list[Finding]:
        found: list[Finding] = []
        for members in self.holders.values():
            if len(members) > 1:
                orgs = tuple(sorted({self.orgs[key] for key in members}))
                seen = Evidence("questions", tuple(members), 20.0, f"of {self.many} requests")
                found.append(Finding(dict(members), orgs, 0.99, (seen,)))
        return found


class Alike(Forgetful):
    """It can."""

    def state(self) -> bytes:
        return msgspec.msgpack.encode((list(self.holders.items()), self.orgs, self.many))

    @classmethod
    def of(cls, state: bytes) -> Alike:
        try:
            holders, orgs, many = msgspec.msgpack.decode(state)
        except (msgspec.MsgspecError, ValueError):
            raise ValueError("no state of mine") from None
        learner = cls()
        learner.holders, learner.orgs, learner.many = dict(holders), orgs, many
        return learner


def seen(key: str, *clauses: int, at: int = 7) -> Observation:
    return Observation(at, key, f"org of {key}", True, clauses=clauses)


def parcel(author: bytes, number: int, *observations: Observation) -> bytes:
    return packed(Parcel(author, number, list(observations)))


class Register:
    """What was published: every list in order, and whether it was whole. `down`: it does not answer."""

    def __init__(self) -> None:
        self.lists: list[Sequence[Finding]] = []
        self.whole: list[bool] = []
        self.down = False

    async def empty(self) -> bool:
        return not any(self.lists)

    async def publish(self, findings: Sequence[Finding], now: int, *, whole: bool) -> None:
        if self.down:
            raise StoreError("the register does not answer", transient=True)
        self.lists.append(findings)
        self.whole.append(whole)

    @property
    def groups(self) -> list[set[str]]:
        return [set(one.members) for one in self.lists[-1]] if self.lists else []


def run(story: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(story)
