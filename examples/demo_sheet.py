"""What a policy allows, read from its text by a reader of the demo's own.

Law: nothing of headgate's is used. A ruler that was made by what it measures would always agree.

It reads the policies of these examples, not the whole language: one rate, quota or max by plan, in plain numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
UNITS = {"": 1, "k": 1_000, "M": 1_000_000}
VERBS = ("rate", "quota", "max")


def number(text: str) -> int:
    """A whole number with its unit.

    >>> number("5k"), number("48")
    (5000, 48)
    """
    found = re.fullmatch(r"(\d+)([kM]?)", text)
    if found is None:
        raise ValueError(f"`{text}` is no amount that this demo can read")
    return int(found[1]) * UNITS[found[2]]


@dataclass(frozen=True)
class Refusals:
    """The refusals by one limit of one subject: how many, and the stretch in which it surely refused.

    `first`: when the first refusal had arrived. `last`: when the last refused request was sent.
    """

    count: int = 0
    first: float = float("inf")
    last: float = float("-inf")

    def __add__(self, other: Refusals) -> Refusals:
        return Refusals(self.count + other.count, min(self.first, other.first), max(self.last, other.last))


@dataclass(frozen=True)
class Rule:
    """One limit for one plan: `capacity` units at once, and for a rate `amount` more every `seconds`.

    `unit`: the word after the slash, "" for `max`. `held`: the most that one request holds before its amount is
    known. `weights`, `times`: of a meter that adds up others, what each of them weighs and how often by the model.
    """

    limit: str
    meter: str
    per: str
    verb: str
    capacity: int
    amount: int = 0
    unit: str = ""
    held: int = 1
    weights: Mapping[str, int] = field(default_factory=dict)
    times: Mapping[str, int] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The limit as one reads it.

        >>> Rule("rpm", "requests", "key", "rate", capacity=25, amount=20, unit="min").words
        'requests/min'
        """
        meter = self.meter.replace("_", " ")
        return f"{meter}/{self.unit}" if self.unit else f"{meter} at once"

    @property
    def a_token(self) -> int:
        """The most that one token of an answer counts.

        >>> Rule("month", "credits", "org", "quota", 9, weights={"output_tokens": 5}, times={"big": 4}).a_token
        20
        """
        if self.weights:
            return self.weights.get("output_tokens", 0) * max(self.times.values(), default=1)
        return int(self.meter == "output_tokens")

    def most(self, elapsed: float) -> int:
        """The most that may be served in `elapsed` seconds, to one subject.

        >>> Rule("rpm", "requests", "key", "rate", capacity=25, amount=20, unit="min").most(6.0)
        27
        """
        return self.capacity + (int(elapsed * self.amount / SECONDS[self.unit]) if self.verb == "rate" else 0)

    def least(self, refusals: Refusals) -> int:
        """The least that must have been served, so that these refusals were right.

        Who is refused one request has used the limit up: all of a quota; of a rate what it allows at once, and
        besides what it gave back between two refusals, as long as that cannot have emptied it. A refusal of
        tokens proves nothing so exact: what is held before an answer is more than most answers take.

        >>> rule = Rule("rpm", "requests", "key", "rate", capacity=25, amount=20, unit="min")
        >>> rule.least(Refusals(2, first=4.0, last=10.5)), rule.least(Refusals())
        (27, 0)
        """
        if not refusals.count or self.meter != "requests":
            return 0
        if self.verb != "rate":
            return self.capacity
        a_second = self.amount / SECONDS[self.unit]
        surely = min(max(0.0, refusals.last - refusals.first) * a_second, self.capacity - 1)
        return self.capacity + int(surely)


class Sheet:
    """A policy file as this ruler reads it: the limits by plan, and the orgs that are declared one customer."""

    def __init__(self, path: Path) -> None:
        self._file = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.limits: tuple[str, ...] = tuple(self._file["limits"])

    def rules(self, plan: str) -> list[Rule]:
        """The limits as they stand for one plan, in the file's order."""
        return [self._rule(name, row, plan) for name, row in self._file["limits"].items()]

    def group(self, org: str) -> str:
        """The name of the customer that an org belongs to: its own, or that of all who are declared one."""
        for row in self._file.get("linking", {}).get("affiliated", ()):
            if org in row["orgs"]:
                return "+".join(row["orgs"])
        return org

    def _rule(self, name: str, row: Mapping[str, Any], plan: str) -> Rule:
        [verb] = [verb for verb in VERBS if verb in row]
        value = row[verb]
        text = str(value[plan] if isinstance(value, dict) else value)
        amount, _, unit = text.partition("/")
        capacity = number(amount) + number(str(row.get("burst", 0)))
        meter = self._meter(row["meter"])
        weights = meter.get("sum", {})
        times = {key: value for key, value in meter.get("times", {}).items() if key != "by"}
        held = meter.get("max", 1)
        if weights:
            held = sum(weight * self._meter(part)["max"] for part, weight in weights.items()) * max(times.values())
        return Rule(name, row["meter"], row["per"], verb, capacity, number(amount), unit, held, weights, times)

    def _meter(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._file.get("meters", {}).get(name, {})
        return found
