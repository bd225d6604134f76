"""What each key of a log took and how often it was refused, in a few numbers a key.

Law: sums only, no line is kept. Some 350 bytes a key; a key that was never refused and lost nothing to a link has one
row of figures and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from headgate.replay.entry import Entry
from headgate.replay.ledgers import GRANTED, Verdict

METERS = ("requests", "input_tokens", "output_tokens", "records", "bytes_out")
"""What is summed of each key, as a policy calls it."""


@dataclass(slots=True)
class Tally:
    """Decisions counted: how many were allowed, how many denied, and by which limit, in shadow apart."""

    allowed: int = 0
    denied: int = 0
    by_limit: dict[str, int] = field(default_factory=dict)
    in_shadow: dict[str, int] = field(default_factory=dict)

    def count(self, verdict: Verdict) -> None:
        """One more decision."""
        if verdict.refused:
            self.denied += 1
            for limit in verdict.refused:
                self.by_limit[limit] = self.by_limit.get(limit, 0) + 1
        else:
            self.allowed += 1
        for limit in verdict.shadowed:
            self.in_shadow[limit] = self.in_shadow.get(limit, 0) + 1


@dataclass(slots=True)
class Counting:
    """All that is counted: decisions with groups pooled (`pooled`) and without (`alone`), and by key.

    `keys`: what each key took, by `METERS`. `denied`: by key, refused requests and refusals by limit, with no link.
    `newly_refused`: by key, requests that only its group's limits refuse; `newly_by`, by which; `saved`, what these
    took. `newly_allowed`: requests that only the group's better plan grants. `keyless`: lines that nobody is behind.
    """

    pooled: Tally = field(default_factory=Tally)
    alone: Tally = field(default_factory=Tally)
    keys: dict[str, list[int]] = field(default_factory=dict)
    denied: dict[str, tuple[int, dict[str, int]]] = field(default_factory=dict)
    newly_refused: dict[str, int] = field(default_factory=dict)
    newly_by: dict[str, dict[str, int]] = field(default_factory=dict)
    saved: dict[str, list[int]] = field(default_factory=dict)
    newly_allowed: int = 0
    keyless: int = 0

    def took(self, key: str, entry: Entry) -> None:
        """What a line says that a key took."""
        took = self.keys.get(key)
        if took is None:
            took = self.keys[key] = [0, 0, 0, 0, 0]
        took[0] += 1
        took[1] += entry.tokens_in or 0
        took[2] += entry.tokens_out or 0
        took[3] += entry.records or 0
        took[4] += entry.bytes_out or 0

    def decided(self, key: str, entry: Entry, pooled: Verdict, alone: Verdict) -> None:
        """The two verdicts on a request."""
        if pooled is GRANTED and alone is GRANTED:
            self.pooled.allowed += 1
            self.alone.allowed += 1
            return
        self.pooled.count(pooled)
        self.alone.count(alone)
        if alone.refused:
            times, by_limit = self.denied.get(key) or (0, {})
            self.denied[key] = times + 1, _added(by_limit, alone.refused)
            self.newly_allowed += not pooled.refused
        elif pooled.refused:
            self.newly_refused[key] = self.newly_refused.get(key, 0) + 1
            self.newly_by[key] = _added(self.newly_by.get(key, {}), pooled.refused)
            kept = self.saved.setdefault(key, [0, 0, 0, 0, 0])
            amounts = (1, entry.tokens_in, entry.tokens_out, entry.records, entry.bytes_out)
            for at, amount in enumerate(amounts):
                kept[at] += amount or 0

    def usage(self, keys: Iterable[str]) -> dict[str, int]:
        """What keys took together, by meter; what no line tells is left out."""
        return _by_meter([self.keys[key] for key in keys if key in self.keys])

    def spared(self, keys: Iterable[str]) -> dict[str, int]:
        """What keys would not have got, by meter."""
        return _by_meter([self.saved[key] for key in keys if key in self.saved])


def _added(by_limit: dict[str, int], limits: Iterable[str]) -> dict[str, int]:
    for limit in limits:
        by_limit[limit] = by_limit.get(limit, 0) + 1
    return by_limit


def _by_meter(rows: list[list[int]]) -> dict[str, int]:
    return {meter: total for meter, total in zip(METERS, map(sum, zip(*rows, strict=True)), strict=False) if total}
