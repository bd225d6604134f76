"""The kinds of what two keys may share, and the meetings that are counted of a pair.

Law: a thing that is met in another template weighs otherwise than one that is met in the same: an operator puts one
question into many templates, a class and a copied application put it into one.
"""

from __future__ import annotations

from typing import Final

CLAUSE, QUESTION, TEMPLATE, OPENING, NAME, WHOLE = range(6)
"""Kinds of tokens: an own clause; two side by side; the boilerplate in its order; the same with the first own clause;
a word written large; the prompt as it is."""

KINDS: Final = 6

HOLDERS: Final = (30, 30, 30, 30, 10, 30)
"""Keys that may hold a token before it says nothing of any two of them. Names are common property sooner."""

CROWD: Final = 8
"""Holders from which on a token is said to be shared by a crowd."""

COUNTS: Final = (
    "strong",  # meetings of the kinds that open a record, all together
    "question", "question_same",
    "clause", "clause_same",
    "template", "opening",
    "name", "name_same",
    "whole",
    "prompt",  # prompts in which anything was met in another template
    "prompt_twice",  # … in which two things were
    "question_crowd", "question_same_crowd", "clause_crowd", "clause_same_crowd", "template_crowd", "opening_crowd",
)  # fmt: skip
"""What is counted of a pair, in the order of its fields. `…_same`: in the same template. `…_crowd`: of these, met
with more than CROWD holders."""

BITS: Final = 7
FIELD: Final = (1 << BITS) - 1
"""Counts stop at 127: nothing is decided by what comes after."""

SHIFT: Final = {name: BITS * place for place, name in enumerate(COUNTS)}


def one(*names: str) -> int:
    """A record with one of each.

    >>> one("strong", "question")
    129
    """
    return sum(1 << SHIFT[name] for name in names)


def counts(record: int) -> list[int]:
    """A record's counts, in the order of COUNTS.

    >>> counts(one("strong", "question"))[:3]
    [1, 1, 0]
    """
    return [record >> shift & FIELD for shift in _SHIFTS]


def plus(record: int, more: int) -> int:
    """The sum of two records; no field runs over.

    >>> counts(plus(127, 130))[:2]
    [127, 1]
    """
    if not (record | more) & _HALF:
        return record + more
    total = 0
    for shift in _SHIFTS:
        total |= min(FIELD, (record >> shift & FIELD) + (more >> shift & FIELD)) << shift
    return total


_SHIFTS = tuple(SHIFT.values())
_HALF = sum(1 << shift + BITS - 1 for shift in _SHIFTS)
