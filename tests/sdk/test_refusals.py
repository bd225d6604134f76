"""A refusal to the real clients of OpenAI and Anthropic: an error of their own, a wait as told, no second call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from headgate.errors import StoreError
from headgate.stores import open_store
from sdk.line import Line
from sdk.refusing import Arrivals, refusing

ASK: Any = [{"role": "user", "content": "Who opens the gate?"}]

DIALECTS = "dialect: {/v1/messages*: anthropic, default: openai}\n"

FAST = f"{DIALECTS}limits:\n  rps: {{meter: requests, per: org, rate: 20/s}}\n"
"""Twenty at once, and one more every fifty milliseconds."""

SLOW = f"{DIALECTS}limits:\n  rpm: {{meter: requests, per: org, rate: 2/3min}}\n"

MONTH = f"""{DIALECTS}
limits:
  month: {{meter: requests, per: org, quota: 1/month, terms: fair}}
terms:
  fair: {{title: One budget per customer, url: https://api.example/terms#fair}}
"""

TOKENS = f"""{DIALECTS}
meters:
  openai:        {{preset: openai-usage}}
  anthropic:     {{preset: anthropic-usage}}
  output_tokens: {{reserve: body.max_tokens, reserve_default: 20}}
limits:
  otpm: {{meter: output_tokens, per: org, rate: 60/min}}
"""

CUT = f"""{DIALECTS}
meters:
  openai:        {{preset: openai-usage}}
  anthropic:     {{preset: anthropic-usage}}
  output_tokens: {{reserve: 4, overrun: cut}}
limits:
  output: {{meter: output_tokens, per: org, quota: 20/year}}
"""
"""Half of what a stream has."""

Serve = Callable[..., tuple[Line, Arrivals]]


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Serve]:
    """`refused(policy)`: it before a new upstream, and what arrives there."""
    with ExitStack() as stack:
        yield lambda policy, **given: stack.enter_context(refusing(policy, tmp_path / "policy.yaml", **given))


def chat(line: Line, **options: Any) -> Any:
    return line.openai(**options).chat.completions.create(model="m", messages=ASK, max_tokens=40)


def chat_streamed(line: Line, **options: Any) -> Any:
    return line.openai(**options).chat.completions.create(model="m", messages=ASK, max_tokens=40, stream=True)


def responses(line: Line, **options: Any) -> Any:
    return line.openai(**options).responses.create(model="m", input="Who?")


def responses_streamed(line: Line, **options: Any) -> Any:
    return line.openai(**options).responses.create(model="m", input="Who?", stream=True)


def embeddings(line: Line, **options: Any) -> Any:
    return line.openai(**options).embeddings.create(model="m", input=["Who?"])


def messages(line: Line, **options: Any) -> Any:
    return line.anthropic(**options).messages.create(model="m", messages=ASK, max_tokens=40)


def messages_streamed(line: Line, **options: Any) -> Any:
    return line.anthropic(**options).messages.create(model="m", messages=ASK, max_tokens=40, stream=True)


WAYS = [chat, chat_streamed, responses, embeddings, messages, messages_streamed]

every_way = pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])

PATIENT = {"max_retries": 2}
"""What both clients do if nobody tells them otherwise."""

RATE_LIMIT = (openai.RateLimitError, anthropic.RateLimitError)


def use_up(line: Line, times: int) -> None:
    """Spend a whole rate while the clock stands."""
    with httpx.Client(trust_env=False, headers={"x-api-key": "sk-acme"}) as client:
        for _ in range(times):
            assert client.get(f"{line.url}/v1/models").status_code == 200


def error_of(raised: Any) -> Any:
    """The error object of a body, as each client hands it out."""
    return raised.body["error"] if isinstance(raised, anthropic.APIError) else raised.body


@every_way
def test_a_refusal_raises_the_client_s_own_error(refused: Serve, way: Callable[..., Any]) -> None:
    line, arrivals = refused(FAST)
    use_up(line, 20)
    arrivals.runs = True
    with pytest.raises(RATE_LIMIT) as caught:
        way(line)
    raised: Any = caught.value
    assert raised.status_code == 429 and len(arrivals.at) == 1 and not line.upstream.asked
    told = error_of(raised)
    assert told["violated-policies"] == ["rps"] and "rps" in told["message"]
    assert raised.request_id == told["instance"], "what `headgate explain` looks up"
    if isinstance(raised, openai.APIError):
        assert (raised.type, raised.code, raised.param) == ("requests", "rate_limit_exceeded", None)
        assert "try again in 5" in told["message"]
    else:
        assert raised.type == "rate_limit_error" and raised.api_message == told["message"]


@every_way
def test_a_short_wait_is_waited_for_as_told_and_then_it_is_served(
    refused: Serve, way: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for client in (openai, anthropic):  # of their own accord they would wait much longer
        monkeypatch.setattr(f"{client.__name__}._base_client.INITIAL_RETRY_DELAY", 60.0)
        monkeypatch.setattr(f"{client.__name__}._base_client.MAX_RETRY_DELAY", 60.0)
    line, arrivals = refused(FAST)
    use_up(line, 20)
    arrivals.runs = True
    assert way(line, **PATIENT) is not None
    [waited] = arrivals.waits
    assert 0.050 <= waited < 30, "as it was told"


@every_way
@pytest.mark.parametrize(("policy", "fit"), [(SLOW, 2), (MONTH, 1)], ids=["a minute and more", "a month"])
def test_a_long_wait_is_not_waited_for_and_nobody_calls_again(
    refused: Serve, way: Callable[..., Any], policy: str, fit: int
) -> None:
    line, arrivals = refused(policy)
    use_up(line, fit)
    arrivals.runs = True
    with pytest.raises(RATE_LIMIT) as caught:
        way(line, **PATIENT)
    assert len(arrivals.at) == 1, "one call, and no second"
    raised: Any = caught.value
    assert int(raised.response.headers["retry-after"]) > 60
    if fit == 1:
        assert error_of(raised)["clause"]["url"] == "https://api.example/terms#fair"
        if isinstance(raised, openai.APIError):
            assert (raised.type, raised.code) == ("insufficient_quota", "insufficient_quota")


@pytest.mark.parametrize("way", [chat, messages], ids=["chat", "messages"])
def test_who_asks_for_more_than_is_ever_granted_is_told_so_once(refused: Serve, way: Callable[..., Any]) -> None:
    line, arrivals = refused(TOKENS.replace("60/min", "30/min"))
    arrivals.runs = True
    with pytest.raises(RATE_LIMIT, match="at most 30 output_tokens"):
        way(line, **PATIENT)
    assert len(arrivals.at) == 1


def test_tokens_that_are_used_up_are_told_as_tokens(refused: Serve) -> None:
    line, _ = refused(TOKENS)
    answer = line.openai().chat.completions.with_raw_response.create(model="m", messages=ASK, max_tokens=40)
    assert answer.headers["x-ratelimit-limit-tokens"] == "60"
    assert answer.headers["x-ratelimit-remaining-tokens"] == "20", "as it was let in: forty are held"
    assert answer.headers["x-ratelimit-reset-tokens"] == "40s"
    with pytest.raises(openai.RateLimitError) as caught:
        chat(line)
    assert (caught.value.type, caught.value.code) == ("tokens", "rate_limit_exceeded")
    with pytest.raises(anthropic.RateLimitError) as other:
        messages(line)
    headers = other.value.response.headers
    assert headers["anthropic-ratelimit-output-tokens-remaining"] == "20"
    assert headers["anthropic-ratelimit-tokens-reset"] == "2027-01-16T00:00:40Z"


@pytest.mark.parametrize(
    ("way", "error"), [(chat, openai.AuthenticationError), (messages, anthropic.AuthenticationError)], ids=["o", "a"]
)
def test_a_key_that_nobody_knows_is_an_authentication_error(
    refused: Serve, way: Callable[..., Any], error: type[Exception]
) -> None:
    line, arrivals = refused(FAST)
    arrivals.runs = True
    with pytest.raises(error, match="A valid API key is needed") as caught:
        way(line, org="nobody", **PATIENT)
    assert len(arrivals.at) == 1
    raised: Any = caught.value
    assert "www-authenticate" in raised.response.headers
    if isinstance(raised, openai.APIError):
        assert (raised.type, raised.code) == ("invalid_request_error", "invalid_api_key")
    else:
        assert raised.type == "authentication_error"


@pytest.mark.parametrize(
    ("way", "error"), [(chat, openai.BadRequestError), (messages, anthropic.BadRequestError)], ids=["o", "a"]
)
def test_two_keys_are_a_bad_request(refused: Serve, way: Callable[..., Any], error: type[Exception]) -> None:
    line, _ = refused(FAST)
    both = {"authorization": "Bearer sk-acme", "x-api-key": "sk-beech"}
    with pytest.raises(error, match="two different keys") as caught:
        way(line, default_headers=both)
    raised: Any = caught.value
    assert raised.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("way", "error", "kind"),
    [
        (chat, openai.InternalServerError, "server_error"),
        (messages, anthropic.ServiceUnavailableError, "overloaded_error"),
    ],
    ids=["o", "a"],
)
def test_an_outage_is_their_error_of_a_server_and_never_one_of_limits(
    refused: Serve, way: Callable[..., Any], error: type[Exception], kind: str
) -> None:
    store = open_store("memory://")

    async def transact(*_: object) -> None:
        raise StoreError("gone", transient=True)

    store.transact = transact  # type: ignore[assignment,method-assign]
    line, _ = refused(FAST, store=store)
    with pytest.raises(error) as caught:
        way(line)
    raised: Any = caught.value
    assert raised.status_code == 503 and raised.type == kind
    assert 1 <= int(raised.response.headers["retry-after"]) <= 5


@pytest.mark.parametrize(
    ("way", "error"),
    [(chat, openai.PermissionDeniedError), (messages, anthropic.PermissionDeniedError)],
    ids=["o", "a"],
)
def test_a_policy_s_own_words_and_status_are_what_the_client_raises(
    refused: Serve, way: Callable[..., Any], error: type[Exception]
) -> None:
    policy = FAST.replace("rate: 20/s", "rate: 1/min, deny: {status: 403, message: Ask us for a copy.}")
    line, arrivals = refused(policy)
    use_up(line, 1)
    arrivals.runs = True
    with pytest.raises(error, match="Ask us for a copy"):
        way(line, **PATIENT)
    assert len(arrivals.at) == 1


@pytest.mark.parametrize("way", [chat_streamed, responses_streamed, messages_streamed], ids=lambda way: way.__name__)
def test_a_stream_that_is_cut_raises_their_error_of_limits_and_is_not_asked_for_again(
    refused: Serve, way: Callable[..., Any]
) -> None:
    line, arrivals = refused(CUT)
    line.upstream.plays(pause=0.001)
    arrivals.runs = True
    stream = way(line, **PATIENT)
    with pytest.raises((openai.APIError, anthropic.APIStatusError)) as caught:
        for _ in stream:
            pass
    raised: Any = caught.value
    told = error_of(raised)
    assert told["violated-policies"] == ["output"] and len(told["instance"]) == 32
    assert len(arrivals.at) == 1, "what has begun is not begun anew"
    if isinstance(raised, openai.APIError):
        assert (raised.type, raised.code) == ("insufficient_quota", "insufficient_quota")
        assert raised.message == told["message"]
    else:
        assert raised.type == "rate_limit_error" and raised.api_message == told["message"]


def test_clients_that_do_not_block_do_the_same(refused: Serve) -> None:
    line, arrivals = refused(FAST)
    use_up(line, 20)
    arrivals.runs = True

    async def asked(retries: int) -> None:
        web: dict[str, Any] = {"api_key": "sk-acme", "max_retries": retries}
        async with (
            openai.AsyncOpenAI(
                base_url=f"{line.url}/v1", http_client=openai.DefaultAsyncHttpxClient(trust_env=False), **web
            ) as one,
            anthropic.AsyncAnthropic(
                base_url=line.url, http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False), **web
            ) as other,
        ):
            await one.chat.completions.create(model="m", messages=ASK)
            await other.messages.create(model="m", messages=ASK, max_tokens=40)

    with pytest.raises(openai.RateLimitError):
        asyncio.run(asked(0))
    asyncio.run(asked(2))
    assert len(line.upstream.asked) == 2
