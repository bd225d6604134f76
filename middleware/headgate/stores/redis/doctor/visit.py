"""A look at the servers of a store: what each says of itself, read and never changed.

Law: looking costs the server little and bounded work, and writes nothing. What a server refuses to tell is kept with
its reason; a server that does not answer hides none of the others. Nothing is tried again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, InvalidResponse, RedisError, ResponseError

from headgate.errors import StoreError
from headgate.stores.finding import Report
from headgate.stores.redis import faults
from headgate.stores.redis.address import Address, Where, named, read
from headgate.stores.redis.doctor import findings, not_known, rights, seen
from headgate.stores.redis.doctor.facts import (
    BEGINNINGS,
    ENDLESS,
    Durability,
    Facts,
    Right,
    Sample,
    Server,
    fields,
)
from headgate.stores.redis.doctor.topology import Member, members
from headgate.stores.redis.script.scripts import SCRIPT
from headgate.stores.redis.wire.opening import dropped

PATIENCE = 3.0
"""Seconds that one answer is waited for, or one connection."""

WHOLE = 10.0
"""Seconds that one server may take in all."""

AT_ONCE = 8
"""Servers that are looked at beside each other."""

TRIPS = 100
"""Round trips that are measured, as long as they take no more than `MEASURED` seconds together."""

MEASURED = 2.0

PAGE, PAGES = 500, 8
"""Keys that one SCAN is asked for, and how many are asked: about 4,000 keys of a database are looked at."""

SLOWEST = 64
"""Entries of the slow log that are read."""

ASKED = (
    "appendfsync", "save", "stop-writes-on-bgsave-error", "min-replicas-to-write", "timeout", "tcp-keepalive",
    "maxclients", "cluster-node-timeout", "cluster-require-full-coverage",
)  # fmt: skip
"""Settings that are read, each by itself: a server that lacks one answers the others."""


class Line:
    """One connection for the time of a look. What is asked together is written together."""

    def __init__(self, connection: AbstractConnection, name: str) -> None:
        self._connection = connection
        self.name = name

    async def open(self) -> None:
        """Connect. Raises StoreError with what is the matter."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._connection.connect_check_health(check_health=False, retry_socket_connect=False)
        except (RedisError, OSError, ValueError) as error:
            self.close()
            odd = isinstance(error, InvalidResponse)
            raise (faults.no_redis(self.name) if odd else faults.not_connected(self.name, error, PATIENCE)) from None

    async def ask(self, *commands: Sequence[str | bytes | int]) -> list[Any]:
        """The answers in their order; an error that the server answers is one of them.

        Raises StoreError where no answer comes.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                packed = self._connection.pack_commands(commands)
                await self._connection.send_packed_command(packed, check_health=False)
                return [await self._answer() for _ in commands]
        except AuthenticationError as error:
            raise faults.replied(self.name, faults.reply_of(error, "NOAUTH")) from None
        except InvalidResponse:
            raise faults.no_redis(self.name) from None
        except TimeoutError:
            raise faults.no_answer(self.name, PATIENCE) from None
        except (RedisError, OSError):
            raise faults.lost(self.name) from None

    async def _answer(self) -> Any:
        try:
            return await self._connection.read_response(disconnect_on_error=False)
        except ResponseError as refusal:
            return refusal

    def close(self) -> None:
        """Let go of the connection, at once."""
        dropped(self._connection)


@dataclass(slots=True)
class Look:
    """A server while it is looked at: what is known so far."""

    line: Line
    server: Server
    refused: dict[str, str] = field(default_factory=dict)
    told: float = 0.0
    """The server's clock when it was asked (seconds); 0 where it does not tell."""

    async def one(self, command: str, *words: str | bytes | int) -> Any:
        """The answer to one command; None, and a reason, where the server refuses it."""
        [answer] = await self.line.ask((*command.split(), *words))
        if isinstance(answer, ResponseError):
            self.refused[command] = _reason(answer)
            return None
        return answer


async def report(
    uri: str, shown: str, *, durability: Durability, deadline: float, workers: int = 1, thorough: bool = True
) -> Report:
    """What is wrong with the servers of a store. `shown`: its URI without password. Otherwise as `look`."""
    facts = await look(uri, durability=durability, deadline=deadline, workers=workers, thorough=thorough)
    rows = tuple((server.address, seen(server)) for server in facts.servers)
    return Report(shown, rows, findings(facts), not_known(facts))


async def look(
    uri: str, *, durability: Durability, deadline: float, workers: int = 1, thorough: bool = True
) -> Facts:
    """All that the servers of a store say of themselves.

    Not `thorough`: what is cheap to ask for, without a sample of the keys, and without round trips, which an event
    loop that has just begun would measure wrongly. Raises StoreError where nothing can be
    looked at, with what is the matter.
    """
    address = read(uri)
    needs = rights.needed(address.shape, durability == "replicated", SCRIPT.text.decode())
    where = [Member(where) for where in address.servers]
    facts = Facts(
        (), address.shape, durability=durability, deadline=deadline, workers=workers, needs=needs,
        password=bool(address.options.get("password")), encrypted=address.tls is not None,
        local=all(_local(server) for server in address.servers), user=str(address.options.get("username", "default")),
    )  # fmt: skip
    if address.shape != "single":
        where, watches, away = await members(address, _opened)
        facts = replace(facts, watches=watches, away=away)
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(member: Member) -> Server | StoreError:
        async with turns:
            try:
                return await _server(address, member.where, needs, thorough)
            except StoreError as fault:
                return fault

    found = await asyncio.gather(*[one(member) for member in where])
    servers = tuple(server for server in found if isinstance(server, Server))
    failed = [(m, fault) for m, fault in zip(where, found, strict=True) if isinstance(fault, StoreError)]
    if not servers:
        raise faults.again(failed[0][1])
    servers = tuple(sorted(servers, key=lambda server: (server.replica, server.address)))
    lost = tuple((named(m.where), m.role, _without(named(m.where), str(fault))) for m, fault in failed)
    return replace(facts, servers=servers, away=(*facts.away, *lost))


async def _opened(address: Address, where: Where, *, sentinel: bool = False) -> Line:
    line = Line(address.connection(where, sentinel=sentinel), named(where))
    await line.open()
    return line


async def _server(address: Address, where: Where, needs: tuple[Right, ...], thorough: bool) -> Server:
    line = await _opened(address, where)
    at = Look(line, Server(line.name))
    try:
        async with asyncio.timeout(WHOLE):
            await _info(at)
            for part in [_clock, _settings, _state, *([_trips, _slow, _sample] if thorough else [])]:
                if not at.server.number("loading"):
                    await part(at)
            if not at.server.number("loading"):
                await _rights(at, needs)
    except (StoreError, TimeoutError) as fault:
        # What was read until then is worth telling.
        if not at.server.info and not at.refused:
            raise faults.no_answer(line.name, WHOLE) if isinstance(fault, TimeoutError) else fault from None
        at.refused["anything more"] = _without(line.name, str(fault)) or f"no answer within {WHOLE:g} s"
    finally:
        line.close()
    return replace(at.server, refused=at.refused)


async def _info(at: Look) -> None:
    both, plain = await at.line.ask(("INFO", "default", "commandstats"), ("INFO",))
    said = plain if isinstance(both, ResponseError) else both  # before 7.0 one section alone can be asked for
    if isinstance(said, ResponseError):
        if _reason(said) != NOT_PERMITTED:
            raise faults.replied(at.line.name, faults.reply_of(said))
        at.refused["INFO"] = NOT_PERMITTED
        return
    at.server = replace(at.server, info=fields(_text(said)))


async def _clock(at: Look) -> None:
    before = time.time()
    said = await at.one("TIME")
    if said is None:
        return
    middle = (before + time.time()) / 2
    at.told = int(said[0]) + int(said[1]) / 1e6
    at.server = replace(at.server, ahead=at.told - middle)


async def _settings(at: Look) -> None:
    answers = await at.line.ask(*[("CONFIG", "GET", name) for name in ASKED])
    read: dict[str, str] = {}
    for answer in answers:
        if isinstance(answer, ResponseError):
            at.refused["CONFIG GET"] = _reason(answer)
        else:
            read.update(zip(map(_text, answer[::2]), map(_text, answer[1::2]), strict=True))
    at.server = replace(at.server, settings=read if read else None)


async def _state(at: Look) -> None:
    if at.server.mode == "cluster":
        said = await at.one("CLUSTER INFO")
        at.server = replace(at.server, cluster=None if said is None else fields(_text(said)))


async def _slow(at: Look) -> None:
    said = await at.one("SLOWLOG GET", SLOWEST)
    if said is not None:
        # Of a command its name alone: what it was asked with is nobody's business here.
        now = at.told or time.time()
        rows = [(_text(row[3][0]).upper()[:20], row[2] / 1e6, now - row[1]) for row in said if row[3]]
        at.server = replace(at.server, slow=tuple(rows))


async def _sample(at: Look) -> None:
    if at.server.replica:
        return
    keys: list[bytes] = []
    cursor: Any = 0
    for _ in range(PAGES):
        said = await at.one("SCAN", cursor, "COUNT", PAGE)
        if said is None:
            return
        cursor, page = int(said[0]), said[1]
        keys += page
        if not cursor:
            break
    ours = [key for key in keys if key.startswith(BEGINNINGS)]
    ending = [key for key in ours if not key.startswith(ENDLESS)]
    ends = await at.line.ask(*[("PTTL", key) for key in ending]) if ending else []
    if ends and isinstance(ends[0], ResponseError):
        at.refused["PTTL"] = _reason(ends[0])
    lasting = sum(end == -1 for end in ends)
    at.server = replace(at.server, sample=Sample(len(keys), len(keys) - len(ours), lasting))


async def _trips(at: Look) -> None:
    if await at.one("PING") is None:  # the first one is not measured: it may wait for what was asked before
        return
    trips: list[float] = []
    end = time.perf_counter() + MEASURED
    while len(trips) < TRIPS and (now := time.perf_counter()) < end:
        await at.line.ask(("PING",))
        trips.append(time.perf_counter() - now)
    at.server = replace(at.server, trips=tuple(trips))


async def _rights(at: Look, needs: tuple[Right, ...]) -> None:
    words = [right.words for right in needs]
    said = await at.one("EVAL", rights.ASK, 0, rights.ASKED_FOR, *words)
    if said is not None:
        at.server = replace(at.server, denied=tuple(map(_text, said)))
    elif at.refused["EVAL"] == NOT_PERMITTED:
        at.server = replace(at.server, denied=tuple(right.words for right in needs if right.name == "eval"))


NOT_PERMITTED = "not permitted"
"""The reason that an access list gives."""


def _reason(refusal: ResponseError) -> str:
    text = faults.reply_of(refusal)
    if text.startswith("NOPERM") or "no permissions" in text:
        return NOT_PERMITTED
    return "the server does not know it" if "unknown command" in text.lower() else text[:100]


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _without(name: str, text: str) -> str:
    return text.removeprefix(f"{name}: ")


def _local(where: Where) -> bool:
    host, port = where
    return not port or host in {"localhost", "::1"} or host.startswith("127.")
