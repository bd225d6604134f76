"""A proxy between a client and a server that spoils what goes through it, on demand or at random from a seed.

Law: what it is not asked to spoil passes unchanged and in order. It knows whole messages, so that exactly one reply
of a pipeline can be lost, and it counts what it sees. What is no RESP (TLS, replication) is passed on as it comes. It
listens on this machine alone; connections, and what is held for each, are bounded.

    async with Proxy(valkey.address) as proxy:
        store = open_store(proxy.url)
        proxy.faults = Faults(latency=0.2)
        proxy.spoil(Fate.LOSE, b"EVALSHA", skip=1)

`ProxyThread` is the same for tests whose client is another process.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from servers.link import CHUNK, Link, break_off
from servers.spoiling import Fate, Faults, Spoil

__all__ = ["Fate", "Faults", "Proxy", "ProxyThread", "Spoil"]

LOOPBACK = "127.0.0.1"

MOST_CONNECTIONS = 512
"""Connections at once; one more is reset."""

ENDING = 5.0
"""Seconds that connections may take to end, once they are cut; they take none."""

Answer = TypeVar("Answer")


class Proxy:
    """Forwards a port of 127.0.0.1 to `target` (host and port, or the path of a Unix socket) within `async with`.

    `port`: where; free unless it is given. All of it belongs to one event loop.
    """

    def __init__(
        self, target: tuple[str, int] | str, *, faults: Faults | None = None, seed: int = 0, port: int = 0
    ) -> None:
        self.target = target
        self.random = random.Random(seed)
        self.requests: Counter[bytes] = Counter()
        """Commands that came, by name in capitals."""
        self.replies = 0
        """Replies that came from the server."""
        self.accepted = 0
        """Connections so far."""
        self.port = port
        self._faults = faults or Faults()
        self._spoils: list[Spoil] = []
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._kept: socket.socket | None = None
        self._changed = asyncio.Event()
        self._over = False

    async def __aenter__(self) -> Proxy:
        self._kept = self._bound()
        if not self._faults.refuse:
            self._kept.listen()
            await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        self._faults = Faults(refuse=True)
        self._refuse()
        while self._tasks:
            self.cut()
            await asyncio.wait(self._tasks, timeout=ENDING)
        if self._kept is not None:
            self._kept.close()

    @property
    def address(self) -> tuple[str, int]:
        return LOOPBACK, self.port

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def open(self) -> int:
        """Connections now, those included whose client has gone while what it sent is held."""
        return len(self._links)

    @property
    def faults(self) -> Faults:
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        before, self._faults = self._faults, faults
        if faults.refuse and not before.refuse:
            self._refuse()
        elif before.refuse and not faults.refuse and self._kept is not None:
            self._kept.listen()  # from here on clients wait rather than being refused
            self._keep(self._listen())
        self._changed.set()
        self._changed = asyncio.Event()

    def heal(self) -> None:
        """No more faults; what was held back passes."""
        self._spoils.clear()
        self.faults = Faults()

    def spoil(self, fate: Fate, command: bytes = b"", *, skip: int = 0, times: int = 1) -> Spoil:
        """Single commands have this fate: the next that arrive, on whichever connection."""
        spoil = Spoil(fate, command, skip, times)
        self._spoils.append(spoil)
        return spoil

    def cut(self, *, reset: bool = True) -> int:
        """Break all connections now, with RST or FIN; how many there were."""
        for link in self._links:
            link.end(reset=reset)
        return len(self._links)

    def half_open(self) -> int:
        """From now on nobody is at the other end of the connections that there are, and no client is told."""
        for link in self._links:
            link.freeze()
        return len(self._links)

    def fate(self, command: bytes) -> Fate:
        """What becomes of a command that arrives now."""
        asked = next((spoil.fate for spoil in self._spoils if spoil.takes(command)), None)
        return asked or self._faults.drawn(command, self.random)

    async def passable(self, held: Callable[[Faults], bool]) -> None:
        """Wait for as long as this holds back."""
        while held(self._faults):
            await self._changed.wait()

    def _bound(self) -> socket.socket:
        """A socket that has the port and refuses: it is bound, and does not listen."""
        # With its protocol said, for asyncio turns Nagle's delay off only where it sees TCP.
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((LOOPBACK, self.port))
        bound.setblocking(False)
        self.port = bound.getsockname()[1]
        return bound

    async def _listen(self) -> None:
        if self._kept is None or self._faults.refuse:  # it was changed again meanwhile
            return
        sock, self._kept = self._kept, None
        self._listener = await asyncio.start_server(self._accepted, sock=sock, limit=CHUNK)
        if self._faults.refuse:
            self._refuse()

    def _refuse(self) -> None:
        for listening in (self._listener, self._kept):
            if listening is not None:
                listening.close()
        self._listener, self._kept = None, self._bound()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._over or len(self._links) >= MOST_CONNECTIONS:
            return break_off(writer)
        link = Link(self, reader, writer)
        self._links.add(link)
        return self._keep(link.run()).add_done_callback(lambda _: self._links.discard(link))

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class ProxyThread:
    """A proxy with a thread and an event loop of its own, within `with`.

    `do(change)` calls `change(proxy)` there and answers what it answers: `thread.do(lambda proxy: proxy.cut())`.
    """

    def __init__(self, target: tuple[str, int] | str, *, faults: Faults | None = None, seed: int = 0) -> None:
        self.proxy = Proxy(target, faults=faults, seed=seed)
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="proxy")

    @property
    def url(self) -> str:
        return self.proxy.url

    @property
    def port(self) -> int:
        return self.proxy.port

    def __enter__(self) -> ProxyThread:
        self._thread.start()
        self._loop = self._ready.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def do(self, change: Callable[[Proxy], Answer]) -> Answer:
        async def done() -> Answer:
            return change(self.proxy)

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result()

    def set(self, **faults: Any) -> None:
        """`proxy.faults = Faults(…)`."""
        self.do(lambda proxy: setattr(proxy, "faults", Faults(**faults)))

    async def _run(self) -> None:
        self._over = asyncio.Event()
        try:
            async with self.proxy:
                self._ready.set_result(asyncio.get_running_loop())
                await self._over.wait()
        except BaseException as fault:
            if not self._ready.done():
                self._ready.set_exception(fault)
            raise
