"""From the calls of one event loop to the servers and back.

Law: a call costs one future and no task. What is called for within one tick travels in one write to each server, and
many commands in one script call. One timer watches over all that is under way: it stands at the oldest batch, for all
of them wait equally long. What a server answers instead of outcomes is decided here, and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from headgate.quota.command import Outcome
from headgate.stores.redis import faults
from headgate.stores.redis.address import Address, Where, named
from headgate.stores.redis.script.codec import packed
from headgate.stores.redis.wire.asking import Said
from headgate.stores.redis.wire.batch import TOGETHER, Ask, Batch
from headgate.stores.redis.wire.connection import ErrorReply
from headgate.stores.redis.wire.node import TRIES, Node
from headgate.stores.redis.wire.sentinel import Sentinels

MOST: Final = 8_192
"""Calls under way at most: at 50,000 a second six times what a deadline of 25 ms lets wait. About 1 kB each."""

LATE: Final = 0.005
"""If the loop itself is so much (seconds) behind, answers may lie in the socket that it has not come to read."""


class Line:
    """One event loop's calls to one server, or to the master that sentinels tell.

    `deadline` (seconds): every call is answered or failed by then. `replicated`: an answer counts when a replica has
    it, too.
    """

    def __init__(self, address: Address, *, deadline: float, replicated: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.address = address
        self.deadline = deadline
        self.replicated = replicated
        self.under_way = 0
        self._asked: list[Ask] = []
        self._began = 0.0
        self._open: dict[Batch, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._patient = False
        self._prepare()

    def _prepare(self) -> None:
        """What differs where there are several servers."""
        where = self.address.servers[0]
        if self.address.shape == "sentinel":
            find, name = Sentinels(self.address, self.deadline).master, f"master {self.address.service}"
        else:

            async def find() -> Where:
                return where

            name = named(where)
        self._only = Node(self.address, find, name, deadline=self.deadline, replicated=self.replicated)

    # From the callers.

    def ask(self, commands: Sequence[Said], now: int | None) -> asyncio.Future[list[Outcome]]:
        """The outcomes of at most `TOGETHER` commands. Raises StoreError if too much is under way."""
        if self.under_way >= MOST:
            raise faults.crowded(MOST)
        if not self._asked:
            self._began = self.loop.time()
            self.loop.call_soon(self._flush)
        future: asyncio.Future[list[Outcome]] = self.loop.create_future()
        self._asked.append((future, commands, now))
        self.under_way += 1
        return future

    async def transact(self, commands: Sequence[Said], now: int | None) -> list[Outcome]:
        """The outcomes of any number of commands, in their order."""
        outcomes: list[Outcome] = []
        for at in range(0, len(commands), TOGETHER):
            # One after the other: commands of one call are applied in their order, and a script call may be repeated.
            outcomes += await self.ask(commands[at : at + TOGETHER], now)
        return outcomes

    def _flush(self) -> None:
        """The tick is over: what was asked in it goes out."""
        asked, self._asked = self._asked, []
        begun: dict[bytes | None, Batch] = {}
        batches: list[Batch] = []
        for ask in asked:
            future, commands, now = ask
            if future.done():
                self.under_way -= 1  # cancelled before anything was sent
                continue
            try:
                if len(commands) == 1:  # nearly always; on Python 3.11 a comprehension is a call of its own
                    packs = [packed(commands[0], now)]
                else:
                    packs = [packed(command, now) for command in commands]
                tag = self.tag_of(commands)
            except Exception as error:  # whatever is wrong with these commands, it is their caller's
                self.under_way -= 1
                future.set_exception(error)
                continue
            batch = begun.get(tag)
            if batch is None or len(batch.packs) + len(packs) > TOGETHER:
                batch = begun[tag] = self._batch(tag)
                batches.append(batch)
            batch.add(ask, packs)
        if batches:
            self._watched()
            self.route(batches)

    def tag_of(self, commands: Sequence[Said]) -> bytes | None:
        """What the keys of commands that travel together must share; None where anything goes."""
        return None

    def route(self, batches: Sequence[Batch]) -> None:
        """Put batches on their way to whom they belong."""
        self._only.send(batches)

    def _batch(self, tag: bytes | None) -> Batch:
        batch = Batch(self, tag, self._began + self.deadline)
        self._open[batch] = None
        return batch

    # From the servers.

    def over(self, batch: Batch) -> list[Ask]:
        """A batch has come to its end: who is to be told."""
        self._open.pop(batch, None)
        asks, batch.asks = batch.asks, []
        self.under_way -= len(asks)
        return asks

    def refused(self, batch: Batch, node: Node, error: ErrorReply) -> None:
        """A server answered an error: say it otherwise, say it elsewhere, or fail."""
        code = error.code
        if batch.tries < TRIES and code == "NOSCRIPT":
            node.send_whole(batch)
        elif code == "OOM" and not batch.full:
            batch.whole = False
            node.is_full()
            node.send((batch,))
        elif code == "READONLY":
            batch.fail(faults.replied(node.name, error.text))
            node.leave()
        else:
            fault = faults.replied(node.name, error.text)
            if len(batch.asks) > 1 and batch.tries < TRIES and (fault.unknown or code == "WRONGTYPE"):
                self._parted(batch, node)
            else:
                batch.fail(fault)

    def _parted(self, batch: Batch, node: Node) -> None:
        """What the script stumbled over may be one caller's: each is sent once more by itself, and harms no other."""
        for ask in self.over(batch):
            self.under_way += 1
            alone = self._batch(batch.tag)
            alone.due, alone.tries, alone.doubtful = batch.due, TRIES - 1, True
            alone.add(ask, [packed(command, ask[2]) for command in ask[1]])
            node.send((alone,))
        self._open = dict(sorted(self._open.items(), key=lambda item: item[0].due))

    # Time.

    def _watched(self) -> None:
        if self._timer is None and self._open:
            self._timer = self.loop.call_at(next(iter(self._open)).due, self._expired)

    def _expired(self) -> None:
        """The oldest batch's time is over."""
        self._timer = None
        now = self.loop.time()
        overdue: list[Batch] = []
        for batch in self._open:
            if batch.due > now:
                break
            overdue.append(batch)
        if overdue and now - overdue[0].due > LATE and not self._patient:
            self._patient = True
            self._timer = self.loop.call_later(0.001, self._expired)
            return
        self._patient = False
        silent: dict[Node, None] = {}
        for batch in overdue:
            if batch.node is not None:
                silent[batch.node] = None
            name = batch.node.name if batch.node is not None else self.name
            if batch.node is not None and batch.node.unconfirmed:
                told = faults.not_replicated
            else:
                told = faults.no_answer if batch.flying else faults.never_asked
            batch.fail(told(name, self.deadline))
        for node in silent:
            node.silent()
        self._watched()

    @property
    def name(self) -> str:
        """What is asked, where no one server is known."""
        return self._only.name

    # The end.

    @property
    def nodes(self) -> list[Node]:
        """All servers that are known."""
        return [self._only]

    @property
    def ending(self) -> list[Node]:
        """All servers of which something may be left."""
        return self.nodes

    async def _answered(self) -> None:
        """Let what is under way be answered, or its time be over."""
        waiting = [ask[0] for ask in (*self._asked, *(ask for batch in self._open for ask in batch.asks))]
        if waiting:
            await asyncio.wait(waiting)

    async def close(self) -> None:
        """Let what is under way be answered, or its time be over; then let go of the connections. When it comes back
        nothing is left of them: the loop may end at once."""
        await self._answered()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for node in self.ending:
            await node.close()

    def drop(self) -> None:
        """Let go of everything at once: the loop ends, or the store was closed from another."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        asked, self._asked = self._asked, []
        for future, _, _ in asked:
            if not future.done():
                future.set_exception(faults.closed())
        for batch in list(self._open):
            batch.fail(faults.closed())
        for node in self.nodes:
            node.drop()
