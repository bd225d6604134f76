"""From the calls of one event loop to the nodes of a Redis Cluster.

Law: each batch goes to the node that serves its slot, as far as is known, and follows where it is sent on: what MOVED
says holds at once, and the whole map is read again, at most once a second; ASK holds for the one batch. While a slot
is between two nodes, or nobody serves it, a batch is tried again until its time is over. Nothing is lost by that: a
batch that was sent on was not applied.
"""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any, Final

from headgate.errors import StoreError
from headgate.stores.redis import faults
from headgate.stores.redis.address import Where, named
from headgate.stores.redis.script.codec import tag_of
from headgate.stores.redis.wire.asking import Said, stopped
from headgate.stores.redis.wire.batch import Batch
from headgate.stores.redis.wire.connection import ErrorReply
from headgate.stores.redis.wire.line import Line
from headgate.stores.redis.wire.node import Node
from headgate.stores.redis.wire.opening import patience

SLOTS: Final = 16_384

PACE: Final = 1.0
"""Seconds from one reading of the map to the next at least."""

PAUSE: Final = 0.003
"""Seconds before a batch is tried again whose slot is between two nodes, or is served by none."""

ELSEWHERE: Final = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
"""What a node answers that does not serve the slot, or not yet, or not any more."""

ASKED: Final = 3
"""Nodes that are asked for the map at once, of those that are connected."""

HOPS: Final = 16
"""How often a batch is sent on without a pause: more means that two nodes send it to each other for a while."""


class ClusterLine(Line):
    """One event loop's calls to a cluster. Every command given to `ask` has all its places under one tag."""

    def _prepare(self) -> None:
        self._slots: list[Node | None] = [None] * SLOTS
        self._known: dict[Where, Node] = {}
        self._former: list[Node] = []
        self._homeless: list[Batch] = []
        self._fault: StoreError | None = None
        self._reading: asyncio.Task[None] | None = None
        self._read_at = float("-inf")
        self._again: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """The servers of the URI."""
        return f"the cluster of {named(self.address.servers[0])}"

    @property
    def nodes(self) -> list[Node]:
        """All nodes that were ever talked to and are still of the cluster."""
        return list(self._known.values())

    @property
    def ending(self) -> list[Node]:
        """Those, and the former ones of which something is left."""
        return [*self._known.values(), *self._former]

    def tag_of(self, commands: Sequence[Said]) -> bytes | None:
        """That of the first place, which all share; without any place, that under which the receipt lies."""
        demands = commands[0].demands
        return tag_of(demands[0][0][0] if demands else b"")

    def route(self, batches: Sequence[Batch]) -> None:
        """Each batch to the node that serves its slot; without a map, to nobody yet."""
        shares: dict[Node, list[Batch]] = {}
        for batch in batches:
            assert batch.tag is not None, "in a cluster every batch has a tag"
            node = self._slots[crc_hqx(batch.tag, 0) % SLOTS]
            if node is None:
                self._homeless.append(batch)
            else:
                shares.setdefault(node, []).append(batch)
        for node, share in shares.items():
            node.send(share)
        if self._homeless:
            self._read_soon()
            if self._reading is None and self._fault is not None:
                # Nobody told the map a moment ago, and nobody is asked again yet: to wait would lead nowhere.
                self._housed(faults.left_alone(self._fault))

    def refused(self, batch: Batch, node: Node, error: ErrorReply) -> None:
        """What a cluster answers besides what every server does."""
        code = error.code
        batch.asking = False
        if code not in ELSEWHERE:
            super().refused(batch, node, error)
            if code == "READONLY":
                self._read_soon()
            return
        batch.tries -= 1
        batch.hops += 1
        if code in ("MOVED", "ASK") and batch.hops % HOPS:
            self._sent_on(batch, node, error)
            return
        # A slot under way sends on and puts off in turn, until all its keys are there.
        if code != "TRYAGAIN":
            self._read_soon()
        self.loop.call_later(PAUSE, self._tried_again, batch)

    def _sent_on(self, batch: Batch, node: Node, error: ErrorReply) -> None:
        """`MOVED 3999 10.0.0.7:6381`: from now on there. `ASK` says the same for this once."""
        try:
            code, slot, place = error.text.split(" ")[:3]
            host, _, port = place.rpartition(":")
            # No host: the one that said it does not know under which name it is reached, and means its own.
            there = self._node((host.strip("[]") or self._host_of(node), int(port)))
            at = int(slot) % SLOTS
        except ValueError:
            batch.fail(faults.unreadable(node.name, error.text[:80]))
            return
        if code == "MOVED":
            self._slots[at] = there
            self._read_soon()
        else:
            batch.asking = True
        there.send((batch,))

    def _tried_again(self, batch: Batch) -> None:
        if batch.asks:
            self.route((batch,))

    def _node(self, where: Where) -> Node:
        node = self._known.get(where)
        if node is None:

            async def find() -> Where:
                return where

            node = self._known[where] = Node(
                self.address, find, named(where),
                deadline=self.deadline, replicated=self.replicated, troubled=self._read_soon,
            )  # fmt: skip
        return node

    def _host_of(self, node: Node) -> str:
        return next((where[0] for where, known in self._known.items() if known is node), "")

    # The map.

    def _read_soon(self) -> None:
        """See to it that the map is read: at once, or when a second has passed since it was last."""
        if self._reading is not None or self._again is not None:
            return
        left = self._read_at + PACE - self.loop.time()
        if left > 0:
            self._again = self.loop.call_later(left, self._read_now)
        else:
            self._read_now()

    def _read_now(self) -> None:
        self._again = None
        self._read_at = self.loop.time()
        self._reading = self.loop.create_task(self._map_read())

    async def _map_read(self) -> None:
        """Ask who is connected, or else whom the URI names; the first to answer is believed."""
        fault: StoreError | None = None
        asked = [node for node in self.nodes if node.connection is not None and not node.breaker.failures][:ASKED]
        places = self.address.servers
        asking = [asyncio.ensure_future(self._told_by(node)) for node in asked or [self._node(w) for w in places]]
        try:
            for one in asyncio.as_completed(asking, timeout=patience(self.deadline)):
                try:
                    self._taken(await one)
                    fault = None
                    break
                except (StoreError, TimeoutError) as error:
                    fault = error if isinstance(error, StoreError) else fault
            else:
                fault = fault or faults.never_asked(self.name, self.deadline)
        finally:
            await stopped(asking)
            self._reading, self._fault = None, fault
        self._housed(fault)

    async def _told_by(self, node: Node) -> tuple[Node, list[Any]]:
        """What one node answers to CLUSTER SLOTS."""
        if node.connection is None:
            node.connect()
            await node.connected()
        told = await node.asked("CLUSTER", "SLOTS")
        if told is None:
            raise faults.lost(node.name)
        if isinstance(told, ErrorReply):
            raise faults.replied(node.name, told.text)
        if not isinstance(told, list) or not told:
            raise StoreError(f"{node.name}: it knows no slots; has the cluster been created?", transient=True)
        return node, told

    def _taken(self, told: tuple[Node, list[Any]]) -> None:
        """The map is taken over as a whole: slots that it does not name are nobody's."""
        by, ranges = told
        slots: list[Node | None] = [None] * SLOTS
        serving: set[Node] = {by}
        try:
            for first, last, master, *_ in ranges:
                host = master[0].decode() if master[0] else ""
                node = self._node((host if host not in ("", "?") else self._host_of(by), int(master[1])))
                slots[first : last + 1] = [node] * (last + 1 - first)
                serving.add(node)
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise faults.unreadable(by.name, type(error).__name__) from None
        self._slots = slots
        for where, node in list(self._known.items()):
            if node not in serving and not node.busy:
                del self._known[where]
                node.drop()
                self._former = [former for former in (*self._former, node) if not former.gone]

    def _housed(self, fault: StoreError | None) -> None:
        """Who waited for the map goes on, or hears that there is none."""
        waiting, self._homeless = [batch for batch in self._homeless if batch.asks], []
        if fault is None:
            if waiting:
                self.route(waiting)
            return
        for batch in waiting:
            batch.fail(fault)

    # The end.

    async def close(self) -> None:
        """As for one server; and the map is not read any more."""
        await self._answered()
        reading = self._reading
        self._no_more_reading()
        if reading is not None:
            await stopped([reading])
        await super().close()

    def drop(self) -> None:
        """As for one server; and the map is not read any more."""
        self._no_more_reading()
        super().drop()

    def _no_more_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._again is not None:
            self._again.cancel()
            self._again = None
