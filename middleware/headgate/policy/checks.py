"""What the fields of a policy mean together: references, what a verb may carry, what contradicts itself.

Law: every check looks at what was read and says all that is wrong with it; none stops at the first fault, none relies
on another having passed. What was wrong in itself is left out by now and is not complained of again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from headgate.document import Mark
from headgate.nearest import nearest
from headgate.policy import meter_checks
from headgate.policy.limits import BUILT_IN_TESTS
from headgate.policy.model import BELONGS, STEP_NEEDS, WHEN
from headgate.policy.names import BUILT_IN_SCOPES, Names, check_meter, check_scope, mark_of, refer
from headgate.policy.problem import Findings
from headgate.policy.shape import Found
from headgate.policy.values import KINDS
from headgate.policy.words import is_source


def check(root: Found, out: Findings) -> None:
    """All checks of a root, in the order of the file's sections."""
    names = Names.of(root)
    _check_names(root, out)
    _check_identify(root, names, out)
    meter_checks.check(root, names, out)
    for name, limit in root.rows("limits"):
        _check_limit(name, limit, root, names, out)
    _check_linking(root, out)
    for step in root.each("ladder"):
        _check_step(step, names, out)
    _check_overrides(root, names, out)


def _check_names(root: Found, out: Findings) -> None:
    taken: dict[str, Mapping[str, str]] = {
        "scopes": dict.fromkeys(BUILT_IN_TESTS, "a field of `when`") | dict.fromkeys(BUILT_IN_SCOPES, "a scope"),
        "meters": dict.fromkeys(("requests", "streams"), "a meter that needs nothing set"),
    }
    for section, words in taken.items():
        found = root.get(section)
        for name, mark in found.names.items() if found is not None else ():
            if name in words:
                out.add("HG417", mark, f"`{name}` is built in: {words[name]}", advice="choose another name")
    scopes = root.get("scopes")
    identify = root.get("identify")
    below = identify.get("traits") if identify is not None else None
    for name, mark in below.names.items() if below is not None else ():
        if (scopes is not None and scopes.has(name)) or name in set(BUILT_IN_TESTS) - {"country"}:
            out.add("HG417", mark, f"`{name}` is a scope or a field of `when` already", advice="choose another name")


def _check_identify(root: Found, names: Names, out: Findings) -> None:
    found = root.get("identify")
    if found is None:
        return
    anonymous = found.get("anonymous")
    if anonymous is not None and anonymous.form == "map":
        plan = anonymous.get("plan")
        if plan is not None:
            _check_plan(plan, names, out)
        elif names.plans and not anonymous.has("plan"):
            out.add(
                "HG202", found.names["anonymous"], "`identify.anonymous` has no `plan`",
                advice=f"plans are declared, so say which one: {', '.join(f'`{each}`' for each in names.plans)}",
            )  # fmt: skip
    elif found.value_of("unknown_key") == "anonymous" and not found.has("anonymous"):
        out.add(
            "HG202", found.names["unknown_key"], "unknown keys are to be anonymous, but `anonymous` is not allowed",
            advice="anonymous callers are refused unless you write `anonymous: {plan: …, per: ip}`",
        )  # fmt: skip


def _check_plan(found: Found, names: Names, out: Findings) -> None:
    if found.value not in names.plans and "plans" not in names.broken:
        refer(out, "HG401", found.mark, found.value, names.plans, "plan")


def _check_limit(name: str, found: Found, root: Found, names: Names, out: Findings) -> None:
    verb = next((each for each in KINDS if found.has(each)), "")
    meter = found.get("meter")
    if meter is not None:
        check_meter(meter.value, meter.mark, root, names, out)
    for scope in found.each("per"):
        check_scope(scope, names, out)
    for field in (verb, "candidate"):
        below = found.get(field) if field else None
        if below is not None:
            _check_values(name, field, below, found.names[field], names, out)
    _check_modifiers(verb, found, out)
    meter_checks.check_limit(name, verb, found, root, out)
    for word in ("when", "unless"):
        _check_tests(word, found.get(word), names, out)
    _check_contradiction(name, found, out)
    _check_clause(found.get("terms"), names, out)
    if not found.has("on_store_error") and not root.has("on_store_error"):
        out.add(
            "HG411", mark_of(root, "limits", name),
            f"it is not said what limit `{name}` does while the store is away",
            advice="write `on_store_error:` once for the file, or in the limit: `closed`, `open` or `local`",
        )  # fmt: skip


def _check_values(name: str, field: str, found: Found, at: Mark, names: Names, out: Findings) -> None:
    if found.form == "leaf" or "plans" in names.broken:
        return
    for plan, mark in found.names.items():
        if plan != "default" and plan not in names.plans:
            refer(out, "HG401", mark, plan, names.plans, "plan")
    lacking = [plan for plan in names.plans if not found.has(plan)]
    misspelt = any(nearest(plan, lacking) for plan in found.fields if plan not in names.plans)
    if found.has("default") or misspelt:
        return
    if lacking or not names.plans:
        listed = " and ".join(f"plan `{plan}`" for plan in lacking) or "everybody"
        out.add(
            "HG402", at, f"`{field}` of limit `{name}` has no value for {listed}",
            advice="write one, or `default:` for all that are not named; `unlimited` is a value too",
        )  # fmt: skip


def _check_modifiers(verb: str, found: Found, out: Findings) -> None:
    if not verb:
        return
    for modifier, owner in BELONGS.items():
        if found.has(modifier) and verb != owner:
            out.add(
                "HG207", found.names[modifier], f"`{modifier}` belongs to `{owner}`, and this limit is a `{verb}`"
            )
    if found.has("alert") and verb in {"rate", "max"}:
        out.add(
            "HG412", found.names["alert"], f"`alert` says how much of a window is used, and a `{verb}` has none",
            advice="use it with `quota`, `rolling` or `total`",
        )  # fmt: skip
    if found.has("slice") and verb == "max":
        out.add("HG413", found.names["slice"], "a place of a `max` cannot be charged before it is taken")


def _check_tests(word: str, found: Found | None, names: Names, out: Findings) -> None:
    if found is None:
        return
    known = (*BUILT_IN_TESTS, *names.scopes, *names.traits)
    for name, mark in found.names.items():
        if name not in known and not is_source(name) and not names.broken & {"scopes", "identify"}:
            meant = nearest(name, known)
            advice = WHEN.hints.get(name) or f"there are {', '.join(f'`{each}`' for each in known)}"
            said = f"`{word}` has no field `{name}`, and no scope or trait is called so"
            out.add("HG408", mark, said, suggestion=meant, advice="" if meant else advice)
    for plan in found.each("plan"):
        _check_plan(plan, names, out)


def _check_contradiction(name: str, found: Found, out: Findings) -> None:
    when, unless = found.get("when"), found.get("unless")
    if when is None or unless is None or not unless.fields:
        return
    wanted, spared = _texts(when), _texts(unless)
    if all(field in wanted and wanted[field] <= texts for field, texts in spared.items()):
        out.add(
            "HG419", found.names["unless"], f"limit `{name}` never applies: all that meets `when` is exempt",
        )  # fmt: skip


def _texts(found: Found) -> dict[str, set[str]]:
    return {name: {item.text for item in field.items} or {field.text} for name, field in found.right()}


def _check_clause(found: Found | None, names: Names, out: Findings) -> None:
    if found is not None and found.value not in names.clauses and "terms" not in names.broken:
        refer(out, "HG405", found.mark, found.value, names.clauses, "clause")


def _check_linking(root: Found, out: Findings) -> None:
    found = root.get("linking")
    if found is None:
        return
    states = found.get("states")
    if states is not None:
        suspect, linked = states.get("suspect"), states.get("linked")
        if suspect is not None and linked is not None and suspect.value >= linked.value:
            out.add("HG418", linked.mark, f"`linked` ({linked.text}) must be larger than `suspect` ({suspect.text})")
    separate = [{org.value for org in entry.each("orgs")} for entry in found.each("separate")]
    seen: dict[str, Mark] = {}
    for entry in (*found.each("affiliated"), *found.each("separate")):
        orgs = entry.get("orgs")
        if orgs is not None and len(orgs.items) < 2:
            out.add("HG209", orgs.mark, "one org alone is not two", advice="name two orgs or more")
    for entry in found.each("affiliated"):
        for org in entry.each("orgs"):
            if org.value in seen:
                out.add("HG415", org.mark, f"`{org.value}` is in a group already, see line {seen[org.value].line}")
            seen.setdefault(org.value, org.mark)
        together = {org.value for org in entry.each("orgs")}
        for apart in separate:
            if len(both := sorted(together & apart)) > 1:
                out.add(
                    "HG415", entry.mark, f"`{both[0]}` and `{both[1]}` are affiliated here and `separate` elsewhere"
                )


def _check_step(found: Found, names: Names, out: Findings) -> None:
    do = found.value_of("do", "")
    lacking = [f"`{name}`" for name in STEP_NEEDS.get(do, ()) if not found.has(name)]
    if lacking:
        remedy = {
            "suspend": "write `review: human` and `appeal: {url: …, within: 14d}`: who is suspended can object",
            "throttle": "write `scale: 25%`: what is left of the limits",
        }
        out.add("HG212", found.fields["do"].mark, f"`{do}` lacks {' and '.join(lacking)}", advice=remedy[do])  # type: ignore[union-attr]
    if do and do != "throttle" and found.has("scale"):
        out.add("HG207", found.names["scale"], f"`scale` belongs to `throttle`, and this step is a `{do}`")
    when = found.get("when")
    limit = when.get("limit") if when is not None and when.form == "map" else None
    if limit is not None:
        _check_limit_id(limit, names, out)
    if when is not None and when.value == "suspect" and do in {"pool", "throttle", "suspend"}:
        out.add(
            "HG515", when.mark, f"`{do}` on mere suspicion", advice="wait for `linked`; `flag` and `notify` may come"
        )
    _check_clause(found.get("terms"), names, out)


def _check_limit_id(found: Found, names: Names, out: Findings) -> None:
    if found.value not in names.limits and "limits" not in names.broken:
        refer(out, "HG406", found.mark, found.value, names.limits, "limit")


def _check_overrides(root: Found, names: Names, out: Findings) -> None:
    seen: dict[tuple[str, str, str], Mark] = {}
    for entry in root.each("overrides"):
        subject = "key" if entry.has("key") else "org"
        whose = entry.value_of(subject, "")
        for limit in entry.each("limits"):
            _check_limit_id(limit, names, out)
            place = (subject, whose, limit.value)
            if place in seen and whose:
                first = seen[place]
                out.add(
                    "HG416", limit.mark, f"{subject} `{whose}` has another override of `{limit.value}`, see {first}",
                    advice="delete one: there is no precedence",
                )  # fmt: skip
            seen.setdefault(place, limit.mark)


def dated(root: Found) -> Iterator[tuple[str, Found]]:
    """Every dated entry of a policy, with the list that it stands in."""
    for entry in root.each("overrides"):
        yield "override", entry
    linking = root.get("linking")
    for name in ("ignore", "separate", "affiliated"):
        for entry in linking.each(name) if linking is not None else ():
            yield f"entry of `{name}`", entry
