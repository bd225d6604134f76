"""What is seen from outside: structured events with stable names.

Law: an event carries ids, limits and numbers, never a secret, a prompt or a raw address; a name once given is kept.
The library configures nobody's logging: events go to the standard logger `headgate` as one line of JSON, and the
host decides where that is shown. Rendering is ours (structlog), so that a line reads the same everywhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

LONGEST = 256
"""Characters of the longest text in an event: what comes from outside cannot fill a log."""

SECRET_NAMES = re.compile(r"secret|token|pepper|password|authorization|cookie|credential|prompt|api_key", re.I)
SECRET_TEXT = re.compile(r"\bhg_[A-Za-z0-9_-]{16,}|\bbearer\s+\S+|(?<=://)[^/@\s]+(?=@)", re.I)


def redacted(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: hides what looks like a secret, by name and by form, and cuts long text.

    >>> redacted(None, "info", {"event": "x", "pepper": "p", "why": "got Bearer abc.def"})
    {'event': 'x', 'pepper': '[hidden]', 'why': 'got [hidden]'}
    """
    for name, value in event.items():
        if SECRET_NAMES.search(name):
            event[name] = "[hidden]"
        elif isinstance(value, str):
            event[name] = SECRET_TEXT.sub("[hidden]", value)[:LONGEST]
    return event


logger = logging.getLogger("headgate")
logger.addHandler(logging.NullHandler())

events: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logger,
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redacted,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(sort_keys=False),
    ],
)
"""Where headgate's events go. `events.info("headgate.denied", limit="rpm")` is one line of JSON."""


def log_to(target: str, level: str = "info") -> None:
    """Send events to standard error (`stderr`) or append them to a file, for those who configure no logging.

    Each worker appends whole lines. Raises ValueError for a level that does not exist, OSError for a file that
    cannot be written.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"no log level `{level}`: use debug, info, warning or error")
    handler = logging.StreamHandler() if target == "stderr" else logging.FileHandler(Path(target), encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(number)
