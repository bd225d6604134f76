"""What an origin served, and whether that is what the policy allows: figures in, findings out.

It reads the origin's log line by line and asks headgate nothing. It starts nothing and reads no clock. Instants are
seconds of the wall clock, which is also the ledger's: a clock that is corrected meanwhile moves both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from demo_sheet import Refusals, Rule, Sheet


@dataclass(frozen=True)
class Account:
    """One key of the demo. `group` is the customer: the org, or the orgs that said that they are one."""

    key: str
    org: str
    plan: str
    group: str

    def subject(self, per: str) -> str:
        """Who is charged under a limit `per: key`, `org` or `group`."""
        return {"key": self.key, "org": self.org, "group": self.group}[per]


@dataclass
class Seen:
    """What the clients of one key saw.

    `answered`: the ids of the answers that began to arrive. `unanswered`: requests whose connection broke before
    any answer. `broken`: answers that broke off. `left`: streams that a client walked away from.
    """

    answered: set[str] = field(default_factory=set)
    unanswered: int = 0
    broken: int = 0
    left: int = 0
    refused: int = 0
    refusals: dict[str, Refusals] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """One answer as the origin noted it. `ended` is None where its process was killed before the end."""

    id: str
    key: str
    begun: int
    ended: int | None
    input_tokens: int
    output_tokens: int
    model: str = ""

    def amount(self, rule: Rule) -> int:
        """What it counts under a limit.

        >>> line = Line("a", "k", 0, 10, input_tokens=7, output_tokens=30, model="big")
        >>> weights, times = {"input_tokens": 1, "output_tokens": 5}, {"big": 4, "default": 1}
        >>> line.amount(Rule("month", "credits", "org", "quota", 1_000, weights=weights, times=times))
        628
        """
        if rule.weights:
            weighed = sum(weight * self._tokens(part) for part, weight in rule.weights.items())
            return weighed * rule.times.get(self.model, rule.times.get("default", 1))
        return self._tokens(rule.meter)

    def _tokens(self, meter: str) -> int:
        return {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}.get(meter, 1)


def notes(log: Path) -> list[dict[str, Any]]:
    """What the origin has written so far; none from one that never served. A line that is not whole yet is left."""
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def origin(log: Path) -> list[Line]:
    """The origin's own count."""
    begun = [note for note in notes(log) if "key" in note]
    ended = {note["id"]: note for note in notes(log) if "key" not in note}
    return [_line(note, ended.get(note["id"], {})) for note in begun]


def _line(begun: Mapping[str, Any], end: Mapping[str, Any]) -> Line:
    tokens = begun["input_tokens"], end.get("output_tokens", 0)
    return Line(begun["id"], begun["key"], begun["at"], end.get("at"), *tokens, begun.get("model", ""))


def peak(lines: Iterable[Line]) -> int:
    """The most answers that were under way at one instant, of those whose end is known.

    >>> peak([Line("a", "k", 0, 10, 0, 0), Line("b", "k", 5, 15, 0, 0), Line("c", "k", 10, 20, 0, 0)])
    2
    """
    steps = [(line.begun, line.ended) for line in lines if line.ended is not None]
    now = most = 0
    # An end sorts before a beginning at the same instant: the place was free by then.
    for _, step in sorted([(at, 1) for at, _ in steps] + [(at, -1) for _, at in steps]):
        now += step
        most = max(most, now)
    return most


@dataclass(frozen=True)
class Finding:
    """One limit of one subject: what the policy allowed and what the origin served, in the meter's units.

    `least` to `most`: what the policy allows, given what was refused. `ledger`: what headgate says was used, where
    its window is longer than the demo; None elsewhere. `lost`: how much the ledger may have beyond what the origin
    noted, because a worker was killed between the two. `unread`: how much the origin may have beyond the ledger: a
    token that was generated in the moment in which its client left reached nobody, and is not charged.
    """

    limit: str
    words: str
    verb: str
    subject: str
    least: int
    most: int
    served: int
    refused: int
    ledger: int | None = None
    lost: int = 0
    unread: int = 0

    @property
    def holds(self) -> bool:
        """Whether the figures agree."""
        least, most = self.served - self.unread, min(self.most, self.served + self.lost)
        booked = self.ledger is None or least <= self.ledger <= most
        return self.least - self.lost <= self.served <= self.most and booked

    @property
    def booked_more(self) -> bool:
        """Whether the ledger has more than the origin noted."""
        return self.ledger is not None and self.ledger > self.served

    @property
    def used_up(self) -> bool:
        """Whether a quota was used to its last unit: then `served` was known beforehand."""
        return self.verb == "quota" and self.refused > 0 and self.served == self.most


@dataclass(frozen=True)
class KeyFinding:
    """One key: what its clients saw, beside what the origin noted for it."""

    account: Account
    seen: Seen
    served: int
    unknown: int
    """Answers that reached a client and are not in the origin's log."""
    unseen: int
    """Answers in the origin's log of which no client saw the beginning."""

    @property
    def lost(self) -> int:
        """Requests without an answer that the origin does not know: whether they were charged cannot be told."""
        return max(0, self.seen.unanswered - self.unseen)

    def holds(self, killed: bool) -> bool:
        """Whether both saw the same; only a kill excuses a broken connection."""
        whole = killed or not (self.seen.unanswered or self.seen.broken)
        return whole and not self.seen.faults and not self.unknown and self.unseen <= self.seen.unanswered


@dataclass(frozen=True)
class Tally:
    """The whole count. `killed`: a worker was killed on the way; `elapsed`: seconds, first to last request."""

    limits: tuple[Finding, ...]
    keys: tuple[KeyFinding, ...]
    elapsed: float
    killed: bool

    @property
    def served(self) -> int:
        """Requests that the origin served."""
        return sum(key.served for key in self.keys)

    @property
    def refused(self) -> int:
        """Requests that were refused."""
        return sum(key.seen.refused for key in self.keys)

    @property
    def holds(self) -> bool:
        """The verdict. An origin that served nothing proves nothing."""
        whole = self.served > 0 and all(key.holds(self.killed) for key in self.keys)
        return whole and all(finding.holds for finding in self.limits)

    def figures(self) -> dict[str, Any]:
        """All of it, as JSON can carry it."""
        keys = [
            {**asdict(key.account), "answered": len(key.seen.answered), "served": key.served, "left": key.seen.left,
             "refused": key.seen.refused, "unanswered": key.seen.unanswered, "broken": key.seen.broken,
             "faults": key.seen.faults, "holds": key.holds(self.killed)}
            for key in self.keys
        ]  # fmt: skip
        limits = [{**asdict(f), "holds": f.holds, "used_up": f.used_up} for f in self.limits]
        return {
            "seconds": round(self.elapsed, 3), "killed": self.killed, "served": self.served, "refused": self.refused,
            "keys": keys, "limits": limits, "verdict": self.holds,
        }  # fmt: skip


def tally(
    sheet: Sheet,
    seen: Sequence[tuple[Account, Seen]],
    served: Sequence[Line],
    ledger: Mapping[tuple[str, str], int],
    elapsed: float,
    killed: bool,
) -> Tally:
    """Hold the origin's count against the policy. `ledger`: used, by (limit, subject)."""
    keys = tuple(_key(account, saw, [line for line in served if line.key == account.key]) for account, saw in seen)
    found: dict[tuple[str, str], Finding] = {}
    for account, _ in seen:
        for rule in sheet.rules(account.plan):
            subject = account.subject(rule.per)
            members = [key for key in keys if key.account.subject(rule.per) == subject]
            booked = ledger.get((rule.limit, subject)) if rule.verb == "quota" else None
            found[rule.limit, subject] = _finding(sheet, rule, subject, members, served, booked, elapsed, killed)
    order = sorted(found, key=lambda at: (sheet.limits.index(at[0]), at[1]))
    return Tally(tuple(found[at] for at in order), keys, elapsed, killed)


def _key(account: Account, saw: Seen, lines: Sequence[Line]) -> KeyFinding:
    ids = {line.id for line in lines}
    return KeyFinding(account, saw, len(ids), len(saw.answered - ids), len(ids - saw.answered))


def _finding(
    sheet: Sheet,
    rule: Rule,
    subject: str,
    members: Sequence[KeyFinding],
    served: Sequence[Line],
    ledger: int | None,
    elapsed: float,
    killed: bool,
) -> Finding:
    names = {member.account.key for member in members}
    lines = [line for line in served if line.key in names]
    units = peak(lines) if rule.verb == "max" else sum(line.amount(rule) for line in lines)
    refusals = sum((member.seen.refusals.get(rule.limit, Refusals()) for member in members), Refusals())
    lost = sum(_lost(sheet, rule, member) for member in members) if killed else 0
    unread = rule.a_token * sum(member.seen.left for member in members)
    return Finding(
        rule.limit, rule.words, rule.verb, subject, rule.least(refusals), rule.most(elapsed), units, refusals.count,
        ledger, lost, unread,
    )  # fmt: skip


def _lost(sheet: Sheet, rule: Rule, member: KeyFinding) -> int:
    """What a killed worker may have left in the ledger beyond the origin's count.

    Requests are charged before they are served: those that the origin never saw. Of tokens, all that was held for
    the answers under way is charged, and no more can be under way than the plan's `max` lets in.
    """
    if rule.meter == "requests":
        return member.lost
    at_once = [other.capacity for other in sheet.rules(member.account.plan) if other.verb == "max"]
    return rule.held * min(at_once)
