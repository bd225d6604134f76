"""Stride: keys that step through a collection by one and the same odd step, and take over from each other by it.

What it finds: a partition of ids by their remainder, and walks in a shuffled order: neither leaves edges that touch.

The null model. A step that is seen twice in a key, at places hardly anybody reads, is a setting of its client; how
much it says that another key of the region has it as well goes by its rarity among orgs, as for any trait. A key that
reads exactly one step on from where another stopped, is a relay by that step: the same formula with the key's reads
for its starts, for each of them was a chance, and two places (a step on, a step back) for each step that it has.

Without the demand for coldness at both ends, popular pages gave hundreds of false pairs. What lies within three units
is a walk, and what lies beyond 40,000 items is a jump.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from math import log

from headgate.linking.places import weights
from headgate.linking.places.readers import Readers
from headgate.linking.places.reading import Reading
from headgate.linking.places.relay import late
from headgate.linking.places.units import BITS, region

SLOTS = 32
"""Steps of a key that are remembered as seen once, by 16 bits of a digest: one in 65,536 is taken for another."""

MOST = 1 << 15
"""Steps that are remembered with who has them; the oldest goes first."""

MOST_KEYS = 1 << 15
"""Keys whose steps are remembered; the oldest goes first."""


class Strides:
    """The steps of all keys."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._once = array("H")
        self._of_key: dict[tuple[int, int], list[int]] = {}
        self._holders: dict[tuple[int, int], list[int]] = {}

    def relays(
        self, reading: Reading, orgs: Callable[[int], int], taken: Callable[[int, int], bool]
    ) -> Iterator[tuple[int, float, int]]:
        """The keys that a read goes on from by one of the key's steps: (key, nats, unit that they stopped at)."""
        steps = self._of_key.get((reading.key, reading.code >> BITS))
        if not steps or reading.popularity > weights.COLD:
            return
        places = max(2 * len(steps) / reading.units, reading.popularity / (reading.region_starts + 1))
        for step in steps:
            unit = reading.code - step
            if unit >> BITS != reading.code >> BITS:
                continue
            reads, readers = self._readers.at(unit)
            if reads > weights.COLD:
                continue
            for key, when in readers:
                age = reading.at - when
                if key == reading.key or key in reading.here or orgs(key) == reading.org or age > weights.DAY:
                    continue
                if self._readers.latest(key) != unit or taken(key, unit):
                    continue
                expected = max(1, reading.reads) * places * late(self._readers, key, when, reading.at)
                if expected < weights.RELAY_LEAST:
                    nats = min(weights.RELAY_CAP, -log(expected)) - weights.RELAY_COST
                    if nats > 0:
                        yield key, nats, unit

    def alike(self, reading: Reading, orgs: Callable[[int], int], known: int) -> Iterator[tuple[int, float]]:
        """Learn the step that led to a read; if it is the key's second of that kind: who has it, too, and its nats.

        `known`: orgs that were met so far.
        """
        before = self._readers.latest(reading.key)
        step = reading.code - before
        lane = reading.code >> BITS
        if before >> BITS != lane or abs(step) <= weights.REACH * reading.n or abs(step) > weights.STRIDE_LONGEST:
            return
        if reading.popularity > weights.COLD or self._readers.at(before)[0] > weights.COLD:
            return
        if not self._again(reading.key, lane, step):
            return
        steps = self._of_key.get((reading.key, lane))
        if steps is None:
            if len(self._of_key) >= MOST_KEYS:
                del self._of_key[next(iter(self._of_key))]
            steps = self._of_key[reading.key, lane] = []
        if step in steps or len(steps) >= weights.STRIDES:
            return
        steps.append(step)
        holders = self._holders.get((lane, step))
        if holders is None:
            if len(self._holders) >= MOST:
                del self._holders[next(iter(self._holders))]
            holders = self._holders[lane, step] = []
        alike = len({orgs(key) for key in (*holders, reading.key)})
        share = max(weights.STRIDE_FLOOR, (max(0, alike - 4) + 0.5) / (known + 1))
        there = region(reading.code)
        for key in holders:
            if orgs(key) != reading.org and any(-1 <= region(code) - there <= 1 for code in self._readers.of(key)):
                yield key, min(weights.STRIDE_CAP, log(weights.STRIDE_SAME / share))
        if len(holders) < weights.STRIDE_HOLDERS:
            holders.append(reading.key)

    def _again(self, key: int, lane: int, step: int) -> bool:
        """Whether a step was seen in a key before; it has been from now on."""
        while len(self._once) <= key * SLOTS + SLOTS:
            self._once.extend([0] * SLOTS)
        drawn = hash((lane, step))
        slot, tag = key * SLOTS + drawn % SLOTS, (drawn >> 8 & 0xFFFF) or 1
        if self._once[slot] == tag:
            return True
        self._once[slot] = tag
        return False

    def __sizeof__(self) -> int:
        of_keys = sum([120 + steps.__sizeof__() + 40 * len(steps) for steps in self._of_key.values()])
        return self._once.__sizeof__() + of_keys + sum([160 + 8 * len(keys) for keys in self._holders.values()])
