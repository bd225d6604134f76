"""One server, as one event loop knows it: its connection, its breaker, and what waits for a connection.

Law: there is at most one connection, made when it is first needed and made again when it was lost; whoever waits for
it waits no longer than its own deadline. What was under way on a connection that broke is sent again over the next,
for it may be repeated. A server that fails a few times is left alone; then one batch a second goes along with a
probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import random
from typing import Any, Final

from headgate.errors import StoreError
from headgate.stores.redis import faults
from headgate.stores.redis.address import Address, Where, named
from headgate.stores.redis.doctor.facts import fields
from headgate.stores.redis.wire.batch import Batch
from headgate.stores.redis.wire.breaker import Breaker
from headgate.stores.redis.wire.connection import Connection, ErrorReply, Expecting, pack
from headgate.stores.redis.wire.opening import GONE, opened, unfit

TRIES: Final = 4
"""How often a batch is sent at most; each further time something must have gone wrong on the way."""

SILENCE: Final = 0.25
"""Seconds after which a connection over which an answer is owed, and nothing comes, is dropped: the peer may be gone
without a word. (A tenth of it would drop one for every pause of a server.)"""

FULL_FOR: Final = 1.0
"""Seconds for which a server that was full is taken to be full: then it is asked again."""

LOOKED_AT: Final = 60.0
"""Seconds between two looks whether the server has been told meanwhile to throw counts away when it is full."""

Find = Callable[[], Awaitable[Where]]
"""Where the server is now: always the same, or what the sentinels say."""


class Node:
    """A server. `find` tells where it is, each time that it is connected to. `troubled` is called when it has failed:
    another may have taken its place."""

    def __init__(
        self,
        address: Address,
        find: Find,
        name: str,
        *,
        deadline: float,
        replicated: bool,
        troubled: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.replicated = replicated
        self.breaker = Breaker()
        self.connection: Connection | None = None
        self.outbox: list[Batch] = []
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._find = find
        self._deadline = deadline
        self._troubled = troubled
        self._fault = StoreError(f"{name}: not asked yet", transient=True)
        self._connecting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._live: set[Connection] = set()
        self._over = False
        self._watch: asyncio.TimerHandle | None = None
        self._full_until = 0.0
        self._look_at = self._loop.time() + LOOKED_AT
        self._confirming: _Confirmation | None = None
        self._turn = 0
        self._taught = [0, 0]

    # Asking.

    def send(self, batches: Sequence[Batch]) -> None:
        """Put the batches on their way: in one write, or when there is a connection."""
        connection, now = self.connection, self._loop.time()
        full = self._full_until > now
        for batch in batches:
            batch.node, batch.full = self, full
        if connection is None:
            if self._over:
                for batch in batches:
                    batch.fail(faults.closed())
            elif self.breaker.admits(now, random()):
                self.outbox += batches
                self.connect()
            else:
                self._refuse(batches)
        elif self._confirming is not None:
            self.outbox += batches
        else:
            self._write(connection, batches)
            if now > self._look_at:
                self._look_at = now + LOOKED_AT
                connection.ask(pack(("INFO", "memory")), (_Look(self),))

    def is_full(self) -> None:
        """It has no room for new subjects; what is sent from now on says so."""
        self._full_until = self._loop.time() + FULL_FOR

    def send_whole(self, batch: Batch) -> None:
        """The server did not know the script. Who has been told so since the text was sent, sends it again."""
        batch.whole = batch.turn >= self._taught[batch.full]
        self.send((batch,))

    async def asked(self, *words: str) -> Any:
        """What the server answers to a command of another kind; None if there is no connection to ask over."""
        connection = self.connection
        if connection is None:
            return None
        answer = _Answer(self._loop.create_future())
        connection.ask(pack(words), (answer,))
        return await answer.future

    def _write(self, connection: Connection, batches: Sequence[Batch]) -> None:
        self._turn += 1
        for batch in batches:
            batch.turn = self._turn
            if batch.whole:
                self._taught[batch.full] = self._turn
        if len(batches) == 1 and not self.replicated and not batches[0].asking:
            connection.ask(batches[0].packed(), batches)
            return
        expecting: list[Expecting] = []
        for batch in batches:
            expecting += (_IGNORED, batch) if batch.asking else (batch,)
        questions = [batch.packed() for batch in batches]
        if self.replicated:
            # Nothing else is written until it is answered: the server reads nothing of this connection meanwhile.
            self._confirming = _Confirmation(self, batches)
            left = max(1, int((batches[0].due - self._loop.time()) * 1_000) - 2)
            questions.append(pack(("WAIT", 1, left)))
            expecting.append(self._confirming)
        connection.ask(b"".join(questions), expecting)

    def confirmed(self, batches: Sequence[Batch], reply: Any) -> None:
        """WAIT was answered: with how many replicas have it."""
        self._confirming = None
        for batch in batches:
            done, batch.reply = batch.reply, None
            if not batch.asks or done is None:
                continue  # it was told something else
            if isinstance(reply, int) and reply > 0:
                batch.finish(done)
            elif isinstance(reply, ErrorReply):
                batch.fail(faults.again(faults.replied(self.name, reply.text), unknown=True))
            else:
                batch.fail(faults.not_replicated(self.name, self._deadline))
        self._emptied()

    def _emptied(self) -> None:
        """What has waited is sent."""
        waiting, self.outbox = [batch for batch in self.outbox if batch.asks], []
        if waiting:
            self.send(waiting)

    # Connecting.

    def connect(self) -> None:
        """See to it that there is a connection, or will be. Who has been let go of connects no more."""
        if self._connecting is None and self.connection is None and not self._over:
            self._connecting = self._loop.create_task(self._connected())

    async def connected(self) -> None:
        """Wait until the connection that is being made is there. Raises StoreError if it is not."""
        if self._connecting is not None:
            await asyncio.wait({self._connecting})
        if self.connection is None:
            raise faults.again(self._fault)

    @property
    def unconfirmed(self) -> bool:
        """Whether the server has answered, and only its replicas have not."""
        return self._confirming is not None and any(batch.reply is not None for batch in self._confirming.batches)

    @property
    def busy(self) -> bool:
        """Whether anything waits for it."""
        return bool(self.outbox or (self.connection is not None and self.connection.expected))

    async def _connected(self) -> None:
        try:
            where = await self._find()
            self.name = named(where)
            connection = await opened(self._address, where, self._deadline, self)
        except StoreError as fault:
            self._connecting = None
            self._failed(fault, silent=False)
        except Exception as error:
            self._connecting = None
            self._failed(faults.not_connected(self.name, error, self._deadline), silent=False)
        else:
            self._connecting = None
            self._live.add(connection)
            self.connection = connection
            self._confirming = None
            self.breaker.succeeded()
            self._emptied()

    def leave(self) -> None:
        """Give up the connection: the server is no longer what it was. The next call looks for it anew."""
        if self.connection is not None:
            self.connection.end()
            self.connection = None

    @property
    def gone(self) -> bool:
        """Whether it was let go of, and nothing is left of it."""
        return self._over and not self._live and (self._stopping is None or self._stopping.done())

    async def close(self) -> None:
        """Let go of everything at once, and wait until nothing is left: neither of the connection nor of those that
        were given up before, nor of one that was being made."""
        self.drop()
        ends = {connection.ended for connection in self._live}
        if self._stopping is not None:
            ends.add(self._stopping)
        if ends:
            await asyncio.wait(ends, timeout=GONE)

    def drop(self) -> None:
        """The same, without waiting until it is done."""
        self._over = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting, self._stopping = None, self._connecting
        self.leave()

    # Failing.

    def silent(self) -> None:
        """A batch was not answered in time."""
        connection = self.connection
        if connection is None:
            self._failed(faults.never_asked(self.name, self._deadline), silent=True)
            return
        if not self.unconfirmed:
            self._failed(faults.no_answer(self.name, self._deadline), silent=True)
        if self._watch is None and not self.breaker.open:
            self._watch = self._loop.call_later(SILENCE, self._still_silent, connection, connection.heard)

    def _still_silent(self, connection: Connection, heard: int) -> None:
        self._watch = None
        if connection.expected and connection.heard == heard:
            connection.end()

    def lost(self, connection: Connection, garbled: bool) -> None:
        """A connection is gone. What was under way is sent again over another, but for what needs a confirmation: of
        a repetition, which writes nothing, a server says at once that all replicas have it."""
        self._live.discard(connection)
        if connection is self.connection:
            self.connection = None
            self._confirming = None
        batches: list[Batch] = []
        for expecting in connection.expected:
            if isinstance(expecting, Batch):
                batches.append(expecting)
            elif isinstance(expecting, _Confirmation):
                batches += [batch for batch in expecting.batches if batch.reply is not None]
            elif isinstance(expecting, _Answer) and not expecting.future.done():
                expecting.future.set_result(None)
        connection.expected.clear()
        for batch in batches[1:]:
            # Their turn had not come: it is the first one's answer that was lost.
            batch.tries -= 1
        under_way = [batch for batch in batches if batch.asks]
        for batch in under_way:
            batch.flying, batch.doubtful, batch.reply = False, True, None
        if under_way or garbled:
            fault = faults.no_redis(self.name) if garbled else faults.lost(self.name)
            self._lost_under_way(under_way, fault, again=not (garbled or self.replicated))

    def _lost_under_way(self, under_way: list[Batch], fault: StoreError, *, again: bool) -> None:
        for batch in under_way:
            if not again or batch.tries >= TRIES:
                batch.fail(fault)
        if not self.breaker.open:
            self._failed(fault, silent=False, waiting=False)
        left = [batch for batch in under_way if batch.asks]
        if left:
            self.outbox, later = [], self.outbox
            self.send([*left, *later])

    def _failed(self, fault: StoreError, *, silent: bool, waiting: bool = True) -> None:
        """It did not do what it was asked. Who waits for a connection hears of it, unless it may still come."""
        self._fault = fault
        self.breaker.failed(self._loop.time(), random(), silent=silent)
        outbox: list[Batch] = []
        if self.breaker.open or (waiting and not silent):
            outbox, self.outbox = self.outbox, []
        if self.breaker.open:
            self.leave()
        for batch in outbox:
            batch.fail(fault)
        if self._troubled is not None:
            self._troubled()

    def _refuse(self, batches: Sequence[Batch]) -> None:
        """While it is left alone, nobody waits."""
        fault = faults.left_alone(self._fault)
        for batch in batches:
            batch.fail(fault)


class _Answer:
    """Waits for the answer to a question of another kind."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future

    def answered(self, reply: Any) -> None:
        if not self.future.done():
            self.future.set_result(reply)


class _Confirmation:
    """Waits for the answer to WAIT."""

    __slots__ = ("batches", "node")

    def __init__(self, node: Node, batches: Sequence[Batch]) -> None:
        self.node = node
        self.batches = batches

    def answered(self, reply: Any) -> None:
        self.node.confirmed(self.batches, reply)


class _Look:
    """Waits for what the server says of itself. Of one that is fit no more the next connection says why."""

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        self.node = node

    def answered(self, reply: Any) -> None:
        if isinstance(reply, bytes) and unfit(fields(reply.decode(errors="replace")), "single") is not None:
            self.node.leave()


class _Ignored:
    """Waits for an answer that says nothing: ASKING's."""

    __slots__ = ()

    def answered(self, reply: Any) -> None:
        pass


_IGNORED = _Ignored()
