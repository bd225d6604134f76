"""What people say of orgs, and how they take it back."""

from __future__ import annotations

import pytest

from headgate.register import EMPTY
from headgate.register.said import MOST, spoken, undone


def linked_ab(at: int = 7, **other: object) -> dict[str, object]:
    return {"kind": "link", "orgs": ["b", "a"], "reason": "one invoice", "actor": "ann", "at": at} | other


def test_a_word_has_its_orgs_its_reason_and_who_said_it() -> None:
    register = spoken(EMPTY, **linked_ab())  # type: ignore[arg-type]
    [said], [change] = register.said, register.changes
    assert (said.orgs, said.reason, said.actor, said.at) == (("a", "b"), "one invoice", "ann", 7)
    assert (change.what, change.subject, change.actor) == ("said", said.id, "ann")


def test_what_is_said_twice_is_said_once() -> None:
    register = spoken(EMPTY, **linked_ab(id="l_x"))  # type: ignore[arg-type]
    assert spoken(register, **linked_ab(id="l_x", at=9)) is register  # type: ignore[arg-type]


def test_a_word_is_taken_back_and_stays_for_the_record() -> None:
    register = spoken(EMPTY, **linked_ab())  # type: ignore[arg-type]
    taken = undone(register, [register.said[0].id], reason="a mistake", actor="bob", at=9)
    [said] = taken.said
    assert (said.ended, said.ended_by, said.ended_why, said.active(9)) == (9, "bob", "a mistake", False)
    assert taken.changes[0].what == "undone"
    assert undone(taken, [said.id], reason="again", actor="eve", at=11) is taken


def test_the_later_word_is_later_whatever_the_clocks_say() -> None:
    register = spoken(EMPTY, **linked_ab(at=1_000))  # type: ignore[arg-type]
    later = spoken(register, "separate", ["a", "b"], reason="why", actor="bob", at=10)
    assert [each.at for each in later.said] == [1_000, 1_001]


def test_a_word_that_was_never_said_cannot_be_taken_back() -> None:
    with pytest.raises(KeyError):
        undone(EMPTY, ["l_none"], reason="why", actor="ann", at=1)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"orgs": ["a"]}, "two orgs"),
        ({"orgs": ["a", "a"]}, "two orgs"),
        ({"orgs": ["a", ""]}, "two orgs"),
        ({"orgs": [f"o{n}" for n in range(MOST["link"] + 1)]}, "at most 64"),
        ({"reason": "  "}, "reason"),
        ({"until": 7}, "past"),
    ],
)
def test_a_word_that_makes_no_sense_is_refused(other: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spoken(EMPTY, **linked_ab(**other))  # type: ignore[arg-type]
