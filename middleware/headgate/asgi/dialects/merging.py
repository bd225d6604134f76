"""Our headers beside those that the app behind has set itself, whatever dialect either speaks.

Law: what is told is never laxer than what the app has told. Headers that speak of one limit together (`limit`,
`remaining`, `reset`, …) stay or go together: of two such families under one name the one with less left is told, and
the app's where it cannot be read. Names that only the app uses are not touched.
"""

from __future__ import annotations

import re

from headgate.asgi.dialects import anthropic, openai
from headgate.asgi.ratelimit_headers import CURRENT, POLICY
from headgate.asgi.ratelimit_headers import merged as merged_by_draft
from headgate.asgi.replies import Header

ROLES = (b"limit", b"remaining", b"reset", b"used", b"resource")

FAMILIES: dict[bytes, tuple[bytes, bytes]] = {
    **{b"x-ratelimit-" + role: (b"", role) for role in ROLES},
    **{
        name: (limit, role)
        for limit, *rest in (*openai.NAMES, *anthropic.NAMES)
        for role, name in zip(ROLES, (limit, *rest), strict=False)
    },
}
"""By the name of a header, the family that it is of, and its role there."""

NAMES = frozenset({POLICY, CURRENT, *FAMILIES})
"""Every name, in lower case, under which a dialect tells limits: where the app has set one, `merged` is needed."""

NUMBER = re.compile(rb"\s*(\d{1,15})\s*\Z")


def merged(headers: list[Header], ours: list[Header]) -> list[Header]:
    """The response's headers with ours, where the app behind has set such headers of its own.

    >>> merged([(b"X-RateLimit-Limit", b"9"), (b"X-RateLimit-Remaining", b"1")], [(b"x-ratelimit-remaining", b"5")])
    [(b'X-RateLimit-Limit', b'9'), (b'X-RateLimit-Remaining', b'1')]
    """
    theirs = _left(headers)
    mine = _left(ours)
    stay = {family for family, left in theirs.items() if family in mine and left <= mine[family]}
    go = mine.keys() - stay
    kept = [header for header in headers if _family(header) not in go]
    told = [header for header in ours if _family(header) not in stay]
    draft = [header for header in told if header[0] in {POLICY, CURRENT}]
    if draft:
        kept = merged_by_draft(kept, draft)
    return kept + [header for header in told if header[0] not in {POLICY, CURRENT}]


def _family(header: Header) -> bytes | None:
    known = FAMILIES.get(header[0].lower())
    return known[0] if known is not None else None


def _left(headers: list[Header]) -> dict[bytes, int]:
    """By family, what is told as left: the least of what stands there, 0 where nothing can be read."""
    found: dict[bytes, list[int]] = {}
    for name, value in headers:
        known = FAMILIES.get(name.lower())
        if known is not None:
            numbers = found.setdefault(known[0], [])
            if known[1] == b"remaining":
                read = NUMBER.match(value)
                numbers.append(int(read[1]) if read else 0)
    return {family: min(numbers, default=0) for family, numbers in found.items()}
