"""The LLM gateway as its README starts it, asked by OpenAI's and Anthropic's own clients."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anthropic
import openai
import pytest

QUESTION = [{"role": "user", "content": "The keeper and the two brothers, in one sentence."}]
"""Answered by brook-2 with some thirty tokens: long enough to leave in the middle."""


@pytest.fixture(scope="module")
def gateway(house_of: Callable[..., object]) -> Iterator[object]:
    plans = dict.fromkeys(("asker", "leaver", "clumsy", "polyglot"), "build") | {"eager": "free"}
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


@contextmanager
def claude_of(gateway, org: str) -> Iterator[anthropic.Anthropic]:
    transport = anthropic.DefaultHttpxClient(trust_env=False)
    with anthropic.Anthropic(
        base_url=gateway.url, api_key=gateway.secrets[org], max_retries=0, http_client=transport
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
    assert used["credits"] == 2 * 4 * (plain.usage.prompt_tokens + 5 * plain.usage.completion_tokens), (
        "brook-2 is dear"
    )
    assert served[plain._request_id]["output_tokens"] == plain.usage.completion_tokens


def test_the_other_apis_give_the_same_answer_and_are_charged_by_the_same_limits(gateway):
    [question] = QUESTION
    with client_of(gateway, "polyglot") as client, claude_of(gateway, "polyglot") as claude:
        chat = client.chat.completions.create(model="brook-2", messages=QUESTION)
        text, took = chat.choices[0].message.content, chat.usage
        plain = client.responses.create(model="brook-2", input=question["content"])
        assert plain.output_text == text
        *_, last = client.responses.create(model="brook-2", input=question["content"], stream=True)
        assert last.response.output_text == text
        message = claude.messages.create(model="brook-2", max_tokens=48, messages=QUESTION)
        with claude.messages.stream(model="brook-2", max_tokens=48, messages=QUESTION) as stream:
            assert stream.get_final_text() == message.content[0].text == text
        found = client.embeddings.create(model="brook-1", input=[question["content"], "Who?"])
        assert len(found.data[0].embedding) == 16
    used = gateway.used("polyglot")
    assert used["tokens"] == 5 * took.completion_tokens, "an embedding has no output"
    read = 5 * took.prompt_tokens + found.usage.prompt_tokens
    assert used["credits"] == 4 * 5 * (took.prompt_tokens + 5 * took.completion_tokens) + found.usage.prompt_tokens
    assert read == 6 * took.prompt_tokens + 2


def test_a_refusal_is_openais_own_error_and_names_the_limit(gateway):
    with client_of(gateway, "eager") as client:
        begun, served = time.monotonic(), 0
        with pytest.raises(openai.RateLimitError) as caught:
            while served <= 25 + (time.monotonic() - begun) / 3:  # one is given back every three seconds
                client.chat.completions.create(model="brook-1", messages=QUESTION, max_tokens=1)
                served += 1
        assert served >= 25
    assert caught.value.body["violated-policies"] == ["rpm"]
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 4, "one is given back every three seconds"
    with claude_of(gateway, "eager") as claude, pytest.raises(anthropic.RateLimitError) as told:
        for _ in range(5):  # another one may have been given back meanwhile
            claude.messages.create(model="brook-1", max_tokens=1, messages=QUESTION)
    assert told.value.body["error"]["type"] == "rate_limit_error"


def test_a_client_that_leaves_in_the_middle_pays_for_what_was_sent_and_holds_nothing(gateway):
    with client_of(gateway, "leaver") as client:
        with client.chat.completions.create(model="brook-2", messages=QUESTION, stream=True) as chunks:
            answer = chunks.response.headers["x-request-id"]
            for _, _chunk in zip(range(3), chunks, strict=False):
                pass
        used = gateway.used("leaver")
        whole = client.chat.completions.create(model="brook-2", messages=QUESTION).usage.completion_tokens
    # A token that was generated in the moment in which the client left reached nobody.
    assert noted(gateway)[answer]["output_tokens"] - used["tokens"] in {0, 1}
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


def test_a_stream_that_reaches_its_limit_is_cut_as_each_client_understands_it(house_of):
    settings = {
        "TOKEN_SECONDS": "0.005",
        "HEADGATE__METERS__OUTPUT_TOKENS__RESERVE_DEFAULT": "4",
        "HEADGATE__LIMITS__TOKENS__QUOTA__FREE": "20/day",
        "HEADGATE__LIMITS__TOKENS__QUOTA__BUILD": "20/day",
    }
    house = house_of("llm_gateway", settings, chatty="free", verbose="build")
    with house.open():
        text = ""
        with client_of(house, "chatty") as client, pytest.raises(openai.APIError) as caught:
            for chunk in client.chat.completions.create(model="brook-2", messages=QUESTION, stream=True):
                text += chunk.choices[0].delta.content or ""
        assert not isinstance(caught.value, openai.APIStatusError), "an error within the stream"
        assert "tokens" in caught.value.message
        assert text and house.used("chatty")["tokens"] == 20
        with claude_of(house, "verbose") as claude, pytest.raises(anthropic.APIStatusError) as told:
            for _ in claude.messages.create(model="brook-2", max_tokens=4, messages=QUESTION, stream=True):
                pass
            for _ in claude.messages.create(model="brook-2", max_tokens=48, messages=QUESTION, stream=True):
                pass
        assert told.value.body["error"]["type"] == "rate_limit_error"


def test_the_origins_own_log_and_the_ledger_are_equal(gateway):
    served = noted(gateway).values()
    for org in ("asker", "eager", "leaver", "cedar", "dogwood"):
        key = gateway.get("/headgate/v1/usage", org).json()["key"]
        lines = [line for line in served if line["key"] == key]
        unread = sum(line["output_tokens"] for line in lines) - gateway.used(org)["tokens"]
        assert unread in ({0, 1} if org == "leaver" else {0})
        assert lines, f"{org} was served"
    assert all("output_tokens" in line for line in served), "whatever was begun has ended"
