"""The way of a request, from top to bottom: gather the facts, ask the gate, serve and measure, settle.

Law: nothing is served that was not decided, and what was granted is settled however it ends. A fault of headgate's
own is a 503 and an event, never an open door and never a traceback for the client; what the app raises passes through
untouched. Nothing is opened when the class is made: that is for `lifespan.startup`, or for the first request where no
lifespan comes (inside a mount).
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from headgate.asgi import replies, usage
from headgate.asgi.body import peek
from headgate.asgi.dialects import Dialect, dialects
from headgate.asgi.identify import Intake, Wire, encoded, intake, paths_of
from headgate.asgi.lifespan import lived
from headgate.asgi.metering import SCOPE_KEY, Metered
from headgate.asgi.metering.answer import Answer
from headgate.asgi.metering.foreseen import Foreseen
from headgate.asgi.metering.gauge import gauge
from headgate.asgi.metering.metered import DENIED
from headgate.asgi.metering.socket import Socket
from headgate.asgi.preflight import Preflight, is_preflight
from headgate.asgi.replies import Reply
from headgate.asgi.routes import routed, router_of
from headgate.asgi.under_way import UnderWay
from headgate.errors import HeadgateError
from headgate.gate import Gate
from headgate.quota.decision import Action, Decision
from headgate.quota.identify import TwoCredentials
from headgate.quota.match import CHOICES
from headgate.quota.meter import MILLION
from headgate.telemetry import events

if TYPE_CHECKING:
    from headgate.service import Service
    from headgate.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PREFIX, PEEK = "/headgate", 65_536
"""The settings' defaults, for a gate that is handed in without settings."""

UNAVAILABLE = 503

START_AGAIN = 1.0
"""Seconds after which a start that failed at a request is tried again: a policy is not compiled at every request."""


class HeadgateMiddleware:
    """Quotas before an ASGI app: `app.add_middleware(HeadgateMiddleware)`.

    Without arguments everything comes from the environment (`HEADGATE_POLICIES`, `HEADGATE_STORE`, …). `gate`: a gate
    that is used as it is and is its maker's to close. `settings`: instead of the environment.

    Requests and WebSockets are decided, everything else passes. An allowed request finds its decision in
    `request.state.headgate`. Put it inside CORS middleware, so that a browser may read a refusal.

    >>> import asyncio
    >>> from headgate.gate import Gate
    >>> from headgate.policy.compiled import Policy
    >>> from headgate.quota.gcra import Rate
    >>> from headgate.quota.identify import Identify
    >>> from headgate.quota.match import Limit
    >>> from headgate.quota.meter import BUILT_IN_METERS
    >>> from headgate.stores import open_store
    >>> async def hello(scope, receive, send):
    ...     await send({"type": "http.response.start", "status": 200, "headers": []})
    ...     await send({"type": "http.response.body", "body": b"hello"})
    >>> rpm = Limit("rpm", BUILT_IN_METERS["requests"], ("ip",), {"": Rate(1, 60_000_000)})
    >>> policy = Policy("doc", "0", "enforce", Identify(anonymous=""), (rpm,))
    >>> app = HeadgateMiddleware(hello, gate=Gate(policy, open_store("memory://"), peppers=(b"pepper",)))
    >>> async def status():
    ...     sent = []
    ...     async def send(message): sent.append(message)
    ...     scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("192.0.2.1", 1)}
    ...     await app(scope, None, send)
    ...     return sent[0]["status"]
    >>> asyncio.run(status()), asyncio.run(status())
    (200, 429)
    """

    def __init__(self, app: App, *, gate: Gate | None = None, settings: Settings | None = None) -> None:
        self.app = app
        self._settings = settings
        self._entry = _Entry(gate, settings) if gate is not None else None
        self._given = gate is not None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starts: dict[asyncio.AbstractEventLoop, _Start] = {}
        self._under_way: dict[asyncio.AbstractEventLoop, UnderWay] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI 3 says."""
        kind = scope["type"]
        if kind == "lifespan":
            await lived(self.app, scope, receive, send, start=self._started, stop=self._stopped)
            return
        if kind not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        try:
            let_in = await self._decided(scope, receive, send)
        except Exception as fault:
            let_in = _out_of_order(fault)
            with suppress(Exception):
                # What is out of order may be what the dialect is chosen by.
                let_in = self._entry.said(let_in, scope) if self._entry is not None else let_in
        if let_in is None:
            await self.app(scope, receive, send)
        elif isinstance(let_in, Preflight):
            await self.app(scope, let_in.receive, let_in.send)
        elif isinstance(let_in, Reply):
            await let_in(scope, receive, send)
        else:
            scope[SCOPE_KEY] = let_in
            scope.setdefault("state", {})["headgate"] = let_in.decision
            if let_in.decision.lease:
                await self._held(let_in, scope)
                return
            # All of it was charged before: there is nothing to count or to settle.
            try:
                await self.app(scope, let_in.unmetered, let_in.send)
            finally:
                let_in.settled = True
                let_in.observed(scope)

    async def _decided(self, scope: Scope, receive: Receive, send: Send) -> Metered | Preflight | Reply | None:
        """A request to serve and meter, a preflight, a reply to refuse it with, or None: it passes, it is none of
        ours."""
        entry = self._entry
        if entry is None or not (self._given or self._loop is asyncio.get_running_loop()):
            entry = await self._started()
        gate, reads, method = entry.gate, entry.reads, scope.get("method")
        if reads.policy is not gate.policy:
            reads = entry.read_anew()
        if reads.disabled or (SCOPE_KEY in scope and scope[SCOPE_KEY].gate.same_as(gate)):
            return None
        if method == "OPTIONS" and is_preflight(scope, reads.carriers):
            return Preflight(receive, send)
        try:
            if entry.prefix in scope["path"] and (page := usage.under(entry.prefix, scope)) is not None:
                return entry.said(await usage.answered(gate, reads, scope, page), scope)
            principal = await gate.identify(reads.secret(scope["headers"]))
        except TwoCredentials:
            return entry.said(replies.two_credentials(), scope)
        if principal is None:
            return entry.said(replies.nobody(gate.policy), scope)
        call = Wire(principal, scope, reads)
        if (reads.once or reads.once_asked) and (name := reads.twice(scope)):
            return entry.said(replies.twice(name), scope)
        if (
            reads.body
            and (entry.peek or reads.body_decides or reads.policy.include_usage)
            and scope["type"] == "http"
        ):
            call.body, why_not, receive = await peek(receive, entry.peek)
            if reads.body_decides and (why_not or encoded(scope)):
                return entry.said(replies.too_long(entry.peek) if why_not == "cut" else replies.unread(), scope)
        if reads.policy is not gate.policy:
            # One was taken while we waited: nobody is decided by half of one policy and half of another.
            return await self._decided(scope, receive, send)
        if reads.route:
            self._routed(call, scope)
        decision = await gate.admit(call)
        if reads.naming:
            reads.unnamed(call, decision)
        dialect = entry.dialects[reads.dialect or reads.policy.dialect_of(call.paths)]
        if not decision.allowed:
            if gate.eye is not None:
                status = UNAVAILABLE if decision.action is Action.UNAVAILABLE else DENIED
                gate.eye.saw(reads.policy, call, scope, decision.now, status)
            return dialect.refused(decision, reads.policy)
        metered = _watched(gate, reads, dialect, decision, call, scope, receive, send) if decision.lease else None
        if metered is None:
            metered = Metered(gate, reads, dialect, decision, receive, send)
        if gate.eye is not None:
            metered.call = call
        return metered

    def _routed(self, call: Wire, scope: Scope) -> None:
        """Puts in what the app's router makes of the request, if there is one to ask."""
        router = router_of(self.app)
        if router is None and "app_root_path" not in scope:
            router = scope.get("app")  # our own app tells no routes; the one that we are in has not mounted yet
        if router is not None:
            call.route, call.params = routed(router, scope)

    async def _held(self, metered: Metered, scope: Scope) -> None:
        """Serve what holds something until it is known what it used."""
        loop = asyncio.get_running_loop()
        under_way = self._under_way.get(loop)
        if under_way is None:
            # Loops that are closed go now, where each request may bring one of its own.
            self._under_way = {loop: held for loop, held in self._under_way.items() if not loop.is_closed()}
            under_way = self._under_way[loop] = UnderWay()
        under_way.begun(metered)
        try:
            refusal = await metered.asked() if metered.asks else None
            await (refusal or self.app)(scope, metered.receive, metered.send)
        except GeneratorExit:
            metered.left()
            metered.settle_behind()
            raise
        except asyncio.CancelledError:
            metered.left()
            raise
        except Exception as fault:
            if metered.verdict is None or not await metered.finished(fault):
                raise
        else:
            if metered.verdict is not None:
                await metered.finished(None)
        finally:
            under_way.ended(metered)
            metered.observed(scope)
            await metered.settle()

    async def _started(self) -> _Entry:
        """The entry for the running event loop: stores and their connections are bound to one."""
        if self._given:
            assert self._entry is not None, "made with the gate"
            return self._entry
        loop = asyncio.get_running_loop()
        start = self._starts.get(loop)
        if start is None or start.failed_long_ago():
            start = self._starts[loop] = _Start(loop, self._settings, self._left_behind())
        entry = await start.entry()
        if self._loop is None or self._loop.is_closed():
            self._loop, self._entry = loop, entry
        return entry

    def _left_behind(self) -> Service | None:
        """The service of an event loop that is closed, if there is one: it goes on on the next, with the ledger that
        it keeps, for a new loop is no fresh window."""
        left = [loop for loop in self._starts if loop.is_closed()]
        services = [self._starts.pop(loop).service for loop in left]
        return next((service for service in services if service is not None), None)

    async def _stopped(self) -> None:
        """Settle what is still under way, and stop what was started on this loop."""
        loop = asyncio.get_running_loop()
        for metered in self._under_way.pop(loop, ()):
            await metered.settle()
        start = self._starts.pop(loop, None)
        if self._loop is loop:
            self._loop, self._entry = None, None
        if start is not None:
            await start.stopped()


class _Entry:
    """A gate, and what is worked out of its policy for the wire."""

    __slots__ = ("dialects", "gate", "peek", "prefix", "reads")

    def __init__(self, gate: Gate, settings: Settings | None) -> None:
        self.gate = gate
        self.prefix = settings.prefix.rstrip("/") if settings is not None else PREFIX
        self.peek = settings.peek_bytes if settings is not None else PEEK
        self.dialects: Mapping[str, Dialect] = dialects(gate.peppers[0])
        self.reads = intake(gate.policy)

    def read_anew(self) -> Intake:
        """What the policy of this moment reads of a request: another than the one before was taken."""
        self.reads = intake(self.gate.policy)
        return self.reads

    def said(self, reply: Reply, scope: Scope) -> Reply:
        """A reply of our own that is no decision on a call, in the dialect of its path."""
        reads = self.reads
        return self.dialects[reads.dialect or reads.policy.dialect_of(paths_of(scope))].said(reply)


class _Start:
    """One start of a service on one event loop; whoever comes meanwhile waits for the same."""

    __slots__ = ("_failed_at", "_settings", "_task", "service")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, settings: Settings | None, service: Service | None = None
    ) -> None:
        self._settings = settings
        self.service = service
        self._failed_at: float | None = None
        self._task = loop.create_task(self._begun())

    async def entry(self) -> _Entry:
        """The entry, once the service runs. Raises what made the start fail."""
        return await asyncio.shield(self._task)

    def failed_long_ago(self) -> bool:
        return self._failed_at is not None and time.monotonic() - self._failed_at > START_AGAIN

    async def stopped(self) -> None:
        if not self._task.done():
            self._task.cancel()
        if self.service is not None:
            await self.service.stop()

    async def _begun(self) -> _Entry:
        from headgate.service import Service  # here, for a gate that is handed in needs no settings and no files

        try:
            if self.service is None:
                self.service = Service(self._settings)
            await self.service.start()
        except BaseException:
            self._failed_at = time.monotonic()
            raise
        return _Entry(self.service.gate, self.service.settings)


def _watched(
    gate: Gate,
    reads: Intake,
    dialect: Dialect,
    decision: Decision,
    call: Wire,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> Metered | None:
    """A request of which amounts are held; None where nothing but places at a time is."""
    limits, kept = tuple(map(id, decision.limits)), reads.gauges
    if limits not in kept:
        if len(kept) >= CHOICES:
            kept.clear()
        kept[limits] = gauge(decision)
    found = kept[limits]
    if found is None:
        return None
    factors = {meter.name: MILLION for meter in found.sums}
    if factors:
        tariff = decision.tariff or gate.tariff(decision.principal)
        factors = {meter.name: tariff.factor(meter, call) for meter in found.sums}
    more = {"scope": scope, "gauge": found, "factors": factors}
    if scope["type"] == "websocket":
        return Socket(gate, reads, dialect, decision, receive, send, **more)
    if found.reads:
        # What is packed cannot be read, and whether it is must not be the client's choice. Outside of us it may be.
        told = [header for header in scope["headers"] if header[0] != b"accept-encoding"]
        scope["headers"] = [*told, (b"accept-encoding", b"identity")]
    asks = reads.policy.include_usage and found.reads
    kind = Foreseen if found.sends else Answer
    return kind(gate, reads, dialect, decision, receive, send, head=scope["method"] == "HEAD", asks=asks, **more)


def _out_of_order(fault: Exception) -> Reply:
    """A fault of ours, or of what the app gave us to call: refused as unavailable.

    The event tells where it happened and of which kind it is. What it says is told only if it is ours: what the app
    raises may hold the very secret that it was asked about.
    """
    frames = traceback.extract_tb(fault.__traceback__)[-3:]
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    reason = str(fault) if isinstance(fault, HeadgateError) else ""
    events.error("headgate.fault", where=where, kind=type(fault).__name__, reason=reason)
    return replies.unavailable()
