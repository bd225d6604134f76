"""Slices never grant what is not charged, whatever happens: several workers, one store, and all that goes wrong.

Beside the store runs the truth: what was really granted, by a reckoning of its own. It knows windows by when things
were granted and settled, and nothing of slices.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from headgate.clock import MILLISECOND, SECOND
from headgate.errors import StoreError
from headgate.quota.balance import Verb
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Extend,
    Granted,
    Join,
    Look,
    Merge,
    Outcome,
    Place,
    Reserve,
    Seen,
    Settle,
)
from headgate.quota.gcra import Rate
from headgate.quota.ledger import followed
from headgate.quota.match import slice_of
from headgate.quota.window import Quota, Rolling, Total
from headgate.stores.memory import MemoryStore
from headgate.stores.slices import SlicedStore
from headgate.testing import ManualClock

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
SUBJECTS = (b"one", b"two", b"group")
LIMITS = ("rate", "minute", "rolling", "life", "tokens")
HELD = ("tokens",)
MOVES = (1, 30 * MILLISECOND, SECOND, SECOND, 3 * SECOND, 5 * SECOND, 20 * SECOND, 70 * SECOND)
LEASE = 100 * SECOND
SHARE = 1_000


def verb_of(limit: str, variant: int, begun: int) -> Verb:
    """A limit's window; another variant grants another amount of the same."""
    more = (1, 2)[variant]
    edges = tuple(begun + n * MINUTE for n in range(-1, 600))
    verbs: dict[str, Verb] = {
        "rate": Rate(30, MINUTE, burst=10 * variant),
        "minute": Quota(40 * more, edges, spec=1),
        "rolling": Rolling(40 * more, MINUTE),
        "life": Total(100 * more),
        "tokens": Total(300 * more),
    }
    return verbs[limit]


class Wire:
    """One worker's way to the store: it may lose a command, or the answer."""

    immediate, punctual, deadline = False, False, 0.0

    def __init__(self, store: MemoryStore) -> None:
        self.store, self.fails, self.calls = store, "", 0

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        self.calls += 1
        fails, self.fails = self.fails, ""
        if fails == "before":
            raise StoreError("nothing was sent", transient=True)
        outcomes = await self.store.transact(commands, now)
        if fails == "after":
            raise StoreError("no answer came", transient=True, unknown=True)
        return outcomes

    async def close(self) -> None:
        """Nothing to let go of."""


@dataclass
class Truth:
    """What one place has really granted: (when, units) used, and units that are held."""

    used: list[tuple[int, int]] = field(default_factory=list)
    held: dict[bytes, int] = field(default_factory=dict)
    debt: int = 0

    def counts(self, verb: Verb, now: int) -> Fraction:
        """Units that count at `now`, by the definition of the window."""
        held = sum(self.held.values())
        if isinstance(verb, Quota):
            start, _ = verb.window(now)
            return Fraction(held + sum(units for at, units in self.used if at >= start))
        if isinstance(verb, Rolling):
            return Fraction(held + sum(units for at, units in self.used if at > now - verb.length))
        if isinstance(verb, Rate):
            level, last = Fraction(0), 0
            for at, units in self.used:
                level = max(Fraction(0), level - Fraction((at - last) * verb.amount, verb.period)) + units
                last = at
            return held + max(Fraction(0), level - Fraction((now - last) * verb.amount, verb.period))
        return Fraction(held + sum(units for _, units in self.used))


class Workers(RuleBasedStateMachine):
    """One run. `faults`: answers are lost and workers die; `merging`: groups form and end."""

    faults = merging = False

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.begun = self.clock.now
        self.ids = count(1)
        self.runner = asyncio.Runner()
        self.store = MemoryStore(clock=self.clock)
        self.variant = dict.fromkeys(LIMITS, 0)
        self.truth: dict[Place, Truth] = defaultdict(Truth)
        self.workers = [self.worker() for _ in range(3)]
        self.open: list[tuple[int, bytes, tuple[Demand, ...]]] = []
        self.last: tuple[int, Reserve, bool] | None = None
        self.exact = True

    def worker(self) -> tuple[Wire, SlicedStore]:
        wire = Wire(self.store)
        # Its clock stands elsewhere, and so do those of the others.
        skew = next(self.ids) * 1_000_003
        made = SlicedStore(
            wire, clock=lambda: self.clock.now - self.begun + skew, new_id=lambda: b"own%d" % next(self.ids)
        )
        return wire, made

    def say(self, worker: int, *commands: Command) -> list[Outcome]:
        """A worker's call; no answer is an empty one."""
        try:
            return self.runner.run(self.workers[worker][1].transact(commands))
        except StoreError:
            self.exact = False
            return []

    def demand(self, who: bytes, limit: str, amount: int) -> Demand:
        verb = verb_of(limit, self.variant[limit], self.begun)
        return Demand((who, limit), verb, amount, hold=limit in HELD, slice=slice_of(verb, SHARE))

    @initialize()
    def begin(self) -> None:
        """Every run has some slices to begin with."""
        for worker in range(3):
            for _ in range(3):
                self.reserved(worker, (self.demand(b"one", "life", 1), self.demand(b"one", "rate", 1)))

    @rule(data=st.data(), worker=st.integers(0, 2), many=st.sampled_from((1, 3, 12)))
    def reserve(self, data: Any, worker: int, many: int) -> None:
        """A few reservations of one kind, one after the other."""
        who = data.draw(st.sampled_from(SUBJECTS if self.merging else SUBJECTS[:2]))
        limits = data.draw(st.sampled_from(((), ("life",), ("tokens",), ("rate", "minute"), ("rolling", "tokens"))))
        limits = limits or (data.draw(st.sampled_from(LIMITS)),)
        amounts = data.draw(st.sampled_from(((1, 1), (1, 1), (3, 2), (2, 0), (0, 3), (30, 1))))
        demands = tuple(self.demand(who, limit, amount) for limit, amount in zip(limits, amounts, strict=False))
        for _ in range(many):
            self.reserved(worker, demands)

    def reserved(self, worker: int, demands: tuple[Demand, ...]) -> None:
        rid = b"%d" % next(self.ids)
        command = Reserve(rid, demands, LEASE)
        outcomes = self.say(worker, command)
        granted = bool(outcomes) and isinstance(outcomes[0], Granted)
        self.last = worker, command, granted
        if granted:
            self.granted(worker, command)

    def granted(self, worker: int, command: Reserve) -> None:
        now = self.clock.now
        for demand in command.demands:
            truth = self.truth[demand.place]
            if demand.hold:
                truth.held[command.rid] = demand.amount
            else:
                truth.used.append((now, demand.amount))
            if not self.merging:
                assert truth.counts(demand.verb, now) <= demand.verb.capacity + truth.debt, "more than the limit"
        held = tuple(demand for demand in command.demands if demand.hold)
        if held:
            self.open.append((worker, command.rid, held))

    @rule()
    def say_again(self) -> None:
        """The last reservation once more, under the same id: answered alike, and counted once."""
        if self.last is None:
            return
        worker, command, granted = self.last
        outcomes = self.say(worker, command)
        if granted and outcomes:
            assert isinstance(outcomes[0], Granted)
        elif outcomes and isinstance(outcomes[0], Granted):
            self.granted(worker, command)
        self.last = None

    @rule(data=st.data(), actual=st.sampled_from((0, 1, 1, 2, 30)))
    def settle(self, data: Any, actual: int) -> None:
        """What was held becomes what was used: less, as much, or more."""
        if self.open:
            worker, rid, held = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            self.settled(worker, rid, tuple(demand.of(actual) for demand in held))

    def settled(self, worker: int, rid: bytes, demands: tuple[Demand, ...]) -> None:
        for demand in demands:
            truth = self.truth[demand.place]
            reserved = truth.held.pop(rid, None)
            if reserved is not None:
                truth.used.append((self.clock.now, demand.amount))
                truth.debt += max(0, demand.amount - reserved)
        command: Command | None = Settle(rid, demands)
        for _ in range(6):
            if command is None:
                break
            outcomes = self.say(worker, command)
            command = followed(command, outcomes[0]) if outcomes else command

    @rule(data=st.data(), amount=st.sampled_from((0, 1, 5)))
    def extend(self, data: Any, amount: int) -> None:
        """An open reservation holds more, and for longer."""
        if not self.open or self.merging:
            return
        worker, rid, held = data.draw(st.sampled_from(self.open))
        outcomes = self.say(worker, Extend(rid, tuple(d.of(amount) for d in held), LEASE, next(self.ids)))
        if outcomes and isinstance(outcomes[0], Granted):
            for demand in held:
                truth = self.truth[demand.place]
                truth.held[rid] += amount
                # By the larger of the two policies: it may be extended from what was charged under the other.
                most = verb_of(demand.place[1], 1, self.begun).capacity
                assert truth.counts(demand.verb, self.clock.now) <= most + truth.debt

    @rule(worker=st.integers(0, 2), data=st.data())
    def cancel_at_once(self, worker: int, data: Any) -> None:
        """Granted, and undone before anything else happens: all of it comes back."""
        demands = (self.demand(b"two", "life", 2), self.demand(b"two", "tokens", 3))
        rid = b"%d" % next(self.ids)
        if self.say(worker, Reserve(rid, demands, LEASE)):
            for _ in range(data.draw(st.integers(1, 2))):
                self.say(worker, Cancel(rid, demands, LEASE))
            self.say(worker, Settle(rid, (demands[1],)))

    @rule(data=st.data(), microseconds=st.sampled_from(MOVES))
    def time_passes(self, data: Any, microseconds: int) -> None:
        """Time passes; some workers look after their slices meanwhile, others are too busy."""
        for _ in range(4):
            self.clock.advance(microseconds=-(-microseconds // 4))
            awake = data.draw(st.integers(0, 7), label="awake")
            for number in range(3):
                if awake >> number & 1:
                    self.tidy(number)
        for worker, rid, held in list(self.open):
            # Nothing stays open for longer than its lease: a gate renews it.
            self.say(worker, Extend(rid, tuple(d.of(0) for d in held), LEASE, next(self.ids)))

    def tidy(self, number: int) -> None:
        try:
            self.runner.run(self.workers[number][1].tidy())
        except StoreError:
            self.exact = False

    @rule(limit=st.sampled_from(LIMITS), variant=st.integers(0, 1))
    def reload(self, limit: str, variant: int) -> None:
        """A policy with another amount."""
        self.variant[limit] = variant

    @rule(worker=st.integers(0, 2), how=st.sampled_from(("before", "after", "dies")))
    def fault(self, worker: int, how: str) -> None:
        """The next call is lost, or its answer is; or the worker dies with all that it holds."""
        if not self.faults:
            return
        if how != "dies":
            self.workers[worker][0].fails = how
            return
        self.exact = False
        self.workers[worker], self.last = self.worker(), None
        for at, rid, held in self.open:
            if at == worker:
                for demand in held:
                    truth = self.truth[demand.place]
                    truth.used.append((self.clock.now, truth.held.pop(rid)))
        self.open = [one for one in self.open if one[0] != worker]

    @rule(worker=st.integers(0, 2), limit=st.sampled_from(("life", "tokens")), joins=st.booleans())
    def merge(self, worker: int, limit: str, joins: bool) -> None:
        """Two become a group, or a group is raised to what they have."""
        if not self.merging:
            return
        one, two, group = (self.demand(who, limit, 0) for who in SUBJECTS)
        if joins:
            self.exact = False
            self.say(worker, Join(group, (one, two)))
        else:
            self.say(worker, Merge(group, (one, two)))

    @rule()
    def charged_before_spent(self) -> None:
        """At any instant the store has charged at least what was granted, wherever merges have moved it."""
        for limit in ("life", "tokens"):
            verb = verb_of(limit, 0, self.begun)
            places = [(who, limit) for who in SUBJECTS]
            granted = sum([self.truth[place].counts(verb, self.clock.now) for place in places], Fraction(0))
            if self.faults:  # what was used beyond what had been granted is told when the store can be told again
                granted -= sum(self.truth[place].debt for place in places)
            [seen] = self.runner.run(self.store.transact([Look(tuple(Demand(p, verb, 0) for p in places))]))
            assert isinstance(seen, Seen)
            charged = sum(
                b.used + (b.holds.held if b.holds is not None else 0) for b in seen.balances if b is not None
            )
            assert granted <= charged, f"{limit}: granted {granted}, charged {charged}"

    def teardown(self) -> None:
        """When all is settled and every lease is over, what is used is what was granted."""
        try:
            self.charged_before_spent()
            for wire, _ in self.workers:
                wire.fails = ""
            for worker, rid, held in self.open:
                self.settled(worker, rid, held)
            self.open.clear()
            for _ in range(3):
                self.clock.advance(2)
                for number in range(3):
                    self.tidy(number)
            self.charged_before_spent()
            for place, truth in self.truth.items():
                if place[1] not in ("life", "tokens"):
                    continue
                [seen] = self.runner.run(self.store.transact([Look((Demand(place, Total(1), 0),))]))
                assert isinstance(seen, Seen)
                [balance] = seen.balances
                used = balance.used if balance is not None else 0
                assert balance is None or balance.holds is None or not self.exact or not balance.holds.held
                if self.exact and not self.merging:
                    assert used == truth.counts(Total(1), self.clock.now), place
        finally:
            self.runner.close()


class Faults(Workers):
    faults = True


class Groups(Workers):
    merging = True


class Both(Workers):
    faults = merging = True


OURS = settings(deadline=None, stateful_step_count=40, suppress_health_check=list(HealthCheck))


def test_no_limit_is_passed_and_in_the_end_used_is_what_was_granted() -> None:
    run_state_machine_as_test(Workers, settings=OURS)


def test_no_limit_is_passed_when_answers_are_lost_and_workers_die() -> None:
    run_state_machine_as_test(Faults, settings=OURS)


def test_what_is_granted_was_charged_before_wherever_groups_have_moved_it() -> None:
    run_state_machine_as_test(Groups, settings=OURS)


def test_what_is_granted_was_charged_before_when_all_goes_wrong_at_once() -> None:
    run_state_machine_as_test(Both, settings=OURS)
