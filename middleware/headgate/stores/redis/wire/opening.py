"""From an address to a connection that may be used: made by redis-py, looked at, taken over.

Law: no connection is used before its server has said that it is what headgate needs: Redis 7 or newer, or Valkey; no
mere replica; not one that throws counts away when it is full, for who is thrown away begins with a fresh window; and
quick enough to answer within the deadline. What is wrong with it is a StoreError, and the next connection looks
again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.connection import Connection as Tcp
from redis.exceptions import InvalidResponse, NoPermissionError, RedisError, ResponseError

from headgate.errors import StoreError
from headgate.stores.redis import faults
from headgate.stores.redis.address import Address, Shape, Where, named
from headgate.stores.redis.doctor.facts import Server, fields
from headgate.stores.redis.wire import names
from headgate.stores.redis.wire.connection import Connection, Owner

LEAST: Final = 0.5
"""How long (seconds) a connection may take to be made at least. More than a request waits, because names, TLS and
passwords take their time once; less than the pace of a breaker's probes, so that there is one of them at a time."""

GONE: Final = 1.0
"""How long (seconds) an end is waited for at most. One that was dropped takes some microseconds."""

TRIES: Final = 3
"""Round trips, one of which must take no longer than the deadline: the first may have been slow on our own side."""


INTRODUCED: Final = (
    ("CLIENT", "SETNAME", "headgate"),
    ("CLIENT", "SETINFO", "LIB-NAME", "headgate"),
    ("CLIENT", "SETINFO", "LIB-VER", version("headgate")),
)
"""How a connection shows in CLIENT LIST. Who may not say so, or to whom it means nothing, is served all the same."""


async def opened(address: Address, where: Where, deadline: float, owner: Owner) -> Connection:
    """A connection to `where`, ready for questions. Raises StoreError."""
    link, server = address.connection(where), named(where)
    try:
        await made(link, server, patience(deadline))
        await _looked_at(link, server, address.shape, deadline)
        return _taken_over(link, owner)
    finally:
        await gone(link)


def patience(deadline: float) -> float:
    """How long (seconds) a connection may take where calls wait for `deadline`."""
    return max(LEAST, deadline)


async def made(link: AbstractConnection, server: str, within: float) -> None:
    """redis-py's connection is made: TCP, TLS, user and password, database. Raises StoreError."""
    try:
        async with asyncio.timeout(within):
            if isinstance(link, Tcp):
                await names.known(link.host)
            await link.connect_check_health(check_health=False, retry_socket_connect=False)
    except InvalidResponse:
        raise faults.no_redis(server) from None
    except (RedisError, OSError, ValueError) as error:
        raise faults.not_connected(server, error, within) from None


async def said(link: AbstractConnection, server: str, within: float, *questions: tuple[str, ...]) -> list[Any]:
    """What a server answers to commands, in one round trip over redis-py's connection. An error reply stands as a
    ResponseError among the answers. Raises StoreError."""
    try:
        async with asyncio.timeout(within):
            await link.send_packed_command(link.pack_commands(questions), check_health=False)
            return [await _reply(link) for _ in questions]
    except InvalidResponse:
        raise faults.no_redis(server) from None
    except (RedisError, OSError) as error:
        raise faults.not_connected(server, error, within) from None


async def _reply(link: AbstractConnection) -> Any:
    try:
        return await link.read_response()
    except ResponseError as error:
        return error


def dropped(link: AbstractConnection) -> None:
    """Lets go of redis-py's connection, at once; one that was taken over is not its any more."""
    writer, link._writer, link._reader = link._writer, None, None
    if writer is not None:
        writer.transport.abort()


async def gone(link: AbstractConnection) -> None:
    """The same, and waits until nothing of it is left, a turn or two of the loop: whoever was told that it is closed
    may end the loop."""
    writer = link._writer
    dropped(link)
    if writer is not None:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(GONE):
                await writer.wait_closed()


def _taken_over(link: AbstractConnection, owner: Owner) -> Connection:
    assert link._writer is not None, "a connection that was made has a writer"
    connection = Connection(link._writer, owner)
    link._writer = link._reader = None
    return connection


async def _looked_at(link: AbstractConnection, server: str, shape: Shape, deadline: float) -> None:
    loop, within = asyncio.get_running_loop(), patience(deadline)
    asked = loop.time()
    told, *_ = await said(link, server, within, ("INFO",), *INTRODUCED)
    if isinstance(told, ResponseError) and not isinstance(told, NoPermissionError):
        raise faults.replied(server, faults.reply_of(told))
    # A user that may not ask is served all the same: what is wrong shows when the script runs.
    wrong = unfit(fields(told.decode(errors="replace")) if isinstance(told, bytes) else {}, shape)
    if wrong:
        raise StoreError(f"{server}: {wrong[0]}", transient=wrong[1])
    took = loop.time() - asked
    for _ in range(1, TRIES):
        if took <= deadline:
            return
        asked = loop.time()
        await said(link, server, within, ("PING",))
        took = loop.time() - asked
    if took > deadline:
        raise faults.slow(server, deadline)


def unfit(info: dict[str, str], shape: Shape) -> tuple[str, bool] | None:
    """Why a server that says this of itself cannot keep a ledger, and whether that passes; None if it can.

    >>> unfit({"redis_version": "6.2.1"}, "single")
    ('it is Redis 6.2.1; headgate needs Redis 7.0, or Valkey', False)
    >>> unfit({"redis_version": "7.2.4", "redis_mode": "standalone", "maxmemory": "0"}, "single")
    """
    server = Server("", info)
    if server.mode == "sentinel":
        return "it is a sentinel; write redis+sentinel://HOST:PORT/NAME", False
    if server.version is not None and server.version < faults.OLDEST:
        return f"it is {server.product}; headgate needs Redis 7.0, or Valkey", False
    if server.mode == "cluster" and shape != "cluster":
        return "it is a node of a cluster; write redis+cluster://HOST:PORT", False
    if server.mode == "standalone" and shape == "cluster":
        return "it is no node of a cluster; write redis://HOST:PORT", False
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory", "0") != "0" and policy != "noeviction":
        return (
            f"its `maxmemory-policy` is {policy}, which forgets counts when it is full and so gives fresh windows; "
            "set it to noeviction: CONFIG SET maxmemory-policy noeviction"
        ), False
    if server.replica and shape != "cluster":
        return "it is a replica, which takes no writes; name its master, or redis+sentinel://", True
    return None
