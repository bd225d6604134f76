"""One read of one unit with all that the channels ask about it, worked out once.

Law: this only counts and describes; what it means is for `relay`, `holes`, `tiling` and `stride` to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from headgate.linking.places import weights
from headgate.linking.places.counts import Counts
from headgate.linking.places.units import region

READS, ALL, STARTS, LOCAL = range(4)
"""Kinds of what is counted: a key's reads in a region, anybody's starts; a key's starts there and at a place."""

DEEP = 16
WIDE = 32
"""Cells of a row for each key: it reads in some 20 regions, and starts at some 40 places, within a day."""


@dataclass(slots=True)
class Reading:
    """A key reads a unit that it has not read before (as far as is remembered).

    `at` in seconds; `here`, `near`: as `readers.Around` has them; `started`: the key has read nothing within reach,
    so it has come from elsewhere; `popularity`: reads of the unit within reach that was read most; `starts`, `reads`,
    `local`: the key's own counts in the region and the place, this read included; `units`: units of a region.
    """

    key: int
    org: int
    at: int
    code: int
    n: int
    here: dict[int, int]
    near: dict[int, list[tuple[int, int]]]
    started: bool
    popularity: int
    starts: int
    reads: int
    local: int
    region_starts: int
    units: float

    @property
    def crowded(self) -> bool:
        """Whether so many read here that nearness tells nothing."""
        return self.popularity > weights.CROWD or len(self.near) > weights.NEAR_CROWD


class Chances:
    """How often each key starts and reads, in a region and at a place: the chances that the null models multiply.

    The counts halve within a day, as reads are forgotten. 128 bytes a key, to 256 just after they have grown.
    """

    def __init__(self) -> None:
        self._deep = Counts(narrow=False)
        self._wide = Counts(narrow=True)

    def note(self, key: int, code: int, n: int, started: bool) -> tuple[int, int, int, int]:
        """Count a read; says the key's starts, its reads, its starts at the place, and anybody's starts."""
        there = region(code)
        reads = self._deep.add((READS, key, there))
        if not started:
            return self.starts(key, code), reads, self.local(key, code, n), self._deep.of((ALL, there))
        starts = self._wide.add((STARTS, key, there))
        local = self._wide.add((LOCAL, key, code // (weights.PLACE * n), n))
        return starts, reads, local, self._deep.add((ALL, there))

    def starts(self, key: int, code: int) -> int:
        """Starts of a key in the region of a unit; 1 at least."""
        return max(1, self._wide.of((STARTS, key, region(code))))

    def begun(self, key: int, code: int) -> int:
        """Starts of a key in the region of a unit; 0 where it has made none."""
        return self._wide.of((STARTS, key, region(code)))

    def reads(self, key: int, code: int) -> int:
        """Reads of a key in the region of a unit; 1 at least."""
        return max(1, self._deep.of((READS, key, region(code))))

    def local(self, key: int, code: int, n: int) -> int:
        """Starts of a key at the place of a unit; 1 at least."""
        return max(1, self._wide.of((LOCAL, key, code // (weights.PLACE * n), n)))

    def room(self, keys: int) -> None:
        """Make room for so many keys."""
        self._deep.room(keys * DEEP)
        self._wide.room(keys * WIDE)

    def age(self, hand: float) -> None:
        """Halve a part (0 to 1) of the counts; the next part comes next."""
        self._deep.age(int(len(self._deep) * hand) + 1)
        self._wide.age(int(len(self._wide) * hand) + 1)

    def __sizeof__(self) -> int:
        return self._deep.__sizeof__() + self._wide.__sizeof__()
