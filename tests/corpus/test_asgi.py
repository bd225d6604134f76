"""Cases of the bypass corpus that are called in process."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from headgate.asgi import charge
from headgate.directory import Callback
from headgate.quota.facts import Principal

A, B = b"A" * 20, b"B" * 20
KEY_A, KEY_B = (b"x-api-key", A), (b"x-api-key", B)

P10 = """
identify: {key: [header.authorization.bearer, header.x-api-key], anonymous: refuse}
limits: {key: {meter: requests, per: key, rate: 10/min}}
"""
IP10 = """
identify: {key: [header.x-api-key], anonymous: {per: ip}, unknown_key: anonymous}
limits: {net: {meter: requests, per: ip, rate: 10/min}}
"""
PATH = """
identify: {key: [header.x-api-key], anonymous: {per: ip}}
limits:
  items: {meter: requests, per: ip, rate: 10/min, when: {route: /v1/items}}
  all:   {meter: requests, per: ip, rate: 100/min}
"""
ORG15 = """
identify: {key: [header.x-api-key], anonymous: refuse}
limits: {org: {meter: requests, per: org, rate: 15/min}, key: {meter: requests, per: key, rate: 10/min}}
"""
R100 = """
identify: {key: [header.x-api-key], anonymous: refuse}
meters: {records: {from: app}}
limits: {records: {meter: records, per: key, rate: 100/min}}
"""
T1K = """
identify: {key: [header.x-api-key], anonymous: refuse}
meters: {tokens: {from: app, reserve: body.max_tokens, reserve_default: 400, max: 400}}
limits: {tokens: {meter: tokens, per: key, rate: 1000/min}}
"""


def test_id_08_a_whole_64_is_one_caller(house):
    app = house.behind(IP10)
    asked = [house.call(app, client=(f"2001:db8:0:1:{n:x}::{n:x}", 1))[0] for n in range(200)]
    assert asked.count(200) == house.origin.hits == 10


def test_id_10_mapped_ipv4_addresses_are_callers_of_their_own(house):
    app = house.behind(IP10)
    for host in range(1, 11):
        assert house.statuses(app, 11, client=(f"::ffff:192.0.2.{host}", 1)).count(200) == 10
    assert house.origin.hits == 100


def test_id_11_every_spelling_of_an_address_is_one_subject(house):
    app = house.behind(IP10)
    spellings = [
        "2001:DB8::1", "2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1%eth0", "2001:db8::0.0.0.1",
        "[2001:db8::1]:443", "2001:db8:0::1",
    ]  # fmt: skip
    for spelling in spellings * 5:
        house.call(app, client=(spelling, 1))
    assert house.origin.hits == 10 and house.subjects("net") == 1
    for spelling in ("64:ff9b::192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"):
        house.statuses(app, 10, client=(spelling, 1))
    assert house.origin.hits == 20 and house.subjects("net") == 2


@pytest.mark.parametrize("client", [None, ("", 0), ("/run/app.sock", 0)])
def test_id_13_callers_without_a_peer_share_one_subject(house, client):
    app = house.behind(IP10)
    assert house.statuses(app, 50, client=client).count(200) == 10 and house.subjects("net") == 1


def test_id_17_one_secret_through_several_carriers_is_one_key(house):
    app = house.behind(P10)
    basic = b"Basic " + urlsafe_b64encode(A + b":")
    carriers = [KEY_A, (b"authorization", b"Bearer " + A), (b"authorization", basic)]
    asked = [house.call(app, headers=[carrier])[0] for carrier in carriers * 10]
    assert asked.count(200) == house.origin.hits == 10 and asked[2::3] == [401] * 10


@pytest.mark.parametrize(
    "header",
    [(b"authorization", b""), (b"authorization", b"Bearer"), (b"authorization", b"Bearer "), (b"x-api-key", b"")],
)
def test_id_20_an_empty_credential_is_no_credential(house, header):
    assert house.call(house.behind(P10), headers=[header])[0] == 401
    pool = P10.replace("anonymous: refuse", "anonymous: {per: ip}")
    app = house.behind(pool)
    assert house.statuses(app, 11, headers=[header], client=("192.0.2.1", 1)).count(200) == 10
    assert house.call(app, headers=[header], client=("192.0.2.2", 1))[0] == 200


def test_id_22_unknown_keys_give_no_fresh_quota_and_fill_no_table(house):
    app = house.behind(IP10.replace("10/min", "5/min"))
    for n in range(1_000):
        house.call(app, headers=[(b"x-api-key", b"unknown-%d" % n)])
    assert house.origin.hits == 5 and house.subjects("net") == 1


def token(claims: dict[str, Any], *, key: bytes = b"signing key", alg: str = "HS256") -> bytes:
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": alg}, claims)]
    signature = hmac.digest(key, b".".join(parts), "sha256") if alg == "HS256" else b""
    return b".".join([*parts, urlsafe_b64encode(signature).rstrip(b"=")])


def resolve(secret: str) -> dict[str, str] | None:
    """An app's own lookup: the token is verified before a word of it is believed."""
    from base64 import urlsafe_b64decode

    body = secret.split(".")[1]
    claims = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return {"key": claims["sub"], "org": "o"} if secret.encode() == token(claims) else None


def test_id_23_a_token_that_was_not_verified_charges_nobody(house):
    app = house.behind(P10, directory=Callback(resolve, [b"a pepper of tests"]))
    victim = token({"sub": "victim"})
    assert house.call(app, headers=[(b"x-api-key", victim)])[0] == 200
    forged = [
        token({"sub": "victim"}, alg="none"), token({"sub": "victim"}, key=b"another"),
        victim.rpartition(b".")[0] + b".",
        token({"sub": "other"}).rpartition(b".")[0] + b"." + victim.rpartition(b".")[2],
    ]  # fmt: skip
    assert {house.call(app, headers=[(b"x-api-key", one)])[0] for one in forged} == {401}
    assert house.used("key") == 1 and house.origin.hits == 1


def test_id_25_new_keys_give_an_org_no_new_quota(house):
    app = house.behind(ORG15)
    for n in range(20):
        house.keys[b"rotated-%020d" % n] = Principal(f"k_{n}", "org_a")
        house.statuses(app, 10, headers=[(b"x-api-key", b"rotated-%020d" % n)])
    assert house.origin.hits == 15 and house.used("org") == 15


def items(house: Any) -> Any:
    async def page(request: Request) -> PlainTextResponse:
        house.origin.hits += 1
        return PlainTextResponse("items")

    return page


def test_rt_02_a_redirect_for_a_slash_is_charged_like_any_request(house):
    app = house.behind(PATH, Starlette(routes=[Route("/v1/items", items(house))]))
    asked = house.statuses(app, 110, "/v1/items/")
    assert asked.count(307) <= 10 and set(asked) == {307, 429} and house.used("all") == asked.count(307)
    assert house.call(app, "/v1/items")[0] == 429 and house.origin.hits == 0


def test_rt_06_a_router_that_takes_no_notice_of_case_is_asked_what_it_matched(house):
    class AnyCase(Route):
        def matches(self, scope: Any) -> Any:
            return super().matches({**scope, "path": scope["path"].lower()})

    app = house.behind(PATH, Starlette(routes=[AnyCase("/v1/items", items(house))]))
    for path in ("/V1/ITEMS", "/v1/Items", "/v1/items"):
        house.statuses(app, 10, path)
    assert house.origin.hits == 10


def test_rt_09_a_limit_holds_through_every_mount(house):
    sub = Starlette(routes=[Route("/v1/items", items(house))])
    app = house.behind(PATH, sub)
    site = Starlette(routes=[Mount("/api", app), Mount("/", app)])
    forged = [(b"x-forwarded-prefix", b"/elsewhere")]
    for path, root in (
        ("/api/v1/items", ""),
        ("/v1/items", ""),
        ("/pre/v1/items", "/pre"),
        ("/pre/api/v1/items", "/pre"),
    ):
        house.statuses(site, 10, path, root_path=root, headers=forged)
    assert house.origin.hits == 10


def test_rt_12_an_override_that_is_applied_before_the_middleware_is_what_is_charged(house):
    policy = PATH.replace("when: {route: /v1/items}", "when: {route: /v1/items, method: [GET, DELETE]}")
    behind = house.behind(policy)

    async def override(scope: Any, receive: Any, send: Any) -> None:
        told = dict(scope["headers"]).get(b"x-http-method-override")
        await behind({**scope, "method": told.decode()} if told else scope, receive, send)

    for method in (b"GET", b"DELETE"):
        house.statuses(override, 10, "/v1/items", method="POST", headers=[(b"x-http-method-override", method)])
    assert house.origin.hits == 10


def test_rt_18_a_batch_is_charged_by_what_it_holds(house):
    async def batch(request: Request) -> Response:
        calls = await request.json()
        charge(request, records=len(calls))
        return Response()

    app = house.behind(R100, Starlette(routes=[Route("/rpc", batch, methods=["POST"])]))
    body = [json.dumps([{"method": "x"}] * 100).encode()]
    asked = [house.call(app, "/rpc", method="POST", headers=[KEY_A], body=body)[0] for _ in range(2)]
    assert asked == [200, 429] and house.used("records") == 100


def test_rt_20_what_is_sent_is_charged_also_of_redirects_and_parts(house):
    policy = """
identify: {key: [header.x-api-key], anonymous: refuse}
limits: {bytes: {meter: bytes_out, per: key, rolling: 1000/min}, all: {meter: requests, per: key, rate: 200/min}}
"""
    sent = 0

    async def page(request: Request) -> Response:
        nonlocal sent
        if request.url.path == "/moved":
            return RedirectResponse("/page")
        if "if-none-match" in request.headers:
            return Response(status_code=304)
        part = b"x" * (50 if "range" in request.headers else 100)
        sent += len(part)
        return Response(part, 206 if "range" in request.headers else 200)

    app = house.behind(policy, Starlette(routes=[Route("/page", page), Route("/moved", page)]))
    for path, header in (
        ("/page", (b"if-none-match", b"x")),
        ("/moved", (b"a", b"b")),
        ("/page", (b"range", b"bytes=0-")),
    ):
        house.statuses(app, 50, path, headers=[KEY_A, header])
    assert sent == house.used("bytes") == 1000 and house.used("all") == 50 + 50 + 20


def test_rt_21_a_route_that_no_limit_names_still_meets_the_limit_of_all(house):
    app = house.behind(PATH)
    assert house.statuses(app, 101, "/new-route").count(200) == 100


@pytest.mark.parametrize(
    ("body", "holds"),
    [(b"{}", 400), (b'{"max_tokens": 100}', 100), (b'{"max_tokens": 1000000000000000000}', 400),
     (b'{"max_tokens": -1}', 400), (b'{"max_tokens": 1e2}', 400), (b'{"max_tokens": true}', 400),
     (b'{"max_tokens": 9999}', 400)],
)  # fmt: skip
def test_co_08_an_absurd_announcement_holds_the_most_that_one_request_may_use(house, body, holds):
    held: list[int] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        decision = scope["state"]["headgate"]
        held.extend(demand.amount for demand in decision.demands)
        await house.origin(scope, receive, send)

    app = house.behind(T1K, look)
    assert house.call(app, "/v1", method="POST", headers=[KEY_A], body=[body])[0] == 200
    assert held == [holds]


def test_co_12_work_that_failed_is_charged(house):
    class Own(Exception):
        pass

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        house.origin.hits += 1
        if scope["path"] == "/raise":
            raise Own
        await send({"type": "http.response.start", "status": 422, "headers": []})
        await send({"type": "http.response.body"})

    app = house.behind(P10, failing)
    for n in range(50):
        with suppress(Own):
            house.call(app, "/raise" if n % 2 else "/422", headers=[KEY_A])
    assert house.origin.hits == 10


def test_at_07_a_client_that_leaves_before_the_last_chunk_is_charged_what_it_got(house):
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(20):
            charge(scope, tokens=1)
            await send({"type": "http.response.body", "body": b"t", "more_body": True})
        await send({"type": "http.response.body", "body": b"usage: 20"})

    app = house.behind(T1K, answer)

    async def empty() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def leaving() -> int:
        got = 0

        async def send(message: Any) -> None:
            nonlocal got
            if message.get("body", b"").startswith(b"usage"):
                raise OSError("gone")
            got += len(message.get("body", b""))

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [KEY_A], "client": ("192.0.2.1", 1)}
        with suppress(OSError):
            await app(scope, empty, send)
        return got

    assert sum(asyncio.run(leaving()) for _ in range(20)) == house.used("tokens") == 400


def test_at_11_a_clients_request_id_is_no_reservation_id(house):
    app = house.behind(P10)
    asked = house.statuses(app, 50, headers=[KEY_A, (b"x-request-id", b"same"), (b"idempotency-key", b"same")])
    assert asked.count(200) == house.origin.hits == house.used("key") == 10


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Events as a host's log shows them, from `debug` on."""
    told: list[str] = []

    class Into(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    logger, handler = logging.getLogger("headgate"), Into()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield told
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_se_05_nothing_from_outside_forges_or_fills_a_line_of_the_log(house, lines):
    app = house.behind(IP10)
    odd = ['/a\r\n{"event": "forged"}', "/\x1b[2J", '/"},{"', "/\u2028", "/" + "x" * 1_000_000]
    for path in odd * 3:
        house.call(app, path, headers=[(b"user-agent", b"u" * 1_000_000), (b"x-api-key", b"evil\r\nkey")])
    assert len(lines) >= 15
    for line in lines:
        assert "\n" not in line and "\r" not in line and "\x1b" not in line and "\u2028" not in line
        assert len(line) < 20_000 and json.loads(line)["event"].startswith("headgate.")


def test_se_07_before_it_is_known_who_asks_all_are_answered_alike(house):
    app = house.behind(ORG15)
    house.statuses(app, 20, headers=[KEY_A])
    unknown = [
        house.call(app, headers=headers) for headers in ([], [(b"x-api-key", b"nobody")], [(b"x-api-key", b" ")])
    ]
    assert unknown[0] == unknown[1] == unknown[2] and unknown[0][0] == 401
    assert b"ratelimit" not in unknown[0][1]


def test_se_08_a_caller_reads_nothing_of_others(house):
    """Both orgs are one customer and share a budget; neither is told that, nor who the other is."""
    policy = """
identify: {key: [header.x-api-key], anonymous: refuse}
limits: {month: {meter: requests, per: group, quota: 10/month}}
linking: {affiliated: [{orgs: [org_a, org_b], reason: one owner, until: 2036-12-31}]}
"""
    app = house.behind(policy)
    told = [house.call(app, path, headers=[key]) for path in ("/", "/headgate/v1/usage") for key in (KEY_A, KEY_B)]
    keys = [headers[b"ratelimit"].partition(b"pk=")[2] for _, headers, _ in told[:2]]
    assert keys[0] != keys[1]
    for (_, headers, body), other in zip(told, (b"org_b", b"org_a") * 2, strict=True):
        assert other not in body and other not in b"".join(headers.values()) and b"group-" not in body
    house.statuses(app, 20, headers=[KEY_A])
    refusal = house.call(app, headers=[KEY_B])
    assert refusal[0] == 429 and b"org_a" not in refusal[2] and b"k_a" not in refusal[2]


PLACES = ["directory", "store", "clock", "condition", "headers"]


@pytest.mark.parametrize("place", PLACES)
def test_se_17_a_crash_inside_is_a_503_and_never_an_open_door(house, place, monkeypatch):
    def crash(*_: object, **__: object) -> Any:
        raise ZeroDivisionError("secret-canary")

    app = house.behind(PATH if place == "condition" else P10)
    assert house.gate is not None
    if place == "directory":
        monkeypatch.setattr(house.gate.directory, "known", crash)
    elif place == "store":
        monkeypatch.setattr(house.gate.store, "transact", crash)
    elif place == "clock":
        house.gate.clock = crash
    elif place == "condition":
        monkeypatch.setattr("headgate.asgi.identify.paths_of", crash)
    else:
        monkeypatch.setattr("headgate.asgi.middleware.Metered", crash)
    status, headers, body = house.call(app, "/v1/items", headers=[KEY_A])
    assert status == 503 and b"retry-after" in headers and house.origin.hits == 0
    assert b"canary" not in body and b"ZeroDivision" not in body
