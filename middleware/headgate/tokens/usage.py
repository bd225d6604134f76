"""The counts of tokens that an API reports, by one contract.

Law: counts are *inclusive*: the input has the cached tokens in it, the output those of reasoning. Who counts them
beside each other (Anthropic its cache; some that look like OpenAI their reasoning) is added up here. A number counts
if it is a whole one from 0 to 2^53 - 1 and was written as one; anything else is as if it was not reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

MOST = 2**53 - 1
"""The largest count: what a double holds exactly."""

METERS: Mapping[str, str] = MappingProxyType(
    {"input_tokens": "input", "cached_tokens": "cached", "output_tokens": "output", "reasoning_tokens": "reasoning"}
)
"""The meters of tokens, each with its field of `Usage`."""

MILLION = 1_000_000


REPORT = re.compile(rb'"usage"(?!: ?null)').search
ESCAPED = re.compile(rb'"(?:u|\\u0075)(?:s|\\u0073)(?:a|\\u0061)(?:g|\\u0067)(?:e|\\u0065)"').search


class Usage(NamedTuple):
    """What was reported so far, in tokens; None is what was not.

    `cached` is part of `input`: read from a cache; what was written to one is plain input. `reasoning` is part of
    `output`.
    """

    input: int | None = None
    cached: int | None = None
    output: int | None = None
    reasoning: int | None = None

    def merged(self, later: Usage) -> Usage:
        """This with what is known from a later report.

        >>> Usage(input=25, output=1).merged(Usage(output=15))
        Usage(input=25, cached=None, output=15, reasoning=None)
        """
        return Usage(*[old if new is None else new for old, new in zip(self, later, strict=True)])


def estimated(size: int, bytes_a_token: int = 4 * MILLION) -> int:
    """Tokens that so many bytes of text are likely to be, rounded up. `bytes_a_token` is in millionths.

    >>> estimated(0), estimated(1), estimated(8), estimated(8, 3_500_000)
    (0, 1, 2, 3)
    """
    return -(-size * MILLION // bytes_a_token)


def counts(report: Mapping[str, Any]) -> dict[str, int]:
    """The numbers of a `usage` object, by names of our own, not yet inclusive. Reports of one stream are put together
    in this form: a later one of Anthropic's may have the input's count without that of the cache.

    >>> counts({"prompt_tokens": 9, "completion_tokens": True, "prompt_tokens_details": {"cached_tokens": 4}})
    {'input': 9, 'cached': 4}
    """
    return dict(_counts(report))


def inclusive(found: Mapping[str, int]) -> Usage:
    """The usage that `counts` of one response make together.

    >>> inclusive(counts({"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20}))
    Usage(input=125, cached=100, output=None, reasoning=None)
    """
    taken, cached = found.get("input"), found.get("cached")
    if taken is None and "beside" in found:
        cached = found.get("read", cached)
        taken = found["beside"] + found.get("read", 0) + found.get("written", 0)
    output, reasoning = found.get("output"), found.get("reasoning")
    if output is not None and reasoning and found.get("total") == (taken or 0) + output + reasoning:
        output += reasoning  # the total says that it was counted beside the output
    return Usage(
        input=_safe(taken),
        cached=cached if taken is None or cached is None else min(cached, taken),
        output=_safe(output),
        reasoning=reasoning if output is None or reasoning is None else min(reasoning, output),
    )


def report_of(event: Any) -> dict[str, Any] | None:
    """The usage object of a stream's event, where an API writes it; None if there is none.

    >>> report_of({"type": "message_start", "message": {"usage": {"input_tokens": 3}}})
    {'input_tokens': 3}
    >>> report_of({"choices": [{"delta": {"usage": {"input_tokens": 3}}}], "usage": None})
    """
    if not isinstance(event, dict):
        return None
    for holder in (event, event.get("message"), event.get("response")):
        found = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(found, dict):
            return found
    return None


def may_report(data: bytes, start: int, end: int) -> bool:
    """Whether a report may stand in an event's bytes. It may not where JSON need not be read: OpenAI sends
    `"usage":null` in every other chunk of a stream that reports. The name may be spelt with escapes."""
    if REPORT(data, start, end) is not None:
        return True
    return data.find(b"\\u00", start, end) >= 0 and ESCAPED(data, start, end) is not None


def _counts(report: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    # OpenAI's chat completions and embeddings say prompt and completion. Responses and Anthropic's messages both say
    # input_tokens, the former with details of it, and only the latter counts its cache beside it.
    within = report.get("input_tokens_details")
    if not isinstance(within, dict):
        within = report.get("prompt_tokens_details")
        mine = "input" if "prompt_tokens" in report else "beside"
    else:
        mine = "input"
    of_output = report.get("output_tokens_details", report.get("completion_tokens_details"))
    details = of_output if isinstance(of_output, dict) else {}
    for name, value in (
        (mine, report.get("prompt_tokens", report.get("input_tokens"))),
        ("output", report.get("completion_tokens", report.get("output_tokens"))),
        ("cached", within.get("cached_tokens") if isinstance(within, dict) else None),
        ("reasoning", details.get("reasoning_tokens", details.get("thinking_tokens"))),
        ("written", report.get("cache_creation_input_tokens")),
        ("read", report.get("cache_read_input_tokens")),
        ("total", report.get("total_tokens")),
    ):
        if type(value) is int and 0 <= value <= MOST:
            yield name, value


def _safe(amount: int | None) -> int | None:
    """A sum of counts, no more than can be counted."""
    return None if amount is None else min(amount, MOST)
