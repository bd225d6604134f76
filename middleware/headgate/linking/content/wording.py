"""Which clauses are anybody's wording, and which are an operator's own.

Law: a clause that many orgs have used is boilerplate: a framework's prompt, a phrase of the language. It is
nobody's mark, but the boilerplate of a prompt in its order is: that is its template. What few have used is own
wording, and two such clauses side by side are the question behind a template, which an operator puts again and
again, and others do not. How many is many follows from how many orgs there are: a group must not make its own
wording boilerplate by being many, so that its own template hides it.

A class only ever firms up: own wording becomes boilerplate, never the other way round. What was met while a clause
was own wording stays counted.
"""

from __future__ import annotations

from typing import NamedTuple

MANY = 25
"""Orgs that make a clause boilerplate, at least. Fewer, and a group of sixteen keys hid behind its own template."""

SHARE = 50
"""… and one in this many of all orgs: wording that 2 % of all use is no operator's own."""

COUNTED = 2_048
"""Clauses whose orgs are being counted one by one, beyond those whose holders are known anyway."""

ROOM = 65_536
"""Boilerplate clauses that are remembered, in each of two generations: 5 MB. A clause that everybody uses is back as
boilerplate after MANY orgs have used it once more, so nobody gains by having it forgotten."""

_SPREAD = 0x9E3779B97F4A7C15
_LOW = (1 << 63) - 1


class Wording(NamedTuple):
    """One prompt, told apart.

    `template`: a number of its boilerplate in order (0 where it has less than two such clauses); `fixed`: how many;
    `own`: its other clauses, each with whether it stands right behind another one.
    """

    template: int
    fixed: int
    own: tuple[tuple[int, bool], ...]


class Wordings:
    """What is known of clauses so far.

    >>> wordings = Wordings()
    >>> wordings.boilerplate(7)
    >>> wordings.of((7, 8, 9, 7))
    Wording(template=..., fixed=2, own=((8, False), (9, True)))
    """

    def __init__(self) -> None:
        self._fixed: set[int] = set()
        self._before: set[int] = set()
        self._counted: dict[int, set[int]] = {}

    def of(self, clauses: tuple[int, ...]) -> Wording:
        """A prompt's clauses, each on its side."""
        fixed, before = self._fixed, self._before
        template = count = 0
        own = []
        beside = False
        for clause in clauses:
            if clause in fixed or (clause in before and self._renewed(clause)):
                template = (template * _SPREAD ^ clause) & _LOW
                count += 1
                beside = False
            else:
                own.append((clause, beside))
                beside = True
        return Wording(template if count >= 2 else 0, count, tuple(own))

    def boilerplate(self, clause: int) -> None:
        """From now on, this clause is nobody's own."""
        if len(self._fixed) >= ROOM:
            self._before, self._fixed = self._fixed, set()
        self._fixed.add(clause)
        self._counted.pop(clause, None)

    def used(self, clause: int, orgs: set[int], all_orgs: int) -> None:
        """Orgs have used a clause that was own wording: it may be boilerplate now."""
        many = max(MANY, all_orgs // SHARE)
        counted = self._counted.get(clause)
        if counted is not None:
            counted |= orgs
            orgs = counted
        if len(orgs) >= many:
            self.boilerplate(clause)
        elif counted is None and len(orgs) >= MANY - 1:
            if len(self._counted) >= COUNTED:
                del self._counted[next(iter(self._counted))]
            self._counted[clause] = set(orgs)

    def again(self, clause: int, org: int, all_orgs: int) -> None:
        """An org has used a clause whose holders are no longer told apart."""
        if clause in self._counted:
            self.used(clause, {org}, all_orgs)

    def _renewed(self, clause: int) -> bool:
        self.boilerplate(clause)
        return True
