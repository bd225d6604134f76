"""The embedded default: several workers of one host, one file, no server.

Law: the event loop never waits for the disk. The calls of one tick of the loop, and all that arrive while the file is
busy, share one transaction on a thread of their own: many callers cost little more than one. What a caller was told
is in the file, whoever is killed afterwards.

The connection lives in that thread's frame and nowhere else. So a forked child, which has no such thread, can neither
use nor close it (SQLite forbids both), and makes its own. A store serves any number of event loops, one after the
other or at once: an answer goes back to the loop that asked.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from weakref import finalize

from headgate.clock import Clock, wall_clock
from headgate.errors import StoreError
from headgate.quota.command import Command, Outcome
from headgate.stores.sqlite import faults
from headgate.stores.sqlite.desk import Desk, End, Tick, Waiting
from headgate.stores.sqlite.file import Call
from headgate.stores.sqlite.serving import serve

WAIT = 5.0
"""How long (seconds) a call waits at most, if its caller does not give up before: for its turn, or for the disk."""


class SqliteStore:
    """Balances and receipts in a SQLite file, shared by all processes that open it. The file gets mode 0600.

    `path`: the file; its directory exists. Nothing is opened before the first call. `wait` (seconds) bounds a call.

    >>> import asyncio, tempfile
    >>> from headgate.quota.command import Demand, Reserve
    >>> from headgate.quota.window import Total
    >>> async def story(path):
    ...     store = SqliteStore(path)
    ...     ask = [Reserve(bytes([n]), (Demand((b"acme", "life"), Total(1), 1),), 60_000_000) for n in range(2)]
    ...     outcomes = await store.transact(ask)
    ...     await store.close()
    ...     return [type(outcome).__name__ for outcome in outcomes]
    >>> with tempfile.TemporaryDirectory() as there:
    ...     asyncio.run(story(f"{there}/ledger.db"))
    ['Granted', 'Refused']
    """

    immediate = False
    punctual = False
    deadline = 2.0

    def __init__(self, path: str, *, clock: Clock = wall_clock, wait: float = WAIT) -> None:
        self._path = path
        self._clock = clock
        self._wait = wait
        self._ticks: dict[asyncio.AbstractEventLoop, list[Waiting]] = {}
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._ticks.clear()
        self._desk: Desk | None = None
        self._starting = threading.Lock()

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        """Apply the commands in one transaction, with those of whoever else asks meanwhile.

        Raises StoreError when the file does not do it. Then nothing was reserved or read, unless no answer came
        within `wait`; what settles, cancels or extends is kept, and applied when the file can be written again. A
        cancelled call may be applied or not. While others wait in vain, what is new is refused at once.
        """
        if os.getpid() != self._pid:
            self._begin()  # a forked child: the thread and the connection are its parent's
        commands, desk = tuple(commands), self._desk
        if desk is not None and not desk.takes(commands):
            raise faults.hangs(self._path)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Outcome]] = loop.create_future()
        tick = self._ticks.get(loop)
        if tick is None:
            tick = self._ticks[loop] = []
            loop.call_soon(self._hand_over, loop)
        tick.append(Waiting(Call(commands, now, future.done), future))
        try:
            return await future
        except asyncio.CancelledError:
            if self._desk is not None:
                self._desk.given_up()
            raise

    async def close(self) -> None:
        """Let what is under way be answered, then let go of the file. A call after that opens it again."""
        if os.getpid() != self._pid:
            return
        loop = asyncio.get_running_loop()
        self._hand_over(loop)
        desk, self._desk = self._desk, None
        if desk is not None:
            end = End(loop, loop.create_future())
            desk.end(end)
            # A thread that does not get its turn is left alone: it closes the file when it does.
            await asyncio.wait({end.gone}, timeout=self._wait)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        calls = self._ticks.pop(loop, None)
        if not calls:
            return
        try:
            desk = self._started()
        except RuntimeError as error:
            # The system has no thread to give: it may have one again at the next call.
            words = str(error)
            _fail(calls, lambda: faults.no_thread(self._path, words))
            return
        desk.put(Tick(loop, calls, loop.call_later(self._wait, self._give_up, desk, calls)))

    def _give_up(self, desk: Desk, calls: list[Waiting]) -> None:
        desk.given_up()
        _fail(calls, lambda: faults.no_answer(self._path, self._wait))

    def _started(self) -> Desk:
        with self._starting:
            if self._desk is None or self._desk.left:
                desk = Desk()
                # A daemon, so that a program that forgets to close the store ends all the same.
                threading.Thread(
                    target=serve, args=(desk, self._path, self._clock), name="headgate-ledger", daemon=True
                ).start()
                finalize(self, desk.end)
                self._desk = desk
            return self._desk


def _fail(calls: list[Waiting], fault: Callable[[], StoreError]) -> None:
    for _, future in calls:
        if not future.done():
            future.set_exception(fault())
