"""What a refused request is told, in words and headers that HTTP clients act on.

Law: denied is never unavailable: a quota is a 429 (or what the limit's `deny` says), an outage a 503. A caller learns
of its own limits alone, and a caller that nobody knows learns nothing: no key and an unknown key are answered alike,
byte for byte.

What is told is a `Problem`, and here it is written as RFC 9457 has it; other dialects put the same into their own
words (`dialects`). A request that *never* fits (it asks for more than the whole quota) gets no `Retry-After`: to wait
would not help, and it is told the most that it may ask for.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from random import randrange
from typing import Any, Protocol

from headgate.policy.compiled import Policy
from headgate.quota.command import Never, Refusal
from headgate.quota.decision import Action, Decision, reading
from headgate.quota.identify import Source
from headgate.quota.match import CANDIDATE, Limit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

TYPES = "https://iana.org/assignments/http-problem-types#"

PATIENCE = 60
"""Seconds above which a client is told not to try again by itself: SDKs sleep the whole time or, worse, do not."""

SPREAD, SPREAD_MOST = 0.1, 30_000
"""Jitter: a tenth of the wait, at most 30 s (milliseconds), so that not everybody comes back in one moment."""

OUTAGE_MS, OUTAGE_SPREAD_MS = 1_000, 4_000
"""How long a client waits when the store does not answer (milliseconds): 1 to 5 s, spread over all clients."""

POLICY_VIOLATION = 1008
"""The WebSocket's close code for a policy that was violated (RFC 6455, 7.4.1)."""

NO_STORE: Header = (b"cache-control", b"no-store")

PROBLEM_JSON, JSON = b"application/problem+json", b"application/json"


class Fields(Protocol):
    """Whatever writes the headers that tell how a caller's limits stand."""

    def fields(self, decision: Decision, wait: int = 0) -> list[Header]:
        """The headers; `wait` is that of a refusal, in seconds."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is told to a request that is not served, in no dialect yet.

    | field | meaning |
    | --- | --- |
    | `status`, `title` | the response's status, and what happened in words that are always the same |
    | `kind` | the name of its type in the registry of problem types, "" for none |
    | `detail` | what happened this time, "" for nothing more than the title says |
    | `members` | what else is told: `instance` (the decision's id), `violated-policies`, `clause` |
    | `headers` | those that it has in every dialect: when to come back, how to name a key |
    | `limit`, `verb` | of a limit that refused: which it is (of several, the one that refuses longest), and its verb's kind |
    | `wait` | milliseconds after which it may be tried again, 0 where that is not known or does not help |
    """  # noqa: E501  (a table's row is one line)

    status: int
    title: str
    kind: str = ""
    detail: str = ""
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[Header, ...] = ()
    limit: Limit | None = None
    verb: str = ""
    wait: int = 0

    @property
    def seconds(self) -> int:
        """The wait in whole seconds, rounded up, as `Retry-After` says it."""
        return -(-self.wait // 1_000)

    @property
    def instance(self) -> str:
        """The decision's id; "" where nothing was decided."""
        return str(self.members.get("instance", ""))

    def document(self) -> dict[str, Any]:
        """The problem as RFC 9457 writes it.

        >>> Problem(401, "It is not known who is calling").document()
        {'type': 'about:blank', 'title': 'It is not known who is calling', 'status': 401}
        """
        kind = TYPES + self.kind if self.kind else "about:blank"
        told: dict[str, Any] = {"type": kind, "title": self.title, "status": self.status}
        if not self.detail:
            return {**told, **self.members}
        # `message` is an extension (RFC 9457, 3.2): OpenAI's clients show that and nothing else of a body.
        return {**told, "detail": self.detail, **self.members, "message": self.detail}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response. `problem`: what it tells, so that another dialect may say it in its own words; None where it
    is the same in all."""

    status: int
    headers: tuple[Header, ...]
    body: bytes
    problem: Problem | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it: as a response, or as the denial of a WebSocket that is not accepted yet."""
        if scope["type"] == "http":
            prefix = "http"
        else:
            await receive()  # the client's wish to connect comes first
            if "websocket.http.response" not in (scope.get("extensions") or {}):
                await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})
                return
            prefix = "websocket.http"
        await send({"type": f"{prefix}.response.start", "status": self.status, "headers": list(self.headers)})
        await send({"type": f"{prefix}.response.body", "body": self.body})


def written(problem: Problem, document: Mapping[str, Any], media: bytes = JSON, more: Iterable[Header] = ()) -> Reply:
    """The reply that tells a problem with this document as its body; `more` are headers beside the problem's own."""
    return _json(problem.status, document, media, (*problem.headers, *more), problem)


def answer(document: Mapping[str, Any]) -> Reply:
    """A 200 with a JSON document that is the caller's alone."""
    return _json(200, document, JSON, ())


def encoded(document: Mapping[str, Any]) -> bytes:
    """A document as JSON on one line, in ASCII: it fits into a body and into an event of a stream.

    >>> encoded({"said": "gr\\u00fcn"})
    b'{"said": "gr\\\\u00fcn"}'
    """
    return json.dumps(document, ensure_ascii=True).encode("ascii")


def _json(
    status: int, document: Mapping[str, Any], media: bytes, headers: Iterable[Header], problem: Problem | None = None
) -> Reply:
    body = encoded(document)
    length = (b"content-length", b"%d" % len(body))
    return Reply(status, ((b"content-type", media), length, NO_STORE, *headers), body, problem)


def _told(problem: Problem) -> Reply:
    return written(problem, problem.document(), PROBLEM_JSON)


def refused(decision: Decision, policy: Policy, fields: Fields) -> Reply:
    """The reply to a decision that did not let the request in, as a problem document."""
    problem = refusal(decision, policy)
    return written(problem, problem.document(), PROBLEM_JSON, fields.fields(decision, problem.seconds))


def refusal(decision: Decision, policy: Policy) -> Problem:
    """What is told of a decision that did not let the request in, or would not let a response go on."""
    if decision.action is Action.UNAVAILABLE:
        return _unavailable(decision.id)
    limit, refusal = _binding(decision)
    violated = list(dict.fromkeys(refusal.limit.removesuffix(CANDIDATE) for refusal in decision.refusals))
    members: dict[str, Any] = {"instance": decision.id, "violated-policies": violated}
    clause = _clause(decision, policy, limit)
    if clause is not None:
        members["clause"] = clause
    wait = 0 if decision.retry_at is None else wait_ms(decision)
    return Problem(
        limit.deny_status,
        "Request cannot be satisfied as assigned quota has been exceeded",
        "quota-exceeded",
        limit.deny_message or _said(limit, refusal, decision, wait),
        members,
        _when(wait),
        limit,
        next(demand.verb.kind for demand in decision.demands if demand.place[1] == refusal.limit),
        wait,
    )


def _binding(decision: Decision) -> tuple[Limit, Refusal]:
    """Of the limits that refused, the one that refuses longest."""
    return max(decision.refusing(), key=lambda pair: float("inf") if isinstance(pair[1], Never) else pair[1].at)


def _said(limit: Limit, refusal: Refusal, decision: Decision, wait: int) -> str:
    at = next(at for at, demand in enumerate(decision.demands) if demand.place[1] == refusal.limit)
    demand, meter = decision.demands[at], limit.meter.name
    asked = max(1, demand.amount)
    if isinstance(refusal, Never):
        most = f"Limit `{limit.id}` grants at most {refusal.most} {meter}"
        # What a response asks for while it lives comes on top of what it holds.
        asks = f"asks for {asked}" if asked > refusal.most else "needs more"
        return f"{most}, and this request {asks}: waiting does not help."
    left = reading(demand, decision.balances[at], decision.now).left
    had = f"{left} {meter} left, and this request asks for {asked}" if left else f"no {meter} left for now"
    return f"Limit `{limit.id}` has {had}; it may grant again in {-(-wait // 1_000)} s."


def _clause(decision: Decision, policy: Policy, limit: Limit) -> dict[str, str] | None:
    named = [limit.clause, *[other.clause for other, _ in decision.refusing()]]
    clause = next((policy.clauses[name] for name in named if name in policy.clauses), None)
    return {"id": clause.id, "title": clause.title, "url": clause.url} if clause is not None else None


def _when(wait: int) -> tuple[Header, ...]:
    """When to come back, as clients read it; 0 for never."""
    if not wait:
        return ((b"x-should-retry", b"false"),)
    headers = ((b"retry-after", b"%d" % -(-wait // 1_000)), (b"retry-after-ms", b"%d" % wait))
    return (*headers, (b"x-should-retry", b"false")) if wait > PATIENCE * 1_000 else headers


def wait_ms(decision: Decision) -> int:
    """Milliseconds until the request may be made again: never less than its limits need, at least one.

    The jitter is the subject's own and stays, so that who asks twice is not told two things.
    """
    assert decision.retry_at is not None, "asked of refusals that end"
    least = max(1, -(-(decision.retry_at - decision.now) // 1_000))
    named = {refusal.limit for refusal in decision.refusals}
    subject = next((d.place[0] for d in decision.demands if d.place[1] in named), b"")
    # Its own end: how it begins it has in common with all keys of its org, which would come back in one moment.
    share = int.from_bytes(subject[-4:], "big") / 2**32
    return least + int(share * min(least * SPREAD, SPREAD_MOST))


def unavailable(instance: str = "") -> Reply:
    """The store, the directory or headgate itself is out of order, and the request is not let in for that."""
    return _told(_unavailable(instance))


def _unavailable(instance: str) -> Problem:
    wait = OUTAGE_MS + randrange(OUTAGE_SPREAD_MS)
    title = "Request cannot be satisfied due to temporary server capacity constraints"
    members = {"instance": instance} if instance else {}
    return Problem(503, title, "temporary-reduced-capacity", members=members, headers=_when(wait), wait=wait)


def nobody(policy: Policy) -> Reply:
    """No key, or a key that nobody knows: one answer for both."""
    challenges = [_challenge(source, policy.name) for source in policy.identify.key]
    headers = tuple([(b"www-authenticate", challenge) for challenge in dict.fromkeys(challenges)])
    title, detail = "It is not known who is calling", "A valid API key is needed."
    return _told(Problem(401, title, detail=detail, headers=headers))


def _challenge(source: Source, realm: str) -> bytes:
    told = realm.translate(_QUOTED).encode("ascii", "replace")
    if source.bearer:
        return b'Bearer realm="' + told + b'"'
    return b'ApiKey realm="' + told + b'", header="' + source.header + b'"'


_QUOTED = str.maketrans({'"': '\\"', "\\": "\\\\"})


def two_credentials() -> Reply:
    """Two different keys in one request."""
    return _told(Problem(400, "More than one credential", detail="The request carries two different keys: send one."))


def too_long(most: int) -> Reply:
    """A body of which more would have to be read than may be, to know which limits apply."""
    detail = f"What is charged depends on the body, and it is longer than the {most} bytes that are looked at."
    return _told(Problem(413, "The body is too long to be decided on", detail=detail))


def unread() -> Reply:
    """A body that may say which limits apply, to a reader that is not ours."""
    detail = "What is charged depends on the body, and it cannot be read: send plain JSON, not encoded and not deep."
    return _told(Problem(400, "The body cannot be read", detail=detail))


def twice(name: str) -> Reply:
    """A header or parameter that decides which limits apply, with two different values."""
    shown = "".join(letter for letter in name[:64] if letter.isalnum() or letter in "-_.")
    return _told(Problem(400, "Two values for one name", detail=f"`{shown}` comes twice and differs: send one."))


def no_such_page() -> Reply:
    """Nothing stands at this path of ours."""
    return _told(Problem(404, "There is no such page"))


def no_such_method(allowed: str) -> Reply:
    """The page is there; the method is not."""
    return _told(Problem(405, "The method is not allowed here", headers=((b"allow", allowed.encode("ascii")),)))
