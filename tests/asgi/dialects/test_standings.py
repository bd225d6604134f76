"""Which limit is told of a kind, and how it stands."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.asgi.dialects import dialects, standings
from headgate.asgi.dialects.openai import duration
from headgate.asgi.dialects.standings import tokens
from headgate.gate import Gate
from headgate.policy.compiled import Policy
from headgate.quota.calendar import Calendar
from headgate.quota.facts import Call, Group, Principal
from headgate.quota.gcra import Rate
from headgate.quota.identify import Identify
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS, MILLION, Meter, Sum
from headgate.quota.window import Max, Rolling, Total
from headgate.stores import open_store
from headgate.testing import ManualClock

REQUESTS = BUILT_IN_METERS["requests"]
OUTPUT = Meter("output_tokens", "preset.openai-usage", reserve=400)
INPUT = Meter("input_tokens", "preset.openai-usage", reserve=100)
MINUTE = 60_000_000
HOUR = 60 * MINUTE

ALL = dialects(b"pepper")


def told(name: str, decision: object, wait: int = 0) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in ALL[name].fields(decision, wait)}  # type: ignore[arg-type]


def per(org: str, **more: object) -> Limit:
    return Limit(org, REQUESTS, ("org",), {"": Rate(100, MINUTE)}, **more)  # type: ignore[arg-type]


def test_of_two_limits_of_a_kind_the_scarcest_is_told(decide: Callable) -> None:
    decision, _ = decide(
        Limit("hour", REQUESTS, ("key",), {"": Rate(100, HOUR)}),
        Limit("rpm", REQUESTS, ("key",), {"": Rate(5, MINUTE)}),
        times=3,
    )
    assert told("openai", decision) == {
        "x-ratelimit-limit-requests": "5",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "36s",
    }
    assert told("github", decision)["x-ratelimit-resource"] == "rpm"


def test_tokens_are_told_apart_where_an_api_does_so(decide: Callable) -> None:
    decision, _ = decide(
        Limit("in", INPUT, ("key",), {"": Total(1_000)}), Limit("out", OUTPUT, ("key",), {"": Total(1_000)})
    )
    told_anthropic = told("anthropic", decision)
    assert {name: value for name, value in told_anthropic.items() if name.endswith("remaining")} == {
        "anthropic-ratelimit-tokens-remaining": "600",
        "anthropic-ratelimit-input-tokens-remaining": "900",
        "anthropic-ratelimit-output-tokens-remaining": "600",
    }
    assert not any(name.endswith("reset") for name in told_anthropic), "of a lifetime nothing comes back"
    assert told("openai", decision)["x-ratelimit-remaining-tokens"] == "600"
    assert not any("requests" in name for name in [*told("openai", decision), *told_anthropic])


def test_a_sum_of_tokens_counts_tokens_and_a_weighed_one_does_not() -> None:
    def meter(weights: dict[str, int], by: str = "") -> Meter:
        return Meter("added", "sum", sum=Sum(weights, by=by), parts=(INPUT, OUTPUT))

    assert tokens(meter({"input_tokens": MILLION, "output_tokens": MILLION}))
    assert not tokens(meter({"input_tokens": MILLION, "output_tokens": 5 * MILLION}))
    assert not tokens(meter({"input_tokens": MILLION}, by="body.model"))
    assert not tokens(meter({"requests": MILLION}))


def test_limits_in_shadow_and_places_that_are_granted_are_not_told(decide: Callable) -> None:
    decision, _ = decide(
        per("seen", shadow=True), Limit("slots", BUILT_IN_METERS["streams"], ("key",), {"": Max(3, MINUTE)})
    )
    for name in ("openai", "anthropic", "github", "legacy"):
        assert told(name, decision) == {}


def test_who_finds_no_place_is_told_so_where_one_limit_is_told(decide: Callable) -> None:
    slots = Limit("slots", BUILT_IN_METERS["streams"], ("key",), {"": Max(1, MINUTE)})
    decision, policy = decide(per("rpm"), slots, times=2)
    reply = dict(ALL["legacy"].refused(decision, policy).headers)
    assert (reply[b"x-ratelimit-limit"], reply[b"x-ratelimit-remaining"]) == (b"1", b"0")
    assert reply[b"x-ratelimit-reset"] == reply[b"retry-after"]
    # `requests` are told of what may be asked in a time; an SDK would take a place for one request a minute.
    assert told("openai", decision, 1)["x-ratelimit-limit-requests"] == "100"


def test_of_a_burst_no_more_is_told_than_comes_every_time(decide: Callable) -> None:
    decision, _ = decide(Limit("rpm", REQUESTS, ("key",), {"": Rate(3, MINUTE, burst=5)}))
    assert told("github", decision)["x-ratelimit-remaining"] == "3" == told("github", decision)["x-ratelimit-limit"]
    assert told("github", decision)["x-ratelimit-used"] == "0"


def test_nothing_is_told_that_the_store_did_not_say(decide: Callable) -> None:
    decision, _ = decide(per("rpm"))
    decision.degraded = "open"
    assert all(dialect.fields(decision) == [] for dialect in ALL.values())


@pytest.mark.parametrize("verb", [Rate(7, MINUTE), Calendar(7, "day"), Rolling(7, HOUR)])
def test_no_reset_is_told_before_all_is_left_again(decide: Callable, verb: object) -> None:
    decision, _ = decide(Limit("one", REQUESTS, ("key",), {"": verb}), times=5)  # type: ignore[dict-item]
    [balance] = decision.balances
    assert balance is not None and balance.until > decision.now
    at = told("anthropic", decision)["anthropic-ratelimit-requests-reset"]
    assert datetime.fromisoformat(at).timestamp() * 1_000_000 >= balance.until
    assert int(told("github", decision)["x-ratelimit-reset"]) * 1_000_000 >= balance.until
    assert int(told("legacy", decision)["x-ratelimit-reset"]) * 1_000_000 >= balance.until - decision.now
    assert microseconds(told("openai", decision)["x-ratelimit-reset-requests"]) >= balance.until - decision.now


def test_what_is_held_is_told_to_come_back_as_if_it_were_used(decide: Callable) -> None:
    decision, _ = decide(Limit("otpm", OUTPUT, ("key",), {"": Rate(1_000, MINUTE)}))
    assert told("openai", decision)["x-ratelimit-reset-tokens"] == "24s"


@given(
    st.sampled_from([Rate(7, MINUTE, burst=3), Calendar(20, "day"), Rolling(20, HOUR), Total(20)]),
    st.integers(0, 5),
    st.integers(1, 3),
)
def test_a_grant_is_told_as_its_verb_reads_it(verb: Any, reserve: int, times: int) -> None:
    held = Meter("rows", "app", reserve=reserve)
    limit = Limit("one", held if reserve else REQUESTS, ("org",), {"": verb})
    clock = ManualClock()
    policy = Policy("p", "0", "enforce", Identify(anonymous=""), (limit,))
    gate = Gate(policy, open_store("memory://", clock=clock), peppers=(b"pepper",), clock=clock)
    for _ in range(times):
        decision = asyncio.run(gate.admit(Call(Principal("k", "acme"))))
        clock.advance(7)
    if not decision.refusals:
        [quick] = standings.Standings(standings.anything).told(decision)
        slow = standings._standing(decision, 0)
        assert quick == slow


def test_whoever_waits_for_the_reset_of_a_refusal_has_waited_long_enough(decide: Callable) -> None:
    slow = Limit("slow", REQUESTS, ("key",), {"": Rate(1_000, 24 * HOUR)})
    decision, policy = decide(slow, times=1_001)
    headers = {name: dict(dialect.refused(decision, policy).headers) for name, dialect in ALL.items()}
    [wait] = {int(found[b"retry-after"]) for found in headers.values()}
    assert 86 <= wait <= 95
    assert int(headers["legacy"][b"x-ratelimit-reset"]) == wait, "not the day after which all of it is left again"
    assert int(headers["github"][b"x-ratelimit-reset"]) * 1_000_000 >= decision.now + wait * 1_000_000
    assert headers["openai"][b"x-ratelimit-reset-requests"].startswith(b"24h0m")


def test_nobody_learns_of_another_customer(decide: Callable) -> None:
    pair = Group("owner-of-both", frozenset({"acme", "rivals-inc"}))
    month = Limit("month", REQUESTS, ("group",), {"": Calendar(1, "month")})
    decision, policy = decide(month, times=2, affiliated=((pair, 2**53 - 1),))
    assert decision.refusals
    for dialect in ALL.values():
        reply = dialect.refused(decision, policy)
        said = reply.body + dialect.event(decision, policy) + b" ".join([b" ".join(pair) for pair in reply.headers])
        assert b"rivals" not in said and b"owner-of-both" not in said


def test_what_is_kept_is_bounded(decide: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standings, "KEPT_LINES", 10)
    fresh = dialects(b"pepper")
    for number in range(30):
        decision, _ = decide(per("rpm"), who=Principal(f"k_{number}", f"org-{number}"))
        for dialect in fresh.values():
            dialect.fields(decision)
    assert len(fresh["openai"]._standings._lines) <= 10  # type: ignore[attr-defined]


def microseconds(told: str) -> int:
    """A duration as Go reads it."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)(?:\.(\d{1,3}))?s)?|(\d+)ms", told)
    assert found is not None, told
    hours, minutes, seconds, rest, ms = found.groups(default="0")
    whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
    return ((whole * 1_000) + int(rest.ljust(3, "0")) + int(ms)) * 1_000


@given(st.integers(0, 10**12))
def test_a_duration_is_read_as_it_was_meant(milliseconds: int) -> None:
    assert microseconds(duration(milliseconds)) == milliseconds * 1_000
