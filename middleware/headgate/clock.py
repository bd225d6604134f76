"""Where time comes from: one reading, in integer microseconds since the Unix epoch.

The pure packages never read a clock; they are handed an instant. Whoever needs one (a store, the gate)
is given a `Clock`, so that a test can move time by hand (`headgate.testing.ManualClock`).

Microseconds, because nanoseconds since 1970 do not fit the 2^53 that a store's script counts exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""A callable without arguments that answers the present instant in microseconds since the epoch."""

MICROSECOND = 1
MILLISECOND = 1_000
SECOND = 1_000_000


def wall_clock() -> int:
    """The machine's wall clock in microseconds since the epoch.

    The wall clock and not the monotonic one: windows survive restarts and are shared by the workers of a
    host, so they need a reading that all of them agree on. That it can be set back is the ledger's concern.

    >>> wall_clock() > 1_700_000_000 * SECOND
    True
    """
    return time.time_ns() // 1_000


# Linux stops its monotonic clock while the machine sleeps; leases at a store go on meanwhile.
_SLEEPLESS = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def monotonic_clock() -> int:
    """Microseconds since some instant in the past: for how long something has lasted on this machine.

    Never set back and never set forward, and it goes on while the machine sleeps where the system can tell that.

    >>> monotonic_clock() <= monotonic_clock()
    True
    """
    return (time.clock_gettime_ns(_SLEEPLESS) if _SLEEPLESS is not None else time.monotonic_ns()) // 1_000
