"""The thread that works on the file: takes calls from the desk, applies them, and sends the answers home.

Law: no reservation is applied for which nobody waits, and nothing that is owed is lost while the process lives: a
settlement or cancellation that was given up, or whose transaction failed, is kept and tried again until the file has
taken it. There is a bound to what is kept; what is beyond it is left to the lease, and said.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

from headgate.clock import Clock
from headgate.errors import StoreError
from headgate.quota.command import Outcome
from headgate.stores.sqlite.desk import MOST_OWED, Desk, Empty, End, Tick, Waiting
from headgate.stores.sqlite.file import Call, LedgerFile, owed
from headgate.telemetry import events

MOST = 256
"""Calls in one transaction, about: some 20 milliseconds, after which the other processes have their turn."""

AGAIN = 1.0
"""Pause (seconds) before what is owed is tried again where nobody else asks for anything."""

Answers = list[list[Outcome] | Exception]


def serve(desk: Desk, path: str, clock: Clock) -> None:
    """The thread: applies what is asked until it is asked to end."""
    work = _Work(LedgerFile(path, clock), path)
    ended, end = False, None
    try:
        while not ended:
            ticks, ended, end = work.gathered(desk)
            desk.busy()
            work.apply(ticks)
            desk.idle()
        while work.owed and work.sound:
            work.apply([])
    finally:
        desk.leave()
        work.close()
        if end is not None:
            _tell(end.loop, _settle, end.gone)


class _Work:
    """One thread's file, and the calls that are still owed to it, oldest first."""

    def __init__(self, file: LedgerFile, path: str) -> None:
        self._file = file
        self._path = path
        self.owed: deque[Call] = deque()
        self.sound = True

    def gathered(self, desk: Desk) -> tuple[list[tuple[Tick, list[Waiting]]], bool, End | None]:
        """Waits for something to do and takes what else is there, a transaction's worth; and the word to end."""
        patience = None if not self.owed else 0.0 if self.sound else AGAIN
        ticks: list[tuple[Tick, list[Waiting]]] = []
        calls = 0
        while calls < MOST:
            try:
                item = desk.take(patience)
            except Empty:
                break
            patience = 0.0
            if not isinstance(item, Tick):
                return ticks, True, item
            # Whoever has given up meanwhile is not served: under overload that would be all the work there is.
            waited = [waiting for waiting in item.calls if not waiting.future.done()]
            self._keep([waiting.call for waiting in item.calls if waiting.future.done()])
            ticks.append((item, waited))
            calls += len(waited)
        return ticks, False, None

    def apply(self, ticks: list[tuple[Tick, list[Waiting]]]) -> None:
        """Applies the calls of these ticks, and of what is owed the oldest, in one transaction; tells the answers."""
        first = list(islice(self.owed, MOST))
        asked = [waiting.call for _, waited in ticks for waiting in waited]
        answers = self._answers(first, asked)
        at = 0
        for tick, waited in ticks:
            _tell(tick.loop, _answer, tick, waited, answers[at : at + len(waited)])
            at += len(waited)

    def close(self) -> None:
        """Lets go of the file; what is still owed to it is left to the leases."""
        self._file.close()
        self._left(len(self.owed), "the store is closed")

    def _answers(self, first: Sequence[Call], asked: Sequence[Call]) -> Answers:
        if not first and not asked:
            return []
        try:
            answers = self._file.run([*first, *asked])
        except StoreError as fault:
            self.sound = False
            self._keep(asked)
            return [StoreError(str(fault), transient=fault.transient) for _ in asked]
        except Exception as error:
            # A fault of ours: one of them may be its cause, and would be so each time.
            self._done(first)
            self._left(len(first), "a fault of headgate's")
            return [_unforeseen(self._path, error) for _ in asked]
        self.sound = True
        self._done(first)
        self._left(sum([isinstance(answer, Exception) for answer in answers[: len(first)]]), "each failed by itself")
        return answers[len(first) :]

    def _keep(self, calls: Sequence[Call]) -> None:
        kept = [Call(commands, call.now) for call in calls if (commands := owed(call.commands))]
        room = MOST_OWED - len(self.owed)
        self.owed.extend(kept[:room])
        self._left(len(kept) - room, f"more than {MOST_OWED} wait for the file")

    def _done(self, first: Sequence[Call]) -> None:
        for _ in first:
            self.owed.popleft()

    def _left(self, many: int, reason: str) -> None:
        if many > 0:
            events.error("headgate.store.left", commands=many, reason=f"{self._path}: {reason}")


def _answer(tick: Tick, waited: list[Waiting], answers: Answers) -> None:
    tick.patience.cancel()
    for (_, future), answer in zip(waited, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


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
