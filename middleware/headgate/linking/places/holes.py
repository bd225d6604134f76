"""Holes: what one key leaves out within what it reads, the other reads, and neither reads what the other has.

The null model. Of two keys that read a region on their own, the second comes upon a unit that the first has read with
probability q: the share of the units around that the first has read lately, but no more than its density in the
region (a dense spot within a thin region is a spot, not a habit). An operator's keys share a queue, and read a unit
again with `HOLE_AGAIN` of that chance. So each unit read beside the other's, and not in it, says ln((1 - r q) / (1 -
q)), and each unit that both have read costs a fixed amount: a sequential likelihood-ratio test.

Spared: crowds (whole-collection readers read everything, and each other's, in the end).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log

from headgate.linking.places import weights
from headgate.linking.places.reading import Chances, Reading


def holes(
    reading: Reading, chances: Chances, orgs: Callable[[int], int], but: set[int]
) -> Iterator[tuple[int, float, bool]]:
    """The keys whose hole the unit fills: (key, nats, whether they read the region at any depth)."""
    if reading.crowded or reading.reads < weights.HOLE_READS:
        return
    around = 2 * weights.REACH
    for key, reads in reading.near.items():
        if key in but or key in reading.here or orgs(key) == reading.org:
            continue
        lately = sum([reading.at - when < weights.HOLE_HOURS for _, when in reads])
        if not lately:
            continue
        depth = chances.reads(key, reading.code)
        if depth >= weights.HOLE_READS:
            yield key, nats(min(lately / around, depth / reading.units, 0.9)), reading.reads & 3 == 0


def nats(share: float) -> float:
    """What a unit says that the other had left out, where `share` of the units around are the other's.

    >>> round(nats(0.5), 2)
    0.63
    """
    return log((1 - weights.HOLE_AGAIN * share) / (1 - share))
