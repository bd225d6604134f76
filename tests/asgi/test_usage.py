"""What a caller may ask about itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headgate.asgi import HeadgateMiddleware
from headgate.errors import StoreError
from headgate.policy.compiled import Acceptance, Clause
from headgate.quota.calendar import Calendar
from headgate.quota.identify import Identify
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS

USAGE, STANDING = "/headgate/v1/usage", "/headgate/v1/standing"


@pytest.fixture
def app(stage, limits) -> HeadgateMiddleware:
    month = Limit("month", BUILT_IN_METERS["requests"], ("org",), {"": Calendar(100, "month")}, clause="one")
    shadow = limits.total("life", "requests", 5, shadow=True)
    clauses = {"one": Clause("one", "One quota", "https://acme.example/terms#1")}
    return stage.app(limits.rpm(3), month, limits.slots(2), shadow, clauses=clauses)


def test_a_caller_reads_its_own_usage_at_no_cost(stage, app):
    stage.ask(app)
    answers = [stage.ask(app, USAGE) for _ in range(9)]
    assert {answer.status for answer in answers} == {200} and answers[0].json == answers[8].json
    assert answers[0].headers["cache-control"] == "no-store"
    told = answers[0].json
    assert (told["key"], told["org"], told["plan"]) == ("k_alice", "acme", "")
    assert told["limits"] == [
        {"limit": "rpm", "meter": "requests", "per": "key", "verb": "rate", "used": 1, "held": 0, "quota": 3,
         "resets": "2027-01-16T00:00:20Z", "mode": "enforce", "clause": None},
        {"limit": "month", "meter": "requests", "per": "org", "verb": "quota", "used": 1, "held": 0, "quota": 100,
         "resets": "2027-02-01T00:00:00Z", "mode": "enforce",
         "clause": {"id": "one", "title": "One quota", "url": "https://acme.example/terms#1"}},
        {"limit": "slots", "meter": "streams", "per": "key", "verb": "max", "used": 0, "held": 0, "quota": 2,
         "resets": None, "mode": "enforce", "clause": None},
        {"limit": "life", "meter": "requests", "per": "key", "verb": "total", "used": 1, "held": 0, "quota": 5,
         "resets": None, "mode": "shadow", "clause": None},
    ]  # fmt: skip
    assert len(stage.hits) == 1


def test_what_its_org_used_is_its_own_and_another_orgs_is_not(stage, app):
    stage.ask(app, key="bob")
    stage.ask(app, key="carol")
    used = {row["limit"]: row["used"] for row in stage.ask(app, USAGE).json["limits"]}
    assert used["rpm"] == 0 and used["month"] == 1


@pytest.mark.parametrize("key", [None, "mallory"])
def test_nobody_reads_nothing(stage, app, key):
    assert stage.ask(app, USAGE, key=key).status == 401


def test_an_anonymous_caller_has_no_usage_of_its_own_to_read(stage, limits):
    app = stage.app(limits.rpm(3), identify=Identify(anonymous=""))
    assert stage.ask(app, USAGE, key=None).status == 401


def test_other_pages_and_methods_are_problems(stage, app):
    assert [stage.ask(app, path).status for path in ("/headgate", "/headgate/", "/headgate/v2", USAGE + "/")] == [
        404
    ] * 4
    assert stage.ask(app, USAGE, method="HEAD").status == 200
    answer = stage.ask(app, USAGE, method="POST")
    assert answer.status == 405 and answer.headers["allow"] == "GET, HEAD"
    assert answer.headers["content-type"] == "application/problem+json" and not stage.hits


@pytest.mark.parametrize(
    "path",
    ["/headgate/../v1/items", "/headgate/v1/usage/../../../v1/items", "/headgate//v1/items", "/headgate/;/v1/items"],
)
def test_nothing_under_the_prefix_reaches_the_app(stage, app, path):
    assert stage.ask(app, path).status == 404 and not stage.hits


@pytest.mark.parametrize(
    "path", ["//headgate/v1/usage", "/x/../headgate/v1/usage", "/HEADGATE/v1/usage", "/headgates", "/./headgate"]
)
def test_any_other_spelling_is_the_apps_and_is_charged(stage, app, path):
    assert stage.statuses(app, 4, path) == [200, 200, 200, 429]


def test_behind_a_mount_the_prefix_is_below_it(stage, app):
    assert stage.ask(app, "/api" + USAGE, root_path="/api").status == 200
    assert stage.ask(app, USAGE, root_path="/headgate").status == 200  # the app's own page, and charged
    assert len(stage.hits) == 1


def test_without_a_prefix_all_paths_are_the_apps(stage, limits):
    class Settings:
        prefix, peek_bytes = "", 0

    app = HeadgateMiddleware(stage.origin, gate=stage.gate(limits.rpm(3)), settings=Settings())
    assert stage.ask(app, USAGE).body == b"hello"


def test_a_store_that_does_not_answer_is_a_503(stage, app):
    async def transact(*_: Any) -> None:
        raise StoreError("gone", transient=True)

    app._entry.gate.store.transact = transact  # type: ignore[method-assign]
    assert stage.ask(app, USAGE).status == 503


def test_who_is_in_good_standing_has_nothing_against_it(stage, app):
    stage.ask(app)
    answer = stage.ask(app, STANDING)
    assert answer.status == 200 and answer.headers["cache-control"] == "no-store"
    assert answer.json == {
        "key": "k_alice", "org": "acme", "plan": "", "terms": None, "sanctions": [], "exhausted": [],
    }  # fmt: skip
    assert len(stage.hits) == 1


def test_a_limit_that_is_used_up_is_told_with_its_clause_and_its_end(stage, limits):
    month = Limit("month", BUILT_IN_METERS["requests"], ("org",), {"": Calendar(2, "month")}, clause="one")
    clauses = {"one": Clause("one", "One quota", "https://acme.example/terms#1")}
    app = stage.app(limits.rpm(3), month, limits.total("life", "requests", 2, shadow=True), clauses=clauses)
    assert stage.statuses(app, 3) == [200, 200, 429]
    assert stage.ask(app, STANDING).json["exhausted"] == [
        {"limit": "month", "mode": "enforce", "resets": "2027-02-01T00:00:00Z",
         "clause": {"id": "one", "title": "One quota", "url": "https://acme.example/terms#1"}},
        {"limit": "life", "mode": "shadow", "resets": None, "clause": None},
    ]  # fmt: skip
    assert stage.ask(app, STANDING, key="carol").json["exhausted"] == []


@pytest.mark.parametrize(
    "accepted, told, due", [("", None, True), ("2025-07", "2025-07", True), ("2026-01", "2026-01", False)]
)
def test_the_terms_that_a_caller_has_accepted_are_told(stage, limits, accepted, told, due):
    app = stage.app(limits.rpm(3), acceptance=Acceptance("2026-01", "https://acme.example/terms"))
    keys = app._entry.gate.directory
    keys.principals = {name: replace(one, accepted=accepted) for name, one in keys.principals.items()}
    terms = {"version": "2026-01", "url": "https://acme.example/terms", "accepted": told, "due": due}
    assert stage.ask(app, STANDING).json["terms"] == terms


@pytest.mark.parametrize("key", [None, "mallory"])
def test_nobodys_standing_is_not_told(stage, app, key):
    assert stage.ask(app, STANDING, key=key).status == 401
