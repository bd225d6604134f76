"""How much a key's pairs with the members of a group say together.

Law: evidence that came of one cause counts once, and evidence that comes to everybody counts little.

- A pair's evidence is an e-value: under the null of each channel, its expected e^E is one at most. The sum over a
  group's pairs is none, for an operator's keys need not meet two by two. So each pair counts as the mixture
  ln(1 - p + p e^E): a pair that shows nothing costs ln(1 - p) only, and one that shows much gives E + ln p.
- A range has two ends: of the members, two at most touch it. That one of m does by chance is m / 2 times as likely,
  so a full tile counts E - ln(m / 2).
- Hubs: a key that has met many outside the group would have met some within by chance. From what places say, a share
  of ln(1 + its partners outside) is taken, for both keys of a pair. Without it, all the busiest keys made one group.
- Traits are the best member's and a quarter of the second's: they are one account's habits, not each pair's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import exp, log

from headgate.linking.places import weights
from headgate.linking.places.pairs import Pairs
from headgate.linking.traits import Traits


class Scores:
    """Reads pairs and traits; keeps nothing but the partners of each key."""

    def __init__(self, pairs: Pairs, traits: Traits, again: Callable[[int], float]) -> None:
        self.pairs = pairs
        self.traits = traits
        self._again = again

    def places(self, row: int) -> float:
        """What a pair's places say, less what both have read."""
        pairs = self.pairs
        return (
            pairs.relay[row]
            + pairs.holes[row]
            + self.tile(row)
            - weights.OVERLAP_COST * pairs.again[row]
            - min(weights.OVERLAP_OLD_CAP, pairs.again_old[row])
        )

    def tile(self, row: int) -> float:
        """What a pair's ranges that touch say; nothing if one of the two lives there."""
        told = self.pairs.tiles[row]
        return told if told and max(map(self._again, self.pairs.keys(row))) < weights.TILE_AGAIN else 0.0

    def moved(self, members: Sequence[int]) -> float:
        """What relays and holes say among members, whose ranges are left out."""
        told = 0.0
        for i, a in enumerate(members):
            for b in members[:i]:
                row = self.pairs.find(a, b)
                told += self.pairs.relay[row] + self.pairs.holes[row]
        return told

    def shared(self, a: int, b: int, row: int) -> float:
        """What a pair's traits say, and the step of their client; worked out anew when one showed a new trait."""
        pairs, known = self.pairs, self.traits.known(a) + self.traits.known(b) + 1
        if pairs.known[row] != known:
            pairs.known[row] = known
            pairs.trait[row] = self.traits.weight(a, b)
        return pairs.trait[row] + pairs.stride[row]

    def support(self, key: int, members: Collection[int], size: int = 0) -> tuple[float, int, bool]:
        """What a key's pairs with members say: nats, how many of them support it, and whether a full tile is one.

        `size`: keys of the group with those that would come with the key; members count as they are.
        """
        pairs = self.pairs
        met = [(member, row) for member in members if member != key and (row := pairs.find(key, member))]
        if not met:
            return 0.0, 0, False
        size = max(size, len(members))
        inside = sum([pairs.hot[row] for _, row in met])
        own = log(1 + max(0, pairs.partners(key) - inside - max(0, size - len(members) - 1)))
        told, supporting, tiled = 0.0, 0, False
        traits: list[float] = []
        for member, row in met:
            places = max(-6.0, min(weights.PAIR_CAP, self.places(row)))
            shared = self.shared(key, member, row)
            tile = self.tile(row)
            full = tile > weights.TILE_FULL and pairs.again[row] + pairs.again_old[row] <= weights.TILE_BOTH
            if places > 0:
                theirs = log(1 + max(0, pairs.partners(member) - size))
                places = max(min(places, tile), places - weights.HUB * (own + theirs))
            told += places - log(max(1.0, size / 2)) if full else mixed(places)
            if shared:
                traits.append(shared)
            tiled = tiled or full
            supporting += places > weights.SUPPORT or (places > weights.HOT and places + shared > 7)
        traits.sort(reverse=True)
        return told + sum(traits[:1]) + sum(traits[1:2]) / 4, supporting, tiled


def mixed(nats: float) -> float:
    """What a pair's evidence is worth where only a share of an operator's pairs shows any.

    >>> round(mixed(0), 2), round(mixed(10), 2), round(mixed(-6), 2)
    (0.0, 8.61, -2.0)
    """
    if nats <= -3:
        return nats / 3
    return log(1 - weights.MIXED + weights.MIXED * exp(nats))
