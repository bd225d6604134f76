"""Servers that are gone, slow, mute or not what they should be: what callers are told, when, and how it ends."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count

import pytest
import uvloop

from headgate.errors import StoreError
from headgate.quota.command import Demand, Granted, Look, Reserve, Seen
from headgate.quota.window import Total
from headgate.stores.redis import RedisStore
from headgate.stores.redis.wire import node as nodes
from headgate.testing.servers import Server
from servers.proxy import Fate, Faults, Proxy
from timing import Took, took

LEASE = 60_000_000
PATIENT = 30.0
DEADLINE = 0.025
GRACE = 0.010
"""Seconds by which an answer may come after the deadline."""

TRIES = 20
"""Others use this machine, too: what must be quick is quick in one of so many tries."""

ENOUGH = 0.3
"""Seconds in which a server answers, though others use this machine, too."""

SECRET = "hunter2"
NUMBERS = count()


def life(who: bytes = b"acme") -> Demand:
    return Demand((who, "life"), Total(2**40), 1)


def ask(rid: bytes) -> tuple[Reserve]:
    return (Reserve(rid, (life(),), LEASE),)


@asynccontextmanager
async def opened(url: str, deadline: float = PATIENT) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, deadline=deadline)
    try:
        yield store
    finally:
        await store.close()


async def patiently_used(server: Server) -> int:
    """What the server itself says, past everything that spoils or hurries the way to it."""
    async with opened(server.url) as store:
        return await used(store)


async def used(store: RedisStore) -> int:
    [seen] = await store.transact((Look((life(),)),))
    assert isinstance(seen, Seen)
    [balance] = seen.balances
    return 0 if balance is None else balance.used


async def waited(store: RedisStore, rid: bytes) -> tuple[bool, Took]:
    """Whether one call was answered, and how long it took."""
    call = asyncio.ensure_future(store.transact(ask(rid)))
    seconds = await took(call, DEADLINE)
    return call.exception() is None, seconds


async def fault_of(store: RedisStore, rid: bytes = b"1") -> tuple[StoreError, Took]:
    """The fault of one call, and how long it took."""
    call = asyncio.ensure_future(store.transact(ask(rid)))
    seconds = await took(call, DEADLINE)
    with pytest.raises(StoreError) as told:
        call.result()
    return told.value, seconds


def in_time(calls: Sequence[Took]) -> None:
    """The usual call has waited for the deadline and its grace at most, but for what this machine was late, and nine
    of ten not for another deadline; and the quickest that waited, with nothing taken off: nothing but the machine has
    kept the loop itself."""
    own = sorted(one.own for one in calls)
    assert own[len(own) // 2] <= DEADLINE + GRACE, own
    assert own[len(own) * 9 // 10] <= 2 * DEADLINE + GRACE, own
    late = [one for one in calls if one > DEADLINE / 2]
    assert not late or min(late) <= DEADLINE + GRACE, late


async def healed(store: RedisStore, within: float = PATIENT) -> float:
    """How long (seconds) until a call is answered."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < within:
        try:
            await store.transact(ask(b"healed-%d" % next(NUMBERS)))
        except StoreError:
            await asyncio.sleep(0.01)
        else:
            return time.perf_counter() - begun
    raise AssertionError(f"no answer within {within} s")


async def left_alone(store: RedisStore) -> None:
    """Returns when nobody asks the server any more, but for a probe."""
    async with asyncio.timeout(PATIENT):
        while "nobody asks again" not in str((await fault_of(store, b"away-%d" % next(NUMBERS)))[0]):
            continue


async def back_within(
    seconds: float, store: RedisStore, away: Callable[[], object], back: Callable[[], object]
) -> None:
    """A server that is away, and is left alone, is in use so many seconds after it is back, in one of a few tries: a
    probe that this machine did not answer in time is followed by another a second later."""
    took: list[float] = []
    while not took or took[-1] > seconds:
        assert len(took) < TRIES, took
        if took:
            away()
            await left_alone(store)
        back()
        took.append(await healed(store))


async def punctual(work: Callable[[], Awaitable[float]]) -> None:
    """A duration is within the deadline and its grace, in one of a few tries."""
    took: list[float] = []
    while not took or took[-1] > DEADLINE + GRACE:
        assert len(took) < TRIES, took
        took.append(await work())


# Lost on the way.


@pytest.mark.parametrize("fate", [Fate.LOSE, Fate.TEAR, Fate.CLOSE, Fate.UNSENT])
def test_a_reply_that_is_lost_with_its_connection_is_asked_for_again_and_counts_once(
    valkey: Server, fate: Fate
) -> None:
    async def story() -> None:
        async with Proxy(valkey.address) as proxy, opened(proxy.url) as store:
            for n in range(20):
                if n % 2:
                    proxy.spoil(fate, b"EVALSHA")
                outcomes = await asyncio.gather(*[store.transact(ask(b"%d-%d" % (n, m))) for m in range(10)])
                assert all(type(outcome) is Granted for [outcome] in outcomes)
            assert await used(store) == 200

    asyncio.run(story())


def test_with_one_reply_in_ten_lost_nobody_is_charged_twice(valkey: Server) -> None:
    async def story() -> None:
        faults = Faults(tear=0.1, unsent=0.05, commands=frozenset({b"EVALSHA"}))
        async with Proxy(valkey.address, faults=faults, seed=3) as proxy, opened(proxy.url) as store:
            granted = unknown = 0
            for n in range(60):
                calls = [store.transact(ask(b"%d-%d" % (n, m))) for m in range(5)]
                for told in await asyncio.gather(*calls, return_exceptions=True):
                    granted += isinstance(told, list)
                    unknown += isinstance(told, StoreError) and told.unknown
            proxy.heal()
            await healed(store)
            count = await used(store) - 1
            assert granted <= count <= granted + unknown
            assert granted > 250

    asyncio.run(story())


# Nobody there.


def test_where_nothing_listens_the_very_first_call_is_told_so_at_once() -> None:
    async def first(url: str) -> float:
        async with opened(url, DEADLINE) as store:
            fault, took = await fault_of(store)
            assert SECRET not in str(fault)
            assert (fault.transient, fault.unknown) == (True, False)
            return took if "nothing listens there" in str(fault) else PATIENT

    async def story() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            await punctual(lambda: first(f"redis://:{SECRET}@127.0.0.1:{bound.getsockname()[1]}"))

    asyncio.run(story())


def test_where_nobody_answers_the_very_first_call_is_told_so_at_its_deadline() -> None:
    async def first(url: str) -> float:
        async with opened(url, DEADLINE) as store:
            fault, took = await fault_of(store)
            assert "no connection within 25 ms" in str(fault)
            assert (fault.transient, fault.unknown) == (True, False)
            return took

    async def story() -> None:
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            await punctual(lambda: first(f"redis://127.0.0.1:{mute.getsockname()[1]}"))

    asyncio.run(story())


def test_a_name_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with opened("redis://nowhere.invalid") as store:
            fault, _ = await fault_of(store)
            assert "nowhere.invalid:6379: its name is not known" in str(fault)
            assert fault.transient

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    asyncio.run(story())


def test_a_resolver_that_hangs_costs_one_thread_and_nobody_more_than_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hangs, asked = threading.Event(), []

    def hanging(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        hangs.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    async def story() -> None:
        async with opened("redis://slowly.invalid", DEADLINE) as store:
            begun, took = time.perf_counter(), []
            while time.perf_counter() - begun < 1.5:
                took.append((await fault_of(store))[1])
                await asyncio.sleep(0.01)
            in_time(took)
            assert asked == ["slowly.invalid"]
            hangs.set()

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    try:
        asyncio.run(story())
    finally:
        hangs.set()


@pytest.mark.parametrize("runs", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_answers_that_wait_in_the_socket_while_the_loop_is_busy_are_in_time(
    valkey: Server, runs: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    def carried_out() -> int:
        return int(valkey.ask("INFO", "commandstats")["cmdstat_evalsha"]["calls"])

    async def story() -> None:
        async with opened(valkey.url, ENOUGH) as store:
            for _ in range(2):  # the script is known
                await healed(store)
            [here] = store._lines.values()
            connection = here.line.nodes[0].connection
            assert connection is not None
            wire = connection._writer.get_extra_info("socket")
            waited = 0
            for n in range(TRIES):
                before, call = carried_out(), asyncio.ensure_future(store.transact(ask(b"%d" % n)))
                while carried_out() == before and not call.done():
                    await asyncio.sleep(0)
                if call.done() or not select.select([wire], [], [], 1.0)[0]:
                    # It was read at once, or this machine is very busy.
                    await asyncio.wait({call})
                    call.exception()
                    continue
                time.sleep(2 * ENOUGH)
                assert type((await call)[0]) is Granted
                waited += 1
                if waited == 2:
                    return
            raise AssertionError("no answer waited")

    with asyncio.Runner(loop_factory=runs) as runner:
        runner.run(story())


def test_a_socket_that_is_not_there_is_told() -> None:
    async def story() -> None:
        async with opened("unix:///there/is/none.sock", DEADLINE) as store:
            fault, _ = await fault_of(store)
            assert "no such socket" in str(fault)

    asyncio.run(story())


# Silence.


def test_a_black_hole_holds_nobody_for_longer_than_the_deadline_and_is_left_alone_within_a_second(
    valkey: Server,
) -> None:
    async def story() -> None:
        async with Proxy(valkey.address) as proxy, opened(proxy.url, DEADLINE) as store:
            await healed(store)
            proxy.faults = Faults(hole=True)
            took: list[Took] = []
            told: list[StoreError] = []
            lasted = 0.0
            while lasted < 1.0:
                faults = await asyncio.gather(*[fault_of(store, b"%d" % n) for n in range(20)])
                took += [seconds for _, seconds in faults]
                told += [fault for fault, _ in faults]
                if "nobody asks again" in str(told[-1]):
                    break
                lasted += took[-1].own
            assert all(fault.transient for fault in told)
            assert told[0].unknown, "it was sent"
            in_time(took)
            assert (told[-1].unknown, "nobody asks again" in str(told[-1])) == (False, True)

            async def told_off() -> float:
                """Nobody waits for who is left alone; the probe does."""
                fault, seconds = await fault_of(store)
                return DEADLINE + seconds if "nobody asks again" in str(fault) else PATIENT

            await punctual(told_off)
            await back_within(2.0, store, lambda: setattr(proxy, "faults", Faults(hole=True)), proxy.heal)

    asyncio.run(story())


def test_a_connection_whose_peer_is_gone_without_a_word_is_given_up(valkey: Server) -> None:
    async def story() -> None:
        async with Proxy(valkey.address) as proxy, opened(proxy.url, DEADLINE) as store:
            took: list[tuple[float, int]] = []
            while not took or took[-1] > (1.0, 1):  # where this machine is late, a second connection may be made
                assert len(took) < TRIES, took
                await healed(store)
                before = proxy.accepted
                proxy.half_open()
                fault, _ = await fault_of(store)
                assert fault.unknown
                seconds = await healed(store)
                took.append((max(1.0, seconds), proxy.accepted - before))
            assert took[-1][1] == 1

    asyncio.run(story())


@pytest.mark.parametrize("delay", [0.04, 0.5])
def test_a_slow_server_keeps_nobody_beyond_the_deadline_and_late_answers_go_nowhere(
    valkey: Server, delay: float
) -> None:
    async def story() -> None:
        async with Proxy(valkey.address) as proxy, opened(proxy.url, DEADLINE) as store:
            await healed(store)
            before, number = await patiently_used(valkey), next(NUMBERS)
            proxy.faults = Faults(latency=delay)
            told: list[tuple[bool, Took]] = []
            for n in range(30):
                told += await asyncio.gather(*[waited(store, b"%d-%d" % (n, m)) for m in range(5)])
            in_time([seconds for _, seconds in told])
            served = [seconds for answered, seconds in told if answered]
            # Where this machine was late, an answer that had come meanwhile is one.
            assert len(served) < len(told) / 2 and all(seconds >= delay for seconds in served)
            await back_within(2.0, store, lambda: setattr(proxy, "faults", Faults(latency=delay)), proxy.heal)
            asked = 150 + next(NUMBERS) - number
            assert before < await patiently_used(valkey) <= before + asked

    asyncio.run(story())


def test_one_pause_of_the_server_costs_the_calls_in_it_and_no_more(valkey: Server) -> None:
    async def story() -> None:
        async with Proxy(valkey.address) as proxy, opened(proxy.url, DEADLINE) as store:
            took: list[tuple[float, int]] = []
            while not took or took[-1] > (0.5, 0):
                assert len(took) < TRIES, took
                await healed(store)
                proxy.faults = Faults(hole=True)
                before = proxy.accepted
                await asyncio.gather(*[fault_of(store, b"%d" % n) for n in range(50)])
                proxy.heal()
                seconds = await healed(store)
                took.append((max(0.5, seconds), proxy.accepted - before))

    asyncio.run(story())


def test_while_a_server_is_left_alone_one_call_a_second_goes_along_with_a_probe(valkey: Server) -> None:
    async def story() -> None:
        async with Proxy(valkey.address) as proxy, opened(proxy.url, DEADLINE) as store:
            await healed(store)

            def away() -> None:
                proxy.faults = Faults(refuse=True)
                proxy.cut()

            away()
            begun, waited = time.perf_counter(), 0
            while (lasted := time.perf_counter() - begun) < 2.5:
                fault, _ = await fault_of(store)
                waited += "nobody asks again" not in str(fault)
                await asyncio.sleep(0.002)
            assert waited <= 3 + 2 + lasted, "a few before it opens, then one a second"
            await back_within(2.0, store, away, proxy.heal)

    asyncio.run(story())


# Ends and restarts.


def test_a_server_that_restarts_is_found_again(make_server: Callable[..., Server]) -> None:
    server = make_server(appendonly=True, appendfsync="always")

    async def story() -> None:
        async with opened(server.url, DEADLINE) as store:
            await healed(store)
            before = await patiently_used(server)
            for how in (server.kill, server.shut_down):
                how()
                fault, took = await fault_of(store)
                assert fault.transient
                assert took.own <= DEADLINE + GRACE * 3
                await back_within(2.0, store, how, server.start)
            assert await patiently_used(server) >= before + 2

    asyncio.run(story())


def test_an_idle_connection_that_was_cut_is_replaced_without_a_word(valkey: Server) -> None:
    async def story() -> None:
        async with Proxy(valkey.address) as proxy, opened(proxy.url) as store:
            await healed(store)
            [here] = store._lines.values()
            for reset in (True, False):
                proxy.cut(reset=reset)
                async with asyncio.timeout(PATIENT):
                    while here.line.nodes[0].connection is not None:
                        await asyncio.sleep(0.001)
                assert type((await store.transact(ask(b"again-%d" % reset)))[0]) is Granted

    asyncio.run(story())


# Servers that are not what they should be.


async def told_by(url: str) -> StoreError:
    async with opened(url) as store:
        return (await fault_of(store))[0]


@pytest.mark.parametrize(
    ("user", "says"),
    [
        ("", "asks for a password"),
        (f":{SECRET}@", "does not take this user name and password"),
        (f"me:{SECRET}@", "does not take this user name and password"),
    ],
)
def test_a_wrong_password_is_told_and_not_shown(make_server: Callable[..., Server], user: str, says: str) -> None:
    server = make_server(requirepass="another")
    fault = asyncio.run(told_by(f"redis://{user}127.0.0.1:{server.port}"))
    assert says in str(fault)
    assert (fault.transient, fault.unknown) == (False, False)
    assert SECRET not in str(fault)


def test_a_user_that_may_not_run_scripts_is_told(make_server: Callable[..., Server]) -> None:
    server = make_server()
    server.ask("ACL", "SETUSER", "clerk", "on", f">{SECRET}", "~*", "+@read", "+client", "+info")
    fault = asyncio.run(told_by(f"redis://clerk:{SECRET}@127.0.0.1:{server.port}"))
    assert "ACL SETUSER" in str(fault)
    assert (fault.transient, fault.unknown) == (False, False)


def test_a_server_that_forgets_when_it_is_full_is_not_used_until_that_is_mended(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(maxmemory="64mb", maxmemory_policy="allkeys-lru")

    async def story() -> None:
        async with opened(server.url) as store:
            fault, _ = await fault_of(store)
            assert "CONFIG SET maxmemory-policy noeviction" in str(fault)
            assert not fault.transient
            server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
            await healed(store)

    asyncio.run(story())


def test_a_server_that_is_told_to_forget_while_it_is_used_is_left_within_a_minute(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "LOOKED_AT", 0.02)
    server = make_server(maxmemory="64mb", maxmemory_policy="noeviction")

    async def story() -> None:
        async with opened(server.url) as store:
            await store.transact(ask(b"1"))
            server.ask("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
            until = time.perf_counter() + PATIENT
            with pytest.raises(StoreError, match="gives fresh windows"):
                while time.perf_counter() < until:
                    await store.transact(ask(b"%d" % next(NUMBERS)))
                    await asyncio.sleep(0.01)
            server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
            await healed(store)

    asyncio.run(story())


def test_a_server_that_has_as_many_clients_as_it_takes_says_so(make_server: Callable[..., Server]) -> None:
    server = make_server(maxclients=8)

    async def story() -> None:
        ends = [await asyncio.open_connection(*server.address) for _ in range(8)]
        async with opened(server.url) as store:
            fault, _ = await fault_of(store)
            for _, writer in ends:
                writer.close()
            assert "maxclients" in str(fault)
            assert fault.transient
            await healed(store)

    asyncio.run(story())


def test_a_server_that_is_full_goes_on_with_whom_it_knows(make_server: Callable[..., Server]) -> None:
    server = make_server()

    async def story() -> None:
        async with opened(server.url) as store:
            await store.transact(ask(b"known"))
            server.ask("CONFIG", "SET", "maxmemory", "1")
            for n in range(5):
                assert type((await store.transact(ask(b"%d" % n)))[0]) is Granted
            assert await used(store) == 6

    asyncio.run(story())


class Scripted(asyncio.Protocol):
    """Answers one reply for each packet that comes, whatever it says."""

    def __init__(self, replies: tuple[bytes, ...]) -> None:
        self.replies = list(replies)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.replies:
            self.transport.write(self.replies.pop(0))


@asynccontextmanager
async def answering(*replies: bytes) -> AsyncIterator[str]:
    """A server that answers everybody this."""
    server = await asyncio.get_running_loop().create_server(lambda: Scripted(replies), "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def info(**fields: str) -> bytes:
    """The answer to INFO, and to the three commands by which a client introduces itself."""
    text = "".join(f"{name}:{value}\r\n" for name, value in fields.items())
    return b"$%d\r\n%s\r\n" % (len(text), text.encode()) + b"+OK\r\n" * 3


@pytest.mark.parametrize(
    ("replies", "says", "transient"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "no Redis", False),
        ([info(redis_version="6.2.14", redis_mode="standalone")], "Redis 6.2.14; headgate needs", False),
        ([info(redis_version="7.2.4", redis_mode="sentinel")], r"redis\+sentinel://", False),
        ([info(redis_version="7.2.4", redis_mode="cluster")], r"redis\+cluster://", False),
        ([info(redis_version="7.2.4", role="slave")], "it is a replica", True),
        ([b"-LOADING Redis is loading the dataset in memory\r\n"], "reading its data", True),
    ],
)
def test_what_is_no_server_for_a_ledger_is_not_used(replies: list[bytes], says: str, transient: bool) -> None:
    async def story() -> None:
        async with answering(*replies) as url, opened(url) as store:
            fault, _ = await fault_of(store)
            assert fault.transient is transient
            with pytest.raises(StoreError, match=says):
                raise fault

    asyncio.run(story())


FIT = info(redis_version="7.2.4", redis_mode="standalone", role="master")


@pytest.mark.parametrize(
    ("reply", "says", "unknown"),
    [
        (b"-BUSY Redis is busy running a script\r\n", "SCRIPT KILL", False),
        (b"-READONLY You can't write against a read only replica.\r\n", "replica now", False),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", "cannot save to disk", False),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", "min-replicas-to-write", False),
        (b"-CLUSTERDOWN The cluster is down\r\n", "CLUSTER INFO", False),
        (b"-MOVED 1234 127.0.0.1:7001\r\n", r"redis\+cluster://", False),
        (b"-ERR something new\r\n", "something new", True),
        (b"-ERR caf\xe9\r\n", "caf", True),
        (b"+OK\r\n", "cannot be read", True),
        (b"*1\r\n$2\r\nhi\r\n", "cannot be read", True),
        (b"*2\r\n$2\r\nhi\r\n$2\r\nhi\r\n", "2 outcomes for 1 commands", True),
        (b"garbage\r\n", "no Redis", True),
    ],
)
def test_what_a_server_says_instead_of_an_outcome_is_told(reply: bytes, says: str, unknown: bool) -> None:
    async def story() -> None:
        async with answering(FIT, reply) as url, opened(url) as store:
            fault, _ = await fault_of(store)
            with pytest.raises(StoreError, match=says):
                raise fault
            assert fault.unknown is unknown

    asyncio.run(story())


def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    async def story() -> None:
        async with answering(FIT, b"-BUSY x\r\n+OK\r\n") as url, opened(url) as store:
            await fault_of(store)
            await asyncio.sleep(0)
            [here] = store._lines.values()
            assert here.line.nodes[0].connection is None

    asyncio.run(story())
