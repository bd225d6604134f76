"""Tiling: ranges that two keys have read deeply, in places nobody else reads, touch without overlapping.

What it finds: a collection that is cut into ranges, one for each key. The ranges touch only when one is read to its
end, so it is found late; whichever was read first.

The null model. The end of one cold run falls within j units of the other's beginning by chance in 2 j of a region's
units: ln(units / 2 j), and `TILE_ADD` for both runs being deep and cold on either side (fitted: runs of unrelated
keys that touch had 4 to 6 units nearly all). An end touches only when its reader has stayed away for a minute: a
reader about to read on would overlap in a moment. A pair is paid for its best tile, not for each.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from math import log

from headgate.linking.places import weights
from headgate.linking.places.readers import Readers
from headgate.linking.places.reading import Reading
from headgate.linking.places.units import Lanes, region_units

_GAP = 5
"""Units that a run may leave out and still be one."""


class Runs:
    """The deep runs of all keys: 18 bytes each, eight a key.

    A run is the stretch between its first and last unit, with few left out; a key's least lately grown makes room.
    """

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._first = array("Q")
        self._span = array("I")
        self._many = array("H")
        self._grown = array("I")

    def grow(self, key: int, code: int, n: int, at: int) -> tuple[int, int, int]:
        """Add a unit to the run it belongs to, or begin one: the run's first unit, its last, and how many units."""
        base = key * weights.RUNS
        while len(self._first) < base + weights.RUNS:
            self._first.append(0)
            self._span.append(0)
            self._many.append(0)
            self._grown.append(0)
        oldest = base
        for slot in range(base, base + weights.RUNS):
            first = self._first[slot]
            if -_GAP * n <= code - first <= self._span[slot] + _GAP * n:
                last = max(first + self._span[slot], code)
                first = min(first, code)
                self._first[slot], self._span[slot] = first, last - first
                self._many[slot] = min(0xFFFF, self._many[slot] + 1)
                self._grown[slot] = at
                return first, last, self._many[slot]
            if self._grown[slot] < self._grown[oldest]:
                oldest = slot
        self._first[oldest], self._span[oldest], self._many[oldest], self._grown[oldest] = code, 0, 1, at
        return code, code, 1

    def of(self, key: int) -> Iterator[tuple[int, int, int]]:
        """The deep runs of a key: first unit, last unit, how many."""
        for slot in range(key * weights.RUNS, min(len(self._first), key * weights.RUNS + weights.RUNS)):
            if self._many[slot] >= weights.TILE_RUN:
                yield self._first[slot], self._first[slot] + self._span[slot], self._many[slot]

    def ends(self, key: int, code: int) -> bool:
        """Whether a unit is the end of a deep run: it is remembered beyond others, for ranges touch there."""
        return any(code in (first, last) for first, last, _ in self.of(key))

    def touching(self, a: int, b: int, n: int) -> int:
        """Units of the shorter of two deep runs of a lane that touch (of the deepest two); 0 if none do."""
        reach, lane_of, deepest = weights.TILE_REACH * n, self._lanes.length, 0
        for first, last, many in self.of(a):
            for other_first, other_last, other_many in self.of(b):
                gap = max(first - other_last, other_first - last)
                if 0 < gap <= reach and lane_of(first) == n:
                    deepest = max(deepest, min(many, other_many))
        return deepest

    def __sizeof__(self) -> int:
        return sum([part.__sizeof__() for part in (self._first, self._span, self._many, self._grown)])


class Tiling:
    """Which ranges touch, and from when on that counts."""

    def __init__(self, runs: Runs, readers: Readers) -> None:
        self._runs = runs
        self._readers = readers
        self._waiting: deque[tuple[int, int]] = deque()
        self._pending: dict[int, tuple[int, int, int, int]] = {}

    def tiles(self, reading: Reading, orgs: Callable[[int], int]) -> Iterator[tuple[int, float]]:
        """The keys whose range touches the one that a read belongs to: (key, nats)."""
        if reading.popularity > weights.TILE_COLD:
            return
        first, last, many = self._runs.grow(reading.key, reading.code, reading.n, reading.at)
        if many < weights.TILE_RUN or reading.here:
            return
        if reading.code == first or many in (4, 6, 8, 12):
            gap, others = self._beyond(first, -1, reading, orgs)
            for key in others:
                yield from self._told(reading.key, key, reading.n, gap)
        if reading.code == last:
            gap, others = self._beyond(last, 1, reading, orgs)
            if others:
                self._pending[reading.key] = (reading.at, others[0], reading.n, gap)
                self._waiting.append((reading.at, reading.key))

    def due(self, at: int) -> Iterator[tuple[int, int, float]]:
        """The ends whose readers have stayed away long enough: (key, the other, nats)."""
        while self._waiting and at - self._waiting[0][0] > weights.TILE_AWAY:
            when, key = self._waiting.popleft()
            pending = self._pending.get(key)
            if pending and pending[0] == when:
                del self._pending[key]
                for other, nats in self._told(key, *pending[1:]):
                    yield key, other, nats

    def _beyond(self, end: int, way: int, reading: Reading, orgs: Callable[[int], int]) -> tuple[int, list[int]]:
        """The nearest unit beyond an end that anybody has read: how far, and its other readers if it is cold."""
        for j in range(1, weights.TILE_REACH + 1):
            reads, readers = self._readers.at(end + way * j * reading.n)
            if readers:
                others = [key for key, _ in readers if orgs(key) != reading.org]
                return j, others if reads <= weights.TILE_COLD else []
        return 0, []

    def _told(self, key: int, other: int, n: int, gap: int) -> Iterator[tuple[int, float]]:
        shorter = self._runs.touching(key, other, n)
        if shorter:
            yield other, nats(gap, shorter, n)

    def __sizeof__(self) -> int:
        return 200 * (len(self._waiting) + len(self._pending)) + self._runs.__sizeof__()


def nats(gap: int, shorter: int, n: int) -> float:
    """What two runs say that touch within `gap` units, the shorter of which has so many.

    >>> round(nats(1, 20, 20), 1), round(nats(1, 5, 20), 1)
    (10.6, 5.6)
    """
    told = log(region_units(n) / (2 * gap)) + weights.TILE_ADD
    if shorter >= weights.TILE_LONG:
        told += weights.TILE_LONG_ADD
    return min(weights.TILE_CAP, told) + next((less for under, less in weights.TILE_SHORT if shorter < under), 0.0)
