"""A limit's values: what was read under a verb becomes a window of the core, or the reason why it cannot.

Law: integers only, and no intermediate of any of them passes 2^53 - 1. A value of 0 is a window that never grants;
`unlimited` is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from headgate.policy import kinds
from headgate.policy.kinds import Ahead
from headgate.policy.literals import MICROSECONDS, Every, Window, Wrong, spelled
from headgate.policy.shape import Found
from headgate.quota.calendar import Calendar
from headgate.quota.gcra import Rate
from headgate.quota.owner import Value
from headgate.quota.window import Max, Rolling, Total

LEASE = 10 * MICROSECONDS["min"]
"""How long a place of a `max` is kept for a worker that is not heard of, where no `lease` is written."""

KINDS = {
    "rate": kinds.RATE,
    "quota": kinds.QUOTA,
    "rolling": kinds.ROLLING,
    "max": kinds.AMOUNT,
    "total": kinds.AMOUNT,
}


@dataclass(frozen=True, slots=True)
class Manner:
    """How all values of one limit run: its verb and the verb's modifiers."""

    verb: str
    burst: int = 0
    lease: int = LEASE
    zone: str = "UTC"
    anchor: str = "calendar"

    @classmethod
    def of(cls, limit: Found, zone: str) -> Manner | None:
        """The manner of a limit as it was read; None where its verb is wrong."""
        verb = next((name for name in KINDS if limit.get(name) is not None), None)
        if verb is None:
            return None
        return cls(
            verb,
            limit.value_of("burst", 0),
            limit.value_of("lease", LEASE),
            limit.value_of("zone", zone),
            limit.value_of("anchor", "calendar"),
        )

    def value(self, read: Any) -> Value:
        """The window of one value, None for `unlimited`. Raises `Wrong` where it cannot be counted exactly."""
        if read is None:
            return None
        match self.verb:
            case "rate":
                return self._rate(read)
            case "quota":
                return self._quota(read)
            case "rolling":
                return Rolling(read.amount, read.period)
            case "max":
                return Max(read, self.lease)
        return Total(read)

    def text_value(self, text: str) -> Value:
        """The same from text, for a candidate or an override. Raises `Wrong` where it is no value of this verb."""
        if text == "unlimited":
            return None
        try:
            return self.value(KINDS[self.verb].read(text))
        except Wrong as wrong:
            other = next((verb for verb in ("rate", "quota", "rolling", "max") if _reads(verb, text)), "")
            if other and not wrong.number:
                raise Wrong(f"it is written like a `{other}`") from None
            raise

    def _rate(self, read: Every) -> Value:
        if not read.amount:
            return Rolling(0, read.period)
        burst = self.burst
        if isinstance(burst, Ahead):
            burst = read.amount * int(burst) // read.period
        try:
            return Rate(read.amount, read.period, burst)
        except ValueError:
            round_one = _rounder(read, self.burst)
            raise Wrong(
                "counted to the microsecond, its inner count passes 2^53 - 1; a rounder amount has a smaller one",
                round_one, "HG311",
            ) from None  # fmt: skip

    def _quota(self, read: Window) -> Calendar:
        return Calendar(read.amount, read.unit, self.zone, self.anchor, read.every)


def _reads(verb: str, text: str) -> bool:
    try:
        KINDS[verb].read(text)
    except Wrong:
        return False
    return True


def _rounder(read: Every, burst: int) -> str:
    """A rate near by that can be counted: fewer digits, rounded down."""
    digits = len(str(read.amount))
    for kept in range(digits - 1, 0, -1):
        amount = read.amount // 10 ** (digits - kept) * 10 ** (digits - kept)
        try:
            Rate(amount, read.period, amount * int(burst) // read.period if isinstance(burst, Ahead) else burst)
        except ValueError:
            continue
        return f"{spelled(amount)}/{spelled_time(read.period)}"
    return ""


def spelled_time(period: int) -> str:
    """A length of time as a policy would write it.

    >>> spelled_time(7_200_000_000), spelled_time(60_000_000)
    ('2h', 'min')
    """
    for letter in ("d", "h", "min", "s"):
        number, rest = divmod(period, MICROSECONDS[letter])
        if number and not rest:
            return letter if number == 1 else f"{number}{letter}"
    return f"{period}us"


def by_plan(found: Found) -> Mapping[str, Found]:
    """A value or a map of values, by plan; "" is for every plan that is not named."""
    if found.form == "leaf":
        return {"": found}
    return {"" if plan == "default" else plan: value for plan, value in found.right()}


def capacity(value: Value) -> int | None:
    """The most that one request can ever be granted; None for `unlimited`."""
    return None if value is None else value.capacity


def end_of(day: date, zone: str) -> int:
    """The instant (microseconds) at which a day ends in a zone: a date still counts on its own day."""
    after = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(zone))
    return (after.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
