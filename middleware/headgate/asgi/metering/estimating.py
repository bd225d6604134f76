"""Tokens that nobody reports: by the bytes of the text, or by a callable of the operator's.

Law: whatever the callable does, a stream goes on and is not free. What it raises, and an answer that cannot be true,
count as if there were no callable, by bytes, for the very text that it was asked about. It is given at most `PIECE`
signs at once, no text that is reported in the meantime, and, once it was slow, at most a hundredth of the time.
"""

from __future__ import annotations

import asyncio
import codecs
import time
from collections.abc import Callable
from typing import NamedTuple

from headgate.quota.estimate import Estimate, doubt
from headgate.quota.meter import MILLION
from headgate.telemetry import events
from headgate.tokens import Said, estimated, plain

PIECE = 4_096
"""Signs of text that a callable is given at once."""

ASKED = 65_536
"""Bytes of a request that are counted, as many as are looked at of one elsewhere: a caller who sends megabytes makes
nobody wait for their count."""

SLOW = 0.05
"""Seconds that one text may take: the callable runs on the event loop, where everybody waits for it."""

REST = 100
"""A callable that was slow is not asked again for so many times the time that it took."""


class Counted(NamedTuple):
    """Tokens of a text, the bytes of it that they stand for, and the bytes that were not counted."""

    tokens: int
    of: int
    uncounted: int


class Estimating:
    """One estimate at work. What its callable did wrong is told once for each kind of fault.

    >>> words = Estimating(Estimate(name="python:my_app.tokens:words", count=lambda text: len(text.split())))
    >>> words.counted("some words"), Estimating(Estimate()).of(10)
    (Counted(tokens=2, of=10, uncounted=0), 3)
    """

    __slots__ = ("_clock", "_rests", "_told", "estimate")

    def __init__(self, estimate: Estimate, clock: Callable[[], float] = time.monotonic) -> None:
        self.estimate = estimate
        self._clock = clock
        self._rests = float("-inf")  # until then it is not asked
        self._told: set[str] = set()

    @property
    def counts(self) -> bool:
        """Whether a callable counts, so that texts are wanted."""
        return self.estimate.count is not None

    @property
    def a_byte(self) -> int:
        """The most (millionths of a token) that a byte of text is taken for."""
        return MILLION if self.counts else -(-MILLION * MILLION // self.estimate.bytes_a_token)

    def of(self, size: int) -> int:
        """Tokens of so many bytes, which nobody can count."""
        return estimated(size, self.estimate.bytes_a_token)

    def said(self, said: Said) -> int:
        """Tokens of what was said. What waits to be counted is, and need not be kept any longer."""
        if said.kept or said.beyond:
            kept, beyond = bytes(said.kept), said.beyond
            said.kept, said.beyond = bytearray(), 0
            found = self.counted(plain(kept.decode("utf-8", "replace")))
            said.tokens += found.tokens
            said.uncounted += found.uncounted
            if (more := self._more(found, beyond)) > self.of(beyond):
                said.tokens += more
            else:
                said.uncounted += beyond
        return said.tokens + self.of(said.uncounted)

    def asked(self, head: bytes, size: int) -> int:
        """Tokens of a request's body of `size` bytes that begins with `head`. What is no text counts by its bytes."""
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a sign may be cut in two at its end
        except UnicodeDecodeError:
            return self.of(size)
        found = self.counted(plain(text))
        beyond = size - len(head)
        return found.tokens + self.of(found.uncounted) + max(self._more(found, beyond), self.of(beyond))

    def counted(self, text: str) -> Counted:
        """The tokens of a text, piece by piece."""
        tokens = of = uncounted = 0
        now = begun = self._clock()
        for at in range(0, len(text), PIECE):
            piece = text[at : at + PIECE]
            size = len(piece.encode())
            answer = self._answered(piece, size) if now >= self._rests else None
            if answer is None:
                uncounted += size
            else:
                tokens, of = tokens + answer, of + size
            if now >= self._rests:
                now = self._rested(begun)
        return Counted(tokens, of, uncounted)

    def _more(self, found: Counted, beyond: int) -> int:
        """Tokens of what was not kept, at the price of what was. It holds where it is the dearer one: who begins with
        blanks is not let off the rest."""
        return -(-beyond * found.tokens // found.of) if found.of else 0

    def _rested(self, begun: float) -> float:
        """The time; a callable that has taken too much of it since `begun` rests."""
        now = self._clock()
        if now - begun > SLOW:
            self._rests = now + (now - begun) * REST
            self._tell(f"took more than {SLOW * 1_000:.0f} ms")
        return now

    def _answered(self, text: str, size: int) -> int | None:
        """The callable's answer; None where it is none."""
        count = self.estimate.count
        if count is None:
            return None
        answer: object = None
        try:
            answer = count(text)
        except (Exception, SystemExit, asyncio.CancelledError) as fault:
            # Not what it says: that may be the text. (Nothing is awaited here, so that nothing can be cancelled.)
            why = f"raised {type(fault).__name__}"
        else:
            why = doubt(answer, text, size)
        if why:
            self._tell(why)
            return None
        assert isinstance(answer, int), "there is no doubt of it"
        return answer

    def _tell(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            events.error("headgate.estimate.failed", estimate=self.estimate.name, reason=why)


_known: dict[str, Estimating] = {}


def estimating(estimate: Estimate) -> Estimating:
    """What works by an estimate: one for all requests of a process, so that a fault is told once, and a callable that
    was slow rests for all of them."""
    if estimate.count is None:
        return Estimating(estimate)
    known = _known.get(estimate.name)
    if known is None or known.estimate.count is not estimate.count:
        known = _known[estimate.name] = Estimating(estimate)
    return known
