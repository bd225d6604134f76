"""Bytes on a socket to a real uvicorn, with both of its parsers. Each test is a case of the bypass corpus."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import threading
import time
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from headgate.asgi import charge

PATIENCE = 30.0

A, B = b"A" * 20, b"B" * 20

P10 = """
identify: {key: [header.authorization.bearer, header.x-api-key], anonymous: refuse}
limits: {key: {meter: requests, per: key, rate: 10/min}}
"""
IP10 = """
identify: {key: [header.x-api-key], anonymous: {per: ip}, unknown_key: anonymous}
limits: {net: {meter: requests, per: ip, rate: 10/min}}
"""
BEHIND = """
identify:
  key: [header.x-api-key]
  anonymous: {per: ip}
  unknown_key: anonymous
  trust: {proxies: [127.0.0.1/32], header: x-forwarded-for}
limits: {net: {meter: requests, per: ip, rate: 10/min}}
"""
PATH = """
identify: {key: [header.x-api-key], anonymous: {per: ip}}
limits:
  items: {meter: requests, per: ip, rate: 10/min, when: {route: /v1/items}}
  all:   {meter: requests, per: ip, rate: 100/min}
"""


def test_id_01_an_address_header_of_a_peer_that_is_not_trusted_is_not_read(house, serve):
    line = serve(house.behind(IP10))
    statuses = [line.ask(b"/", b"X-Forwarded-For: 198.51.100.%d" % n) for n in range(50)]
    assert house.origin.hits == statuses.count(200) == 10
    assert house.subjects("net") == 1


def test_id_02_the_first_address_from_the_right_that_is_no_proxy_is_charged(house, serve):
    line = serve(house.behind(BEHIND))
    for n in range(50):
        line.ask(b"/", b"X-Forwarded-For: 203.0.113.%d, 198.51.100.7" % n)
    assert house.origin.hits == 10 and house.subjects("net") == 1
    assert line.ask(b"/", b"X-Forwarded-For: 198.51.100.8") == 200


ODD = [b"evil", b"../x", b"a:b", b"9" * 10_000, b"", b'"unknown"']


@pytest.mark.parametrize("policy", [IP10, BEHIND])
def test_id_04_what_is_no_address_is_never_a_subject(house, serve, policy):
    line = serve(house.behind(policy), proxy_headers=True)
    for value in ODD * 5:
        line.ask(b"/", b"X-Forwarded-For: " + value)
    assert house.origin.hits <= 10 * house.subjects("net") and house.subjects("net") <= 2
    stored = repr(house.gate.store._balances).encode()
    assert not any(value and value in stored for value in (b"evil", b"../x", b"a:b", b"9" * 100, b"unknown"))


def test_id_05_only_the_header_that_is_configured_is_read(house, serve):
    line = serve(house.behind(BEHIND))
    names = (b"Forwarded: for=198.51.100.%d", b"X-Real-IP: 198.51.100.%d", b"CF-Connecting-IP: 198.51.100.%d",
             b"True-Client-IP: 198.51.100.%d", b"X-Client-IP: 198.51.100.%d")  # fmt: skip
    for n in range(50):
        line.ask(b"/", names[n % 5] % n)
    assert house.origin.hits == 10 and house.subjects("net") == 1


def test_id_07_a_connection_header_strips_no_identity(house, serve):
    line = serve(house.behind(P10))
    asked = [line.ask(b"/", b"Connection: close, X-Forwarded-For, X-Api-Key", b"X-Api-Key: " + A) for _ in range(15)]
    assert asked.count(200) == house.origin.hits == 10 and set(asked) <= {200, 429}
    assert line.ask(b"/", b"Connection: X-Api-Key") == 401


def test_id_14_two_different_keys_are_refused_in_either_order(house, serve):
    line = serve(house.behind(P10))
    for _ in range(11):
        line.ask(b"/", b"Authorization: Bearer " + A)
    for first, second in ((A, B), (B, A)):
        assert line.ask(b"/", b"Authorization: Bearer " + first, b"Authorization: Bearer " + second) == 400
        assert line.ask(b"/", b"Authorization: Bearer " + first, b"X-Api-Key: " + second) == 400
    assert house.origin.hits == 10 and house.subjects("key") == 1


def test_id_16_every_spelling_of_bearer_is_one_subject(house, serve):
    line = serve(house.behind(P10))
    spellings = [
        b"bearer " + A,
        b"BEARER " + A,
        b"Bearer\t" + A,
        b"Bearer  " + A,
        b"Bearer " + A + b"  ",
        b"bEaReR " + A,
    ]
    statuses = [line.ask(b"/", b"Authorization: " + spelling) for spelling in spellings * 4]
    assert set(statuses) <= {200, 401, 429} and statuses.count(200) == house.origin.hits == 10
    assert house.subjects("key") == 1


def test_id_19_odd_bytes_in_a_key_are_nobodys(house, serve):
    house.keys.clear()
    line = serve(house.behind(P10))
    for odd in (b"a\x00b", b"a\xffb", b"a\tb", b"a\x7fb", b"k\xe9y", b"a\r\n b", b"a\r\n\tb", b"x" * 5_000):
        assert line.ask(b"/", b"X-Api-Key: " + odd) in {0, 400, 401, 431}
    assert house.origin.hits == 0 and house.subjects("key") == 0


@pytest.mark.parametrize(
    "target", [b"/v1/x/../items", b"/v1/./items", b"/v1/%2e%2e/v1/items", b"/v1//items", b"/%76%31/items"]
)
def test_rt_03_dot_segments_are_charged_as_what_they_lead_to(house, serve, target):
    line = serve(house.behind(PATH))
    asked = [line.ask(target) for _ in range(25)]
    assert asked.count(200) == house.origin.hits == 10


@pytest.mark.parametrize("target", [b"/v1/items%00", b"/v1/%ff", b"/v1\\items", b"/v1/items;x=1", b"/v1/items%23x"])
def test_rt_05_odd_characters_in_a_path_raise_nothing_and_are_charged(house, serve, target):
    line = serve(house.behind(PATH))
    asked = [line.ask(target) for _ in range(105)]
    assert set(asked) <= {200, 400, 429, 0} and house.origin.hits == asked.count(200)
    assert house.origin.hits <= (100 if target == b"/v1/%ff" else 10)


@pytest.mark.parametrize("host", [b"x/health?", b"x/v1/free#", b"x/../free?", b"[::1]/free?"])
def test_rt_08_a_host_header_chooses_no_policy(house, serve, host):
    """CVE-2026-48710: `request.url.path` is what such a Host makes of it."""

    async def items(request: Request) -> PlainTextResponse:
        house.origin.hits += 1
        return PlainTextResponse("items")

    line = serve(house.behind(PATH, Starlette(routes=[Route("/v1/items", items)])))
    asked = [line.ask(b"/v1/items", host=host) for _ in range(15)]
    assert house.origin.hits == asked.count(200) <= 10 and set(asked) <= {200, 400, 429}


def test_rt_11_head_counts_as_get_and_no_method_is_without_a_limit(house, serve):
    policy = PATH.replace("when: {route: /v1/items}", "when: {route: /v1/items, method: GET}")
    line = serve(house.behind(policy))
    counts: dict[bytes, int] = {}
    for method in (b"HEAD", b"OPTIONS", b"get", b"FOO"):
        before = house.origin.hits
        asked = [line.ask(b"/v1/items", method=method) for _ in range(50)]
        counts[method] = house.origin.hits - before
        assert set(asked) <= {200, 400, 429}
    assert counts[b"HEAD"] == 10 and counts[b"get"] == 0  # HEAD has used up what GET may, and `get` is GET
    assert house.origin.hits <= 100 and house.used("all") == house.origin.hits


def test_rt_14_pipelined_requests_are_decided_one_by_one_and_answered_in_order(house, serve):
    line = serve(house.behind(P10))
    one = b"GET /%d HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + A + b"\r\n\r\n"
    heard = line.say(b"".join(one.replace(b"%d", b"%d" % n) for n in range(50)), answers=50)
    statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", heard)]
    assert house.origin.hits == 10 and statuses[:10] == [200] * 10 and set(statuses[10:]) <= {429}
    assert house.origin.paths == [f"/{n}" for n in range(10)]


def test_rt_17_exactly_the_bytes_that_the_app_reads_are_charged(house, serve):
    policy = """
identify: {key: [header.x-api-key], anonymous: {per: ip}}
limits: {bytes: {meter: bytes_in, per: ip, total: 1000}, all: {meter: requests, per: ip, rate: 100/min}}
"""
    line = serve(house.behind(policy))
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (300, b"a" * 300)
    asked = line.ask(b"/", b"Content-Length: 4", b"Transfer-Encoding: chunked", method=b"POST", body=chunk + smuggled)
    assert asked in {0, 200, 400}
    assert house.used("bytes") == house.origin.read in {0, 300}
    assert house.used("all") == house.origin.hits


def test_random_bytes_on_a_socket_end_no_server(house, serve):
    line = serve(house.behind(P10))
    dice = random.Random(7)
    for _ in range(30):
        line.say(bytes(dice.randrange(256) for _ in range(dice.randrange(400))) + b"\r\n\r\n")
    assert line.ask(b"/", b"X-Api-Key: " + A) == 200 and house.origin.hits == 1


def test_se_07_raw_no_key_and_an_unknown_key_are_answered_alike(house, serve):
    line = serve(house.behind(P10), date_header=False, server_header=False)
    ask = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    answers: set[Any] = {line.say(ask + header + b"\r\n") for header in (b"", b"X-Api-Key: nobody\r\n")}
    assert len(answers) == 1 and b" 401 " in answers.pop()


def test_p18_a_client_gone_at_any_chunk_of_a_stream_is_charged_for_it_and_holds_nothing(house, serve):
    policy = """
identify: {key: [header.x-api-key], anonymous: refuse}
meters: {tokens: {from: app, reserve: 50, max: 50}}
limits: {tokens: {meter: tokens, per: key, total: 1M}, slots: {meter: streams, per: key, max: 2, lease: 1h}}
"""
    went: list[int] = []

    async def stream(request: Request) -> StreamingResponse:
        async def parts() -> Any:
            sent = 0
            try:
                for _ in range(40):
                    charge(request, tokens=1)
                    sent += 1
                    yield b"t" * 1_000
                    await asyncio.sleep(0.001)
            finally:
                went.append(sent)

        return StreamingResponse(parts())

    line = serve(house.behind(policy, Starlette(routes=[Route("/", stream)])))
    ask = b"GET / HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + A + b"\r\n\r\n"
    for chunks in range(0, 40, 5):
        with socket.create_connection(("127.0.0.1", line.port), timeout=PATIENCE) as client:
            client.sendall(ask)
            heard = 0
            while heard < chunks * 1_000 + 1:
                heard += len(client.recv(1_000))
        until = time.monotonic() + PATIENCE
        while (len(went) <= chunks // 5 or house.held()) and time.monotonic() < until:
            threading.Event().wait(0.001)
    assert len(went) == 8 and not house.held() and house.used("tokens") == sum(went)
    assert min(went) < 40
