"""How much likelier it is that one operator is behind two keys, from what they met in.

Law: it is a sum that can be read. Each number looked at, and each product of two that was chosen, has a fitted
weight; their sum in nats is the logarithm of the odds. What is met is set against what is to be expected of two
keys that have nothing to do with each other: all meetings of that kind so far, spread over the pairs in proportion
to what each key has shown,

    expected = 2 · met · shown_a · shown_b / shown².

Without the product of what the two have shown, busy keys would be like everybody. The null is counted from the very
traffic that is being judged, and goes along with it. No number counts beyond four of its usual spreads: what was
never seen where the weights were fitted must not carry a decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, log1p
from typing import NamedTuple

from headgate.linking.content.keys import Keys
from headgate.linking.content.kinds import CLAUSE, COUNTS, FIELD, NAME, OPENING, QUESTION, TEMPLATE, WHOLE, counts

MEASURED = range(1, COUNTS.index("question_crowd"))
"""The counts that are set against an expectation."""

_SPREAD_OVER = (QUESTION, QUESTION, CLAUSE, CLAUSE, TEMPLATE, OPENING, NAME, NAME, WHOLE, CLAUSE, QUESTION)
_CLAUSE, _CLAUSE_SAME, _TEMPLATE, _WHOLE, _PROMPT = (
    COUNTS.index(name) for name in ("clause", "clause_same", "template", "whole", "prompt")
)

FEATURES = (
    *(f"{COUNTS[kind]}:{how}" for kind in MEASURED for how in ("many", "beyond")),
    *(f"{name}:many" for name in COUNTS[MEASURED.stop :]),
    "prompts:fewer",
    "prompts:more",
    "variety:templates",
    "variety:clauses",
    "template:share",
    "prompt:share",
    "whole:share",
    "traits:nats",
    "signup:together",
)
"""What is looked at, in the order of the weights."""

TOGETHER = 900_000_000
"""Microseconds (a quarter of an hour) within which two accounts are said to have been made together."""

CLIP = 4.0
"""Spreads from the mean beyond which a number counts no more."""

_MANY = tuple(log1p(many) for many in range(2 * FIELD + 1))
_SOME = tuple(log(many + 0.3) for many in range(2 * FIELD + 1))


class Weights(NamedTuple):
    """A fitted sum over numbers that are centred, scaled and clipped first: `start`, one weight each, and products.

    `usual`: the mean of each number, so prepared, over pairs that have nothing to do with each other.
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    start: float
    each: tuple[float, ...]
    products: tuple[tuple[int, int, float], ...]
    usual: tuple[float, ...]

    def prepared(self, numbers: Sequence[float]) -> list[float]:
        """The numbers as they are weighed."""
        found = []
        for number, mean, spread in zip(numbers, self.mean, self.spread, strict=True):
            scaled = (number - mean) / spread
            found.append(CLIP if scaled > CLIP else -CLIP if scaled < -CLIP else scaled)
        return found

    def nats(self, numbers: Sequence[float]) -> float:
        """The logarithm of the odds."""
        ready = self.prepared(numbers)
        total = self.start
        for number, weight in zip(ready, self.each, strict=True):
            total += number * weight
        for one, other, weight in self.products:
            total += ready[one] * ready[other] * weight
        return total

    def parts(self, numbers: Sequence[float]) -> list[float]:
        """What each number adds to the odds of a usual pair; of a product, each of the two has half.

        The last one is what a usual pair starts from: all of them together are `nats`.
        """
        ready = self.prepared(numbers)
        usual = self.usual
        found = [(number - usual_) * weight for number, usual_, weight in zip(ready, usual, self.each, strict=True)]
        start = self.start + sum([usual_ * weight for usual_, weight in zip(usual, self.each, strict=True)])
        for one, other, weight in self.products:
            start += usual[one] * usual[other] * weight
            more = (ready[one] * ready[other] - usual[one] * usual[other]) * weight / 2
            found[one] += more
            found[other] += more
        return [*found, start]


def expected(kind: int, keys: Keys, met: Sequence[int], a: int, b: int) -> float:
    """Meetings of a kind (its place in COUNTS) that two keys would have by chance."""
    over = _SPREAD_OVER[kind - 1]
    shown, total = keys.shown[over], keys.total[over]
    return 2.0 * met[kind] * shown[a] * shown[b] / (total * total) if total else 0.0


def features(record: int, keys: Keys, met: Sequence[int], a: int, b: int, traits: float) -> list[float]:
    """The numbers of FEATURES for a pair. `traits`: what their accounts and connections say, in nats."""
    have = counts(record)
    shares = [shown[a] * shown[b] / (total * total or 1) for shown, total in zip(keys.shown, keys.total, strict=True)]
    found = []
    for kind, over in zip(MEASURED, _SPREAD_OVER, strict=True):
        many = have[kind]
        found.append(_MANY[many])
        found.append(_SOME[many] - log(2.0 * met[kind] * shares[over] + 0.3))
    found.extend([_MANY[many] for many in have[MEASURED.stop :]])
    prompts, templates, clauses = keys.prompts, keys.shown[TEMPLATE], keys.shown[CLAUSE]
    fewer, more = (prompts[a], prompts[b]) if prompts[a] < prompts[b] else (prompts[b], prompts[a])
    made_a, made_b = keys.signup[a], keys.signup[b]
    found += (
        log1p(fewer),
        log1p(more),
        log(min((templates[a] + 1) / (prompts[a] + 1), (templates[b] + 1) / (prompts[b] + 1))),
        log(min((clauses[a] + 1) / (prompts[a] + 1), (clauses[b] + 1) / (prompts[b] + 1))),
        _SOME[have[_TEMPLATE]] - log(min(templates[a], templates[b]) + 1),
        _SOME[have[_PROMPT] + have[_CLAUSE_SAME]] - log(fewer + 1),
        _MANY[have[_WHOLE]] - _MANY[have[_CLAUSE] + have[_CLAUSE_SAME]],
        traits,
        float(made_a >= 0 and made_b >= 0 and abs(made_a - made_b) < TOGETHER),
    )
    return found
