"""Documents in Redis or Valkey: one hash each, `hn{name}`, changed by a script of its own.

Law: a swap is one script call, so that it is whole or not at all; the key has no end of its own, and may be written
also when the server is full. What a replica can have, it has before a swap is acknowledged: with `replicated` that
is a must, with `fast` it is waited for where a replica is connected. The connection is one of its own, so that a
document of megabytes delays no decision.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, Final, Literal

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from headgate.errors import StoreError
from headgate.stores.documents import REMEMBERED, Document, checked, next_version
from headgate.stores.redis import address, faults
from headgate.stores.redis.address import Where, named
from headgate.stores.redis.doctor.facts import fields
from headgate.stores.redis.script.keys import document_key, slot_of
from headgate.stores.redis.wire import opening
from headgate.stores.redis.wire.sentinel import Sentinels

WAIT: Final = 5.0
"""How long (seconds) a call waits at most: nobody's request does."""

PAUSE: Final = 0.05
"""Seconds before a server is asked again that cannot tell just now: a slot that moves, a master that is elected."""

HOPS: Final = 8
"""How often a question is sent on within one call."""

SETTLING: Final = ("TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "LOADING", "READONLY")
"""What a server answers that is about to be replaced, or about to be ready. Nothing was done."""

WIDTH: Final = 19
"""Digits of a version, which the script takes for text: a number of Lua's holds 16."""

SCRIPT: Final = f"""#!lua flags=allow-oom
local now = redis.call('HGET', KEYS[1], 'v') or '0'
local before = redis.call('HGET', KEYS[1], 's') or ''
local made = string.rep('0', {WIDTH} - #ARGV[2]) .. ARGV[2]
if now == ARGV[1] then
  redis.call('HSET', KEYS[1], 'v', ARGV[2], 'b', ARGV[3], 's', string.sub(made .. before, 1, {WIDTH * REMEMBERED}))
  return 1
end
for at = 1, #before, {WIDTH} do
  if string.sub(before, at, at + {WIDTH - 1}) == made then return 1 end
end
return 0
"""
"""Compares and sets. `s`: the versions that the last swaps made, the newest first, each as wide as the others."""

READ: Final = """#!lua flags=no-writes
return {redis.call('HGET', KEYS[1], 'v'), redis.call('HGET', KEYS[1], 'b')}
"""
"""Version and body of one moment."""


class RedisDocuments:
    """Documents of a fleet. `uri` and `durability` as of `RedisStore`; `wait` (seconds) bounds a call.

    Raises StoreError for a URI that names no server. Nothing is connected to before the first call.
    """

    def __init__(self, uri: str, *, durability: Literal["fast", "replicated"] = "fast", wait: float = WAIT) -> None:
        self._address = address.read(uri)
        self._replicated = durability == "replicated"
        self._wait = wait
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}
        self._pid = os.getpid()

    async def version(self, name: str) -> int:
        """The version that stands now."""
        checked(name)
        answer = await self._line().asked(name, ("HGET", document_key(name), "v"))
        return int(answer or 0)

    async def read(self, name: str) -> Document:
        """The document as it stands now."""
        checked(name)
        version, body = await self._line().asked(name, ("EVAL", READ, "1", document_key(name)))
        return Document() if version is None else Document(int(version), (body or b"").decode())

    async def swap(self, name: str, body: str, expected: int, rid: bytes) -> bool:
        """Replace the version `expected`."""
        checked(name, body)
        made = next_version(expected, rid)
        question = ("EVAL", SCRIPT, "1", document_key(name), str(expected), str(made), body)
        answer = await self._line().asked(name, question, writes=self._replicated)
        return bool(answer == 1)

    async def close(self) -> None:
        """Let go of the connection."""
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.close()

    def _line(self) -> _Line:
        if os.getpid() != self._pid:  # a forked child: what is its parent's is neither used nor closed
            _PARENTS.append(self._lines)
            self._lines, self._pid = {}, os.getpid()
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            self._lines = {other: kept for other, kept in self._lines.items() if not other.is_closed()}
            line = self._lines[loop] = _Line(self._address, self._wait)
        return line


_PARENTS: list[Any] = []


def _step(once: Any) -> None:
    """Runs what never waits."""
    try:
        once.send(None)
    except StopIteration:
        return


class _Line:
    """One event loop's connection: one question at a time, to the server that has the document."""

    def __init__(self, address: address.Address, wait: float) -> None:
        self._address = address
        self._wait = wait
        self._turn = asyncio.Lock()
        self._link: AbstractConnection | None = None
        self._where: Where | None = None
        self._replicas = 0
        self._until_it_ends = self._ending()
        _step(self._until_it_ends.__anext__())

    async def _ending(self) -> AsyncGenerator[None, None]:
        """A loop that ends closes the generators that were begun in it: so this one learns of it."""
        try:
            yield
        finally:
            if self._link is not None:
                opening.dropped(self._link)

    async def asked(self, name: str, question: tuple[str, ...], *, writes: bool | None = None) -> Any:
        """The answer to one command. `writes`: whether a replica must have it, too; None: nothing is written.

        Raises StoreError; `unknown` if a command that writes may have been run.
        """
        said, server = False, named(self._address.servers[0])
        try:
            async with asyncio.timeout(self._wait), self._turn:
                asking = False
                answer: Any = None
                try:
                    for _ in range(HOPS):
                        link = await self._linked(name)
                        server, said = named(self._where or self._address.servers[0]), writes is not None
                        before = (("ASKING",),) if asking else ()
                        *_, answer = await opening.said(link, server, self._wait, *before, question)
                        if not isinstance(answer, ResponseError):
                            if writes is not None:
                                await self._confirmed(link, server, must=writes)
                            return answer
                        said = False  # whatever it answered, it did not do it
                        asking = await self._sent_on(server, answer)
                    raise faults.replied(server, faults.reply_of(answer))
                except BaseException:
                    # Only by whose turn it is; an answer that comes late would be taken for the next one's.
                    await self._dropped()
                    raise
        except TimeoutError:
            raise StoreError(f"{server}: no answer within {self._wait:g} s", transient=True, unknown=said) from None
        except StoreError as fault:
            raise faults.again(fault, unknown=said) from None

    async def close(self) -> None:
        async with self._turn:
            await self._dropped()
        await self._until_it_ends.aclose()

    async def _linked(self, name: str) -> AbstractConnection:
        if self._link is None:
            where = self._where or await self._found(name)
            self._where, server = where, named(where)
            link = self._address.connection(where)
            try:
                await opening.made(link, server, self._wait)
                [told] = await opening.said(link, server, self._wait, ("INFO",))
                said = fields(told.decode(errors="replace")) if isinstance(told, bytes) else {}
                wrong = opening.unfit(said, self._address.shape)
                if wrong:
                    raise StoreError(f"{server}: {wrong[0]}", transient=wrong[1])
            except BaseException:
                await opening.gone(link)
                self._where = None
                raise
            self._link, self._replicas = link, int(said.get("connected_slaves", "0") or 0)
        return self._link

    async def _found(self, name: str) -> Where:
        if self._address.shape == "sentinel":
            return await Sentinels(self._address, self._wait).master()
        if self._address.shape == "single":
            return self._address.servers[0]
        fault: StoreError | None = None
        for where in self._address.servers:
            try:
                return await self._serving(where, slot_of(name.encode()))
            except StoreError as error:
                fault = error
        raise fault or StoreError("no node of the cluster is named", transient=False)

    async def _serving(self, node: Where, slot: int) -> Where:
        """Where one node of a cluster says that a slot is served."""
        link, server = self._address.connection(node), named(node)
        try:
            await opening.made(link, server, self._wait)
            [told] = await opening.said(link, server, self._wait, ("CLUSTER", "SLOTS"))
        finally:
            await opening.gone(link)
        if isinstance(told, ResponseError):
            raise faults.replied(server, faults.reply_of(told))
        for first, last, master, *_ in told:
            if first <= slot <= last:
                return (master[0].decode() if master[0] not in (None, b"", b"?") else node[0], int(master[1]))
        raise StoreError(f"{server}: its cluster serves not all slots", transient=True)

    async def _sent_on(self, server: str, error: ResponseError) -> bool:
        """Whoever does not serve it says who does, or that it is to be asked later; whether to ask by ASKING."""
        words = f"{error.status_code or ''} {error}".split()
        code = words[0] if words else ""
        if code in ("MOVED", "ASK") and len(words) > 2:
            host, _, port = words[2].rpartition(":")
            here = self._where
            await self._dropped()
            self._where = (host.strip("[]") or (here or self._address.servers[0])[0], int(port))
            return code == "ASK"
        if code in SETTLING:
            await self._dropped()
            await asyncio.sleep(PAUSE)
            return False
        raise faults.replied(server, faults.reply_of(error))

    async def _confirmed(self, link: AbstractConnection, server: str, *, must: bool) -> None:
        """Wait until a replica has what was written. Raises StoreError where none is heard and one must be."""
        if not must and not self._replicas:
            return
        within = max(1, int(self._wait * 1_000) // (2 if must else 5))
        [got] = await opening.said(link, server, self._wait, ("WAIT", "1", str(within)))
        if must and (isinstance(got, ResponseError) or got < 1):
            raise faults.not_replicated(server, within / 1_000)

    async def _dropped(self) -> None:
        link, self._link, self._where = self._link, None, None
        if link is not None:
            with suppress(OSError):
                await opening.gone(link)
