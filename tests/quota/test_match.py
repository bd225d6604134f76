"""Which limits apply, on which subjects, and what a request asks of each."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.errors import AmountError
from headgate.quota.balance import FOREVER, SAFE
from headgate.quota.calendar import Calendar
from headgate.quota.command import Demand, Inherit, Merge
from headgate.quota.facts import Call, Group, Principal
from headgate.quota.gcra import Rate
from headgate.quota.match import CANDIDATE, FRESH, Limit, Tariff, predecessors, reserved, subject_of, tariff
from headgate.quota.meter import BUILT_IN_METERS, Meter
from headgate.quota.owner import Override
from headgate.quota.share import share_of
from headgate.quota.window import Max, Quota, Rolling, Total

NOW = 1_800_057_600_000_000
REQUESTS = BUILT_IN_METERS["requests"]
ACME = Principal("k1", "acme", "free", claims={"project": "p7"})
PAIR = Group("g1", frozenset({"acme", "bolt"}), frozenset({"free", "build"}))


def digest(parts: tuple[str, ...]) -> bytes:
    return "|".join(parts).encode()


def limit(**changes: Any) -> Limit:
    return Limit(**{"id": "l", "meter": REQUESTS, "per": ("key",), "values": {"": Total(5)}, **changes})


def lines_for(
    *limits: Limit,
    who: Principal = ACME,
    group: Group | None = None,
    overrides: tuple[Override, ...] = (),
    lot: int = 0,
) -> Tariff:
    return tariff(limits, overrides, who, group, NOW, digest=digest, scopes={"project": "claim.project"}, lot=lot)


def demands(found: Tariff, **call: Any) -> tuple[Demand, ...]:
    return found.asked(Call(call.pop("who", ACME), **call)).demands


@pytest.mark.parametrize(
    "per, expected",
    [
        (("key",), ("key", "k1")),
        (("org", "project"), ("org", "acme", "project", "p7")),
        (("group",), ("org", "acme")),
        (("ip",), ("ip", "192.0.2.7")),
        (("route",), ("route", "/v1/items")),
        (("header.x-region",), ("header.x-region", "eu")),
    ],
)
def test_a_subject_is_named_by_its_scopes_and_their_values(per: tuple[str, ...], expected: tuple[str, ...]) -> None:
    call = Call(ACME, paths=("/v1/items",), network="192.0.2.7", lookup=lambda source, name: "eu")
    assert subject_of(per, ACME, None, call, {"project": "claim.project"}) == expected


def test_a_group_is_one_subject_and_an_org_alone_is_a_group_of_one() -> None:
    assert subject_of(("group",), ACME, PAIR, None, {}) == ("group", "g1")
    assert subject_of(("group",), ACME, None, None, {}) == subject_of(("org",), ACME, None, None, {})


def test_a_caller_that_nobody_vouches_for_is_charged_by_its_network() -> None:
    nobody = Principal("", "")
    found = lines_for(limit(per=("org",)), who=nobody)
    assert demands(found, who=nobody, network="192.0.2.7")[0].place == (b"ip|192.0.2.7", "l")


def test_values_with_a_bar_or_other_separators_in_them_stay_apart() -> None:
    one = subject_of(("org", "ip"), Principal("k", "a", ""), None, Call(ACME, network="b:c"), {})
    other = subject_of(("org", "ip"), Principal("k", "a:b", ""), None, Call(ACME, network="c"), {})
    assert one != other


def test_the_plan_of_the_caller_chooses_the_value_and_a_group_has_its_best_members_once() -> None:
    by_plan = limit(per=("group",), values={"free": Total(5), "build": Total(50)})
    assert demands(lines_for(by_plan))[0].verb == Total(5)
    assert demands(lines_for(by_plan, group=PAIR))[0].verb == Total(50)
    with pytest.raises(KeyError):
        lines_for(limit(values={"build": Total(50)}))


def test_unlimited_asks_nothing() -> None:
    assert demands(lines_for(limit(values={"": None}))) == ()


def test_only_limits_whose_conditions_are_met_ask() -> None:
    found = lines_for(
        limit(id="all"), limit(id="posts", applies=lambda call: call.method == "POST"), limit(id="ip", per=("ip",))
    )
    assert [demand.place[1] for demand in demands(found, method="GET")] == ["all", "ip"]
    assert [demand.place[1] for demand in demands(found, method="POST")] == ["all", "posts", "ip"]


def test_what_does_not_depend_on_the_request_is_worked_out_once() -> None:
    found = lines_for(limit(id="a"), limit(id="b", applies=lambda call: call.method == "POST"))
    assert found.asked(Call(ACME)) is found.asked(Call(ACME))
    assert found.asked(Call(ACME)) is not found.asked(Call(ACME, method="POST"))


def test_an_exception_holds_for_whom_and_until_when_it_says() -> None:
    more = Override("org", "acme", frozenset({"l"}), {"": Total(99)}, NOW + 10, "pilot")
    found = lines_for(limit(), overrides=(more,))
    assert demands(found)[0].verb == Total(99)
    assert found.until == NOW + 10
    assert demands(lines_for(limit(), who=Principal("k9", "bolt"), overrides=(more,)))[0].verb == Total(5)
    assert demands(lines_for(limit(id="other"), overrides=(more,)))[0].verb == Total(5)
    ended = Override("org", "acme", frozenset({"l"}), {"": Total(99)}, NOW, "pilot")
    assert demands(lines_for(limit(), overrides=(ended,)))[0].verb == Total(5)


def test_orgs_outside_a_rollout_are_in_shadow() -> None:
    assert [demands(lines_for(limit(rollout=2_500), lot=lot))[0].shadow for lot in (0, 2_499, 2_500)] == [
        False,
        False,
        True,
    ]


def test_a_candidate_asks_in_shadow_beside_the_live_value() -> None:
    live, candidate = demands(lines_for(limit(candidate={"": Total(1)})))
    assert (live.place[1], live.shadow) == ("l", False)
    assert (candidate.place[1], candidate.shadow, candidate.verb) == ("l" + CANDIDATE, True, Total(1))


def test_a_tariff_holds_until_a_window_ends() -> None:
    day = Calendar(5, "day").quota(NOW, None)
    assert lines_for(limit(values={"": Calendar(5, "day")})).until == day.edges[2]
    assert lines_for(limit(values={"": Calendar(5, "month", anchor="first_use")})).until == NOW + FRESH
    assert lines_for(limit()).until == FOREVER


@pytest.mark.parametrize(
    "told, held",
    [
        ("7", 7),
        ("0", 0),
        ("", 100),
        ("-1", 100),
        ("1e3", 100),
        ("7.5", 100),
        ("٣", 100),
        ("10" * 9, 100),
        ("9999", 4096),
    ],
)
def test_what_a_request_announces_is_held_if_it_is_a_number_and_never_more_than_the_meter_takes(
    told: str, held: int
) -> None:
    tokens = Meter("tokens", "app", reserve=100, reserve_from="body.max_tokens", most=4096)
    assert reserved(tokens, Call(ACME, lookup=lambda source, name: told)) == held


def test_an_announced_length_past_what_can_be_counted_saturates() -> None:
    call = Call(ACME, lookup=lambda source, name: "9" * 15)
    assert reserved(BUILT_IN_METERS["bytes_in"], call) == 10**15 - 1
    assert Meter("m", "app").bounded(10**18) == SAFE


@pytest.mark.parametrize("amount", [-1, 1.5, float("nan"), True, "3", None])
def test_what_an_app_reports_must_be_a_whole_number(amount: Any) -> None:
    with pytest.raises(AmountError):
        Meter("rows", "app", most=5).bounded(amount)


def test_a_place_is_held_one_at_a_time_whatever_the_meter() -> None:
    [streams] = demands(lines_for(limit(meter=BUILT_IN_METERS["streams"], values={"": Max(3, 60)})))
    assert (streams.amount, streams.hold) == (1, True)
    [rows] = demands(lines_for(limit(meter=Meter("rows", "app", reserve=10))))
    assert (rows.amount, rows.hold) == (10, True)
    [requests] = demands(lines_for(limit()))
    assert (requests.amount, requests.hold) == (1, False)


def test_a_group_takes_over_what_its_orgs_have_used_alone() -> None:
    found = lines_for(limit(id="month", per=("group",)), limit(id="keyed"), group=PAIR)
    [merge] = predecessors(found, digest)
    assert merge.into.place == (b"group|g1", "month")
    assert isinstance(merge, Merge)
    subjects = [b"org|acme", b"org|bolt", b"group|acme", b"group|bolt"]
    assert [source.place for source in merge.sources] == [(subject, "month") for subject in subjects]
    assert predecessors(lines_for(limit(per=("group",))), digest) == ()


def test_who_has_left_a_group_inherits_from_it() -> None:
    [inherit] = predecessors(lines_for(limit(id="month", per=("group",)), limit(id="keyed")), digest, ["g1"])
    assert isinstance(inherit, Inherit)
    assert (inherit.into.place, inherit.source.place) == ((b"org|acme", "month"), (b"group|g1", "month"))


def test_a_share_of_a_limit_is_the_same_window_with_less_in_it() -> None:
    day = Calendar(25, "day").quota(NOW, None)
    for verb, part in (
        (day, 2),
        (Rolling(25, 60), 2),
        (Max(25, 60), 2),
        (Total(25), 2),
        (Total(3), 1),
        (Rate(25, 60), 2),
    ):
        small = share_of(verb, 1_000)
        assert small.capacity == part
        assert small.kind == verb.kind
    assert isinstance(day, Quota) and share_of(day, 1_000).edges == day.edges  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        share_of(object(), 1_000)  # type: ignore[arg-type]
