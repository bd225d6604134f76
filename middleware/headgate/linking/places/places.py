"""Watches which items of a collection each key was handed, and finds keys that share out the work.

Law: what is said of an instant rests on the observations before it, in their order; a pair is opened by places alone.
`saw` costs a bounded time (some ten look-ups, at most 32 pairs and one group), and a key a bounded room (`BYTES`).
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log

from headgate.linking.finding import Evidence, Finding
from headgate.linking.observation import Observation
from headgate.linking.places import telling, weights
from headgate.linking.places.groups import Groups
from headgate.linking.places.holes import holes
from headgate.linking.places.keys import Keys
from headgate.linking.places.pairs import Pairs
from headgate.linking.places.readers import Readers
from headgate.linking.places.reading import Chances, Reading
from headgate.linking.places.relay import altogether, relays, surprise
from headgate.linking.places.scoring import Scores
from headgate.linking.places.stride import Strides
from headgate.linking.places.tiling import Runs, Tiling
from headgate.linking.places.units import Lanes, region, region_units
from headgate.linking.traits import Traits

MOST_TOLD = 200
"""Items of evidence of a finding, the strongest."""

SECOND = 1_000_000


class Places:
    """One operator's walk through a collection behind many keys.

    >>> from headgate.linking.observation import Observation
    >>> places = Places()
    >>> places.saw(Observation(0, "k1", "acme", True, runs=((7, 40, 20),)))
    >>> places.findings()
    []
    """

    def __init__(self) -> None:
        self._keys = Keys()
        self._lanes = Lanes()
        self._runs = Runs(self._lanes)
        self._readers = Readers(self._lanes, self._runs.ends)
        self._chances = Chances()
        self._pairs = Pairs()
        self._traits = Traits()
        self._strides = Strides(self._readers)
        self._tiling = Tiling(self._runs, self._readers)
        self._scores = Scores(self._pairs, self._traits, self._readers.again)
        self._groups = Groups(self._scores, self._keys.org)
        self._begun: int | None = None
        self._now = 0
        self._swept = 0
        self._hand = 0

    def saw(self, observation: Observation) -> None:
        """Take in one request."""
        key = self._keys.number(observation.key, observation.org)
        if self._begun is None:
            self._begun = observation.at
        # Logs are a few seconds out of order; time does not go back.
        now = self._now = max(self._now, (observation.at - self._begun) // SECOND)
        if now - self._swept >= weights.HOUR:
            self._sweep(now, observation.at)
        for one, other, nats in self._tiling.due(now):
            self._tile(one, other, nats)
            self._groups.consider(one, other, len(self._keys), observation.at)
        if observation.traits:
            self._traits.saw(key, self._keys.org(key), observation.traits)
        self._forget()
        unit = self._lanes.unit(observation)
        if unit:
            for other in self._read(key, *unit):
                self._groups.consider(key, other, len(self._keys), observation.at)

    def findings(self, told: bool = True) -> list[Finding]:
        """The groups of the moment, the surest first; without their evidence, which costs less, if not `told`."""
        found = [self._finding(group, told) for group in self._groups.members]
        return sorted([one for one in found if one], key=lambda one: -one.confidence)

    def _read(self, key: int, code: int, n: int) -> dict[int, None]:
        """A key has read a unit; says the keys of which more is known now."""
        org, now, orgs = self._keys.org(key), self._now, self._keys.org
        around = self._readers.around(key, code, n, now)
        if around is None:
            return {}
        started = not around.mine
        self._chances.room(len(self._keys))
        starts, reads, local, all_starts = self._chances.note(key, code, n, started)
        reading = Reading(
            key, org, now, code, n, around.here, around.near, started, around.reads, starts, reads, local, all_starts,
            region_units(n),
        )  # fmt: skip
        touched: dict[int, None] = {}
        self._overlaps(reading, touched)
        for other, nats, unit in self._strides.relays(reading, orgs, self._taken(key)):
            self._hand_over(key, other, nats, unit, touched, stepped=True)
        for other, nats in self._strides.alike(reading, orgs, self._keys.orgs):
            row = self._pairs.open(key, other, self._now)
            self._pairs.stride[row] = max(self._pairs.stride[row], nats)
            touched[other] = None
        for other, nats in self._tiling.tiles(reading, orgs):
            self._tile(key, other, nats)
            touched[other] = None
        handed: set[int] = set()
        if around.near:
            if now > weights.WARM:
                for other, nats, unit in relays(reading, self._chances, self._readers, orgs, self._taken(key)):
                    self._hand_over(key, other, nats, unit, touched)
                    handed.add(other)
            for other, nats, deep in holes(reading, self._chances, orgs, handed):
                row = self._pairs.find(key, other)
                if row or nats >= weights.HOLE_OPENS:
                    row = row or self._pairs.open(key, other, self._now)
                    self._pairs.holes[row] += nats
                    self._pairs.grown[row] = now
                    if deep:
                        touched[other] = None
        self._readers.add(key, code, now)
        return touched

    def _taken(self, key: int) -> Callable[[int, int], bool]:
        """Whether a key and another have had a relay at the place of a unit, or at one taken for it, already."""

        def taken(other: int, unit: int) -> bool:
            row = self._pairs.find(key, other)
            return bool(row) and bool(self._pairs.spots[row] & self._spot(unit))

        return taken

    def _spot(self, unit: int) -> int:
        return 1 << hash((unit // (weights.SPOT * self._lanes.length(unit)),)) % 64

    def _overlaps(self, reading: Reading, touched: dict[int, None]) -> None:
        for other, when in reading.here.items():
            if self._keys.org(other) == reading.org or reading.at - when >= weights.DAY // 2:
                continue
            row = self._pairs.find(reading.key, other)
            if row:
                lately = reading.at - when < weights.HOLE_HOURS and reading.popularity <= weights.CROWD
                column = self._pairs.again if lately else self._pairs.again_old
                column[row] = min(0xFFFF, column[row] + 1)
                touched[other] = None

    def _hand_over(
        self, key: int, other: int, nats: float, unit: int, touched: dict[int, None], stepped: bool = False
    ) -> None:
        pairs = self._pairs
        row = self._pairs.open(key, other, self._now)
        hour = 1 + self._now // weights.HOUR
        pairs.handed[row] = min(255, pairs.handed[row] + 1)
        # Of a number with the mean m, h or more are as likely as m^h / h!: the h-th leaves ln h less than -ln m.
        nats = max(0.0, nats - weights.REPEATED * log(pairs.handed[row]))
        if nats > weights.RELAY_FULL:
            if pairs.hour[row] and (pairs.hour[row] != hour or pairs.region[row] != region(unit) & 0xFFFF):
                pairs.apart[row] = 1
            pairs.hour[row], pairs.region[row] = hour, region(unit) & 0xFFFF
        pairs.relay[row] += nats
        if stepped:
            # A step beyond reach has a null of its own: how many walk in it.
            pairs.stepped[row] += nats
        else:
            pairs.late[row] -= log(self._readers.since(other, unit))
            expected = altogether(self._readers, self._chances, self._lanes, key, other)
            most = pairs.stepped[row] + surprise(pairs.handed[row], expected, pairs.late[row])
            pairs.relay[row] = min(pairs.relay[row], most)
        pairs.spots[row] |= self._spot(unit)
        pairs.grown[row] = self._now
        touched[other] = None

    def _tile(self, key: int, other: int, nats: float) -> None:
        row = self._pairs.open(key, other, self._now)
        if not self._pairs.tiles[row]:
            # Ranges that touch here may overlap there: what both had read before counts as well.
            self._pairs.again_old[row] += self._readers.both(key, other)
        self._pairs.tiles[row] = max(self._pairs.tiles[row], nats)
        self._pairs.grown[row] = self._now

    def _forget(self) -> None:
        """One key at a time: what is too old of it, or tells too little."""
        self._hand = self._hand + 1 if self._hand < len(self._keys) else 1
        self._readers.forget(self._hand, self._now - weights.REMEMBERED)
        self._pairs.forget_stale(self._hand, self._now)

    def _sweep(self, now: int, at: int) -> None:
        self._chances.age((now - self._swept) / weights.DAY)
        self._swept = now
        self._groups.sweep(len(self._keys), at)

    def _finding(self, group: int, told: bool) -> Finding | None:
        supports = self._groups.fitting(group)
        if not supports:
            return None
        joined, found = self._groups.members[group], self._groups.found.get(group)
        score = sum(supports.values()) / len(supports)
        confidence = min(weights.SUREST, 1 / (1 + exp(-(score - 6) / 2)))
        if found is None:
            confidence = min(confidence, weights.UNSURE)
        elif score >= weights.KEEP:
            confidence = max(confidence, weights.SURE)
        names = {self._keys.name(key): max(joined[key], found or 0) for key in supports}
        orgs = dict.fromkeys([self._keys.org_name(key) for key in supports])
        evidence = self._evidence(list(supports)) if told else ()
        return Finding(names, tuple(sorted(orgs)), round(confidence, 4), evidence)

    def _evidence(self, keys: list[int]) -> tuple[Evidence, ...]:
        told: list[Evidence] = []
        for i, a in enumerate(keys):
            for b in keys[:i]:
                row = self._pairs.find(a, b)
                if row:
                    names = (self._keys.name(b), self._keys.name(a))
                    told += telling.told(names, row, self._pairs, self._traits.shared(a, b))
        told.sort(key=lambda one: (-abs(one.weight), one.keys))
        return (telling.prior([self._keys.name(key) for key in keys], len(self._keys)), *told[:MOST_TOLD])

    def __sizeof__(self) -> int:
        parts = (
            self._keys, self._readers, self._chances, self._pairs, self._traits, self._strides, self._tiling,
        )  # fmt: skip
        return sum([part.__sizeof__() for part in parts])
