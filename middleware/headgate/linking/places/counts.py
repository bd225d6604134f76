"""How often something was done, counted in a room that does not grow with what it was done to.

Law: a count is never too small. What is counted here stands in the null models as the number of chances there were;
too many chances only make a coincidence look likelier: the error is on the side of the innocent.

A count-min sketch with conservative update (Cormode and Muthukrishnan 2005; Estan and Varghese 2002) of two rows. It
grows with the number of keys, by copying itself: what a cell counted stays an upper bound of each half's. Tuples of
whole numbers have the same `hash` in every process, whatever PYTHONHASHSEED.
"""

from __future__ import annotations

from array import array


class Counts:
    """Counts by a tuple of whole numbers, up to 255 (`narrow`) or 65,535.

    >>> counts = Counts(narrow=True)
    >>> counts.add((1, 2)), counts.add((1, 2)), counts.of((1, 2)), counts.of((2, 1))
    (1, 2, 2, 0)
    """

    def __init__(self, narrow: bool, cells: int = 1 << 12) -> None:
        self._most = 0xFF if narrow else 0xFFFF
        self._one = array("B" if narrow else "H", [0]) * cells
        self._two = self._one[:]
        self._mask = cells - 1
        self._hand = 0

    def add(self, what: tuple[int, ...]) -> int:
        """Count once more; says the count."""
        drawn = hash(what)
        one, two = drawn & self._mask, drawn >> 31 & self._mask
        count = min(self._one[one], self._two[two], self._most - 1) + 1
        if self._one[one] < count:
            self._one[one] = count
        if self._two[two] < count:
            self._two[two] = count
        return count

    def of(self, what: tuple[int, ...]) -> int:
        """The count, or somewhat more."""
        drawn = hash(what)
        return min(self._one[drawn & self._mask], self._two[drawn >> 31 & self._mask])

    def age(self, cells: int) -> None:
        """Halve the next few cells; a turn over all of them is a half-life."""
        end = min(self._hand + cells, len(self))
        for at in range(self._hand, end):
            self._one[at] >>= 1
            self._two[at] >>= 1
        self._hand = end if end < len(self) else 0

    def room(self, cells: int) -> None:
        """See to it that a row has so many cells."""
        while len(self) < cells:
            self._one, self._two = self._one + self._one, self._two + self._two
            self._mask = 2 * self._mask + 1

    def __len__(self) -> int:
        return self._mask + 1

    def __sizeof__(self) -> int:
        return self._one.__sizeof__() + self._two.__sizeof__()
