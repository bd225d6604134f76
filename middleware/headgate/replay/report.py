"""The report of a replay: what was read, decided and found. Values; how they are shown is the command line's.

Law: everything that is told is counted from the log and the policy. `as_json` is an interface: its fields stay as the
format has them, and more may come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headgate.linking.finding import Evidence
from headgate.replay.lines import Bad


@dataclass(frozen=True, slots=True)
class Log:
    """One log as it was read: its name, form, lines that are entries and lines that are none; `fault`: why it ended
    early, "" where it did not."""

    name: str
    form: str
    events: int
    skipped: int
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """What one limit gives to a group as to one customer: `limit`, its meter and its `value` in words for the best of
    the members' plans."""

    limit: str
    meter: str
    value: str


@dataclass(frozen=True, slots=True)
class Group:
    """One operator that was found, and what it means for it to be one customer.

    `linked_at`: each key's instant in seconds; `usage`: what its keys took over the whole log, by meter; `may_take`:
    what one customer may; `newly_refused`: by key (of its orgs, linked or not), requests that were granted to the
    orgs one by one and would be refused to them as one customer; `spared`: what these took, by meter; `refused_by`:
    by limit.
    """

    id: str
    keys: tuple[str, ...]
    orgs: tuple[str, ...]
    confidence: float
    linked_at: Mapping[str, float]
    evidence: tuple[Evidence, ...]
    usage: Mapping[str, int]
    may_take: tuple[Share, ...]
    newly_refused: Mapping[str, int]
    refused_by: Mapping[str, int]
    spared: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Affected:
    """A key in no group that the policy would have refused: how often, of how many requests, and by which limit."""

    key: str
    org: str
    plan: str
    requests: int
    denied: int
    by_limit: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Decisions:
    """Requests by verdict; `by_limit` counts refusals, of which one request may have several."""

    allowed: int
    denied: int
    by_limit: Mapping[str, int]
    in_shadow: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. `decisions` has the groups pooled from when they were found; `alone` is the same without any link.

    `since`, `until`: the first and last instant of the log, seconds; None for no entry. `hidden`: groups that were
    found and are not listed. `undecided`: (limit, why a log cannot decide it). `notes`: what else a reader has to
    know. `interrupted`: the reading was stopped before its end.
    """

    policy: str
    version: str
    mode: str
    logs: tuple[Log, ...]
    bad: tuple[Bad, ...]
    events: int
    skipped: int
    since: float | None
    until: float | None
    keys: int
    orgs: int
    decisions: Decisions
    alone: Decisions
    newly_refused: int
    groups: tuple[Group, ...]
    hidden: int
    affected: tuple[Affected, ...]
    undecided: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    interrupted: bool = False


def as_json(report: Report) -> dict[str, Any]:
    """The report as a program reads it: the fields of the replay format first, more beside them."""
    return {
        "events": report.events,
        "skipped": report.skipped,
        "decisions": {
            **_decisions(report.decisions),
            "newly_refused": report.newly_refused,
            "without_linking": _decisions(report.alone),
        },
        "groups": [_group(group) for group in report.groups],
        "groups_not_listed": report.hidden,
        "affected": [
            {"key": one.key, "org": one.org or None, "plan": one.plan, "requests": one.requests, "denied": one.denied,
             "by_limit": dict(one.by_limit)}
            for one in report.affected
        ],
        "policy": {"name": report.policy, "version": report.version, "mode": report.mode},
        "since": report.since,
        "until": report.until,
        "keys": report.keys,
        "orgs": report.orgs,
        "logs": [
            {"name": log.name, "format": log.form, "events": log.events, "skipped": log.skipped, "fault": log.fault}
            for log in report.logs
        ],
        "skipped_lines": [{"log": bad.log, "line": bad.line, "reason": bad.reason} for bad in report.bad],
        "undecided": [{"limit": limit, "reason": why} for limit, why in report.undecided],
        "notes": list(report.notes),
        "interrupted": report.interrupted,
    }  # fmt: skip


def _decisions(told: Decisions) -> dict[str, Any]:
    found: dict[str, Any] = {"allowed": told.allowed, "denied": told.denied, "by_limit": dict(told.by_limit)}
    return found | ({"in_shadow": dict(told.in_shadow)} if told.in_shadow else {})


def _group(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "keys": list(group.keys),
        "orgs": list(group.orgs),
        "confidence": group.confidence,
        "linked_at": dict(group.linked_at),
        "evidence": [
            {"signal": item.signal, "keys": list(item.keys), "weight": round(item.weight, 3), "detail": item.detail}
            for item in group.evidence
        ],
        "usage": dict(group.usage),
        "may_take": [{"limit": one.limit, "meter": one.meter, "value": one.value} for one in group.may_take],
        "newly_refused": sum(group.newly_refused.values()),
        "newly_refused_keys": dict(group.newly_refused),
        "newly_refused_by": dict(group.refused_by),
        "spared": dict(group.spared),
    }
