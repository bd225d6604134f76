"""The ruler of the demo: it must find what is wrong, or its verdict means nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("folder", [".", "llm_gateway", "data_api"])
def test_the_examples_in_the_docstrings_of_the_examples_run(folder):
    files = sorted(path.name for path in (EXAMPLES / folder).glob("*.py"))
    ran = subprocess.run(
        [sys.executable, "-m", "doctest", *files], cwd=EXAMPLES / folder, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture
def ruler(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import demo_tally

    return demo_tally


@pytest.fixture
def held_against(ruler, tmp_path):
    """`held_against(answers, …)`: the tally of one free key that was refused once by its budget of three."""
    (tmp_path / "policy.yaml").write_text(
        "meters: {output_tokens: {from: app, reserve: 10, max: 10}}\n"
        "limits:\n"
        "  streams: {meter: streams, per: key, max: {free: 2}, lease: 1m}\n"
        "  budget: {meter: requests, per: group, quota: {free: 3/day}}\n"
        "  tokens: {meter: output_tokens, per: org, quota: {free: 100/day}}\n"
    )

    def measured(answers, ledger, killed=False, unanswered=0, refused=1, left=0):
        lines = []
        for number, (begun, ended, tokens) in enumerate(answers):
            lines.append({"id": str(number), "key": "k", "worker": 1, "input_tokens": 1, "at": begun})
            if ended is not None:
                lines.append({"id": str(number), "output_tokens": tokens, "at": ended})
        log = tmp_path / "origin.jsonl"
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
        seen = ruler.Seen(unanswered=unanswered, refused=refused, left=left)
        seen.refusals = {"budget": ruler.Refusals(refused, 5.0, 5.0)} if refused else {}
        seen.answered = {str(number) for number, (_, ended, _) in enumerate(answers) if ended is not None}
        used = {("budget", "acme"): ledger[0], ("tokens", "acme"): ledger[1]}
        account = ruler.Account("k", "acme", "free", "acme")
        sheet = ruler.Sheet(tmp_path / "policy.yaml")
        return ruler.tally(sheet, [(account, seen)], ruler.origin(log), used, 10.0, killed)

    return measured


def wrong(tally):
    return [finding.limit for finding in tally.limits if not finding.holds]


THREE = [(0, 10, 5), (5, 15, 5), (20, 30, 5)]


def test_what_the_policy_allows_and_the_ledger_has_is_right(held_against):
    assert held_against(THREE, ledger=(3, 15)).holds


def test_one_request_too_many_is_found(held_against):
    tally = held_against([*THREE, (40, 50, 5)], ledger=(4, 20))
    assert not tally.holds
    assert wrong(tally) == ["budget"]


def test_a_refusal_before_the_quota_was_used_up_is_found(held_against):
    assert wrong(held_against(THREE[:2], ledger=(2, 10))) == ["budget"]


def test_three_at_once_where_two_may_be_is_found(held_against):
    assert wrong(held_against([(0, 10, 5), (5, 15, 5), (9, 30, 5)], ledger=(3, 15))) == ["streams"]


def test_a_token_that_the_ledger_does_not_have_is_found(held_against):
    assert wrong(held_against(THREE, ledger=(3, 14))) == ["tokens"]


def test_a_killed_worker_costs_what_was_held_and_not_more(held_against):
    cut = [*THREE[:2], (20, None, 0)]
    assert held_against(cut, ledger=(3, 20), killed=True, unanswered=1).holds

    def wrong_with(ledger):
        return wrong(held_against(cut, ledger, killed=True, unanswered=1))

    assert wrong_with((3, 9)) == ["tokens"], "never less than was served"
    assert wrong_with((3, 31)) == ["tokens"], "two may be under way, and each holds ten"
    assert wrong_with((4, 20)) == ["budget"], "requests stay exact"


def test_a_request_that_was_charged_and_killed_before_the_origin_saw_it_is_known_by_its_client(held_against):
    assert held_against(THREE[:2], ledger=(3, 20), killed=True, unanswered=1).holds
    assert wrong(held_against(THREE[:2], ledger=(3, 20), killed=True)) == ["budget"]


def test_a_broken_connection_is_excused_by_a_kill_alone(held_against):
    assert not held_against(THREE, ledger=(3, 15), unanswered=1).holds


def test_an_origin_that_served_nothing_proves_nothing(held_against):
    assert not held_against([], ledger=(0, 0), refused=0).holds


def test_a_token_that_reached_nobody_because_its_client_left_may_be_missing_in_the_ledger(held_against):
    assert held_against(THREE, ledger=(3, 14), left=1).holds
    assert wrong(held_against(THREE, ledger=(3, 13), left=1)) == ["tokens"]
    assert wrong(held_against(THREE, ledger=(2, 15), left=1)) == ["budget"], "requests stay exact"
