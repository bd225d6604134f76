"""What was read and checked becomes the compiled policy.

Law: the result is immutable, holds integers and closures, no text to be parsed and no place in a file. The same
content gives the same version on every machine. What cannot be compiled is reported at its place; a policy with an
error is never half compiled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

from headgate.policy import owners
from headgate.policy.compiled import DIALECT, Acceptance, Clause, Dated, Linking, Policy, Step
from headgate.policy.conditions import imported
from headgate.policy.estimates import estimate_of
from headgate.policy.limits import Frame, limit_of, overrides_of
from headgate.policy.literals import Every, Wrong
from headgate.policy.meters import meters_of, presets_of
from headgate.policy.model import ENGINES_LATER
from headgate.policy.names import traits
from headgate.policy.problem import Findings
from headgate.policy.shape import Found
from headgate.policy.values import end_of
from headgate.quota.facts import Group
from headgate.quota.identify import Identify, Source
from headgate.quota.match import WHOLE


def compiled(root: Found, out: Findings, mode: str = "") -> Policy | None:
    """The policy of a root that was read and checked, or None where there were errors. `mode` replaces its own."""
    zone = root.value_of("zone", "UTC")
    meters = meters_of(root, estimate_of(root, out))
    frame = Frame(
        plans=tuple(plan.value for plan in root.each("plans")),
        meters=meters,
        scopes={name: source.value for name, source in root.rows("scopes")},
        traits=tuple(name for name, _ in traits(root)),
        zone=zone,
        mode=mode or root.value_of("mode", "enforce"),
        rollout=root.value_of("rollout", WHOLE),
        on_store_error=root.value_of("on_store_error", ""),
        out=out,
    )
    rows = [limit_of(name, found, frame) for name, found in root.rows("limits")]
    limits = tuple([limit for limit in rows if limit is not None])
    overrides = overrides_of(root, frame)
    owners.check(root, limits, overrides, out)
    identify = identify_of(root, out)
    if out.errors:
        return None
    policy = Policy(
        name=root.value_of("policy"),
        version="",
        mode=frame.mode,
        identify=identify,
        limits=limits,
        plans=frame.plans,
        overrides=overrides,
        scopes=MappingProxyType(frame.scopes),
        clauses=MappingProxyType(_clauses(root)),
        affiliated=_affiliated(root, zone),
        zone=zone,
        on_store_error=frame.on_store_error or "closed",
        not_enforced=_not_enforced(root),
        meters=MappingProxyType(meters),
        presets=presets_of(root),
        include_usage=any(found.has("include_usage") for _, found in root.rows("meters")),
        dialects=_dialects(root),
        linking=_linking(root, zone),
        ladder=tuple(_step(step) for step in root.each("ladder")),
        acceptance=_acceptance(root),
    )
    return _versioned(policy)


def identify_of(root: Found, out: Findings) -> Identify:
    """`identify`, with what holds where it is not written."""
    found = root.get("identify")
    if found is None:
        return Identify()
    trust = found.get("trust")
    anonymous = found.get("anonymous")
    keys = found.each("key")
    return Identify(
        key=tuple(Source.parse(key.value) for key in keys) if keys else Identify().key,
        directory=_directory(found.get("directory"), out),
        anonymous=None if anonymous is None or anonymous.form == "leaf" else anonymous.value_of("plan", ""),
        unknown_key=found.value_of("unknown_key", "refuse"),
        proxies=tuple(proxy.value for proxy in trust.each("proxies")) if trust is not None else (),
        proxy_header=trust.value_of("header", "").encode() if trust is not None else b"",
        traits=MappingProxyType({name: Source.parse(trait.value) for name, trait in found.rows("traits")}),
    )


def _directory(found: Found | None, out: Findings) -> str:
    if found is None:
        return ""
    if found.form == "leaf":
        return str(found.value)
    reference = found.get("python")
    if reference is None:
        return ""
    try:
        imported(reference.value, waits=True)
    except Wrong as wrong:
        out.add("HG410", reference.mark, wrong.why)
    return f"python:{reference.value}"


def _dialects(root: Found) -> tuple[tuple[str, str], ...]:
    found = root.get("dialect")
    if found is None or found.form == "leaf":
        return (("*", DIALECT if found is None else found.value),)
    routes = [(route, word.value) for route, word in found.right() if route != "default"]
    return (*routes, ("*", found.value_of("default", DIALECT)))


def _clauses(root: Found) -> dict[str, Clause]:
    rows = ((name, found) for name, found in root.rows("terms") if name != "acceptance")
    return {name: Clause(name, found.value_of("title", ""), found.value_of("url", "")) for name, found in rows}


def _acceptance(root: Found) -> Acceptance | None:
    terms = root.get("terms")
    found = terms.get("acceptance") if terms is not None else None
    if found is None:
        return None
    return Acceptance(found.value_of("version", ""), found.value_of("url", ""), found.value_of("grace", 0))


def _affiliated(root: Found, zone: str) -> tuple[tuple[Group, int], ...]:
    """The declared groups. The first org that is listed gives the group its name."""
    linking = root.get("linking")
    entries = linking.each("affiliated") if linking is not None else []
    groups: list[tuple[Group, int]] = []
    for entry in entries:
        orgs = [org.value for org in entry.each("orgs")]
        groups.append((Group(orgs[0], frozenset(orgs)), end_of(entry.value_of("until"), zone)))
    return tuple(groups)


def _linking(root: Found, zone: str) -> Linking | None:
    found = root.get("linking")
    if found is None:
        return None
    states = found.get("states")
    return Linking(
        signals=tuple(signal.value for signal in found.each("signals")),
        suspect=states.value_of("suspect", 0) if states is not None else 0,
        linked=states.value_of("linked", 0) if states is not None else 0,
        channels=found.value_of("channels", 2),
        ignore=tuple(_dated(entry, zone) for entry in found.each("ignore")),
        separate=tuple(_dated(entry, zone) for entry in found.each("separate")),
    )


def _dated(entry: Found, zone: str) -> Dated:
    subject = next(name for name in entry.fields if name not in {"reason", "until"})
    orgs = entry.each("orgs")
    names = tuple(org.value for org in orgs) if orgs else (str(entry.value_of(subject)),)
    return Dated(subject, names, entry.value_of("reason", ""), end_of(entry.value_of("until"), zone))


def _step(found: Found) -> Step:
    when, appeal = found.get("when"), found.get("appeal")
    counted = when is not None and when.form == "map"
    denied: Every = when.value_of("denied") if when is not None and counted else Every(0, 0)
    return Step(
        when="" if when is None or counted else when.value,
        do=found.value_of("do"),
        limit=when.value_of("limit") if when is not None and counted else "",
        denied=denied.amount,
        within=denied.period,
        after=found.value_of("after", 0),
        lasts=found.value_of("for", 0),
        scale=found.value_of("scale", 0),
        clause=found.value_of("terms", ""),
        review=found.value_of("review", ""),
        appeal_url=appeal.value_of("url", "") if appeal is not None else "",
        appeal_within=appeal.value_of("within", 0) if appeal is not None else 0,
    )


def _not_enforced(root: Found) -> tuple[str, ...]:
    said = [f"`ladder`: {ENGINES_LATER['ladder']}"] if steps_come_later(root) else []
    if _acceptance(root) is not None:
        said.append(f"`terms.acceptance`: {ENGINES_LATER['acceptance']}")
    return tuple(said)


def steps_come_later(root: Found) -> bool:
    """Whether the ladder has a step that is not acted upon by this version: any but `pool`."""
    return any(step.value_of("do") != "pool" for step in root.each("ladder"))


def _versioned(policy: Policy) -> Policy:
    digest = hashlib.sha256(canonical(policy).encode("utf-8", "surrogatepass"))
    return replace(policy, version=digest.hexdigest()[:12])


def canonical(value: Any) -> str:
    """A value as text that is the same wherever the same policy is compiled; closures are left to their text."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{canonical(key)}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, frozenset):
        return "{" + ",".join(sorted(map(canonical, value))) + "}"
    if is_dataclass(value) and not isinstance(value, type):
        parts = (f"{part.name}={canonical(getattr(value, part.name))}" for part in fields(value))
        return f"{type(value).__name__}({','.join(parts)})"
    if isinstance(value, tuple | list):
        return "(" + ",".join(map(canonical, value)) + ")"
    if callable(value):
        return "*"
    return repr(value) if isinstance(value, int | str | bytes | bool | None) else str(value)
