"""What a caller may ask about itself: `GET /headgate/v1/usage`, answered by headgate with the caller's own key.

Law: it costs nothing and lets nothing through: whatever stands under the prefix is answered here and never reaches
the app. Nothing in an answer tells of another customer.
"""

from __future__ import annotations

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
    if page != "/v1/usage" or scope["type"] != "http":
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
    rows = [_row(lines[limit.id], found, gate.policy) for limit, found in seen if limit.id in lines]
    return replies.answer({"key": principal.key, "org": principal.org, "plan": principal.plan, "limits": rows})


def _row(line: Line, seen: Reading, policy: Policy) -> dict[str, Any]:
    limit = line.limit
    clause = policy.clauses.get(limit.clause)
    return {
        "limit": limit.id,
        "meter": limit.meter.name,
        "per": "+".join(limit.per),
        "verb": line.verb.kind,
        "used": seen.used,
        "held": seen.held,
        "quota": seen.capacity,
        "resets": None if isinstance(line.verb, Max) else _instant(seen.resets),
        "mode": "shadow" if line.shadow else "enforce",
        "clause": {"id": clause.id, "title": clause.title, "url": clause.url} if clause is not None else None,
    }


def _instant(at: int) -> str | None:
    """An instant as RFC 3339 writes it, in whole seconds and never early; None for one that does not come."""
    if at >= FOREVER:
        return None
    return (EPOCH + timedelta(seconds=-(-at // 1_000_000))).isoformat().replace("+00:00", "Z")
