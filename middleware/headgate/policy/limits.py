"""A row of the table, and the dated exceptions to it, compiled.

Law: a limit is the weakest of what the file, the limit and the caller of `load` say: shadow anywhere is shadow, and
of two shares the smaller one holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from headgate.policy.conditions import applies, condition
from headgate.policy.literals import Every, Wrong, spelled
from headgate.policy.problem import Findings
from headgate.policy.shape import Found
from headgate.policy.values import Manner, by_plan, end_of, spelled_time
from headgate.policy.words import is_source
from headgate.quota.ahead import reserved
from headgate.quota.facts import Call, Principal
from headgate.quota.match import WHOLE, Condition, Limit
from headgate.quota.meter import MILLION, Meter
from headgate.quota.owner import Override, Value
from headgate.quota.window import Max

NOBODY = Call(Principal("", ""))
"""A request that says nothing of itself."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What the rest of the policy says, as far as a limit has to know it."""

    plans: tuple[str, ...]
    meters: Mapping[str, Meter]
    scopes: dict[str, str]
    traits: tuple[str, ...]
    zone: str
    mode: str
    rollout: int
    on_store_error: str
    out: Findings

    def sources(self) -> dict[str, str]:
        """Where each scope and trait that `when` may name is read. A scope comes before a trait of its name."""
        return {**{name: f"trait.{name}" for name in self.traits}, **self.scopes}


def limit_of(name: str, found: Found, frame: Frame) -> Limit | None:
    """One limit, or None where it is wrong (then that is reported) or disabled (then a note says so)."""
    manner = Manner.of(found, frame.zone)
    meter = frame.meters.get(found.value_of("meter", ""))
    conditions, closure = _conditions(found, frame)
    if manner is None or meter is None:
        return None
    values = _values(found, manner, meter, frame)
    candidate = _candidate(found, manner, frame)
    mode = found.value_of("mode", "enforce")
    if mode == "disabled":
        frame.out.add("HG905", found.names["mode"], f"limit `{name}` is disabled: it neither counts nor refuses")
        return None
    deny = found.get("deny")
    return Limit(
        id=name,
        meter=meter,
        per=tuple(item.value for item in found.each("per")),
        values=MappingProxyType(values),
        applies=closure,
        shadow="shadow" in {mode, frame.mode},
        rollout=min(frame.rollout, found.value_of("rollout", WHOLE)),
        candidate=MappingProxyType(candidate) if candidate is not None else None,
        alerts=tuple(sorted(item.value for item in found.each("alert"))),
        clause=found.value_of("terms", ""),
        on_store_error=found.value_of("on_store_error", frame.on_store_error or "closed"),
        share=found.value_of("slice", 0),
        deny_status=deny.value_of("status", 429) if deny is not None else 429,
        deny_message=deny.value_of("message", "") if deny is not None else "",
        conditions=conditions,
    )


def _values(found: Found, manner: Manner, meter: Meter, frame: Frame) -> dict[str, Value]:
    below = found.get(manner.verb)
    assert below is not None, "the manner knows the verb from here"
    values: dict[str, Value] = {}
    for plan, leaf in by_plan(below).items():
        try:
            value = values[plan] = manner.value(leaf.value)
        except Wrong as wrong:
            _say(frame.out, leaf, wrong, "HG311", "cannot be counted exactly")
            continue
        _check_size(plan, leaf, value, found, meter, frame)
    return values


def _check_size(plan: str, leaf: Found, value: Value, found: Found, meter: Meter, frame: Frame) -> None:
    whose = f"plan `{plan}`" if plan else "everybody it applies to"
    if isinstance(leaf.value, Every) and leaf.value.loosely:
        days = f"{spelled(leaf.value.amount)}/{spelled_time(leaf.value.period)}"
        said = f"`{leaf.text}` is read as {leaf.value.loosely}, not as the calendar has it"
        frame.out.add("HG512", leaf.mark, said, suggestion=days, advice="for the calendar's there is `quota`")
    if value is None:
        return
    if value.capacity == 0:
        if found.has("deny"):
            frame.out.add("HG510", leaf.mark, f"the value 0 refuses every request of {whose}")
        else:
            frame.out.add(
                "HG320", leaf.mark, f"the value 0 refuses every request of {whose}",
                advice="if that is meant, say so: `deny: true`",
            )  # fmt: skip
    elif not isinstance(value, Max):
        _check_held(leaf, value.capacity, whose, meter, frame.out)


def _check_held(leaf: Found, most: int, whose: str, meter: Meter, out: Findings) -> None:
    """Whether what a request holds that announces nothing fits at all: of a sum, by each of its factors."""
    held = {pattern: reserved(meter, NOBODY, factor) for pattern, factor in _factors(meter)}
    if (least := min(held.values())) > most:
        out.add(
            "HG414", leaf.mark,
            f"meter `{meter.name}` reserves {least} for each request, and {most} is all that "
            f"this ever grants: every request of {whose} would be refused",
        )  # fmt: skip
        return
    by = meter.sum.by if meter.sum is not None else ""
    for pattern, amount in held.items():
        if amount > most:
            which = f"for each `{by}` of `{pattern}`" if pattern else f"for each `{by}` without a factor of its own"
            out.add(
                "HG414", leaf.mark,
                f"meter `{meter.name}` reserves {amount} {which}, and {most} is all that this ever grants: every "
                f"such request of {whose} would be refused",
                advice="if that is meant, refuse them by a limit of their own: `when`, a value of 0 and `deny: true`",
            )  # fmt: skip


def _factors(meter: Meter) -> list[tuple[str, int]]:
    """The factors of a sum by their patterns, "" for the default, as far as any of them can decide."""
    if meter.sum is None:
        return [("", MILLION)]
    factors = [*meter.sum.factors, ("", meter.sum.default)]
    everything = next((at for at, (pattern, _) in enumerate(factors) if pattern.strip("*") == ""), len(factors))
    return factors[: everything + 1]


def _candidate(found: Found, manner: Manner, frame: Frame) -> dict[str, Value] | None:
    below = found.get("candidate")
    if below is None:
        return None
    values: dict[str, Value] = {}
    for plan, leaf in by_plan(below).items():
        try:
            values[plan] = manner.text_value(leaf.value)
        except Wrong as wrong:
            _say(frame.out, leaf, wrong, "HG409", f"is no value for this limit's `{manner.verb}`")
    return values


def _say(out: Findings, leaf: Found, wrong: Wrong, number: str, what: str) -> None:
    why = f": {wrong.why}" if wrong.why else ""
    out.add(wrong.number or number, leaf.mark, f"`{leaf.text}` {what}{why}", suggestion=wrong.suggestion)


def _conditions(found: Found, frame: Frame) -> tuple[tuple[tuple[str, Condition], ...], Condition | None]:
    """Each single test with its text, and the one closure of them all."""
    sources = frame.sources()
    texts: list[tuple[str, Condition]] = []
    tests: dict[str, list[Condition]] = {"when": [], "unless": []}
    for word, into in tests.items():
        for name, field in found.rows(word):
            if name not in BUILT_IN_TESTS and not is_source(name) and name not in sources:
                continue  # reported as an unknown reference
            try:
                test = condition(name, field, sources, exempt=word == "unless")
            except Wrong as wrong:
                frame.out.add("HG410", field.mark, wrong.why)
                continue
            into.append(test)
            texts.append((f"{word} {name}: {_written(field)}", test))
    return tuple(texts), applies(tests["when"], tests["unless"])


BUILT_IN_TESTS = ("route", "method", "plan", "key", "org", "tag", "ip", "country", "python")
"""Fields of `when` and `unless` beside scopes and traits."""


def _written(field: Found) -> str:
    if field.form == "leaf":
        return field.text
    texts = [item.text for item in field.items]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def overrides_of(root: Found, frame: Frame) -> tuple[Override, ...]:
    """The dated exceptions, one for each limit that they name: each in the manner of its limit."""
    limits = dict(root.rows("limits"))
    found: list[Override] = []
    for entry in root.each("overrides"):
        value, until = entry.get("value"), entry.get("until")
        subject = "key" if entry.has("key") else "org"
        for named in entry.each("limits"):
            limit = limits.get(named.value)
            manner = Manner.of(limit, frame.zone) if limit is not None else None
            if manner is None or value is None or until is None:
                continue
            try:
                window = manner.text_value(value.value)
            except Wrong as wrong:
                _say(
                    frame.out, value, wrong, "HG409", f"is no value for the `{manner.verb}` of limit `{named.value}`"
                )
                continue
            found.append(
                Override(
                    subject,
                    entry.value_of(subject, ""),
                    frozenset({named.value}),
                    MappingProxyType({"": window}),
                    end_of(until.value, frame.zone),
                    entry.value_of("reason", ""),
                )
            )
    return tuple(found)
