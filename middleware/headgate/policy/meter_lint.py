"""Warnings on meters and on what limits ask of them: what can be counted, and never will be.

Law: a limit that is never reached looks like one that nobody has reached yet. What shows that it cannot be, by the
text alone, is said.
"""

from __future__ import annotations

import re

from headgate.policy.literals import MILLION
from headgate.policy.problem import Findings
from headgate.policy.shape import Found

COUNTS_OF_REQUESTS = frozenset({"requests", "streams"})
"""Meters of which a request under way is one."""

PARAMETERS = re.compile(r"\{([^{}:]+)[^{}]*\}|<(?:[^<>]*:)?([^<>:]+)>")
"""A template's parameters as frameworks write them: `{id}`, `{id:int}`, `<int:id>`."""


def look(root: Found, out: Findings) -> None:
    """All warnings on meters, and on the limits that count by them."""
    meters = dict(root.rows("meters"))
    for name, found in meters.items():
        _never_counts(name, found, out)
        _chooses_nothing(found, out)
    for name, found in root.rows("limits"):
        meter = meters.get(found.value_of("meter", ""))
        if meter is None or not meter.has("distinct"):  # of things it is an error
            _places(name, found, out)
        else:
            _unnamed(name, found, meter, out)


def _never_counts(name: str, found: Found, out: Findings) -> None:
    most, weights, times = found.get("max"), dict(found.rows("sum")), found.get("times")
    nothing = f"meter `{name}` never counts, and no limit on it is ever reached"
    if most is not None and most.value == 0:
        out.add("HG521", most.mark, f"no request is charged more than 0: {nothing}")
    if weights and not any(weight.value for weight in weights.values()):
        out.add("HG521", found.names["sum"], f"every weight is 0: {nothing}")
    elif times is not None and not any(_factors(times)):
        out.add("HG521", found.names["times"], f"every factor is 0: {nothing}")


def _factors(times: Found) -> list[int]:
    """All the factors of `times` (millionths), the default's last."""
    patterns = [factor.value for pattern, factor in times.right() if pattern not in {"by", "default"}]
    return [*patterns, times.value_of("default", MILLION)]


def _chooses_nothing(found: Found, out: Findings) -> None:
    times = found.get("times")
    by = times.get("by") if times is not None else None
    if found.has("sum") and times is not None and by is not None and times.fields.keys() <= {"by", "default"}:
        out.add(
            "HG524", by.mark, f"`{by.text}` chooses nothing: no value of it has a factor of its own",
            advice="add one, such as `big-*: 4`, or multiply the weights and delete `times`",
        )  # fmt: skip


def _places(name: str, found: Found, out: Findings) -> None:
    meter = found.get("meter")
    if meter is None or not found.has("max") or meter.value in COUNTS_OF_REQUESTS:
        return
    out.add(
        "HG522", meter.mark, f"limit `{name}` counts requests under way, and not how much `{meter.value}` they take",
        advice="write `meter: streams`, or bound the amounts by `rate`, `quota`, `rolling` or `total`",
    )  # fmt: skip


def _unnamed(name: str, found: Found, meter: Found, out: Findings) -> None:
    kind, _, parameter = str(meter.value_of("distinct", "")).partition(".")
    when = found.get("when")
    for route in when.each("route") if kind == "path" and when is not None else ():
        named = [braced or pointed for braced, pointed in PARAMETERS.findall(route.value)]
        if named and parameter not in named:
            out.add(
                "HG523", route.mark, f"limit `{name}` counts nothing there: the route has no parameter `{parameter}`",
                advice=f"it has {', '.join(f'`{word}`' for word in named)}",
            )  # fmt: skip
