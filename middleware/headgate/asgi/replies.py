"""What a refused request is told, in words and headers that HTTP clients act on.

Law: denied is never unavailable: a quota is a 429 (or what the limit's `deny` says), an outage a 503. A caller learns
of its own limits alone, and a caller that nobody knows learns nothing: no key and an unknown key are answered alike,
byte for byte.

Bodies are problem details (RFC 9457). A request that *never* fits (it asks for more than the whole quota) gets no
`Retry-After`: to wait would not help, and it is told the most that it may ask for.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from random import randrange
from typing import Any

from headgate.asgi.ratelimit_headers import RateLimitHeaders
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


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response."""

    status: int
    headers: tuple[Header, ...]
    body: bytes

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


def problem(status: int, title: str, *headers: Header, kind: str = "", **members: Any) -> Reply:
    """A problem document. `kind` is its type's name in the registry, "" for `about:blank`."""
    if "detail" in members:
        # An extension member (RFC 9457, 3.2): OpenAI's clients show `message` and nothing else of a body.
        members["message"] = members["detail"]
    document = {"type": TYPES + kind if kind else "about:blank", "title": title, "status": status, **members}
    return _json(status, document, b"application/problem+json", headers)


def answer(document: Mapping[str, Any]) -> Reply:
    """A 200 with a JSON document that is the caller's alone."""
    return _json(200, document, b"application/json", ())


def _json(status: int, document: Mapping[str, Any], media: bytes, headers: Iterable[Header]) -> Reply:
    body = json.dumps(document, ensure_ascii=True).encode("ascii")
    length = (b"content-length", b"%d" % len(body))
    return Reply(status, ((b"content-type", media), length, NO_STORE, *headers), body)


def refused(decision: Decision, policy: Policy, fields: RateLimitHeaders) -> Reply:
    """The reply to a decision that did not let the request in."""
    if decision.action is Action.UNAVAILABLE:
        return unavailable(decision.id)
    limit, refusal = _binding(decision)
    violated = list(dict.fromkeys(refusal.limit.removesuffix(CANDIDATE) for refusal in decision.refusals))
    members: dict[str, Any] = {
        "detail": limit.deny_message or _said(limit, refusal, decision),
        "instance": decision.id,
        "violated-policies": violated,
    }
    clause = _clause(decision, policy, limit)
    if clause is not None:
        members["clause"] = clause
    headers, wait = _when(decision, refusal)
    headers += fields.fields(decision, wait)
    title = "Request cannot be satisfied as assigned quota has been exceeded"
    return problem(limit.deny_status, title, *headers, kind="quota-exceeded", **members)


def _binding(decision: Decision) -> tuple[Limit, Refusal]:
    """Of the limits that refused, the one that refuses longest."""
    return max(decision.refusing(), key=lambda pair: float("inf") if isinstance(pair[1], Never) else pair[1].at)


def _said(limit: Limit, refusal: Refusal, decision: Decision) -> str:
    at = next(at for at, demand in enumerate(decision.demands) if demand.place[1] == refusal.limit)
    demand, meter = decision.demands[at], limit.meter.name
    asked = max(1, demand.amount)
    if isinstance(refusal, Never):
        most = f"Limit `{limit.id}` grants at most {refusal.most} {meter}"
        return f"{most}, and this request asks for {asked}: waiting does not help."
    left = reading(demand, decision.balances[at], decision.now).left
    had = f"{left} {meter} left, and this request asks for {asked}" if left else f"no {meter} left for now"
    return f"Limit `{limit.id}` has {had}; it may grant again in {-(-wait_ms(decision) // 1_000)} s."


def _clause(decision: Decision, policy: Policy, limit: Limit) -> dict[str, str] | None:
    named = [limit.clause, *[other.clause for other, _ in decision.refusing()]]
    clause = next((policy.clauses[name] for name in named if name in policy.clauses), None)
    return {"id": clause.id, "title": clause.title, "url": clause.url} if clause is not None else None


def _when(decision: Decision, refusal: Refusal) -> tuple[list[Header], int]:
    """When to come back, as clients read it: (headers, whole seconds or 0 for never)."""
    if decision.retry_at is None:
        return [(b"x-should-retry", b"false")], 0
    wait = wait_ms(decision)
    headers = [(b"retry-after", b"%d" % -(-wait // 1_000)), (b"retry-after-ms", b"%d" % wait)]
    if wait > PATIENCE * 1_000:
        headers.append((b"x-should-retry", b"false"))
    return headers, -(-wait // 1_000)


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
    wait = OUTAGE_MS + randrange(OUTAGE_SPREAD_MS)
    headers = ((b"retry-after", b"%d" % -(-wait // 1_000)), (b"retry-after-ms", b"%d" % wait))
    title = "Request cannot be satisfied due to temporary server capacity constraints"
    members = {"instance": instance} if instance else {}
    return problem(503, title, *headers, kind="temporary-reduced-capacity", **members)


def nobody(policy: Policy) -> Reply:
    """No key, or a key that nobody knows: one answer for both."""
    challenges = [_challenge(source, policy.name) for source in policy.identify.key]
    headers = [(b"www-authenticate", challenge) for challenge in dict.fromkeys(challenges)]
    return problem(401, "It is not known who is calling", *headers, detail="A valid API key is needed.")


def _challenge(source: Source, realm: str) -> bytes:
    told = realm.translate(_QUOTED).encode("ascii", "replace")
    if source.bearer:
        return b'Bearer realm="' + told + b'"'
    return b'ApiKey realm="' + told + b'", header="' + source.header + b'"'


_QUOTED = str.maketrans({'"': '\\"', "\\": "\\\\"})


def two_credentials() -> Reply:
    """Two different keys in one request."""
    return problem(400, "More than one credential", detail="The request carries two different keys: send one.")


def too_long(most: int) -> Reply:
    """A body of which more would have to be read than may be, to know which limits apply."""
    detail = f"Which limits apply depends on the body, and it is longer than the {most} bytes that are looked at."
    return problem(413, "The body is too long to be decided on", detail=detail)


def unread() -> Reply:
    """A body that may say which limits apply, to a reader that is not ours."""
    detail = (
        "Which limits apply depends on the body, and it cannot be read: send plain JSON, not encoded and not deep."
    )
    return problem(400, "The body cannot be read", detail=detail)


def twice(name: str) -> Reply:
    """A header or parameter that decides which limits apply, with two different values."""
    shown = "".join(letter for letter in name[:64] if letter.isalnum() or letter in "-_.")
    return problem(400, "Two values for one name", detail=f"`{shown}` comes twice and differs: send one.")


def no_such_page() -> Reply:
    """Nothing stands at this path of ours."""
    return problem(404, "There is no such page")


def no_such_method(allowed: str) -> Reply:
    """The page is there; the method is not."""
    return problem(405, "The method is not allowed here", (b"allow", allowed.encode("ascii")))
