"""What headgate needs to begin: nothing of the network, and no server beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

POLICY = """\
headgate: v1
policy: alone
mode: enforce
on_store_error: closed
identify: {anonymous: {per: ip}}
limits: {rpm: {meter: requests, per: ip, rate: 1/min}}
"""

SCRIPT = """\
import asyncio, socket, sys

def unreachable(*given, **named):
    raise AssertionError("something asks for the network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = unreachable

from headgate import HeadgateMiddleware

async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})

async def story():
    app, statuses = HeadgateMiddleware(hello), []
    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("192.0.2.1", 1)}
    for _ in range(2):
        await app(dict(scope), None, send)
    await app._stopped()
    return statuses

print(asyncio.run(story()), "redis" in sys.modules)
"""


def test_the_first_request_needs_no_network_and_no_redis(tmp_path: Path) -> None:
    (tmp_path / "headgate.yaml").write_text(POLICY)
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={"HEADGATE_PEPPER": "p" * 32, "PATH": ""}, check=False,
    )  # fmt: skip
    assert (said.stdout, said.stderr) == ("[200, 429] False\n", "")
