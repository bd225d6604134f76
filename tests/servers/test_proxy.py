"""The proxy spoils what it is asked to spoil, and nothing else."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from servers.proxy import Fate, Faults, Proxy, ProxyThread

PATIENCE = 30.0


def pack(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Client:
    """Speaks to the proxy without any library that would mend something on the way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, proxy: Proxy) -> Client:
        return cls(*await asyncio.open_connection(*proxy.address, limit=2**20))

    def send(self, *commands: bytes) -> None:
        self.writer.write(b"".join(pack(*command.split()) for command in commands))

    async def line(self, patience: float = PATIENCE) -> bytes:
        """The next line; empty at the end. Raises ConnectionResetError, TimeoutError."""
        async with asyncio.timeout(patience):
            return await self.reader.readline()

    async def ask(self, command: bytes) -> bytes:
        self.send(command)
        return await self.line()

    async def close(self) -> None:
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()


Story = Callable[[Proxy, Client], Awaitable[None]]


@pytest.fixture
def tell(valkey) -> Callable[[Story], None]:
    """Tells a story about a proxy and a client that is connected through it."""

    def told(story: Story) -> None:
        async def from_begin_to_end() -> None:
            async with Proxy(valkey.address, seed=7) as proxy:
                client = await Client.to(proxy)
                try:
                    await story(proxy, client)
                finally:
                    await client.close()

        asyncio.run(from_begin_to_end())

    return told


def test_what_is_not_spoilt_passes_unchanged_and_is_counted(tell, valkey):
    async def story(proxy, client):
        client.send(b"SET a " + b"x" * 200_000, b"GET a", b"PING", b"COMMAND COUNT", b"COMMAND INFO GET")
        assert await client.line() == b"+OK\r\n"
        assert await client.line() == b"$200000\r\n"
        assert await client.line() == b"x" * 200_000 + b"\r\n"
        assert await client.line() == b"+PONG\r\n"
        assert (await client.line()).startswith(b":")
        assert await client.line() == b"*1\r\n"
        assert (proxy.requests, proxy.replies) == ({b"SET": 1, b"GET": 1, b"PING": 1, b"COMMAND": 2}, 5)
        assert (proxy.accepted, proxy.open) == (1, 1)

    tell(story)


def test_exactly_one_reply_of_a_pipeline_is_lost(tell, valkey):
    async def story(proxy, client):
        spoil = proxy.spoil(Fate.LOSE, b"INCR", skip=2)
        client.send(*[b"INCR n"] * 5)
        assert [await client.line(), await client.line()] == [b":1\r\n", b":2\r\n"]
        with pytest.raises(ConnectionResetError):
            await client.line()
        assert spoil.left == 0
        again = await Client.to(proxy)
        assert await again.ask(b"GET n") == b"$1\r\n"
        assert await again.line() == b"5\r\n", "all five were carried out"
        await again.close()

    tell(story)


def test_the_fates_differ_in_what_the_client_sees_and_the_server_does(tell, valkey):
    async def story(proxy, client):
        async def fared(fate: Fate) -> tuple[bytes, bytes]:
            other = await Client.to(proxy)
            proxy.spoil(fate, b"ECHO")
            other.send(b"ECHO hello", b"INCR n")
            try:
                seen = [await other.line(), await other.line(), await other.line()]
            except ConnectionResetError:
                seen = [b"reset"]
            await other.close()
            return b"".join(seen), valkey.ask("GET", "n")

        assert await fared(Fate.PASS) == (b"$5\r\nhello\r\n:1\r\n", b"1")
        assert await fared(Fate.LOSE) == (b"reset", b"2")
        assert await fared(Fate.CLOSE) == (b"", b"3")
        assert await fared(Fate.TEAR) == (b"reset", b"4")
        assert await fared(Fate.UNSENT) == (b"reset", b"4"), "it never came to the server, nor what followed"
        proxy.spoil(Fate.SWALLOW, b"ECHO")
        client.send(b"ECHO hello", b"INCR n")
        assert await client.line() == b":5\r\n", "the answer to another question"

    tell(story)


def test_a_share_is_drawn_from_the_seed(tell, valkey):
    async def lost(proxy: Proxy) -> list[int]:
        proxy.faults = Faults(lose=0.2, commands=frozenset({b"INCR"}))
        found = []
        for number in range(40):
            client = await Client.to(proxy)
            assert await client.ask(b"PING") == b"+PONG\r\n"
            try:
                await client.ask(b"INCR n")
            except ConnectionResetError:
                found.append(number)
            await client.close()
        return found

    async def story(proxy, client):
        first = await lost(proxy)
        assert 2 <= len(first) <= 20
        async with Proxy(valkey.address, seed=7) as again:
            assert await lost(again) == first
        assert valkey.ask("GET", "n") == b"80", "what was lost was carried out"

    tell(story)


def test_latency_holds_back_replies_and_lets_a_pipeline_through_at_once(tell):
    async def story(proxy, client):
        proxy.faults = Faults(latency=0.1, jitter=0.02)
        begun = time.monotonic()
        client.send(*[b"PING"] * 50)
        for _ in range(50):
            assert await client.line() == b"+PONG\r\n"
        assert 0.1 <= time.monotonic() - begun < 2.5, "one latency, not fifty, which are 5 s"

    tell(story)


def test_replies_arrive_in_pieces_and_are_whole(tell):
    async def story(proxy, client):
        proxy.faults = Faults(slice=3)
        for _ in range(20):
            assert await client.ask(b"ECHO something-of-many-pieces") == b"$24\r\n"
            assert await client.line() == b"something-of-many-pieces\r\n"
        proxy.faults = Faults(bandwidth=1_000)
        begun = time.monotonic()
        client.send(b"ECHO " + b"x" * 100)
        assert len(await client.line() + await client.line()) == 108
        assert await client.ask(b"PING") == b"+PONG\r\n"
        assert time.monotonic() - begun >= 0.1

    tell(story)


def test_cutting_breaks_all_connections_at_once_as_asked(tell):
    async def story(proxy, client):
        other = await Client.to(proxy)
        assert await other.ask(b"PING") == await client.ask(b"PING") == b"+PONG\r\n"
        assert proxy.cut() == 2
        for broken in (client, other):
            with pytest.raises(ConnectionResetError):
                await broken.line()
        third = await Client.to(proxy)
        assert await third.ask(b"PING") == b"+PONG\r\n"
        proxy.cut(reset=False)
        assert await third.line() == b""
        await third.close()
        await other.close()

    tell(story)


def test_refusing_is_undone(tell):
    async def story(proxy, client):
        for _ in range(3):
            proxy.faults = Faults(refuse=True)
            with pytest.raises(OSError) as refused:
                await Client.to(proxy)
            assert refused.value.errno == errno.ECONNREFUSED
            assert await client.ask(b"PING") == b"+PONG\r\n", "who is connected is not concerned"
            proxy.heal()
            other = await Client.to(proxy)
            assert await other.ask(b"PING") == b"+PONG\r\n"
            await other.close()
            proxy.faults = Faults(refuse=True)
            proxy.faults = Faults()

    tell(story)


def test_a_hole_accepts_and_answers_nothing_until_it_is_healed(tell, valkey):
    async def story(proxy, client):
        proxy.faults = Faults(hole=True)
        other = await Client.to(proxy)
        for waiting in (client, other):
            waiting.send(b"INCR n")
            with pytest.raises(TimeoutError):
                await waiting.line(0.05)
        assert valkey.ask("GET", "n") is None
        await other.close()
        proxy.heal()
        assert await client.line() in (b":1\r\n", b":2\r\n")
        while valkey.ask("GET", "n") != b"2":  # of whom has gone, too
            await asyncio.sleep(0.001)

    tell(story)


def test_mute_lets_requests_pass_and_holds_their_replies(tell, valkey):
    async def story(proxy, client):
        proxy.faults = Faults(mute=True)
        client.send(b"INCR n")
        while valkey.ask("GET", "n") != b"1":
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await client.line(0.05)
        proxy.heal()
        assert await client.line() == b":1\r\n"

    tell(story)


def test_lag_carries_out_late_what_was_asked_by_one_who_left(tell, valkey):
    async def story(proxy, client):
        proxy.faults = Faults(lag=0.1)
        begun = time.monotonic()
        client.send(b"INCR n")
        while not proxy.requests:
            await asyncio.sleep(0.001)
        await client.close()
        while valkey.ask("GET", "n") != b"1":
            await asyncio.sleep(0.001)
        assert time.monotonic() - begun >= 0.1

    tell(story)


def test_a_half_open_connection_says_nothing_for_ever(tell, valkey):
    async def story(proxy, client):
        assert await client.ask(b"PING") == b"+PONG\r\n"
        assert proxy.half_open() == 1
        client.send(b"INCR n")
        with pytest.raises(TimeoutError):
            await client.line(0.1)
        assert valkey.ask("GET", "n") is None
        other = await Client.to(proxy)
        assert await other.ask(b"INCR n") == b":1\r\n"
        await other.close()

    tell(story)


def test_a_server_that_is_not_there_is_a_connection_that_breaks(make_server):
    async def story() -> None:
        server = make_server()
        async with Proxy(server.address) as proxy:
            client = await Client.to(proxy)
            assert await client.ask(b"PING") == b"+PONG\r\n"
            server.kill()
            assert await client.line() == b""
            await client.close()
            again = await Client.to(proxy)
            with pytest.raises(ConnectionResetError):
                await again.ask(b"PING")
            await again.close()

    asyncio.run(story())


def test_what_is_no_resp_passes_as_it_comes(make_server):
    """A replica that copies its primary through the proxy."""
    primary, replica = make_server(), make_server()
    primary.ask("SET", "a", "b" * 100_000)
    with ProxyThread(primary.address) as thread:
        replica.ask("REPLICAOF", "127.0.0.1", thread.port)
        until = time.monotonic() + PATIENCE
        while replica.ask("GET", "a") != b"b" * 100_000:
            assert time.monotonic() < until, replica.log
            time.sleep(0.02)
        thread.set(hole=True)
        primary.ask("SET", "c", "d")
        time.sleep(0.05)
        assert replica.ask("GET", "c") is None
        thread.do(lambda proxy: proxy.heal())
        while replica.ask("GET", "c") != b"d":
            assert time.monotonic() < until, replica.log
            time.sleep(0.02)
