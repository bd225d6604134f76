"""What was seen of two keys, in sentences for a reviewer.

Law: a sentence says what was counted and what was to be expected of keys that have nothing to do with each other; it
holds no address, no id of an item and no name of a collection.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

from headgate.linking.finding import Evidence
from headgate.linking.places import weights
from headgate.linking.places.pairs import Pairs
from headgate.linking.traits import Shared

LEAST = 0.5
"""Nats below which nothing is said."""


def told(pair: tuple[str, str], row: int, pairs: Pairs, shared: Sequence[Shared]) -> list[Evidence]:
    """The items of evidence of one pair, each with its nats."""
    found: list[Evidence] = []
    if pairs.relay[row] > LEAST:
        rarity = _rarity(pairs.relay[row])
        detail = (
            f"{_times(pairs.handed[row])} one went on exactly where the other had stopped, and read nothing of what "
            f"the other had; of two unrelated keys that read as much there, {rarity} shows as much."
        )
        found.append(Evidence("relay", pair, pairs.relay[row], detail))
    if pairs.tiles[row] > LEAST:
        found.append(
            Evidence(
                "tiling",
                pair,
                pairs.tiles[row],
                "Both read a range deeply where hardly anybody reads, and the ranges touch without overlapping.",
            )
        )
    if pairs.holes[row] > LEAST:
        detail = (
            "Each leaves out what the other reads within one stretch, more than two that choose by themselves would; "
            f"{pairs.again[row]} units were read by both."
        )
        found.append(Evidence("holes", pair, pairs.holes[row], detail))
    less = weights.OVERLAP_COST * pairs.again[row] + min(weights.OVERLAP_OLD_CAP, pairs.again_old[row])
    if less > LEAST:
        detail = f"Both have read {pairs.again[row] + pairs.again_old[row]} units; who shares the work need not."
        found.append(Evidence("overlap", pair, -less, detail))
    if pairs.stride[row] > LEAST:
        detail = "Both step through the collection by one and the same odd step, which few others do."
        found.append(Evidence("stride", pair, pairs.stride[row], detail))
    for one in shared:
        detail = f"Both have the same {one.name.replace('_', ' ')}; {one.orgs} orgs have."
        found.append(Evidence(one.name, pair, one.weight, detail))
    return found


def prior(keys: Sequence[str], many: int) -> Evidence:
    """What evidence has to make up for: that two given keys out of many have one operator is unlikely."""
    nats = -log(max(weights.ORGS_LEAST, many)) - weights.PRIOR
    detail = f"Of all pairs of {many} keys, {_rarity(-nats)} is of one operator before anything is known of it."
    return Evidence("prior", tuple(keys), nats, detail)


def _rarity(nats: float) -> str:
    """e^-nats for people.

    >>> _rarity(3), _rarity(8.5), _rarity(30)
    ('one in 20', 'one in 4,900', 'fewer than one in a million')
    """
    if nats > log(1e6):
        return "fewer than one in a million"
    chances = exp(nats)
    digits = 1 - len(str(int(chances)))
    return f"one in {round(chances, min(0, digits + 1)):,.0f}"


def _times(many: int) -> str:
    return "Once" if many == 1 else "Twice" if many == 2 else f"{many} times"
