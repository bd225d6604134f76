"""What holds in every framework."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from frameworks.conftest import POLICY
from headgate.asgi.metering import foreseen as foreseen_module


def test_a_cost_is_charged_before_the_endpoint_runs_and_a_refusal_runs_nothing(stage: Any, build: Any) -> None:
    app = build(stage, stage.gate())
    answers = stage.ask(app, "/search", "/search", "/search")
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert stage.served == ["search", "search"]
    assert stage.used(app)["searches"] == 10, "the third would have made it fifteen, and has consumed nothing"


def test_of_many_who_spend_at_once_just_as_many_are_served_as_fit(stage: Any, build: Any) -> None:
    app = build(stage, stage.gate())
    statuses = stage.at_once(app, *["/search"] * 12)
    assert sorted(statuses) == [200] * 2 + [429] * 10
    assert stage.served == ["search", "search"]
    assert stage.used(app)["searches"] == 10


def test_a_refused_cost_is_told_as_every_refusal_is(stage: Any, build: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = build(stage, stage.gate())
    with caplog.at_level(logging.WARNING):
        refused = stage.ask(app, "/search", "/search", "/search")[-1]
    told = refused.json()
    assert refused.headers["content-type"] == "application/problem+json"
    assert (told["status"], told["violated-policies"]) == (429, ["searches"])
    assert int(refused.headers["retry-after"]) > 0
    assert '"searches"' in refused.headers["ratelimit"]
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR], "a refusal is no fault of the app's"


def test_what_is_spent_in_the_middle_is_refused_in_the_middle(
    stage: Any, build: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = build(stage, stage.gate())
    with caplog.at_level(logging.WARNING):
        answers = stage.ask(app, "/deep", "/deep", "/deep")
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["violated-policies"] == ["searches"]
    assert stage.served == ["begun", "done"] * 2 + ["begun"]
    assert stage.used(app)["searches"] == 10
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR], "a refusal is no fault of the app's"


def test_a_record_counts_once_however_often_it_is_handed_out(stage: Any, build: Any) -> None:
    app = build(stage, stage.gate())
    assert stage.statuses(app, *["/records/1"] * 5, "/records/2", "/records/2") == [200] * 7
    used = stage.used(app)
    assert (used["coverage"], used["rows_day"]) == (2, 7)
    assert stage.statuses(app, "/records/3", "/records/4") == [200, 429], "three different ones a day"


def test_a_cost_may_depend_on_the_request(stage: Any, build: Any) -> None:
    def cost(request: Any) -> int:
        asked = request.GET if hasattr(request, "GET") else getattr(request, "query_params", None) or request.args
        return 12 if asked["q"] == "all" else 1

    app = build(stage, stage.gate(), cost=cost)
    assert stage.statuses(app, "/search?q=one", "/search?q=all", "/search?q=one") == [200, 429, 200]
    assert stage.used(app)["searches"] == 2


def test_a_cost_may_be_found_out_asynchronously(stage: Any, build: Any) -> None:
    async def cost(request: Any) -> int:
        return 7

    app = build(stage, stage.gate(), cost=cost)
    assert stage.statuses(app, "/search", "/search") == [200, 429]


BY_ROUTE = """
headgate: v1
policy: stage
mode: {mode}
zone: UTC
on_store_error: closed
identify: {{key: [header.x-api-key], directory: keys.yaml, anonymous: refuse}}
meters:
  search:  {{from: app}}
  records: {{distinct: app}}
  rows:    {{from: app}}
limits:
  templates: {{meter: requests, per: [key, route], quota: 3/day}}
  numbers:   {{meter: requests, per: [key, path.number], quota: 2/day, when: {{route: "/records/*"}}}}
"""


def test_a_limit_by_route_counts_all_that_one_route_serves_together(stage: Any, build: Any) -> None:
    app = build(stage, stage.gate(BY_ROUTE))
    assert stage.statuses(app, *[f"/records/{number}" for number in "12345"]) == [200] * 3 + [429] * 2
    assert stage.statuses(app, *["/deep"] * 4) == [200] * 3 + [429], "another route, another count"


def test_a_limit_may_count_by_a_parameter_of_the_route(stage: Any, build: Any) -> None:
    app = build(stage, stage.gate(BY_ROUTE))
    assert stage.statuses(app, "/records/1", "/records/1", "/records/1", "/records/2") == [200, 200, 429, 200]


def test_paths_without_a_route_do_not_have_a_count_each(stage: Any, build: Any) -> None:
    app = build(stage, stage.gate(BY_ROUTE))
    statuses = stage.statuses(app, *[f"/nowhere/{number}" for number in "12345"])
    # Litestar answers them before headgate is asked.
    assert statuses in ([404] * 3 + [429] * 2, [404] * 5)


def test_a_name_that_the_policy_does_not_count_ends_the_start(stage: Any, build: Any) -> None:
    app = build(stage, stage.gate(), meter="serach")
    said = stage.lived(app)
    failed = next(message for message in said if message["type"] == "lifespan.startup.failed")
    assert "spends `serach`" in failed["message"]
    assert "did you mean `search`?" in failed["message"]
    assert "search" in failed["message"].split("spends")[0].lower(), "which route it is"


def test_a_start_with_right_names_is_complete_and_so_is_the_end(stage: Any, build: Any) -> None:
    said = stage.lived(build(stage, stage.gate()))
    assert [message["type"] for message in said] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_an_app_without_headgate_before_it_serves_all_the_same(stage: Any, build: Any) -> None:
    app = build(stage, None)
    assert stage.statuses(app, *["/search"] * 4, *["/records/1", "/deep"] * 4, key="") == [200] * 12


def test_a_disabled_policy_lets_every_name_and_every_request_pass(stage: Any, build: Any) -> None:
    stage.mode = "disabled"
    app = build(stage, stage.gate(), meter="serach")
    assert stage.lived(app)[0]["type"] == "lifespan.startup.complete"
    assert stage.statuses(app, *["/search"] * 4) == [200] * 4


def test_a_policy_in_shadow_refuses_no_cost(stage: Any, build: Any) -> None:
    stage.mode = "shadow"
    assert stage.statuses(build(stage, stage.gate()), *["/search"] * 4, "/deep") == [200] * 5


def test_who_has_no_key_is_told_so_and_reads_no_usage(stage: Any, build: Any) -> None:
    app = build(stage, stage.gate())
    assert stage.statuses(app, "/search", "/headgate/v1/usage", key="") == [401, 401]
    assert stage.served == []


def test_a_body_that_does_not_fit_is_refused_in_the_place_of_its_response(
    stage: Any, build: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreseen_module, "NO_WAIT", 0)
    cut = POLICY.replace("meters:\n", "meters:\n  bytes_out: {{overrun: cut}}\n")
    app = build(stage, stage.gate(cut + "  sent: {{meter: bytes_out, per: key, quota: 22/day}}\n"))
    with caplog.at_level(logging.WARNING):
        answers = stage.ask(app, *["/records/1"] * 3)
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["violated-policies"] == ["sent"]
    assert stage.used(app)["sent"] == 2 * len(answers[0].content)
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR], "a refusal is no fault of the app's"
