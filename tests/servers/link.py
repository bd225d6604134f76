"""One connection through the proxy: a client's, and its counterpart at the server.

Law: each direction keeps its order, whatever is held back. A request's fate is decided when it arrives and comes true
when its reply does. What a client sent before it went still reaches the server: a network does not know that it went.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from servers.resp import Messages, NotResp, command_name
from servers.spoiling import Fate

if TYPE_CHECKING:
    from servers.proxy import Proxy

CHUNK = 65_536
"""Bytes read at once."""

MOST_HELD = 4_096
"""Messages held in one direction; then no more are read, as where a network is full."""

FLUSHING = 1.0
"""Seconds within which what was written before a break must have left."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER, on, 0 s: closing then sends RST instead of FIN."""

Held = asyncio.Queue[tuple[float, bytes, Fate] | None]


class Link:
    """Made when a client connects; `run` ends when both sides are closed."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        self._proxy = proxy
        self._client = reader, writer
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._fates: deque[Fate] = deque()  # of what was sent on, in the order in which replies come
        self._asked, self._answered = Held(MOST_HELD), Held(MOST_HELD)
        self._end: asyncio.Future[bool] = loop.create_future()
        self._tasks = [loop.create_task(self._step(self._connect()))]

    async def run(self) -> None:
        """Carry on until it ends or is ended."""
        reset = True
        try:
            reset = await self._end
        finally:
            self._stop()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for _, writer in filter(None, (self._client, self._server)):
                await _closed(writer, reset)

    def end(self, *, reset: bool) -> None:
        """Close both sides, with RST or FIN."""
        if not self._end.done():
            self._end.set_result(reset)

    def freeze(self) -> None:
        """From now on nothing passes, and the client is not told; the server sees it go."""
        self._stop()
        if self._server is not None:
            self._server[1].close()

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _step(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except OSError:  # the server is not there, or has gone
            self.end(reset=True)

    async def _connect(self) -> None:
        await self._proxy.passable(lambda faults: faults.hole)
        target = self._proxy.target
        if isinstance(target, str):
            self._server = await asyncio.open_unix_connection(target)
        else:
            self._server = await asyncio.open_connection(*target)
        loop = asyncio.get_running_loop()
        work = (self._take_requests(), self._send_requests(), self._take_replies(), self._send_replies())
        self._tasks += [loop.create_task(self._step(one)) for one in work]

    async def _take_requests(self) -> None:
        proxy, loop = self._proxy, asyncio.get_running_loop()
        async for message in _messages(self._client[0]):
            name = command_name(message)
            proxy.requests[name] += 1
            await self._asked.put((loop.time() + proxy.faults.lag, message, proxy.fate(name)))
        await self._asked.put(None)

    async def _send_requests(self) -> None:
        assert self._server is not None
        _, writer = self._server
        while (held := await self._asked.get()) is not None:
            due, message, fate = held
            await _until(due)
            await self._proxy.passable(lambda faults: faults.hole)
            if fate is Fate.UNSENT:
                await _flushed(writer)
                return self.end(reset=True)
            self._fates.append(fate)
            writer.write(message)
            await writer.drain()
        return self.end(reset=False)

    async def _take_replies(self) -> None:
        assert self._server is not None
        proxy, due, loop = self._proxy, 0.0, asyncio.get_running_loop()
        async for message in _messages(self._server[0]):
            told_unasked = message.startswith(b">")
            fate = self._fates.popleft() if self._fates and not told_unasked else Fate.PASS
            proxy.replies += not told_unasked
            faults = proxy.faults
            wait = faults.latency + (proxy.random.uniform(0, faults.jitter) if faults.jitter else 0)
            due = max(due, loop.time() + wait)
            await self._answered.put((due, message, fate))
        await self._answered.put(None)

    async def _send_replies(self) -> None:
        _, writer = self._client
        with suppress(ConnectionError):  # the client has gone; what it asked is still carried out
            while (held := await self._answered.get()) is not None:
                due, message, fate = held
                await _until(due)
                await self._proxy.passable(lambda faults: faults.hole or faults.mute)
                if fate is Fate.TEAR:
                    message = message[: len(message) // 2]
                if fate in (Fate.PASS, Fate.TEAR):
                    await self._deliver(writer, message)
                if fate not in (Fate.PASS, Fate.SWALLOW):
                    await _flushed(writer)
                    return self.end(reset=fate is not Fate.CLOSE)
            self.end(reset=False)
        return None

    async def _deliver(self, writer: asyncio.StreamWriter, message: bytes) -> None:
        faults, chance = self._proxy.faults, self._proxy.random
        most = faults.slice or len(message)
        while message:
            size = chance.randint(1, most) if faults.slice else most
            writer.write(message[:size])
            await writer.drain()
            message = message[size:]
            if faults.slice:
                await asyncio.sleep(0)  # what is read in between is read apart
            if faults.bandwidth:
                await asyncio.sleep(size / faults.bandwidth)


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """What arrives, message by message until it ends; as it comes, once it is something else than RESP."""
    cut: Messages | None = Messages()
    with suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            if cut is None:
                yield data
                continue
            try:
                whole = cut.feed(data)
            except NotResp:
                whole, cut = [cut.rest], None
            for message in whole:
                yield message


async def _until(due: float) -> None:
    if (wait := due - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(wait)


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """What was written has left: a reset would take it back."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FLUSHING):
            while writer.transport.get_write_buffer_size() and not writer.is_closing():
                await asyncio.sleep(0.001)


async def _closed(writer: asyncio.StreamWriter, reset: bool) -> None:
    if reset:
        break_off(writer)
    else:
        writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(FLUSHING):
            await writer.wait_closed()
    writer.transport.abort()


def break_off(writer: asyncio.StreamWriter) -> None:
    """Close it with RST."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
