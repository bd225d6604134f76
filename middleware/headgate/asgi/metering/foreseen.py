"""The response to one HTTP request of which bytes may be cut: what is known of its size before any of it is sent.

Law: what does not fit is refused as a whole while it still can be: before the app makes a body whose length it tells,
else before its first part leaves. So the start waits for the first part, as ASGI has servers do with it anyway; that
of a stream of events does not, for its client waits for it. What is as short as `NO_WAIT` waits for no answer.
An app that has nothing more to send need not know that its response was not sent.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from headgate.asgi.metering.answer import Answer, dropped
from headgate.asgi.metering.cutting import NO_WAIT, CutOff
from headgate.asgi.metering.metered import Message


class Foreseen(Answer):
    """The app's `receive` and `send` of one HTTP request whose bytes may be cut."""

    __slots__ = ("_kept", "_untold")

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._kept: Message | None = None  # the start, until it is known whether what follows may be sent
        self._untold: CutOff | None = None  # it may not, and the app has not been told yet

    def _started(self, message: Message, length: int) -> Awaitable[None]:
        if self._head or self._events or not self.passed.served:
            return self._send(message)
        if length > NO_WAIT:
            return self._held_first(message, length)
        self._kept = message
        return kept()

    def _body(self, message: Message) -> Awaitable[None]:
        if self._kept is not None:
            return self._first(message, len(message.get("body", b"")))
        return super()._body(message)

    def _file(self, message: Message, size: int) -> Awaitable[None]:
        if self._kept is not None:
            return self._first(message, size)
        self.passed.bytes_out += size
        more = message.get("more_body", False)
        if not self.passed.gone and self._looked(more, sent_only=True):
            return self._waited(message, None, size, sent_only=True)
        return self._sent(message)

    def _dropped(self, message: Message) -> Awaitable[None]:
        return self._tell() if self._untold is not None and message.get("more_body", False) else dropped()

    async def _tell(self) -> None:
        fault, self._untold = self._untold, None
        assert fault is not None, "only then"
        raise fault

    async def _first(self, message: Message, size: int) -> None:
        """The start, and the first part. Raises CutOff where that may not be sent, and is not all."""
        start, self._kept = self._kept, None
        assert start is not None, "only then"
        if size > NO_WAIT and not self.passed.gone:
            await self._held_first(start, size)
        else:
            await self._send(start)
        await self.send(message)

    async def _held_first(self, start: Message, size: int) -> None:
        """Send the start once so many bytes are held; where a limit refuses that, the refusal in its place."""
        before = self.amounts()
        self.passed.bytes_out += size
        whole = self.amounts()
        self.passed.bytes_out -= size
        if self.growth.exhausted(whole, True) is not None:
            more = {name: amount - before.get(name, 0) for name, amount in whole.items()}
            if (refused := await self.growth.foreseen(more)) is not None:
                self._untold = self.cut_by(refused)
                await self._refused(refused)
                return
        await self._send(start)

    async def finished(self, fault: Exception | None) -> bool:
        """The app has ended, after a limit refused it something; whether its fault is none."""
        if self._kept is not None:
            self.passed.status = 0  # nothing has begun: the refusal may still be said
        return await super().finished(fault)


async def kept() -> None:
    """What becomes of a start that waits for what follows it."""
