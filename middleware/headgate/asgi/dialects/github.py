"""`github`: as GitHub's REST API tells limits and errors, and its clients read them.

Law: clients know a limit by `x-ratelimit-remaining: 0` beside a 403 or 429, or by a message that begins with `API
rate limit exceeded`; they come back at `x-ratelimit-reset`, seconds since 1970 by the server's clock.

One limit is told: the scarcest, or of those that refuse the one that refuses longest. `x-ratelimit-resource` is its
id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from headgate.asgi.dialects.dialect import Dialect
from headgate.asgi.dialects.standings import Standings, anything
from headgate.asgi.replies import TYPES, Header, Problem
from headgate.quota.balance import FOREVER
from headgate.quota.decision import Decision

EXCEEDED = "API rate limit exceeded"
"""How a refusal's message begins: PyGithub and Octokit look for these words."""


class GitHub(Dialect):
    """GitHub's words."""

    __slots__ = ("_standings",)

    name: ClassVar[str] = "github"

    def __init__(self) -> None:
        self._standings = Standings(anything, alone=True)

    def fields(self, decision: Decision, wait: int = 0) -> list[Header]:
        """The limit that is told: what it grants, what is left and used of it, when it is whole again, its id."""
        [told] = self._standings.told(decision, wait)
        if told is None:
            return []
        limit, most, left, resets = told
        fields = [
            (b"x-ratelimit-limit", b"%d" % most),
            (b"x-ratelimit-remaining", b"%d" % left),
            (b"x-ratelimit-used", b"%d" % (most - left)),
        ]
        if resets < FOREVER:
            fields.append((b"x-ratelimit-reset", b"%d" % -(-max(resets, decision.now) // 1_000_000)))
        return [*fields, (b"x-ratelimit-resource", limit.encode("ascii", "replace"))]

    def document(self, problem: Problem) -> Mapping[str, Any]:
        """`message`, `documentation_url` and `status` (a string, as GitHub has it), and what else a problem tells."""
        message = problem.detail or problem.title
        if problem.limit is not None:
            message = f"{EXCEEDED}: {message}"
        clause = problem.members.get("clause") or {}
        where = clause.get("url") or (TYPES + problem.kind if problem.kind else "")
        return {"message": message, "documentation_url": where, "status": str(problem.status), **problem.members}
