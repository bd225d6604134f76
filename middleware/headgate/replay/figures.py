"""What a log can tell of a policy: which of its figures each meter counts, and which limits nothing in it decides.

Law: what the log does not say is not guessed. A limit whose meter, subject or condition needs a fact that no line has
is left out and named with that fact; the others are decided as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from headgate.policy.compiled import Policy
from headgate.quota.balance import SAFE
from headgate.quota.match import Limit
from headgate.quota.meter import MILLION, Meter
from headgate.quota.window import Max
from headgate.replay.entry import Entry

COUNTED = {
    "requests": "requests",
    "bytes_out": "bytes_out",
    "input_tokens": "tokens_in",
    "output_tokens": "tokens_out",
    "tokens_in": "tokens_in",
    "tokens_out": "tokens_out",
    "records": "records",
}
"""The figures of a log by the meters that count them."""

INSIDE = {"cached_tokens": "input_tokens", "reasoning_tokens": "output_tokens"}
"""Parts of other meters that no log tells apart: they count as 0, so that the whole counts in full."""

TOLD = frozenset({"key", "org", "group", "ip", "plan", "method", "route", "header.user-agent"})
"""What every line may say of a request; a `route` is matched by the path alone."""

Amount = Callable[[Entry], int]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a log says for one policy.

    | field | meaning |
    | --- | --- |
    | `limits` | those that can be decided |
    | `used` | by a meter's name, how much of it a line says was used, as far as the meter allows; None where the line alone does not tell: a sum with a factor by what is asked, different things |
    | `fields` | by a meter's name, the log's field that it is read from |
    | `undecided` | (limit, why not) |
    """  # noqa: E501  (a table's row is one line)

    limits: tuple[Limit, ...]
    used: Mapping[str, Amount | None]
    fields: Mapping[str, str]
    undecided: tuple[tuple[str, str], ...]
    amounts: Mapping[str, Amount]

    def summed(self, meter: Meter, entry: Entry, factor: int) -> int:
        """Units of a sum that a line says were used, by a factor (millionths)."""
        assert meter.sum is not None, "only a sum has a factor"
        parts = {part.name: part.bounded(self.amounts[part.name](entry)) for part in meter.parts}
        return meter.bounded(meter.sum.summed(parts, factor))


def figures(policy: Policy, *, claims: bool) -> Figures:
    """Works out what a log can tell of `policy`. `claims`: whether a directory tells each key's claims and tags."""
    read = _fields(policy.limits)
    limits, undecided = [], []
    for limit in policy.limits:
        why = _why_not(limit, policy, read, claims)
        if why:
            undecided.append((limit.id, why))
        else:
            limits.append(limit)
    amounts = {name: _amount(field) for name, field in read.items()}
    meters = {limit.meter.name: limit.meter for limit in limits}
    needed = {part.name for meter in meters.values() for part in (meter, *meter.parts)}
    return Figures(
        tuple(limits),
        {name: _used(meter, amounts) for name, meter in meters.items()},
        {name: field for name, field in read.items() if field not in {"", "requests"} and name in needed},
        tuple(undecided),
        amounts,
    )


def _used(meter: Meter, amounts: Mapping[str, Amount]) -> Amount | None:
    if meter.things or (meter.sum is not None and (meter.sum.by or meter.sum.inside)):
        return None
    if meter.sum is None:
        return _bounded(meter, amounts[meter.name])
    parts = [
        (meter.sum.weights[part.name] * meter.sum.default, _bounded(part, amounts[part.name])) for part in meter.parts
    ]
    return _bounded(meter, _weighed(parts))


def _bounded(meter: Meter, amount: Amount) -> Amount:
    if meter.most is None:
        return amount  # what a line says is bounded already
    return lambda entry: meter.bounded(amount(entry))


def _weighed(parts: list[tuple[int, Amount]]) -> Amount:
    """As `Sum.summed` has it."""

    def total(entry: Entry) -> int:
        weighed = 0
        for weight, amount in parts:
            weighed += weight * amount(entry)
        return min(-(-weighed // (MILLION * MILLION)), SAFE)

    return total


def _fields(limits: Iterable[Limit]) -> dict[str, str]:
    """By a meter's name, the field that it is read from ("" for what counts as 0).

    What the app reports (`from: app`) is the log's `records`, if the policy has one such meter: with two of them
    nobody could say which.
    """
    meters = {part.name: part for limit in limits for part in (limit.meter, *limit.meter.parts)}
    read = {name: "requests" for name, meter in meters.items() if meter.source == "request"}
    read |= {name: field for name, field in COUNTED.items() if name in meters and field != "requests"}
    read |= {name: "" for name, meter in meters.items() if name in INSIDE and meter.source.startswith("preset.")}
    read |= {name: "resources" for name, meter in meters.items() if meter.things}
    reported = [name for name, meter in meters.items() if meter.source == "app" and name not in read]
    if len(reported) == 1 and "records" not in read.values():
        read[reported[0]] = "records"
    return read


def _amount(field: str) -> Amount:
    if field == "requests":
        return lambda entry: 1
    if field in {"", "resources"}:  # different things are settled by their names
        return lambda entry: 0
    return {
        "bytes_out": lambda entry: entry.bytes_out or 0,
        "tokens_in": lambda entry: entry.tokens_in or 0,
        "tokens_out": lambda entry: entry.tokens_out or 0,
        "records": lambda entry: entry.records or 0,
    }[field]


def _why_not(limit: Limit, policy: Policy, read: Mapping[str, str], claims: bool) -> str:
    """Why a limit cannot be decided; "" if it can be."""
    if any(isinstance(value, Max) for value in limit.values.values()):
        return "how many are under way at once is not in a log"
    for part in limit.meter.parts or (limit.meter,):
        if part.name not in read:
            return f"the log has no figure for the meter `{part.name}`"
    tests = [text.split(None, 2)[1].rstrip(":") for text, _ in limit.conditions]
    if "python" in tests or (limit.applies is not None and not tests):
        return "it asks a function of the app"
    factor = [limit.meter.sum.by] if limit.meter.sum is not None and limit.meter.sum.by else []
    for name in (*limit.per, *tests, *factor):
        source = policy.scopes.get(name, name)
        if source in TOLD or source == "country" or source.startswith("trait.") or source in policy.identify.traits:
            continue
        if source == "tag" or source.startswith("claim."):
            if not claims:
                return f"`{source}` is told by a directory, and there is none"
            continue
        return f"`{source}` is not in a log"
    return ""
