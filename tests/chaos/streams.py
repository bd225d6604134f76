"""A protected app whose responses never end by themselves, for a server that is told to stop while they last."""

from __future__ import annotations

import asyncio
from typing import Any

from headgate import HeadgateMiddleware


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """A line now, and another every so often."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"more\n", "more_body": True})
        await asyncio.sleep(0.1)


app = HeadgateMiddleware(endless)
