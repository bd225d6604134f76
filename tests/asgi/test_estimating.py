"""Tokens that nobody reports: by a ratio of the policy's, by a callable of the operator's, and by a bad one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from asgi.upstream import (
    CUT,
    INPUT,
    JSON,
    OUTPUT,
    SSE,
    START,
    Client,
    Stream,
    event,
    held,
    last,
    rested,
    token,
    total,
)
from headgate.asgi.metering.estimating import ASKED, PIECE, SLOW, Counted, Estimating, estimating
from headgate.quota.estimate import Estimate
from headgate.telemetry import events
from headgate.tokens import KEPT, Said

BODY = json.dumps({"choices": [{"message": {"content": "three words \u4e2d"}}]}).encode()
TEXTS = ("The gate ", "opens, ", "and ", "the water comes: ", "Straße ", "水が来る ", "😀", "\n\n", "so ")


def words(text: str) -> int:
    """A tokenizer of a kind: words, and signs that are no letters."""
    return max(len(text.split()), 1 if text.strip() else 0)


class Overheard:
    """A callable that notes what it was asked."""

    def __init__(self, count: Callable[[str], Any] = words) -> None:
        self.count = count
        self.asked: list[str] = []

    def __call__(self, text: str) -> Any:
        self.asked.append(text)
        return self.count(text)


def by(count: Callable[[str], Any], meter: Any = OUTPUT) -> Any:
    return replace(meter, estimate=Estimate(name="python:my_app.tokens:count", count=count))


@pytest.fixture
def told(monkeypatch):
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(events, "error", lambda name, **more: found.append((name, more.get("reason", ""))))
    return found


class Talk(Stream):
    """A stream that says these texts, and tells no usage."""

    def __init__(self, texts: Any, *, usage: bool = False) -> None:
        super().__init__(0, reports=usage)
        self.texts = texts

    def parts(self) -> Any:
        for text in self.texts:
            yield token(text)
        if self.reports:
            yield last(7, 1_000)
        yield event("[DONE]")


def answered(stage: Any, app: Any, client: Client) -> dict[str, int]:
    async def story() -> None:
        task = asyncio.create_task(app(stage.scope(method="POST"), client.receive, client.send))
        if client.how == "cancel" and client.leaves is not None:
            await client.gone.wait()
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await rested()

    asyncio.run(story())
    return {name: units for name, (units, _) in held(stage, app).items()}


# --- a ratio


def test_a_ratio_of_the_policys_counts_instead_of_four(stage):
    estimate = Estimate(3_500_000)
    app = stage.app(
        total(replace(OUTPUT, estimate=estimate)), total(replace(INPUT, estimate=estimate)),
        behind=Stream(9, reports=False),
    )  # fmt: skip
    assert answered(stage, app, Client(b"x" * 41)) == {"output_tokens": 11, "input_tokens": 12}


@pytest.mark.parametrize("granted", [4, 10, 31])
@pytest.mark.parametrize("ratio", [1_000_000, 3_500_000, 16_000_000])
def test_a_stream_is_cut_where_its_ratio_says(stage, granted, ratio):
    meter = replace(CUT, reserve=min(10, granted), estimate=Estimate(ratio))
    app, client = stage.app(total(meter, granted), behind=Stream(200, reports=False)), Client()
    found = answered(stage, app, client)["output_tokens"]
    assert client.parts[-1].startswith(b"event: error")
    assert found == -(-4 * client.tokens * 1_000_000 // ratio) <= granted
    assert -(-4 * (client.tokens + 1) * 1_000_000 // ratio) > granted


# --- a callable


@pytest.mark.parametrize("reserve", [1, 10, 5_000])
@pytest.mark.parametrize("leaves", [1, 2, 3, 17, 60, 61, 400, None])
@pytest.mark.parametrize("how", ["os error", "cancel"])
def test_a_stream_that_breaks_off_is_charged_what_the_callable_counts_within_a_chunk(stage, leaves, reserve, how):
    texts = TEXTS * 60
    app = stage.app(total(by(len, replace(OUTPUT, reserve=reserve)), 100_000), behind=Talk(texts))
    client = Client(b"{}", leaves, how)
    found = answered(stage, app, client)["output_tokens"]
    sent = len("".join(texts[: client.tokens]))
    longest = max(map(len, TEXTS))
    assert abs(found - sent) <= longest
    assert found > sent / 2 and (leaves is None) == (client.tokens == len(texts))


def test_a_stream_longer_than_what_is_kept_is_counted_in_full(stage):
    texts = ["every letter is a token here, and there are many of them "] * 2_000
    counted = Overheard(len)
    app = stage.app(total(by(counted, replace(OUTPUT, reserve=800_000)), 1_000_000), behind=Talk(texts))
    assert answered(stage, app, Client())["output_tokens"] == len("".join(texts)) > 6 * KEPT
    assert "".join(counted.asked) == "".join(texts)
    assert max(map(len, counted.asked)) <= PIECE
    assert len(counted.asked) <= 2 * len("".join(texts)) / PIECE, "in pieces, and not once a chunk"


@pytest.mark.parametrize("granted", [10, 25, 100])
def test_a_stream_is_cut_where_the_callables_count_is(stage, granted):
    texts = TEXTS * 40
    app = stage.app(total(by(len, replace(CUT, reserve=min(10, granted))), granted), behind=Talk(texts))
    client = Client()
    found = answered(stage, app, client)["output_tokens"]
    sent = len("".join(texts[: client.tokens]))
    assert client.parts[-1].startswith(b"event: error")
    assert found == sent <= granted < len("".join(texts[: client.tokens + 1]))


def test_what_is_reported_is_believed_and_not_counted(stage):
    counted = Overheard(len)
    app = stage.app(
        total(by(counted, replace(OUTPUT, reserve=5_000)), 10_000), behind=Talk(["one two "] * 50, usage=True)
    )
    assert answered(stage, app, Client())["output_tokens"] == 1_000
    assert len(counted.asked) <= 1, "at the first look"


@pytest.mark.parametrize("leaves", [5, 12, 13, 29, 30, 31])
def test_what_came_after_the_last_report_is_counted_and_added_to_it(stage, leaves):
    """As vLLM's chats, which tell their usage all the time."""

    class Running(Talk):
        def parts(self) -> Any:
            for number, text in enumerate(self.texts, 1):
                yield token(text) if number % 10 else last(7, number * 100)

    app = stage.app(total(by(len), 100_000), behind=Running(["three "] * 50))
    found = answered(stage, app, Client(b"", leaves, "os error"))["output_tokens"]
    assert abs(found - (leaves // 10 * 1_000 + leaves % 10 * 6)) <= 6


def test_a_stream_whose_report_is_hidden_is_cut_by_the_callables_count_and_charged_by_the_report(stage):
    asks = b'{"stream": true, "messages": []}'
    app = stage.app(
        total(by(len, replace(CUT, reserve=10)), 1_100), behind=Talk(["three "] * 50, usage=True), include_usage=True
    )
    client = Client(asks)
    assert answered(stage, app, client) == {"output_tokens": 1_000}
    assert b"usage" not in client.text and client.text.endswith(b"[DONE]\n\n")
    client = Client(asks)
    assert answered(stage, app, client) == {"output_tokens": 1_000 + 96}
    assert client.tokens == 16 and client.parts[-1].startswith(b"event: error")


def test_a_plain_answer_without_usage_is_counted_too_and_a_packed_one_by_its_bytes(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [*JSON, (b"content-encoding", b"br")] if scope["path"] == "/packed" else JSON
        await send({**START, "headers": headers})

        await send({"type": "http.response.body", "body": BODY})

    app = stage.app(total(by(len)), behind=behind)
    stage.ask(app)
    assert held(stage, app)["output_tokens"] == (13, 0)
    stage.ask(app, "/packed")
    assert held(stage, app)["output_tokens"][0] == 13 + -(-len(BODY) // 4)


# --- the question


def asking(stage: Any, count: Any, body: bytes, **more: Any) -> int:
    app = stage.app(total(by(count, INPUT), 10_000_000), behind=Stream(1, reports=False), **more)
    stage.ask(app, method="POST", body=[body[:9], body[9:]])
    return held(stage, app)["input_tokens"][0]


def test_a_question_that_is_not_reported_is_counted_as_it_came(stage):
    assert asking(stage, len, '{"prompt": "Straße"}'.encode()) == 20
    assert asking(stage, len, b'{"prompt": "\\u4e2d\\n"}') == 16


def test_of_a_long_question_the_beginning_is_counted_and_the_rest_has_the_dearer_price(stage):
    long = 10 * ASKED
    counted = Overheard(lambda text: len(text) // 2)
    assert asking(stage, counted, b"x" * long) == long // 2
    assert len("".join(counted.asked)) == ASKED
    cheap = b" " * ASKED + b"x" * long
    assert asking(stage, lambda text: 1, cheap) >= long // 4, "blanks ahead make nothing cheaper"


def test_a_question_that_is_no_text_counts_by_its_bytes(stage):
    counted = Overheard()
    assert asking(stage, counted, b"\xff\xfe" * 40) == 20
    assert counted.asked == []
    assert asking(stage, len, b"x" * (ASKED - 1) + "ü".encode() * 8) > 0, "a sign that is cut in two is no fault"


def test_nobody_counts_a_question_that_no_limit_asks_for(stage):
    counted = Overheard()
    app = stage.app(total(by(counted)), behind=Stream(3, reports=False))
    stage.ask(app, method="POST", body=[b"a question"])
    assert counted.asked and "a question" not in counted.asked


# --- callables that do wrong


def raising(fault: BaseException) -> Callable[[str], int]:
    def count(text: str) -> int:
        raise fault

    return count


async def waits(text: str) -> int:
    return 1


BAD: dict[str, Any] = {
    "raises": raising(ValueError("secret text")),
    "ends the program": raising(SystemExit(1)),
    "is cancelled": raising(asyncio.CancelledError()),
    "recurses": raising(RecursionError()),
    "is negative": lambda text: -5,
    "is nothing": lambda text: 0,
    "is huge": lambda text: 10**40,
    "is more than a token a byte": lambda text: len(text.encode()) + 1,
    "is no int": lambda text: 1.5,
    "is true": lambda text: True,
    "is None": lambda text: None,
    "is a list": lambda text: text.split(),
    "waits": waits,
}


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("cuts", [False, True])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_answer_counts_as_four_bytes_a_token_ends_no_stream_and_is_told_once(stage, told, kind, cuts):
    granted = 100 if cuts else 10_000
    count = Overheard(BAD[kind])
    meter = by(count, replace(CUT if cuts else OUTPUT, reserve=10))
    app, client = stage.app(total(meter, granted), behind=Talk(["a word "] * 90)), Client()
    found = answered(stage, app, client)["output_tokens"]
    assert found == -(-7 * client.tokens // 4)
    assert client.tokens == (57 if cuts else 90) and client.whole == 1
    assert len(count.asked) > 1 and [name for name, _ in told] == ["headgate.estimate.failed"]
    assert "secret" not in told[0][1]


def test_a_callable_that_fails_now_and_then_counts_where_it_does_not(stage, told):
    def picky(text: str) -> int:
        if "<|endoftext|>" in text:
            raise ValueError
        return len(text)

    texts = ["word ", "<|endoftext|>", "word "]
    app = stage.app(total(by(picky, replace(OUTPUT, reserve=1)), 1_000_000), behind=Talk(texts * 20))
    found = answered(stage, app, Client())["output_tokens"]
    assert -(-20 * 23 // 4) <= found <= 20 * 23 and len(told) == 1


def test_a_text_of_blanks_may_be_no_token():
    assert Estimating(Estimate(name="x", count=words)).counted(" \n ") == Counted(0, 3, 0)


class Slow:
    """A callable that takes time, on a clock of its own."""

    def __init__(self, takes: float) -> None:
        self.now, self.takes, self.asked = 0.0, takes, 0

    def __call__(self, text: str) -> int:
        self.asked += 1
        self.now += self.takes
        return len(text)


def test_a_slow_callable_rests_a_hundred_times_as_long_as_it_took(told):
    slow = Slow(SLOW * 2)
    at_work = Estimating(Estimate(name="x", count=slow), clock=lambda: slow.now)
    assert at_work.counted("word") == Counted(4, 4, 0), "what it said is believed"
    for _ in range(1_000):
        assert at_work.counted("word") == Counted(0, 0, 4)
    assert slow.asked == 1
    slow.now += SLOW * 2 * 100
    assert at_work.counted("word") == Counted(4, 4, 0) and slow.asked == 2
    assert len(told) == 1 and "took more than 50 ms" in told[0][1]


def test_a_long_text_takes_no_longer_than_one_that_is_slow(told):
    slow = Slow(SLOW * 0.4)
    at_work = Estimating(Estimate(name="x", count=slow), clock=lambda: slow.now)
    found = at_work.counted("x" * (20 * PIECE))
    assert slow.asked == 3 and found == Counted(3 * PIECE, 3 * PIECE, 17 * PIECE)


def test_what_is_too_much_at_once_has_the_dearer_price():
    at_work = Estimating(Estimate(name="x", count=len))
    said = Said()
    for _ in range(4):
        said.add(b"x" * KEPT)
    assert at_work.said(said) == 4 * KEPT
    cheap, said = Estimating(Estimate(name="x", count=lambda text: 1)), Said()
    for _ in range(4):
        said.add(b"x" * KEPT)
    assert cheap.said(said) == KEPT // PIECE + 3 * KEPT // 4
    assert cheap.said(said) == KEPT // PIECE + 3 * KEPT // 4, "asked again, it is the same"


def test_all_requests_share_what_works_by_a_callable():
    first, second = Estimate(name="python:a:b", count=len), Estimate(name="python:a:b", count=len)
    assert estimating(first) is estimating(second)
    assert estimating(replace(first, count=words)) is not estimating(first)


def test_a_chunk_that_comes_alone_costs_no_call_while_nothing_is_near(stage):
    counted = Overheard(len)

    class Loose(Talk):
        headers = SSE

    app = stage.app(total(by(counted, replace(OUTPUT, reserve=100_000)), 1_000_000), behind=Loose(["word "] * 3_000))
    assert answered(stage, app, Client())["output_tokens"] == 15_000
    assert len(counted.asked) <= 8
