"""The meters of a policy, compiled: built in, given by presets, declared, and sums of those.

Law: what a limit counts is known from its meter alone. A sum holds the meters that it is made of, as they are, so
that nothing need be looked up by name when a request is decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from headgate.policy.literals import MILLION
from headgate.policy.shape import Found
from headgate.quota.estimate import BY_BYTES, Estimate
from headgate.quota.meter import BUILT_IN_METERS, Meter, Sum

PRESET_METERS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
"""The meters that a preset gives."""

PARTS_OF = {"cached_tokens": "input_tokens", "reasoning_tokens": "output_tokens"}
"""Of these meters, which is counted within which. A sum that weighs both is a price list: what has a price of its own
is not paid for twice."""


def meters_of(root: Found, estimate: Estimate = BY_BYTES) -> dict[str, Meter]:
    """Every meter by name: built in, given by presets, and declared; the sums, which are made of the others, last.
    `estimate` is that of the presets."""
    meters: dict[str, Meter] = dict(BUILT_IN_METERS)
    presets = presets_of(root)
    for name in PRESET_METERS if presets else ():
        meters[name] = Meter(name, f"preset.{'+'.join(presets)}", estimate=estimate)
    for name, found in root.rows("meters"):
        source = _origin(found) or (meters[name].source if name in meters else "")
        if not source or found.has("preset") or found.has("sum"):
            continue
        named = [each.value for each in found.each("reserve")]
        sources = tuple([value for value in named if isinstance(value, str)])
        meters[name] = Meter(
            name,
            source,
            reserve=found.value_of("reserve_default", 0) if sources else sum(named),
            reserve_from=sources,
            reserve_times=tuple([each.value for each in found.each("reserve_times")]),
            most=found.value_of("max"),
            overrun=found.value_of("overrun", "finish"),
            estimate=estimate if source.startswith("preset.") else BY_BYTES,
        )
    scopes = {name: source.value for name, source in root.rows("scopes")}
    sums = {name: _summing(name, found, meters, scopes) for name, found in root.rows("meters") if found.has("sum")}
    return {**meters, **sums}


def _origin(found: Found) -> str:
    if found.has("from"):
        return str(found.value_of("from", ""))
    return f"distinct.{found.value_of('distinct', '')}" if found.has("distinct") else ""


def presets_of(root: Found) -> tuple[str, ...]:
    """The presets that a policy names, in its order."""
    named = [found.value_of("preset") for _, found in root.rows("meters")]
    return tuple(dict.fromkeys(preset for preset in named if preset))


def _summing(name: str, found: Found, meters: Mapping[str, Meter], scopes: Mapping[str, str]) -> Meter:
    weights = {meter: weight.value for meter, weight in found.rows("sum")}
    parts = tuple([meters[part] for part in weights if part in meters])
    priced = {part.name for part in parts if part.source.startswith("preset.")}
    summed = Sum(
        MappingProxyType(weights),
        inside=tuple([(part, whole) for part, whole in PARTS_OF.items() if {part, whole} <= priced]),
    )
    times = found.get("times")
    if times is not None:
        by = times.value_of("by", "")
        summed = replace(
            summed,
            by=scopes.get(by, by),
            factors=tuple([(glob, factor.value) for glob, factor in times.right() if glob not in {"by", "default"}]),
            default=times.value_of("default", MILLION),
        )
    overrun = "cut" if any(part.overrun == "cut" for part in parts) else "finish"
    return Meter(name, "sum", overrun=overrun, sum=summed, parts=parts)
