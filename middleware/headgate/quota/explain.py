"""Why a request is decided as it is, in lines that a person can read.

Law: values in, lines out; nothing is decided here and nothing is counted anew. What a limit would do is read from the
tariff that decides requests; what was done is read from the event that told of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from headgate.quota.ahead import subject_of
from headgate.quota.balance import FOREVER, Verb
from headgate.quota.calendar import Calendar
from headgate.quota.command import Demand
from headgate.quota.facts import Call
from headgate.quota.gcra import Rate
from headgate.quota.match import CANDIDATE, WHOLE, Limit, Line, Tariff
from headgate.quota.meter import MILLION, Meter
from headgate.quota.owner import Override, Value, owner_of, valued
from headgate.quota.window import Max, Quota, Rolling

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

UNITS = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"))
"""The letters that the policy language has for durations."""


@dataclass(frozen=True, slots=True)
class Explained:
    """One limit held against one request.

    | field | meaning |
    | --- | --- |
    | `applies` | whether it is charged at all |
    | `conditions` | each test of `when` and `unless` as it is written, and whether the request meets it |
    | `line`, `candidate` | how it stands for this caller, and its second value in shadow; None: unlimited |
    | `value` | what the policy says for the caller's plan, an exception taken into account |
    | `demand` | what the request asks of it; None where it does not apply |
    | `subject` | who is charged: (scope, value, scope, value, …) |
    | `override` | the dated exception that holds, if one does |
    """

    limit: Limit
    applies: bool
    conditions: tuple[tuple[str, bool], ...]
    line: Line | None
    candidate: Line | None
    value: Value
    demand: Demand | None
    subject: tuple[str, ...]
    override: Override | None

    @property
    def verdict(self) -> str:
        """In a few words, whether it is charged, and why not."""
        if not self.applies:
            return "does not apply: " + _why_not(self.conditions)
        if self.line is None:
            return "unlimited"
        return "applies" if self.demand is not None else f"asks nothing: no {self.limit.meter.things} in the request"


def explained(
    limits: Iterable[Limit], overrides: Sequence[Override], call: Call, tariff: Tariff, now: int
) -> tuple[Explained, ...]:
    """Each limit of a policy held against one request; `tariff` is the caller's, worked out at `now`."""
    lines = {line.name: line for line in tariff.lines}
    asked = {demand.place[1]: demand for demand in tariff.asked(call).demands}
    found = []
    for limit in limits:
        owner = owner_of(limit.per, call.principal, tariff.org, tariff.group)
        value, _, exceptions = valued(limit.id, limit.values, overrides, owner, now)
        found.append(
            Explained(
                limit,
                applies=limit.applies is None or limit.applies(call),
                conditions=tuple((text, test(call)) for text, test in limit.conditions),
                line=lines.get(limit.id),
                candidate=lines.get(limit.id + CANDIDATE),
                value=value,
                demand=asked.get(limit.id),
                subject=subject_of(limit.per, call.principal, tariff.group, call, tariff.scopes),
                override=exceptions[0] if exceptions else None,
            )
        )
    return tuple(found)


def _why_not(conditions: Sequence[tuple[str, bool]]) -> str:
    missed = [text for text, met in conditions if text.startswith("when ") and not met]
    if missed:
        return f"`{missed[0]}` is not met"
    spared = [text.removeprefix("unless ") for text, met in conditions if text.startswith("unless ") and met]
    return f"`unless {', '.join(spared)}` is met" if spared else "its conditions are not met"


def described(one: Explained, zone: str, clauses: Mapping[str, str]) -> list[str]:
    """One limit in lines: the verdict first, then (indented) what it counts, for whom, and what follows.

    `zone`: the policy's, in which instants are told; `clauses`: the terms' sentences by id.
    """
    limit, lines = one.limit, [f"{one.limit.id}: {one.verdict}"]

    def say(name: str, text: str) -> None:
        lines.append(f"    {name:<14}{text}")

    say("counts", f"{_counted(limit.meter)} per {' + '.join(limit.per)}")
    say("value", _valued(one))
    if one.override is not None:
        say("exception", f"{one.override.reason} (until {instant(one.override.until, zone)})")
    if len(one.conditions) and one.applies:
        say("because", ", ".join(f"{text}{'' if met else ' (not met)'}" for text, met in one.conditions))
    if one.applies:
        say("charged", told_subject(one.subject))
    if one.demand is not None:
        say("asks", _asks(one.demand, limit))
    if one.line is not None:
        say("window", window(one.line.verb, zone))
        say("mode", _mode(limit, one.line))
    if one.candidate is not None:
        say("candidate", f"{amount(one.candidate.verb)}, decided in shadow beside it")
    if limit.alerts:
        say("alerts", "at " + ", ".join(f"{mark}%" for mark in limit.alerts))
    say("store error", limit.on_store_error)
    if limit.deny_status != 429 or limit.deny_message:
        say("refuses with", f"{limit.deny_status} {limit.deny_message}".strip())
    if limit.clause:
        say("clause", f"{limit.clause}: {clauses.get(limit.clause, '')}".rstrip(": "))
    return lines


def _valued(one: Explained) -> str:
    return "unlimited" if one.value is None else amount(one.value)


def _asks(demand: Demand, limit: Limit) -> str:
    if isinstance(demand.verb, Max):
        return f"a place, held while it is served (at most {duration(demand.verb.lease)} unheard of)"
    if not demand.hold:
        return f"{demand.amount:,} at once"
    if demand.things:
        return f"{limit.meter.things} as one thing, held if it is new, and charged if it is handed out"
    sources = [_announced(meter) for meter in (limit.meter, *limit.meter.parts) if _announced(meter)]
    source = f", {' and '.join(sources)}" if sources else ""
    return f"{demand.amount:,} held ahead{source}; what {_teller(limit.meter)} is charged instead, afterwards"


def _announced(meter: Meter) -> str:
    """Where a request says how much it will take; "" of a meter of which it says nothing."""
    several = "the largest of " if len(meter.reserve_from) > 1 else ""
    said = [f"from {several}{_listed(meter.reserve_from)}"] if meter.reserve_from else []
    times = "the largest of " if len(meter.reserve_times) > 1 else ""
    said += [f"times {times}{_listed(meter.reserve_times)}"] if meter.reserve_times else []
    return " ".join(said)


def _listed(sources: Sequence[str]) -> str:
    *others, last = sources
    return f"{', '.join(others)} and {last}" if others else last


def _counted(meter: Meter) -> str:
    """What a meter counts; of a sum also of what it is made."""
    if meter.sum is None:
        return f"different {meter.name}" if meter.things else meter.name
    weighed = " + ".join([f"{weight / MILLION:g} {name}" for name, weight in meter.sum.weights.items()])
    return f"{meter.name} ({weighed}{f', times a factor by {meter.sum.by}' if meter.sum.by else ''})"


def _teller(meter: Meter) -> str:
    """Where the truth about an amount comes from."""
    kind, _, name = meter.source.partition(".")
    told = {
        "app": "the app reports", "bytes_in": "was received", "bytes_out": "was sent",
        "messages": "was received", "preset": "the response reports", "distinct": "was handed out and is new",
        "sum": "its meters come to", "header": f"the response's {name} says",
    }  # fmt: skip
    return told[kind]


def _mode(limit: Limit, line: Line) -> str:
    if not line.shadow:
        share = "" if limit.rollout >= WHOLE else f" (this org is among the {limit.rollout / 100:g}% of the rollout)"
        return "enforced" + share
    if limit.shadow:
        return "shadow: decided and recorded, never refused"
    return f"shadow: this org is not among the {limit.rollout / 100:g}% of the rollout"


def amount(value: Verb | Calendar) -> str:
    """A limit's value, much as a policy writes it.

    >>> amount(Rate(60, 60_000_000, burst=10)), amount(Calendar(5_000, "month", "Europe/Berlin", "subscription"))
    ('60/min, burst 10', '5,000/month (Europe/Berlin, from the subscription)')
    """
    match value:
        case Rate():
            burst = f", burst {value.burst:,}" if value.burst else ""
            return f"{value.amount:,}/{_one(value.period)}{burst}"
        case Calendar():
            every = f"{value.every} " if value.every > 1 else ""
            start = {"subscription": ", from the subscription", "first_use": ", from the first use"}
            return f"{value.capacity:,}/{every}{value.unit} ({value.zone}{start.get(value.anchor, '')})"
        case Rolling():
            return f"{value.capacity:,} in any {duration(value.length)}"
        case Max():
            return f"{value.capacity:,} at a time"
        case Quota():
            return f"{value.capacity:,} a window"
        case _:
            return f"{value.capacity:,} in all"


def window(verb: Verb, zone: str) -> str:
    """When what is used counts as unused again."""
    match verb:
        case Quota() if verb.edges:
            return f"{instant(verb.edges[1], zone)} to {instant(verb.edges[2], zone)}"
        case Quota():
            return f"{duration(verb.length)} from the first use on"
        case Rolling():
            return f"the last {duration(verb.length)}, in {duration(verb.spec)} steps"
        case Rate():
            return (
                f"smooth: one more each {duration(-(-verb.period // verb.amount))}, up to {verb.capacity:,} at once"
            )
        case Max():
            return "none: places are given back"
        case _:
            return "none: for good"


def told_subject(parts: Sequence[str]) -> str:
    """Who is charged.

    >>> told_subject(("org", "acme", "header.x-region", ""))
    'org acme, header.x-region (none)'
    """
    return ", ".join(f"{scope} {value or '(none)'}" for scope, value in zip(parts[::2], parts[1::2], strict=True))


def _one(length: int) -> str:
    """A length as the divisor of a rate: `min` rather than `1min`."""
    return next((letter for unit, letter in UNITS if unit == length), duration(length))


def duration(length: int) -> str:
    """A length of time in the letters of the policy language.

    >>> duration(90 * 60_000_000), duration(20_000_000), duration(1_500), duration(0)
    ('1h30min', '20s', '0.0015s', '0s')
    """
    if length < 60_000_000:
        return f"{length / 1_000_000:g}s"
    parts = []
    for unit, letter in UNITS:
        count, length = divmod(length, unit)
        if count:
            parts.append(f"{count}{letter}")
    return "".join(parts[:3])


def instant(at: int, zone: str) -> str:
    """An instant (microseconds) in a zone, with its offset from UTC.

    >>> instant(0, "Europe/Berlin"), instant(FOREVER, "UTC")
    ('1970-01-01 01:00:00+01:00', 'never')
    """
    if at >= FOREVER:
        return "never"
    return (EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(zone)).isoformat(" ", "seconds")


def recounted(event: Mapping[str, Any], zone: str) -> list[str]:
    """A decision as its event told it (`headgate.decision`, `headgate.denied`, `headgate.shadowed`), in lines.

    What the event does not hold is left out; nothing is worked out anew.
    """
    lines = [f"{event.get('decision', '')}: {_ACTIONS.get(str(event.get('action')), event.get('action', 'unknown'))}"]

    def say(name: str, text: str) -> None:
        lines.append(f"    {name:<14}{text}")

    if isinstance(event.get("now"), int):
        say("when", instant(event["now"], zone))
    say("request", f"{event.get('method', '')} {event.get('path', '')}".strip())
    who = [f"{name} {event[name]}" for name in ("key", "org", "plan") if event.get(name)]
    say("caller", ", ".join(who) or "anonymous")
    if event.get("degraded"):
        say("store", f"did not answer; the policy says {event['degraded']}")
    rows = [row for row in event.get("limits", ()) if isinstance(row, Mapping)]
    # The limits that refused come first: they are why one looks.
    for row in sorted(rows, key=lambda row: ("refused" not in row, bool(row.get("shadow")))):
        lines += _row(row, zone)
    return lines


_ACTIONS = {
    "allow": "served",
    "not_yet": "refused for now",
    "never": "refused: what was asked is more than the limit ever grants",
    "unavailable": "refused: the store did not answer",
}


def _row(row: Mapping[str, Any], zone: str) -> list[str]:
    name = str(row.get("limit", ""))
    shadow = " (in shadow)" if row.get("shadow") else ""
    verdict = {"not_yet": "refused", "never": "refused for good"}.get(str(row.get("refused")), "granted")
    if "used" not in row:
        verdict = "not known"
    lines = [f"  {name.removesuffix(CANDIDATE)}{' candidate' if name.endswith(CANDIDATE) else ''}: {verdict}{shadow}"]

    def say(label: str, text: str) -> None:
        lines.append(f"    {label:<14}{text}")

    say("counts", f"{row.get('meter', '')} per {row.get('per', '')}, {row.get('verb', '')}")
    numbers = ("asked", "used", "held", "of", "left")
    say("stood at", ", ".join(f"{label} {row[label]:,}" for label in numbers if isinstance(row.get(label), int)))
    if isinstance(row.get("retry"), int):
        say("again at", instant(row["retry"], zone))
    if isinstance(row.get("most"), int):
        say("most", f"{row['most']:,} is all that one request can get")
    if isinstance(row.get("resets"), int) and row.get("verb") != "max":
        say("resets", instant(row["resets"], zone))
    if row.get("clause"):
        say("clause", str(row["clause"]))
    return lines
