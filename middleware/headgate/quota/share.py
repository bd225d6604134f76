"""A part of a limit: the same window with a smaller amount.

Law: a part is never more than its share and, so that a small limit does not become a closed door, never less than
one unit. It serves where a worker must decide alone (the store is away) and must not grant the whole limit again.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd

from headgate.quota.balance import SAFE, Verb
from headgate.quota.gcra import Rate
from headgate.quota.match import WHOLE
from headgate.quota.window import Max, Quota, Rolling, Total


def share_of(verb: Verb, share: int) -> Verb:
    """`share` hundredths of a percent of a verb's amount, rounded down, at least one unit.

    >>> share_of(Rate(100, 60_000_000), 1_000).capacity
    10
    """
    if isinstance(verb, Rate):
        return _part_of_rate(verb, share)
    if isinstance(verb, Quota | Rolling | Max | Total):
        return replace(verb, capacity=_part(verb.capacity, share))
    raise TypeError(f"no share of {verb!r} is known")


def _part_of_rate(rate: Rate, share: int) -> Rate:
    amount, burst = _part(rate.amount, share), rate.burst * share // WHOLE
    # A multiple of what amount and period have in common needs no finer ticks than the whole rate does.
    amount -= amount % gcd(rate.amount, rate.period) if amount >= gcd(rate.amount, rate.period) else 0
    while (amount + burst) * (rate.period // gcd(amount, rate.period)) > SAFE:
        amount, burst = max(1, amount // 2), burst // 2
    return Rate(amount, rate.period, burst)


def _part(amount: int, share: int) -> int:
    return max(1, amount * share // WHOLE)
