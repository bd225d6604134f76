"""One request under way, of which nothing more than a place at a time is held: told its limits, renewed, settled.

Law: what was granted is settled once, however the request ends (an answer, an exception, a client that went away, a
task that was cancelled, a coroutine that was closed), by what is known then. A place is the response's and not the
app's: it is free when the last part has been sent, though the app goes on for itself. Slots and methods instead of
closures: this is the hot path.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from headgate.asgi.dialects import NAMES, Dialect, merged
from headgate.asgi.identify import Intake
from headgate.asgi.replies import Reply
from headgate.errors import Denied, IdentityError
from headgate.gate import Gate
from headgate.nearest import suggestion
from headgate.quota.decision import Decision
from headgate.quota.facts import Call
from headgate.quota.meter import checked
from headgate.quota.under_way import placeless, places
from headgate.telemetry import events

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SCOPE_KEY = "headgate"
"""Where in the ASGI scope the request that is under way is found by `charge`."""

adding = threading.Lock()
"""Endpoints that are not async run in threads, and an addition is a read and a write."""


SOON = 0.01
"""Seconds that an app may take to end once its last part has been sent: nearly all do at once, and then all that it
held is settled by one command, and no timer runs. The places of one that has work left are freed by a command of
their own."""


MOST_SEEN = 512
"""Things of one request that are looked at to link keys: a page of records."""

SWITCHED, DENIED, FAILED = 101, 429, 500
"""How a request counts as answered that ended without a status: a WebSocket, one that was refused in the middle, one
whose app failed or whose client went away before."""


class Metered:
    """One request under way: the app's `send`, and what the endpoint may say of it.

    `verdict`: what a limit has refused it in the middle, if one has. `call`: what it asked, where linked keys are
    looked for; `seen`: the things that were handed out then; `status`: how it was answered, 0 before that.
    """

    asks = False
    """Whether its stream is to be asked for its usage before the app is."""

    __slots__ = (
        "_dialect",
        "_freeing",
        "_intake",
        "_send",
        "call",
        "decision",
        "gate",
        "seen",
        "settled",
        "status",
        "unmetered",
        "verdict",
    )

    def __init__(
        self, gate: Gate, intake: Intake, dialect: Dialect, decision: Decision, receive: Receive, send: Send
    ) -> None:
        self.gate = gate
        self.decision = decision
        self.unmetered = receive
        self.settled = False
        self.verdict: Denied | None = None
        self.call: Call | None = None
        self.status = 0
        self.seen: Sequence[str] = ()
        self._intake = intake
        self._dialect = dialect
        self._freeing: asyncio.TimerHandle | None = None
        self._send = send

    @property
    def receive(self) -> Receive:
        """The app's `receive`: the server's own, for nothing of it is counted."""
        return self.unmetered

    async def asked(self) -> Reply | None:
        """Ask it; the refusal, where that cannot be done. Nothing of this request counts what a stream tells."""
        return None

    def send(self, message: Message) -> Awaitable[None]:
        """The app's `send`. Not a coroutine: the server's own is handed on, so that no message pays for one more."""
        if message["type"] == "http.response.start":
            message = self._begun(message)
        elif self.decision.lease and not message.get("more_body", False):
            return self._last(message)
        return self._send(message)

    async def _last(self, message: Message) -> None:
        """Send the last part. Then its places are free, whatever the app still does."""
        await self._send(message)
        if not self.settled:
            asyncio.get_running_loop().call_soon(self._goes_on)

    def _goes_on(self) -> None:
        """The app has not ended with its response. It may just take a turn or two."""
        if not self.settled and self._freeing is None:
            self._freeing = asyncio.get_running_loop().call_later(SOON, self._freed)

    def _freed(self) -> None:
        """Give back the places, for the app goes on without a client. Amounts are held until it is known what was
        used."""
        taken = places(self.decision)
        if taken.demands and not self.settled:
            self.without_places()
            behind(asyncio.get_running_loop(), self.gate.settle(taken, {}))

    def without_places(self) -> None:
        """From here on it holds amounts alone."""
        self.decision = placeless(self.decision)

    def _begun(self, message: Message) -> Message:
        """The response's start with our headers, in a list of its own: the app may keep the one it gave."""
        self.status = message["status"]
        headers = list(message.get("headers", ()))
        try:
            fields = self._dialect.fields(self.decision)
        except Exception as fault:
            # The request is decided and served; what could not be told is left out.
            events.error("headgate.fault", where="response headers", kind=type(fault).__name__)
            return message
        if not fields:
            return message
        for name, _ in headers:
            if name.lower() in NAMES:
                return {**message, "headers": merged(headers, fields)}
        headers += fields
        return {**message, "headers": headers}

    def charged(self, units: Mapping[str, int]) -> None:
        """Add what the app reports, all of it or nothing. Raises IdentityError for a meter that it does not report,
        AmountError (a ValueError) for what is no amount."""
        self.allowed(units)
        if self.settled:
            events.warning("headgate.charge.late", meters=sorted(units), decision=self.decision.id)
            return
        self.added(units)

    def allowed(self, units: Mapping[str, int]) -> None:
        """Raises what `charged` raises for these units."""
        reported = self._intake.reported
        for name, amount in units.items():
            if name not in reported:
                raise IdentityError(unknown("charge", name, reported))
            checked(amount)

    def added(self, units: Mapping[str, int]) -> None:
        """Count what was reported. No limit of this request does."""

    def touched(self, things: Iterable[str], meter: str) -> None:
        """Note what was handed out, once each. Raises IdentityError for a meter that counts nothing of the kind."""
        known = self._intake.touched
        meter = meter or (self._intake.touches[0] if len(self._intake.touches) == 1 else "")
        if meter not in known:
            raise IdentityError(unknown("touch", meter, known))
        if self.settled:
            events.warning("headgate.charge.late", meters=[meter], decision=self.decision.id)
            return
        if self.call is not None and len(self.seen) < MOST_SEEN:
            things = list(things)
            self.seen = [*self.seen, *things[:MOST_SEEN]] if self.seen else things[:MOST_SEEN]
        self.handed(things, meter)

    def observed(self, scope: MutableMapping[str, Any]) -> None:
        """Leave what is seen of it, now that it has ended, to who links keys; where nobody does, `call` is None."""
        eye = self.gate.eye
        if self.call is not None and eye is not None:
            unsaid = DENIED if self.verdict is not None else SWITCHED if scope["type"] == "websocket" else FAILED
            eye.saw(self._intake.policy, self.call, scope, self.decision.now, self.status or unsaid, self.seen)

    def handed(self, things: Iterable[str], meter: str) -> None:
        """Count what was handed out. No limit of this request does."""

    async def spent(self, units: Mapping[str, int]) -> None:
        """Add what the app is about to use, if every limit grants it. Raises what `charged` raises, and Denied."""
        self.charged(units)

    def left(self) -> None:
        """The client went away, or the request was given up, before it was answered in full."""

    async def finished(self, fault: Exception | None) -> bool:
        """The app has ended, after a limit refused it something (`verdict`); whether its fault is none."""
        return fault is None

    def renewed(self) -> Coroutine[Any, Any, None]:
        """Keep what it holds for one more lease."""
        return self.gate.renew(self.decision)

    async def settle(self) -> None:
        """Settle, once. The gate brings it to its end though the caller is cancelled while it waits."""
        if self.ended():
            try:
                await self.settlement()
            except Exception as fault:
                # The lease charges what was held. The answer has left: nobody is helped by a fault now.
                events.error("headgate.fault", where="settle", kind=type(fault).__name__, decision=self.decision.id)

    def settle_behind(self) -> None:
        """Settle from a coroutine that is being closed, and so must not wait."""
        if self.ended():
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                events.warning("headgate.settle.late", decision=self.decision.id)  # no loop left: the lease settles
                return
            behind(loop, self.settlement())

    def settlement(self) -> Coroutine[Any, Any, None]:
        """What is said to the ledger at the end."""
        return self.gate.settle(self.decision, {})

    def ended(self) -> bool:
        """Whether there is something to settle, and this is the first to ask."""
        first, self.settled = not self.settled, True
        if self._freeing is not None:
            self._freeing.cancel()
        return first and self.decision.lease > 0


def unknown(call: str, name: str, known: Iterable[str]) -> str:
    """What is said to an endpoint that names a meter which no limit counts that way."""
    names = sorted(known)
    listed = ", ".join(names) or "none"
    if call == "touch":
        which = f"a meter `{name}` that counts different things" if name else "which of several meters it means"
        return f"touch(…, meter={name!r}): no limit says {which}{suggestion(name, names)} (there are: {listed})"
    return (
        f"{call}({name}=…): no limit counts a meter `{name}` that the app reports"
        f"{suggestion(name, names)} (there are: {listed})"
    )


_under_way: set[asyncio.Task[None]] = set()


def behind(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run something that the request does not wait for: the loop itself would forget it."""
    task = loop.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_over)
    return task


def _over(task: asyncio.Task[None]) -> None:
    _under_way.discard(task)
    fault = None if task.cancelled() else task.exception()
    if fault is not None:
        events.error("headgate.fault", where="behind a request", kind=type(fault).__name__)
