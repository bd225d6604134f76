"""What is found when a store is looked at: each matter with its remedy, and what could not be looked at.

Law: a finding says what is so, what that does to the counts, and what to type. What was not permitted or not there to
read is told as not known; nothing is guessed. No finding holds a password, a key's name or a value of the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from headgate.telemetry import events

Severity = Literal["fault", "warning", "note"]
"""`fault`: a promise does not hold, or will not. `warning`: not for long, perhaps. `note`: to know."""

ORDER: tuple[Severity, ...] = ("fault", "warning", "note")
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One matter. `name` is kept from version to version, for programs.

    `where`: the servers or files that it was found at. `what`: what is so there, with its numbers. `why`: what that
    does to the counts. `remedy`: what to type or to change.
    """

    name: str
    severity: Severity
    where: tuple[str, ...]
    what: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class NotKnown:
    """What could not be read, and why not."""

    where: tuple[str, ...]
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A matter that may be found: how bad it may be, and why it matters. The documentation has a row for each."""

    name: str
    severities: tuple[Severity, ...]
    why: str

    def found(self, where: str, what: str, remedy: str, severity: Severity | None = None) -> Finding:
        """This matter, found at one place; as bad as its kind says first, unless said otherwise.

        >>> Kind("full", ("fault",), "Nothing can be counted.").found("host:1", "it is full", "make room").severity
        'fault'
        """
        return Finding(self.name, severity or self.severities[0], (where,), what, self.why, remedy)


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found. `store`: its URI without password. `seen`: a line for each server or file looked at."""

    store: str
    seen: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()
    not_known: tuple[NotKnown, ...] = ()

    def count(self, severity: Severity) -> int:
        """How many findings are that bad."""
        return sum(finding.severity == severity for finding in self.findings)


def sorted_out(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Faults first; what is the same at several places is said once.

    >>> a, b = (Finding("full", "note", (where,), "x", "y", "z") for where in ("h:1", "h:2"))
    >>> [finding.where for finding in sorted_out([a, b])]
    [('h:1', 'h:2')]
    """
    kept: dict[Finding, tuple[str, ...]] = {}
    for finding in findings:
        bare = replace(finding, where=())
        kept[bare] = (*kept.get(bare, ()), *finding.where)
    told = [replace(bare, where=tuple(dict.fromkeys(where))) for bare, where in kept.items()]
    return tuple(sorted(told, key=lambda finding: ORDER.index(finding.severity)))


def tell(findings: Iterable[Finding]) -> None:
    """Send an event for each fault and each warning; notes are for whoever asks."""
    for found in findings:
        if found.severity != "note":
            events.warning(
                "headgate.store.finding", finding=found.name, severity=found.severity, where=list(found.where),
                what=found.what, remedy=found.remedy,
            )  # fmt: skip
