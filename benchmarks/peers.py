"""One decision over Redis, as each peer makes it: all limits of a key asked, the answer whether it may pass.

A `Way` opens what a peer needs and gives its `Decide`. Each is used as its documentation shows it; where a peer has
no call for several limits, it is called once a limit, one after the other and until one refuses, as its users do.
What is asked is never refused here, so that everybody measures the way of a request that is served.

What they do not do, and headgate does: all limits in one step or none (pyrate-limiter does, for limits of one key),
nothing consumed on a refusal, subjects of their own for key, org and group, weights, settlement, a repeat that is
answered and not counted again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from headgate.ids import new_id
from headgate.quota.balance import Verb
from headgate.quota.command import Demand, Granted, Reserve
from headgate.quota.gcra import Rate
from headgate.quota.window import Rolling, Total
from headgate.stores import Store, open_store
from headgate.stores.redis.script.codec import arguments, outcome, packed
from headgate.stores.redis.script.scripts import SCRIPT
from headgate.stores.refusals import RefusalsStore
from headgate.stores.slices import SlicedStore

KEYS = 200
"""Different keys that ask, in turn; so that no counter is hotter than in a service of some size."""

NAMES = tuple([f"key-{number:03d}" for number in range(KEYS)])
LIMITS = ("1000000/minute", "10000000/hour", "100000000/day", "1000001/minute", "10000001/hour", "100000001/day")
"""As `limits` writes them; never reached."""

PATIENT = 2.0
"""Seconds that a store may take here: on a busy machine an answer may be late, and costs the same."""

LEASE = 10_000_000
MINUTE, WEEK = 60_000_000, 7 * 86_400_000_000

Decide = Callable[[str], Awaitable[bool]]
Way = Callable[[str, int], AbstractAsyncContextManager[Decide]]


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing to measure. `counts`: for how many limits it has a way (0: it knows none); `at_once`: decisions that
    one call makes; `times_the_best_peer`: throughput that is aimed at."""

    name: str
    way: Way
    counts: Sequence[int] = (1, 3, 6)
    at_once: int = 1
    times_the_best_peer: float = 0.0


# --- headgate


def demands(key: int, limits: int, slice: int = 0) -> tuple[Demand, ...]:
    """What a request of one key asks; the verbs are those of a common plan, the org has ten keys.

    With slices the keys are others: what is held there would be in the way of those without."""
    org = b"%b-%04d" % (b"cut" if slice else b"org", key // 10)
    mine, ours, group = org + b"key-%04d" % key, org + b"--------", org[:3] + b"-group-000001"
    asked: tuple[tuple[tuple[bytes, str], Verb], ...] = (
        ((mine, "rpm"), Rate(10**6, MINUTE)),
        ((mine, "week"), Rolling(10**12, WEEK)),
        ((ours, "rpm"), Rate(10**7, MINUTE)),
        ((ours, "week"), Rolling(10**12, WEEK)),
        ((group, "rpm"), Rate(10**8, MINUTE)),
        ((mine, "life"), Total(10**12)),
    )
    return tuple([Demand(place, verb, 1, slice=slice) for place, verb in asked[:limits]])


def fronted(uri: str) -> Store:
    """The store at a URI as a worker asks it: behind slices and behind what was refused a moment ago."""
    return RefusalsStore(SlicedStore(open_store(uri, deadline=PATIENT)))


def _headgate(slice: int = 0) -> Way:
    """A reservation, as the gate makes it. With `slice` a worker may hold so many units of each limit."""

    @asynccontextmanager
    async def way(uri: str, limits: int) -> AsyncIterator[Decide]:
        store = fronted(uri)
        asked = {name: demands(number, limits, slice) for number, name in enumerate(NAMES)}

        async def decide(name: str) -> bool:
            [outcome] = await store.transact((Reserve(new_id(), asked[name], LEASE),))
            return type(outcome) is Granted

        try:
            yield decide
        finally:
            await store.close()

    return way


@asynccontextmanager
async def one_by_one(uri: str, limits: int) -> AsyncIterator[Decide]:
    """The same command and script, each decision by itself through redis-py: what is saved by travelling together."""
    asked = {name: demands(number, limits) for number, name in enumerate(NAMES)}
    async with redis.asyncio.Redis.from_url(uri) as client:
        await client.script_load(SCRIPT.text)

        async def decide(name: str) -> bool:
            command = Reserve(new_id(), asked[name], LEASE)
            words = arguments((packed(command, None),), None, full=False)
            [reply] = await client.execute_command("EVALSHA", SCRIPT.sha, *words)
            return type(outcome(command, reply)) is Granted

        yield decide


# --- the peers


def _limits(strategy: str, implementation: str) -> Way:
    @asynccontextmanager
    async def way(uri: str, limits: int) -> AsyncIterator[Decide]:
        from limits import parse
        from limits.aio import strategies
        from limits.aio.storage import RedisStorage

        storage = RedisStorage(f"async+{uri}", implementation=implementation, key_prefix=strategy)
        limiter = getattr(strategies, strategy)(storage)
        items = [parse(text) for text in LIMITS[:limits]]

        async def decide(name: str) -> bool:
            for item in items:
                if not await limiter.hit(item, name):
                    return False
            return True

        yield decide

    return way


def _throttled(using: str) -> Way:
    @asynccontextmanager
    async def way(uri: str, limits: int) -> AsyncIterator[Decide]:
        from throttled.asyncio import RedisStore, Throttled, rate_limiter

        store = RedisStore(server=uri)
        per = (rate_limiter.per_min, rate_limiter.per_hour, rate_limiter.per_day)
        throttles = [
            (f"{number}:", Throttled(using=using, quota=per[number % 3](10**6 * 10 ** (number % 3)), store=store))
            for number in range(limits)
        ]

        async def decide(name: str) -> bool:
            for prefix, throttle in throttles:
                if (await throttle.limit(prefix + name)).limited:
                    return False
            return True

        yield decide

    return way


@asynccontextmanager
async def pyrate_limiter(uri: str, limits: int) -> AsyncIterator[Any]:
    """Its limiter, with a bucket for each key: the factory that it ships has one bucket for all."""
    from pyrate_limiter import BucketFactory, Duration, Limiter, Rate, RateItem, RedisBucket

    client = redis.asyncio.Redis.from_url(uri)
    spans = [span * times for span in (Duration.MINUTE, Duration.HOUR, Duration.DAY) for times in (1, 2)]
    rates = [Rate(10**6 * (1 + number), span) for number, span in enumerate(spans[:limits])]
    first = await RedisBucket.init(rates, client, "bench:pyrate:")
    buckets: dict[str, Any] = {}

    class PerKey(BucketFactory):
        def wrap_item(self, name: str, weight: int = 1) -> RateItem:
            return RateItem(name, first.now(), weight=weight)

        def get(self, item: RateItem) -> RedisBucket:
            found = buckets.get(item.name)
            if found is None:
                key = f"bench:pyrate:{limits}:{item.name}"
                found = buckets[item.name] = RedisBucket(rates, client, key, first.script_hash)
            return found

    try:
        yield Limiter(PerKey())
    finally:
        for bucket in buckets.values():
            await bucket.flush()  # it gives its keys no time to live
        await client.aclose()


@asynccontextmanager
async def pyrate(uri: str, limits: int) -> AsyncIterator[Decide]:
    """pyrate-limiter: one bucket a key, all rates in one script."""
    async with pyrate_limiter(uri, limits) as limiter:

        async def decide(name: str) -> bool:
            return bool(await limiter.try_acquire_async(name, blocking=False))

        yield decide


@asynccontextmanager
async def asgi_ratelimit(uri: str, limits: int) -> AsyncIterator[Decide]:
    """The core of asgi-ratelimit, which counts at most one limit for each of five fixed periods."""
    from ratelimit.backends.redis import RedisBackend

    client = redis.asyncio.StrictRedis.from_url(uri)
    backend = RedisBackend(client)
    rule = asgi_ratelimit_rule(limits)

    async def decide(name: str) -> bool:
        return await backend.retry_after("/v1/hello", name, rule) == 0

    try:
        yield decide
    finally:
        await client.aclose()


def asgi_ratelimit_rule(limits: int) -> Any:
    """Its rule for one or three limits."""
    from ratelimit import Rule

    periods = {"minute": 10**6, "hour": 10**7, "day": 10**8}
    return Rule(**dict([*periods.items()][:limits]))


# --- the floors


@asynccontextmanager
async def ping(uri: str, limits: int) -> AsyncIterator[Decide]:
    """A round trip that asks nothing."""
    async with redis.asyncio.Redis.from_url(uri) as client:

        async def decide(name: str) -> bool:
            return bool(await client.ping())

        yield decide


@asynccontextmanager
async def evalsha(uri: str, limits: int) -> AsyncIterator[Decide]:
    """A script that does nothing, with a key and an argument of a usual size: the others' measure."""
    async with redis.asyncio.Redis.from_url(uri) as client:
        sha = await client.script_load("return 1")
        body = b"b" * 100

        async def decide(name: str) -> bool:
            return bool(await client.evalsha(sha, 1, name, body))

        yield decide


AT_ONCE = 64


@asynccontextmanager
async def pipelined(uri: str, limits: int) -> AsyncIterator[Decide]:
    """The same, 64 of them in one pipeline."""
    async with redis.asyncio.Redis.from_url(uri) as client:
        sha = await client.script_load("return 1")
        body = b"b" * 100

        async def decide(name: str) -> bool:
            pipe = client.pipeline(transaction=False)
            for _ in range(AT_ONCE):
                pipe.evalsha(sha, 1, name, body)
            return all(await pipe.execute())

        yield decide


EVALSHA = Subject("redis-py, EVALSHA `return 1`", evalsha, (0,))

FLOORS = (
    EVALSHA,
    Subject("redis-py, PING", ping, (0,)),
    Subject("redis-py, 64 EVALSHA in a pipeline", pipelined, (0,), at_once=AT_ONCE),
)

LIMITS_FIXED = Subject("limits, fixed window (redis-py)", _limits("FixedWindowRateLimiter", "redispy"))
THROTTLED_GCRA = Subject("throttled-py, GCRA", _throttled("gcra"))
PYRATE = Subject("pyrate-limiter", pyrate)

PEERS = (
    Subject("limits, fixed window (coredis)", _limits("FixedWindowRateLimiter", "coredis")),
    LIMITS_FIXED,
    Subject("limits, sliding counter (redis-py)", _limits("SlidingWindowCounterRateLimiter", "redispy")),
    Subject("limits, moving window (redis-py)", _limits("MovingWindowRateLimiter", "redispy")),
    Subject("throttled-py, token bucket", _throttled("token_bucket")),
    THROTTLED_GCRA,
    PYRATE,
    Subject("asgi-ratelimit", asgi_ratelimit, (1, 3)),
)

HEADGATE = (
    Subject("headgate", _headgate(), times_the_best_peer=6.0),
    Subject("headgate, slices of 10,000", _headgate(10_000), times_the_best_peer=20.0),
)
ONE_BY_ONE = Subject("headgate's script by redis-py", one_by_one)
