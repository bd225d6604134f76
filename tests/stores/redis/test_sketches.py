"""Different things in Redis: the script's sketches are the specification's, byte by byte, and cost who names some."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from headgate.clock import SECOND
from headgate.quota import things as sketch
from headgate.quota.balance import Balance
from headgate.quota.command import Demand, Granted, Join, Look, Merge, Refused, Reserve, Settle
from headgate.quota.things import EMPTY, EXACT, REGISTERS, SKETCHED, Things
from headgate.quota.window import Quota, Total
from headgate.stores.redis.script import codec, lines
from headgate.stores.redis.script.keys import keys_of, overflow_keys, sketch_key
from headgate.stores.redis.script.parcel import Parcel, Show, Take
from headgate.testing import ManualClock
from headgate.testing.servers import Server
from headgate.testing.store_machine import LEASE
from headgate.testing.story import thing
from stores.redis.fake_cluster import Slot
from stores.redis.scripted import DAY, HOUR, MINUTE, Scripted
from stores.redis.test_scripts import CUSTOMER, GROUP, KEY, ORG, calls, drain, fill

LARGE = Total(10**9)

NO_RANK = bytes([EMPTY] * 8 + list(range(8, 256)))
"""Of a register without a rank there is one value."""


@pytest.fixture(params=["valkey", "redis7"])
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def client(server: Server) -> Iterator[Redis]:
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(client: Redis, clock: ManualClock) -> Scripted:
    return Scripted(client, clock)


def records(*numbers: int, who: bytes = KEY, verb: Any = LARGE) -> Demand:
    """The things of these numbers, under a limit on different records."""
    return Demand((who, "records"), verb, 0, hold=True, things=tuple([thing(number) for number in numbers]))


def touched(store: Scripted, rid: bytes, demand: Demand) -> int:
    """How many of the things were new, when they are reserved and settled."""
    assert isinstance(store.one(Reserve(rid, (demand,), LEASE)), Granted)
    [added] = store.one(Settle(rid, (demand,))).added
    return added


def at_of(demand: Demand) -> bytes:
    """Under which key its sketch lies."""
    return sketch_key(keys_of(demand.place[0])[0], lines.name_of(demand.place[1]))


def lying(store: Scripted, demand: Demand) -> bytes:
    things = store.one(Show(demand._replace(things=()))).things
    return b"" if things is None else things.data


# The same as in Python.


@pytest.mark.parametrize("steps", [(1,) * 20, (300, 300, 300, 99, 1, 1, 1), (998, 5, 40, 7), (5_000, 1, 9, 7_000)])
def test_a_sketch_is_the_specifications_byte_by_byte(steps: tuple[int, ...], store: Scripted) -> None:
    lot = random.Random(7)
    expected, used, upto = b"", 0, 0
    for n, step in enumerate(steps):
        # Most are new, some are not; in any order.
        numbers = [*range(upto, upto + step), *lot.sample(range(upto), min(upto, step // 3))]
        lot.shuffle(numbers)
        demand, upto = records(*numbers), upto + step
        after = sketch.with_things(expected, demand.things)
        added = touched(store, b"rid-%d" % n, demand)
        assert added == max(0, sketch.count(after) - sketch.count(expected))
        expected, used = after, used + added
        assert lying(store, demand) == expected
    [balance] = store.one(Look((demand,))).balances
    assert balance.used == used


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    values=st.lists(st.tuples(st.integers(0, REGISTERS - 1), st.integers(7, 255)), max_size=200),
    floor=st.sampled_from((0, 0, 1, 5, 11, 29)),
    seed=st.integers(0, 2**32),
    many=st.sampled_from((1, 3, 60, 1_500)),
)
def test_whatever_the_registers_are_they_are_counted_alike(
    values: list[tuple[int, int]], floor: int, seed: int, many: int, server: Server
) -> None:
    with server.client() as client:
        client.flushall()
        counted_alike(Scripted(client, ManualClock()), values, floor, seed, many)


def counted_alike(store: Scripted, values: list[tuple[int, int]], floor: int, seed: int, many: int) -> None:
    """Registers of random values, these among them, and so many things that come to them."""
    lot = random.Random(seed)
    registers = bytearray(
        [8 * min(31, floor + int(lot.expovariate(0.7))) + lot.randrange(8) for _ in range(REGISTERS)]
    )
    for at, value in values:
        registers[at] = value
    demand = records(*lot.sample(range(10**9), many), who=b"%d" % seed)
    slot, now = Slot(), store.clock()
    balance = Balance("total", 5, now, LARGE.bring(None, now)[2], 0)
    parcel = Parcel(b"%d" % seed, demand.place, balance, things=sketch._sketched(bytes(registers).translate(NO_RANK)))
    into = demand._replace(things=())
    for command in (Take(into, parcel), Reserve(b"rid", (demand,), LEASE), Settle(b"rid", (demand,)), Show(into)):
        assert same(store.one(command)) == same(slot.does(command, now))


def same(outcome: Any) -> Any:
    """An outcome without its holds, which a script tells in short."""
    balances = getattr(outcome, "balances", None)
    return (
        outcome if balances is None else outcome._replace(balances=tuple([b._replace(holds=None) for b in balances]))
    )


def test_two_sketches_unite_whatever_they_are_and_what_both_had_counts_once(store: Scripted) -> None:
    sets = [range(3), range(2, 700), range(600, 1_200), range(1_500), range(1_000, 6_000)]
    for n, (one, other) in enumerate([(a, b) for a in sets for b in sets]):
        here, there = records(*one, who=b"here%d" % n), records(*other, who=b"there%d" % n)
        for who in (here, there):
            touched(store, b"%d%b" % (n, who.place[0]), who)
        into, source = (who._replace(things=()) for who in (here, there))
        [balance, _] = store.one(Merge(into, (source,))).balances
        both = sketch.united(*[sketch.with_things(b"", who.things) for who in (here, there)])
        assert (lying(store, here), lying(store, there)) == (both, b"")
        assert balance.used == sketch.count(both)
        assert not store.client.exists(at_of(there))


def test_what_the_orgs_of_a_group_have_named_is_not_charged_again(store: Scripted) -> None:
    group, org = records(*range(1_200), who=GROUP), records(1_199, 1_200, 1_201, who=KEY)
    touched(store, b"1", group)
    touched(store, b"2", org)
    into, *sources = (who._replace(things=()) for who in (group, org))
    store.one(Join(into, tuple(sources)))
    both = sketch.with_things(sketch.with_things(b"", group.things), org.things)
    assert (lying(store, group), lying(store, org)) == (both, sketch.with_things(b"", org.things))
    assert touched(store, b"3", records(5, 1_201, who=GROUP)) == 0


def test_of_several_commands_in_one_call_each_knows_what_those_before_it_have_named(store: Scripted) -> None:
    for many in (3, 999, 1_005):
        who = b"who-%d" % many
        one, other = records(*range(many), who=who), records(*range(2, many + 2), who=who)
        for rid, demand in ((b"1", one), (b"2", other)):
            store.one(Reserve(rid + who, (demand,), LEASE))
        first, second, again = store.say(
            Settle(b"1" + who, (one,)), Settle(b"2" + who, (other,)), Settle(b"1" + who, (one,))
        )
        alone = sketch.with_things(b"", one.things)
        both = sketch.with_things(alone, other.things)
        more = max(0, sketch.count(both) - sketch.count(alone))
        assert (first.added, second.added, again.added) == ((sketch.count(alone),), (more,), (0,))
        assert lying(store, one) == both


# When it counts.


def test_what_was_named_before_is_free_even_when_nothing_is_left(store: Scripted) -> None:
    verb = Total(3)
    assert touched(store, b"1", records(1, 2, 3, verb=verb)) == 3
    assert isinstance(store.one(Reserve(b"2", (records(4, verb=verb),), LEASE)), Refused)
    assert isinstance(store.one(Reserve(b"3", (records(1, 4, verb=verb),), LEASE)), Refused)
    granted = store.one(Reserve(b"4", (records(3, 1, verb=verb),), LEASE))
    assert isinstance(granted, Granted)
    assert granted.balances[0].holds.by_rid[b"4"].amount == 0, "what it holds the script alone knows, and tells"
    assert store.one(Settle(b"4", (records(1, verb=verb).of(7),))).added == (7,), "a debt, of what had no name"
    assert isinstance(store.one(Reserve(b"5", (records(2, verb=verb),), LEASE)), Granted)


def test_the_next_window_knows_nothing(store: Scripted, clock: ManualClock) -> None:
    day = Quota(10_000, tuple([clock.now - clock.now % DAY + n * DAY for n in range(-1, 4)]), 1)
    for n, many in enumerate((5, 1_200, 3)):
        demand = records(*range(many), verb=day)
        expected = sketch.with_things(b"", demand.things)
        assert touched(store, b"rid-%d" % n, demand) == sketch.count(expected)
        assert lying(store, demand) == expected
        clock.now += DAY


def test_a_window_whose_usage_was_lost_knows_nothing_though_its_sketch_lies_there(
    store: Scripted, client: Redis, clock: ManualClock
) -> None:
    demand = records(1, 2, verb=Quota(9, (clock.now - SECOND, clock.now + DAY, clock.now + 2 * DAY), 1))
    for rid in (b"1", b"2"):
        assert touched(store, rid, demand) == 2
        client.delete(keys_of(KEY)[0])


def test_things_that_differ_in_a_single_byte_are_different_things(store: Scripted) -> None:
    lot = random.Random(1)
    some = {bytes([at, *[255] * 7]) for at in range(256)} | {bytes([*b"a thing", at]) for at in range(256)}
    some |= {b"aaa" + bytes([at]) + b"zzzz" for at in range(256)} | {
        b"\0\xff\0\xff" + bytes([at]) * 4 for at in range(99)
    }
    for n, who in enumerate((b"in one", b"by and by")):
        things = lot.sample(sorted(some), len(some))
        bundles = [things] if n == 0 else [things[at : at + 9] for at in range(0, len(things), 9)]
        for m, bundle in enumerate(bundles):
            demand = records(who=who)._replace(things=tuple(bundle))
            assert touched(store, b"%d-%d" % (n, m), demand) == len(bundle)
        assert lying(store, demand) == b"".join(sorted(some))


# What it costs.


def test_who_names_nothing_pays_for_nothing(store: Scripted, client: Redis) -> None:
    limits = (Demand((KEY, "life"), LARGE, 2, hold=True), Demand((KEY, "rpm"), LARGE, 1))
    bare = codec.packed(Reserve(b"rid", limits, 1), 5)
    assert bare.sketches == ()
    window = b"\5" + struct.pack("<d", LARGE.capacity)
    told = [lines.name_of(limit) + window for limit in ("life", "rpm")]
    body = struct.pack("<BHdddB", 1, 2, 5, 1, 0, 3) + b"rid" + struct.pack("<H", 2)
    body += struct.pack("<HBdH", 0, 1, 2, 13) + told[0] + struct.pack("<HBdH", 0, 0, 1, 13) + told[1]
    assert bare.body == body, "not a byte more than ever"
    client.config_resetstat()
    for n in range(9):
        store.one(Reserve(b"%d" % n, limits, LEASE))
        store.one(Settle(b"%d" % n, limits[:1]))
    assert calls(client, "getrange", "setrange", "get", "strlen") == 0
    assert {key[:2] for key in client.scan_iter()} <= {b"hg", b"hh", b"hr"}


def test_one_more_thing_moves_a_few_bytes_of_a_large_sketch(store: Scripted, client: Redis) -> None:
    touched(store, b"0", records(*range(5_000)))
    before = store.one(Look((records(),))).balances[0].used
    client.config_resetstat()
    for n in range(5_000, 5_050):
        touched(store, b"%d" % n, records(n))
    assert calls(client, "get") == 0
    assert calls(client, "getrange") == 50 * 3, "how many it has, twice, and a register"
    assert calls(client, "set") == 50 * 3, "the subject twice and a receipt, but never the sketch"
    risen = calls(client, "pexpire") - 50
    assert calls(client, "setrange") == 2 * risen, "where a register changes, how many it has, and that register"
    assert 0 < store.one(Look((records(),))).balances[0].used - before <= 50 >= risen
    assert lying(store, records()) == sketch.with_things(b"", records(*range(5_050)).things)


def test_a_sketch_takes_less_than_16_kilobytes(store: Scripted, client: Redis) -> None:
    for n, (first, last) in enumerate(pairwise((0, 900, 1_000, 1_001, 11_000, 21_000, 21_010))):
        touched(store, b"%d" % n, records(*range(first, last)))
        assert client.memory_usage(at_of(records())) <= (9_000 if last <= EXACT else 16_000)
    assert client.strlen(at_of(records())) == 9 + SKETCHED


def test_it_is_kept_as_long_as_its_window_and_little_longer(
    store: Scripted, client: Redis, clock: ManualClock
) -> None:
    verbs = {b"hour": Quota(10**6, (), 2, length=HOUR), b"life": LARGE}
    for who, verb in verbs.items():
        for n, many in enumerate((5, 1_200, 1_205)):
            demand = records(*range(many), who=who, verb=verb)
            touched(store, b"%b%d" % (who, n), demand)
            left = verb.bring(store.one(Look((demand._replace(things=()),))).balances[0], clock.now)[2] - clock.now
            assert left <= client.pttl(at_of(demand)) * 1_000 <= left + MINUTE + SECOND, (who, many)
            clock.now += 10 * MINUTE


def test_what_somebody_else_has_put_at_its_key_is_found_before_anything_is_written(
    store: Scripted, client: Redis
) -> None:
    client.lpush(at_of(records()), "something else")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.say(Reserve(b"1", (records(1, who=CUSTOMER),), LEASE), Reserve(b"2", (records(1),), LEASE))
    assert client.dbsize() == 1


# A server that is full.


def test_a_full_server_goes_on_with_the_sketches_of_those_it_knows_and_gives_strangers_one(
    make_server: Callable[..., Server], clock: ManualClock
) -> None:
    server = make_server(maxmemory_policy="noeviction")
    with server.client() as client:
        store, verb = Scripted(client, clock), Total(5)
        touched(store, b"0", records(1, 2, verb=verb))
        fill(server)
        with pytest.raises(OutOfMemoryError):
            store.one(Reserve(b"1", (records(3, verb=verb),), LEASE))
        say: Any = lambda *commands: store.say(*commands, full=True)  # noqa: E731
        demand = records(2, 3, verb=verb)
        say(Reserve(b"2", (demand,), LEASE))
        assert say(Settle(b"2", (demand,)))[0].added == (1,), "exactly as before"
        for n, (numbers, new) in enumerate((((1, 2, 3), 3), ((2, 3, 4), 1), ((1, 4), 0))):
            stranger = records(*numbers, who=b"stranger%d" % n, verb=verb)
            say(Reserve(b"s%d" % n, (stranger,), LEASE))
            assert say(Settle(b"s%d" % n, (stranger,)))[0].added == (new,), "all strangers share one window"
        shared = sketch_key(overflow_keys(None)[0], lines.name_of("records"))
        assert {key for key in client.scan_iter() if key[1:2] in (b"d", b"l")} == {shared, at_of(demand)}
        drain(server)
        other = records(4, 5, who=b"stranger-9", verb=verb)
        assert touched(store, b"9", other) == 1, "not fresh, though there is room again"
        assert isinstance(store.one(Reserve(b"10", (records(6, who=b"stranger-9", verb=verb),), LEASE)), Refused)
        assert all(client.pttl(key) > 0 for key in client.scan_iter())


# The wire.


def test_a_call_on_a_cluster_names_the_sketches_that_it_may_come_to(store: Scripted) -> None:
    demand, bare = records(1, 2), records(who=GROUP)
    named = {
        Reserve(b"1", (demand, bare), LEASE): 2, Settle(b"1", (demand,)): 2, Look((demand,)): 0,
        Merge(demand, (bare,)): 3, Join(demand, (bare,)): 3, Show(demand): 2, Settle(b"1", (bare,)): 0,
    }  # fmt: skip
    for command, many in named.items():
        count, *rest = codec.arguments([codec.packed(command, 1)], ORG, full=False)
        keys = rest[: int(count)]
        assert len(set(keys)) == len(keys)
        assert len([key for key in keys if key[1:2] in (b"d", b"l")]) == many, command


def test_demands_that_name_things_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20):
        before = len(codec._asked)
        one, other = (codec.packed(Reserve(b"rid", (records(n, m),), 1), 5) for m in (100, 101))
        assert len(codec._asked) == before
        assert one.body != other.body


def test_a_parcel_carries_its_sketch_there_and_back(store: Scripted, clock: ManualClock) -> None:
    for things in (
        b"",
        sketch.with_things(b"", records(1, 2).things),
        sketch.with_things(b"", records(*range(2_000)).things),
    ):
        into = records(who=b"%d" % len(things))
        until = LARGE.bring(None, clock.now)[2]
        balance = Balance("total", 3, clock.now, until, 0)
        assert store.one(Show(into)).things is None
        store.one(Take(into, Parcel(b"id-%d" % len(things), into.place, balance, things=things)))
        assert store.one(Show(into)).things == (Things(0, things) if things else None)


@pytest.mark.parametrize("data", [b"1234567", b"\2" + b"\0" * (SKETCHED - 1), b"\1" + b"\0" * (SKETCHED - 1)])
def test_what_cannot_be_a_sketch_is_a_fault_with_a_name(data: bytes) -> None:
    reply = struct.pack("<qqqqq", 8, 5, 0, 1, 5) + struct.pack("<q", len(data)) + data + b"\0" * (-len(data) % 8)
    with pytest.raises(codec.StoreError, match="answer to a Show cannot be read"):
        codec.outcome(Show(records()), reply)
