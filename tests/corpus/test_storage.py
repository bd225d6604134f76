"""Cases of the bypass corpus that are called at the stores, and those of its simulated clocks that every store must
keep: on memory, on SQLite, on a Redis server and on a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headgate.clock import SECOND
from headgate.errors import AmountError
from headgate.quota.balance import SAFE
from headgate.quota.command import (
    Cancel,
    Demand,
    Extend,
    Granted,
    Join,
    Look,
    Merge,
    Never,
    Refused,
    Reserve,
    Seen,
    Settle,
)
from headgate.quota.gcra import Rate
from headgate.quota.window import Max, Quota, Rolling, Total
from headgate.stores import Store, open_store
from headgate.testing import ManualClock
from headgate.testing.clusters import Cluster
from headgate.testing.servers import Server
from headgate.testing.story import LEASE, answer, ask, granted, held, on, standing, used

PATIENT = 30.0
MINUTE, YEAR = 60 * SECOND, 365 * 86_400 * SECOND
P10, W10, B1K, T1K, ORG15 = (
    Rate(10, MINUTE), Rolling(10, MINUTE), Rate(1_000, MINUTE), Rate(1_000, MINUTE), Rate(15, MINUTE),
)  # fmt: skip

ORG, KEY, NETWORK = b"acmeacme--itself", b"acmeacmethe-key1", b"a-network-of-its"
"""An org and a key of it lie in one slot of a cluster, the network in another."""

Story = Callable[[Store, ManualClock], Awaitable[None]]
Told = Callable[[Story], None]


@pytest.fixture(params=["memory", "sqlite", "redis", "cluster"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def told(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> Told:
    """Tells a story about an empty store and its clock."""
    if backend in ("redis", "cluster"):
        uri = request.getfixturevalue("valkey" if backend == "redis" else "cluster").url
    else:
        uri = "memory://" if backend == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"

    def tell(story: Story) -> None:
        async def whole() -> None:
            clock = ManualClock()
            store = open_store(uri, clock=clock, deadline=PATIENT)
            try:
                await story(store, clock)
            finally:
                await store.close()

        asyncio.run(whole())

    return tell


# Amounts.


def test_co_02_a_cost_above_the_limit_burns_nothing(told: Told) -> None:
    async def story(store: Store, clock: ManualClock) -> None:
        refused = await ask(store, b"1", on("tokens", T1K, 5_000))
        assert isinstance(refused, Refused)
        assert refused.refusals == (Never("tokens", 1_000),)
        assert await standing(store, on("tokens", T1K)) is None
        assert isinstance(await ask(store, b"2", on("tokens", T1K, 1)), Granted)

    told(story)


def test_co_03_only_whole_numbers_of_units_are_costs_and_they_are_counted_exactly(told: Told) -> None:
    async def story(store: Store, clock: ManualClock) -> None:
        strange: list[Any] = [-1, 1.5, 1.0, float("nan"), float("inf"), True, "1", "1e3", None, SAFE + 1]
        for cost in strange:
            with pytest.raises(AmountError):
                await ask(store, b"strange", on("tokens", T1K, cost))
        assert isinstance(await ask(store, b"nothing", on("tokens", T1K, 0)), Granted)
        assert await used(store, on("tokens", T1K)) == 0, "a cost of 0 takes nothing"
        # The largest that there may be: where a store counted in floats, the last unit would be lost.
        huge = on("life", Total(SAFE), SAFE - 2)
        assert isinstance(await ask(store, b"huge", huge), Granted)
        assert isinstance(await ask(store, b"one more", huge.of(1)), Granted)
        balance = await standing(store, huge)
        assert balance is not None
        assert (balance.used, type(balance.used)) == (SAFE - 1, int)
        assert await granted(store, huge.of(1), 3, b"last") == 1

    told(story)


def test_co_05_where_one_of_many_dimensions_fails_none_is_charged(told: Told) -> None:
    async def story(store: Store, clock: ManualClock) -> None:
        org = Demand((ORG, "org"), ORG15, 1)
        assert await granted(store, org, 20, b"before") == 15
        for n in range(50):
            key = b"acmeacme%08d" % n
            asked = (
                Demand((key, "requests"), P10, 1),
                Demand((key, "bytes"), B1K, 100, hold=True),
                Demand((b"network%09d" % n, "requests"), P10, 1),
            )
            refused = await ask(store, b"fresh-%d" % n, asked[0], asked[1], org, asked[2])
            assert isinstance(refused, Refused)
            assert [refusal.limit for refusal in refused.refusals] == ["org"]
            for demand in asked:
                assert (await used(store, demand), await held(store, demand)) == (0, 0)
        [seen] = await store.transact((Look((org,)),))
        assert isinstance(seen, Seen)
        assert seen.balances[0] is not None
        assert seen.balances[0].used == 15 * P10_TICKS

    told(story)


P10_TICKS = ORG15.spec
"""What one unit is in a rate's balance."""


def test_co_06_what_is_given_back_is_at_most_what_was_reserved_and_once(told: Told) -> None:
    async def story(store: Store, clock: ManualClock) -> None:
        tokens, org = Demand((KEY, "tokens"), Total(1_000), 300, hold=True), Demand((NETWORK, "n"), Total(9), 1)
        await ask(store, b"other", tokens.of(200), org)
        await answer(store, Settle(b"other", (tokens.of(200),)))
        await ask(store, b"1", tokens, org)
        for _ in range(2):
            await answer(store, Settle(b"1", (tokens.of(50),)))
        assert (await used(store, tokens), await held(store, tokens)) == (250, 0)
        for command in (
            Settle(b"1", (tokens.of(0),)),  # said with another amount after it was settled
            Settle(b"nobody's", (tokens.of(0),)),
            Settle(b"nobody's", (tokens.of(900),)),
            Cancel(b"nobody's", (tokens.of(900), org), LEASE),
            Cancel(b"other", (tokens.of(200),), LEASE),  # it was settled
        ):
            await answer(store, command)
            assert (await used(store, tokens), await held(store, tokens)) == (250, 0), command
        await ask(store, b"2", tokens.of(10), org)
        await answer(store, Cancel(b"2", (tokens.of(700), org), LEASE))
        assert (await used(store, tokens), await held(store, tokens), await used(store, org)) == (250, 0, 2)

    told(story)


# At once.


async def races(store: Store, rounds: int) -> None:
    for turn in range(rounds):
        key = Demand((b"acmeacme%08d" % turn, "requests"), P10, 1)
        network = Demand((b"network%09d" % turn, "requests"), Total(1_000), 1)
        gate = asyncio.Event()

        async def one(n: int, turn: int = turn, asked: Any = (key, network), gate: asyncio.Event = gate) -> bool:
            await gate.wait()
            return isinstance(await ask(store, b"%d-%d" % (turn, n), *asked), Granted)

        tasks = [asyncio.ensure_future(one(n)) for n in range(200)]
        await asyncio.sleep(0)
        gate.set()
        assert sum(await asyncio.gather(*tasks)) == 10
        assert await used(store, network) == 10


def test_at_01_of_two_hundred_released_at_once_ten_pass(told: Told) -> None:
    told(lambda store, clock: races(store, 5))


@pytest.mark.chaos
def test_at_01_of_two_hundred_released_at_once_ten_pass_in_fifty_rounds(told: Told) -> None:
    told(lambda store, clock: races(store, 50))


def test_at_10_a_settlement_after_the_lease_counts_once_and_frees_no_place_twice(told: Told) -> None:
    async def story(store: Store, clock: ManualClock) -> None:
        tokens = Demand((KEY, "tokens"), Total(1_000), 100, hold=True)
        seat = Demand((ORG, "seats"), Max(1, LEASE), 1, hold=True)
        away = Demand((NETWORK, "tokens"), Total(1_000), 100, hold=True)
        assert isinstance(await ask(store, b"slow", tokens, seat, away), Granted)
        clock.advance(microseconds=LEASE + 10 * SECOND)
        assert isinstance(await ask(store, b"next", seat), Granted), "the place was free again, and is taken"
        for _ in range(3):
            await answer(store, Settle(b"slow", (tokens.of(130), seat, away.of(30))))
        assert await held(store, seat) == 1, "the one who has it now keeps it"
        assert isinstance(await ask(store, b"third", seat), Refused)
        assert (await used(store, tokens), await held(store, tokens)) == (130, 0)
        assert (await used(store, away), await held(store, away)) == (30, 0)

    told(story)


# Time. (The corpus drives these by a simulated clock; so does each store here.)


def test_tm_01_around_the_edge_of_a_window_nobody_has_two(told: Told) -> None:
    async def story(store: Store, clock: ManualClock) -> None:
        begun = clock.now
        calendar = Quota(10, tuple(begun + n * MINUTE for n in range(4)), spec=1)
        for verb, after in ((P10, 0), (W10, 0), (calendar, 10)):
            clock.now = begun + MINUTE - SECOND // 10
            demand = on(verb.kind, verb, who=KEY)
            assert await granted(store, demand, 12, b"before-" + verb.kind.encode()) == 10
            clock.now = begun + MINUTE + SECOND // 10
            # A calendar's window is asked for as such, and begins anew at its edge.
            assert await granted(store, demand, 12, b"after-" + verb.kind.encode()) == after
            clock.now = begun

    told(story)


def test_tm_02_whoever_comes_late_in_a_sub_window_has_no_more_in_any_minute(told: Told) -> None:
    async def story(store: Store, clock: ManualClock) -> None:
        begun = clock.now
        passed: list[int] = []
        for tenth in (*range(580, 600), *range(600, 1_300, 7)):
            clock.now = begun + tenth * SECOND // 10
            passed += [clock.now] * await granted(store, on("hits", W10, who=KEY), 3, b"%d" % tenth)
        assert len(passed) == 20, "no minute is wasted either"
        for at in passed:
            assert sum(at <= other < at + MINUTE for other in passed) <= 10

    told(story)


def test_tm_04_a_clock_that_jumps_back_an_hour_reopens_nothing_and_locks_nobody_out(told: Told) -> None:
    async def story(store: Store, clock: ManualClock) -> None:
        for verb in (P10, W10):
            demand = on(verb.kind, verb, who=KEY)
            assert await granted(store, demand, 12, b"before-" + verb.kind.encode()) == 10
        clock.advance(-3_600)
        for verb in (P10, W10):
            assert await granted(store, on(verb.kind, verb, who=KEY), 10, b"back-" + verb.kind.encode()) == 0
        # The window, and as much of it as a rolling one forgets late; and a step is waited for, for five seconds.
        both = tuple([on(verb.kind, verb, 10, who=KEY) for verb in (P10, W10)])
        for second in range(1, 90):
            clock.advance(1)
            if isinstance(await ask(store, b"second-%d" % second, *both), Granted):
                break
        assert 60 <= second <= 60 + 2.5 + 5 + 1

    told(story)


def test_tm_05_a_clock_that_jumps_a_year_and_comes_back_opens_one_window_more_at_most(told: Told) -> None:
    async def story(store: Store, clock: ManualClock) -> None:
        for verb, life in product((P10, W10), (Total(1_000),)):
            demands = (on(verb.kind, verb, who=KEY), on("life", life, who=NETWORK))
            name = verb.kind.encode()

            async def passed(when: bytes, times: int, demands: Any = demands, name: bytes = name) -> int:
                asked = [await ask(store, b"%s-%s-%d" % (name, when, n), *demands) for n in range(times)]
                return sum(isinstance(outcome, Granted) for outcome in asked)

            before = await used(store, demands[1])
            assert await passed(b"before", 12) == 10
            clock.advance(microseconds=YEAR)
            ahead = await passed(b"ahead", 1)
            clock.advance(microseconds=-YEAR)
            assert ahead + await passed(b"back", 20) <= 10
            assert await used(store, demands[1]) - before <= 20, "what is used for good has been kept"
            clock.advance(120)

    told(story)


# Keys.


def test_se_02_no_separator_makes_one_place_of_two(told: Told) -> None:
    async def story(store: Store, clock: ManualClock) -> None:
        texts = ["a", "b", "", ":", "/", "|", "{", "}", "*", "\n", "\0"]
        places = {((one + sep).encode(), other) for one, sep, other in product(texts, texts, texts)}
        places |= {(one.encode(), sep + other) for one, sep, other in product(texts, texts, texts)}
        ordered = sorted(places)[::7]
        for n, place in enumerate(ordered):
            assert isinstance(await ask(store, b"%d" % n, Demand(place, Total(10_000), n + 1)), Granted)
        for n, place in enumerate(ordered):
            assert await used(store, Demand(place, Total(10_000), 0)) == n + 1, place

    told(story)


# What lies on the servers.


def servers_of(request: pytest.FixtureRequest, name: str) -> tuple[str, list[Server]]:
    """The address of an empty ledger, and the servers that keep it."""
    there: Any = request.getfixturevalue("valkey" if name == "redis" else "cluster")
    return there.url, there.primaries() if isinstance(there, Cluster) else [there]


def keys_of(servers: list[Server]) -> dict[bytes, int]:
    """Every key on the servers, with its life in milliseconds; -1: it has no end."""
    found: dict[bytes, int] = {}
    for server in servers:
        client: Redis = server.client()
        keys = list(client.scan_iter(count=1_000))
        asked = client.pipeline(transaction=False)
        for key in keys:
            asked.pttl(key)
        found |= {key: life for key, life in zip(keys, asked.execute(), strict=True) if life != -2}  # -2: gone since
        client.close()
    return found


@pytest.mark.parametrize("name", ["redis", "cluster"])
def test_se_04_what_callers_write_is_data_and_never_a_pattern_or_a_script(
    name: str, request: pytest.FixtureRequest
) -> None:
    url, servers = servers_of(request, name)
    evil = [
        "*",
        "?",
        "[a-z]",
        '"',
        "]]",
        "\n",
        "hg{*",
        "]] return redis.call('FLUSHALL') --",
        "'; FLUSHALL",
        "\r\n$4\r\n",
    ]

    async def story() -> None:
        store = open_store(url, deadline=PATIENT)
        await ask(store, b"canary", on("life", Total(9), 7, who=b"canary"))
        for n, text in enumerate(evil):
            demand = Demand((text.encode(), text), Total(1_000), n + 1, hold=True)
            assert isinstance(await ask(store, text.encode(), demand), Granted)
            await answer(store, Extend(text.encode(), (demand.of(1),), LEASE, step=1))
            await answer(store, Settle(text.encode(), (demand,)))
        for n, text in enumerate(evil):
            assert await used(store, Demand((text.encode(), text), Total(1_000), 0)) == n + 1
        assert await used(store, on("life", Total(9), who=b"canary")) == 7
        await store.close()

    before = [dict(server.ask("INFO", "commandstats")) for server in servers]
    asyncio.run(story())
    for server, stats in zip(servers, before, strict=True):
        ran = {name for name, told in server.ask("INFO", "commandstats").items() if stats.get(name) != told}
        assert not ran & {"cmdstat_keys", "cmdstat_scan", "cmdstat_flushall", "cmdstat_script|load"}, ran
        assert server.ask("INFO", "memory")["number_of_cached_scripts"] <= 2, "one text for all that is ever asked"


@pytest.mark.parametrize("name", ["redis", "cluster"])
def test_tm_10_whatever_is_said_leaves_no_key_that_never_ends(name: str, request: pytest.FixtureRequest) -> None:
    url, servers = servers_of(request, name)

    async def story() -> None:
        store = open_store(url, deadline=PATIENT)
        verbs = (P10, W10, Quota(10, (), spec=1, length=MINUTE), Max(3, LEASE), Total(1_000))
        for n, (verb, hold) in enumerate(product(verbs, (False, True))):
            rid, who = b"%d" % n, [b"acmeacme%08d" % n, b"network%09d" % n, b"group%011d" % n]
            one, two, group = [Demand((w, "limit"), verb, 1, hold=hold or verb.kind == "max") for w in who]
            assert isinstance(await ask(store, rid, one, two), Granted)
            assert isinstance(await ask(store, rid + b"-more", one), Granted)
            assert isinstance(await ask(store, rid + b"-much", one.of(900)), Refused | Granted)
            if one.hold:
                await answer(store, Extend(rid, (one.of(0), two.of(0)), LEASE, step=1))
                await answer(store, Settle(rid, (one, two)))
            await answer(store, Cancel(rid + b"-more", (one,), LEASE))
            await answer(store, Cancel(rid + b"-never", (two,), LEASE))
            await answer(store, Merge(group.of(0), (one.of(0), two.of(0))))
            await answer(store, Join(group.of(0), (one.of(0), two.of(0))))
        await store.close()

    asyncio.run(story())
    keys = keys_of(servers)
    assert len(keys) > 20
    assert {key for key, life in keys.items() if life < 0} == set()


async def under_load(url: str, until: asyncio.Event) -> None:
    store = open_store(url, deadline=PATIENT)
    numbers = iter(range(10**9))

    async def caller() -> None:
        while not until.is_set():
            n = next(numbers)
            demand = Demand((b"acmeacme%08d" % (n % 5_000), "limit"), (P10, W10, Max(3, LEASE))[n % 3], 1, n % 3 == 2)
            try:
                await ask(store, b"%d-%d" % (id(until), n), demand)
            except Exception:
                await asyncio.sleep(0.01)

    try:
        await asyncio.gather(*[caller() for _ in range(32)])
    finally:
        await store.close()


def killed_again_and_again(server: Server, rounds: int) -> None:
    """The server is killed in the middle of its work; of what it kept, everything has an end."""

    async def round_of() -> None:
        until = asyncio.Event()
        load = asyncio.ensure_future(under_load(server.url, until))
        while not await asyncio.to_thread(server.ask, "DBSIZE"):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.03)
        server.kill()
        until.set()
        server.start()
        await load

    for _ in range(rounds):
        asyncio.run(round_of())
        keys = keys_of([server])
        assert keys
        assert min(keys.values()) >= 0, [key for key, life in keys.items() if life < 0]


def test_tm_10_a_server_that_is_killed_in_the_middle_has_no_key_that_never_ends(
    make_server: Callable[..., Server],
) -> None:
    killed_again_and_again(make_server(appendonly=True, appendfsync="always"), 3)


@pytest.mark.chaos
def test_tm_10_a_server_that_is_killed_a_hundred_times_has_no_key_that_never_ends(
    make_server: Callable[..., Server],
) -> None:
    killed_again_and_again(make_server(appendonly=True, appendfsync="always"), 100)


MOST_BYTES = 250
"""Of a subject with four counters."""


@pytest.mark.parametrize(("name", "subjects"), [
    ("redis", 500), ("cluster", 500), pytest.param("redis", 200_000, marks=pytest.mark.chaos),
])  # fmt: skip
def test_me_02_a_subject_with_four_counters_takes_250_bytes_and_ends(
    name: str, subjects: int, request: pytest.FixtureRequest
) -> None:
    url, servers = servers_of(request, name)
    verbs = (
        P10,
        Rolling(1_000, 86_400 * SECOND),
        Quota(10_000, (), spec=1, length=30 * 86_400 * SECOND),
        Total(10**6),
    )

    async def story() -> None:
        store = open_store(url, deadline=PATIENT)
        for at in range(0, subjects, 500):
            commands = []
            for n in range(at, at + 500):
                who = b"%08x%08x" % (n * 2_654_435_761 % 2**32, n)
                demands = tuple([Demand((who, f"limit-{at}"), verb, 1) for at, verb in enumerate(verbs)])
                commands.append(Reserve(b"%d" % n, demands, 0))
            assert all(type(outcome) is Granted for outcome in await store.transact(commands))
        await store.close()

    asyncio.run(story())
    keys = keys_of(servers)
    assert min(keys.values()) >= 0
    sizes = []
    for server in servers:
        client: Redis = server.client()
        mine = [key for key in client.scan_iter(count=1_000) if not is_receipt(key)]
        sizes += [client.memory_usage(key) for key in mine[:500]]
        client.close()
    assert len(sizes) >= 500
    assert sum(sizes) / len(sizes) <= MOST_BYTES


def is_receipt(key: bytes) -> bool:
    """Whether it is a verdict that is remembered for seconds, and no balance."""
    return key.startswith(b"hr{")
