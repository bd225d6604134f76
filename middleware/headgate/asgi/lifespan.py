"""What happens when a server starts and stops: headgate starts before the app and stops after it.

Law: an app that knows no lifespan is served by one of ours, so that headgate starts with the server and settles
before it ends, whatever the app is. A policy that cannot be used stops the start, with its whole report as reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from headgate.telemetry import events

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Turn = Callable[[], Awaitable[object]]

LAST = frozenset({"lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"})
"""Messages after which an app does nothing more."""


class Lifespan:
    """The app's `receive` and `send` of one lifespan, with our start and stop between the server and the app."""

    __slots__ = ("_receive", "_send", "_start", "_stop", "asked", "ended", "fault")

    def __init__(self, receive: Receive, send: Send, start: Turn, stop: Turn) -> None:
        self._receive = receive
        self._send = send
        self._start = start
        self._stop = stop
        self.asked = False
        self.ended = False
        self.fault: Exception | None = None

    async def receive(self) -> Message:
        """The server's message; headgate has started by the time the app reads `lifespan.startup`."""
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            self.asked = True
            try:
                await self._start()
            except Exception as fault:
                self.fault = fault
                raise
        return message

    async def send(self, message: Message) -> None:
        """The app's message; headgate has stopped by the time the server reads the last one."""
        if message["type"] in LAST:
            self.ended = True
            if self.fault is not None:
                message = {"type": "lifespan.startup.failed", "message": str(self.fault)}
            await self._stop()
        await self._send(message)

    async def alone(self) -> None:
        """The lifespan of an app that has none."""
        while (await self.receive())["type"] != "lifespan.shutdown":
            await self.send({"type": "lifespan.startup.complete"})
        await self.send({"type": "lifespan.shutdown.complete"})


async def lived(app: App, scope: Scope, receive: Receive, send: Send, *, start: Turn, stop: Turn) -> None:
    """Run the app's lifespan around ours.

    What the app raises after it has begun is the server's to see; what we raise at the start is told as the reason.
    """
    life = Lifespan(receive, send, start, stop)
    try:
        try:
            await app(scope, life.receive, life.send)
        except Exception:
            if life.asked:
                raise
        if not life.asked:
            await life.alone()
    except Exception as fault:
        if fault is not life.fault:
            raise
        events.error("headgate.start.failed", kind=type(fault).__name__, reason=str(fault))
        if not life.ended:
            await life.send({"type": "lifespan.startup.failed", "message": str(fault)})
