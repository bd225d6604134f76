"""One line of a log as a value: what was asked, by whom, when, and what was given.

Law: a line is an entry or it is not, and which it is, is said without a word of what stands in it: lines hold
prompts and addresses. A field may be missing; one that is there and cannot be right makes the line none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from headgate.quota.balance import SAFE

LONGEST_NAME = 256
"""Letters of the longest key or org: they are kept for as long as the log is read."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

Count = Annotated[int, msgspec.Meta(ge=0, le=SAFE)]


class Unfit(ValueError):
    """A line that is no entry; the message says why and repeats nothing of it."""


class Entry(msgspec.Struct, gc=False):
    """One request as the log tells it; what a line does not say is None. `at`: when, in microseconds.

    The fields are those of the access-log format (docs/command-line.md). `gc=False`: it holds no cycles, and the
    collector need not look at a hundred thousand of them.
    """

    ts: float | str | None = None
    key: str | None = None
    org: str | None = None
    method: str | None = None
    path: str | None = None
    status: int | None = None
    ip: str | None = None
    user_agent: str | None = None
    ja4: str | None = None
    bytes_out: Count | None = None
    tokens_in: Count | None = None
    tokens_out: Count | None = None
    records: Count | None = None
    resources: list[str] | None = None
    prompt: str | None = None
    traits: dict[str, Any] | None = None
    at: int = 0


_decode = msgspec.json.Decoder(Entry).decode


def entry_of(line: bytes, before: int | None) -> Entry:
    """The entry that a line of JSON is. `before`: the instant of the line before, which one without a time has too.

    Raises Unfit.

    >>> entry_of(b'{"ts": 1.5, "key": "k1"}', None).at, entry_of(b'{"key": "k1"}', 7).at
    (1500000, 7)
    >>> entry_of(b'{"ts": 1.5, "status": "secret"}', None)
    Traceback (most recent call last):
    headgate.replay.entry.Unfit: Expected `int | null`, got `str` - at `$.status`
    """
    try:
        entry = _decode(line)
    except msgspec.ValidationError as fault:
        raise Unfit(str(fault)) from None
    except msgspec.DecodeError as fault:
        raise Unfit("is empty" if not line.strip() else _without_text(str(fault))) from None
    except (UnicodeDecodeError, RecursionError) as fault:
        raise Unfit("is no UTF-8" if isinstance(fault, UnicodeDecodeError) else "is nested too deep") from None
    ts = entry.ts
    if type(ts) is float:
        entry.at = round(ts * 1e6)
    elif ts is None:
        if before is None:
            raise Unfit("has no `ts`, and no line before it has one")
        entry.at = before
    else:
        entry.at = instant(str(ts))
    if not 0 <= entry.at <= SAFE:
        raise Unfit("`ts` is no time in seconds" + (": it may be in milliseconds" if entry.at > SAFE else ""))
    if len(entry.key or "") > LONGEST_NAME or len(entry.org or "") > LONGEST_NAME:
        raise Unfit(f"`key` or `org` is longer than {LONGEST_NAME} letters")
    return entry


def instant(text: str) -> int:
    """A time in ISO 8601 in microseconds since the epoch; one without an offset is UTC. Raises Unfit.

    >>> instant("1970-01-01T00:00:01Z"), instant("1970-01-01T01:00:01+01:00"), instant("1970-01-01 00:00:01")
    (1000000, 1000000, 1000000)
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Unfit("`ts` is neither seconds nor a time in ISO 8601") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return (found - EPOCH) // MICROSECOND


def _without_text(told: str) -> str:
    """What a decoder says of a line; it tells places and kinds, and where it would quote, that is left out."""
    return "is no JSON: " + told.removeprefix("JSON is malformed: ").split("'")[0].strip()
