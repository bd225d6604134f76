"""Every reply of the middleware is in the dialect of its route, whatever became of the request."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.policy.compiled import DIALECT
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS
from headgate.quota.window import Total

BY_ROUTE = (
    ("/v1/messages", "anthropic"),
    ("/v1/*", "openai"),
    ("/repos/*", "github"),
    ("/old/*", "legacy"),
    ("*", DIALECT),
)

PATHS = {
    "ietf": "/anything",
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "github": "/repos/acme/gate",
    "legacy": "/old/rows",
}

MEMBERS = {
    "ietf": {"type", "title", "status"},
    "openai": {"error"},
    "anthropic": {"type", "error", "request_id"},
    "github": {"message", "documentation_url", "status"},
    "legacy": {"type", "title", "status"},
}

HEADERS = {
    "ietf": "ratelimit",
    "openai": "x-ratelimit-remaining-requests",
    "anthropic": "anthropic-ratelimit-requests-remaining",
    "github": "x-ratelimit-used",
    "legacy": "x-ratelimit-remaining",
}

every = pytest.mark.parametrize("name", sorted(PATHS))


def said(answer: Any, name: str) -> Any:
    """The body, which must have this dialect's form."""
    assert MEMBERS[name] <= answer.json.keys(), answer.json
    plain = name in {"ietf", "legacy"}
    assert answer.headers["content-type"] == ("application/problem+json" if plain else "application/json")
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["cache-control"] == "no-store"
    return answer.json


@every
def test_what_is_served_and_what_is_refused(stage: Any, limits: Any, name: str) -> None:
    app = stage.app(limits.rpm(2), dialects=BY_ROUTE)
    served, _, refused = [stage.ask(app, PATHS[name]) for _ in range(3)]
    assert HEADERS[name] in served.headers and HEADERS[name] in refused.headers
    others = {header for dialect, header in HEADERS.items() if dialect != name}
    if name == "github":
        others.discard(HEADERS["legacy"])
    assert not others & served.headers.keys() and not others & refused.headers.keys()
    assert refused.status == 429 and "rpm" in json.dumps(said(refused, name))


@every
def test_who_is_not_known_and_who_sends_two_keys(stage: Any, limits: Any, name: str) -> None:
    app = stage.app(limits.rpm(2), dialects=BY_ROUTE)
    nobody = stage.ask(app, PATHS[name], key="mallory")
    assert nobody.status == 401 and "www-authenticate" in nobody.headers
    said(nobody, name)
    assert said(stage.ask(app, PATHS[name], key=None), name) == nobody.json
    both = [(b"authorization", b"Bearer bob")]
    two = stage.ask(app, PATHS[name], headers=both)
    assert two.status == 400
    said(two, name)


@every
def test_an_outage_of_the_store_and_a_fault_of_our_own(stage: Any, limits: Any, name: str) -> None:
    app = stage.app(limits.rpm(2), dialects=BY_ROUTE)
    gate = app._entry.gate

    async def gone(*_: object) -> None:
        raise StoreError("gone", transient=True)

    async def odd(*_: object) -> None:
        raise RuntimeError("odd")

    for fault in (gone, odd):
        gate.store.transact = fault
        answer = stage.ask(app, PATHS[name])
        assert answer.status == 503 and 1 <= int(answer.headers["retry-after"]) <= 5
        said(answer, name)


def test_headgate_s_own_pages_speak_the_dialect_of_their_path(stage: Any, limits: Any) -> None:
    app = stage.app(limits.rpm(2), dialects=(("/headgate/*", "openai"), ("*", DIALECT)))
    assert said(stage.ask(app, "/headgate/v1/nothing"), "openai")["error"]["type"] == "invalid_request_error"
    assert stage.ask(app, "/headgate/v1/usage").json["key"] == "k_alice", "what is no refusal is the same in all"


def test_a_websocket_is_denied_in_the_dialect_of_its_route(stage: Any, limits: Any) -> None:
    app = stage.app(limits.rpm(1), dialects=BY_ROUTE)
    stage.ask(app, "/v1/realtime")
    scope = {"type": "websocket", "extensions": {"websocket.http.response": {}}}
    denied = stage.ask(app, "/v1/realtime", **scope)
    assert denied.status == 429 and denied.json["error"]["code"] == "rate_limit_exceeded"


def test_an_app_that_tells_a_stricter_limit_of_its_own_keeps_it(stage: Any, limits: Any) -> None:
    async def provider(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"X-RateLimit-Remaining-Requests", b"1"), (b"X-RateLimit-Limit-Requests", b"9")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    headers = stage.ask(stage.app(limits.rpm(5), behind=provider, dialects=(("*", "openai"),))).headers
    told = {name.lower(): value for name, value in headers.items()}
    assert told["x-ratelimit-remaining-requests"] == "1" and told["x-ratelimit-limit-requests"] == "9"


def test_a_stream_that_is_cut_ends_with_the_event_of_its_dialect(stage: Any) -> None:
    async def talks(scope: Any, receive: Any, send: Any) -> None:
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for number in range(200):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: end\n\n"})

    out = replace(BUILT_IN_METERS["bytes_out"], overrun="cut", reserve=100)
    app = stage.app(Limit("out", out, ("key",), {"": Total(500)}), behind=talks, dialects=BY_ROUTE)
    body = stage.ask(app, PATHS["anthropic"]).body
    assert b"end" not in body
    *_, event, after = body.split(b"\n\n")
    name, data = event.split(b"\n")
    assert (name, after) == (b"event: error", b"") and data.startswith(b"data: ")
    told = json.loads(data[6:])
    assert told["error"]["type"] == "rate_limit_error" and told["error"]["violated-policies"] == ["out"]
