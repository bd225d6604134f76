"""What a request that is served uses: bytes as they pass, amounts that the app reports, and that it is settled.

Law: nothing is buffered and no byte is delayed. However the request ends (an answer, an exception, a client that went
away, a task that was cancelled, a coroutine that was closed) what it holds is settled once, by what is known then.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from headgate.asgi.identify import Intake
from headgate.asgi.ratelimit_headers import CURRENT, POLICY, RateLimitHeaders, merged
from headgate.errors import IdentityError
from headgate.gate import Gate
from headgate.nearest import suggestion
from headgate.quota.balance import SAFE
from headgate.quota.decision import Decision
from headgate.quota.meter import checked
from headgate.telemetry import events

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SCOPE_KEY = "headgate"
"""Where in the ASGI scope the request that is under way is found by `charge`."""

_OURS = frozenset({POLICY, CURRENT})

_adding = threading.Lock()
"""Endpoints that are not async run in threads, and an addition is a read and a write."""


class Metered:
    """One request under way: the app's `receive` and `send`, and what passed through them.

    `used` is what the app has reported, by meter. Slots and methods instead of closures: this is the hot path.
    """

    __slots__ = (
        "_fields", "_head", "_intake", "_send",
        "bytes_in", "bytes_out", "decision", "gate", "settled", "told", "unmetered", "used",
    )  # fmt: skip

    def __init__(
        self,
        gate: Gate,
        intake: Intake,
        fields: RateLimitHeaders,
        decision: Decision,
        receive: Receive,
        send: Send,
        head: bool,
    ) -> None:
        self.gate = gate
        self.decision = decision
        self.used: dict[str, int] = {}
        self.told: dict[str, int] = {}
        self.bytes_in = self.bytes_out = 0
        self._intake = intake
        self._fields = fields
        self.unmetered = receive
        self._send = send
        self._head = head
        self.settled = False

    async def receive(self) -> Message:
        """The app's `receive`. Bytes count when the app takes them."""
        message = await self.unmetered()
        kind = message["type"]
        if kind == "http.request":
            self.bytes_in += len(message.get("body", b""))
        elif kind == "websocket.receive" and self._intake.texts:
            self.bytes_in += _length(message)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """The app's `send`. Bytes count before they leave: what is cut off in the middle was sent.

        Not a coroutine: the server's own is handed on, so that no message pays for one more.
        """
        kind = message["type"]
        if kind == "http.response.body":
            if not self._head:
                self.bytes_out += len(message.get("body", b""))
        elif kind == "http.response.start":
            message = self._begun(message)
        elif self._intake.texts and kind in _SIZES and not self._head:
            self.bytes_out += _SIZES[kind](message)
        return self._send(message)

    def _begun(self, message: Message) -> Message:
        """The response's start with our headers, in a list of its own: the app may keep the one it gave."""
        headers = list(message.get("headers", ()))
        try:
            if self._intake.told:
                self._read(headers)
            fields = self._fields.fields(self.decision)
        except Exception as fault:
            # The request is decided and served; what could not be told is left out.
            events.error("headgate.fault", where="response headers", kind=type(fault).__name__)
            return message
        if not fields:
            return message
        for name, _ in headers:
            if name.lower() in _OURS:
                return {**message, "headers": merged(headers, fields)}
        headers += fields
        return {**message, "headers": headers}

    def _read(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Meters that the app tells in a response header. What is no number counts as not told."""
        for wanted, meter in self._intake.told:
            for name, value in headers:
                if name.lower() == wanted:
                    text = value.strip()
                    if text.isdigit() and len(text) < 16:
                        self.told[meter.name] = int(text)
                    else:
                        events.warning("headgate.meter.unread", meter=meter.name, decision=self.decision.id)

    def charged(self, units: Mapping[str, int]) -> None:
        """Add what the app reports, all of it or nothing. Raises IdentityError for a meter that it does not report,
        AmountError (a ValueError) for what is no amount."""
        reported = self._intake.reported
        for name, amount in units.items():
            if name not in reported:
                raise IdentityError(_unknown(name, reported))
            checked(amount)
        if self.settled:
            events.warning("headgate.charge.late", meters=sorted(units), decision=self.decision.id)
            return
        with _adding:
            for name, amount in units.items():
                self.used[name] = min(self.used.get(name, 0) + amount, SAFE)

    def usage(self) -> dict[str, int]:
        """What was used, by meter. A meter that the response was to tell and did not counts as it was held."""
        used = {"bytes_in": self.bytes_in, "bytes_out": self.bytes_out}
        for name, amount in self.used.items():
            used[name] = self._intake.reported[name].bounded(amount)
        for _, meter in self._intake.told:
            told = self.told.get(meter.name)
            used[meter.name] = self._held(meter.name) if told is None else meter.bounded(told)
        return used

    def _held(self, meter: str) -> int:
        pairs = zip(self.decision.demands, self.decision.limits, strict=True)
        return max([demand.amount for demand, limit in pairs if limit.meter.name == meter], default=0)

    async def settle(self) -> None:
        """Settle, once. The gate brings it to its end though the caller is cancelled while it waits."""
        if self._ended():
            try:
                await self.gate.settle(self.decision, self.usage())
            except Exception as fault:
                # The lease charges what was held. The answer has left: nobody is helped by a fault now.
                events.error("headgate.fault", where="settle", kind=type(fault).__name__, decision=self.decision.id)

    def settle_behind(self) -> None:
        """Settle from a coroutine that is being closed, and so must not wait."""
        if self._ended():
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                events.warning("headgate.settle.late", decision=self.decision.id)  # no loop left: the lease settles
                return
            behind(loop, self.gate.settle(self.decision, self.usage()))

    def _ended(self) -> bool:
        """Whether there is something to settle, and this is the first to ask."""
        first, self.settled = not self.settled, True
        return first and self.decision.lease > 0


def charge(request: Any, **units: int) -> None:
    """Report what an endpoint used: `charge(request, rows=12)`.

    `request` is a request or WebSocket of Starlette, FastAPI or Litestar, or an ASGI scope. May be called any number
    of times while the request is under way, before and after the response has begun, from the event loop or from a
    thread; amounts add up. Where no headgate stands before the app, or its policy is disabled, nothing happens, so
    that an app is tested without one.

    Raises IdentityError for a meter that the policy does not let the app report, AmountError (a ValueError) for
    what is not a whole number of at least 0.

    >>> charge({"type": "http"}, rows=3)
    """
    scope = request if isinstance(request, Mapping) else request.scope
    metered = scope.get(SCOPE_KEY)
    if metered is not None:
        metered.charged(units)


def _unknown(name: str, reported: Mapping[str, Any]) -> str:
    hint = suggestion(name, reported)
    known = ", ".join(sorted(reported)) or "none"
    return f"charge({name}=…): no limit counts a meter `{name}` that the app reports{hint} (there are: {known})"


def _length(message: Message) -> int:
    data = message.get("bytes")
    if data is None:
        data = (message.get("text") or "").encode("utf-8", "surrogatepass")
    return len(data)


def _file(message: Message) -> int:
    """Bytes of a file that the server sends by its path."""
    try:
        return os.stat(message["path"]).st_size  # noqa: PTH116  (no object for one number)
    except OSError:
        return 0  # the server will fail on it, and send nothing


def _part(message: Message) -> int:
    """Bytes of a part of an open file; 0 of a pipe, whose length nobody knows."""
    count: int | None = message.get("count")
    if count is not None:
        return count
    file, start = message["file"], message.get("offset")
    descriptor = file if isinstance(file, int) else file.fileno()
    try:
        at = os.lseek(descriptor, 0, os.SEEK_CUR) if start is None else start
        return max(0, os.fstat(descriptor).st_size - at)
    except OSError:
        return 0


_SIZES: Mapping[str, Callable[[Message], int]] = {
    "websocket.send": _length,
    "http.response.pathsend": _file,
    "http.response.zerocopysend": _part,
}
"""How many bytes leave with a message that is no plain body."""

_under_way: set[asyncio.Task[None]] = set()


def behind(loop: asyncio.AbstractEventLoop, work: Any) -> None:
    """Run something that nobody waits for: the loop itself would forget it."""
    task = loop.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
