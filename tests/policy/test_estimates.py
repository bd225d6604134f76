"""From what a policy says under `estimate` to what the meters of its presets estimate by."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.policy import Report, check
from headgate.policy.compiled import Policy
from headgate.policy.literals import Wrong, bytes_a_token
from headgate.quota.estimate import BY_BYTES, Estimate

POLICY = """\
headgate: v1
policy: estimates
mode: enforce
on_store_error: closed
identify: {directory: keys.yaml}
meters:
  usage: {preset: openai-usage%s}
  output_tokens: {reserve: 10}
  credits: {sum: {input_tokens: 1, output_tokens: 5}}
limits:
  day: {meter: output_tokens, per: key, quota: 1k/day}
  month: {meter: credits, per: key, quota: 1k/month}
"""

COUNTING = """\
asked = []

def count(text):
    asked.append(text)
    return len(text.split())

def broken(text):
    raise LookupError(text)

class Encoding:
    def count(self, text):
        return 2

encoding = Encoding()
"""

Checked = Callable[..., Report]


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checked:
    (tmp_path / "estimate_counts.py").write_text(COUNTING)
    monkeypatch.delitem(sys.modules, "estimate_counts", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    def made(estimate: str = "", more: str = "", **environ: str) -> Report:
        written = f", estimate: {estimate}" if estimate else ""
        (tmp_path / "policy.yaml").write_text(POLICY % (written + more))
        return check(tmp_path / "policy.yaml", environ=environ)

    return made


def policy_of(report: Report) -> Policy:
    assert report.policy is not None, report
    return report.policy


def estimates(report: Report) -> set[Estimate]:
    """Those of all meters of tokens, and of what the sum adds up."""
    meters = policy_of(report).meters
    tokens = [meter for name, meter in meters.items() if name.endswith("_tokens")]
    return {meter.estimate for meter in (*tokens, *meters["credits"].parts)}


def test_four_bytes_are_a_token_where_nothing_else_is_said(checked: Checked) -> None:
    assert estimates(checked()) == {BY_BYTES} == estimates(checked("bytes/4"))
    assert policy_of(checked()).version == policy_of(checked("bytes/4")).version


@pytest.mark.parametrize(
    ("said", "millionths"), [("bytes/1", 1_000_000), ("bytes/3.5", 3_500_000), ("bytes/16", 16_000_000)]
)
def test_another_ratio_holds_for_all_meters_of_tokens(checked: Checked, said: str, millionths: int) -> None:
    assert estimates(checked(said)) == {Estimate(millionths)}
    assert policy_of(checked(said)).version != policy_of(checked()).version


def test_a_callable_is_imported_and_tried_and_named_in_the_policys_version(checked: Checked) -> None:
    report = checked("python:estimate_counts:count")
    import estimate_counts  # type: ignore[import-not-found]

    assert estimates(report) == {Estimate(name="python:estimate_counts:count", count=estimate_counts.count)}
    assert estimate_counts.asked == ["tokens"]
    method = checked("python:estimate_counts:encoding.count")
    assert policy_of(method).version != policy_of(report).version != policy_of(checked()).version


def test_it_may_be_written_as_other_callables_are(checked: Checked) -> None:
    assert estimates(checked("{python: 'estimate_counts:count'}")) == estimates(
        checked("python:estimate_counts:count")
    )


def test_the_environment_may_say_it(checked: Checked) -> None:
    assert estimates(checked("bytes/4", HEADGATE__METERS__USAGE__ESTIMATE="bytes/3")) == {Estimate(3_000_000)}


def test_two_presets_that_say_the_same_agree(checked: Checked) -> None:
    for second in ("bytes/3.50", "bytes/3.5"):
        report = checked("bytes/3.5", f"}}\n  claude: {{preset: anthropic-usage, estimate: {second}")
        assert estimates(report) == {Estimate(3_500_000)}
    assert estimates(checked("", "}\n  claude: {preset: anthropic-usage, estimate: bytes/3")) == {Estimate(3_000_000)}


def test_a_callable_that_cannot_count_a_word_keeps_the_policy_from_being_used(checked: Checked) -> None:
    report = checked("python:estimate_counts:broken")
    assert report.policy is None
    assert [problem.number for problem in report.errors] == ["HG410"]
    assert "cannot count one word: LookupError" in report.errors[0].message


@pytest.mark.parametrize(
    "text", ["", "bytes", "bytes/", "bytes/0", "bytes/.5", "bytes/1.", "bytes/16.000001", "bytes/-4", "bytes/1e1",
             "bytes/3.1234567", "bytes/1/2", "bytes/NaN", "BYTES/4", "python:", "python:a", "4 bytes"],
)  # fmt: skip
def test_what_is_no_estimate_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        bytes_a_token(text)
