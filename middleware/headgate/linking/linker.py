"""Both halves of linking at work: what is asked of keys (`content`) and what they are handed out (`places`).

Law: a key is in one finding at most, and findings do not chain. A finding of one half and one of the other are one
operator if each is sure by itself and they share keys of two orgs or more: two halves that know nothing of each other
have then named the same two. A finding is united with one of the other half at most, that it shares most with. A
single shared key is no bridge: it stays where it is surer, and leaves the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from headgate.linking import places as by_place
from headgate.linking.content import Content, groups, judging, keys, meetings, pairs, postings, wording
from headgate.linking.finding import Finding
from headgate.linking.observation import Observation
from headgate.linking.packed import packed, unpacked
from headgate.linking.places import Places

SURE = 0.95
"""Confidence from which a finding may be acted on."""


class Half(Protocol):
    """What finds groups by one kind of evidence."""

    def saw(self, observation: Observation) -> None:
        """Take in one request."""

    def findings(self, told: bool = True) -> list[Finding]:
        """The groups of the moment; without their evidence if not `told`."""


class Linker:
    """Finds the keys that one operator is behind.

    >>> linker = Linker()
    >>> linker.saw(Observation(0, "k1", "acme", True, runs=((7, 40, 20),)))
    >>> linker.findings(), linker.groups()
    ([], [])
    """

    def __init__(self, *halves: Half) -> None:
        self._halves: tuple[Half, ...] = halves or (Content(), Places())

    def saw(self, observation: Observation) -> None:
        """Take in one request; requests come in the order of their time, a few seconds apart at most."""
        for half in self._halves:
            half.saw(observation)

    def findings(self) -> list[Finding]:
        """The groups of the moment, the surest first, with their evidence."""
        return united([half.findings() for half in self._halves])

    def groups(self) -> list[tuple[Mapping[str, int], float]]:
        """The members and the confidence of each finding, in the same order; cheap enough to be asked often."""
        halves = [half.findings(told=False) for half in self._halves]
        return [(finding.members, finding.confidence) for finding in united(halves)]

    def state(self) -> bytes:
        """All that is known, as bytes: `Linker.of` goes on from there as if there had been no break."""
        return packed(self, CLASSES)

    @classmethod
    def of(cls, state: bytes) -> Linker:
        """The linker that a state was written of.

        Raises `ValueError` for bytes that are broken, or of another version of the program.
        """
        linker = unpacked(state, CLASSES)
        if not isinstance(linker, cls):
            raise ValueError("not a state of linking")
        return linker


def united(halves: list[list[Finding]]) -> list[Finding]:
    """The findings of several halves as one list, in which no key comes twice.

    >>> one = Finding({"a": 1, "b": 2}, ("a", "b"), 0.97, ())
    >>> more = Finding({"a": 4, "b": 1, "c": 3}, ("a", "b", "c"), 0.96, ())
    >>> [dict(found.members) for found in united([[one], [more]])]
    [{'a': 1, 'b': 1, 'c': 3}]
    >>> bridge = Finding({"b": 4, "c": 3, "d": 5}, ("b", "c", "d"), 0.96, ())
    >>> [dict(found.members) for found in united([[one], [bridge]])]
    [{'a': 1, 'b': 2}, {'c': 3, 'd': 5}]
    """
    whole = halves[0] if halves else []
    for half in halves[1:]:
        whole = _matched(whole, half)
    return _apart(whole)


def _matched(one: list[Finding], other: list[Finding]) -> list[Finding]:
    """Each finding united with the one of the other half that it shares most keys with, if they may be one."""
    where = {key: i for i, finding in enumerate(one) for key in finding.members}
    shared: dict[tuple[int, int], int] = {}
    for j, finding in enumerate(other):
        for key in finding.members:
            if key in where:
                shared[where[key], j] = shared.get((where[key], j), 0) + 1
    left, right = dict(enumerate(one)), dict(enumerate(other))
    both: list[Finding] = []
    for (i, j), _ in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
        if i in left and j in right and _one(left[i], right[j]):
            both.append(_union(left.pop(i), right.pop(j)))
    return [*both, *left.values(), *right.values()]


def _one(one: Finding, other: Finding) -> bool:
    return min(one.confidence, other.confidence) >= SURE and len(set(one.orgs) & set(other.orgs)) > 1


def _union(one: Finding, other: Finding) -> Finding:
    members = dict(one.members)
    for key, at in other.members.items():
        members[key] = min(at, members.get(key, at))
    orgs = tuple(sorted({*one.orgs, *other.orgs}))
    return Finding(members, orgs, max(one.confidence, other.confidence), one.evidence + other.evidence)


def _apart(findings: list[Finding]) -> list[Finding]:
    """Each key in the surest finding that has it; what is left of a finding must still be of two keys."""
    seen: set[str] = set()
    kept: list[Finding] = []
    for finding in sorted(findings, key=lambda one: (-one.confidence, -len(one.members), min(one.members))):
        members = {key: at for key, at in finding.members.items() if key not in seen}
        if len(members) < 2:
            continue
        seen.update(members)
        if len(members) < len(finding.members):
            told = tuple([one for one in finding.evidence if all(key in members for key in one.keys)])
            finding = finding._replace(members=members, evidence=told)
        kept.append(finding)
    return kept


_OF_CONTENT = (
    *(Content, judging.Judging, groups.Groups, groups.Group, keys.Keys, meetings.Meetings),
    *(pairs.Pairs, postings.Postings, wording.Wordings, wording.Wording),
)

CLASSES: dict[str, type] = {
    f"{kind.__module__.removeprefix('headgate.linking.')}.{kind.__name__}": kind
    for kind in (Linker, *by_place.STATE, *_OF_CONTENT)
}
"""The classes that a state is made of, by the names under which they are written."""
