"""Which limits apply, on which subjects, and what a request asks of each."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from headgate.errors import AmountError
from headgate.quota.ahead import factor_of, reserved, subject_of, thing
from headgate.quota.balance import FOREVER, SAFE
from headgate.quota.calendar import Calendar
from headgate.quota.command import Demand, Join
from headgate.quota.facts import Call, Group, Principal
from headgate.quota.gcra import Rate
from headgate.quota.match import CANDIDATE, FRESH, LEASE, Limit, Tariff, joins, tariff
from headgate.quota.meter import BUILT_IN_METERS, MILLION, Meter, Sum
from headgate.quota.owner import Override
from headgate.quota.share import share_of
from headgate.quota.window import Max, Quota, Rolling, Total

NOW = 1_800_057_600_000_000
REQUESTS = BUILT_IN_METERS["requests"]
ACME = Principal("k1", "acme", "free", claims={"project": "p7"})
PAIR = Group("g1", frozenset({"acme", "bolt"}), frozenset({"free", "build"}))


INPUT = Meter("input_tokens", "preset.openai-usage", reserve=100)
OUTPUT = Meter("output_tokens", "preset.openai-usage", reserve=50, reserve_from=("body.max_tokens",), overrun="cut")
PARCELS = Meter("parcels", "distinct.path.parcel_id")


def credits(**changes: Any) -> Meter:
    weights = {"input_tokens": MILLION, "output_tokens": 5 * MILLION}
    return Meter("credits", "sum", sum=Sum(weights, **changes), parts=(INPUT, OUTPUT))


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
        ("10" * 9, 4096),
        ("9999", 4096),
    ],
)
def test_what_a_request_announces_is_held_if_it_is_a_number_and_never_more_than_the_meter_takes(
    told: str, held: int
) -> None:
    tokens = Meter("tokens", "app", reserve=100, reserve_from=("body.max_tokens",), most=4096)
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


def test_a_group_is_raised_to_what_its_orgs_have_used() -> None:
    found = lines_for(limit(id="month", per=("group",)), limit(id="keyed"), group=PAIR)
    [join] = joins(found, digest)
    assert isinstance(join, Join)
    assert join.into.place == (f"group|{PAIR.counted.id}".encode(), "month")
    assert [source.place for source in join.sources] == [(subject, "month") for subject in (b"org|acme", b"org|bolt")]
    assert joins(lines_for(limit(per=("group",))), digest) == ()


def test_a_groups_place_is_named_by_its_orgs_and_not_by_its_name() -> None:
    month = limit(id="month", per=("group",))
    groups = (PAIR, PAIR._replace(id="another name"), PAIR._replace(orgs=frozenset({"acme", "bolt", "cask"})))
    same, renamed, grown = (demands(lines_for(month, group=group))[0].place for group in groups)
    assert same == renamed != grown


def test_what_a_group_is_charged_is_charged_at_the_orgs_own_place_besides() -> None:
    table = (
        limit(id="month", per=("group",)),
        limit(id="keyed"),
        limit(id="routes", per=("group", "route"), share=100),
    )
    asked = lines_for(*table, group=PAIR).asked(Call(ACME, paths=("/a",)))
    assert [d.place[1] for d in asked.demands] == ["month", "keyed", "routes"]
    assert [(d.place, m.id) for d, m in asked.own] == [
        ((b"org|acme", "month"), "month"), ((b"org|acme|route|/a", "routes"), "routes"),
    ]  # fmt: skip
    assert all(d.owed and not d.slice for d, _ in asked.own)
    assert asked.whole == (*asked.demands, *[d for d, _ in asked.own])
    alone = lines_for(*table).asked(Call(ACME, paths=("/a",)))
    assert (alone.own, alone.whole) == ((), alone.demands)


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


def member(**values: str) -> Any:
    return lambda source, name: values.get(name, "")


def test_a_sum_holds_what_its_meters_hold_each_by_its_weight() -> None:
    found = lines_for(limit(meter=credits()))
    [unsaid] = demands(found)
    assert (unsaid.amount, unsaid.hold) == (100 + 5 * 50, True)
    assert demands(found, lookup=member(max_tokens="7"))[0].amount == 100 + 5 * 7


def test_a_sum_is_multiplied_by_the_first_pattern_that_matches() -> None:
    by_model = credits(
        by="body.model", factors=(("big-*", 4 * MILLION), ("*-mini", MILLION // 2)), default=2 * MILLION
    )
    found = lines_for(limit(meter=by_model))
    held = {model: demands(found, lookup=member(model=model))[0].amount for model in ("big-mini", "x-mini", "x", "")}
    assert held == {"big-mini": 4 * 350, "x-mini": 175, "x": 700, "": 700}
    assert found.factor(by_model, Call(ACME, lookup=member(model="big-1"))) == 4 * MILLION
    assert found.factor(INPUT, Call(ACME)) == MILLION


def test_a_factor_may_go_by_who_is_charged() -> None:
    tiers = {"by": "org", "factors": (("ac*", 3 * MILLION),)}
    assert factor_of(credits(**tiers), Call(ACME), PAIR, {}) == 3 * MILLION
    assert factor_of(credits(**{**tiers, "by": "group"}), Call(ACME), PAIR, {}) == MILLION
    assert factor_of(credits(by="claim.project", factors=(("p7", 9),)), Call(ACME), None, {}) == 9


def test_of_the_forms_of_a_path_the_dearest_one_counts() -> None:
    by_route = credits(by="route", factors=(("/cheap*", 1), ("/dear*", 9)), default=5)
    assert factor_of(by_route, Call(ACME, paths=("/cheap/1", "/dear/1")), None, {}) == 9
    assert factor_of(by_route, Call(ACME, paths=("/cheap/1",)), None, {}) == 1
    assert factor_of(by_route, Call(ACME, paths=("/cheap/1",), route="/{page}/{n}"), None, {}) == 5


def test_a_sum_that_the_request_cannot_change_is_worked_out_once() -> None:
    fixed = replace(credits(by="claim.project", factors=(("p7", 2 * MILLION),)), parts=(INPUT,))
    found = lines_for(limit(meter=fixed))
    assert found.lines[0].fixed is not None and found.lines[0].fixed.amount == 200
    assert found.asked(Call(ACME)) is found.asked(Call(ACME, lookup=member(model="big-1")))
    varying = [credits(), replace(fixed, sum=Sum({"input_tokens": MILLION}, by="body.model"))]
    assert [lines_for(limit(meter=meter)).lines[0].fixed for meter in varying] == [None, None]


def test_weighted_requests_are_known_before_and_are_not_held() -> None:
    priced = Sum({"requests": 3 * MILLION}, "body.model", (("big", 2 * MILLION),))
    weighted = Meter("weighted", "sum", sum=priced, parts=(REQUESTS,))
    assert weighted.known_before and not credits().known_before
    [asked] = demands(lines_for(limit(meter=weighted)), lookup=member(model="big"))
    assert (asked.amount, asked.hold) == (6, False)


def test_a_request_that_names_a_thing_asks_for_that_thing() -> None:
    found = lines_for(limit(meter=PARCELS))
    [asked] = demands(found, lookup=member(parcel_id="81723"))
    assert (asked.amount, asked.hold, asked.things) == (0, True, (thing(digest, "parcels", "81723"),))
    assert found.lines[0].fixed is None


def test_a_request_that_names_no_thing_asks_nothing_and_the_others_stay_beside_their_limits() -> None:
    found = lines_for(limit(id="a"), limit(id="copies", meter=PARCELS, candidate={"": Total(2)}), limit(id="b"))
    asked = found.asked(Call(ACME))
    assert [(demand.place[1], each.id) for demand, each in zip(asked.demands, asked.limits, strict=True)] == [
        ("a", "a"), ("b", "b"),
    ]  # fmt: skip
    assert asked.lease == 0
    both = found.asked(Call(ACME, lookup=member(parcel_id="7")))
    assert [demand.place[1] for demand in both.demands] == ["a", "copies", "copies" + CANDIDATE, "b"]
    assert [each.id for each in both.limits] == ["a", "copies", "copies", "b"]
    assert both.demands[1].things == both.demands[2].things and both.lease == LEASE


def test_things_that_the_app_will_name_hold_what_the_meter_reserves() -> None:
    found = lines_for(limit(meter=Meter("documents", "distinct.app", reserve=5)))
    [asked] = demands(found)
    assert (asked.amount, asked.hold, asked.things) == (5, True, ())
    assert found.lines[0].fixed is asked


def test_a_thing_is_the_same_for_everybody_and_another_one_under_another_meter() -> None:
    def keyed(parts: tuple[str, ...]) -> bytes:
        return sha256(repr(parts).encode()).digest()[:16]

    one = thing(keyed, "parcels", "81723")
    assert len(one) == 8 and one == thing(keyed, "parcels", "81723")
    assert len({one, thing(keyed, "documents", "81723"), thing(keyed, "parcels", "81724")}) == 3


def test_anonymous_callers_take_things_by_their_address() -> None:
    nobody = Principal("", "")
    found = lines_for(limit(per=("group",), meter=PARCELS), who=nobody)
    [asked] = demands(found, who=nobody, network="192.0.2.7", lookup=member(parcel_id="7"))
    assert asked.place == (b"ip|192.0.2.7", "l") and asked.things == (thing(digest, "parcels", "7"),)
