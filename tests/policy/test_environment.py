"""Single fields from the environment: checked as if they stood in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import PolicyError
from headgate.policy import check, load
from headgate.quota.gcra import Rate

TEXT = """\
headgate: v1
policy: p
mode: enforce
on_store_error: closed
identify: {key: header.x-api-key, directory: keys.yaml}
plans: [free, build]
limits:
  rpm:     {meter: requests, per: key, rate: {free: 3/min, default: 60/min}}
  per-day: {meter: requests, per: org, quota: 1k/day, alert: 80%}
  per_hour: {meter: requests, per: org, quota: 1k/hour}
overrides:
  - {org: acme, limits: rpm, value: 90/min, reason: contract, until: 2199-01-01}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    return path


def said(file: Path, **environ: str) -> str:
    with pytest.raises(PolicyError) as caught:
        load(file, environ=environ)
    return str(caught.value)


def test_a_leaf_is_replaced_by_its_path_whatever_the_case(file: Path) -> None:
    policy = load(file, environ={"HEADGATE__LIMITS__RPM__RATE__FREE": "5/min", "HOME": "/root"})
    assert policy.limits[0].values["free"] == Rate(5, 60_000_000)
    assert policy.version != load(file).version
    assert load(file, environ={"headgate__limits__Rpm__rate__free": "5/min"}) == policy


def test_a_field_that_the_file_does_not_write_can_be_set(file: Path) -> None:
    policy = load(file, environ={"HEADGATE__LIMITS__RPM__MODE": "shadow", "HEADGATE__ROLLOUT": "10%"})
    assert policy.limits[0].shadow and policy.limits[1].rollout == 1_000
    plan = load(file, environ={"HEADGATE__LIMITS__RPM__RATE__BUILD": "unlimited"})
    assert plan.limits[0].values["build"] is None


def test_lists_are_separated_by_commas_and_their_items_counted_from_0(file: Path) -> None:
    policy = load(
        file, environ={"HEADGATE__LIMITS__PER_DAY__ALERT": "50%, 100%"} | {"HEADGATE__OVERRIDES__0__VALUE": "1/s"}
    )
    assert policy.limits[1].alerts == (50, 100)
    assert policy.overrides[0].value[""] == Rate(1, 1_000_000)
    sources = {"HEADGATE__METERS__BYTES_OUT__RESERVE": "body.a, body.b"}
    file.write_text(TEXT.replace("\nlimits:", "\nmeters: {bytes_out: {reserve: 5}}\nlimits:"))
    assert load(file, environ=sources).meters["bytes_out"].reserve_from == ("body.a", "body.b")


def test_a_wrong_value_is_told_of_the_variable(file: Path) -> None:
    report = said(file, HEADGATE__LIMITS__RPM__RATE__FREE="5/mni")
    assert report.startswith("HEADGATE__LIMITS__RPM__RATE__FREE: error HG303: `5/mni` is not a rate")
    assert "did you mean `5/min`?" in report
    unknown = said(file, HEADGATE__IDENTIFY__ANONYMOUS__PLAN="fre")
    assert unknown.startswith("HEADGATE__IDENTIFY__ANONYMOUS__PLAN: error HG401")


@pytest.mark.parametrize(
    "variable",
    [
        "HEADGATE__LIMITS__RPN__RATE__FREE", "HEADGATE__LIMITS__RPM__RATE__GOLD", "HEADGATE__LIMITS__RPM",
        "HEADGATE__LIMITS__PER_DAY__QUOTA__FREE", "HEADGATE__LIMITS__RPM__MODE__X", "HEADGATE__", "HEADGATE__A____B",
        "HEADGATE__OVERRIDES__1__VALUE", "HEADGATE__OVERRIDES__X__VALUE", "HEADGATE__PLANS__0__X", "HEADGATE__LIMITS",
    ],
)  # fmt: skip
def test_a_path_that_leads_nowhere_is_an_error(file: Path, variable: str) -> None:
    report = check(file, environ={variable: "1/s"})
    assert [problem.number for problem in report.errors] == ["HG117"]
    assert report.errors[0].file == variable


def test_two_names_that_a_variable_cannot_tell_apart_are_told(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(TEXT.replace("per_hour", "per_day"))
    assert "`per-day` or `per_day`" in said(file, HEADGATE__LIMITS__PER_DAY__MODE="shadow")


def test_a_secret_in_a_variable_is_not_printed(file: Path) -> None:
    report = said(file, HEADGATE__IDENTIFY__KEY="canary", HEADGATE__TOKEN="canary", HEADGATE_PEPPER="canary")
    assert "canary" not in report and "(hidden)" in report
    file.write_text(TEXT.replace("per_hour", "token"))
    for field in ("METER", "PER", "TERMS", "QUOTA", "ALERT", "MODE", "CANDIDATE"):
        report = said(file, **{f"HEADGATE__LIMITS__TOKEN__{field}": "canary,canary"})
        assert "canary" not in report and f"HEADGATE__LIMITS__TOKEN__{field}=(hidden)" in report
    assert "canary" not in str(check(file, environ={"SECRET": "canary"}))


def test_only_variables_with_two_underscores_are_looked_at(file: Path) -> None:
    assert load(file, environ={"HEADGATE_MODE": "nonsense", "OTHER__LIMITS": "x"}) == load(file)


def test_a_dialect_and_the_options_of_a_preset_can_be_set(file: Path) -> None:
    file.write_text(TEXT + "meters:\n  usage: {preset: openai-usage}\n")
    policy = load(
        file, environ={"HEADGATE__DIALECT": "openai", "HEADGATE__METERS__USAGE__INCLUDE_USAGE": "true"}
    )  # fmt: skip
    assert policy.dialect_of(("/",)) == "openai" and policy.include_usage
    assert "HG204" in said(file, HEADGATE__DIALECT="klingon")
