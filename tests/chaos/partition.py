"""A cluster whose nodes can be cut off from each other, while clients reach all of them.

Law: each node's bus is reached through a forwarder, which reads in the first message who is speaking. A cut breaks
what crosses it, in both directions, and refuses it until it is healed; the rest passes unchanged. Replicas copy from
their primary past the bus, over its own port: that is cut there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

from headgate.testing.clusters import BUS, Cluster, identity
from headgate.testing.servers import LOOPBACK, Server
from headgate.testing.servers import _free_port as free_port

SENDER = slice(40, 80)
"""Where the id of who speaks stands in a message of the bus (`clusterMsg`)."""

TRIES = 5
"""How often other ports are taken where somebody has been faster."""

CHUNK = 65_536

Taker = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Buses:
    """The forwarders of a cluster's nodes, in a thread of their own."""

    def __init__(self, ways: dict[int, int]) -> None:
        self._ways = ways  # port of the forwarder -> port of the bus
        self._apart: frozenset[str] = frozenset()
        self._ids: dict[int, str] = {}
        self._links: set[tuple[str, int, asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="buses")

    def start(self) -> None:
        self._thread.start()
        self._loop = self._ready.result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def cut(self, apart: frozenset[str], ids: dict[int, str]) -> None:
        """From now on the nodes with these ids and the others do not hear of each other. `ids`: by their buses."""
        self._apart, self._ids = apart, ids
        self._loop.call_soon_threadsafe(self._break)

    def heal(self) -> None:
        self._apart = frozenset()

    def _crosses(self, sender: str, port: int) -> bool:
        return bool(self._apart) and (sender in self._apart) != (self._ids[port] in self._apart)

    def _break(self) -> None:
        for sender, port, *writers in list(self._links):
            if self._crosses(sender, port):
                for writer in writers:
                    writer.transport.abort()

    async def _run(self) -> None:
        self._over = asyncio.Event()
        servers = [
            await asyncio.start_server(self._taker(port, bus), LOOPBACK, port) for port, bus in self._ways.items()
        ]
        self._ready.set_result(asyncio.get_running_loop())
        await self._over.wait()
        for server in servers:
            server.close()
        for _, _, *writers in list(self._links):
            for writer in writers:
                writer.transport.abort()

    def _taker(self, port: int, bus: int) -> Taker:
        async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError):
                first = await reader.readexactly(SENDER.stop)
                sender = first[SENDER].decode()
                if not self._crosses(sender, port):
                    there = await asyncio.open_connection(LOOPBACK, bus)
                    await self._carried(sender, port, first, (reader, writer), there)
            writer.transport.abort()

        return taken

    async def _carried(
        self,
        sender: str,
        port: int,
        first: bytes,
        one: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        other: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        link = (sender, port, one[1], other[1])
        self._links.add(link)
        other[1].write(first)
        ways = [asyncio.create_task(_copied(one[0], other[1])), asyncio.create_task(_copied(other[0], one[1]))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            other[1].transport.abort()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


class Partible:
    """A cluster of three and three; used with `with`."""

    def __init__(self, node_timeout: int) -> None:
        self._node_timeout = node_timeout
        self._made()

    def _made(self) -> None:
        self.cluster = Cluster(node_timeout=self._node_timeout)
        ways: dict[int, int] = {}
        for node in self.cluster.nodes:
            # As far above as every bus: no other server is given a port there before this one starts.
            node.port, bus = free_port(), BUS + free_port()
            ways[node.port + BUS] = bus
            node.settings |= {"cluster-port": bus, "cluster-announce-bus-port": node.port + BUS}
        self._buses = Buses(ways)

    def __enter__(self) -> Partible:
        for left in reversed(range(TRIES)):
            self._buses.start()
            try:
                self.cluster.start()
            except BaseException as fault:
                self._buses.stop()
                if not left or "Address already in use" not in str(fault):
                    raise
                self._made()  # somebody has taken a port meanwhile
            else:
                break
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.stop()
        self._buses.stop()

    @contextmanager
    def apart(self, primary: Server) -> Iterator[None]:
        """Meanwhile a primary is alone, and the five others are without it."""
        ids = {node.port + BUS: identity(node) for node in self.cluster.nodes}
        primary.ask("ACL", "SETUSER", "default", "-psync", "-sync")
        primary.ask("CLIENT", "KILL", "TYPE", "replica")
        self._buses.cut(frozenset({identity(primary)}), ids)
        try:
            yield
        finally:
            self._buses.heal()
            primary.ask("ACL", "SETUSER", "default", "+@all")
