"""Which keys are one operator's: how a group begins, who joins it, and why it does not chain.

Law: nobody is in a group for being like one of its keys. A group begins with a sure pair or with three keys that
hold together; who joins it is like several orgs of it; two groups become one where enough keys of the smaller pass
for members of the larger. So a key that is like one member each of two groups joins them no more than a stranger
does, and one coincidence makes no chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil, log

from headgate.linking.content.keys import Keys
from headgate.linking.content.weights import CERTAINTY

SURE = log(0.95 / 0.05)
"""Nats from which on a group is certain: a confidence of 0.95."""

OUT = log(0.6 / 0.4)
"""Nats under which a group that was certain is so no more. Its keys meet no more in the meantime, and who joins later
brings less evidence with it: that must not make it come and go."""

PAIR = 3.0
"""Nats from which on a pair alone is sure."""

INNER = 1.5
"""Nats of the best tie of one who joins, at least."""

EDGE = 0.5
"""Nats from which on a tie counts."""

WITNESSES = 0.45
"""Share of a group's orgs (of ten at most) that one who joins must be tied to."""

BEST = 3
"""Ties of a member that count for its group: with thirty, it need not be like all."""

JOINED = 0.5
"""Share of the smaller of two groups that must pass for members of the larger, to make one of them."""

DENSE = 20
"""Other orgs to which a member of a dense group is tied at most."""

NOTHING = (0.0, 0.0, 0.0, 0.0)
"""What a member without a tie within its group adds."""

MOST = 48
"""Ties of a key that are kept: no more are needed to place it among thousands."""


def unknown(_a: int, _b: int) -> tuple[float, float]:
    """What is known of two keys by themselves where nobody tells."""
    return 0.0, 0.0


class Group:
    """Keys held to be one operator's.

    `at`: when each joined; `sure_at`: when it first was certain, None before; `odds`: how sure it is, in nats.
    """

    __slots__ = ("at", "keys", "number", "odds", "sure_at")

    def __init__(self, number: int) -> None:
        self.number = number
        self.keys: set[int] = set()
        self.at: dict[int, int] = {}
        self.odds = 0.0
        self.sure_at: int | None = None

    @property
    def held(self) -> float:
        """How sure it is held to be: what was certain once stays so until it falls under OUT."""
        return max(self.odds, SURE) if self.sure_at is not None and self.odds >= OUT else self.odds


class Groups:
    """The groups there are. `ties`: of each key, the others that it is like and by how many nats, from EDGE on.

    `alone(a, b)`: what two keys are worth by themselves, in nats, and how many questions they share over different
    templates, as the logarithm of one more.
    A group's odds follow from its measures by `weights.CERTAINTY`; from SURE on it is certain.
    """

    def __init__(self, keys: Keys, alone: Callable[[int, int], tuple[float, float]] = unknown) -> None:
        self._keys = keys
        self._alone = alone
        self.ties: dict[int, dict[int, float]] = {}
        self.of: dict[int, Group] = {}
        self.all: dict[int, Group] = {}
        self._made = 0

    def tied(self, a: int, b: int, nats: float) -> None:
        """How much alike two keys are now."""
        if nats < EDGE:
            self.loosened(a, b)
            return
        for one, other in ((a, b), (b, a)):
            ties = self.ties.setdefault(one, {})
            ties[other] = nats
            if len(ties) > MOST:
                del ties[min(ties, key=lambda key: (ties[key], key))]

    def loosened(self, a: int, b: int) -> None:
        """They are not alike any more."""
        for one, other in ((a, b), (b, a)):
            ties = self.ties.get(one)
            if ties and ties.pop(other, None) is not None and not ties:
                del self.ties[one]

    def settle(self, keys: Iterable[int], at: int) -> list[Group]:
        """Keys whose ties have changed find their place. The groups that are certain, of those that this touched."""
        for key in keys:
            self._place(key, at)
        touched = sorted({self.of[key].number for key in keys if key in self.of})
        return [group for number in touched if self._judged(group := self.all[number], at)]

    def measures(self, group: Group) -> tuple[float, ...]:
        """What is said of a group, each the mean over its members and their three best ties within: how many nats the
        ties are worth; what the two keys are worth by themselves, without third keys; the logarithm of the number of
        orgs; how dense the group is, the share of the other orgs (of twenty at most) that a member is tied to; and
        the questions shared over different templates.

        Several operators with one topic are dense only among themselves. Installations of one application hold
        together as well as an operator's keys do, and share templates and no questions.
        """
        org, rows = self._keys.org, []
        orgs = self.orgs(group.keys)
        for key in sorted(group.keys):
            ties = self.ties.get(key, {})
            inside = sorted([(-n, o) for o, n in ties.items() if o in group.keys and org[o] != org[key]])
            told = [(-nats, *self._alone(key, other)) for nats, other in inside[:BEST]]
            if not told:
                rows.append(NOTHING)
                continue
            tied, alone, fills = (sum(column) / len(told) for column in zip(*told, strict=True))
            rows.append((tied, alone, fills, min(1.0, len(inside) / max(1, min(orgs - 1, DENSE)))))
        tied, alone, fills, dense = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        return tied, alone, log(max(1, orgs)), dense, fills

    def witnesses(self, key: int, group: Group) -> list[float]:
        """The ties of a key into a group, the best one of each org, strongest first."""
        org = self._keys.org
        best: dict[int, float] = {}
        for other, nats in self.ties.get(key, {}).items():
            if other in group.keys and org[other] != org[key]:
                best[org[other]] = max(nats, best.get(org[other], 0.0))
        return sorted(best.values(), reverse=True)

    def orgs(self, keys: Iterable[int]) -> int:
        """Of how many orgs some keys are."""
        return len({self._keys.org[key] for key in keys})

    def _belongs(self, witnesses: list[float], orgs: int) -> bool:
        if not witnesses:
            return False
        if orgs <= 3 and witnesses[0] >= PAIR:
            return True
        return witnesses[0] >= INNER and len(witnesses) >= max(2, ceil(WITNESSES * min(orgs, 10)))

    def _place(self, key: int, at: int) -> None:
        ties = self.ties.get(key)
        if not ties:
            return
        own = self.of.get(key)
        if own is not None:
            near = {self.of[other].number for other, nats in ties.items() if nats >= INNER and other in self.of}
            for number in sorted(near - {own.number}):
                if number in self.all and self.of[key].number != number:
                    self._merge(self.of[key], self.all[number])
            return
        best: tuple[float, int] | None = None
        for number in sorted({self.of[other].number for other in ties if other in self.of}):
            group = self.all[number]
            witnesses = self.witnesses(key, group)
            if self._belongs(witnesses, self.orgs(group.keys)):
                best = max(best or (0.0, 0), (sum(witnesses[:5]), number))
        if best is not None:
            self._join(key, self.all[best[1]], at)
        else:
            self._begin(key, at)

    def _begin(self, key: int, at: int) -> None:
        org, ties = self._keys.org, self.ties[key]
        free = [other for other in ties if other not in self.of and org[other] != org[key]]
        other = max(free, key=lambda one: (ties[one], -one), default=None)
        if other is None:
            return
        if ties[other] >= PAIR:
            self._found((key, other), at)
        elif ties[other] >= INNER:
            near = self.ties[other]
            thirds = [third for third in free if org[third] != org[other] and third in near]
            if thirds:
                self._found((key, other, max(thirds, key=lambda one: (ties[one] + near[one], -one))), at)

    def _found(self, keys: tuple[int, ...], at: int) -> None:
        self._made += 1
        group = self.all[self._made] = Group(self._made)
        for key in keys:
            if key not in self.of:
                self._join(key, group, at)

    def _join(self, key: int, group: Group, at: int) -> None:
        self.of[key] = group
        group.keys.add(key)
        group.at[key] = at
        for other in sorted(self.ties[key]):
            if other not in self.of:
                self._place(other, at)

    def _merge(self, one: Group, other: Group) -> None:
        large, small = (one, other) if len(one.keys) >= len(other.keys) else (other, one)
        orgs = self.orgs(large.keys)
        pass_for = sum([self._belongs(self.witnesses(key, large), orgs) for key in small.keys])
        if pass_for < max(1 if len(small.keys) <= 2 else 2, ceil(JOINED * len(small.keys))):
            return
        for key in small.keys:
            self.of[key] = large
        large.keys |= small.keys
        large.at.update(small.at)
        if small.sure_at is not None:
            large.sure_at = small.sure_at if large.sure_at is None else min(large.sure_at, small.sure_at)
        del self.all[small.number]

    def _judged(self, group: Group, at: int) -> bool:
        start, *each = CERTAINTY
        group.odds = start + sum([number * weight for number, weight in zip(self.measures(group), each, strict=True)])
        if group.odds >= SURE and group.sure_at is None:
            group.sure_at = at
        return group.odds >= SURE
