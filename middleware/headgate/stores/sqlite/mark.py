"""The highest instant that a store has counted at, so that time does not run backwards for those who share it.

Law: a clock that lags behind what was counted at already does not open a window again. A small lag is waited for:
time stands still. A lag that lasts is a clock that was set back, and is followed; from there on the ledger's own
rules hold. So nobody is locked out for longer than a window and `CLOCK_SKEW`.
"""

from __future__ import annotations

from headgate.clock import SECOND
from headgate.quota.balance import CLOCK_SKEW

CONFIRMED = SECOND
"""How old the mark may grow where nothing is written otherwise (microseconds): a worker that only refuses goes on
telling those that lag behind, at the price of one write a second."""


class Mark:
    """One process's view of the mark that all of them share.

    >>> mark = Mark()
    >>> mark.present(1_000_000_000, now=999_000_000)    # another worker was here a second ahead: wait for it
    1000000000
    >>> mark.present(1_000_000_000, now=1_000_000_001)
    1000000001
    """

    def __init__(self) -> None:
        self._kept = -1
        self._since = 0

    def present(self, kept: int, now: int) -> int:
        """The instant to count at, where `kept` is the shared mark and `now` this process's clock (microseconds).

        An answer below `kept` means that the clock was set back for good: the mark is to be lowered to it.
        """
        if now >= kept:
            return now
        if kept != self._kept or now < self._since:
            # Someone else's clock has passed the mark meanwhile, or ours went back further: begin to wait anew.
            self._kept, self._since = kept, now
        return kept if now - self._since <= CLOCK_SKEW else now

    @staticmethod
    def moves(kept: int, present: int, *, changed: bool) -> bool:
        """Whether the shared mark is to be written: it is lowered at once, and raised with a change or in time."""
        return present < kept or present > kept + (0 if changed else CONFIRMED)
