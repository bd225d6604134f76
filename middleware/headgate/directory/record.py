"""What a directory may say of a key: the fields, their forms, and the principal that they make.

Law: whoever answers (a file, the app's own function), the same rules hold for each field, so that nothing reaches a
limit, a log or a header that could not stand there. It knows no file and no secret.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

NAME_MOST = 128
"""Characters of the longest key id, org, plan or tag."""

VALUE_MOST = 1024
"""Characters of the longest trait or claim."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Unfit(ValueError):
    """A value that a field cannot have; the message says what it must be, and does not repeat the value."""


def named(text: str) -> str:
    """A name: of a key, an org, a plan, a tag. Raises Unfit for one that is empty, long or not visible.

    >>> named("acme corp")
    'acme corp'
    """
    if not text:
        raise Unfit("is empty")
    if len(text) > NAME_MOST:
        raise Unfit(f"is longer than {NAME_MOST} characters")
    if text != text.strip() or not text.isprintable():
        raise Unfit("has blanks at its ends or characters that cannot be seen")
    return text


def key_id(text: str) -> str:
    """A key's public id: letters, digits and `_ . : -`. Raises Unfit for another, and for a secret.

    >>> key_id("k_3f9c21d07a55")
    'k_3f9c21d07a55'
    """
    named(text)
    if text.startswith("hg_"):
        raise Unfit("is a secret (it begins with `hg_`): the public id stands here")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]*", text):
        raise Unfit("is no id: letters, digits and `_ . : -`, such as k_3f9c21d07a55")
    return text


def value(text: str) -> str:
    """A trait's or claim's value. Raises Unfit for one that is very long."""
    if len(text) > VALUE_MOST:
        raise Unfit(f"is longer than {VALUE_MOST} characters")
    return text


@lru_cache(maxsize=4096)  # many keys are made on one day
def instant(text: str) -> int:
    """A date or an RFC 3339 instant in microseconds since the epoch; a date is its midnight in UTC.

    >>> instant("1970-01-02"), instant("1970-01-01T02:00:00+01:00")
    (86400000000, 3600000000)

    Raises Unfit for anything else, an instant without its offset from UTC among it.
    """
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            begun = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        elif re.fullmatch(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", text, re.ASCII):
            begun = datetime.fromisoformat(text.upper())
        else:
            raise ValueError
    except ValueError:
        raise Unfit("is neither a date (2026-01-31) nor an instant with its offset (2026-01-31T09:00:00Z)") from None
    return (begun - EPOCH) // MICROSECOND
