"""`ietf`: problem details (RFC 9457), `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11).

Law: what is sent is what `replies` and `ratelimit_headers` write; nothing is added here, and nothing takes longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from headgate.asgi.dialects.dialect import Dialect
from headgate.asgi.ratelimit_headers import RateLimitHeaders
from headgate.asgi.replies import PROBLEM_JSON, Problem, Reply


class Ietf(RateLimitHeaders, Dialect):
    """The default. `pepper` keys the partition keys of its headers."""

    __slots__ = ()

    name: ClassVar[str] = "ietf"
    media: ClassVar[bytes] = PROBLEM_JSON

    def document(self, problem: Problem) -> Mapping[str, Any]:
        """The problem document."""
        return problem.document()

    def said(self, reply: Reply) -> Reply:
        """As it is: `replies` writes this dialect."""
        return reply
