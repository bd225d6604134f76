"""What people say, taken into the register.

Law: what a person says has a reason and an actor, and is never rewritten: it is taken back, and stays for the record.
Saying the same twice (by its id) is the same as once. Of two that speak of one pair of orgs, the later counts: the
one that came later into the register, whatever the clocks say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from headgate.quota.balance import FOREVER
from headgate.register.entries import Change, Register, Said
from headgate.register.found import CHANGES, digest

MOST = {"link": 64, "separate": 512}
"""Orgs that one person's word may name: to link more is a policy's matter (`affiliated`), reviewed and under version
control; a group that was found may be larger, and is taken apart as a whole."""


def spoken(
    register: Register,
    kind: Literal["link", "separate"],
    orgs: Iterable[str],
    *,
    reason: str,
    actor: str,
    at: int,
    until: int = FOREVER,
    others: Iterable[str] = (),
    id: str = "",
) -> Register:
    """The register after somebody has said that orgs are one operator's, or are kept apart.

    Raises ValueError for fewer than two orgs, too many, no reason, or an end that is past.

    >>> after = spoken(Register(), "link", ["b", "a"], reason="one invoice", actor="ann", at=7)
    >>> after.said[0].orgs, after.changes[0].what
    (('a', 'b'), 'said')
    >>> spoken(after, "link", ["b", "a"], reason="one invoice", actor="ann", at=7) is after
    True
    """
    named = tuple(sorted(set(orgs)))
    rest = tuple(sorted(set(others) - set(named)))
    if len(named) + len(rest) < 2 or not named or "" in (*named, *rest):
        raise ValueError("two orgs or more are needed")
    if len(named) > MOST[kind]:
        raise ValueError(f"at most {MOST[kind]} orgs at a time; more belong into the policy's `linking`")
    if not reason.strip():
        raise ValueError("a reason is needed")
    if until <= at:
        raise ValueError("its end is past already")
    id = id or ("l_" if kind == "link" else "s_") + digest(kind, str(at), actor, *named, *rest)
    if any(each.id == id for each in register.said):
        return register
    # Of two words the later counts: clocks of two machines are not to decide which of them that is.
    at = max(at, register.said[-1].at + 1) if register.said else at
    said = Said(id, kind, named, reason.strip(), actor, at, until, rest)
    change = Change("e_" + digest("said", id), at, actor, "said", id, (*named, *rest), said.reason)
    return register._replace(said=(*register.said, said), changes=(change, *register.changes)[:CHANGES])


def undone(register: Register, ids: Sequence[str], *, reason: str, actor: str, at: int) -> Register:
    """The register after somebody has taken back what was said. Raises ValueError without a reason, KeyError for an
    id that was never said; what has ended already stays as it was."""
    if not reason.strip():
        raise ValueError("a reason is needed")
    known = {each.id: each for each in register.said}
    ending = [known[id] for id in ids if not known[id].ended]
    if not ending:
        return register
    ids = [each.id for each in ending]
    said = tuple(
        [
            each._replace(ended=at, ended_by=actor, ended_why=reason.strip()) if each.id in ids else each
            for each in register.said
        ]
    )
    changes = [
        Change("e_" + digest("undone", each.id), at, actor, "undone", each.id, (*each.orgs, *each.others), reason)
        for each in ending
    ]
    return register._replace(said=said, changes=(*changes, *register.changes)[:CHANGES])
