"""From right text to the values that decide."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate.policy import Policy, check, load
from headgate.quota.calendar import Calendar
from headgate.quota.gcra import Rate
from headgate.quota.identify import Source
from headgate.quota.owner import largest
from headgate.quota.window import Max, Rolling, Total
from timing import ratio

HEAD = "headgate: v1\npolicy: p\nmode: {mode}\non_store_error: closed\nidentify: {{directory: keys.yaml}}\n"
MINUTE, DAY = 60_000_000, 86_400_000_000


def loaded(tmp_path: Path, limits: str, extra: str = "", mode: str = "enforce", **options: Any) -> Policy:
    file = tmp_path / "policy.yaml"
    rows = "".join(f"  {row}\n" for row in limits.splitlines())
    file.write_text(HEAD.format(mode=mode) + extra + "limits:\n" + rows)
    return load(file, **options)


def test_each_verb_becomes_its_window(tmp_path: Path) -> None:
    policy = loaded(
        tmp_path,
        "a: {meter: requests, per: key, rate: 60/min, burst: 10}\n"
        "b: {meter: requests, per: key, rate: 60/min, burst: 10s}\n"
        "c: {meter: requests, per: key, quota: 1k/2week, zone: Europe/Berlin, anchor: subscription}\n"
        "d: {meter: requests, per: key, rolling: 2M/7d}\n"
        "e: {meter: streams, per: key, max: 8, lease: 10m}\n"
        "f: {meter: streams, per: key, max: 8}\n"
        "g: {meter: requests, per: key, total: 100k}\n"
        "h: {meter: requests, per: key, quota: 5/day}",
        "zone: Asia/Tokyo\n",
    )
    assert [limit.values[""] for limit in policy.limits] == [
        Rate(60, MINUTE, 10),
        Rate(60, MINUTE, 10),
        Calendar(1_000, "week", "Europe/Berlin", "subscription", 2),
        Rolling(2_000_000, 7 * DAY),
        Max(8, 10 * MINUTE),
        Max(8, 10 * MINUTE),
        Total(100_000),
        Calendar(5, "day", "Asia/Tokyo"),
    ]


def test_values_by_plan_keep_their_names_and_default_is_for_all_others(tmp_path: Path) -> None:
    policy = loaded(
        tmp_path,
        "a: {meter: requests, per: key, rate: {free: 3/min, default: 60/min}, "
        "candidate: {free: 1/min, default: unlimited}}",
        "plans: [free, build, scale]\n",
    )
    [limit] = policy.limits
    assert policy.plans == ("free", "build", "scale")
    assert largest(limit.values, {"free"}) == Rate(3, MINUTE)
    assert largest(limit.values, {"free", "scale"}) == Rate(60, MINUTE)
    assert limit.candidate == {"free": Rate(1, MINUTE), "": None}


def test_a_zero_that_is_meant_never_grants(tmp_path: Path) -> None:
    policy = loaded(
        tmp_path,
        "a: {meter: requests, per: key, rate: 0/min, deny: true}\n"
        "b: {meter: requests, per: key, quota: 0/day, deny: {status: 403, message: Not yours.}}\n"
        "c: {meter: requests, per: org, rate: 1/s}",
    )
    assert [value.capacity for limit in policy.limits[:2] if (value := limit.values[""])] == [0, 0]
    assert (policy.limits[1].deny_status, policy.limits[1].deny_message) == (403, "Not yours.")


def test_shadow_anywhere_is_shadow_and_the_smaller_share_holds(tmp_path: Path) -> None:
    rows = (
        "a: {meter: requests, per: key, rate: 1/s, mode: enforce, rollout: 5%}\n"
        "b: {meter: requests, per: org, rate: 1/s, mode: shadow, rollout: 50%}\n"
        "c: {meter: requests, per: [org, key], rate: 1/s, mode: disabled}"
    )
    enforced = loaded(tmp_path, rows, "rollout: 10%\n")
    assert [(limit.id, limit.shadow, limit.rollout) for limit in enforced.limits] == [
        ("a", False, 500),
        ("b", True, 1_000),
    ]
    assert [limit.shadow for limit in loaded(tmp_path, rows, mode="shadow").limits] == [True, True]
    raised = (
        loaded(tmp_path, rows, mode="shadow", options={}) if False else load(tmp_path / "policy.yaml", mode="enforce")
    )
    assert (raised.mode, [limit.shadow for limit in raised.limits]) == ("enforce", [False, True])
    assert load(tmp_path / "policy.yaml", mode="disabled").mode == "disabled"


def test_modifiers_reach_the_limit(tmp_path: Path) -> None:
    policy = loaded(
        tmp_path,
        "a: {meter: rows, per: [org, claim.team], quota: 1k/day, alert: [100%, 80%], terms: fair, "
        "on_store_error: open, slice: 1%}",
        "meters:\n  rows: {from: app, reserve: body.n, reserve_default: 5, max: 50, overrun: cut}\n"
        "terms:\n  fair: {title: Fair use, url: 'https://acme.example/fair'}\n",
    )
    [limit] = policy.limits
    assert (limit.per, limit.alerts, limit.clause, limit.on_store_error, limit.share) == (
        ("org", "claim.team"), (80, 100), "fair", "open", 100,
    )  # fmt: skip
    meter = limit.meter
    assert (meter.reserve, meter.reserve_from, meter.most, meter.overrun) == (5, ("body.n",), 50, "cut")
    assert policy.clauses["fair"].title == "Fair use"


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("{from: app}", (0, (), ())),
        ("{from: app, reserve: 5}", (5, (), ())),
        ("{from: app, reserve: [5], reserve_times: query.n}", (5, (), ("query.n",))),
        (
            "{from: app, reserve: [body.a, header.X-B], reserve_default: 7, reserve_times: [body.n, body.m]}",
            (7, ("body.a", "header.x-b"), ("body.n", "body.m")),
        ),
    ],
)
def test_what_is_held_is_an_amount_or_what_a_request_announces(tmp_path: Path, written: str, found: Any) -> None:
    policy = loaded(tmp_path, "a: {meter: rows, per: key, quota: 1k/day}", f"meters:\n  rows: {written}\n")
    meter = policy.limits[0].meter
    assert (meter.reserve, meter.reserve_from, meter.reserve_times) == found


def test_identify_is_compiled_whole(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        "headgate: v1\npolicy: p\nmode: enforce\non_store_error: closed\nplans: [free]\nidentify:\n"
        "  key: [header.Authorization.bearer, header.x-api-key]\n  directory: {python: 'math:sqrt'}\n"
        "  anonymous: {plan: free, per: ip}\n  unknown_key: anonymous\n"
        "  trust: {proxies: [10.0.0.0/8, '::1'], header: X-Forwarded-For}\n  traits: {ja4: header.x-ja4}\n"
        "limits:\n  a: {meter: requests, per: ip, rate: 1/s}\n"
    )
    identify = load(file).identify
    assert identify.key == (Source(b"authorization", True), Source(b"x-api-key"))
    assert (identify.directory, identify.anonymous, identify.unknown_key) == ("python:math:sqrt", "free", "anonymous")
    assert [str(proxy) for proxy in identify.proxies] == ["10.0.0.0/8", "::1/128"]
    assert (identify.proxy_header, dict(identify.traits)) == (b"x-forwarded-for", {"ja4": Source(b"x-ja4")})


def test_overrides_hold_through_their_last_day_in_the_files_zone(tmp_path: Path) -> None:
    policy = loaded(
        tmp_path,
        "a: {meter: requests, per: key, rate: 60/min, burst: 10s}\nb: {meter: requests, per: org, quota: 5/day}",
        "zone: Europe/Berlin\noverrides:\n"
        "  - {org: acme, limits: [a, b], value: unlimited, reason: tests, until: 2199-06-30}\n"
        "  - {key: k_1, limits: a, value: 120/min, reason: contract, until: 2199-06-30}\n",
    )
    assert [(o.subject, o.name, sorted(o.limits), o.value[""]) for o in policy.overrides] == [
        ("org", "acme", ["a"], None), ("org", "acme", ["b"], None), ("key", "k_1", ["a"], Rate(120, MINUTE, 20)),
    ]  # fmt: skip
    ends = datetime(2199, 6, 30, 22, tzinfo=UTC)  # midnight in Berlin
    assert policy.overrides[0].until == int(ends.timestamp()) * 1_000_000


def test_affiliated_orgs_are_a_group_that_the_first_one_names(tmp_path: Path) -> None:
    policy = loaded(
        tmp_path,
        "a: {meter: requests, per: group, rate: 1/s}",
        "linking:\n  affiliated:\n    - {orgs: [b_org, a_org], reason: r, until: 2199-06-30}\n",
    )
    group = policy.group_of("a_org", 0)
    assert group is not None and (group.id, group.orgs) == ("b_org", frozenset({"a_org", "b_org"}))
    assert policy.group_of("a_org", 2**53) is None and policy.group_of("c_org", 0) is None
    assert policy.not_enforced == ()


USAGE = (
    "scopes: {model: body.model}\nmeters:\n  usage: {preset: openai-usage}\n"
    "  output_tokens: {reserve: body.max_tokens, reserve_default: 4k, overrun: cut}\n"
    "  credits: {sum: {input_tokens: 1, cached_tokens: 0.1, output_tokens: 0.5}, "
    "times: {by: model, 'big-*': 4, '*-mini': 0.25, default: 2}}\n"
)


def test_a_preset_gives_meters_and_what_is_set_of_one_is_kept(tmp_path: Path) -> None:
    policy = loaded(tmp_path, "otpm: {meter: output_tokens, per: org, rate: 80k/min}", USAGE)
    assert policy.presets == ("openai-usage",) and policy.not_enforced == ()
    output, cached = policy.limits[0].meter, policy.meters["cached_tokens"]
    assert (output.source, output.reserve, output.reserve_from, output.overrun) == (
        "preset.openai-usage", 4_000, ("body.max_tokens",), "cut",
    )  # fmt: skip
    assert (cached.source, cached.reserve, cached.overrun) == ("preset.openai-usage", 0, "finish")


def test_two_presets_feed_the_same_meters(tmp_path: Path) -> None:
    extra = "meters:\n  usage: {preset: openai-usage, include_usage: true}\n  claude: {preset: anthropic-usage}\n"
    policy = loaded(tmp_path, "otpm: {meter: output_tokens, per: org, rate: 80k/min}", extra)
    assert policy.limits[0].meter.source == "preset.openai-usage+anthropic-usage"
    assert policy.include_usage
    assert loaded(tmp_path, "a: {meter: requests, per: key, rate: 1/s}").include_usage is False


def test_a_sum_holds_the_meters_that_it_is_made_of(tmp_path: Path) -> None:
    policy = loaded(tmp_path, "month: {meter: credits, per: org, quota: 1M/month}", USAGE)
    credits = policy.limits[0].meter
    assert credits.sum is not None
    assert dict(credits.sum.weights) == {
        "input_tokens": 1_000_000,
        "cached_tokens": 100_000,
        "output_tokens": 500_000,
    }
    assert credits.sum.factors == (("big-*", 4_000_000), ("*-mini", 250_000))
    assert (credits.sum.by, credits.sum.default) == ("body.model", 2_000_000)
    assert credits.parts == tuple(policy.meters[name] for name in credits.sum.weights)
    assert credits.parts[2].reserve == 4_000 and credits.overrun == "cut"
    assert credits.sum.inside == (("cached_tokens", "input_tokens"),)


def test_a_sum_is_the_same_wherever_in_the_file_its_meters_stand(tmp_path: Path) -> None:
    extra = (
        "meters:\n  points: {sum: {rows: 2, cached_tokens: 1, input_tokens: 1}}\n  rows: {from: app, reserve: 5}\n"
    )
    extra += "  cached_tokens: {from: app}\n  input_tokens: {from: app}\n"
    [limit] = loaded(tmp_path, "day: {meter: points, per: org, quota: 1k/day}", extra).limits
    assert limit.meter.sum is not None and limit.meter.parts[0].reserve == 5
    assert limit.meter.overrun == "finish" and limit.meter.sum.default == 1_000_000
    assert limit.meter.sum.inside == ()  # what an app reports is as it says


def test_things_are_counted_by_quota_and_in_a_lifetime(tmp_path: Path) -> None:
    policy = loaded(
        tmp_path,
        "copies: {meter: parcels, per: group, quota: 2k/month}\npages: {meter: documents, per: key, total: 100}",
        "meters:\n  parcels: {distinct: path.parcel_id}\n  documents: {distinct: app, reserve: 5}\n",
    )
    assert [limit.meter.things for limit in policy.limits] == ["path.parcel_id", "app"]
    assert policy.meters["documents"].reserve == 5 and policy.not_enforced == ()


def test_a_dialect_is_one_word_or_one_by_route(tmp_path: Path) -> None:
    row = "a: {meter: requests, per: key, rate: 1/s}"
    assert loaded(tmp_path, row).dialects == (("*", "ietf"),)
    assert loaded(tmp_path, row, "dialect: openai\n").dialect_of(("/x",)) == "openai"
    by_route = "dialect: {/v1/messages*: anthropic, /v1/*: openai, default: legacy}\n"
    policy = loaded(tmp_path, row, by_route)
    assert policy.dialects == (("/v1/messages*", "anthropic"), ("/v1/*", "openai"), ("*", "legacy"))
    paths = {"/v1/messages": "anthropic", "/v1/chat/completions": "openai", "/v1": "legacy", "/": "legacy"}
    assert {path: policy.dialect_of((path,)) for path in paths} == paths
    assert policy.dialect_of(("/x", "/v1/embeddings")) == "openai"
    assert loaded(tmp_path, row, "dialect: {/v1/*: openai}\n").dialect_of(("/",)) == "ietf"


def test_what_comes_later_is_compiled_and_listed(tmp_path: Path) -> None:
    policy = loaded(
        tmp_path,
        "rpm: {meter: requests, per: key, rate: 1/s}",
        "ladder:\n  - {when: {limit: rpm, denied: 50/d}, do: throttle, scale: 25%, after: 1h, for: 7d}\n"
        "linking:\n  states: {suspect: 0.7, linked: 0.97}\n",
    )
    [step] = policy.ladder
    assert (step.limit, step.denied, step.within, step.scale, step.lasts) == ("rpm", 50, DAY, 2_500, 7 * DAY)
    assert policy.linking is not None and policy.linking.linked == 970_000
    assert len(policy.not_enforced) == 1


def test_the_version_is_the_contents_and_nothing_elses(tmp_path: Path) -> None:
    row = "a: {meter: requests, per: key, rate: %s, when: {route: %s}}"
    one = loaded(tmp_path, row % ("60/min", "/a"))
    again = loaded(tmp_path, "a: {when: {route: [/a]}, rate: 60/1min, per: [key], meter: requests}  # said otherwise")
    assert one.version == again.version and len(one.version) == 12 and int(one.version, 16) >= 0
    others = {loaded(tmp_path, row % it).version for it in (("61/min", "/a"), ("60/min", "/b"), ("60/min", "'/a*'"))}
    assert len(others | {one.version}) == 4
    assert loaded(tmp_path, row % ("60/min", "/a"), mode="shadow").version != one.version


def test_expired_entries_warn_by_the_given_clock(tmp_path: Path) -> None:
    extra = "overrides:\n  - {org: acme, limits: a, value: unlimited, reason: tests, until: 2030-06-30}\n"
    loaded(tmp_path, "a: {meter: requests, per: key, rate: 1/s}", extra)
    last = int(datetime(2030, 7, 1, tzinfo=UTC).timestamp()) * 1_000_000
    told = [[p.number for p in check(tmp_path / "policy.yaml", now=now).problems] for now in (last - 1, last)]
    assert told == [[], ["HG502"]]


def test_a_policy_of_sixty_limits_is_loaded_in_time(tmp_path: Path) -> None:
    row = (
        "l{n}: {{meter: requests, per: [org, key], rate: {{free: 3/min, build: 7{n}/min, scale: 1k/min}}, "
        "burst: 10s, "
        "when: {{route: [/v1/{n}/*, /v2/{n}], method: [GET, POST]}}, unless: {{plan: scale}}, candidate: 9/min}}"
    )
    rows, plans = "\n".join(row.format(n=n) for n in range(60)), "plans: [free, build, scale]\n"
    loaded(tmp_path, rows, plans)
    text = (tmp_path / "policy.yaml").read_text()
    # Measured: half of what PyYAML takes to read the same text, without understanding it.
    assert ratio(lambda: loaded(tmp_path, rows, plans), lambda: yaml.safe_load(text), tries=5) < 3
