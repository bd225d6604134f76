"""Which orgs share their limits at an instant: from the policy, from what people said, and from what was found.

Law, in the order in which it is applied:

1. The policy's `affiliated` and people's links say what is so, and what is so of a and b, and of b and c, is so of a
   and c: they unite into *declared* groups.
2. What the detector found is only likely, and likely twice over is not likely: two findings that share an org are
   never united by it. The stronger one keeps the org (higher confidence, then the older, then by id), the other goes
   on without it.
3. A finding that shares orgs with a declared group is united with it, for the persons' word carries it; with one
   declared group at most, that of which it has the most orgs, and each declared group with one finding at most, the
   strongest. So a person who links one more org to a found group does not take the group apart, and no finding makes
   one of two declared groups.
4. Who is kept apart is never in one group: by the policy's `separate`, or by the latest that people said of the two.
   The policy's `affiliated` goes before people's words, and people's words before the detector's. A group with two in
   it who are kept apart is parted so that the fewest leave it: an org with the most such pairs goes first.

So an org is in one group at most, a group has two orgs or more, and the same entries give the same groups whatever
their order. A finding counts from `linked` on, with as many kinds of evidence as the policy asks for, and when the
ladder pools it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from headgate.linking.finding import Evidence
from headgate.quota.balance import FOREVER
from headgate.quota.facts import Group
from headgate.register.entries import Linked, Register

WEIGHS = 3.0
"""Nats from which on a kind of evidence counts as one: twenty times as likely of one operator."""


class Rules(NamedTuple):
    """What the policy says of groups.

    `affiliated`: declared groups, each with its end; `separate`: orgs that are kept apart, each with its end;
    `linked`: the probability (millionths) that a found group must have reached, `channels`: the kinds of evidence
    that it needs; `pooled`: how long (microseconds) after it was linked it is pooled, None for never.
    """

    affiliated: tuple[tuple[Group, int], ...] = ()
    separate: tuple[tuple[tuple[str, ...], int], ...] = ()
    linked: int = 0
    channels: int = 2
    pooled: int | None = 0


class Force(NamedTuple):
    """The groups in force, and the instant from which on they may be others."""

    groups: tuple[Group, ...]
    until: int


def in_force(register: Register, rules: Rules, now: int) -> Force:
    """The groups at `now` (microseconds); they carry no plans or anchors, which a directory tells.

    >>> from headgate.register.entries import Said
    >>> said = Said("l_1", "link", ("a", "b"), "one invoice", "ann", 0)
    >>> in_force(Register(said=(said,)), Rules(), 7).groups
    (Group(id='l_1', orgs=frozenset({...}), plans=frozenset(), anchor=None),)
    """
    apart = _Apart(register, rules, now)
    declared = _declared(register, rules, apart, now)
    found = _found(register, rules, now)
    groups: list[Group] = []
    for id, orgs in _united(declared, found):
        for number, part in enumerate(apart.parts(orgs)):
            groups.append(Group(id if not number else f"{id}-{number + 1}", frozenset(part)))
    return Force(tuple(groups), _until(register, rules, now))


def kinds(evidence: Iterable[Evidence]) -> int:
    """How many kinds of evidence there are that weigh enough.

    >>> kinds([Evidence("templates", ("k1", "k2"), 2.0, ""), Evidence("templates", ("k1", "k3"), 2.0, "")])
    1
    """
    weights: dict[str, float] = {}
    for item in evidence:
        weights[item.signal] = weights.get(item.signal, 0.0) + item.weight
    return sum([weight >= WEIGHS for weight in weights.values()])


def pooled_at(group: Linked, rules: Rules) -> int:
    """From when on (microseconds) a found group shares its limits; `FOREVER` for never, as it stands."""
    if group.ended or group.state != "linked" or rules.pooled is None:
        return FOREVER
    # What is linked stays so down to a lower bound; but where a policy asks for more than it ever had, it counts not.
    if round(group.peak * 1_000_000) < rules.linked or kinds(group.evidence) < rules.channels:
        return FOREVER
    return group.since + rules.pooled


class _Spoken(NamedTuple):
    """A person's word: asked of each pair in a group of hundreds."""

    apart: bool
    orgs: frozenset[str]
    others: frozenset[str]


class _Apart:
    """Who is kept apart from whom at an instant."""

    def __init__(self, register: Register, rules: Rules, now: int) -> None:
        self._declared = [group.orgs for group, end in rules.affiliated if now < end]
        self._policy = [frozenset(orgs) for orgs, end in rules.separate if now < end]
        active = sorted([each for each in register.said if each.active(now)], key=lambda each: (each.at, each.id))
        self._said = [_Spoken(e.kind == "separate", frozenset(e.orgs), frozenset(e.others)) for e in active]
        self._named = {org for orgs in self._policy for org in orgs}
        self._named.update(org for each in self._said for org in each.orgs | each.others)

    def among(self, orgs: Iterable[str]) -> dict[str, set[str]]:
        """Of some orgs, those that are named anywhere: each with those of them that it is kept apart from.

        Worked out by sets and not by pairs: a group of hundreds may be taken apart.
        """
        inside = self._named.intersection(orgs)
        against: dict[str, set[str]] = {org: set() for org in inside}
        for each in self._said:  # the oldest first: the latest counts
            here, there = each.orgs & inside, each.others & inside
            for org in here if len(here) + len(there) > 1 else ():
                if each.apart:
                    against[org] |= here | there
                else:
                    against[org] -= here
            for org in there if here else ():
                against[org] |= here
        for apart in self._policy:
            here = apart & inside
            for org in here:
                against[org] |= here
        for together in self._declared:
            here = together & inside
            for org in here:
                against[org] -= here
        for org, others in against.items():
            others.discard(org)
        return against

    def parts(self, orgs: Iterable[str]) -> list[list[str]]:
        """The orgs in parts within which nobody is kept apart; parts of one are none."""
        left = sorted(orgs)
        against = self.among(left)
        if not any(against.values()):
            return [left]
        nobody: set[str] = set()
        left.sort(key=lambda org: (len(against.get(org, nobody)), org))
        found: list[list[str]] = []
        while len(left) > 1:
            part: set[str] = set()
            rest: list[str] = []
            for org in left:
                if against.get(org, nobody).isdisjoint(part):
                    part.add(org)
                else:
                    rest.append(org)
            if len(part) > 1:
                found.append(sorted(part))
            left = rest
        return found


def _declared(register: Register, rules: Rules, apart: _Apart, now: int) -> list[tuple[str, list[str]]]:
    """The declared groups: a policy's keep their name, others have the id of what was said first."""
    named: dict[str, int] = {}
    groups: list[tuple[str, list[str]]] = []

    def unite(id: str, orgs: Sequence[str]) -> None:
        touched = sorted({named[org] for org in orgs if org in named})
        into = touched[0] if touched else len(groups)
        if not touched:
            groups.append((id, []))
        for other in touched[1:]:
            groups[into][1].extend(groups[other][1])
            for org in groups[other][1]:
                named[org] = into
            groups[other] = ("", [])
        for org in orgs:
            if named.get(org) is None:
                groups[into][1].append(org)
                named[org] = into

    for group, end in rules.affiliated:
        if now < end:
            unite(group.id, sorted(group.orgs))
    for each in sorted(register.said, key=lambda said: (said.at, said.id)):
        if each.kind == "link" and each.active(now):
            against = apart.among(each.orgs)
            for one, other in each.pairs():
                if other not in against[one]:
                    unite(each.id, (one, other))
    return [(id, orgs) for id, orgs in groups if orgs]


def _found(register: Register, rules: Rules, now: int) -> list[Linked]:
    """The found groups that count, the strongest first."""
    counting = [group for group in register.groups if pooled_at(group, rules) <= now]
    return sorted(counting, key=lambda group: (-group.confidence, group.since, group.id))


def _united(declared: Sequence[tuple[str, list[str]]], found: Sequence[Linked]) -> list[tuple[str, list[str]]]:
    by_org = {org: at for at, (_, orgs) in enumerate(declared) for org in orgs}
    joined: set[int] = set()
    taken: set[str] = set()
    groups: list[tuple[str, list[str]]] = []
    for group in found:
        orgs = [org for org in group.orgs if org not in taken]
        touched: dict[int, int] = {}
        for org in orgs:
            if org in by_org:
                touched[by_org[org]] = touched.get(by_org[org], 0) + 1
        # INVARIANT: none of these is joined already, for whoever joined it has taken all its orgs.
        with_ = max(touched, key=lambda at: (touched[at], -at)) if touched else None
        orgs = [org for org in orgs if org not in by_org or by_org[org] == with_]
        id = group.id
        if with_ is not None:
            id, more = declared[with_]
            orgs = list(dict.fromkeys([*more, *orgs]))
            joined.add(with_)
        taken.update(orgs)
        if len(orgs) > 1:
            groups.append((id, orgs))
    return [*[each for at, each in enumerate(declared) if at not in joined], *groups]


def _until(register: Register, rules: Rules, now: int) -> int:
    ends = [end for _, end in (*rules.affiliated, *rules.separate)]
    ends += [each.until for each in register.said if not each.ended]
    ends += [pooled_at(group, rules) for group in register.groups]
    return min([end for end in ends if end > now], default=FOREVER)


def by_org(groups: Iterable[Group]) -> Mapping[str, Group]:
    """Each org's group."""
    return {org: group for group in groups for org in group.orgs}
