"""What is said to the slots of a cluster besides the ledger's commands, against its specification in Python.

`fake_cluster.Slot` says in terms of `apply` what each is to do; here the script does it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from headgate.clock import SECOND
from headgate.quota.balance import LATE, Balance, Verb
from headgate.quota.command import (
    Cancel,
    Demand,
    Extend,
    Gone,
    Granted,
    Look,
    Place,
    Refused,
    Reserve,
    Settle,
    Settled,
)
from headgate.quota.gcra import Rate
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores.redis.script.keys import tag_of
from headgate.stores.redis.script.parcel import Give, Given, Lift, Parted, Show, Shown, Take, Tie, Try, Undo, Weigh
from headgate.testing import ManualClock
from headgate.testing.servers import Server
from headgate.testing.store_machine import FEW, LEASE, MANY, same
from stores.redis.fake_cluster import Slot
from stores.redis.scripted import DAY, HOUR, MINUTE, Scripted

ORG, CUSTOMER, GROUP = b"acme's--its org.", b"beta's--its org.", b"group---itself--"
SUBJECTS = (ORG, CUSTOMER, GROUP)
SHORT = 2 * SECOND

VERBS: dict[str, tuple[Verb, ...]] = {
    "rate": (Rate(60, MINUTE), Rate(7, HOUR), Rate(60, MINUTE, burst=9)),
    "roll": (Rolling(50, HOUR), Rolling(50, MINUTE), Rolling(9, HOUR)),
    "seats": (Max(5, LEASE), Max(2, LEASE), Max(5, LEASE)),
    "life": (Total(90), Rate(60, MINUTE), Total(20)),
    "records": (Total(3_000), Quota(2_000, (), 1, length=DAY), Total(20)),
}
BUNDLES = (*FEW, *MANY)
MOVES = (1, SECOND, SHORT, 9 * SECOND, LEASE, LATE, 2 * HOUR, -SECOND, -400 * SECOND)


@pytest.fixture
def client(valkey: Server) -> Iterator[Redis]:
    with valkey.client() as client:
        yield client


def as_known(balance: Balance, into: Place) -> Balance:
    """A balance as a join would carry it to a place: its holds are there, or are to be there, or nowhere else."""
    if balance.holds is None:
        return balance
    by_rid = {
        rid: hold if hold.to in (None, into) else hold._replace(to=None, also=False)
        for rid, hold in balance.holds.by_rid.items()
    }
    return balance._replace(holds=balance.holds._replace(by_rid=by_rid))


class Story:
    """A random conversation with two ledgers that ought to be one."""

    def __init__(self, seed: int, client: Redis) -> None:
        client.flushall()
        self.lot = random.Random(seed)
        self.clock = ManualClock()
        self.store = Scripted(client, self.clock)
        self.slots: dict[bytes, Slot] = {}
        self.numbers = count()
        self.reserved: list[Any] = []
        self.parcels: list[Any] = []
        self.seen: dict[Demand, Balance | None] = {}

    def demand(self, *whom: bytes, amount: int | None = None) -> Demand:
        limit = self.lot.choice(list(VERBS))
        verb = self.lot.choice((VERBS[limit][0], *VERBS[limit]))
        units = self.lot.choice((0, 1, 1, 2, 5, 40)) if amount is None else amount
        hold, shadow = limit == "seats" or self.lot.random() < 0.4, self.lot.random() < 0.2
        things = self.lot.choice(BUNDLES) if limit == "records" and hold and amount is None else ()
        return Demand(
            (self.lot.choice(whom or SUBJECTS), limit), verb, units, hold=hold, shadow=shadow, things=things
        )

    def demands(self) -> tuple[Demand, ...]:
        who = self.lot.choice(SUBJECTS)
        asked = {demand.place: demand for demand in [self.demand(who) for _ in range(self.lot.randint(1, 3))]}
        return tuple(asked.values())

    def drawn(self) -> Any:
        kind = self.lot.choice(
            (
                "reserve",
                "try",
                "try",
                "of",
                "of",
                "of",
                "weigh",
                "give",
                "take",
                "given",
                "lift",
                "tie",
                "look",
                "show",
            )
        )
        rid = b"rid-%d" % next(self.numbers)
        if kind == "reserve":
            return self.noted(Reserve(rid, self.demands(), LEASE))
        if kind == "try":
            return self.noted(Try(rid, self.demands(), LEASE, SHORT))
        # What is said again comes within the time for which its verdict is remembered.
        lately = [command for command, at in self.reserved[-5:] if at <= self.clock.now < at + LEASE]
        if kind == "of" and lately:
            return self.of(self.lot.choice(lately))
        if kind == "weigh":
            return Weigh(self.demands())
        if kind == "give":
            source = self.demand(ORG, CUSTOMER, amount=0)
            return Give(rid, source.at((GROUP, source.place[1])), source)
        known = [(parcel, source) for parcel, source in self.parcels if parcel.until > self.clock.now]
        if kind in ("take", "given") and known:
            parcel, source = self.lot.choice(known[-4:])
            into = self.demand(GROUP, amount=0)
            verb = self.lot.choice(VERBS[parcel.into[1]])
            return (
                Take(into._replace(place=parcel.into, verb=verb), parcel)
                if kind == "take"
                else Given(parcel.id, source)
            )
        if kind in ("lift", "tie"):
            source = self.demand(GROUP, amount=0)
            shown = self.store.one(Show(source))
            into = source.at((ORG, source.place[1]))._replace(verb=self.lot.choice(VERBS[source.place[1]]))
            if shown.balance is None or kind == "tie":
                holds = shown.balance.holds if shown.balance is not None else None
                return Tie(source, into.place, tuple(holds.by_rid)[:2] if holds is not None else ())
            return Lift(into, as_known(shown.balance, into.place), shown.things.data if shown.things else b"")
        return Show(self.demand()) if kind == "show" else Look(self.demands())

    def noted(self, command: Any) -> Any:
        self.reserved.append((command, self.clock.now))
        return command

    def of(self, command: Any) -> Any:
        """What follows a reservation; or the same again."""
        held = tuple(d.of(self.lot.choice((0, 1, 9))) for d in command.demands)
        undo = Undo(command.rid, command.demands)
        extend = Extend(command.rid, held, LEASE, self.lot.randint(0, 2))
        cancel = Cancel(command.rid, command.demands, LEASE)
        follows = (command, Settle(command.rid, held), undo, undo, cancel, extend)
        return self.lot.choice(follows)

    def step(self) -> None:
        if self.lot.random() < 0.3:
            self.clock.now += self.lot.choice(MOVES)
            return
        command = self.drawn()
        outcome = self.store.one(command)
        slot = self.slots.setdefault(tag_of(command.demands[0].place[0]), Slot())
        expected = slot.does(command, outcome.now)
        assert told(outcome) == told(expected), f"{command}\n{outcome}\n{expected}"
        if isinstance(outcome, Parted) and outcome.parcel is not None:
            self.parcels.append((outcome.parcel, command.source))


def told(outcome: Any) -> Any:
    """An outcome to compare. When the first hold is due may be told earlier than it is, and decides nothing."""
    if isinstance(outcome, Parted):
        source = same(Settled(outcome.now, (undated(outcome.balance),)), outcome.now)
        parcel = outcome.parcel
        if parcel is None:
            return source, None
        balance = undated(parcel.balance)
        since = 0 if balance.kind == "total" else balance.since  # it decides nothing, as `same` has it
        held = None if balance.holds is None else dict(balance.holds.by_rid)
        return source, parcel.id, parcel.into, balance.kind, balance.used, since, balance.parts, held, parcel.things
    if isinstance(outcome, Shown):
        counts = outcome.balance is not None and outcome.balance.used and outcome.things is not None
        counts = counts and outcome.things.since == outcome.balance.since
        seen = same(Settled(outcome.now, (undated(outcome.balance),)), outcome.now)
        return seen, outcome.things.data if counts else b""
    if isinstance(outcome, Settled):
        # What undoes holds is told of holds; the specification makes cancellations of it.
        outcome = outcome._replace(moved=tuple(demand._replace(hold=True) for demand in outcome.moved))
    if not isinstance(outcome, Gone):
        outcome = outcome._replace(balances=tuple(undated(balance) for balance in outcome.balances))
    return same(outcome, outcome.now)


def undated(balance: Any) -> Any:
    if balance is None or balance.holds is None:
        return balance
    return balance._replace(holds=balance.holds._replace(due=0))


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_the_script_does_with_parcels_as_the_specification_does(seed: int, client: Redis) -> None:
    story = Story(seed, client)
    for _ in range(60):
        story.step()
    assert all(client.pttl(key) > 0 for key in client.scan_iter(count=1_000))


# What is moved is moved once, whatever is cut off and said again.


def used(store: Scripted, demand: Demand) -> tuple[int, int]:
    [balance] = store.one(Look((demand,))).balances
    if balance is None:
        return 0, 0
    return balance.used, balance.holds.held if balance.holds is not None else 0


@pytest.mark.parametrize("times", list(product((1, 2), repeat=3)))
@pytest.mark.parametrize("cut", range(4))
def test_give_take_and_given_move_everything_once_wherever_they_are_cut_off(
    times: tuple[int, int, int], cut: int, client: Redis
) -> None:
    store = Scripted(client, ManualClock())
    source, into = (Demand((who, "life"), Total(100), 0) for who in (ORG, GROUP))
    hold = source.of(20)._replace(hold=True)
    assert isinstance(store.one(Reserve(b"used", (source.of(7),), LEASE)), Granted)
    assert isinstance(store.one(Reserve(b"held", (hold,), LEASE)), Granted)

    def moved(ident: bytes, upto: int) -> None:
        """The steps of a hand-over as far as it goes, each said so often; the last ones may never be said."""
        parcel = None
        for _ in range(times[0] * (upto > 0)):
            parcel = store.one(Give(ident, into, source)).parcel
        for _ in range(times[1] * (upto > 1) * (parcel is not None)):
            store.one(Take(into, parcel))
            assert used(store, into)[0] <= 7
        for _ in range(times[2] * (upto > 2) * (parcel is not None)):
            store.one(Given(parcel.id, source))

    moved(b"first", cut)
    if cut:
        assert used(store, source) == (0, 0)
    moved(b"again", 3)
    moved(b"third", 3)
    assert (used(store, source), used(store, into)) == ((0, 0), (7, 20))
    settled = store.one(Settle(b"held", (hold.of(5),)))
    assert settled.moved == (hold.of(5).at(into.place),), "a note is left where it was"
    store.one(Settle(b"held", settled.moved))
    assert used(store, into) == (12, 0)


def test_what_is_used_while_a_parcel_waits_goes_with_the_next_one(client: Redis) -> None:
    store = Scripted(client, ManualClock())
    source, into = (Demand((who, "life"), Total(100), 0) for who in (ORG, GROUP))
    store.one(Reserve(b"1", (source.of(7),), LEASE))
    first = store.one(Give(b"first", into, source)).parcel
    store.one(Reserve(b"2", (source.of(5),), LEASE))
    again = store.one(Give(b"again", into, source))
    assert (again.parcel, again.balance.used) == (first, 5), "nothing more is taken out while one waits"
    store.one(Take(into, first))
    store.one(Given(b"another", source))
    assert store.one(Give(b"third", into, source)).parcel == first, "only who took it tells that it is gone"
    store.one(Given(first.id, source))
    second = store.one(Give(b"again", into, source)).parcel
    store.one(Take(into, second))
    store.one(Take(into, first))
    assert (second.id, used(store, into)) == (b"again", (12, 0))


def test_a_receipt_of_what_was_taken_outlives_the_outbox(client: Redis) -> None:
    clock = ManualClock()
    store = Scripted(client, clock)
    for n, verb in enumerate((Rate(60, MINUTE), Total(9))):
        source, into = (Demand((who, f"limit-{n}"), verb, 1) for who in (ORG, GROUP))
        store.one(Reserve(b"%d" % n, (source,), LEASE))
        parcel = store.one(Give(b"id-%d" % n, into, source)).parcel
        store.one(Take(into, parcel))
        [outbox] = [key for key in client.scan_iter() if key[:2] == b"hm"]
        [receipt] = [key for key in client.scan_iter() if key[:2] == b"hr" and key.endswith(b"id-%d" % n)]
        assert client.pttl(receipt) > client.pttl(outbox) + LATE / 2_000
        store.one(Given(parcel.id, source))
        assert not client.exists(outbox)


def test_what_a_tried_reservation_took_comes_back_without_a_trace(client: Redis) -> None:
    clock = ManualClock()
    store = Scripted(client, clock)
    life, seat = Demand((ORG, "life"), Total(10), 10), Demand((ORG, "seats"), Max(1, LEASE), 1, hold=True)
    for _ in range(2):
        assert isinstance(store.one(Try(b"1", (life, seat), LEASE, SHORT)), Granted)
        assert isinstance(store.one(Try(b"2", (life,), LEASE, SHORT)), Refused)
        store.one(Undo(b"1", (life, seat)))
    assert isinstance(store.one(Reserve(b"1", (life, seat), LEASE)), Granted), "not gone: it was never heard of"
    store.one(Undo(b"1", (life, seat)))
    assert used(store, life) == (10, 0), "what was used in earnest stays used"
    store.one(Cancel(b"3", (life,), LEASE))
    store.one(Undo(b"3", (life,)))
    assert isinstance(store.one(Try(b"3", (life,), LEASE, SHORT)), Gone)
    clock.now += SHORT
    store.one(Reserve(b"4", (life.at((CUSTOMER, "life")),), LEASE))
    assert isinstance(store.one(Try(b"5", (life.at((GROUP, "life")),), LEASE, SHORT)), Granted)
    clock.now += SHORT
    assert isinstance(store.one(Reserve(b"6", (life.at((GROUP, "life")).of(1),), LEASE)), Refused), "it was charged"
