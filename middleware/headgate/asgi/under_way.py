"""The responses under way that hold something: kept alive while they last, and found again when the service stops.

Law: as long as a response lives, what it holds is renewed at least `RENEWALS` times in each lease, and nothing is
renewed after it. One timer beats for all of them: a loop's timer is dear, and nearly all requests end before theirs
would have run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from headgate.asgi.metering import Metered, behind

RENEWALS = 3
"""Renewals in the time of one lease: two may fail before a place is lost."""

BEATS = 4
"""Beats between two renewals: one comes at most a quarter of that time before it need, and never after."""

MICROSECONDS = 1_000_000


class UnderWay:
    """What is held by the requests of one middleware; most of them end before the first beat."""

    __slots__ = ("_beat", "_due", "_loop", "_timer")

    def __init__(self) -> None:
        self._due: dict[Metered, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._beat = 0.0

    def __iter__(self) -> Iterator[Metered]:
        """All that are under way now."""
        return iter(list(self._due))

    def begun(self, metered: Metered) -> None:
        """Renew what it holds from now on."""
        loop = asyncio.get_running_loop()
        pause = _pause(metered)
        self._due[metered] = loop.time() + pause
        if loop is not self._loop or pause < self._beat * BEATS:
            self._beats(loop, pause / BEATS)

    def ended(self, metered: Metered) -> None:
        """Let it go."""
        self._due.pop(metered, None)

    def _beats(self, loop: asyncio.AbstractEventLoop, beat: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop, self._beat = loop, beat
        self._timer = loop.call_later(beat, self._renewed)

    def _renewed(self) -> None:
        """One beat: renews what would else be due before the next. Where nothing is under way the beat ends."""
        loop = asyncio.get_running_loop()
        self._loop = self._timer = None
        next_beat = loop.time() + self._beat
        for metered, due in list(self._due.items()):
            if due < next_beat:
                behind(loop, metered.renewed())
                self._due[metered] = loop.time() + _pause(metered)
        if self._due:
            self._beats(loop, min(map(_pause, self._due)) / BEATS)


def _pause(metered: Metered) -> float:
    """Seconds between two renewals."""
    return metered.decision.lease / (MICROSECONDS * RENEWALS)
