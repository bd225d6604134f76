"""What is seen from outside: structured events with stable names.

Law: an event carries ids, limits and numbers, never a secret, a prompt or a raw address; a name once given is kept.
One event is one line of JSON in ASCII, whatever its values hold, and no line is longer than `LONGEST_LINE`: what
comes from outside can neither forge a line nor fill a log.

The library configures nobody's logging: events go to the standard logger `headgate`, and the host decides where that
is shown. Rendering is ours (structlog), so that a line reads the same everywhere.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import structlog

DEBUG, INFO = logging.DEBUG, logging.INFO

LONGEST = 256
"""Characters of the longest text in an event."""

LONGEST_TRACE = 4096
"""Characters kept of a traceback: its end, where the fault is named."""

LONGEST_LINE = 16_384
"""Bytes of the longest event; a longer one keeps its name and says that it was cut."""

MOST_ITEMS = 32
"""Items shown of a list or a map in an event."""

DEEPEST = 4
"""How deep an event's values may be nested; what lies below is left out."""

ALWAYS = ("event", "level", "timestamp", "decision")
"""Fields that an event keeps however many others it has."""

HIDDEN = "[hidden]"
LEFT_OUT = "[left out]"

SECRET_NAMES = re.compile(
    r"secret|token|pepper|passw|authorization|cookie|credential|prompt|api_?key"
    r"|^(?:ip|addr|address|network|peer|client|remote|forwarded)$",
    re.I,
)
"""Fields that are hidden for their name. Numbers never are: `input_tokens=12` is a count and no token."""

SECRET_TEXT = re.compile(
    r"\bhg_[A-Za-z0-9_-]{16,}"  # our keys
    r"|\b(?:bearer|basic)\s+[^\s\"']+"
    r"|\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"  # a JSON web token
    r"|\bsk-[A-Za-z0-9_-]{16,}"  # the form of model vendors' keys
    r"|(?<=://)[^/@\s]+(?=@)",  # user and password of an address
    re.I,
)
"""What is hidden for its form, wherever it stands."""


def redacted(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: hides what looks like a secret, by name and by form, at any depth, and bounds the rest.

    >>> redacted(None, "info", {"event": "x", "pepper": "p", "why": "got Bearer abc.def"})
    {'event': 'x', 'pepper': '[hidden]', 'why': 'got [hidden]'}
    >>> redacted(None, "info", {"event": "x", "used": {"input_tokens": 7, "cookie": ["a"]}})["used"]
    {'input_tokens': 7, 'cookie': '[hidden]'}
    """
    for name in [name for name in event if name not in ALWAYS][MOST_ITEMS:]:
        del event[name]
    for name, value in event.items():
        longest = LONGEST_TRACE if name == "exception" else LONGEST
        event[name] = HIDDEN if _hides(name, value) else _shown(value, longest, DEEPEST)
    return event


def _hides(name: str, value: object) -> bool:
    return SECRET_NAMES.search(name) is not None and not isinstance(value, bool | int | float | None)


def _shown(value: Any, longest: int, depth: int) -> Any:
    """The value as JSON can carry it: cleaned, cut, and never more than a few items or levels of it."""
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) < 2**63 else LEFT_OUT
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return clean(value, longest)
        case Mapping() | list() | tuple() | set() | frozenset() if depth == 0:
            return LEFT_OUT
        case Mapping():
            items = [(clean(str(name)), item) for name, item in list(value.items())[:MOST_ITEMS]]
            return {name: HIDDEN if _hides(name, item) else _shown(item, longest, depth - 1) for name, item in items}
        case list() | tuple() | set() | frozenset():
            return [_shown(item, longest, depth - 1) for item in list(value)[:MOST_ITEMS]]
        case BaseException():
            return clean(f"{type(value).__name__}: {value}", longest)
        case _:
            return clean(str(value), longest)


def clean(text: str, longest: int = LONGEST) -> str:
    """The text without what looks like a secret, cut to `longest` characters. Of a long traceback the end is kept.

    >>> clean("redis://user:pw@host/0 said no")
    'redis://[hidden]@host/0 said no'
    """
    # Cut before and after: the pattern must not be run over megabytes, and a secret that the cut halves is still
    # longer than its pattern's least, so that no half of one is left.
    text = text[-8 * longest :] if longest == LONGEST_TRACE else text[: 8 * longest]
    text = SECRET_TEXT.sub(HIDDEN, text)
    return text[-longest:] if longest == LONGEST_TRACE else text[:longest]


def _line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """One line of JSON. ASCII alone: no line separator of Unicode, no terminal's escape survives in it."""
    line = json.dumps(event)
    if len(line) <= LONGEST_LINE:
        return line
    return json.dumps({name: event[name] for name in ALWAYS if name in event} | {"cut": len(line)})


# Without a handler of its own: where the host configures none either, Python's last resort shows warnings and errors
# on standard error. Under a NullHandler a broken ledger would be a wall of 503s and not a word in the terminal.
logger = logging.getLogger("headgate")

events: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logger,
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redacted,
        _line,
    ],
)
"""Where headgate's events go. `events.info("headgate.denied", limit="rpm")` is one line of JSON."""


def listening(level: int) -> bool:
    """Whether an event of this level would be shown at all: asked before one is put together on the hot path."""
    return logger.isEnabledFor(level)


class Lines(logging.Handler):
    """Writes each event as one line to standard error, or to the end of a file that several processes may share.

    A line is handed to the system in one `write` to a file opened for appending, so that lines of two workers do not
    mix. A file that was moved away (logrotate) is opened anew. Made with mode 0600.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self._file = -1 if target == "stderr" else self._opened()

    def _opened(self) -> int:
        return os.open(self.target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one event; a fault is handled as logging handles them, and never reaches a request."""
        try:
            line = record.getMessage() + "\n"
            if self._file < 0:
                sys.stderr.write(line)
                sys.stderr.flush()
            else:
                self._follow()
                os.write(self._file, line.encode("utf-8", "backslashreplace"))
        except Exception:
            self.handleError(record)

    def _follow(self) -> None:
        """Open the file again if another one, or none, stands under its name."""
        try:
            now, ours = Path(self.target).stat(), os.fstat(self._file)
            moved = (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)
        except FileNotFoundError:
            moved = True
        if moved:
            fresh = self._opened()
            os.close(self._file)
            self._file = fresh

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self.target = "stderr"
        super().close()


def log_to(target: str, level: str = "info") -> logging.Handler:
    """Send events to standard error (`stderr`) or append them to a file, for those who configure no logging.

    Said twice of one target it is the same as once. Answers the handler; `stop_logging` takes it away. Raises
    ValueError for a level that does not exist, OSError for a file that cannot be written.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"no log level `{level}`: use debug, info, warning or error")
    logger.setLevel(number)
    for handler in logger.handlers:
        if isinstance(handler, Lines) and handler.target == target:
            return handler
    handler = Lines(target)
    logger.addHandler(handler)
    return handler


def stop_logging(handler: logging.Handler) -> None:
    """Undo `log_to`: the handler gets no more events and its file is closed."""
    logger.removeHandler(handler)
    handler.close()
