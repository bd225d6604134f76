"""What two keys have met in: one row for each pair that anything was seen of.

Law: a row holds sums, never what they came from, and a key has no more than 32: the weakest goes first. So whoever
makes coincidences with many keys pushes out their own weakest pairs; a strong one cannot be pushed out but by
stronger ones, and in a group's bookkeeping each of those would count against the key (`scoring`, hub).

Memory: 70 bytes a pair in parallel arrays and four in a table of chains.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from headgate.linking.places import weights

_MIX = 0x9E37_79B9_7F4A_7C15
_ALL = (1 << 64) - 1


class Pairs:
    """The pairs of all keys; a pair is known by its row, and row 0 is none.

    Columns: `relay` (of it `stepped` by a stride), `late` (see `relay.surprise`), `holes`, `tiles`, `stride`
    (nats); `handed` (relays counted); `again`, `again_old` (units that both read, lately or in crowds); `hot` (it
    counts as a partnership); `looked` (the evidence when a group was last sought); `spots` (places relayed at, a
    bit each), `hour` and `region` (of the last full relay) and `apart` (relays in two hours or two places were
    seen); `grown` (seconds, when evidence was last added); `trait` (nats of shared traits, as of `known` traits).

    >>> pairs = Pairs()
    >>> row = pairs.open(4, 2, at=0)
    >>> pairs.find(2, 4) == row, pairs.find(2, 5), list(pairs.of(4))
    (True, 0, [(2, 1)])
    """

    def __init__(self) -> None:
        self._low = array("I", [0])
        self._high = array("I", [0])
        self._after = array("I", [0])
        self._after_low = array("I", [0])
        self._after_high = array("I", [0])
        self.relay = array("f", [0])
        self.late = array("f", [0])
        self.stepped = array("f", [0])
        self.holes = array("f", [0])
        self.tiles = array("f", [0])
        self.stride = array("f", [0])
        self.looked = array("f", [0])
        self.trait = array("f", [0])
        self.spots = array("Q", [0])
        self.hour = array("H", [0])
        self.region = array("H", [0])
        self.grown = array("I", [0])
        self.again = array("H", [0])
        self.again_old = array("H", [0])
        self.known = array("B", [0])
        self.handed = array("B", [0])
        self.hot = array("B", [0])
        self.apart = array("B", [0])
        self._evidence = (
            self.relay,
            self.late,
            self.stepped,
            self.holes,
            self.tiles,
            self.stride,
            self.looked,
            self.trait,
        )
        self._counted = (
            self.spots,
            self.hour,
            self.region,
            self.again,
            self.again_old,
            self.known,
            self.handed,
            self.hot,
            self.apart,
        )
        self._links = (self._low, self._high, self._after, self._after_low, self._after_high, self.grown)
        self._free = 0
        self._used = 0
        self._shift = 64 - 10
        self._heads = array("I", bytes(4 << 10))
        self._first = array("I")
        self._many = array("B")
        self._partners = array("B")

    def _head(self, low: int, high: int) -> int:
        return ((low << 32 | high) * _MIX & _ALL) >> self._shift

    def find(self, a: int, b: int) -> int:
        """The row of a pair; 0 if there is none."""
        low, high = (a, b) if a < b else (b, a)
        row = self._heads[self._head(low, high)]
        while row and (self._low[row] != low or self._high[row] != high):
            row = self._after[row]
        return row

    def open(self, a: int, b: int, at: int) -> int:
        """The row of a pair, made if need be; what is weakest of either key makes room."""
        row = self.find(a, b)
        if row:
            return row
        low, high = (a, b) if a < b else (b, a)
        while high >= len(self._many):
            self._first.append(0)
            self._many.append(0)
            self._partners.append(0)
        for key in (low, high):
            if self._many[key] >= weights.PAIRS:
                self.forget(min([row for _, row in self.of(key)], key=self.strength))
        row = self._row()
        head = self._head(low, high)
        self._low[row], self._high[row], self.grown[row] = low, high, at
        self._after[row], self._heads[head] = self._heads[head], row
        self._after_low[row], self._first[low] = self._first[low], row
        self._after_high[row], self._first[high] = self._first[high], row
        self._many[low] += 1
        self._many[high] += 1
        if self._used > 2 * len(self._heads):
            self._spread()
        return row

    def of(self, key: int) -> Iterator[tuple[int, int]]:
        """The pairs of a key, as (the other key, row), the latest made first."""
        row = self._first[key] if key < len(self._many) else 0
        while row:
            if self._low[row] == key:
                other, following = self._high[row], self._after_low[row]
            else:
                other, following = self._low[row], self._after_high[row]
            yield other, row
            row = following

    def keys(self, row: int) -> tuple[int, int]:
        """The two keys of a pair."""
        return self._low[row], self._high[row]

    def strength(self, row: int) -> float:
        """What a pair says by places, for or against."""
        return self.relay[row] + self.holes[row] + self.tiles[row] + self.again[row] + self.again_old[row] / 4

    def partners(self, key: int) -> int:
        """Pairs of a key that are hot."""
        return self._partners[key] if key < len(self._many) else 0

    def heat(self, row: int) -> None:
        """From now on, a pair counts as a partnership of its keys."""
        if not self.hot[row]:
            self.hot[row] = 1
            self._partners[self._low[row]] += 1
            self._partners[self._high[row]] += 1

    def forget(self, row: int) -> None:
        """Forget a pair."""
        low, high = self._low[row], self._high[row]
        self._cut(self._heads, self._head(low, high), row, 0)
        for key in (low, high):
            self._cut(self._first, key, row, key)
            self._many[key] -= 1
            self._partners[key] -= self.hot[row]
        for column in self._evidence:
            column[row] = 0.0
        for counted in self._counted:
            counted[row] = 0
        self._after[row], self._free = self._free, row
        self._used -= 1

    def forget_stale(self, key: int, at: int) -> None:
        """Forget the pairs of a key that have said next to nothing for long."""
        stale = [
            row for _, row in self.of(key) if at - self.grown[row] > weights.STALE and abs(self.strength(row)) < 1.0
        ]
        for row in stale:
            self.forget(row)

    def _cut(self, heads: array[int], head: int, row: int, key: int) -> None:
        """Take a row out of a chain: of its bucket (key 0 and the table's heads), or of a key's pairs."""
        at, before = heads[head], 0
        while at != row:
            before, at = at, self._following(heads, at, key)[at]
        following = self._following(heads, row, key)[row]
        if before:
            self._following(heads, before, key)[before] = following
        else:
            heads[head] = following

    def _following(self, heads: array[int], row: int, key: int) -> array[int]:
        if heads is self._heads:
            return self._after
        return self._after_low if self._low[row] == key else self._after_high

    def _row(self) -> int:
        self._used += 1
        row = self._free
        if row:
            self._free = self._after[row]
            return row
        for column in self._evidence:
            column.append(0.0)
        for counted in (*self._counted, *self._links):
            counted.append(0)
        return len(self._low) - 1

    def _spread(self) -> None:
        rows = [row for head in self._heads for row in self._chain(head)]
        self._shift -= 1
        self._heads = array("I", bytes(8 * len(self._heads)))
        for row in rows:
            head = self._head(self._low[row], self._high[row])
            self._after[row], self._heads[head] = self._heads[head], row

    def _chain(self, row: int) -> list[int]:
        rows = []
        while row:
            rows.append(row)
            row = self._after[row]
        return rows

    def __sizeof__(self) -> int:
        columns = (
            *self._evidence,
            *self._counted,
            *self._links,
            self._heads,
            self._first,
            self._many,
            self._partners,
        )
        return sum([part.__sizeof__() for part in columns])
