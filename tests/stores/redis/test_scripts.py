"""The script against the specification, on Valkey and on Redis 7.0; and what only a script can do wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from headgate.clock import SECOND
from headgate.quota.balance import CLOCK_SKEW, LATE, SAFE, Verb
from headgate.quota.calendar import Calendar
from headgate.quota.command import (
    Cancel,
    Command,
    Demand,
    Extend,
    Gone,
    Granted,
    Join,
    Look,
    Merge,
    NotYet,
    Refused,
    Reserve,
    Settle,
)
from headgate.quota.gcra import Rate
from headgate.quota.things import Things
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores.redis.script import codec
from headgate.stores.redis.script.keys import keys_of
from headgate.stores.redis.script.parcel import Show
from headgate.testing import ManualClock
from headgate.testing.servers import Server
from headgate.testing.store_machine import LEASE, StoreMachine, same
from stores.redis.scripted import (
    DAY,
    HOUR,
    MINUTE,
    LargeMachine,
    PlainMachine,
    Scripted,
    ScriptMachine,
    ThingsMachine,
)

ORG = b"acme's--"
KEY, CUSTOMER, GROUP = ORG + b"its key.", ORG + b"its org.", ORG + b"a group."


@pytest.fixture(params=["valkey", "redis7"])
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def client(server: Server) -> Iterator[Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(client: Redis, clock: ManualClock) -> Scripted:
    return Scripted(client, clock)


def on(limit: str, verb: Verb, amount: int = 1, who: bytes = KEY, *, hold: bool = False) -> Demand:
    return Demand((who, limit), verb, amount, hold=hold)


def ask(number: int, *demands: Demand) -> Reserve:
    return Reserve(b"rid-%d" % number, demands, LEASE)


def calls(client: Redis, *names: str) -> int:
    told = client.info("commandstats")
    return sum([told.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names])


# The specification.


def run(kind: type[StoreMachine], client: Redis, **how: Any) -> None:
    """Says what the machine says; in the end every key has a time to live, and the sketches that count are those of
    the specification, byte by byte."""

    class Checked(kind):  # type: ignore[misc, valid-type]
        def teardown(self) -> None:
            super().teardown()
            assert all(client.pttl(key) > 0 for key in client.scan_iter(count=1_000))
            for place, balance in self.balances.items():
                since, data = self.sketches.get(place, Things(0, b""))
                window = 0 if balance.kind == "total" else balance.since
                if data and balance.used and window == since and balance.until > self.clock.now:
                    shown = self.store.one(Show(Demand(place, Total(1), 0)))
                    assert shown.things == (since, data)

    def make_store(clock: ManualClock) -> Scripted:
        client.flushall()
        return Scripted(client, clock, **how)

    ours = settings(deadline=None, stateful_step_count=40, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(lambda: Checked(make_store), settings=ours)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [ScriptMachine, LargeMachine, PlainMachine, ThingsMachine, StoreMachine])
def test_the_script_answers_as_the_specification_does(kind: type[StoreMachine], client: Redis) -> None:
    run(kind, client)


def test_a_settlement_that_names_a_place_twice_leaves_the_sketch_of_the_balance_that_it_leaves(
    store: Scripted, clock: ManualClock
) -> None:
    """Both places of a reservation were moved into one, under two windows: it is told of that one twice."""
    machine = ThingsMachine(lambda clock: store)  # type: ignore[arg-type, return-value]
    machine.clock = clock
    day = clock.now - clock.now % DAY
    days = Quota(9, tuple(day + n * DAY for n in range(4)), spec=1)
    weeks = Quota(9, tuple(day - DAY + n * 7 * DAY for n in range(4)), spec=2)
    one, other, third = (
        on("records", days, 0, hold=True)._replace(things=(name,)) for name in (b"a thing.", b"another.", b"a third.")
    )
    try:
        machine.transact([Reserve(b"r0", (one,), LEASE), Settle(b"r0", (one,))])
        machine.transact([Reserve(b"r1", (other,), LEASE)])
        machine.transact([Settle(b"r1", (other, one._replace(verb=weeks)))])
        # By the second window what was named before is known; what the first counted is not, and nor is its usage.
        for number, (asked, new) in enumerate([(one, 0), (other, 1), (third, 1)]):
            machine.transact([Reserve(b"n%d" % number, (asked._replace(verb=weeks),), LEASE)])
            held = machine.balances[asked.place].holds
            assert held is not None and held.by_rid[b"n%d" % number].amount == new
    finally:
        machine.teardown()


def test_a_join_counts_what_belongs_to_the_groups_window_and_is_told_nowhere_else(
    store: Scripted, clock: ManualClock
) -> None:
    def used(verb: Verb) -> int:
        [balance, _] = store.one(Join(on("limit", verb, 0, who=GROUP), (on("limit", verb, 0),))).balances
        return balance.used if balance is not None else 0

    hour = Rolling(100, HOUR)
    store.one(ask(1, on("limit", hour, 10)))
    assert [used(hour), used(hour)] == [10, 10]
    # Reserved at the group and not yet at the org, or used at the org and not yet there: counted once.
    store.one(ask(2, on("limit", hour, 5, who=GROUP, hold=True)))
    store.one(ask(3, on("limit", hour, 5)))
    assert used(hour) == 10
    first_use = Quota(100, (), 2, length=DAY)
    store.client.flushall()
    store.one(ask(4, on("limit", first_use, 7)))
    clock.advance(60)
    store.one(ask(5, on("limit", first_use, 1, who=GROUP)))
    assert used(first_use) == 1, "it was used before this window began"


class Calls(ScriptMachine):
    """Says several commands to one server in one call, and to the other one by one."""

    waiting: tuple[Command, ...] = ()

    def transact(self, commands: list[Command]) -> None:
        self.waiting += tuple(commands)
        if len(self.waiting) < 6 and not isinstance(commands[0], Look):
            return
        together: Any = self.store
        outcomes = together.say(*self.waiting)
        single = [together.other.one(command) for command in self.waiting]
        for command, outcome, alone in zip(self.waiting, outcomes, single, strict=True):
            assert same(outcome, outcome.now) == same(alone, alone.now), f"{command}\n{outcome}\n{alone}"
        self.said += self.waiting
        self.waiting = ()


def test_a_batch_in_one_call_equals_the_same_commands_one_by_one(server: Server) -> None:
    with server.client() as one, server.client(db=1) as other:

        def make_store(clock: ManualClock) -> Scripted:
            one.flushall()
            store = Scripted(one, clock)
            store.other = Scripted(other, clock)  # type: ignore[attr-defined]
            return store

        ours = settings(deadline=None, stateful_step_count=30, suppress_health_check=list(HealthCheck))
        run_state_machine_as_test(lambda: Calls(make_store), settings=ours)  # type: ignore[arg-type]


# Calls.


def test_a_server_that_lacks_the_script_is_told_it_and_counts_once(store: Scripted, client: Redis) -> None:
    life = on("life", Total(10))
    for turn in range(3):
        client.script_flush()
        assert isinstance(store.one(ask(turn, life)), Granted)
    assert store.unknown == 3
    assert store.one(Look((life,))).balances[0].used == 3


def test_a_call_that_fails_has_done_nothing(store: Scripted, client: Redis) -> None:
    good = codec.packed(ask(1, on("life", Total(10), hold=True)), store.clock())
    bad = codec.Packed((), b"\xff" + good.body[1:])
    with pytest.raises(ResponseError, match="no command has the number 255"):
        client.execute_command("EVAL", store.scripts[0].text, *codec.arguments([good, bad], None, full=False))
    assert client.dbsize() == 0


def test_what_somebody_else_has_put_at_the_key_of_the_holds_is_found_before_anything_is_written(
    store: Scripted, client: Redis
) -> None:
    held = on("life", Total(10), hold=True)
    client.lpush(keys_of(KEY)[1], "something else")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.say(ask(1, on("life", Total(9), who=CUSTOMER)), ask(2, held))
    assert client.dbsize() == 1


def test_a_subject_is_read_once_and_written_once_however_many_commands_name_it(
    store: Scripted, client: Redis
) -> None:
    commands = [ask(n, on("life", Total(100)), on("rate", Rate(100, MINUTE), who=CUSTOMER)) for n in range(16)]
    store.say(*commands[:1])
    client.config_resetstat()
    assert all(isinstance(outcome, Granted) for outcome in store.say(*commands[1:]))
    assert calls(client, "mget", "get", "hget", "hgetall", "hmget") == 1
    assert calls(client, "set") == 2 + 15, "each subject, and each receipt"


def test_an_instant_is_raised_to_what_was_counted_at_already_by_no_more_than_clocks_differ(
    store: Scripted, clock: ManualClock
) -> None:
    life, other = on("life", Total(100)), on("life", Total(100), who=CUSTOMER)
    store.one(ask(1, life))
    latest = clock.now
    clock.now -= CLOCK_SKEW
    assert store.one(ask(2, other, life)).now == latest
    clock.now -= 1
    assert store.one(ask(3, life)).now == latest - CLOCK_SKEW - 1


def test_without_an_instant_the_servers_clock_counts(client: Redis, store: Scripted) -> None:
    pack = codec.packed(Look((on("life", Total(1)),)), None)
    [reply] = client.execute_command("EVAL", store.scripts[0].text, *codec.arguments([pack], None, full=False))
    seconds, _ = client.time()
    assert abs(codec.outcome(Look((on("life", Total(1)),)), reply).now - seconds * SECOND) < MINUTE


def test_a_call_on_a_cluster_names_every_key_that_it_may_come_to(store: Scripted) -> None:
    packs = [codec.packed(ask(n, on("life", Total(9)), on("day", Total(9), who=CUSTOMER)), 1) for n in range(2)]
    count, *rest = codec.arguments(packs, ORG, full=False)
    keys = rest[: int(count)]
    assert len(set(keys)) == len(keys) - 2, "each subject is named by both commands, its holds once"
    assert {key[:2] for key in keys} == {b"ho", b"hp", b"hg", b"hh", b"hr"}


# Exactness at the largest numbers.


def test_an_instant_past_the_largest_number_is_told_exactly(store: Scripted, clock: ManualClock) -> None:
    rate = Rate(1, MINUTE, burst=1_000)
    tokens = on("tokens", rate, 1, hold=True)
    store.one(ask(1, tokens))
    store.one(Settle(b"rid-1", (tokens.of(SAFE),)))
    refused = store.one(ask(2, tokens))
    assert isinstance(refused, Refused)
    debt = SAFE - (rate.brim - rate.spec)
    assert refused.refusals == (NotYet("tokens", clock.now + debt),)
    assert clock.now + debt > 2**53


def test_what_is_used_saturates(store: Scripted) -> None:
    life = on("life", Total(SAFE), 0, hold=True)
    for n in range(3):
        store.one(ask(n, life))
        store.one(Settle(b"rid-%d" % n, (life.of(SAFE - 1),)))
    assert store.one(Look((life,))).balances[0].used == SAFE


# Windows.


def test_a_window_that_has_ended_is_not_opened_again_by_who_knows_of_no_other(
    store: Scripted, clock: ManualClock
) -> None:
    day = on("day", Quota(2, tuple(clock.now + n * DAY for n in range(-1, 3)), 1))
    clock.now += 2 * DAY + MINUTE
    assert [isinstance(store.one(ask(n, day)), Granted) for n in range(3)] == [True, True, False]


def test_half_a_unit_is_none(store: Scripted, clock: ManualClock) -> None:
    rate = on("rate", Rate(1, MINUTE), hold=True)
    store.one(ask(1, rate._replace(hold=False)))
    clock.now += MINUTE - 1
    assert isinstance(store.one(ask(2, rate)), Refused)
    clock.now += 1
    assert isinstance(store.one(ask(3, rate)), Granted)


def test_a_window_that_is_not_asked_for_stays_as_it_is(store: Scripted, clock: ManualClock) -> None:
    one, other = on("one", Rate(600, MINUTE)), on("other", Rate(60, HOUR), 30)
    store.one(ask(1, one, other))
    before = store.one(Look((other,))).balances
    for n in range(2, 5):
        clock.now += SECOND
        store.one(ask(n, one))
    assert store.one(Look((other,))).balances == before


def test_of_hundreds_of_windows_each_keeps_its_instant(store: Scripted, clock: ManualClock) -> None:
    windows = [on(f"limit-{n}", Rate(60, HOUR), 30) for n in range(300)]
    store.one(ask(1, *windows))
    before = store.one(Look(tuple(windows[44:]))).balances
    clock.now += SECOND
    store.one(ask(2, *windows[:44]))  # as many as a byte that has overrun would tell
    assert store.one(Look(tuple(windows[44:]))).balances == before


def test_a_late_settlement_replaces_what_was_charged(store: Scripted, clock: ManualClock) -> None:
    tokens = on("tokens", Total(100), 30, hold=True)
    for n, (actual, used) in enumerate(((12, 12), (50, 62))):
        store.one(ask(n, tokens))
        clock.now += LEASE
        assert store.one(ask(10 + n, tokens.of(0)._replace(hold=False))).balances[0].used == used - actual + 30
        assert store.one(Settle(b"rid-%d" % n, (tokens.of(actual),))).balances[0].used == used


def test_a_unit_is_forgotten_in_time_though_the_newest_sub_window_goes_on(
    store: Scripted, clock: ManualClock
) -> None:
    few = on("few", Rolling(9, 50))  # sub-windows of 3 microseconds
    clock.now -= clock.now % 3
    for later in (0, 51, 2):
        clock.now += later
        granted = store.one(ask(clock.now, few))
    assert granted.balances[0].used == 2


# Holds.


def test_to_hold_one_more_reads_none_of_the_others(store: Scripted, client: Redis, clock: ManualClock) -> None:
    tokens = on("tokens", Total(10**6), 5, hold=True)
    for first in range(0, 3_000, 30):
        store.say(*[ask(n, tokens) for n in range(first, first + 30)])
    client.config_resetstat()
    for n in range(3_000, 3_020):
        assert isinstance(store.one(ask(n, tokens)), Granted)
        store.one(Settle(b"rid-%d" % (n - 3_000), (tokens.of(1),)))
        store.one(Extend(b"rid-%d" % n, (tokens.of(2),), LEASE, 1))
    assert calls(client, "hgetall") == 0
    balance = store.one(Look((tokens,))).balances[0]
    assert (len(balance.holds.by_rid), balance.holds.held, balance.used) == (3_000, 3_000 * 5 + 20 * 2, 20)


def test_thousands_of_holds_lapse_and_move_at_once(store: Scripted, clock: ManualClock) -> None:
    tokens, group = on("tokens", Total(10**6), 5, hold=True), on("tokens", Total(10**6), who=GROUP)
    for first in range(0, 9_000, 30):
        store.say(*[ask(n, tokens) for n in range(first, first + 30)])
    clock.now += LEASE - 1
    store.one(Merge(group, (tokens,)))
    assert store.one(Look((group,))).balances[0].holds.held == 45_000
    clock.now += 1
    store.one(ask(9_000, group))
    balance = store.one(Look((group,))).balances[0]
    assert (balance.used, len(balance.holds.by_rid), balance.holds.held) == (45_001, 9_000, 0)
    clock.now += LATE
    store.one(ask(9_001, group))
    assert store.one(Look((group,))).balances[0].holds is None


def test_what_one_command_of_a_call_has_settled_the_next_does_not_find(store: Scripted) -> None:
    seat, other = on("seats", Max(3, LEASE), hold=True), on("seats", Max(3, LEASE), who=CUSTOMER, hold=True)
    store.say(ask(1, seat), ask(2, other))
    settle = Settle(b"rid-1", (seat,))
    first, _, again = store.say(settle, Merge(seat, (other,)), settle)
    assert (first.added, again.added, again.balances[0].holds.held) == ((1,), (0,), 1)


def test_the_hash_of_holds_goes_with_its_last_one_and_has_a_time_to_live_when_it_comes_again(
    store: Scripted, client: Redis
) -> None:
    tokens, holds = on("tokens", Total(100), 5, hold=True), keys_of(KEY)[1]
    for n in range(3):
        store.one(ask(n, tokens))
        assert client.pttl(holds) > LATE / 1_000
        store.one(Settle(b"rid-%d" % n, (tokens,)))
        assert not client.exists(holds)
        # In one call, too: the last one goes and another comes.
        store.say(ask(10 + n, tokens), Cancel(b"rid-%d" % (10 + n), (tokens,), LEASE), ask(20 + n, tokens))
        assert client.pttl(holds) > LATE / 1_000
        store.say(Settle(b"rid-%d" % (20 + n), (tokens,)), ask(30 + n, tokens))
        assert client.pttl(holds) > LATE / 1_000
        store.one(Settle(b"rid-%d" % (30 + n), (tokens,)))


# Memory.


def test_what_is_kept_lives_as_long_as_it_counts_and_little_longer(
    store: Scripted, client: Redis, clock: ManualClock
) -> None:
    day = Calendar(5, "day").quota(clock.now, None)
    asked: dict[str, tuple[Verb, int]] = {
        "rate": (Rate(60, MINUTE), SECOND), "day": (day, DAY), "roll": (Rolling(9, HOUR), HOUR + 150 * SECOND)
    }  # fmt: skip
    for who, (verb, lasts) in asked.items():
        store.one(ask(1, on(who, verb, who=who.encode())))
        life = client.pttl(keys_of(who.encode())[0]) * 1_000
        assert lasts <= life <= 1.25 * lasts + 61 * SECOND, who


def test_what_ran_out_long_ago_is_dropped_when_the_subject_is_written(
    store: Scripted, client: Redis, clock: ManualClock
) -> None:
    key = keys_of(KEY)[0]
    one = on("life", Total(10**6))
    store.one(ask(0, one))
    alone = client.strlen(key)
    store.one(ask(1, one, *[on(f"gone-{n}", Rate(60, MINUTE)) for n in range(20)]))
    assert client.strlen(key) >= alone + 20 * 10
    for n in range(2, 14):
        clock.now += 10 * MINUTE
        store.one(ask(n, one))
    assert client.strlen(key) <= alone + 7, "an instant of its own"


def dozen(now: int) -> tuple[Demand, ...]:
    """A customer's limits: rates, a day's and a month's quotas of several meters, a total, a rolling day."""
    day, month = (Calendar(10**11, unit).quota(now, None) for unit in ("day", "month"))
    rates = (Rate(20, SECOND), Rate(600, MINUTE), Rate(100_000, MINUTE), Rate(10_000_000, MINUTE))
    verbs: list[tuple[Verb, int]] = [*zip(rates, (1, 1, 1_500, 40_000), strict=True)]
    verbs += [(verb, amount) for verb in (day, month) for amount in (1, 1_500, 90_000)]
    verbs += [(Total(10**9), 1), (Rolling(5_000, DAY), 1)]
    return tuple([on(f"limit-{n}", verb, amount) for n, (verb, amount) in enumerate(verbs)])


def test_a_subject_with_a_dozen_windows_takes_250_bytes(store: Scripted, client: Redis, clock: ManualClock) -> None:
    clock.now += 12_345_678_901
    for n in range(100):
        demands = dozen(clock.now)
        assert len(demands) == 12
        assert isinstance(store.one(ask(n, *demands)), Granted)
        clock.advance(7)
    assert client.memory_usage(keys_of(KEY)[0]) <= 250


# A server that is full.


def fill(server: Server) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "1")


def drain(server: Server) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "0")


def test_a_full_server_counts_on_exactly_for_those_it_knows_and_gives_nobody_a_fresh_window(
    make_server: Callable[..., Server], clock: ManualClock
) -> None:
    server = make_server(maxmemory_policy="noeviction")
    with server.client() as client:
        store = Scripted(client, clock)
        known = on("minute", Quota(5, tuple(clock.now + n * MINUTE for n in range(-1, 5)), 1))
        stranger = [known.at((b"stranger%8d" % n, "minute")) for n in range(9)]
        assert isinstance(store.one(ask(0, known)), Granted)
        fill(server)
        with pytest.raises(OutOfMemoryError):
            store.one(ask(1, known))
        granted = [isinstance(store.one(ask(n, known), full=True), Granted) for n in range(1, 9)]
        assert granted == [True] * 4 + [False] * 4, "exactly as before"
        before = {key for key in client.scan_iter() if key[:2] == b"hg"}
        shared = [isinstance(store.one(ask(20 + n, who), full=True), Granted) for n, who in enumerate(stranger)]
        assert shared == [True] * 5 + [False] * 4, "all strangers share one window"
        assert {key for key in client.scan_iter() if key[:2] == b"hg"} == before
        drain(server)
        assert isinstance(store.one(ask(40, stranger[0])), Refused), "not fresh, though there is room again"
        assert isinstance(store.one(ask(41, stranger[0]._replace(place=(KEY, "other")))), Granted)
        clock.now += MINUTE
        assert isinstance(store.one(ask(42, stranger[0])), Granted)
        assert store.one(Look((stranger[0],))).balances[0].used == 1, "a window of its own, now that it was empty"


def test_what_a_stranger_holds_on_a_full_server_is_settled_where_it_is_held(
    make_server: Callable[..., Server], clock: ManualClock
) -> None:
    server = make_server(maxmemory_policy="noeviction")
    with server.client() as client:
        store = Scripted(client, clock)
        seat = on("seats", Max(2, LEASE), hold=True)
        other = seat.at((CUSTOMER, "seats"))
        third = seat.at((GROUP, "seats"))
        fill(server)
        say = lambda command: store.one(command, full=True)  # noqa: E731
        assert [type(say(ask(n, who))) for n, who in enumerate((seat, other, third))] == [Granted, Granted, Refused]
        assert isinstance(say(Extend(b"rid-0", (seat.of(0),), LEASE, 1)), Granted)
        say(Settle(b"rid-0", (seat.of(0),)))
        assert isinstance(say(ask(3, third)), Granted)
        drain(server)
        store.one(Cancel(b"rid-1", (other,), LEASE))
        assert isinstance(store.one(ask(4, seat)), Granted)
        assert isinstance(store.one(ask(5, seat)), Refused), "the overflow still has two of them"
        assert all(client.pttl(key) > 0 for key in client.scan_iter())


# Moves over several slots: see test_parcels.py.


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(many=st.lists(st.sampled_from((1, 3, 700)), min_size=1, max_size=6))
def test_any_number_of_commands_fits_into_a_call(many: list[int], server: Server) -> None:
    with server.client() as client:
        client.flushall()
        store = Scripted(client, ManualClock())
        outcomes = store.say(*[Look(tuple([on(f"l-{n}", Total(9)) for n in range(size)])) for size in many])
        assert [len(outcome.balances) for outcome in outcomes] == many


def test_a_reservation_after_its_cancellation_is_gone_within_a_call_too(store: Scripted) -> None:
    life = on("life", Total(9))
    outcomes = store.say(Cancel(b"rid-1", (life,), LEASE), ask(1, life), ask(2, life), ask(2, life))
    assert [type(outcome) for outcome in outcomes[1:]] == [Gone, Granted, Granted]
    assert store.one(Look((life,))).balances[0].used == 1
