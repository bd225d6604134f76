"""What a refused caller is told."""

from __future__ import annotations

import asyncio
from typing import Any

import http_sf
import pytest

from headgate.asgi.ratelimit_headers import RateLimitHeaders, merged
from headgate.asgi.replies import PATIENCE, wait_ms
from headgate.errors import StoreError
from headgate.policy.compiled import Clause
from headgate.quota.calendar import Calendar
from headgate.quota.gcra import Rate
from headgate.quota.identify import Identify
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS, Meter
from headgate.quota.window import Max, Rolling, Total

REQUESTS = BUILT_IN_METERS["requests"]


def read(value: str) -> dict[str, dict[str, Any]]:
    """A list of the draft as the reference parser for structured fields reads it."""
    return dict(http_sf.parse(value.encode(), tltype="list"))


def test_a_rate_that_is_used_up_is_a_429_that_says_which_and_when(stage, limits):
    app = stage.app(limits.rpm(3))
    *_, answer = [stage.ask(app) for _ in range(4)]
    assert answer.status == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json
    assert told["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert told["violated-policies"] == ["rpm"] and told["status"] == 429
    assert len(told["instance"]) == 32 and "rpm" in told["detail"]
    assert 20 <= int(answer.headers["retry-after"]) <= 22
    assert 20_000 <= int(answer.headers["retry-after-ms"]) <= 22_000
    assert "x-should-retry" not in answer.headers


def test_the_clause_of_the_terms_is_told(stage, limits):
    clauses = {"one": Clause("one", "One quota a customer", "https://acme.example/terms#1")}
    app = stage.app(limits.rpm(1, clause="one"), clauses=clauses)
    *_, answer = [stage.ask(app) for _ in range(2)]
    assert answer.json["clause"] == {
        "id": "one", "title": "One quota a customer", "url": "https://acme.example/terms#1",
    }  # fmt: skip


def test_a_wait_of_more_than_a_minute_is_not_for_a_client_to_sleep_through(stage):
    month = Limit("month", REQUESTS, ("org",), {"": Calendar(1, "month")})
    app = stage.app(month)
    *_, answer = [stage.ask(app) for _ in range(2)]
    assert int(answer.headers["retry-after"]) > PATIENCE
    assert answer.headers["x-should-retry"] == "false"


def test_what_can_never_be_granted_is_told_the_most_and_no_time(stage, limits):
    meter = Meter("rows", "app", reserve=20)
    answer = stage.ask(stage.app(limits.total("life", meter, 5)))
    assert answer.status == 429 and answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers and "retry-after-ms" not in answer.headers
    assert "at most 5 rows" in answer.json["detail"]
    assert "t" not in read(answer.headers["ratelimit"])["life"]


def test_a_limit_may_choose_its_own_status_and_words(stage, limits):
    app = stage.app(limits.rpm(1, deny_status=403, deny_message="Ask us for a copy."))
    *_, answer = [stage.ask(app) for _ in range(2)]
    assert answer.status == 403 and answer.json["status"] == 403
    assert answer.json["detail"] == "Ask us for a copy."
    assert answer.json["violated-policies"] == ["rpm"] and answer.headers["cache-control"] == "no-store"


def test_of_several_refusals_the_longest_decides_and_all_are_named(stage, limits):
    short = limits.rpm(1)
    long = Limit("hour", REQUESTS, ("key",), {"": Rate(1, 3_600_000_000)}, deny_message="hourly")
    app = stage.app(short, long)
    *_, answer = [stage.ask(app) for _ in range(2)]
    assert answer.json["violated-policies"] == ["rpm", "hour"]
    assert answer.json["detail"] == "hourly" and 3_600 <= int(answer.headers["retry-after"]) <= 3_960
    assert set(read(answer.headers["ratelimit"])) == {"rpm", "hour"}


def test_retry_after_is_never_early_stays_for_one_subject_and_spreads_over_many(stage, limits):
    app = stage.app(limits.rpm(1, per=("ip",)), identify=Identify(anonymous=""))
    waits = []
    for host in range(40):
        client = (f"192.0.2.{host}", 1)
        *_, first, second = [stage.ask(app, key=None, client=client) for _ in range(3)]
        assert first.headers["retry-after-ms"] == second.headers["retry-after-ms"]
        waits.append(int(first.headers["retry-after-ms"]))
        assert int(first.headers["retry-after"]) == -(-waits[-1] // 1_000)
    assert min(waits) >= 60_000 and max(waits) <= 66_000 and len(set(waits)) > 30


def test_who_waits_as_told_is_let_in(stage, limits):
    app = stage.app(limits.rpm(7))
    for _ in range(30):
        answer = stage.ask(app)
        if answer.status == 429:
            stage.clock.advance(microseconds=int(answer.headers["retry-after-ms"]) * 1_000)
            assert stage.ask(app).status == 200


def test_the_shortest_wait_is_a_second_in_whole_seconds(stage):
    fast = Limit("fast", REQUESTS, ("key",), {"": Rate(10, 1_000_000)})
    app = stage.app(fast)
    *_, answer = [stage.ask(app) for _ in range(11)]
    assert answer.headers["retry-after"] == "1" and 100 <= int(answer.headers["retry-after-ms"]) <= 110


def test_an_outage_is_a_503_and_never_a_429(stage, limits):
    gate = stage.gate(limits.rpm(3))

    async def transact(*_: object) -> None:
        raise StoreError("gone", transient=True)

    gate.store.transact = transact
    from headgate.asgi import HeadgateMiddleware

    waits = set()
    for _ in range(20):
        answer = stage.ask(HeadgateMiddleware(stage.origin, gate=gate))
        assert answer.status == 503 and answer.headers["cache-control"] == "no-store"
        assert answer.json["type"].endswith("#temporary-reduced-capacity") and len(answer.json["instance"]) == 32
        assert "ratelimit" not in answer.headers and 1 <= int(answer.headers["retry-after"]) <= 5
        waits.add(answer.headers["retry-after-ms"])
    assert len(waits) > 10


# --- RateLimit and RateLimit-Policy


def test_the_fields_are_what_the_draft_says(stage):
    units = (
        Limit("rpm", REQUESTS, ("key",), {"": Rate(60, 60_000_000, burst=10)}),
        Limit("week", BUILT_IN_METERS["bytes_out"], ("org",), {"": Rolling(1_000_000, 604_800_000_000)}),
        Limit("day", Meter("rows", "app"), ("key",), {"": Calendar(500, "day")}),
        Limit("slots", BUILT_IN_METERS["streams"], ("key",), {"": Max(8, 60_000_000)}),
        Limit("life", REQUESTS, ("org",), {"": Total(100)}),
    )
    answer = stage.ask(stage.app(*units))
    policy, current = read(answer.headers["ratelimit-policy"]), read(answer.headers["ratelimit"])
    keys = {name: parameters.pop("pk") for name, parameters in policy.items()}
    assert policy == {
        "rpm": {"q": 60, "w": 60},
        "week": {"q": 1_000_000, "w": 604_800, "qu": "content-bytes"},
        "day": {"q": 500, "w": 86_400, "qu": "rows"},
        "slots": {"q": 8, "qu": "concurrent-requests"},
        "life": {"q": 100},
    }
    assert all(isinstance(key, bytes) and len(key) == 9 for key in keys.values())
    assert keys["week"] == keys["life"] != keys["rpm"] == keys["slots"]
    assert current == {"rpm": {"r": 60, "t": 1, "pk": keys["rpm"]}}


def test_a_place_that_the_request_itself_takes_is_not_told_as_gone(stage):
    served = stage.ask(stage.app(Limit("slots", BUILT_IN_METERS["streams"], ("key",), {"": Max(1, 60_000_000)})))
    assert "slots" in served.headers["ratelimit-policy"] and "ratelimit" not in served.headers


def test_the_scarcest_limit_is_told_and_when_it_is_whole_again(stage, limits):
    app = stage.app(limits.rpm(3), Limit("hour", REQUESTS, ("key",), {"": Rate(100, 3_600_000_000)}))
    told = [read(stage.ask(app).headers["ratelimit"]) for _ in range(3)]
    assert [(t["rpm"]["r"], t["rpm"]["t"]) for t in told] == [(2, 20), (1, 40), (0, 60)]


def test_a_burst_is_not_told_as_if_it_came_every_minute(stage, limits):
    app = stage.app(Limit("rpm", REQUESTS, ("key",), {"": Rate(3, 60_000_000, burst=5)}))
    assert read(stage.ask(app).headers["ratelimit"])["rpm"]["r"] == 3


def test_a_refusal_tells_the_same_time_in_both_headers(stage, limits):
    app = stage.app(limits.rpm(1))
    *_, answer = [stage.ask(app) for _ in range(2)]
    told = read(answer.headers["ratelimit"])["rpm"]
    assert (told["r"], told["t"]) == (0, int(answer.headers["retry-after"]))


def test_a_limit_in_shadow_is_not_told(stage, limits):
    answer = stage.ask(stage.app(limits.rpm(1, shadow=True)))
    assert answer.status == 200 and "ratelimit" not in answer.headers and "ratelimit-policy" not in answer.headers


def test_two_orgs_that_share_a_subject_read_different_partition_keys(stage):
    shared = Limit("net", REQUESTS, ("ip",), {"": Rate(60, 60_000_000)})
    app = stage.app(shared)
    told = [read(stage.ask(app, key=key).headers["ratelimit"])["net"]["pk"] for key in ("alice", "bob", "carol")]
    assert told[0] == told[1] != told[2]


@pytest.mark.parametrize(
    ("behind", "told"),
    [
        (b'"rpm";r=2;t=9', b'"rpm";r=2;t=9'),
        (b'"rpm";r=9;t=9', b'"rpm";r=5;t=7'),
        (b'"own";r=1', b'"own";r=1, "rpm";r=5;t=7'),
        (b'"own";r=1, "rpm";r=9', b'"own";r=1, "rpm";r=5;t=7'),
        (b'"a,b;c";r=1;x="q,\\"r"', b'"a,b;c";r=1;x="q,\\"r", "rpm";r=5;t=7'),
        (b'"rpm"', b'"rpm"'),
    ],
)
def test_what_the_app_behind_has_told_is_never_made_laxer(behind, told):
    ours = [(b"ratelimit-policy", b'"rpm";q=9'), (b"ratelimit", b'"rpm";r=5;t=7')]
    headers = merged([(b"x", b"1"), (b"RateLimit", behind), (b"ratelimit-policy", b'"rpm";q=7')], ours)
    fields = dict(headers)
    assert fields[b"x"] == b"1" and fields[b"ratelimit"] == told
    ours_counts = b'"rpm";r=5;t=7' in told
    assert fields[b"ratelimit-policy"] == (b'"rpm";q=9' if ours_counts else b'"rpm";q=7')


def test_an_app_that_tells_limits_of_its_own_keeps_them(stage, limits):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"ratelimit", b'"own";r=1')]})
        await send({"type": "http.response.body"})

    told = read(stage.ask(stage.app(limits.rpm(3), behind=behind)).headers["ratelimit"])
    assert set(told) == {"own", "rpm"}


def test_what_is_kept_written_is_bounded(stage, limits, monkeypatch):
    monkeypatch.setattr("headgate.asgi.ratelimit_headers.KEPT", 10)
    monkeypatch.setattr("headgate.asgi.ratelimit_headers.KEPT_LINES", 10)
    app = stage.app(limits.rpm(1, per=("ip",)), identify=Identify(anonymous=""))
    for host in range(50):
        stage.ask(app, key=None, client=(f"192.0.2.{host}", 1))
    fields: RateLimitHeaders = app._entry.dialects["ietf"]
    assert len(fields._items) <= 10 and len(fields._lines) <= 10


# --- WebSockets


def socket(stage: Any, app: Any, messages: list[dict[str, Any]], **scope: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    told = [{"type": "websocket.connect"}, *messages]

    async def receive() -> dict[str, Any]:
        return told.pop(0) if told else {"type": "websocket.disconnect", "code": 1001}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = stage.scope(**scope)
    del given["method"]
    asyncio.run(app({**given, "type": "websocket", "subprotocols": []}, receive, send))
    return sent


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def test_a_websocket_is_denied_before_it_is_accepted(stage, limits):
    app = stage.app(limits.rpm(1), behind=echo)
    assert socket(stage, app, [])[0]["type"] == "websocket.accept"
    denied = socket(stage, app, [], extensions={"websocket.http.response": {}})
    assert denied[0]["type"] == "websocket.http.response.start" and denied[0]["status"] == 429
    assert b"quota-exceeded" in denied[1]["body"]


def test_a_server_that_cannot_deny_with_a_response_closes_for_a_policy_violation(stage, limits):
    app = stage.app(limits.rpm(1), behind=echo)
    socket(stage, app, [])
    assert socket(stage, app, []) == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    assert socket(stage, app, [], key=None)[0]["code"] == 1008


def test_bytes_of_a_websocket_are_counted_both_ways(stage, limits):
    app = stage.app(limits.total("in", "bytes_in"), limits.total("out", "bytes_out"), behind=echo)
    frames = [{"type": "websocket.receive", "text": "grün"}, {"type": "websocket.receive", "bytes": b"12345"}]
    socket(stage, app, frames)
    assert stage.balances(app._entry.gate) == {"in": (10, 0), "out": (10, 0)}


def test_the_wait_is_asked_only_of_refusals_that_end(stage, limits):
    app = stage.app(limits.total("life", "requests", 1))
    stage.ask(app)
    gate = app._entry.gate
    call = stage.hits[0]["state"]["headgate"].principal
    from headgate.quota.facts import Call

    decision = asyncio.run(gate.admit(Call(call)))
    assert decision.retry_at is None
    with pytest.raises(AssertionError):
        wait_ms(decision)
