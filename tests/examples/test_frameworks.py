"""The same table behind four frameworks, each as its README starts it: asked alike, they count alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest


@pytest.fixture(scope="module", params=["fastapi_app", "litestar_app", "django_app", "quart_app"])
def api(request: pytest.FixtureRequest, house_of: Callable[..., object]) -> Iterator[object]:
    house = house_of(
        request.param, reader="public", searcher="public", collector="public", repeater="public", office="member"
    )
    with house.open():
        yield house


def ids_of(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {row["id"] for row in answer.json()}


def test_a_row_looked_up_is_a_row_and_a_record(api):
    answer = api.get("/records/1", "reader")
    assert (answer.status_code, answer.json()["zone"]) == (200, "Africa/Abidjan")
    assert api.get("/records/100000", "reader").status_code == 404
    used = api.used("reader")
    assert (used["rows_day"], used["coverage"]) == (1, 1), "what is not there is not charged"


def test_a_search_costs_five_and_the_eleventh_is_refused_and_not_searched(api):
    statuses = [api.get("/search", "searcher", params={"q": "oslo"}).status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    refused = api.get("/search", "searcher", params={"q": "oslo"})
    assert refused.json()["violated-policies"] == ["searches"]
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) > 0
    used = api.used("searcher")
    assert (used["searches"], used["rows_day"], used["coverage"]) == (50, 10, 1)
    assert api.get("/records/1", "searcher").status_code == 200, "a look-up is no search"


def test_the_same_page_again_takes_no_more_of_the_table_away(api):
    pages = [ids_of(api.get("/search", "repeater", params={"q": "america", "limit": "20"})) for _ in range(3)]
    assert pages[0] == pages[1] == pages[2]
    used = api.used("repeater")
    assert (used["rows_day"], used["coverage"]) == (60, 20)


def test_a_copy_of_the_table_ends_at_the_months_coverage_and_is_told_which_sentence_it_breaks(api):
    carried: set[str] = set()
    for part in ("africa", "america/a", "asia", "europe", "pacific", "australia"):
        answer = api.get("/search", "collector", params={"q": part, "limit": "25"})
        if answer.status_code != 200:
            break
        carried |= ids_of(answer)
    problem = answer.json()
    assert (answer.status_code, problem["violated-policies"]) == (429, ["coverage"])
    assert problem["clause"]["id"] == "no-bulk-copy"
    assert 75 < len(carried) <= 100, "a page of 25 is held before it is let in"
    assert api.used("collector")["coverage"] == len(carried)


def test_a_question_that_is_none_is_the_apps_to_refuse(api):
    assert api.get("/search", "office", params={"q": "a", "limit": "26"}).status_code in {400, 422}
    assert api.used("office")["rows_day"] == 0


def test_who_has_no_key_is_not_served(api):
    assert api.get("/records/1").status_code == 401
    assert api.get("/headgate/v1/usage").status_code == 401


def test_the_open_documents_tell_of_refusals(api):
    written = {"fastapi_app": "/openapi.json", "litestar_app": "/schema/openapi.json"}
    answer = api.get(written.get(api.example, "/openapi.json"), "office")
    if api.example in written:
        assert {"401", "429", "503"} <= set(answer.json()["paths"]["/search"]["get"]["responses"])
    else:
        assert answer.status_code == 404, "Django and Quart write none"
