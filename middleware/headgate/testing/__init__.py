"""For tests of apps that use headgate, and of stores that are written for it.

`ManualClock` needs nothing besides. `headgate.testing.stores` holds the suite that every store must pass; it needs
pytest and Hypothesis, which headgate itself does not, so that it is imported by name.
`headgate.testing.servers` and `headgate.testing.clusters` start a real Valkey or Redis, alone or as a cluster, for as
long as a test lasts.
"""

from __future__ import annotations

from headgate.testing.clock import ManualClock

__all__ = ["ManualClock"]
