"""What third keys say of two.

Law: if one operator is behind two keys, it is behind others that are like both. A pair that stands alone, or whose
keys are like very many, is judged down; one in the midst of others that hold together is judged up. Of one org only
the best key counts: an org with forty keys is one witness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log1p
from typing import NamedTuple

LOWEST = -3.0
"""Nats under which a pair is taken for unrelated and kept no longer."""

SUPPORT = (
    "pair", "pair_below_even", "third_1", "third_2", "third_3", "third_4",
    "thirds", "thirds_above_even", "like_fewer", "like_more", "share_fewer", "share_more",
)  # fmt: skip
"""What is looked at, in the order of the weights."""


class Supports(NamedTuple):
    """A fitted sum over the numbers of SUPPORT."""

    start: float
    each: tuple[float, ...]

    def nats(self, numbers: Sequence[float]) -> float:
        """The logarithm of the odds that one operator is behind the two."""
        return self.start + sum([number * weight for number, weight in zip(numbers, self.each, strict=True)])


def support(
    nats: float, of_a: Mapping[int, float], of_b: Mapping[int, float], org: Sequence[int], a: int, b: int
) -> list[float]:
    """The numbers of SUPPORT for two keys: `nats` of their own, and those with all others that each is like."""
    fewer, more = (of_a, of_b) if len(of_a) <= len(of_b) else (of_b, of_a)
    best: dict[int, float] = {}
    for third, one in fewer.items():
        other = more.get(third)
        if other is not None and org[third] != org[a] and org[third] != org[b]:
            weaker = min(one, other)
            if weaker > best.get(org[third], LOWEST):
                best[org[third]] = weaker
    thirds = sorted(best.values(), reverse=True)
    like_a = sum(one > -2 for one in of_a.values())
    like_b = sum(one > -2 for one in of_b.values())
    less, most = min(like_a, like_b), max(like_a, like_b)
    good = sum(one > -2 for one in thirds)
    return [
        max(nats, -8.0),
        min(nats, 0.0),
        *(thirds + [LOWEST] * 4)[:4],
        log1p(good),
        log1p(sum(one > 0 for one in thirds)),
        log1p(less),
        log1p(most),
        (good + 0.5) / (less + 1),
        (good + 0.5) / (most + 1),
    ]
