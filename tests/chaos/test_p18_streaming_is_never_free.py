"""P18: streaming is never free. A client that is gone after any chunk is charged for what was sent to it, to within
one chunk, and a second later nothing is held for it; whatever wraps the app. A worker that is killed costs what it
held. (Reading a stream's own report is in tests/sdk/test_usage.py.)"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from chaos.house import house, secret_of
from chaos.server import served
from sdk.line import PATIENCE, WITHIN, Line, serving
from sdk.upstream import WORD

CHUNKS = 40
HELD = 60
"""Tokens that are held for a stream: more than it has."""

NEAR = 1
"""A chunk, which is a token here: what may lie between what was sent and what is charged."""


def policy(preset: str = "openai-usage", reserve: int = HELD) -> str:
    return f"""
meters:
  usage:         {{preset: {preset}}}
  input_tokens:  {{reserve: 50}}
  output_tokens: {{reserve: {reserve}}}
limits:
  output: {{meter: output_tokens, per: org, total: 100M}}
  month:  {{meter: output_tokens, per: group, quota: 100M/month}}
  open:   {{meter: streams, per: key, max: 4, lease: 10min}}
"""


PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}


def call(line: Line, path: str, k: int, *, rudely: bool = False, headers: bytes = b"") -> None:
    """Ask for a stream, read k chunks of it, and be gone. `rudely`: by a reset, not by an end."""
    body = json.dumps({"model": "m", "stream": True, "messages": [], "input": ""}).encode()
    with socket.create_connection(("127.0.0.1", line.port), timeout=PATIENCE) as client:
        client.sendall(
            b"POST %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-acme\r\ncontent-type: application/json\r\n"
            b"%scontent-length: %d\r\n\r\n%s" % (path.encode(), headers, len(body), body)
        )
        heard = b""
        while heard.count(b'"%s"' % WORD.encode()) < k or b"data: " not in heard:
            part = client.recv(65_536)
            assert part, f"it ended after {heard!r}"
            heard += part
        assert heard.startswith(b"HTTP/1.1 200")
        if rudely:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def left_after_every_chunk(line: Line, path: str, *, running: bool = False, **how: Any) -> None:
    """One client after the other leaves, after 0 chunks to all of them; each is charged for what it was sent."""
    before = 0
    for k in range(CHUNKS + 1):
        line.upstream.plays(stall=k, running=running)
        call(line, path, k, **how)
        used = line.used()
        sent = line.upstream.last.sent
        assert line.upstream.last.over and sent == k
        assert abs(used["output"] - before - sent) <= NEAR, f"gone after {k}: {used['output'] - before} are charged"
        assert used["month"] == used["output"] and used["open"] == 0
        before = used["output"]
    assert abs(before - sum(range(CHUNKS + 1))) <= NEAR * (CHUNKS + 1)
    assert sorted(line.waited)[len(line.waited) // 2] <= WITHIN


@pytest.fixture(params=["memory", "sqlite", "redis", pytest.param("cluster", marks=pytest.mark.chaos)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger of each kind, empty."""
    if request.param in {"redis", "cluster"}:
        return str(request.getfixturevalue("valkey" if request.param == "redis" else "cluster").url)
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_p18_a_client_gone_after_any_chunk_is_charged_for_what_was_sent(
    tmp_path: Path, store: str, parser: str
) -> None:
    with serving(policy(), tmp_path / "policy.yaml", store, http=parser) as line:
        left_after_every_chunk(line, PATHS["chat"], rudely=parser == "h11")


@pytest.mark.parametrize("api", ["chat that reports as it goes", "responses", "messages"])
def test_p18_so_is_the_client_of_another_api(tmp_path: Path, api: str) -> None:
    preset = "anthropic-usage" if api == "messages" else "openai-usage"
    with serving(policy(preset), tmp_path / "policy.yaml") as line:
        left_after_every_chunk(line, PATHS[api.partition(" ")[0]], running=api.startswith("chat"))


class Passing(BaseHTTPMiddleware):
    """What many apps have: Starlette's middleware that hands streams on through a queue of its own."""

    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "BaseHTTPMiddleware": Passing,
    "GZip": GZipMiddleware,
    "CORS": lambda app: CORSMiddleware(app, allow_origins=["*"]),
    "all of them": lambda app: Passing(GZipMiddleware(CORSMiddleware(Passing(app), allow_origins=["*"]))),
}


@pytest.mark.parametrize("around", WRAPPED)
def test_p18_whatever_wraps_headgate_changes_nothing(tmp_path: Path, around: str) -> None:
    headers = b"accept-encoding: gzip\r\norigin: https://a.example\r\n"
    with serving(policy(), tmp_path / "policy.yaml", around=WRAPPED[around]) as line:
        left_after_every_chunk(line, PATHS["chat"], headers=headers)


@pytest.mark.parametrize("inside", WRAPPED)
def test_p18_nor_does_what_stands_between_it_and_the_app(tmp_path: Path, inside: str) -> None:
    with serving(policy(), tmp_path / "policy.yaml", inside=WRAPPED[inside]) as line:
        left_after_every_chunk(line, PATHS["chat"])


def test_p18_a_client_that_leaves_while_chunks_are_on_their_way_is_charged_for_those_that_left(
    tmp_path: Path, store: str
) -> None:
    before = 0
    with serving(policy(), tmp_path / "policy.yaml", store) as line:
        for k in range(0, CHUNKS + 1, 3):
            line.upstream.plays(pause=0.001)
            call(line, PATHS["chat"], k, rudely=bool(k % 2))
            used, sent = line.used()["output"], line.upstream.last.sent
            assert sent >= k and abs(used - before - sent) <= NEAR
            before = used


def test_p18_a_stream_that_outgrew_what_was_held_for_it_is_charged_whole(tmp_path: Path, store: str) -> None:
    with serving(policy(reserve=8), tmp_path / "policy.yaml", store) as line:
        left_after_every_chunk(line, PATHS["chat"])


@pytest.mark.chaos
def test_p18_a_thousand_clients_that_leave_when_they_like_are_charged_for_what_was_sent(
    tmp_path: Path, store: str
) -> None:
    lot, clients = random.Random(18), 1_000
    leave = [lot.randrange(CHUNKS + 1) for _ in range(clients)]
    with serving(policy(reserve=8).replace("max: 4", "max: 100"), tmp_path / "policy.yaml", store) as line:
        line.upstream.plays(pause=0.002)
        with ThreadPoolExecutor(16) as hands:
            list(hands.map(lambda k: call(line, PATHS["chat"], k, rudely=bool(k % 2)), leave))
        used = line.used()
        sent = [asked.sent for asked in line.upstream.asked]
        assert len(sent) == clients and sum(sent) >= sum(leave)
        assert abs(used["output"] - sum(sent)) <= NEAR * clients and used["open"] == 0
        print(f"{clients} clients left: {sum(sent):,} chunks were sent, {used['output']:,} are charged")


KILLED = """\
headgate: v1
policy: killed
mode: enforce
on_store_error: closed
identify: {{key: [header.x-api-key], directory: "python:chaos.house:whose", anonymous: refuse}}
plans: [total]
meters: {{usage: {{preset: openai-usage}}, output_tokens: {{reserve: {held}}}}}
limits:
  output: {{meter: output_tokens, per: org, total: 1M}}
  open:   {{meter: streams, per: org, max: 20, lease: 1min}}
"""


async def streams(port: int, stack: ExitStack, secret: str, counts: list[int]) -> None:
    """So many streams, each of which its client has read to its last chunk before it waits."""
    body = b'{"model": "m", "stream": true}'
    for chunks in counts:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        stack.callback(writer.close)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: %s\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (secret.encode(), len(body), body)
        )
        for _ in range(chunks):
            await reader.readuntil(b'"%s"' % WORD.encode())


@pytest.mark.parametrize("held", [HELD, 8], ids=["within what was held", "beyond it"])
@pytest.mark.parametrize("ledger", ["sqlite", "redis"], indirect=True)
def test_p18_a_killed_worker_costs_what_its_streams_held(tmp_path: Path, ledger: str, held: int) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(KILLED.format(held=held))
    secret, sent, count = secret_of("acme"), 20, 5

    async def story() -> None:
        with ExitStack() as stack:
            process, port = stack.enter_context(served(tmp_path, "chaos.stalling:app", ledger, STALL=str(sent)))
            await streams(port, stack, secret, [sent] * count)
            async with house(ledger, file) as one:
                found = await settled_down(one, secret, sent * count)
                used, before = found["output"]
                assert used == 0 and found["open"] == (0, count)
                assert before == HELD * count if held == HELD else before >= sent * count
                process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.wait)
                late = one.gate.clock() + 3 * 60_000_000
                found = await one.standing(secret, now=late)
                assert found == {"output": (before, 0), "open": (0, 0)}, "what was held, and no place is lost"

    asyncio.run(story())


async def settled_down(one: Any, secret: str, least: int) -> dict[str, tuple[int, int]]:
    """What is held when the streams have what they asked for: `least`, or what there is in time."""
    until = time.monotonic() + PATIENCE
    found, again = {}, await one.standing(secret)
    while (found != again or again["output"][1] < least) and time.monotonic() < until:
        await asyncio.sleep(0.2)
        found, again = again, await one.standing(secret)
    return again
