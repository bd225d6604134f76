r"""Keeps the chunk with the usage from a client that did not ask for it.

Law: one event is taken out, the one that OpenAI adds to a stream that was asked for its usage: `choices` empty,
`usage` an object, and nothing else that says anything. Every other byte comes out as it went in, in order, however
the stream is cut into pieces. No more is held back than an event that has not ended, and of that no more than `HELD`
bytes: a longer one is not the one.
"""

from __future__ import annotations

import json
import re

from headgate.tokens.usage import may_report

HELD = 16_384
"""Bytes of an event that are held back until it ends. The one that is looked for has less than a thousand."""

CONTEXT = 3
"""Bytes before which tell, with what comes next, whether an event ends."""

BOM = b"\xef\xbb\xbf"
BLANK = re.compile(rb"\r?\n(?:\r\n|[\r\n])|\r\r\n?+")
"""The end of a line, and an empty line. A CRLF is one end, not two."""

EXTRA = frozenset({
    "choices", "usage", "id", "object", "created", "model", "system_fingerprint", "service_tier", "obfuscation",
})  # fmt: skip
"""Members of that event. One with others (an error, a filter's results, sources) tells more than the usage."""

BEFORE = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*+").match
LINE = re.compile(rb"[^\r\n]++")
DATA = b"data:"


class Hiding:
    r"""One stream. `fed` and `closed` return what the client gets.

    >>> hiding = Hiding()
    >>> hiding.fed(b'data: {"choices":[{}],"usage":null}\n\ndata: {"choices":[],"usa')
    b'data: {"choices":[{}],"usage":null}\n\n'
    >>> hiding.fed(b'ge":{"prompt_tokens":9}}\n\ndata: [DONE]\n\n'), hiding.closed()
    (b'data: [DONE]\n\n', b'')
    """

    __slots__ = ("_before", "_cr", "_held", "_hidden", "_passing")

    def __init__(self) -> None:
        self._held = b""  # the beginning of an event
        self._passing = False  # an event is let through as it comes
        self._before = b""  # its last bytes
        self._cr = False  # the last event ended in CR, to which an LF may belong
        self._hidden = False  # that event was the one

    def fed(self, data: bytes) -> bytes:
        """The next piece, less what is held back."""
        data = bytes(data)  # an app may send a `memoryview`
        idle = not (self._held or self._passing or self._cr)
        if idle and data.endswith((b"\n\n", b"\r\n\r\n")) and not may_report(data, 0, len(data)):
            return data
        out: list[bytes] = []
        if self._cr and data:
            self._cr = False
            if data.startswith(b"\n"):
                out += [] if self._hidden else [b"\n"]
                data = data[1:]
        if self._passing:
            data = self._passed(data, out)
        data = self._events(data, out)
        if len(data) > HELD:
            out.append(data)
            self._passing, self._before = True, data[-CONTEXT:]
            data = b""
        self._held = data
        return b"".join(out)

    def closed(self) -> bytes:
        """The end: what was held back, if it is not the one event without its empty line."""
        held, self._held = self._held, b""
        return _start(held) if _is_extra(held) else held

    def _events(self, data: bytes, out: list[bytes]) -> bytes:
        """Let out the events that have ended; the beginning of the next one."""
        search = max(0, len(self._held) - CONTEXT)
        data, at = self._held + data, 0
        while (found := BLANK.search(data, max(at, search))) is not None:
            event, at = data[at : found.end()], found.end()
            hidden = len(event) <= HELD and _is_extra(event)
            out.append(_start(event) if hidden else event)
            self._ended(data, at, hidden)
        return data[at:] if at else data

    def _passed(self, data: bytes, out: list[bytes]) -> bytes:
        """Let through the rest of a long event; what comes after it."""
        joined = self._before + data
        found = BLANK.search(joined)
        if found is None:
            out.append(data)
            self._before = joined[-CONTEXT:]
            return b""
        at = found.end() - len(self._before)
        out.append(data[:at])
        self._passing = False
        self._ended(data, at, hidden=False)
        return data[at:]

    def _ended(self, data: bytes, at: int, hidden: bool) -> None:
        if at == len(data) and data.endswith(b"\r"):
            self._cr, self._hidden = True, hidden


def _start(event: bytes) -> bytes:
    """What stands before an event and is not its own: a byte order mark, empty lines."""
    found = BEFORE(event)
    return found[0] if found is not None else b""


def _is_extra(event: bytes) -> bool:
    """Whether an event is the one that tells nothing but the usage."""
    lines = LINE.findall(event[len(_start(event)) :])
    data = b"\n".join([line[len(DATA) :].removeprefix(b" ") for line in lines if line.startswith(DATA)])
    if not may_report(data, 0, len(data)):
        return False
    try:
        found = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict) or not found.keys() <= EXTRA:
        return False
    return found.get("choices") == [] and isinstance(found.get("usage"), dict)
