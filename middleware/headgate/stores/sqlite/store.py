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
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple
from weakref import finalize

from headgate.clock import Clock, wall_clock
from headgate.errors import StoreError
from headgate.quota.ledger import Command, Outcome
from headgate.stores.sqlite import faults
from headgate.stores.sqlite.file import Call, LedgerFile

WAIT = 5.0
"""How long (seconds) a call waits at most, if its caller does not give up before: for its turn, or for the disk."""

MOST = 256
"""Calls in one transaction, about: some 20 milliseconds, after which the other processes have their turn."""


class _Waiting(NamedTuple):
    call: Call
    future: asyncio.Future[list[Outcome]]


class _Tick(NamedTuple):
    """The calls that one loop made in one go; they are answered together."""

    loop: asyncio.AbstractEventLoop
    calls: list[_Waiting]
    patience: asyncio.TimerHandle


class _End(NamedTuple):
    """Asks the thread to close the file; `gone` is told when it has."""

    loop: asyncio.AbstractEventLoop
    gone: asyncio.Future[None]


_Work = SimpleQueue[_Tick | _End | None]


class SqliteStore:
    """Balances and receipts in a SQLite file, shared by all processes that open it. The file gets mode 0600.

    `path`: the file; its directory exists. Nothing is opened before the first call. `wait` (seconds) bounds a call.

    >>> import asyncio, tempfile
    >>> from headgate.quota.ledger import Demand, Reserve
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
    deadline = 2.0

    def __init__(self, path: str, *, clock: Clock = wall_clock, wait: float = WAIT) -> None:
        self._path = path
        self._clock = clock
        self._wait = wait
        self._ticks: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._ticks.clear()
        self._work: _Work | None = None
        self._starting = threading.Lock()

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        """Apply the commands in one transaction, with those of whoever else asks meanwhile.

        Raises StoreError when the file does not do it; none of the commands was applied then, unless no answer came
        within `wait`. A cancelled call may be applied or not.
        """
        if os.getpid() != self._pid:
            self._begin()  # a forked child: the thread and the connection are its parent's
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Outcome]] = loop.create_future()
        tick = self._ticks.get(loop)
        if tick is None:
            tick = self._ticks[loop] = []
            loop.call_soon(self._hand_over, loop)
        tick.append(_Waiting((tuple(commands), now), future))
        return await future

    async def close(self) -> None:
        """Let what is under way be answered, then let go of the file. A call after that opens it again."""
        if os.getpid() != self._pid:
            return
        loop = asyncio.get_running_loop()
        self._hand_over(loop)
        work, self._work = self._work, None
        if work is not None:
            end = _End(loop, loop.create_future())
            work.put(end)
            # A thread that does not get its turn is left alone: it closes the file when it does.
            await asyncio.wait({end.gone}, timeout=self._wait)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        calls = self._ticks.pop(loop, None)
        if calls:
            patience = loop.call_later(self._wait, _give_up, calls, self._path, self._wait)
            self._thread().put(_Tick(loop, calls, patience))

    def _thread(self) -> _Work:
        with self._starting:
            if self._work is None:
                work = self._work = SimpleQueue()
                file = (self._path, self._clock)
                # A daemon, so that a program that forgets to close the store ends all the same.
                threading.Thread(target=_serve, args=(work, *file), name="headgate-ledger", daemon=True).start()
                finalize(self, work.put, None)
            return self._work


def _serve(work: _Work, path: str, clock: Clock) -> None:
    """The thread: applies what was asked until it is asked to end."""
    file = LedgerFile(path, clock)
    ended, end = False, None
    try:
        while not ended:
            ticks, ended, end = _gathered(work)
            _apply(file, path, ticks)
    finally:
        file.close()
        if end is not None:
            _tell(end.loop, _settle, end.gone)


def _gathered(work: _Work) -> tuple[list[_Tick], bool, _End | None]:
    """Waits for something to do and takes what else is there, up to a transaction's worth; and the word to end."""
    ticks: list[_Tick] = []
    calls = 0
    while calls < MOST:
        try:
            item = work.get(block=not ticks)
        except Empty:
            break
        if not isinstance(item, _Tick):
            return ticks, True, item
        ticks.append(item)
        calls += len(item.calls)
    return ticks, False, None


def _apply(file: LedgerFile, path: str, ticks: list[_Tick]) -> None:
    # Whoever has given up meanwhile is not served: under overload that would be all the work there is.
    asked = [[waiting for waiting in tick.calls if not waiting.future.done()] for tick in ticks]
    calls = [waiting.call for waitings in asked for waiting in waitings]
    answers: list[list[Outcome] | Exception]
    try:
        answers = file.run(calls) if calls else []
    except StoreError as fault:
        answers = [StoreError(str(fault), transient=fault.transient) for _ in calls]
    except Exception as error:
        answers = [_unforeseen(path, error) for _ in calls]
    at = 0
    for tick, waitings in zip(ticks, asked, strict=True):
        _tell(tick.loop, _answer, tick, waitings, answers[at : at + len(waitings)])
        at += len(waitings)


def _answer(tick: _Tick, waitings: list[_Waiting], answers: list[list[Outcome] | Exception]) -> None:
    tick.patience.cancel()
    for (_, future), answer in zip(waitings, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _give_up(calls: list[_Waiting], path: str, waited: float) -> None:
    for _, future in calls:
        if not future.done():
            future.set_exception(faults.no_answer(path, waited))


def _settle(gone: asyncio.Future[None]) -> None:
    if not gone.done():
        gone.set_result(None)


def _tell(loop: asyncio.AbstractEventLoop, *callback: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer any more
        loop.call_soon_threadsafe(*callback)  # type: ignore[arg-type]


def _unforeseen(path: str, error: Exception) -> StoreError:
    fault = StoreError(f"{path}: {type(error).__name__}: {error}", transient=False)
    fault.__cause__ = error
    return fault
