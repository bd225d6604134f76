"""`legacy`: `X-RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds), which many clients have read for years, with
problem details (RFC 9457) as bodies.

Law: one limit is told: the scarcest, or of those that refuse the one that refuses longest. Clients that know nothing
else come back after the `Reset` of a refusal, and so it is its `Retry-After`. Seconds are whole and rounded up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from headgate.asgi.dialects.dialect import Dialect
from headgate.asgi.dialects.standings import Standings, anything
from headgate.asgi.replies import PROBLEM_JSON, Header, Problem
from headgate.quota.balance import FOREVER
from headgate.quota.decision import Decision


class Legacy(Dialect):
    """The old headers."""

    __slots__ = ("_standings",)

    name: ClassVar[str] = "legacy"
    media: ClassVar[bytes] = PROBLEM_JSON

    def __init__(self) -> None:
        self._standings = Standings(anything, alone=True)

    def fields(self, decision: Decision, wait: int = 0) -> list[Header]:
        """The limit that is told: what it grants, what is left of that, and in how many seconds it is whole again."""
        [told] = self._standings.told(decision, wait)
        if told is None:
            return []
        _, most, left, resets = told
        fields = [(b"x-ratelimit-limit", b"%d" % most), (b"x-ratelimit-remaining", b"%d" % left)]
        if resets < FOREVER:
            fields.append((b"x-ratelimit-reset", b"%d" % max(0, -((decision.now - resets) // 1_000_000))))
        return fields

    def document(self, problem: Problem) -> Mapping[str, Any]:
        """The problem document."""
        return problem.document()
