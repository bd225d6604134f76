"""Which keys are one operator's, by what their pairs say: formation, joining, uniting, leaving.

Law: groups do not chain. A key joins by what it has with the members together, not with one; a group is a finding
when its members' mean support is enough; a member that has lost its support leaves. There is no union of whatever
touches.

The priors: that two given keys are one operator's is as likely as 1 in some keys * e^3; that a given key belongs to a
group that is there, as 1 in some keys * e^-1.6 (fitted). What evidence exceeds the prior by `MARGIN` is acted on.

Riders: a key with nothing to hide that reads beside a group meets several members at once, but in one place and one
hour: their reads are one coincidence. So a group of six or more takes in only who has met it at two places or in two
hours (or by a full tile).

A group is provisional until it is a finding; what was said once is not taken back at every turn: it remains a finding
down to a lower bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log

from headgate.linking.places import weights
from headgate.linking.places.scoring import Scores

MOST_TRIED = 60
"""Neighbours that are tried in forming a group."""

MOST_FORMED = 12
"""Keys of a group when it forms; others join."""


class Groups:
    """The groups of the moment. A group has a number that is not used again."""

    def __init__(self, scores: Scores, orgs: Callable[[int], int]) -> None:
        self._scores = scores
        self._pairs = scores.pairs
        self._orgs = orgs
        self._of: dict[int, int] = {}
        self._last = 0
        self._keys = 0
        self.members: dict[int, dict[int, int]] = {}
        """Of each group, its keys and when each joined (microseconds)."""
        self.found: dict[int, int] = {}
        """Of each finding, when it became one (microseconds)."""
        self._strong: dict[int, int] = {}
        """Groups with support enough for a finding, and since when; some are but two or three ranges."""

    def consider(self, a: int, b: int, keys: int, at: int) -> None:
        """Two keys have more in common than before: look whether that makes a group, or a member of one."""
        pairs = self._pairs
        row = pairs.find(a, b)
        if not row:
            return
        places = self._scores.places(row)
        if places > weights.HOT:
            pairs.heat(row)
        if places < weights.OPEN_PLACES:
            pairs.looked[row] = min(pairs.looked[row], places)
            return
        told = places + self._scores.shared(a, b, row)
        if told < weights.OPEN or told < pairs.looked[row] + 1:
            if told < pairs.looked[row] - 1:
                pairs.looked[row] = told
            return
        pairs.looked[row] = told
        self._keys = max(weights.ORGS_LEAST, keys)
        one, other = self._of.get(a), self._of.get(b)
        if one is None and other is None:
            self._form(a, b, at)
        elif one is not None and other is not None:
            if one == other:
                self._confirm(one, at)
            else:
                self._unite(one, other, at)
        else:
            group, key = (one, b) if one is not None else (other, a)
            assert group is not None
            if self._join(key, group, at):
                self._draw([key], at)
            self._confirm(group, at)

    def sweep(self, keys: int, at: int) -> None:
        """Once an hour: members that fit no more leave; groups with strong pairs across are tried again."""
        self._keys = max(weights.ORGS_LEAST, keys)
        for group in list(self.members):
            self._prune(group)
        for group in list(self.members):
            for other in self._met(group) if group in self.members else ():
                if group in self.members and other in self.members:
                    self._unite(group, other, at)
            if group in self.members:
                self._draw(list(self.members[group]), at)
                self._confirm(group, at)

    def group_of(self, key: int) -> int | None:
        """The number of a key's group."""
        return self._of.get(key)

    def fitting(self, group: int) -> dict[int, float]:
        """The members of a group that hold together, each with its support; fewer than two orgs are none."""
        kept = list(self.members[group])
        while kept:
            supports = {key: self._scores.support(key, kept)[0] for key in kept}
            weakest = min(kept, key=lambda key: supports[key])
            if supports[weakest] >= weights.STAY:
                break
            kept.remove(weakest)
        return supports if len({self._orgs(key) for key in kept}) > 1 else {}

    def _new_prior(self) -> float:
        return log(self._keys) + weights.PRIOR

    def _member_prior(self) -> float:
        return log(self._keys) + weights.MEMBER

    def _support(self, key: int, members: Iterable[int]) -> float:
        return self._scores.support(key, list(members))[0]

    def _form(self, a: int, b: int, at: int) -> None:
        """A new group, grown by whichever free neighbour fits best, if it is enough then."""
        prior = self._new_prior()
        members, excess = [a, b], self._support(a, [b]) - prior
        if excess < weights.MARGIN:
            tried: dict[int, None] = {}
            for key in (a, b):
                self._free_around(key, members, tried)
            while tried and len(members) < MOST_FORMED and excess < weights.MARGIN + 2:
                best = max(tried, key=lambda key: self._support(key, members))
                support = self._support(best, members)
                if support < 3:
                    break
                members.append(best)
                excess += support - self._member_prior()
                del tried[best]
                self._free_around(best, members, tried)
            if excess < weights.MARGIN or any(self._support(key, members) < 0.6 * prior for key in members):
                return
        if len({self._orgs(key) for key in members}) < 2:
            return
        self._last += 1
        self.members[self._last] = dict.fromkeys(members, at)
        self._of.update(dict.fromkeys(members, self._last))
        group = self._last
        self._draw(members, at)
        self._confirm(group, at)

    def _free_around(self, key: int, members: list[int], tried: dict[int, None]) -> None:
        for other, row in self._pairs.of(key):
            if len(tried) >= MOST_TRIED:
                return
            if other not in self._of and other not in members and self._scores.places(row) > 3:
                tried[other] = None

    def _join(self, key: int, group: int, at: int) -> bool:
        members = self.members[group]
        support, supporting, tiled = self._scores.support(key, members)
        needed, size = self._member_prior() + weights.MARGIN, len(members)
        if support < needed or not supporting:
            return False
        few = size >= 3 and not tiled and supporting < max(2, 0.12 * size)
        if few and (support < needed + 4 or size >= 10):
            # One member alone vouches for it: it must do so strongly, and in a small group only.
            return False
        if size >= weights.APART and not tiled and not self._apart(key, members):
            return False
        members[key] = at
        self._of[key] = group
        return True

    def _apart(self, key: int, members: dict[int, int]) -> bool:
        """Whether a key has met members at two places or in two hours."""
        pairs, seen = self._pairs, set()
        for member in members:
            row = pairs.find(key, member)
            if row and pairs.hour[row]:
                if pairs.apart[row]:
                    return True
                seen.add((pairs.region[row], pairs.hour[row]))
            elif row and pairs.holes[row] > weights.SUPPORT:
                return True
        return len(seen) > 1

    def _unite(self, one: int, other: int, at: int) -> bool:
        if len(self.members[one]) < len(self.members[other]):
            one, other = other, one
        larger, smaller = self.members[one], self.members[other]
        total, supported, tiled, least = 0.0, 0, False, 99.0
        for key in smaller:
            support, supporting, tile = self._scores.support(key, larger, len(larger) + len(smaller))
            total, least = total + max(-6.0, support), min(least, support)
            supported += supporting > 0
            tiled = tiled or tile
        needed = self._member_prior() + weights.MARGIN
        # Of strong groups there are few: that two of these are one is less surprising than that two keys are.
        both = one in self._strong and other in self._strong
        if not (
            (total >= needed + 2 and supported >= 2)
            or (both and least >= self._new_prior())
            or (supported and tiled and total >= (log(8 + len(self._strong)) + weights.MARGIN if both else needed))
            or (supported and len(smaller) <= 3 and total >= self._new_prior() + 5)
        ):
            return False
        if not tiled and min(len(larger), len(smaller)) > 2 and self._bridged(larger, smaller):
            return False
        for key in smaller:
            larger[key] = at
            self._of[key] = one
        del self.members[other]
        self._strong.pop(other, None)
        if self.found.pop(other, None) is not None:
            self.found.setdefault(one, at)
        self._draw(list(smaller), at)
        self._confirm(one, at)
        return True

    def _bridged(self, larger: dict[int, int], smaller: dict[int, int]) -> bool:
        """Whether one key alone has most of what two groups have in common: without it they would not be one."""
        held: dict[int, float] = {}
        total = 0.0
        for key in smaller:
            for other, row in self._pairs.of(key):
                told = self._scores.places(row) if other in larger else 0.0
                if told > 0:
                    total += told
                    held[key] = held.get(key, 0.0) + told
                    held[other] = held.get(other, 0.0) + told
        return max(held.values(), default=0.0) > weights.BRIDGE * total

    def _draw(self, new: list[int], at: int) -> None:
        """New members may bring in those that they have met."""
        for _ in range(200):
            if not new:
                return
            key = new.pop()
            group = self._of.get(key)
            if group is None:
                continue
            for other, row in list(self._pairs.of(key)):
                if other in self._of or self._scores.places(row) + self._scores.shared(key, other, row) <= 2:
                    continue
                if self._join(other, group, at):
                    new.append(other)

    def _met(self, group: int) -> list[int]:
        """Groups that a member has a hot pair in, in the order met."""
        met: dict[int, None] = {}
        for key in self.members[group]:
            for other, row in self._pairs.of(key):
                theirs = self._of.get(other)
                if self._pairs.hot[row] and theirs is not None and theirs != group:
                    met[theirs] = None
        return list(met)

    def _confirm(self, group: int, at: int) -> None:
        if group not in self.found and group in self.members:
            members = self.members[group]
            mean = sum([self._support(key, members) for key in members]) / len(members)
            if mean >= (weights.FIND_TWO if len(members) == 2 else weights.FIND):
                self._strong[group] = at
                if len(members) >= weights.ROW or self._scores.moved(list(members)) >= weights.ROW_ELSE:
                    self.found[group] = at

    def _prune(self, group: int) -> None:
        members = self.members[group]
        while len(members) > 1:
            supports = {key: self._support(key, members) for key in members}
            weakest = min(members, key=lambda key: supports[key])
            if supports[weakest] >= weights.STAY:
                return
            del members[weakest], self._of[weakest]
        for key in members:
            del self._of[key]
        del self.members[group]
        self.found.pop(group, None)
        self._strong.pop(group, None)
