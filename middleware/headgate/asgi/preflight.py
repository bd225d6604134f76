"""CORS preflights: a browser's question whether a page may send a request, asked before it (Fetch standard).

Law: a preflight is free, and so nothing is to be had by one: the app gets no body with it and its answer's body is
left out. A browser sends neither and reads neither; what carries a credential or says that a body follows is no
preflight, and is charged like any other request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def is_preflight(scope: Scope, carriers: Collection[bytes]) -> bool:
    """Whether this is one: `OPTIONS` with both of a preflight's headers, without a body and without a credential
    (`carriers`: the headers that may hold one).

    >>> asks = [(b"origin", b"https://a.example"), (b"access-control-request-method", b"POST")]
    >>> scope = {"method": "OPTIONS", "headers": asks}
    >>> is_preflight(scope, {b"x-api-key"}), is_preflight({**scope, "headers": [*asks, (b"x-api-key", b"k")]}, {b"x-api-key"})
    (True, False)
    """  # noqa: E501
    if scope.get("method") != "OPTIONS":
        return False
    headers = dict(scope["headers"])
    asked = b"origin" in headers and b"access-control-request-method" in headers
    bodiless = headers.get(b"content-length", b"0").strip() == b"0" and b"transfer-encoding" not in headers
    return asked and bodiless and not any(name in headers for name in carriers)


class Preflight:
    """The app's `receive` and `send` for one preflight."""

    __slots__ = ("_asked", "_receive", "_send")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._asked = False

    async def receive(self) -> Message:
        """An empty body, whatever follows on the wire; then what the server says, which is when the client goes."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while (message := await self._receive())["type"] == "http.request":
            pass
        return message

    async def send(self, message: Message) -> None:
        """The app's answer without its body."""
        if message["type"] == "http.response.start":
            kept = [header for header in message.get("headers", ()) if header[0].lower() != b"content-length"]
            started = {name: value for name, value in message.items() if name != "trailers"}
            await self._send({**started, "headers": [*kept, (b"content-length", b"0")]})
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._send({"type": "http.response.body", "body": b""})
