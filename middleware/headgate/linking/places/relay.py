"""Relay: one key goes on where another has just stopped, in a place that nobody else reads.

The null model. A key that starts at a unit has come there by its own reasons. That another key's read lies just
before it happens by chance as often as their chances meet: each start of one times each read-on of the other, times
the share of the region's places that lie within reach of a given one (`REACH / units`), or the share of all starts in
the region that this place draws, if that is more (a popular place is come to by everybody):

    lambda = starts_b * starts_a * max(REACH / units, others / starts_of_all) * share of a's reads since.

Regions are not uniform within, so the same is worked out for the place alone (32 units), and the larger counts: the
null is the one most favourable to innocence. What one relay says is -ln lambda, less the price of looking at three
distances. A start is one coincidence: only the nearest of those that it may have taken over from is paid in full.

One relay is worth what its own chance says; many are worth no more than their number is surprising. Who reads at
random all over a collection comes upon others' places as often as upon any, a little in each region, and each of
those relays looks rare by itself. So what a pair's relays say together is bounded by how unlikely so many are of two
who start as often and in the same regions, whenever: of a number with the mean m, h or more are at most e^-(h ln(h /
m) - h + m) likely (Chernoff 1952).

Spared: who re-reads what the other has read (it walks the listing itself); who starts where a third has read within
three hours (a class, a feed: all start at the same units); crowds, but for the one who has stopped within two
minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log

from headgate.linking.places import weights
from headgate.linking.places.readers import Readers
from headgate.linking.places.reading import Chances, Reading
from headgate.linking.places.units import Lanes, region, region_units


def relays(
    reading: Reading,
    chances: Chances,
    readers: Readers,
    orgs: Callable[[int], int],
    taken: Callable[[int, int], bool],
) -> Iterator[tuple[int, float, int]]:
    """The keys that a start may have taken over from: (key, nats, unit that it stopped at).

    `taken(key, unit)` says whether the pair has had a relay at that unit already.
    """
    if not reading.started or any(
        reading.at - when < weights.QUIET for key, when in reading.here.items() if orgs(key) != reading.org
    ):
        return
    candidates = _before(reading, orgs)
    if not candidates:
        return
    nearest = max(candidates, key=lambda key: candidates[key])
    fresh = _fresh(reading) if reading.crowded else {}
    if reading.crowded and (reading.popularity > weights.THRONG or len(fresh) > weights.FRESH_FEW):
        return
    for key, (distance, when) in candidates.items():
        if reading.crowded:
            if key not in fresh:
                continue
            distance, when = fresh[key]
            if distance > 0:
                continue
        unit = reading.code + distance * reading.n
        if taken(key, unit):
            continue
        expected = chance(reading, chances, readers, key, when)
        if expected >= weights.RELAY_LEAST:
            continue
        nats = min(weights.RELAY_CAP, -log(expected)) - weights.RELAY_COST
        if key != nearest:
            nats = min(nats, weights.RELAY_OTHERS)
        if nats > 0:
            yield key, nats, unit


def chance(reading: Reading, chances: Chances, readers: Readers, key: int, when: int) -> float:
    """How many such relays are to be expected of two keys that have nothing to do with each other."""
    reach = weights.REACH
    # The read itself is one of those that the place has drawn, and the other's is one: the others are what is left.
    drawn = max(0, reading.popularity - 1) / (reading.region_starts + 1)
    by_region = reading.starts * chances.starts(key, reading.code) * max(reach / reading.units, drawn)
    by_place = max(1, reading.local) * chances.local(key, reading.code, reading.n) * reach / weights.PLACE
    return max(by_region, by_place) * late(readers, key, when, reading.at)


def altogether(readers: Readers, chances: Chances, lanes: Lanes, a: int, b: int) -> float:
    """How many relays two strangers would have had by now, in whichever order and however late.

    Over the regions in which both have started, as far as one's remembered reads tell them.
    """
    met: dict[int, float] = {}
    least = 1.0
    for code in readers.of(a):
        there = region(code)
        if there not in met:
            both = chances.begun(a, code) * chances.begun(b, code)
            one = weights.REACH / region_units(lanes.length(code))
            met[there], least = both * one, min(least, one)
    # Counts are halved as they age: of the two that have just met, each has started once at least.
    return max(least, sum(met.values()))


def surprise(many: int, expected: float, lateness: float) -> float:
    """The most that so many relays say, in nats, where `expected` are to be expected.

    `lateness`: the sum of -ln(share of the other's reads that are as late), which is 1 a relay of strangers, and is
    spread as a sum of exponentials: x or more are at most e^-(x - h - h ln(x / h)) likely.

    >>> round(surprise(3, 0.01, 3), 1), round(surprise(9, 7.0, 9), 1), surprise(7, 9.0, 7)
    (14.1, 0.3, 0.0)
    >>> round(surprise(7, 9.0, lateness=20), 1)
    5.7
    """
    often = many * log(many / expected) - many + expected if many > expected > 0 else 0.0
    late = lateness - many - many * log(lateness / many) if lateness > many > 0 else 0.0
    return often + late


def late(readers: Readers, key: int, when: int, at: int) -> float:
    """How likely it is that a read of a key, drawn at random from those of a day, is as late as one is.

    The share of the key's reads that are; but at least that of the time: an hour's silence is no hand-over.
    """
    return max(weights.LATE * readers.rank(key, when), min(1.0, 4 * (at - when + 5) / weights.DAY))


def _before(reading: Reading, orgs: Callable[[int], int]) -> dict[int, tuple[int, int]]:
    """The nearest, then latest, read of each other org's key just before the unit."""
    found: dict[int, tuple[int, int]] = {}
    for key, reads in reading.near.items():
        if key not in reading.here and orgs(key) != reading.org:
            before = [read for read in reads if read[0] < 0]
            if before:
                found[key] = max(before)
    return found


def _fresh(reading: Reading) -> dict[int, tuple[int, int]]:
    """Of each key near, its best read of the last two minutes."""
    found: dict[int, tuple[int, int]] = {}
    for key, reads in reading.near.items():
        lately = [read for read in reads if reading.at - read[1] < weights.FRESH]
        if lately:
            found[key] = max([read for read in lately if read[0] < 0] or lately)
    return found
