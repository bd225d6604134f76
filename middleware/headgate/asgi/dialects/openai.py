"""`openai`: as OpenAI's API tells limits and errors, and its SDKs read them.

Law: the SDK raises its own class by the status (`RateLimitError` of a 429) and takes `message`, `type`, `code` and
`param` from `error`; in a stream it raises `APIError` at an event whose data has `error`. It waits as
`retry-after-ms` or `Retry-After` says and tries again, unless `x-should-retry` is `false`.

- `code` is `insufficient_quota` for what a window of a calendar grants, or a lifetime: callers take that for good. It
  is `rate_limit_exceeded` for everything that comes back by and by; `type` is then what is limited.
- `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`: the scarcest limit of each kind, the reset as a duration of
  Go's (`6m0s`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from headgate.asgi.dialects.dialect import Dialect
from headgate.asgi.dialects.standings import Standings, requests, tokens
from headgate.asgi.replies import PATIENCE, Header, Problem
from headgate.quota.balance import FOREVER
from headgate.quota.decision import Decision

KINDS = ("requests", "tokens")

NAMES = tuple(
    [tuple([f"x-ratelimit-{role}-{kind}".encode() for role in ("limit", "remaining", "reset")]) for kind in KINDS]
)

LASTING = frozenset({"quota", "total"})
"""Verbs of which what is used up stays so until a window ends, or for good."""


class OpenAI(Dialect):
    """OpenAI's words."""

    __slots__ = ("_standings",)

    name: ClassVar[str] = "openai"
    event_name: ClassVar[str] = ""

    def __init__(self) -> None:
        self._standings = Standings(requests, tokens)

    def fields(self, decision: Decision, wait: int = 0) -> list[Header]:
        """The scarcest limit of requests and that of tokens."""
        fields: list[Header] = []
        for (limit, remaining, reset), told in zip(NAMES, self._standings.told(decision, wait), strict=True):
            if told is not None:
                _, most, left, resets = told
                fields += [(limit, b"%d" % most), (remaining, b"%d" % left)]
                if resets < FOREVER:
                    fields.append((reset, duration(-((decision.now - resets) // 1_000)).encode("ascii")))
        return fields

    def document(self, problem: Problem) -> Mapping[str, Any]:
        """`{"error": {…}}`, with what else a problem tells inside."""
        kind, code = _kind(problem)
        message = problem.detail or problem.title
        limit = problem.limit
        if limit is not None and not limit.deny_message and 0 < problem.wait <= PATIENCE * 1_000:
            # Clients look for these very words where no header can tell it: at the end of a stream.
            message += f" Please try again in {duration(problem.wait)}."
        return {"error": {"message": message, "type": kind, "param": None, "code": code, **problem.members}}

    def headers(self, problem: Problem) -> list[Header]:
        """The decision's id where the SDK looks for a request's."""
        return [(b"x-request-id", problem.instance.encode("ascii"))] if problem.instance else []


def _kind(problem: Problem) -> tuple[str, str | None]:
    """An error's `type` and `code`."""
    if problem.limit is not None:
        if problem.verb in LASTING:
            return "insufficient_quota", "insufficient_quota"
        meter = problem.limit.meter
        kind = "requests" if requests(meter) else "tokens" if tokens(meter) else meter.name
        return kind, "rate_limit_exceeded"
    if problem.status >= 500:
        return "server_error", None
    return "invalid_request_error", "invalid_api_key" if problem.status == 401 else None


def duration(milliseconds: int) -> str:
    """A duration as Go writes it, never negative.

    >>> [duration(ms) for ms in (0, 20, 1_000, 59_668, 360_000, 90_000_000)]
    ['0s', '20ms', '1s', '59.668s', '6m0s', '25h0m0s']
    """
    if milliseconds < 1_000:
        return f"{milliseconds}ms" if milliseconds > 0 else "0s"
    whole, rest = divmod(milliseconds, 1_000)
    minutes, seconds = divmod(whole, 60)
    told = f"{seconds}.{rest:03d}".rstrip("0") if rest else str(seconds)
    if not minutes:
        return f"{told}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{told}s" if hours else f"{minutes}m{told}s"
