"""Who read a unit, and when: the postings that each channel looks around in.

Law: a read is remembered once for each key and unit, and is forgotten as the key reads on (its oldest first), as
others read the same unit (all but the latest six), or after a day. How often a unit was read is remembered as long as
any read of it is. So a key costs a bounded room, whatever it reads: a key that floods forgets its own reads, nobody
else's, but that a unit which six keys read is no evidence any more: neither would it be for a crowd of honest ones.

Memory: 25 bytes a read in parallel arrays, four in a table of chains; no object for each. A chain holds the units
of a stretch of eight, so that looking three units around is a walk along two chains.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple

from headgate.linking.places import weights
from headgate.linking.places.units import BITS, Lanes

STRETCH = 8
"""Units of a chain: at least twice REACH + 1, so that what is near lies in two chains at most."""

NOBODY = 0xFFFF_FFFF
"""In place of a read's key: it was pushed out by later readers of the unit, and lies in no chain."""

MOST = 255
"""Reads of a unit that are told apart."""

_MIX = 0x9E37_79B9_7F4A_7C15
_ALL = (1 << 64) - 1


class Around(NamedTuple):
    """What is remembered of reads at a unit and near it.

    `here`: other keys' latest read of the very unit; `near`: of the units within reach, as (distance in units, when);
    `mine`: whether the key itself has read near; `reads`: of the unit among these that was read most.
    """

    here: dict[int, int]
    near: dict[int, list[tuple[int, int]]]
    mine: bool
    reads: int


class Readers:
    """The postings of all keys.

    >>> from headgate.linking.observation import Observation
    >>> lanes = Lanes()
    >>> readers, page = Readers(lanes), Observation(0, "k1", "acme", True, runs=((7, 40, 20),))
    >>> (code, n), (following, _) = lanes.unit(page), lanes.unit(page._replace(runs=((7, 60, 20),)))
    >>> readers.add(1, code, at=5)
    >>> readers.around(2, following, n, at=9)
    Around(here={}, near={1: [(-1, 5)]}, mine=False, reads=1)
    """

    def __init__(self, lanes: Lanes, kept: Callable[[int, int], bool] | None = None) -> None:
        self._lanes = lanes
        self._kept = kept
        self._codes = array("Q", [0])
        self._keys = array("I", [NOBODY])
        self._times = array("I", [0])
        self._after = array("I", [0])
        """The next row of the chain (older)."""
        self._newer = array("I", [0])
        """The next row of the key (newer), or of the free ones."""
        self._reads = array("B", [0])
        self._free = 0
        self._used = 0
        self._shift = 64 - 10
        self._heads = array("I", bytes(4 << 10))
        self._oldest = array("I")
        self._latest = array("I")
        self._last = array("Q")
        self._many = array("H")
        self._again = array("H")
        self._came = array("H")

    def _head(self, code: int, n: int) -> int:
        return ((code // (STRETCH * n)) * _MIX & _ALL) >> self._shift

    def around(self, key: int, code: int, n: int, at: int) -> Around | None:
        """What lies around a unit; None if the key itself has read it (its read is then as of now)."""
        codes, keys, times, after, counts = self._codes, self._keys, self._times, self._after, self._reads
        off, since = self._lanes.slacks[code >> BITS], at - weights.REMEMBERED
        low, high = code - weights.REACH * n - off, code + weights.REACH * n + off
        first, last = self._head(low, n), self._head(high, n)
        here: dict[int, int] = {}
        near: dict[int, list[tuple[int, int]]] = {}
        mine, reads = False, 0
        for head in (first,) if first == last else (first, last):
            row = self._heads[head]
            while row:
                found = codes[row]
                if low <= found <= high:
                    distance, rest = divmod(found - code + off, n)
                    if rest <= 2 * off:
                        who = keys[row]
                        if counts[row] > reads:
                            reads = counts[row]
                        if who == key:
                            if not distance:
                                times[row] = at
                                if self._again[key] < 0xFFFF:
                                    self._again[key] += 1
                                return None
                            mine = True
                        elif times[row] > since:
                            if distance:
                                near.setdefault(who, []).append((distance, times[row]))
                            else:
                                here.setdefault(who, times[row])
                row = after[row]
        return Around(here, near, mine, reads)

    def at(self, code: int) -> tuple[int, list[tuple[int, int]]]:
        """How often a unit was read, and its latest readers, as (key, when)."""
        n = self._lanes.length(code)
        off = self._lanes.slacks[code >> BITS]
        first, last = self._head(code - off, n), self._head(code + off, n)
        reads, found = 0, []
        for head in (first,) if first == last else (first, last):
            row = self._heads[head]
            while row:
                if -off <= self._codes[row] - code <= off:
                    reads = max(reads, self._reads[row])
                    found.append((self._keys[row], self._times[row]))
                row = self._after[row]
        return reads, found

    def add(self, key: int, code: int, at: int) -> None:
        """A key has read a unit that is not remembered of it."""
        while key >= len(self._many):
            self._oldest.append(0)
            self._latest.append(0)
            self._many.append(0)
            self._last.append(0)
            self._again.append(0)
            self._came.append(0)
        head = self._head(code, self._lanes.length(code))
        row = first = self._heads[head]
        reads = readers = before = at_last = last = 0
        while row:
            if self._codes[row] == code:
                reads = max(reads, self._reads[row])
                readers, last, at_last = readers + 1, row, before
            before, row = row, self._after[row]
        new = self._row()
        self._codes[new], self._keys[new], self._times[new] = code, key, at
        self._reads[new] = min(MOST, reads + 1)
        self._after[new] = first
        self._heads[head] = new
        if readers >= weights.READERS:
            # The oldest reader of the unit: found last on the way.
            self._after[at_last or new] = self._after[last]
            self._keys[last] = NOBODY
        self._newer[new] = 0
        if self._latest[key]:
            self._newer[self._latest[key]] = new
        else:
            self._oldest[key] = new
        self._latest[key] = new
        self._many[key] += 1
        self._last[key] = code
        if self._came[key] == 0xFFFF:
            self._came[key] >>= 1
            self._again[key] >>= 1
        self._came[key] += 1
        for _ in range(4):
            if self._many[key] <= weights.READS:
                break
            self._forget_oldest(key)
        if self._used > 2 * len(self._heads):
            self._spread()

    def latest(self, key: int) -> int:
        """The unit that a key came to last; 0 if there was none."""
        return self._last[key] if key < len(self._last) else 0

    def of(self, key: int) -> Iterator[int]:
        """The units that are remembered of a key, the oldest first."""
        row = self._oldest[key] if key < len(self._many) else 0
        while row:
            yield self._codes[row]
            row = self._newer[row]

    def rank(self, key: int, since: int) -> float:
        """The share of a key's remembered reads that are as late as an instant, or later."""
        row, many, late = self._oldest[key], 0, 0
        while row:
            many += 1
            late += self._times[row] >= since
            row = self._newer[row]
        return late / many if many else 1.0

    def since(self, key: int, code: int) -> float:
        """The share of a key's remembered reads that are no earlier than that of a unit; 1 if that is forgotten."""
        row, many, at = self._oldest[key], 0, 0
        while row:
            if self._codes[row] == code:
                at = many
            many += 1
            row = self._newer[row]
        return (many - at) / many if many else 1.0

    def both(self, a: int, b: int) -> int:
        """How many of the units that are remembered of two keys both have read."""
        return len(set(self.of(a)) & set(self.of(b)))

    def again(self, key: int) -> float:
        """The share of a key's reads that it had read before."""
        again = self._again[key] if key < len(self._many) else 0
        return again / (again + self._came[key]) if again else 0.0

    def forget(self, key: int, before: int) -> None:
        """Forget a key's oldest reads if they are from before an instant; a few at a time."""
        if key < len(self._many):
            for _ in range(4):
                row = self._oldest[key]
                if not row or self._times[row] >= before or self._oldest[key] == self._latest[key]:
                    return
                self._forget_oldest(key)

    def _forget_oldest(self, key: int) -> None:
        row = self._oldest[key]
        following = self._newer[row]
        if self._keys[row] != NOBODY and self._kept is not None and self._kept(key, self._codes[row]):
            # The end of a deep run: it becomes the newest, and is looked at again a turn later.
            if following:
                self._oldest[key] = following
                self._newer[self._latest[key]] = row
                self._newer[row] = 0
                self._latest[key] = row
            return
        self._oldest[key] = following
        if not following:
            self._latest[key] = 0
        self._many[key] -= 1
        if self._keys[row] != NOBODY:
            self._unchain(row)
        self._newer[row] = self._free
        self._free = row
        self._used -= 1

    def _unchain(self, row: int) -> None:
        code, after = self._codes[row], self._after
        head = self._head(code, self._lanes.length(code))
        at = self._heads[head]
        if at == row:
            self._heads[head] = after[row]
            return
        while after[at] != row:
            at = after[at]
        after[at] = after[row]

    def _row(self) -> int:
        self._used += 1
        row = self._free
        if row:
            self._free = self._newer[row]
            return row
        for column in (self._codes, self._keys, self._times, self._after, self._newer, self._reads):
            column.append(0)
        return len(self._codes) - 1

    def _spread(self) -> None:
        """Twice as many chains; rows keep their order within each."""
        old = self._heads
        self._shift -= 1
        self._heads = array("I", bytes(8 * len(old)))
        ends = array("I", bytes(8 * len(old)))
        for row in old:
            while row:
                following = self._after[row]
                head = self._head(self._codes[row], self._lanes.length(self._codes[row]))
                self._after[row] = 0
                if ends[head]:
                    self._after[ends[head]] = row
                else:
                    self._heads[head] = row
                ends[head] = row
                row = following

    def __sizeof__(self) -> int:
        columns = (self._codes, self._keys, self._times, self._after, self._newer, self._reads, self._heads)
        return sum(
            [
                part.__sizeof__()
                for part in (*columns, self._oldest, self._latest, self._last, self._many, self._again, self._came)
            ]
        )
