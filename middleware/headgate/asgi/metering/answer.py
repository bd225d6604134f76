"""The response to one HTTP request of which amounts are held.

Law: nothing is buffered and no first byte is delayed: a part waits only when all that is held is used and its limit
cuts. Bytes count before they leave: what is cut off in the middle was sent. What nobody reads any more is not
counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from headgate.asgi.body import Replayed
from headgate.asgi.metering.asking import asked
from headgate.asgi.metering.cutting import BROKEN, LONGEST_REST, NO_WAIT, TAIL, CutOff, caused, rest_of_event
from headgate.asgi.metering.estimating import ASKED
from headgate.asgi.metering.gauge import GOOD, Known
from headgate.asgi.metering.heading import NOT_TOLD, amount_told, heading_of
from headgate.asgi.metering.metered import Message
from headgate.asgi.metering.sizes import FILES
from headgate.asgi.metering.watched import Watched
from headgate.asgi.replies import Reply
from headgate.errors import Denied
from headgate.quota.decision import Decision
from headgate.telemetry import events
from headgate.tokens import KEPT, Hiding, Reader, Said, Usage, reader

FAILED = 500
"""The status from which on a response is what a framework makes of an exception that it does not know."""

TOGETHER = 8_192
"""Bytes of parts that have been sent and are read together later, at most: what they report counts by then, and so
long they are kept. Some thirty events, of which nearly all are then known by one comparison."""

RUNNING = 2
"""Reports before the end from which on a stream is taken to report all the time: then each part is read before it is
sent. (Anthropic reports once at its beginning.)"""


class Answer(Watched):
    """The app's `receive` and `send` of one HTTP request, and what passed through them.

    `head`: no body is sent, whatever the app says. `asks`: a stream of OpenAI's is to be asked for its usage.
    """

    __slots__ = (
        "_ahead", "_done", "_events", "_head", "_hides", "_hiding", "_length", "_look_at", "_look_at_text", "_over",
        "_reader", "_replaced", "_seen", "_tail", "_told", "_unread", "_whole", "asks",
    )  # fmt: skip

    def __init__(self, *given: Any, head: bool, asks: bool = False, **more: Any) -> None:
        super().__init__(*given, **more)
        self._head = head
        self.asks = asks
        self._hides = False  # the usage that a stream tells was asked for by us, and is not the client's to see
        self._hiding: Hiding | None = None
        self._events = False  # a stream of events that can be ended with one of ours
        self._length = 0  # bytes that the body is to have, as far as that is told
        self._done = False  # whatever else the app sends is dropped
        self._whole = False  # the response has ended as it should
        self._look_at = self._look_at_text = 0
        self._reader: Reader | None = None
        self._seen: Usage | None = None
        self._told = 0  # how often what was reported has changed
        self._unread: list[bytes] = []  # parts that were sent and not read yet
        self._ahead = 0  # bytes that may be sent without a look: nothing can be used up by them
        self._tail = b""
        self._over = 0
        self._replaced = FAILED  # the status from which on a refusal takes the place of the app's answer
        if self.gauge.counts("input_tokens"):
            self.passed.asked = bytearray()

    # What comes.

    async def asked(self) -> Reply | None:
        """Ask a stream for its usage; the refusal, where that cannot be done."""
        assert isinstance(self.unmetered, Replayed), "looked at, where streams are asked"
        found = await asked(self._scope, self.unmetered)
        if isinstance(found, Reply):
            return self._dialect.said(found)
        self._hides = found
        return None

    async def receive(self) -> Message:
        """The app's `receive`. Bytes count when the app takes them."""
        if self._done:
            return {"type": "http.disconnect"}
        message = await self.unmetered()
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.passed.bytes_in += size
            if self.passed.asked is not None and (room := ASKED - len(self.passed.asked)) > 0:
                self.passed.asked += message.get("body", b"")[:room]
            if self.gauge.bounds and (message.get("more_body", False) or self.passed.bytes_in > size):
                await self._taken(size)
        elif message["type"] == "http.disconnect":
            self.left()
        return message

    async def _taken(self, size: int) -> None:
        """Raises Denied where what was received in several parts reaches a limit that cuts."""
        used = self.amounts()
        if self.growth.exhausted(used) is not None:
            self.passed.bytes_in -= size
            if (refused := await self.growth.had(used)) is not None:
                self.verdict = Denied(refused)
                self._replaced = GOOD  # frameworks take a fault in the middle of a body for the client's
                raise self.verdict
            self.passed.bytes_in += size
        self.growth.looked()

    def amounts(self) -> dict[str, int]:
        """What it has used by now, by meter."""
        self._read_up()
        return super().amounts()

    def _read_up(self) -> None:
        """Read what was sent without being read."""
        if self._unread and self._reader is not None:
            parts, self._unread = self._unread, []
            self._reader.fed_all(parts)
            self._counted(self._reader)

    def _counted(self, read: Reader) -> None:
        """Count what was said, where no more of it is kept. What is lost cannot be read: its bytes count."""
        if read.lost:
            self._reader = self.passed.reader = None
            self.passed.stirred = True
        if read.said is not None and len(read.said.kept) >= KEPT:
            self.gauge.estimating.said(read.said)

    def left(self) -> None:
        """The client went away, unless it has all of the answer."""
        self.passed.gone = self.passed.gone or not self._whole

    # What goes.

    def send(self, message: Message) -> Awaitable[None]:
        """The app's `send`. Not a coroutine where nothing waits: the server's own is handed on."""
        kind = message["type"]
        if self._done:
            return self._dropped(message)
        if kind == "http.response.body":
            return self._body(message)
        if kind == "http.response.start":
            if isinstance(self.verdict, Denied) and message["status"] >= self._replaced:
                return self._refused(self.verdict.decision)
            return self._started(self._begun(message), self._length)
        if kind in FILES and not self._head:
            return self._file(message, FILES[kind](message))
        return self._send(message)

    def _dropped(self, message: Message) -> Awaitable[None]:
        """Nobody gets it."""
        return dropped()

    def _started(self, message: Message, length: int) -> Awaitable[None]:
        """The start is sent. `length`: bytes that the body is to have, as far as that is told."""
        return self._send(message)

    def _file(self, message: Message, size: int) -> Awaitable[None]:
        """A part of `size` bytes that the server takes from a file."""
        self.passed.bytes_out += size
        return self._sent(message)

    def _sent(self, message: Message) -> Awaitable[None]:
        """A part is sent, and that may have been all."""
        self._whole = not message.get("more_body", False)
        return self._last(message) if self._whole else self._send(message)

    def _begun(self, message: Message) -> Message:
        """The response's start: what its headers tell, and how its body is to be read."""
        message = {**message, "headers": list(message.get("headers", ()))}  # an app may give what is read once
        headers = [(name.lower(), value) for name, value in message["headers"]]
        self.passed.status = message["status"]
        try:
            self._read(dict(headers), bool(message.get("trailers")))
        except Exception as fault:
            events.error("headgate.fault", where="response headers", kind=type(fault).__name__)
        if self._hiding is not None:
            # What the app told as its length is longer than what is sent.
            kept = [header for header in message["headers"] if header[0].lower() != b"content-length"]
            message = {**message, "headers": kept}
        return super()._begun(message)

    def _read(self, headers: dict[bytes, bytes], trailers: bool) -> None:
        passed = self.passed
        for name, meter in self._intake.told:
            if name in headers:
                amount = amount_told(headers[name])
                if amount != NOT_TOLD:
                    passed.told[meter.name] = amount
                else:
                    events.warning("headgate.meter.unread", meter=meter.name, decision=self.decision.id)
        told = heading_of(passed.status, headers)
        passed.mute = told.mute
        self._events = told.events and b"content-length" not in headers and not trailers
        if self._hides and told.events:
            self._hiding = Hiding()
        if not passed.served or self._head:
            return
        if self.gauge.reads:
            said = Said() if self.gauge.counts("output_tokens") else None
            self._reader = passed.reader = reader(told.kind, told.packed, said)
        self._length = max(0, told.length)

    def _body(self, message: Message) -> Awaitable[None]:
        """Count a part of the body, and send it: the first one at once, and the others as soon as they are held."""
        body, more, passed = message.get("body", b""), message.get("more_body", False), self.passed
        size = len(body)
        if TAIL <= size < self._ahead and more and not (passed.stirred or passed.gone) and type(body) is bytes:
            # The way of nearly every part of a stream: counted, kept for a moment to be read with others, and sent.
            self._ahead -= size
            passed.bytes_out += size
            self._tail = body
            if self._reader is not None:
                self._unread.append(body)
            return self._send(message)
        return self._read_first(message, body, more)

    def _read_first(self, message: Message, body: bytes, more: bool) -> Awaitable[None]:
        """A part that may change what is known: read, and then sent."""
        passed = self.passed
        if self._head or passed.gone:
            return self._on(message)
        self._read_up()
        read, first, before = self._reader, not passed.bytes_out, None
        if read is not None:
            before = read.usage, read.complete, read.text, read.said and read.said.copy()
            read.fed(body)
            if not more:
                read.fed(b"\n\n")  # a last event may lack its empty line
            self._counted(read)
            read = self._reader
        if self._hiding is not None:
            body = self._hiding.fed(body) if more else self._hiding.fed(body) + self._hiding.closed()
            if more and not body:
                return dropped()
            message = {**message, "body": body}
        passed.bytes_out += len(body)
        waits = not first or (self.gauge.sends and passed.served and len(body) > NO_WAIT)
        if waits and (more or (body and self.gauge.cuts)):
            # Of a first part bytes alone: it may be all that there is, and of what else it used no more would be.
            due = passed.bytes_out >= self._look_at or passed.stirred
            if read is not None and not due:
                due = read.text >= self._look_at_text or read.usage is not self._seen
            if due and self._looked(more, first):
                self._ahead = 0
                return self._waited(message, before, len(body), first)
            self._ahead = self._room() if more else 0
        return self._on(message)

    def _looked(self, more: bool, sent_only: bool) -> bool:
        """Whether what was counted must be had before it passes, or, `sent_only`, what was counted in bytes; if not,
        and if there is more to come, that is asked for where it is time to."""
        passed, growth, read = self.passed, self.growth, self._reader
        passed.stirred = False
        if read is not None and read.usage is not self._seen:
            self._seen, self._told = read.usage, self._told + 1
        reported = sent_only or (read is not None and read.complete)
        if growth.exhausted(self.amounts(), reported) is not None:
            return True
        if not more:
            return False
        by_bytes, by_text = growth.looked()
        if read is None:
            by_bytes = min(by_bytes, by_text)  # what cannot be read is estimated by its bytes
        self._look_at = passed.bytes_out + by_bytes
        self._look_at_text = by_text if read is None else read.text + by_text
        return False

    def _room(self) -> int:
        """Bytes that may be sent before the next look, and read together then."""
        if self._hiding is not None or self._told >= RUNNING:
            return 0
        room = min(self._look_at - self.passed.bytes_out, TOGETHER)
        return room if self._reader is None else min(room, self._look_at_text - self._reader.text)

    def _on(self, message: Message) -> Awaitable[None]:
        """It is counted: on it goes."""
        if self._events:
            body = message.get("body", b"")
            self._tail = bytes(body[-TAIL:]) if len(body) >= TAIL else (self._tail + bytes(body))[-TAIL:]
        return self._sent(message)

    async def _waited(
        self, message: Message, before: tuple[Usage, bool, int, Said | None] | None, size: int, sent_only: bool
    ) -> None:
        """Send a part of `size` bytes once it is held. Raises CutOff where a limit refuses to hold it; then it is not
        counted."""
        passed, body, used = self.passed, bytes(message.get("body", b"")), self.amounts()
        passed.bytes_out -= size
        passed.reader = Known(*before) if before is not None else None
        refused = await self.growth.had(used, sent_only or (self._reader is not None and self._reader.complete))
        rest = None if refused is None else self._rest(body)
        if refused is not None and rest is not None:
            fault = self.cut_by(refused)
            await self._ended(refused, rest)
            raise fault
        passed.reader = self._reader
        passed.bytes_out += size
        await self._on(message)

    def _rest(self, body: bytes) -> bytes | None:
        """What is still sent of a part that is refused: the end of the event that was begun, for half of one would be
        no JSON to the client. None if all of it belongs to that."""
        rest = rest_of_event(self._tail[-TAIL:], body) if self._events else b""
        if rest is None:
            self._over += len(body)
            return None if self._over <= LONGEST_REST else b"\n\n"
        return rest

    # Its end.

    async def _ended(self, refused: Decision, rest: bytes = b"") -> None:
        """Nothing of the app's is sent any more; a stream of events ends as one."""
        self._done = True
        if not self._events:
            return
        if rest:
            self.passed.bytes_out += len(rest)
            await self._send({"type": "http.response.body", "body": rest, "more_body": True})
        event = self._dialect.event(refused, self._intake.policy)
        await self._send({"type": "http.response.body", "body": event, "more_body": False})
        self._whole = True

    async def _refused(self, refused: Decision) -> None:
        """The refusal, in the place of whatever the app or its framework made of it."""
        self._done = True
        reply = self._dialect.refused(refused, self._intake.policy)
        self.passed.status = reply.status
        await reply(self._scope, self.unmetered, self._send)
        self._whole = True

    async def finished(self, fault: Exception | None) -> bool:
        """The app has ended, after a limit refused it something; whether its fault is none. Raises CutOff where what
        was sent must not look whole."""
        verdict = self.verdict
        assert verdict is not None, "only then"
        excused = fault is None or caused(fault, verdict)
        if isinstance(verdict, CutOff):
            if not self._whole:
                await self._broken_off(verdict)
        elif fault is not None and excused and not self._whole:
            if not self.passed.status:
                await self._refused(verdict.decision)
            elif self._events:
                await self._ended(verdict.decision, self._rest(b"\n\n") or b"")
            else:
                await self._broken_off(self.cut_by(verdict.decision))
        return excused

    async def _broken_off(self, fault: CutOff) -> None:
        """Make sure that nobody ends the body well: neither the server nor a middleware with a task of its own."""
        self._done = True
        with suppress(Exception):
            await self._send(dict(BROKEN))
        raise fault


async def dropped() -> None:
    """What becomes of a message that nobody gets."""
    await asyncio.sleep(0)  # as sending does now and then: an app in a loop must not keep everybody else waiting
