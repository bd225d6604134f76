"""`anthropic`: as Anthropic's API tells limits and errors, and its SDKs read them.

Law: the SDK raises its own class by the status and takes `type` and `message` from `error`; in a stream it raises
`APIStatusError` at an event named `error`. It waits as `retry-after-ms` or `Retry-After` says, however long, unless
`x-should-retry` is `false`.

`anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`: the scarcest limit of each
kind, `tokens` being the scarcest of all that count tokens; the reset as an instant of RFC 3339.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar

from headgate.asgi.dialects.dialect import Dialect
from headgate.asgi.dialects.standings import Standings, input_tokens, output_tokens, requests, tokens
from headgate.asgi.replies import Header, Problem
from headgate.quota.balance import FOREVER
from headgate.quota.decision import Decision

KINDS = ("requests", "tokens", "input-tokens", "output-tokens")

NAMES = tuple(
    [
        tuple([f"anthropic-ratelimit-{kind}-{role}".encode() for role in ("limit", "remaining", "reset")])
        for kind in KINDS
    ]
)

TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
"""An error's type by the status; others are an `invalid_request_error`."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

INSTANTS = 4_096
"""Seconds that are kept written."""


class Anthropic(Dialect):
    """Anthropic's words."""

    __slots__ = ("_standings",)

    name: ClassVar[str] = "anthropic"

    def __init__(self) -> None:
        self._standings = Standings(requests, tokens, input_tokens, output_tokens)

    def fields(self, decision: Decision, wait: int = 0) -> list[Header]:
        """The scarcest limit of each kind."""
        fields: list[Header] = []
        for (limit, remaining, reset), told in zip(NAMES, self._standings.told(decision, wait), strict=True):
            if told is not None:
                _, most, left, resets = told
                fields += [(limit, b"%d" % most), (remaining, b"%d" % left)]
                if resets < FOREVER:
                    fields.append((reset, instant(-(-max(resets, decision.now) // 1_000_000))))
        return fields

    def document(self, problem: Problem) -> Mapping[str, Any]:
        """`{"type": "error", "error": {…}, "request_id": …}`, with what else a problem tells inside of `error`."""
        # A limit's refusal is one, whatever status its `deny` has chosen.
        kind = TYPES[429] if problem.limit is not None else TYPES.get(problem.status, "invalid_request_error")
        error = {"type": kind, "message": problem.detail or problem.title, **problem.members}
        return {"type": "error", "error": error, "request_id": problem.instance or None}

    def headers(self, problem: Problem) -> list[Header]:
        """The decision's id where the SDK looks for a request's."""
        return [(b"request-id", problem.instance.encode("ascii"))] if problem.instance else []


@lru_cache(INSTANTS)
def instant(seconds: int) -> bytes:
    """An instant (seconds since 1970) as RFC 3339 writes it.

    >>> instant(1_767_225_600)
    b'2026-01-01T00:00:00Z'
    """
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").encode("ascii")
