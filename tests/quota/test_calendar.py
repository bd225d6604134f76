"""Calendar windows: one a local day, no gap and no overlap, whatever the clocks of the zone do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.quota.calendar import Calendar
from headgate.quota.command import Demand, Granted, Reserve
from headgate.quota.ledger import apply

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3_600_000_000
ZONES = [
    "UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu",
    "America/Sao_Paulo", "America/Havana", "Africa/Cairo", "Pacific/Chatham", "Asia/Kolkata", "Europe/Dublin",
]  # fmt: skip


def instant(text: str, zone: str = "UTC", fold: int = 0) -> int:
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return (local.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)


def window(calendar: Calendar, now: int, anchored: int | None = None) -> tuple[str, str]:
    """The window that holds an instant, as its zone's clocks show it."""
    begin, end = calendar.quota(now, anchored).window(now)
    shown = [(EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(calendar.zone)) for at in (begin, end)]
    return shown[0].strftime("%Y-%m-%d %H:%M"), shown[1].strftime("%Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    "zone, day, hours",
    [
        ("Europe/Paris", "2026-03-29", 23),
        ("Europe/Paris", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Asia/Kathmandu", "2026-03-29", 24),
        ("America/Sao_Paulo", "2018-11-04", 23),
        ("America/Havana", "2026-11-01", 25),
        ("Pacific/Apia", "2011-12-29", 24),
        ("Pacific/Apia", "2011-12-31", 24),
    ],
)
def test_a_day_is_as_long_as_its_clocks_say(zone: str, day: str, hours: float) -> None:
    for at in ("00:00", "02:30", "12:00", "23:59"):
        now = instant(f"{day} {at}", zone)
        begin, end = Calendar(1, "day", zone).quota(now, None).window(now)
        assert begin <= now < end
        assert end - begin == hours * HOUR


def test_a_day_that_was_skipped_has_no_window_and_takes_none_from_its_neighbours() -> None:
    apia = Calendar(1, "day", "Pacific/Apia")
    assert window(apia, instant("2011-12-29 23:59", "Pacific/Apia")) == ("2011-12-29 00:00", "2011-12-31 00:00")
    assert window(apia, instant("2011-12-31 00:00", "Pacific/Apia")) == ("2011-12-31 00:00", "2012-01-01 00:00")


def test_the_hour_that_comes_twice_is_two_windows_and_one_day() -> None:
    first, second = (instant("2026-10-25 02:30", "Europe/Paris", fold) for fold in (0, 1))
    hour, day = Calendar(1, "hour", "Europe/Paris"), Calendar(1, "day", "Europe/Paris")
    assert hour.quota(first, None).window(first)[1] == hour.quota(second, None).window(second)[0]
    assert day.quota(first, None).window(first) == day.quota(second, None).window(second)


def test_a_midnight_that_does_not_exist_begins_when_the_clocks_have_jumped() -> None:
    zone = "America/Sao_Paulo"
    assert window(Calendar(1, "day", zone), instant("2018-11-04 12:00", zone))[0] == "2018-11-04 01:00"


@pytest.mark.parametrize(
    "anchor, now, expected",
    [
        ("2026-01-31", "2026-02-15", ("2026-01-31 00:00", "2026-02-28 00:00")),
        ("2026-01-31", "2026-02-28", ("2026-02-28 00:00", "2026-03-31 00:00")),
        ("2026-01-31", "2026-04-30", ("2026-04-30 00:00", "2026-05-31 00:00")),
        ("2028-01-31", "2028-02-29", ("2028-02-29 00:00", "2028-03-31 00:00")),
        ("2026-01-15 09:30", "2026-02-15 09:29", ("2026-01-15 09:30", "2026-02-15 09:30")),
        ("2026-05-31", "2025-03-01", ("2025-02-28 00:00", "2025-03-31 00:00")),
    ],
)
def test_a_billing_month_is_clamped_from_the_original_day(anchor: str, now: str, expected: tuple[str, str]) -> None:
    calendar = Calendar(1, "month", anchor="subscription")
    assert window(calendar, instant(now), instant(anchor)) == expected


def test_a_billing_year_from_the_29th_of_february() -> None:
    calendar = Calendar(1, "year", anchor="subscription")
    starts = [window(calendar, instant(f"{year}-06-01"), instant("2024-02-29"))[0] for year in range(2024, 2029)]
    assert starts == ["2024-02-29 00:00", *[f"{year}-02-28 00:00" for year in (2025, 2026, 2027)], "2028-02-29 00:00"]


@pytest.mark.parametrize(
    "unit, expected",
    [
        ("hour", ("2026-11-24 13:00", "2026-11-24 14:00")),
        ("day", ("2026-11-24 00:00", "2026-11-25 00:00")),
        ("week", ("2026-11-23 00:00", "2026-11-30 00:00")),
        ("month", ("2026-11-01 00:00", "2026-12-01 00:00")),
        ("year", ("2026-01-01 00:00", "2027-01-01 00:00")),
    ],
)
def test_the_calendars_own_windows_begin_where_calendars_do(unit: str, expected: tuple[str, str]) -> None:
    assert window(Calendar(1, unit), instant("2026-11-24 13:37")) == expected
    assert window(Calendar(1, unit, anchor="subscription"), instant("2026-11-24 13:37")) == expected


def test_an_unknown_zone_is_said() -> None:
    with pytest.raises(ZoneInfoNotFoundError):
        Calendar(1, "day", "Europe/Atlantis").quota(0, None)


units = st.sampled_from(["hour", "day", "week", "month", "year"])
instants = st.integers(instant("1990-01-01"), instant("2050-01-01"))


@given(unit=units, every=st.integers(1, 5), zone=st.sampled_from(ZONES), now=instants, anchor=st.none() | instants)
def test_windows_follow_each_other_without_gap_or_overlap(
    unit: str, every: int, zone: str, now: int, anchor: int | None
) -> None:
    calendar = Calendar(1, unit, zone, "subscription", every)
    before, begin, end, after = calendar.quota(now, anchor).edges
    assert before <= begin <= now < end <= after
    assert calendar.quota(end, anchor).edges[1] == end
    assert calendar.quota(end - 1, anchor).edges[1:3] == (begin, end)
    if before < begin:
        assert calendar.quota(begin - 1, anchor).edges[1:3] == (before, begin)


@given(zone=st.sampled_from(ZONES), now=instants)
def test_there_is_one_window_for_each_local_date(zone: str, now: int) -> None:
    begin, end = Calendar(1, "day", zone).quota(now, None).window(now)
    dates = {
        (EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(zone)).date()
        for at in (begin, now, end - 1, (begin + end) // 2)
    }
    assert len(dates) == 1


@given(zone=st.sampled_from(ZONES), begin=instants, steps=st.lists(st.integers(1, 12), max_size=30))
def test_as_much_is_admitted_as_there_are_local_days(zone: str, begin: int, steps: list[int]) -> None:
    calendar, place, balances, now = Calendar(1, "day", zone), (b"org", "day"), {}, begin
    admitted, dates = 0, set()
    for n, step in enumerate((0, *steps)):
        now += step * HOUR
        demand = Demand(place, calendar.quota(now, None), 1)
        change = apply(balances, None, Reserve(b"%d" % n, (demand,), 1), now)
        balances.update(change.balances)
        admitted += isinstance(change.outcome, Granted)
        dates.add((EPOCH + timedelta(microseconds=now)).astimezone(ZoneInfo(zone)).date())
    assert admitted == len(dates)


def test_a_window_that_opens_at_the_first_use_is_a_month_from_then() -> None:
    calendar = Calendar(1, "month", "Europe/Paris", "first_use")
    opened = instant("2026-01-31 10:00", "Europe/Paris")
    assert window(calendar, opened) == ("2026-01-31 10:00", "2026-02-28 10:00")


def test_a_first_use_window_is_opened_by_a_unit_and_by_nothing_else() -> None:
    day, place, balances = Calendar(2, "day", anchor="first_use"), (b"org", "day"), {}
    for now, amount in ((0, 0), (5 * HOUR, 1), (6 * HOUR, 1)):
        change = apply(balances, None, Reserve(b"%d" % now, (Demand(place, day.quota(now, None), amount),), 1), now)
        balances.update(change.balances)
    [refusal] = apply(
        balances, None, Reserve(b"r", (Demand(place, day.quota(0, None), 1),), 1), 7 * HOUR
    ).outcome.refusals  # type: ignore[union-attr]
    assert refusal.at == 29 * HOUR
