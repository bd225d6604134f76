"""The data API as its README starts it: rows are what is metered, whichever endpoint hands them out."""

from collections.abc import Callable, Iterator

import httpx
import pytest


@pytest.fixture(scope="module")
def api(house_of: Callable[..., object]) -> Iterator[object]:
    house = house_of("data_api", reader="public", crawler="public", office="member", archive="bulk", walker="public")
    with house.open():
        yield house


def rows_of(answer: httpx.Response) -> int:
    assert answer.status_code == 200, answer.text
    return len(answer.json()["rows"])


def test_a_row_looked_up_is_a_row_used(api):
    answer = api.get("/records/1", "reader")
    assert (answer.status_code, answer.json()["zone"]) == (200, "Africa/Abidjan")
    assert api.get("/records/100000", "reader").status_code == 404
    assert api.get("/search", "reader", params={"limit": "5"}).status_code == 400
    assert api.get("/search", "reader", params={"q": "zone", "limit": "26"}).status_code == 400
    assert api.used("reader")["rows_day"] == 1, "what was not handed out is not charged"


def test_the_ledger_has_every_row_that_was_handed_out_and_no_other(api):
    questions = ("america", "de", "xyzzy")
    handed_out = [rows_of(api.get("/search", "office", params={"q": q, "limit": "25"})) for q in questions]
    assert (handed_out[0], handed_out[-1]) == (25, 0)
    assert api.used("office")["rows_day"] == sum(handed_out)


def test_a_copy_of_the_table_ends_at_the_days_quota_and_is_told_which_sentence_it_breaks(api):
    handed_out, answer = 0, api.get("/search", "crawler", params={"q": "a", "limit": "20"})
    while answer.status_code == 200 and handed_out <= 100:
        handed_out += rows_of(answer)
        answer = api.get("/search", "crawler", params={"q": "a", "limit": "20"})
    problem = answer.json()
    assert (answer.status_code, problem["violated-policies"]) == (429, ["rows_day"])
    assert problem["clause"]["id"] == "no-bulk-copy"
    assert int(answer.headers["retry-after"]) > 0
    assert handed_out == 80, "a page of 25 is held before it is let in, and 80 + 25 is more than 100"
    assert api.used("crawler")["rows_day"] == handed_out
    assert api.get("/records/7", "crawler").status_code == 429


def test_a_plan_without_an_end_has_none(api):
    for _ in range(6):
        assert rows_of(api.get("/search", "archive", params={"q": "a", "limit": "25"})) == 25
    assert "rows_day" not in api.used("archive")


def test_an_address_without_a_key_is_served_and_has_one_allowance_of_its_own(api):
    statuses = [api.get("/search", params={"q": "oslo"}).status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    assert api.get("/search", "walker", params={"q": "oslo"}).status_code == 200, "the same address, with a key"
    assert api.get("/headgate/v1/usage").status_code == 401, "nobody has no usage"


def test_a_key_that_nobody_issued_is_refused_rather_than_served_as_nobody(api):
    made_up = {"x-api-key": "hg_" + "A" * 43}
    assert httpx.get(f"{api.url}/records/1", headers=made_up, trust_env=False).status_code == 401
