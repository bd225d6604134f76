"""From what pairs met in to groups: each pair by itself, then in the light of third keys, then in its group.

Law: what changes is judged anew, and nothing else. A pair is weighed at certain counts of its meetings; where it is
alike, the pairs that it makes triangles with are looked at again; the keys of all these find their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log1p

from headgate.linking.content.groups import Group, Groups
from headgate.linking.content.kinds import FIELD, SHIFT
from headgate.linking.content.meetings import Meetings
from headgate.linking.content.support import LOWEST, support
from headgate.linking.content.weighing import features
from headgate.linking.content.weights import PAIR, SUPPORTS
from headgate.linking.traits import Traits

TRIANGLES = 24
"""Third keys whose ties are looked at again for one pair: a key in a large group has hundreds."""

_KEY = (1 << 22) - 1
_QUESTION, _TWICE = SHIFT["question"], SHIFT["prompt_twice"]


class Judging:
    """The ties and the groups. `near`: of each key, the others that are alike at all, each by its own nats."""

    def __init__(self, meetings: Meetings, traits: Traits) -> None:
        self.meetings = meetings
        self.traits = traits
        self.near: dict[int, dict[int, float]] = {}
        self.groups = Groups(meetings.keys, self.alone)

    def alone(self, a: int, b: int) -> tuple[float, float]:
        """What two keys are worth by themselves, in nats, and how many questions they share over different templates,
        as the logarithm of one more."""
        record = self.meetings.pairs.record(a << 22 | b if a < b else b << 22 | a)
        return self.near[a].get(b, LOWEST), log1p((record >> _QUESTION & FIELD) + (record >> _TWICE & FIELD))

    def numbers(self, a: int, b: int) -> list[float]:
        """What is looked at of two keys (see `weighing.FEATURES`)."""
        meetings = self.meetings
        record = meetings.pairs.record(a << 22 | b if a < b else b << 22 | a)
        return features(record, meetings.keys, meetings.met, a, b, self.traits.weight(a, b))

    def judge(self, pairs: Sequence[int], at: int) -> None:
        """Pairs have met in so much more that they are to be weighed."""
        alike = []
        for pair in pairs:
            a, b = pair >> 22, pair & _KEY
            nats = PAIR.nats(self.numbers(a, b))
            if nats > LOWEST:
                self.near.setdefault(a, {})[b] = nats
                self.near.setdefault(b, {})[a] = nats
                alike.append((a, b))
            elif b in self.near.get(a, ()):
                del self.near[a][b], self.near[b][a]
                self.groups.loosened(a, b)
        if not alike:
            return
        moved: dict[int, None] = {}
        for a, b in alike:
            for one, other in self._touched(a, b):
                self._tie(one, other)
                moved[one] = moved[other] = None
        for group in self.groups.settle(list(moved), at):
            for key in group.keys:
                self.meetings.settled[key] = group.number

    def confidence(self, group: Group) -> float:
        """The probability that two keys of the group, drawn at random, have one operator."""
        return 1 / (1 + exp(-max(-20.0, min(20.0, group.held))))

    def _touched(self, a: int, b: int) -> list[tuple[int, int]]:
        """The pair, and where it is alike the pairs that it makes triangles with."""
        pairs = [(a, b)]
        of_a, of_b = self.near[a], self.near[b]
        if of_a[b] > -1:
            fewer, more = (of_a, of_b) if len(of_a) <= len(of_b) else (of_b, of_a)
            for third in [third for third in fewer if third in more][:TRIANGLES]:
                pairs += ((a, third), (b, third))
        return pairs

    def _tie(self, a: int, b: int) -> None:
        nats = self.near[a][b]
        told = support(nats, self.near[a], self.near[b], self.meetings.keys.org, a, b)
        self.groups.tied(a, b, SUPPORTS.nats(told))
