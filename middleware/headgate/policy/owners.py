"""Whose a limit's count is: values, anchors and exceptions that only an owner can have.

Law: what counts by key, org or group has an owner, whose plan, billing anchor and exceptions decide. What counts by
address, route or header alone is shared by callers of all plans, and runs through one window: were its value that of
whoever asks, two callers would run two windows over one count by turns, and each would forget what the other knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headgate.document import Mark
from headgate.policy.problem import Findings
from headgate.policy.shape import Found
from headgate.quota.match import Limit
from headgate.quota.owner import OWNERS, Override, Value

ADVICE = "count it by key, org or group as well (`per: [ip, key]`; a caller without a key is counted by its address)"


def check(root: Found, limits: Iterable[Limit], overrides: Iterable[Override], out: Findings) -> None:
    """Report what a limit without an owner cannot have, and exceptions for keys that would change an org's count."""
    by_id = {limit.id: limit for limit in limits}
    rows = dict(root.rows("limits"))
    for limit in by_id.values():
        if not set(limit.per) & set(OWNERS):
            _check_shared(limit, rows[limit.id], out)
    marks = _named(root)
    for override in overrides:
        for name in override.limits:
            if name in by_id:
                _check_override(override, by_id[name], marks[override.subject, override.name, name], out)


def _check_shared(limit: Limit, found: Found, out: Findings) -> None:
    shown = ", ".join(f"`{scope}`" for scope in limit.per)
    for field, values in (("", limit.values), ("candidate", limit.candidate or {})):
        if len(_finite(values)) > 1:
            verb = field or next(each for each in ("rate", "quota", "rolling", "max", "total") if found.has(each))
            out.add(
                "HG421", found.names[verb],
                f"limit `{limit.id}` counts by {shown} alone, which callers of all plans share, "
                "and has several values",
                advice=f"give it one value (`unlimited` for a plan is one too), or {ADVICE}",
            )  # fmt: skip
    if any(getattr(value, "anchor", "") == "subscription" for value in limit.values.values()):
        out.add(
            "HG422", found.names["anchor"],
            f"limit `{limit.id}` counts by {shown} alone, which belongs to nobody who has a subscription",
            advice="use `anchor: calendar`, or count it by org or group",
        )  # fmt: skip


def _check_override(override: Override, limit: Limit, mark: Mark, out: Findings) -> None:
    owned = set(limit.per) & set(OWNERS)
    if override.subject == "key" and owned and "key" not in owned:
        out.add(
            "HG423", mark, f"limit `{limit.id}` counts by {' and '.join(sorted(owned))}: one key has no share in it",
            advice=f"make the exception for the org: `org: …`, not `key: {override.name}`",
        )  # fmt: skip
    elif not owned and any(value is not None for value in override.value.values()):
        out.add(
            "HG423", mark, f"limit `{limit.id}` is shared by callers of all orgs: one of them cannot have more of it",
            advice="`value: unlimited` takes the org out of it",
        )  # fmt: skip


def _finite(values: Mapping[str, Value]) -> set[Value]:
    return {value for value in values.values() if value is not None}


def _named(root: Found) -> dict[tuple[str, str, str], Mark]:
    """Where each exception names each limit: by (`key` or `org`, its name, the limit's id)."""
    marks: dict[tuple[str, str, str], Mark] = {}
    for entry in root.each("overrides"):
        subject = "key" if entry.has("key") else "org"
        for limit in entry.each("limits"):
            marks[subject, entry.value_of(subject, ""), limit.value] = limit.mark
    return marks
