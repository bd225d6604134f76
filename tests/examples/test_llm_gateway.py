"""The LLM gateway as its README starts it, asked by OpenAI's own client."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import openai
import pytest

QUESTION = [{"role": "user", "content": "The keeper and the two brothers, in one sentence."}]
"""Answered by brook-2 with some thirty tokens: long enough to leave in the middle."""


@pytest.fixture(scope="module")
def gateway(house_of: Callable[..., object]) -> Iterator[object]:
    plans = {"asker": "build", "eager": "free", "leaver": "build", "clumsy": "build"}
    house = house_of("llm_gateway", {"TOKEN_SECONDS": "0.015"}, **plans, cedar="free", dogwood="free")
    with house.open():
        yield house


@contextmanager
def client_of(gateway, org: str) -> Iterator[openai.OpenAI]:
    transport = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.secrets[org], max_retries=0, http_client=transport
    ) as client:
        yield client


def noted(gateway) -> dict[str, dict[str, object]]:
    """The origin's log: by id, all that it says of one answer."""
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    answers: dict[str, dict[str, object]] = {}
    for line in lines:
        answers[line["id"]] = answers.get(line["id"], {}) | line
    return answers


def test_an_answer_plain_and_streamed_is_the_same_and_is_charged_alike(gateway):
    with client_of(gateway, "asker") as client:
        plain = client.chat.completions.create(model="brook-2", messages=QUESTION)
        options = {"include_usage": True}
        chunks = list(
            client.chat.completions.create(model="brook-2", messages=QUESTION, stream=True, stream_options=options)
        )
    text = plain.choices[0].message.content
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == text
    assert chunks[-1].usage == plain.usage
    assert plain.usage.completion_tokens > 20
    used, served = gateway.used("asker"), noted(gateway)
    assert used["tokens"] == 2 * plain.usage.completion_tokens
    assert used["budget"] == 2
    assert served[plain._request_id]["output_tokens"] == plain.usage.completion_tokens


def test_a_refusal_is_openais_own_error_and_names_the_limit(gateway):
    with client_of(gateway, "eager") as client:
        for _ in range(25):
            client.chat.completions.create(model="brook-1", messages=QUESTION, max_tokens=1)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="brook-1", messages=QUESTION, max_tokens=1)
    assert caught.value.body["violated-policies"] == ["rpm"]
    assert caught.value.body["type"].endswith("#quota-exceeded")
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 4, "one is given back every three seconds"


def test_a_client_that_leaves_in_the_middle_pays_for_what_was_sent_and_holds_nothing(gateway):
    with client_of(gateway, "leaver") as client:
        with client.chat.completions.create(model="brook-2", messages=QUESTION, stream=True) as chunks:
            answer = chunks.response.headers["x-request-id"]
            for _, _chunk in zip(range(3), chunks, strict=False):
                pass
        used = gateway.used("leaver")
        whole = client.chat.completions.create(model="brook-2", messages=QUESTION).usage.completion_tokens
    assert used["tokens"] == noted(gateway)[answer]["output_tokens"]
    assert 2 <= used["tokens"] < whole
    assert used["streams"] == 0


def test_a_request_that_cannot_be_answered_is_openais_own_error_and_takes_no_tokens(gateway):
    with client_of(gateway, "clumsy") as client:
        with pytest.raises(openai.NotFoundError, match="no such model"):
            client.chat.completions.create(model="brook-9", messages=QUESTION)
        with pytest.raises(openai.BadRequestError, match="tokens, at most 256"):
            client.chat.completions.create(model="brook-1", messages=[{"role": "user", "content": "water " * 300}])
        with pytest.raises(openai.BadRequestError, match="max_tokens"):
            client.chat.completions.create(model="brook-1", messages=QUESTION, max_tokens=0)
        assert [model.id for model in client.models.list()] == ["brook-1", "brook-2"]
    used = gateway.used("clumsy")
    assert (used["tokens"], used["budget"]) == (0, 3)


def test_a_key_that_nobody_issued_is_openais_own_error(gateway):
    gateway.secrets["stranger"] = "hg_" + "A" * 43
    with client_of(gateway, "stranger") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="brook-1", messages=QUESTION)


def test_two_orgs_that_are_one_customer_share_one_budget(gateway):
    with client_of(gateway, "cedar") as cedar, client_of(gateway, "dogwood") as dogwood:
        for client, times in ((cedar, 18), (dogwood, 12)):
            for _ in range(times):
                client.chat.completions.create(model="brook-1", messages=QUESTION, max_tokens=1)
        for client in (cedar, dogwood):
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(model="brook-1", messages=QUESTION, max_tokens=1)
            assert caught.value.body["violated-policies"] == ["budget"]
            assert caught.value.body["clause"]["title"] == "One budget per customer"
            assert not {"cedar", "dogwood"} & set(caught.value.response.text.split('"')), "nobody learns of the other"
    assert gateway.used("cedar")["budget"] == gateway.used("dogwood")["budget"] == 30
    assert gateway.used("cedar")["tokens"] == 18, "tokens are counted for each org"


def test_the_origins_own_log_and_the_ledger_are_equal(gateway):
    served = noted(gateway).values()
    for org in ("asker", "eager", "leaver", "cedar", "dogwood"):
        key = gateway.get("/headgate/v1/usage", org).json()["key"]
        lines = [line for line in served if line["key"] == key]
        assert sum(line["output_tokens"] for line in lines) == gateway.used(org)["tokens"]
        assert lines, f"{org} was served"
    assert all("output_tokens" in line for line in served), "whatever was begun has ended"
