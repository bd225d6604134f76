"""What a prompt makes two keys share.

Law: only keys of different orgs meet, a key shows a thing as new once, and what is counted of a pair is how many
different things they share, never how often. What is to be expected of keys that have nothing to do with each other
is counted along: all meetings so far, and how many things each key has shown. Two keys of a group that is certain
meet no more: nothing is to be learnt of them.
"""

from __future__ import annotations

from array import array

from headgate.linking.content.keys import Keys
from headgate.linking.content.kinds import (
    CLAUSE,
    COUNTS,
    CROWD,
    HOLDERS,
    NAME,
    OPENING,
    QUESTION,
    TEMPLATE,
    WHOLE,
    one,
)
from headgate.linking.content.pairs import Pairs
from headgate.linking.content.postings import Postings
from headgate.linking.content.wording import MANY, Wording, Wordings

STEPS = (3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 63, 80, 100, 127)
"""Strong meetings at which a pair is weighed: every fifth more, as what lies between changes little."""

LONGEST = 64
"""Clauses and names of a prompt that are looked at. More cannot be, or a count of one prompt would run over."""

_LOW = (1 << 63) - 1
_SPREAD = 0x9E3779B97F4A7C15
_SALTS = {TEMPLATE: 0x5851F42D4C957F2D, OPENING: 0x14057B7EF767814F, WHOLE: 0x2545F4914F6CDD1D}
_STEP = tuple(sum(step <= strong for step in STEPS) for strong in range(128))

_ADDS = (
    ((one("clause"), one("clause_same")), (one("clause", "clause_crowd"), one("clause_same", "clause_same_crowd"))),
    (
        (one("strong", "question"), one("strong", "question_same")),
        (one("strong", "question", "question_crowd"), one("strong", "question_same", "question_same_crowd")),
    ),
    ((one("strong", "template"),) * 2, (one("strong", "template", "template_crowd"),) * 2),
    ((one("strong", "opening"),) * 2, (one("strong", "opening", "opening_crowd"),) * 2),
    ((one("name"), one("name_same")),) * 2,
    ((one("whole"),) * 2,) * 2,
)
"""What a meeting adds to the record: of each kind, of few and of a crowd, in another template and in the same."""

_ELSEWHERE = frozenset((CLAUSE, QUESTION, NAME))
"""Kinds that may be met in another template."""

_OTHER = tuple(COUNTS.index(name) for name in ("clause", "question", "template", "opening", "name", "whole"))
_SAME = tuple(COUNTS.index(n) for n in ("clause_same", "question_same", "template", "opening", "name_same", "whole"))
_ONCE_AT, _TWICE_AT = COUNTS.index("prompt"), COUNTS.index("prompt_twice")
_ONCE, _TWICE = one("prompt"), one("prompt", "prompt_twice", "strong")


class Meetings:
    """Keys, what they have shown, and what pairs of them have met in. `met`: all meetings so far, by COUNTS;
    `settled`: of each key, the certain group that it is in, or 0."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.wordings = Wordings()
        self.postings = Postings()
        self.pairs = Pairs()
        self.met = [0] * len(COUNTS)
        self.settled = array("I", [0])

    def number(self, key: str, org: str) -> int:
        """The number of a key; it is entered where it is new."""
        number = self.keys.number(key, org)
        if number == len(self.settled):
            self.settled.append(0)
            self.postings.enter()
            self.pairs.enter()
        return number

    def saw(self, key: int, clauses: tuple[int, ...], names: tuple[int, ...]) -> list[int]:
        """A key's prompt; the pairs that are to be weighed now."""
        clauses, names = clauses[:LONGEST], names[:LONGEST]
        keys, org, show, settled = self.keys, self.keys.org, self.postings.show, self.settled
        met = self.met
        wording = self.wordings.of(clauses)
        keys.prompts[key] += 1
        mine, group = org[key], settled[key]
        tag = wording.template * _SPREAD >> 58 & 31
        adds: dict[int, int] = {}
        elsewhere: dict[int, int] = {}
        for kind, token in _tokens(wording, clauses, names):
            found = show(token, key, tag, HOLDERS[kind])
            if found is None:
                if kind == CLAUSE:
                    self.wordings.again(token, mine, keys.orgs)
                continue
            keys.shown[kind][key] += 1
            keys.total[kind] += 1
            if not found:
                continue
            if kind == CLAUSE and len(found) >= MANY - 1:
                self.wordings.used(token, {org[entry >> 5] for entry in found} | {mine}, keys.orgs)
            other, same = _ADDS[kind][len(found) > CROWD]
            apart = kind in _ELSEWHERE
            alike = strangers = 0
            for entry in found:
                holder = entry >> 5
                if org[holder] == mine or (group and settled[holder] == group):
                    continue
                if entry & 31 == tag:
                    alike += 1
                    adds[holder] = adds.get(holder, 0) + same
                else:
                    strangers += 1
                    adds[holder] = adds.get(holder, 0) + other
                    if apart:
                        elsewhere[holder] = elsewhere.get(holder, 0) + 1
            met[_OTHER[kind]] += strangers
            met[_SAME[kind]] += alike
        for holder, many in elsewhere.items():
            adds[holder] += _TWICE if many >= 2 else _ONCE
            met[_TWICE_AT] += many >= 2
        met[_ONCE_AT] += len(elsewhere)
        return self._record(key, adds) if adds else []

    def _record(self, key: int, adds: dict[int, int]) -> list[int]:
        due = []
        for holder, add in adds.items():
            pair = holder << 22 | key if holder < key else key << 22 | holder
            before, after = self.pairs.met(pair, add)
            if _STEP[before] != _STEP[after]:
                due.append(pair)
        return due


def _tokens(wording: Wording, clauses: tuple[int, ...], names: tuple[int, ...]) -> list[tuple[int, int]]:
    """What a prompt shows."""
    found = []
    before = 0
    for clause, beside in wording.own:
        found.append((CLAUSE, clause))
        if beside:
            found.append((QUESTION, (before * _SPREAD ^ clause) & _LOW))
        before = clause
    template = wording.template
    if template:
        found.append((TEMPLATE, template ^ _SALTS[TEMPLATE]))
        if wording.own:
            found.append((OPENING, (template * _SPREAD ^ wording.own[0][0] ^ _SALTS[OPENING]) & _LOW))
    if len(clauses) > 1:
        whole = _SALTS[WHOLE]
        for clause in clauses:
            whole = (whole * _SPREAD ^ clause) & _LOW
        found.append((WHOLE, whole))
    found.extend([(NAME, name) for name in names])
    return found
