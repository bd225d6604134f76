"""One operator behind several keys: real work, moved over them as its hand and its deal say, under ordinary use.

Law: times ascend; a key's plan refuses as it would refuse anybody; and what was taken for the operator is marked, so
that cover traffic is never counted as its loot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from headgate.drill.accounts import Account, Addresses
from headgate.drill.dealing import Deal
from headgate.drill.hands import Hand, Reborn
from headgate.drill.jobs import Job
from headgate.drill.work import Request, Requests, Work, Worker

_ARRIVAL, _TASK, _COVER = range(3)

_TRIES = 3
"""A piece that is refused, or finds no key, is given up after so many more."""

_DONE = 400
"""So many turns in a row for which nothing was left, and the list is done."""


@dataclass(slots=True)
class Operator:
    """What an operator has and how it goes about it."""

    name: str
    accounts: list[Account]
    job: Job
    hand: Hand
    deal: Deal
    arrivals: Iterator[float]
    end: float
    covers: list[tuple[Iterator[float], Worker]] = field(default_factory=list)
    """For each key, when and what it asks for besides."""
    jitter: float = 0.0
    """Seconds by which a piece of work may wait before it is sent."""
    duplicates: float = 0.0
    """Share of requests for what was taken already."""
    shown: list[Addresses] = field(default_factory=list)
    """Addresses of a reseller's customers, where these are what is seen."""

    def requests(self, random: Random) -> Requests:
        """All requests of its keys, in the order of their times."""
        # Entries are (time, turn, what, key, work): the turn keeps equal times in order and is never equal itself. A
        # task has no key yet: there stands how often it was tried.
        due: list[tuple[float, int, int, int, Work | None]] = []
        turn = 0
        taken: list[int] = []
        idle = 0

        def add(at: float | None, what: int, key: int = 0, work: Work | None = None) -> None:
            nonlocal turn
            if at is not None:
                turn += 1
                heappush(due, (at, turn, what, key, work))

        add(next(self.arrivals, None), _ARRIVAL)
        for key, (times, _) in enumerate(self.covers):
            add(next(times, None), _COVER, key)
        while due:
            at, _, what, key, work = heappop(due)
            if at >= self.end:  # what had to wait beyond it
                continue
            if what == _COVER:
                times, worker = self.covers[key]
                add(next(times, None), _COVER, key)
                own = worker.next(at)
                if own is not None:
                    yield answered(random, self.accounts[key], at, own)
                continue
            if what == _ARRIVAL:
                if idle < _DONE:
                    add(next(self.arrivals, None), _ARRIVAL)
                if self.jitter:
                    add(at + random.random() * self.jitter, _TASK)
                    continue
            picked = self.hand.pick(at)
            if picked is None:
                if work is not None and key < _TRIES:
                    add(at + 1.5 + random.random(), _TASK, key + 1, work)
                continue
            number = None
            if work is None:
                number = self._number(random, picked, at, taken)
                work = None if number is None else self.job.piece(number, at)
            if work is None:
                idle += 1
                continue
            idle = 0
            account = self.accounts[picked]
            made = answered(random, account, at, work, self.name)
            if self.shown and number is not None:
                made = made._replace(address=self.shown[number % len(self.shown)].at(random, at))
            if made.status == 429:
                self.hand.refused(picked, at)
                if key < _TRIES:
                    add(at + 0.4 + random.expovariate(0.5), _TASK, key + 1, work)
            yield made
            if isinstance(self.hand, Reborn) and self.hand.blocked(picked):
                self.job.changed()
                for again in range(1 + int(random.random() * 3)):
                    yield made._replace(at=at + 0.001 * (again + 1), status=403, group="")

    def _number(self, random: Random, key: int, at: float, taken: list[int]) -> int | None:
        if taken and random.random() < self.duplicates:
            return taken[int(random.random() * len(taken))]
        number = self.deal.number(key, at)
        if number is not None and self.duplicates:
            if len(taken) < 2048:
                taken.append(number)
            else:
                taken[int(random.random() * 2048)] = number
        return number


# One in so many requests fails for a reason of the server's or of the request's own.
_FAILS = ((0.003, 500), (0.008, 400), (0.011, 404))


def answered(random: Random, account: Account, at: float, work: Work, group: str = "") -> Request:
    """A request and how it ends: 429 where the plan is used up, now and then a fault, else with what it asked for."""
    status = 200
    if not account.charge(at, work.cost):
        status = 429
    elif (luck := random.random()) < 0.011:
        status = next(status for below, status in _FAILS if luck < below)
    if status != 200:
        work = work._replace(size=140, tokens_out=0, items=() if work.items is not None else None)
        group = ""
    return Request(at, account, work, status, account.addresses.at(random, at), group)
