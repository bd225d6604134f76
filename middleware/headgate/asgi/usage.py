"""What a caller may ask about itself: `GET /headgate/v1/usage` and `/headgate/v1/standing`, answered by headgate with
the caller's own key.

Law: it costs nothing and lets nothing through: whatever stands under the prefix is answered here and never reaches
the app. Nothing in an answer tells of another customer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from headgate.asgi import replies
from headgate.asgi.identify import Intake, Scope
from headgate.asgi.replies import Reply
from headgate.errors import StoreError
from headgate.gate import Gate
from headgate.policy.compiled import Policy
from headgate.quota.balance import FOREVER
from headgate.quota.decision import Reading
from headgate.quota.facts import Principal
from headgate.quota.match import Line
from headgate.quota.window import Max

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def under(prefix: str, scope: Scope) -> str | None:
    """The path below headgate's own prefix, or None if the request is the app's. No `prefix`: all are the app's.

    Read as the app's routers would: the path as the server decoded it, without the prefix of a mount. Any other
    spelling is the app's, and is charged like every request.

    >>> under("/headgate", {"path": "/headgate/v1/usage"}), under("/headgate", {"path": "/headgates"})
    ('/v1/usage', None)
    """
    if not prefix:
        return None
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in {"", "/"}:
        path = path[len(root) :]
    if not path.startswith(prefix):
        return None
    rest = path[len(prefix) :]
    return rest if rest[:1] in {"", "/"} else None


async def answered(gate: Gate, intake: Intake, scope: Scope, page: str) -> Reply:
    """The reply to a request under the prefix. Raises `TwoCredentials`."""
    told = PAGES.get(page)
    if told is None or scope["type"] != "http":
        return replies.no_such_page()
    if scope["method"] not in {"GET", "HEAD"}:
        return replies.no_such_method("GET, HEAD")
    principal = await gate.identify(intake.secret(scope["headers"]))
    if principal is None or principal.anonymous:
        return replies.nobody(gate.policy)
    lines = {line.name: line for line in gate.tariff(principal).lines}
    try:
        seen = await gate.look(principal)
    except (StoreError, TimeoutError):
        return replies.unavailable()
    rows = [(lines[limit.id], found) for limit, found in seen if limit.id in lines]
    whose = {"key": principal.key, "org": principal.org, "plan": principal.plan}
    return replies.answer({**whose, **told(rows, principal, gate.policy)})


Rows = Sequence[tuple[Line, Reading]]
"""The limits that are a caller's own to use up, each as it stands for it, with what is used of it."""


def _usage(rows: Rows, principal: Principal, policy: Policy) -> dict[str, Any]:
    return {"limits": [_row(line, seen, policy) for line, seen in rows]}


def _standing(rows: Rows, principal: Principal, policy: Policy) -> dict[str, Any]:
    """What stands between a caller and its next request: the terms, sanctions, and limits that are used up.

    No step of the ladder is taken by this version, so that nobody is under a sanction.
    """
    return {
        "terms": _terms(principal, policy),
        "sanctions": [],
        "exhausted": [
            {
                "limit": line.limit.id,
                "mode": _mode(line),
                "resets": _resets(line, seen),
                "clause": _clause(line, policy),
            }
            for line, seen in rows
            if not seen.left
        ],
    }


PAGES: Mapping[str, Callable[[Rows, Principal, Policy], dict[str, Any]]] = {
    "/v1/usage": _usage,
    "/v1/standing": _standing,
}
"""What is told on each page beside who asks."""


def _terms(principal: Principal, policy: Policy) -> dict[str, Any] | None:
    """The terms in force, the version that the caller's org has accepted, and whether it has still to accept them."""
    terms = policy.acceptance
    if terms is None:
        return None
    due = principal.accepted != terms.version
    return {"version": terms.version, "url": terms.url, "accepted": principal.accepted or None, "due": due}


def _row(line: Line, seen: Reading, policy: Policy) -> dict[str, Any]:
    limit = line.limit
    return {
        "limit": limit.id,
        "meter": limit.meter.name,
        "per": "+".join(limit.per),
        "verb": line.verb.kind,
        "used": seen.used,
        "held": seen.held,
        "quota": seen.capacity,
        "resets": _resets(line, seen),
        "mode": _mode(line),
        "clause": _clause(line, policy),
    }


def _mode(line: Line) -> str:
    return "shadow" if line.shadow else "enforce"


def _clause(line: Line, policy: Policy) -> dict[str, str] | None:
    clause = policy.clauses.get(line.limit.clause)
    return None if clause is None else {"id": clause.id, "title": clause.title, "url": clause.url}


def _resets(line: Line, seen: Reading) -> str | None:
    return None if isinstance(line.verb, Max) else _instant(seen.resets)


def _instant(at: int) -> str | None:
    """An instant as RFC 3339 writes it, in whole seconds and never early; None for one that does not come."""
    if at >= FOREVER:
        return None
    return (EPOCH + timedelta(seconds=-(-at // 1_000_000))).isoformat().replace("+00:00", "Z")
