"""What one answer held, as one number: the unit in which a collection is read.

Law: an answer is a unit if its items ascend one by one; n items from number s on are the unit (s, n). One in eight
numbers may be missing, for items are deleted. Lists of the latest, results of a search and feeds do not ascend, and
are none: whoever reads those goes where everybody goes. Pages of one size are a lane, and so are single items; units
are compared within their lane only, for a reader of pages and a reader of items leave no edges in common.

A unit's code has the lane's number above its first item's: `code + n` is the unit that follows.

Blind spot: order is the numbers' own. Of ids without a number at their end (or one of more than twelve digits, which
counts nothing), no unit is made, and their readers are not seen here; hand-offs and traits remain.
"""

from __future__ import annotations

from headgate.linking.observation import Observation
from headgate.linking.places import weights

BITS = 44
"""Bits of an item's number in a code: 1.7 * 10^13 items, and room for half a million lanes above."""

MOST_LANES = 1 << 18
"""Lanes that are told apart: collections times sizes of pages, which are the application's. What comes later is not
looked at."""

LONGEST = 4_096
"""Items of a unit, at most: a region would hold none of a larger one."""


SLACK = 8
"""One in so many items of a page may be missing; a unit that is off its place by no more is as good as there."""


class Lanes:
    """The lanes that were met, numbered in that order, and the length of a unit in each.

    >>> from headgate.linking.observation import Observation
    >>> lanes = Lanes()
    >>> page = Observation(0, "k1", "acme", True, runs=((7, 40, 20),))
    >>> code, n = lanes.unit(page)
    >>> following, _ = lanes.unit(page._replace(runs=((7, 60, 20),)))
    >>> n, following - code
    (20, 20)
    >>> lanes.unit(page._replace(runs=((7, 40, 1), (7, 39, 1))))
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int], int] = {}
        self.lengths: list[int] = [1]
        self.slacks: list[int] = [0]
        """Of each lane, numbers by which a unit may be off its place: none until its collection showed a gap."""
        self._gaps: set[int] = set()

    def unit(self, seen: Observation) -> tuple[int, int] | None:
        """The code and the length of what was handed out; None if that is no unit."""
        if not seen.runs or not seen.served:
            return None
        collection, first, n = seen.runs[0]
        if len(seen.runs) > 1:
            n = _page(seen.runs)
            if n and collection not in self._gaps and len(self._gaps) < MOST_LANES:
                self._gaps.add(collection)
                for (other, length), known in self._numbers.items():
                    if other == collection:
                        self.slacks[known] = length // SLACK
        if not 0 < n <= LONGEST or not 0 < first < 1 << BITS:
            return None
        lane = self._numbers.get((collection, n))
        if lane is None:
            if len(self.lengths) >= MOST_LANES:
                return None
            lane = self._numbers[collection, n] = len(self.lengths)
            self.lengths.append(n)
            self.slacks.append(n // SLACK if collection in self._gaps else 0)
        return lane << BITS | first, n

    def length(self, code: int) -> int:
        """Items of a unit, by its code."""
        return self.lengths[code >> BITS]


def _page(runs: tuple[tuple[int, int, int], ...]) -> int:
    """Items of a page that leaves out a few numbers; 0 if it is none (a search, a feed, a page with many gaps)."""
    collection, end, n = runs[0][0], runs[0][1] + runs[0][2], runs[0][2]
    missing = 0
    for other, first, many in runs[1:]:
        missing += first - end
        if other != collection or first <= end:
            return 0
        end, n = first + many, n + many
    return n if missing <= n // SLACK else 0


def region(code: int) -> int:
    """The region of a unit: 4,096 numbers of its lane."""
    return code >> weights.REGION


def region_units(n: int) -> float:
    """Units of a region, but four at least: of fewer, none is a place to choose."""
    return max(4.0, (1 << weights.REGION) / n)
