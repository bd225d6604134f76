"""What each dialect sends, byte by byte, told as small stories.

After a change of wording: `GOLDEN=write python -Im pytest tests/asgi/dialects/test_golden.py`, and read the
difference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from headgate.asgi import replies
from headgate.asgi.dialects import Dialect, dialects
from headgate.asgi.replies import Header, Reply
from headgate.policy.compiled import Clause, Policy
from headgate.quota.calendar import Calendar
from headgate.quota.command import Never
from headgate.quota.decision import Action
from headgate.quota.gcra import Rate
from headgate.quota.identify import Identify
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS, Meter
from headgate.quota.window import Total

GOLDEN = Path(__file__).with_name("golden")

MINUTE = 60_000_000
REQUESTS = BUILT_IN_METERS["requests"]
INPUT = Meter("input_tokens", "preset.openai-usage", reserve=100)
OUTPUT = Meter("output_tokens", "preset.openai-usage", reserve=400, overrun="cut")
CLAUSES = {"fair": Clause("fair", "One budget per customer", "https://api.example/terms#fair")}

RPM = Limit("rpm", REQUESTS, ("key",), {"": Rate(3, MINUTE)})
ITPM = Limit("itpm", INPUT, ("org",), {"": Rate(10_000, MINUTE)})
OTPM = Limit("otpm", OUTPUT, ("org",), {"": Rate(1_000, MINUTE)})
MONTH = Limit("month", REQUESTS, ("org",), {"": Calendar(1, "month")}, clause="fair")
LIFE = Limit("life", OUTPUT, ("org",), {"": Total(300)})
COPY = Limit("copy", REQUESTS, ("org",), {"": Rate(1, MINUTE)}, deny_status=403, deny_message="Ask us for a copy.")


def shown(status: int, headers: Iterable[Header], body: bytes) -> str:
    lines = [f"HTTP {status}", *[f"{name.decode()}: {value.decode()}" for name, value in headers]]
    return "\n".join(lines) + f"\n\n{body.decode()}\n"


def reply(reply: Reply) -> str:
    return shown(reply.status, reply.headers, reply.body)


Tell = Callable[[Dialect, Callable], str]


def served(dialect: Dialect, decide: Callable) -> str:
    decision, _ = decide(RPM, ITPM, OTPM, times=2)
    return shown(200, dialect.fields(decision), b"")


def a_rate_is_used_up(dialect: Dialect, decide: Callable) -> str:
    return reply(dialect.refused(*decide(RPM, ITPM, times=4)))


def tokens_of_a_minute_are_used_up(dialect: Dialect, decide: Callable) -> str:
    return reply(dialect.refused(*decide(RPM, OTPM, times=3)))


def a_month_is_used_up(dialect: Dialect, decide: Callable) -> str:
    return reply(dialect.refused(*decide(RPM, MONTH, times=2, clauses=CLAUSES)))


def more_is_asked_than_is_ever_granted(dialect: Dialect, decide: Callable) -> str:
    return reply(dialect.refused(*decide(LIFE)))


def the_policy_has_words_of_its_own(dialect: Dialect, decide: Callable) -> str:
    return reply(dialect.refused(*decide(COPY, times=2)))


def the_store_is_out_of_order(dialect: Dialect, decide: Callable) -> str:
    decision, policy = decide(RPM)
    return reply(dialect.refused(replace(decision, action=Action.UNAVAILABLE, balances=()), policy))


def nobody_knows_who_calls(dialect: Dialect, decide: Callable) -> str:
    return reply(dialect.said(replies.nobody(Policy("shop", "0", "enforce", Identify(), ()))))


def two_keys(dialect: Dialect, decide: Callable) -> str:
    return reply(dialect.said(replies.two_credentials()))


def a_body_is_too_long(dialect: Dialect, decide: Callable) -> str:
    return reply(dialect.said(replies.too_long(65_536)))


def headgate_is_out_of_order(dialect: Dialect, decide: Callable) -> str:
    return reply(dialect.said(replies.unavailable()))


def a_stream_is_cut(dialect: Dialect, decide: Callable) -> str:
    return dialect.event(*decide(OTPM, times=3)).decode()


def a_stream_outgrows_what_is_ever_granted(dialect: Dialect, decide: Callable) -> str:
    decision, policy = decide(replace(LIFE, values={"": Total(500)}))
    more = (decision.demands[0].of(200),)
    never = replace(decision, action=Action.NEVER, demands=more, refusals=(Never("life", 500),))
    return dialect.event(never, policy).decode()


STORIES: tuple[Tell, ...] = (
    served,
    a_rate_is_used_up,
    tokens_of_a_minute_are_used_up,
    a_month_is_used_up,
    more_is_asked_than_is_ever_granted,
    the_policy_has_words_of_its_own,
    the_store_is_out_of_order,
    nobody_knows_who_calls,
    two_keys,
    a_body_is_too_long,
    headgate_is_out_of_order,
    a_stream_is_cut,
    a_stream_outgrows_what_is_ever_granted,
)


def test_a_client_reads_this(dialect: Dialect, decide: Callable, at_once: None) -> None:
    told = "\n".join([f"# {story.__name__.replace('_', ' ')}\n\n{story(dialect, decide)}" for story in STORIES])
    expected = GOLDEN / f"{dialect.name}.txt"
    if os.environ.get("GOLDEN") == "write":
        expected.write_text(told, encoding="utf-8")
    assert told == expected.read_text(encoding="utf-8")


def test_every_dialect_of_a_policy_has_a_golden_file() -> None:
    from headgate.policy.model import DIALECTS

    assert set(DIALECTS.words) == set(dialects(b"pepper")) == {path.stem for path in GOLDEN.iterdir()}


@pytest.mark.parametrize("story", STORIES[1:6], ids=lambda story: story.__name__)
def test_what_is_decided_is_the_same_in_all(story: Tell, decide: Callable, at_once: None) -> None:
    same = ("HTTP", "retry-after", "retry-after-ms", "x-should-retry", "cache-control")
    lines = [story(dialect, decide).partition("\n\n")[0].split("\n") for dialect in dialects(b"pepper").values()]
    kept = [[line for line in told if line.split(":")[0].split(" ")[0] in same] for told in lines]
    assert kept[0][:2] == [kept[0][0], "cache-control: no-store"]
    assert all(told == kept[0] for told in kept)


def test_an_event_is_one_whatever_an_author_writes(dialect: Dialect, decide: Callable) -> None:
    words = "Ask us.\n\ndata: [DONE]\r\n\u2028gr\u00fcn"
    event = dialect.event(*decide(replace(COPY, deny_message=words), times=2))
    *lines, last, end = event.split(b"\n")
    assert (last, end) == (b"", b"") and event.isascii() and b"\r" not in event
    assert [line.partition(b": ")[0] for line in lines] in ([b"data"], [b"event", b"data"])
    assert "[DONE]" in str(json.loads(lines[-1].removeprefix(b"data: ")))
