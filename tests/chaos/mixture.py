"""Everything that may be said to a ledger, in an order that nobody would think of, drawn from a seed.

Law: what is said is what a fleet says: reservations over keys, orgs, groups and addresses under windows of every
kind, held ones too; what follows them, for those that are open and for others that nobody ever heard of; and
customers that are linked and unlinked.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from headgate.clock import SECOND
from headgate.errors import StoreError
from headgate.quota.balance import Verb
from headgate.quota.calendar import Calendar
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Extend,
    Join,
    Look,
    Merge,
    Outcome,
    Refused,
    Reserve,
    Settle,
)
from headgate.quota.gcra import Rate
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores.contract import Store

MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
LEASE = 2 * SECOND
OPEN = 200
"""Reservations that are open at most; then the oldest is left to its lease."""


def verbs(now: int) -> dict[str, Verb]:
    """A limit of each kind, and some more."""
    return {
        "second": Rate(20, SECOND),
        "minute": Rate(600, MINUTE, 50),
        "tokens": Rate(1_000_000, MINUTE),
        "day": Calendar(10_000, "day").quota(now, None),
        "month": Calendar(100_000, "month").quota(now, None),
        "first": Quota(5_000, (), spec=7, length=HOUR),
        "rolling": Rolling(9_000, DAY),
        "streams": Max(8, LEASE),
        "life": Total(10**9),
        "few": Total(3),
    }


class Mixture:
    """What is said to one store. `orgs`, `groups`, `addresses`: how many of each there are; of an org four keys."""

    def __init__(self, store: Store, seed: int, *, orgs: int = 40, groups: int = 5, addresses: int = 60) -> None:
        self._store = store
        self._lot = random.Random(seed)
        tags = [self._lot.randbytes(8) for _ in range(orgs)]
        self._subjects = [tag + self._lot.randbytes(8) for tag in tags for _ in range(5)]
        self._groups = [self._lot.randbytes(16) for _ in range(groups)]
        self._elsewhere = [self._lot.randbytes(16) for _ in range(addresses)] + self._groups
        self._verbs = verbs(time.time_ns() // 1_000)
        self._open: dict[bytes, tuple[Demand, ...]] = {}
        self.refused = self.failed = 0

    async def said(self, times: int) -> None:
        """So many calls; some of several commands."""
        for _ in range(times):
            commands = [self._command() for _ in range(self._lot.choice((1, 1, 1, 2, 5)))]
            try:
                outcomes = await self._store.transact(commands)
            except StoreError:
                self.failed += 1
                continue
            self._heard(commands, outcomes)

    def _heard(self, commands: Sequence[Command], outcomes: Sequence[Outcome]) -> None:
        for command, outcome in zip(commands, outcomes, strict=True):
            self.refused += isinstance(outcome, Refused)
            if isinstance(command, Reserve) and any(demand.hold for demand in command.demands):
                self._open[command.rid] = command.demands
                if len(self._open) > OPEN:
                    del self._open[next(iter(self._open))]

    def _command(self) -> Command:
        lot = self._lot
        match lot.choices(("reserve", "follow", "look", "merge", "join"), (60, 30, 4, 4, 2))[0]:
            case "reserve":
                return Reserve(lot.randbytes(16), self._demands(), LEASE)
            case "follow":
                return self._following()
            case "look":
                return Look(self._demands())
            case "merge":
                limit = lot.choice(tuple(self._verbs))
                into = lot.choice(self._groups)
                return Merge(self._demand(into, limit), tuple(self._demand(s, limit) for s in self._some(3)))
            case _:
                limit = lot.choice(tuple(self._verbs))
                into = self._demand(self._groups[0], limit)
                return Join(into, tuple(self._demand(s, limit) for s in self._some(3)))

    def _following(self) -> Command:
        """What follows a reservation: one that is open, or one that nobody heard of."""
        lot = self._lot
        if self._open and lot.random() < 0.9:
            rid, demands = lot.choice(list(self._open.items()))
        else:
            rid, demands = lot.randbytes(16), self._demands()
        held = tuple([demand.of(lot.randrange(4)) for demand in demands if demand.hold])
        match lot.choice(("extend", "settle", "settle", "cancel")):
            case "extend":
                return Extend(rid, held, LEASE, lot.randrange(1, 5))
            case "settle":
                self._open.pop(rid, None)
                return Settle(rid, held)
            case _:
                self._open.pop(rid, None)
                return Cancel(rid, demands, LEASE)

    def _some(self, many: int) -> list[bytes]:
        return self._lot.sample(self._subjects, many)

    def _demands(self) -> tuple[Demand, ...]:
        """Of one request: a key and its org, sometimes its address or group besides."""
        lot = self._lot
        org = 5 * lot.randrange(len(self._subjects) // 5)
        subjects = [self._subjects[org], self._subjects[org + lot.randrange(1, 5)]]
        if lot.random() < 0.3:
            subjects.append(lot.choice(self._elsewhere))
        places = [(subject, limit) for subject in subjects for limit in lot.sample(tuple(self._verbs), 3)]
        return tuple([self._demand(*place) for place in places[: lot.randint(1, len(places))]])

    def _demand(self, subject: bytes, limit: str) -> Demand:
        lot = self._lot
        hold = limit == "streams" or lot.random() < 0.15
        return Demand((subject, limit), self._verbs[limit], lot.randrange(4), hold, lot.random() < 0.1)
