"""Everything in a policy that can be referred to, and what is said of a name that refers to nothing.

Law: a name is there though its row is wrong in itself, so that one fault is reported once; of a section that could
not be read any reference is taken for right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headgate.document import Mark
from headgate.nearest import nearest
from headgate.policy.meters import PRESET_METERS
from headgate.policy.problem import Findings
from headgate.policy.shape import Found
from headgate.policy.words import is_source
from headgate.quota.meter import BUILT_IN

BUILT_IN_SCOPES = ("key", "org", "group", "ip", "route")


@dataclass(frozen=True, slots=True)
class Names:
    """Everything in a policy that can be referred to. `whole`: the sections that could be read; of others any
    reference is taken for right."""

    plans: tuple[str, ...]
    meters: tuple[str, ...]
    scopes: tuple[str, ...]
    traits: tuple[str, ...]
    limits: tuple[str, ...]
    clauses: tuple[str, ...]
    broken: frozenset[str]

    @classmethod
    def of(cls, root: Found) -> Names:
        """The names of a policy, of rows that are wrong in themselves too: a name is there all the same."""

        def under(section: str) -> tuple[str, ...]:
            found = root.get(section)
            return tuple(found.fields) if found is not None else ()

        presets = any(found.has("preset") for _, found in root.rows("meters"))
        return cls(
            plans=tuple(plan.value for plan in root.each("plans")),
            meters=(*BUILT_IN, *(PRESET_METERS if presets else ()), *under("meters")),
            scopes=under("scopes"),
            traits=tuple(name for name, _ in traits(root)),
            limits=under("limits"),
            clauses=tuple(name for name in under("terms") if name != "acceptance"),
            broken=frozenset(name for name, found in root.fields.items() if found is None),
        )


def refer(out: Findings, number: str, mark: Mark, name: str, known: Iterable[str], what: str) -> None:
    """Say that a name refers to nothing: with the likely one, or with all there are."""
    known = list(dict.fromkeys(known))
    meant = nearest(name, known)
    there = f"there are {', '.join(f'`{each}`' for each in known)}" if known else "there is none"
    out.add(number, mark, f"there is no {what} `{name}`", suggestion=meant, advice="" if meant else there)


def check_meter(name: str, mark: Mark, root: Found, names: Names, out: Findings) -> None:
    """Say that a meter is not there, or is a preset and counts nothing itself."""
    row = next((found for other, found in root.rows("meters") if other == name), None)
    if row is not None and row.has("preset"):
        given = ", ".join(f"`{each}`" for each in PRESET_METERS)
        out.add(
            "HG403", mark, f"`{name}` is a preset and counts nothing itself", advice=f"it gives the meters {given}"
        )
    elif name not in names.meters and "meters" not in names.broken:
        presets = {other for other, found in root.rows("meters") if found.has("preset")}
        refer(out, "HG403", mark, name, [other for other in names.meters if other not in presets], "meter")


def check_scope(found: Found, names: Names, out: Findings) -> None:
    """Say that a scope is not there."""
    known = (*BUILT_IN_SCOPES, *names.scopes)
    if not is_source(found.value) and found.value not in known and "scopes" not in names.broken:
        refer(out, "HG404", found.mark, found.value, known, "scope")


def mark_of(root: Found, section: str, name: str) -> Mark:
    """Where the name of a row stands."""
    found = root.get(section)
    assert found is not None, "its rows were just walked"
    return found.names[name]


def traits(root: Found) -> list[tuple[str, Found]]:
    """The traits that `identify` declares."""
    identify = root.get("identify")
    return list(identify.rows("traits")) if identify is not None else []
