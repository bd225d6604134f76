"""When to leave a server alone, and when to try it again.

Law: pure. It is told what happened and when, and handed its lot (`jitter`, 0 <= jitter < 1); it reads no clock and
opens no connection. Closed: everybody may ask. Open: nobody may, but for one probe at a time, about once a second,
and every worker at another instant. The first probe that is answered closes it.

A few failures in a row open it. Those that came to nothing by themselves (refused, wrong password) speak at once; a
silence must last for a while, because one pause of a server makes many calls late in the same instant.
"""

from __future__ import annotations

FEW = 3
"""Failures in a row, with no answer between them, before a server is left alone."""

SPAN = 0.1
"""How long (seconds) a server must have been silent: longer than the pause in which it forks to save itself."""

FIRST = 0.25
"""Seconds until the first probe, and up to as much again by lot: most faults are a restart, and over soon."""

PACE = 1.0
"""Seconds from one probe to the next at least; by lot up to `SPREAD` more, so that workers do not come as a herd."""

SPREAD = 0.4


class Breaker:
    """What one worker makes of one server. Times in seconds, by any clock that does not go back.

    >>> breaker = Breaker()
    >>> for at in (10.0, 10.1, 10.2):
    ...     breaker.failed(at, jitter=0.5)
    >>> breaker.open, [breaker.admits(at, jitter=0.5) for at in (10.3, 10.6, 10.7)]
    (True, [False, True, False])
    >>> breaker.succeeded()
    >>> breaker.open, breaker.admits(10.8, jitter=0.5)
    (False, True)
    """

    __slots__ = ("_probe_at", "_since", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self._since = 0.0
        self._probe_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether the server is being left alone."""
        return self._probe_at is not None

    def admits(self, now: float, jitter: float) -> bool:
        """Whether the server may be asked now. If it is open and this is True, who asked is the probe."""
        if self._probe_at is None:
            return True
        if now < self._probe_at:
            return False
        # The next turn is fixed before anything is known of this one: two probes are never less than that apart.
        self._probe_at = now + PACE + SPREAD * jitter
        return True

    def failed(self, now: float, jitter: float, *, silent: bool = True) -> None:
        """It did not do what it was asked: `silent` if nothing came back, False if it said so itself."""
        if not self.failures:
            self._since = now
        self.failures += 1
        if self._probe_at is None and self.failures >= FEW and not (silent and now - self._since < SPAN):
            self._probe_at = now + FIRST + FIRST * jitter

    def succeeded(self) -> None:
        """It has answered in time."""
        self.failures = 0
        self._probe_at = None
