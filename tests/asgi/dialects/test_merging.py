"""Our headers beside those of an app that tells limits of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.asgi.dialects import NAMES, dialects, merged
from headgate.quota.meter import Meter

OURS = [
    (b"x-ratelimit-limit-requests", b"100"),
    (b"x-ratelimit-remaining-requests", b"50"),
    (b"x-ratelimit-reset-requests", b"1s"),
    (b"x-ratelimit-limit-tokens", b"9000"),
    (b"x-ratelimit-remaining-tokens", b"7000"),
    (b"x-ratelimit-reset-tokens", b"2s"),
]


def behind(requests: int, tokens: int) -> list[tuple[bytes, bytes]]:
    """A provider that the app asks, and whose headers it hands on."""
    return [
        (b"X-RateLimit-Limit-Requests", b"10000"),
        (b"X-RateLimit-Remaining-Requests", b"%d" % requests),
        (b"X-RateLimit-Reset-Requests", b"8.64s"),
        (b"x-ratelimit-limit-tokens", b"200000"),
        (b"x-ratelimit-remaining-tokens", b"%d" % tokens),
        (b"x-ratelimit-reset-tokens", b"6m0s"),
    ]


def read(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    found = {name.lower(): value for name, value in headers}
    assert len(found) == len(headers), "no name comes twice"
    return found


def test_of_two_standings_under_one_name_the_one_with_less_left_is_told_whole() -> None:
    told = read(merged(behind(requests=3, tokens=150_000), OURS))
    assert told[b"x-ratelimit-remaining-requests"] == b"3" and told[b"x-ratelimit-reset-requests"] == b"8.64s"
    assert told[b"x-ratelimit-limit-requests"] == b"10000"
    assert told[b"x-ratelimit-remaining-tokens"] == b"7000" and told[b"x-ratelimit-reset-tokens"] == b"2s"
    assert told[b"x-ratelimit-limit-tokens"] == b"9000"


def test_what_cannot_be_read_is_taken_for_the_stricter() -> None:
    odd = [(b"x-ratelimit-remaining-requests", b"a few"), (b"x-ratelimit-limit-tokens", b"5")]
    told = read(merged(odd, OURS))
    assert told == dict(odd)


def test_of_several_that_the_app_tells_the_least_counts() -> None:
    twice = [(b"x-ratelimit-remaining", b"90"), (b"x-ratelimit-remaining", b"2")]
    assert merged(twice, [(b"x-ratelimit-remaining", b"5")]) == twice


def test_nothing_of_a_looser_standing_stays() -> None:
    ours = [(b"x-ratelimit-limit", b"60"), (b"x-ratelimit-remaining", b"1"), (b"x-ratelimit-reset", b"30")]
    app = [
        (b"x-ratelimit-limit", b"5000"),
        (b"x-ratelimit-remaining", b"4999"),
        (b"x-ratelimit-used", b"1"),
        (b"x-ratelimit-resource", b"core"),
        (b"content-type", b"text/plain"),
    ]
    assert merged(app, ours) == [(b"content-type", b"text/plain"), *ours]


def test_other_names_are_not_touched() -> None:
    app = [
        (b"ratelimit", b'"own";r=1'),
        (b"x-ratelimit-remaining", b"4"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
    ]
    assert merged(app, OURS) == [*app, *OURS]
    assert merged(app, []) == app


def test_by_the_draft_both_are_told() -> None:
    ours = [(b"ratelimit-policy", b'"rpm";q=9'), (b"ratelimit", b'"rpm";r=5')]
    told = dict(merged([(b"RateLimit", b'"own";r=1'), (b"x", b"1"), (b"x-ratelimit-reset", b"7")], ours))
    assert told == {
        b"x": b"1",
        b"x-ratelimit-reset": b"7",
        b"ratelimit-policy": b'"rpm";q=9',
        b"ratelimit": b'"own";r=1, "rpm";r=5',
    }


@pytest.mark.parametrize("name", sorted(dialects(b"pepper")))
def test_every_name_that_a_dialect_tells_limits_under_is_known(name: str, decide: Callable, limits: Any) -> None:
    decision, _ = decide(limits.rpm(9), limits.total("tokens", Meter("output_tokens", "app")))
    names = [header for header, _ in dialects(b"pepper")[name].fields(decision)]
    assert names and set(names) <= NAMES and all(header == header.lower() for header in names)


ROLES = st.sampled_from(
    [b"x-ratelimit-limit", b"x-ratelimit-remaining", b"X-RateLimit-Remaining", b"x-ratelimit-reset"]
)
FIELDS = st.lists(st.tuples(ROLES, st.integers(0, 99).map(lambda number: b"%d" % number)), max_size=4)


@given(FIELDS, st.integers(0, 99))
def test_what_is_told_as_left_is_never_more_than_either_tells(app: list[tuple[bytes, bytes]], left: int) -> None:
    ours = [(b"x-ratelimit-limit", b"99"), (b"x-ratelimit-remaining", b"%d" % left)]
    both = [int(value) for name, value in [*app, *ours] if name.lower() == b"x-ratelimit-remaining"]
    told = [int(value) for name, value in merged(app, ours) if name.lower() == b"x-ratelimit-remaining"]
    assert not told or min(told) == min(both)
    assert told or app, "nothing is left out but for the app's own"
