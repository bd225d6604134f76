"""Time that a test moves by hand, so that no test sleeps."""

from __future__ import annotations

from headgate.clock import SECOND


class ManualClock:
    """A `Clock` that stands still until it is moved.

    Begins at `now` (microseconds since the epoch; by default an instant in January 2027 at which a minute, an hour
    and a day begin in UTC). Safe to read from any thread.

    >>> clock = ManualClock()
    >>> before = clock()
    >>> clock.advance(1.5)
    >>> clock() - before
    1500000
    """

    def __init__(self, now: int = 1_800_057_600 * SECOND) -> None:
        self.now = now
        """The instant that is read; may be set to any."""

    def __call__(self) -> int:
        """The instant at which the clock stands."""
        return self.now

    def advance(self, seconds: float = 0, *, microseconds: int = 0) -> None:
        """Move on; back with a negative value. `microseconds` where a float would not be exact."""
        self.now += round(seconds * SECOND) + microseconds
