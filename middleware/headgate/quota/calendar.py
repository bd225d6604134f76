"""Calendar windows: when a quota's hour, day, week, month or year begins, in any time zone.

Law: pure arithmetic from an instant to instants; it counts nothing. It is done before the ledger is asked, so that a
store needs no time zones: what the ledger gets is a `Quota` that knows its edges.

How windows run
- Days, weeks, months and years begin at local midnight of the zone (or at the anchor's local time). A day on which
  the clocks change has 23 or 25 hours. A midnight that does not exist begins when the clocks have jumped; of one
  that comes twice, the first counts.
- Hours run in real time: the hour that comes twice is two windows.
- A billing anchor of the 31st is clamped where a month is shorter, always from the original day, as billing systems
  do: 31 Jan, 28 Feb, 31 Mar.
- A window is longer than a unit if the policy says so (`10k/2day`): such windows count on from the anchor, the
  calendar's own being Monday, 1 January 2001.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zlib import crc32
from zoneinfo import ZoneInfo

from headgate.quota.window import Quota

UNITS = ("hour", "day", "week", "month", "year")
ANCHORS = ("calendar", "subscription", "first_use")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR = 3_600_000_000

ORIGIN = datetime(2001, 1, 1)
"""Where the calendar's own windows count from: a Monday that begins a week, a month, a year and a century."""

LENGTHS = {"hour": HOUR, "day": 24 * HOUR, "week": 168 * HOUR}
"""Of the units whose windows may open at the first use and have one length; months and years are measured."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """`capacity` units every `every` calendar `unit`s of `zone` (an IANA name).

    `anchor`: `calendar` (everybody's windows begin alike), `subscription` (at the org's billing anchor; the
    calendar's where none is known) or `first_use` (a window opens with the first unit used in it).

    >>> utc = Calendar(5, "month")
    >>> [EPOCH + edge * MICROSECOND for edge in utc.quota(0, None).edges[1:3]]
    [datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.timezone.utc), datetime.datetime(1970, 2, 1, 0, 0, tzinfo=datetime.timezone.utc)]
    """  # noqa: E501

    capacity: int
    unit: str
    zone: str = "UTC"
    anchor: str = "calendar"
    every: int = 1

    def quota(self, now: int, anchored: int | None) -> Quota:
        """The quota with its windows around `now` (microseconds); `anchored` is the org's billing anchor.

        Raises ZoneInfoNotFoundError for a zone that this machine does not know.
        """
        if self.anchor == "first_use":
            spec = crc32(f"{self.every} {self.unit} first_use".encode())
            return Quota(self.capacity, (), spec, self._length(now))
        start = anchored if self.anchor == "subscription" and anchored is not None else None
        spec = crc32(f"{self.every} {self.unit} {self.zone} {start}".encode())
        return Quota(self.capacity, _edges(self.unit, self.every, self.zone, start, now), spec)

    def _length(self, now: int) -> int:
        """How long a window lasts that opens at `now`."""
        if self.unit in LENGTHS:
            return self.every * LENGTHS[self.unit]
        begun = _local(now, ZoneInfo(self.zone))
        return _instant(_months_on(begun, self.every * _MONTHS[self.unit]), ZoneInfo(self.zone)) - now


_MONTHS = {"month": 1, "year": 12}


def _edges(unit: str, every: int, zone: str, anchored: int | None, now: int) -> tuple[int, ...]:
    """Four edges: the window before, the one that holds `now`, and the ends of this and the next."""
    where = ZoneInfo(zone)
    origin = ORIGIN if anchored is None else _local(anchored, where)
    at = _guess(unit, every, origin, _local(now, where))
    while _edge(unit, every, origin, at, where) > now:
        at -= 1
    while _edge(unit, every, origin, at + 1, where) <= now:
        at += 1
    return tuple(_edge(unit, every, origin, at + step, where) for step in (-1, 0, 1, 2))


def _guess(unit: str, every: int, origin: datetime, local: datetime) -> int:
    """Which window since the origin holds a local time: exact, or one off where clocks change or days are clamped."""
    if unit in _MONTHS:
        months = (local.year - origin.year) * 12 + local.month - origin.month
        return months // (every * _MONTHS[unit])
    return int((local - origin) // (every * timedelta(microseconds=LENGTHS[unit])))


def _edge(unit: str, every: int, origin: datetime, number: int, where: ZoneInfo) -> int:
    """The instant at which window `number` since the origin begins."""
    steps = number * every
    if unit == "hour":
        return _instant(origin, where) + steps * HOUR
    if unit in _MONTHS:
        return _instant(_months_on(origin, steps * _MONTHS[unit]), where)
    return _instant(origin + steps * timedelta(days=7 if unit == "week" else 1), where)


def _months_on(begun: datetime, months: int) -> datetime:
    """So many months later; the day is clamped to the month's last."""
    year, month = divmod(begun.year * 12 + begun.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return datetime.combine(date(year, month + 1, min(begun.day, last)), begun.time())


def _local(instant: int, where: ZoneInfo) -> datetime:
    return (EPOCH + instant * MICROSECOND).astimezone(where).replace(tzinfo=None)


def _instant(local: datetime, where: ZoneInfo) -> int:
    """The first instant at which the zone's clock shows `local`; a time that is jumped over is as much later as the
    jump is long, as calendars have it (RFC 5545, 3.3.5): at a jump from 02:00 to 03:00, 02:10 is 03:10."""
    return (local.replace(tzinfo=where, fold=0).astimezone(UTC) - EPOCH) // MICROSECOND
