"""One subject's standing under one limit: what it has used and what is held for it.

Law: a balance stores what was *used*, never what remains, so that a limit whose amount or window is changed
keeps the usage of everybody. It knows no limit, no policy and no clock: the verb that reads it is handed in.

A balance is a plain tuple of integers so that a store can keep it as it likes and a script can recompute it.
No integer in it exceeds `SAFE`, the largest that a script's double counts exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

SAFE = 2**53 - 1
"""The largest integer that every store counts exactly; amounts saturate here and never wrap."""

FOREVER = SAFE
"""An instant that no clock reaches: the `until` of what never runs out (about the year 2255)."""

CLOCK_SKEW = 5_000_000
"""How far (microseconds) a clock may step back and be waited for; a larger step re-anchors instead.

Waiting keeps the count exact over the small disorder of threads that read the clock before they get the
lock; re-anchoring bounds how long anybody is locked out when an operator sets the clock back by hours.
"""

LATE = 600_000_000
"""How long (microseconds) after its lease a lapsed hold is remembered, so that a late settlement can still
replace the estimate by the truth, once."""

new = tuple.__new__
"""Makes a named tuple of a plain one: `new(Hold, (2, 90, 0, False, None, False))`, all fields in their order. Half
the time of calling the class, and the ledger makes one for each balance that a request changes."""

Parts = tuple[tuple[int, int], ...]


class Hold(NamedTuple):
    """An amount held for one reservation under one limit, until it is settled or its lease ends.

    `amount` in the meter's units; `until` the instant at which the lease ends (or, once `lapsed`, at which the
    hold is forgotten); `step` the number of the last extension, so that a repeated one is not added twice.
    A lapsed hold is charged already: the worker that made it has not been heard of in time. Where `to` names a
    place, this is only the note that the hold is to be looked for there; with `also` it is held here as well, and
    what becomes of it here is to become of it there.
    """

    amount: int
    until: int
    step: int = 0
    lapsed: bool = False
    to: tuple[bytes, str] | None = None
    also: bool = False

    @property
    def gone(self) -> bool:
        """Whether this is only a note of where the hold is to be looked for."""
        return self.to is not None and not self.also


class Holds(NamedTuple):
    """All holds of one balance: their sum, an instant before which none is due, and each by `rid`.

    `held` counts the live ones only. INVARIANT: held == sum(h.amount for h in by_rid.values() if not h.lapsed).
    `seen` is the instant of the last change: a clock that is far behind it was set back, and the leases with it.
    `by_rid` may be a mapping that reads a hold only when it is asked for it: whoever goes through all pays for all.
    """

    held: int
    due: int
    by_rid: Mapping[bytes, Hold]
    seen: int = 0


class Balance(NamedTuple):
    """What one subject has used under one limit, and what is held.

    | field | meaning |
    | --- | --- |
    | `kind` | the verb that wrote it: `rate quota rolling max total` |
    | `used` | units; of a `rate`, backlog in ticks (`spec` ticks to the unit) |
    | `since` | the instant that `used` speaks of, or the start of its window |
    | `until` | from this instant on, holds aside, it is as good as untouched |
    | `spec` | which window it was written under; another value means that the policy has changed |
    | `parts` | of a `rolling` window: (sub-window, units), oldest first; `used` is their sum |
    | `holds` | live and lapsed holds, or None |
    """

    kind: str
    used: int
    since: int
    until: int
    spec: int
    parts: Parts = ()
    holds: Holds | None = None


Standing = tuple[int, int, int, Parts]
"""A balance brought to an instant by its verb: (used, since, until, parts)."""


class Verb(Protocol):
    """How a limit's window runs: pure arithmetic over a `Balance`, all in integers.

    A verb is an immutable value; two verbs that are equal decide alike. `bring` is called first and its
    result is what the other methods read; nothing is kept between calls.
    """

    @property
    def kind(self) -> str:
        """The verb's word in the policy: `rate`, `quota`, `rolling`, `max` or `total`."""

    @property
    def spec(self) -> int:
        """Tells the windows that a balance may have been written under; see `Balance.spec`."""

    @property
    def capacity(self) -> int:
        """The most that one request can ever be granted: above it the answer is *never*."""

    def bring(self, balance: Balance | None, now: int) -> Standing:
        """The usage that still counts at `now`, in this verb's own measure."""

    def free(self, standing: Standing) -> int:
        """Units that could still be granted, holds not yet deducted; negative when there is debt."""

    def spent(self, standing: Standing) -> int:
        """Units that count as used, rounded up."""

    def put(self, standing: Standing, amount: int, holds: Holds | None, now: int) -> Balance:
        """The balance after `amount` more units were used; no check is made here."""

    def take(self, balance: Balance | None, amount: int, now: int) -> Balance | None:
        """The balance after `amount` more units where they fit, None where they do not; there are no holds.

        The same as `taken`, and nothing else: three steps in one, for the request that is granted."""

    def less(self, standing: Standing, amount: int, since: int, now: int) -> Standing:
        """Gives back `amount` units charged at `since`, as far as that opens no room that time had opened."""

    def join(self, one: Standing, other: Standing) -> Standing:
        """The usage of two balances as that of one; both were brought to the same instant by this verb."""

    def ready(self, standing: Standing, need: int, now: int) -> int:
        """The first instant at which `need` units are free if nothing else happens; `FOREVER` if at none."""


def taken(verb: Verb, balance: Balance | None, amount: int, now: int) -> Balance | None:
    """What `Verb.take` says, by the three steps that it consists of."""
    standing = verb.bring(balance, now)
    return verb.put(standing, amount, None, now) if amount <= verb.free(standing) else None


def carried(balance: Balance, now: int) -> int:
    """Units that a balance written under *another* verb or window hands on to the one that replaces it.

    A window that has run out hands on nothing. A rate hands on what has not drained, in whole units and rounded
    up: how fast it drained follows from when it would have been empty. To forget usage would be the worse mistake.

    >>> carried(Balance("rate", used=100, since=0, until=50, spec=60), now=10)
    2
    >>> carried(Balance("quota", used=7, since=0, until=50, spec=1), now=50)
    0
    """
    if now >= balance.until or balance.used == 0 or balance.kind == "max":
        return 0
    if balance.kind == "rate":
        drain = balance.used // (balance.until - balance.since)
        return -(-(balance.used - max(0, now - balance.since) * drain) // balance.spec)
    return balance.used
