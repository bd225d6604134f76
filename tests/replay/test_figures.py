"""What a log can tell of a policy, and what not."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.policy import Policy
from headgate.replay.entry import Entry
from headgate.replay.figures import Figures, figures

from .worlds import policy_of

ENTRY = Entry(bytes_out=7, tokens_in=100, tokens_out=10, records=3, resources=["doc:1", "doc:2"])


def told(folder: Path, rest: str, *, claims: bool = False) -> tuple[Policy, Figures]:
    policy = policy_of(folder, rest)
    return policy, figures(policy, claims=claims)


@pytest.mark.parametrize(
    ("meters", "meter", "used"),
    [
        ("", "requests", 1),
        ("", "bytes_out", 7),
        ("meters: {u: {preset: openai-usage}}", "input_tokens", 100),
        ("meters: {u: {preset: openai-usage}}", "cached_tokens", 0),
        ("meters: {rows: {from: app, max: 2}}", "rows", 2),
        ("meters: {u: {preset: openai-usage}, credits: {sum: {input_tokens: 1, output_tokens: 5}}}", "credits", 150),
        ("meters: {rows: {from: app}, cost: {sum: {rows: 0.5, requests: 1}}}", "cost", 3),
    ],
)
def test_each_meter_has_its_figure(tmp_path: Path, meters: str, meter: str, used: int) -> None:
    _, found = told(tmp_path, f"{meters}\nlimits: {{l: {{meter: {meter}, per: key, rate: 900/min}}}}\n")
    assert found.undecided == ()
    count = found.used[meter]
    assert count is not None and count(ENTRY) == used


def test_a_sum_comes_to_the_same_with_and_without_a_factor(tmp_path: Path) -> None:
    policy, found = told(
        tmp_path,
        "meters: {rows: {from: app}, cost: {sum: {rows: 0.5, requests: 0.3}}}\n"
        "limits: {l: {meter: cost, per: key, rate: 900/min}}\n",
    )
    count = found.used["cost"]
    assert count is not None and count(ENTRY) == found.summed(policy.limits[0].meter, ENTRY, 1_000_000) == 2


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("{meter: streams, per: key, max: 3}", "how many are under way at once is not in a log"),
        ("{meter: bytes_in, per: key, rate: 9M/min}", "the log has no figure for the meter `bytes_in`"),
        ("{meter: cost, per: key, rate: 9k/min}", "the log has no figure for the meter `cost`"),
        ("{meter: requests, per: [org, model], rate: 9/min}", "`body.model` is not in a log"),
        ("{meter: requests, per: [org, project], rate: 9/min}", "`claim.project` is told by a directory"),
        ("{meter: requests, per: org, rate: 9/min, when: {tag: batch}}", "`tag` is told by a directory"),
        ("{meter: requests, per: [org, header.x-region], rate: 9/min}", "`header.x-region` is not in a log"),
        ("{meter: priced, per: org, rate: 9/min}", "`body.model` is not in a log"),
    ],
)
def test_what_a_log_does_not_say_is_not_guessed(tmp_path: Path, limit: str, why: str) -> None:
    _, found = told(
        tmp_path,
        "scopes: {model: body.model, project: claim.project}\n"
        "meters: {cost: {from: header.x-cost}, rows: {from: app}, "
        "priced: {sum: {rows: 1}, times: {by: model, default: 2}}}\n"
        f"limits: {{l: {limit}, all: {{meter: requests, per: key, rate: 9/min}}}}\n",
    )
    [(name, said)] = found.undecided
    assert name == "l" and said.removesuffix(", and there is none") == why
    assert [limit.id for limit in found.limits] == ["all"]


def test_a_directory_tells_claims_and_tags(tmp_path: Path) -> None:
    rest = "limits: {l: {meter: requests, per: [org, claim.project], rate: 9/min, unless: {tag: batch}}}\n"
    assert told(tmp_path, rest, claims=True)[1].undecided == ()


def test_of_two_meters_of_the_app_nobody_can_say_which_the_records_are(tmp_path: Path) -> None:
    _, found = told(
        tmp_path,
        "meters: {rows: {from: app}, seats: {from: app}}\n"
        "limits: {a: {meter: rows, per: key, rate: 9/min}, b: {meter: seats, per: key, rate: 9/min}}\n",
    )
    assert [limit for limit, _ in found.undecided] == ["a", "b"]
    _, found = told(
        tmp_path,
        "meters: {records: {from: app}, seats: {from: app}}\n"
        "limits: {a: {meter: records, per: key, rate: 9/min}, b: {meter: seats, per: key, rate: 9/min}}\n",
    )
    assert [limit for limit, _ in found.undecided] == ["b"]
