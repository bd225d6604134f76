"""Units: what each form means, and that its neighbours are refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.literals import (
    Every,
    Window,
    Wrong,
    amount,
    decimal,
    duration,
    percent,
    probability,
    quota,
    rate,
    rolling,
    spelled,
)
from headgate.policy.words import country, day, glob, name, network, python, route, source

Read = Callable[[str], object]

SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000


def test_amounts_are_digits_with_a_thousand_sign() -> None:
    known = {
        "0": 0,
        "8": 8,
        "4k": 4_000,
        "1M": 10**6,
        "5G": 5 * 10**9,
        "2T": 2 * 10**12,
        "1.5M": 1_500_000,
        "0.5k": 500,
    }
    assert {text: amount(text) for text in known} == known


def test_letters_are_durations() -> None:
    known = {"10s": 10 * SECOND, "15min": 15 * MINUTE, "10m": 10 * MINUTE, "1h": HOUR, "7d": 7 * DAY}
    assert {text: duration(text) for text in known} == known


def test_rates_are_amounts_in_a_length_of_time() -> None:
    assert rate("60/min") == Every(60, MINUTE)
    assert rate("1k/s") == Every(1_000, SECOND)
    assert rate("100/2h") == Every(100, 2 * HOUR)
    assert rolling("2M/7d") == Every(2_000_000, 7 * DAY)


def test_strings_of_the_limits_package_are_rates() -> None:
    assert rate("60/minute") == rate("60 per minute") == rate("60 per 1 minute") == Every(60, MINUTE)
    assert rate("100 per 2 hours") == rate("100/2hours") == Every(100, 2 * HOUR)
    assert rate("5 per 10 second") == Every(5, 10 * SECOND)
    assert rate("1000/month") == Every(1000, 30 * DAY, "30 days")


def test_words_are_windows_of_the_calendar() -> None:
    assert quota("1M/month") == Window(10**6, 1, "month")
    assert quota("10k/2weeks") == quota("10k/2week") == Window(10_000, 2, "week")


SLIPS = [
    (rate, {"60/mni": "60/min", "10k/hour": "10k/h", "1_000/min": "1000/min"}),
    (quota, {"1M/d": "1M/day", "1M/mont": "1M/month"}),
    (rolling, {"1M/week": "1M/7d"}),
    (duration, {"10": "10s", "2 hours": "2h", "2w": "14d"}),
    (amount, {"5K": "5k", "010": "10", "1,000": "1000"}),
    (percent, {"10": "10%"}),
    (probability, {"97%": "0.97"}),
    (day, {"31.12.2027": "2027-12-31", "2027/1/5": "2027-01-05"}),
    (network, {"10.1.0.0/8": "10.0.0.0/8"}),
    (name, {"Per Minute": "per_minute"}),
    (source, {"heder.x-a": "header.x-a"}),
    (route, {"v1/items": "/v1/items", "https://x/y": "/y"}),
    (python, {"a.b.c": "a.b:c"}),
]


@pytest.mark.parametrize(("read", "slips"), SLIPS, ids=lambda it: getattr(it, "__name__", ""))
def test_a_slip_is_refused_with_what_was_meant(read: Read, slips: dict[str, str]) -> None:
    for text, meant in slips.items():
        with pytest.raises(Wrong) as caught:
            read(text)
        assert caught.value.suggestion == meant


REFUSED = [
    (amount, ["", " 5", "5 ", "٥", "1e3", "2.5", "9" * 30, "9007199254740992"]),
    (duration, ["0s", "99999d", "1.5h"]),
    (rate, ["60", "/min", "60/0s", "1/second;5/hour", "x" * 500]),
    (quota, ["1M/30d", "1M/min", "5/999day"]),
    (rolling, ["2M"]),
    (percent, ["101%", "1.234%"]),
    (decimal, ["1e3", "-1"]),
    (probability, ["0", "1"]),
    (day, ["2027-02-30", "20270101"]),
    (network, ["example.org", "::ffff:10.0.0.0/104"]),
    (name, ["no", "a" * 65, "a\n"]),
    (glob, ["^a$", "(a+)+"]),
    (route, ["/search?q=1", "https://x/y"]),
    (country, ["DEU"]),
    (source, ["cookie.a"]),
    (python, ["a b:c"]),
]


@pytest.mark.parametrize(("read", "texts"), REFUSED, ids=lambda it: getattr(it, "__name__", ""))
def test_everything_else_is_refused(read: Read, texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(Wrong):
            read(text)


def test_the_rest_is_read_as_it_stands() -> None:
    assert (percent("12.5%"), decimal("0.1"), probability("0.97")) == (1_250, 100_000, 970_000)
    assert day("2027-06-30") == date(2027, 6, 30)
    assert (source("header.X-Model"), source("body.model"), country("no")) == ("header.x-model", "body.model", "NO")
    assert str(network("198.51.100.7")) == "198.51.100.7/32"


@given(st.integers(min_value=0, max_value=2**53 - 1))
def test_an_amount_that_is_spelled_is_read_again(value: int) -> None:
    assert amount(spelled(value)) == value


@given(st.text(max_size=30))
def test_no_text_does_anything_but_be_read_or_be_wrong(text: str) -> None:
    for read in (amount, duration, rate, quota, rolling, percent, decimal, day, network, name, glob, route, source):
        try:
            assert callable(read)
            read(text)
        except Wrong:
            pass
