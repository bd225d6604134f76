"""One WebSocket of which messages or bytes are held.

Law: a message counts when the app takes it or sends it. What is used up is had before the next one passes, or the
socket is closed as one that violates a policy (RFC 6455, 7.4.1).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from headgate.asgi.metering.answer import FAILED, dropped
from headgate.asgi.metering.cutting import CutOff, caused
from headgate.asgi.metering.metered import Message
from headgate.asgi.metering.sizes import length
from headgate.asgi.metering.watched import Watched
from headgate.asgi.replies import POLICY_VIOLATION
from headgate.quota.decision import Decision

SWITCHED = 101
"""The status of a WebSocket that was accepted."""

NORMAL, FAULTS = 1000, frozenset({1000, 1011, 4500})
"""The code of a close that names none, and those by which frameworks (Quart, Starlette, Litestar) close after an
exception that they do not know."""


class Socket(Watched):
    """The app's `receive` and `send` of one WebSocket, and what passed through them."""

    __slots__ = ("_closed",)

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._closed = False

    async def receive(self) -> Message:
        """The app's `receive`. A message that a limit refuses does not reach the app: it is told that it is over."""
        message = _over() if self._closed else await self.unmetered()
        if message["type"] == "websocket.receive":
            if (refused := await self._had(1, length(message) if self.gauge.texts else 0, 0)) is not None:
                self.cut_by(refused)
                await self._close()
                return _over()
        elif message["type"] == "websocket.disconnect":
            self.left()
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """The app's `send`."""
        kind = message["type"]
        if self._closed:
            return dropped()
        if kind == "websocket.send":
            return self._sent(message)
        if kind == "websocket.accept":
            self.passed.status = SWITCHED
        elif self.verdict is not None and not self.passed.status and message.get("status", FAILED) >= FAILED:
            # A close, or whatever a framework makes of an exception that it does not know.
            return self._refused(self.verdict.decision)
        elif kind == "websocket.http.response.start":
            self.passed.status = message["status"]
        elif self.verdict is not None and kind == "websocket.close" and message.get("code", NORMAL) in FAULTS:
            message = {**message, "code": POLICY_VIOLATION, "reason": ""}
        return self._send(message)

    async def _sent(self, message: Message) -> None:
        sent = length(message) if self.gauge.texts and not self.passed.gone else 0
        if (refused := await self._had(0, 0, sent)) is not None:
            fault = self.cut_by(refused)
            await self._close()
            raise fault
        await self._send(message)

    async def _had(self, messages: int, received: int, sent: int) -> Decision | None:
        """Count what is about to pass, once it may; the verdict, if it may not."""
        self._count(messages, received, sent)
        while self.growth.exhausted(used := self.amounts()) is not None:
            self._count(-messages, -received, -sent)
            if (refused := await self.growth.had(used)) is not None:
                return refused
            self._count(messages, received, sent)  # and look again: others may have sent meanwhile
        self.growth.looked()
        return None

    def _count(self, messages: int, received: int, sent: int) -> None:
        self.passed.messages += messages
        self.passed.bytes_in += received
        self.passed.bytes_out += sent

    async def _close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})

    async def _refused(self, refused: Decision) -> None:
        """The refusal of a handshake that the app has not answered yet."""
        self._closed = True
        reply = self._dialect.refused(refused, self._intake.policy)
        self.passed.status = reply.status
        await reply(self._scope, _connecting, self._send)

    async def finished(self, fault: Exception | None) -> bool:
        """The app has ended, after a limit refused it something; whether its fault is none."""
        verdict = self.verdict
        assert verdict is not None, "only then"
        excused = fault is None or caused(fault, verdict)
        if fault is not None and excused and not self._closed and not isinstance(verdict, CutOff):
            if self.passed.status:
                await self._close()
            else:
                await self._refused(verdict.decision)
        return excused


def _over() -> Message:
    return {"type": "websocket.disconnect", "code": POLICY_VIOLATION, "reason": ""}


async def _connecting() -> Message:
    """The client's wish to connect, which the app has taken already."""
    return {"type": "websocket.connect"}
