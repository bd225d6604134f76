"""Entries in log time: small disorder is put right, several logs become one.

Law: time never goes back. Lines may be a few seconds out of order, as several workers write them; what comes later
than that is taken at the instant that has been reached, and counted. At most `SLACK` of log time, and `MOST` entries
of a log, are held back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from headgate.replay.entry import Entry

SLACK = 5_000_000
"""How far (microseconds) a line may stand behind a later one and still be put in its place."""

MOST = 50_000
"""Entries of one log that are held back at most: where more come within `SLACK`, the oldest are let go."""

_at = attrgetter("at")


class Late:
    """How many entries came too late to be put in their place."""

    count = 0


def in_order(parts: Iterable[list[Entry]], late: Late) -> Iterator[Entry]:
    """The entries of one log, by their instants; of one instant, in the order in which they stood.

    >>> entries = [Entry(at=second * 1_000_000) for second in (1, 4, 2, 9, 0)]
    >>> late = Late()
    >>> [entry.at // 1_000_000 for entry in in_order([entries[:3], entries[3:]], late)], late.count
    ([1, 2, 4, 4, 9], 1)
    """
    held: list[Entry] = []
    reached = newest = 0
    for part in parts:
        for entry in part:
            if entry.at > newest:
                newest = entry.at
            elif entry.at < newest - SLACK:
                # Whether it still finds its place must not depend on how the file was cut into parts.
                late.count += 1
                entry.at = max(reached, newest - SLACK)
        held += part
        held.sort(key=_at)  # nearly sorted: this is one pass
        ripe = _ripe(held, newest - SLACK)
        yield from held[:ripe]
        if ripe:
            reached = held[ripe - 1].at
            del held[:ripe]
    yield from held


def _ripe(held: Sequence[Entry], until: int) -> int:
    """How many of the entries no later line can stand before."""
    low, high = max(0, len(held) - MOST), len(held)
    while low < high:
        middle = (low + high) // 2
        if held[middle].at < until:
            low = middle + 1
        else:
            high = middle
    return low


def merged(logs: Sequence[Iterator[Entry]]) -> Iterator[Entry]:
    """The entries of several logs, each in order, as those of one."""
    return logs[0] if len(logs) == 1 else heapq.merge(*logs, key=_at)
