"""One JSON object of any size, skimmed for what it took.

Law: read once, front to back, in pieces of any size, and nothing is kept but the `usage` object (at most `REPORT`
bytes of it) and a beginning of at most `TAIL` bytes of a token that is not all there. Where a value is of no
interest, only its quotes and brackets are looked at, by one compiled expression; so that neither many megabytes of
embeddings nor a line without an end take long.

It is lenient: what is no JSON is not told from what is, as long as strings and brackets are where they should be. A
report is believed when the object that it stands in has ended, or, of a body, as it comes.

A member named twice counts the last time, as JSON's readers have it, and a name may be spelt with escapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headgate.tokens.texts import OF_NAMES, text_size

if TYPE_CHECKING:
    from headgate.tokens.said import Said

WINDOW = 65_536
"""Bytes that are looked at in one go."""

TAIL = 256
"""Bytes of a token's beginning that are kept. Every name of interest, each sign of it escaped, is shorter."""

REPORT = 16_384
"""Bytes of a `usage` object that are kept; real ones have less than a thousand. A longer one is not reported."""

DIGITS = 16
"""Digits of 2^53 - 1: longer numbers are not counted and need not be read."""

HOLDERS = frozenset({b"message", b"response"})
"""Members of an event that may have a `usage` of their own."""

IN_STRING = rb'(?:[^"\\]++|\\.)*+'
ANY_STRING = re.compile(rb'"(' + IN_STRING + rb')"', re.DOTALL).match
REST = re.compile(rb'(?:[^"\\]++|\\(?:u....|[^u]))*+', re.DOTALL).match
BLANK = re.compile(rb"[ \t\r\n]*+").match
BEFORE = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*+").match
BETWEEN = re.compile(rb'[^"{}\[\]]*+').match
OPENINGS = re.compile(rb"[\[{]++").match
CLOSINGS = re.compile(rb"[\]}]++").match
NAMED = re.compile(rb'"(' + OF_NAMES + rb')"\s*+:\s*+(")?').match
UNSURE = re.compile(rb'"' + IN_STRING + rb'"\s*+:?\s*+\Z', re.DOTALL).match

_PLAIN = rb'[^"{}\[\]]++|"(?!' + OF_NAMES + rb'")' + IN_STRING + rb'"'
_FLAT = rb"[\[{](?:" + _PLAIN + rb")*+[\]}]"
_DEEP = rb"[\[{](?:" + _PLAIN + rb"|" + _FLAT + rb")*+[\]}]"
_DEEPER = rb"[\[{](?:" + _PLAIN + rb"|" + _DEEP + rb")*+[\]}]"
UNEVENTFUL = re.compile(rb"(?:" + _PLAIN + rb"|" + _DEEPER + rb")*+", re.DOTALL).match
"""As much as there is without a string that may be a name of a text, a string that does not end here, or a bracket;
but for brackets that are closed again and have no more than two levels of others within."""

Step = Callable[[bytes, int], int]
"""Takes something off a piece at an offset; where it ends, or -1 when more is needed."""


class Skim:
    """One object. `of_event`: it is the data of a server-sent event.

    | field | meaning |
    | --- | --- |
    | `said` | is told the generated text; None where nobody wants it |
    | `reports` | the last `usage` object, by the member that held it; "" for the object's own |
    | `text` | bytes of generated text so far |
    | `delta` | whether there was a member `delta` outside a `response`, so that what was generated is new |
    | `kind` | an event's `type` |
    | `ended` | the object is whole |
    | `failed` | it is no object |
    """

    __slots__ = (
        "_after", "_capture", "_counts", "_depth", "_holder", "_name", "_of_event", "_step", "_tail",
        "delta", "ended", "failed", "kind", "reports", "said", "text",
    )  # fmt: skip

    def __init__(self, of_event: bool = False, said: Said | None = None) -> None:
        self.said = said
        self.reports: dict[bytes, dict[str, Any]] = {}
        self.text = 0
        self.delta = self.ended = self.failed = False
        self.kind = b""
        self._of_event = of_event
        self._step: Step = self._beginning
        self._tail = b""
        self._holder = self._name = b""  # whose members are read, and the name of the one that is
        self._depth = 0  # brackets that are open within a value that is skipped
        self._capture: bytearray | None = None
        self._counts = False  # whether the string that is read is text
        self._after: Step = self._value

    @property
    def report(self) -> dict[str, Any] | None:
        """The usage object; None if there is none."""
        found = self.reports
        return found.get(b"") or found.get(b"message") or found.get(b"response")

    def fed(self, data: bytes | memoryview, start: int = 0, end: int | None = None) -> None:
        """Read on."""
        end = len(data) if end is None else end
        for at in range(start, end, WINDOW):
            if self.ended or self.failed:
                return
            self._read(self._tail + bytes(data[at : min(at + WINDOW, end)]))

    def _read(self, piece: bytes) -> None:
        self._tail = b""
        at, size = 0, len(piece)
        while at < size:
            there = self._step(piece, at)
            if there < 0:
                # INVARIANT: a step that needs more has at most TAIL bytes before it.
                self._tail = piece[at:]
                return
            at = there

    # Steps.

    def _beginning(self, piece: bytes, at: int) -> int:
        at = _end(BEFORE(piece, at))
        if at == len(piece):
            return at
        if piece[at : at + 3] in {b"\xef", b"\xef\xbb"}:
            return -1
        return self._opened(piece, at) if piece[at] == 0x7B else self._given_up()  # {

    def _opened(self, piece: bytes, at: int) -> int:
        self._step = self._member
        return at + 1

    def _member(self, piece: bytes, at: int) -> int:
        """A member's name, or the end of the members."""
        at = _end(BETWEEN(piece, at))
        if at == len(piece):
            return at
        if piece[at] == 0x7D:  # }
            self.ended = not self._holder
            self._holder = b""
            return len(piece) if self.ended else at + 1
        if piece[at] != 0x22:  # "
            return self._given_up()
        whole = ANY_STRING(piece, at)
        if whole is not None:
            self._name = _unescaped(whole[1])
        elif len(piece) - at <= TAIL:
            return -1
        else:
            self._name = b""
            return self._in_string(at + 1, counts=False, after=self._colon)
        self._step = self._colon
        return whole.end()

    def _colon(self, piece: bytes, at: int) -> int:
        at = _end(BLANK(piece, at))
        if at == len(piece):
            return at
        if piece[at] != 0x3A:
            return self._given_up()
        self._step = self._value
        return at + 1

    def _value(self, piece: bytes, at: int) -> int:
        """The beginning of a member's value."""
        at = _end(BLANK(piece, at))
        if at == len(piece):
            return at
        first, name = piece[at], self._name
        holds = self._of_event and not self._holder and name in HOLDERS
        if name == b"usage":
            self.reports.pop(self._holder, None)
        elif holds:
            self.reports.pop(name, None)
        elif name == b"delta" and self._holder != b"response":
            self.delta = True
        if first == 0x22:  # "
            return self._string(piece, at)
        if first == 0x7B and holds:  # {
            self._holder = name
            return self._opened(piece, at)
        if first in b"{[":
            self._step, self._depth = self._skipped, 1
            if name == b"usage" and first == 0x7B:
                self._capture = bytearray(b"{")
            return at + 1
        self._step = self._member  # a number or a word: passed over on the way to the next name
        return at

    def _string(self, piece: bytes, at: int) -> int:
        if self._name == b"type" and self._of_event and not self._holder:
            whole = ANY_STRING(piece, at)
            if whole is None and len(piece) - at <= TAIL:
                return -1
            self.kind = _unescaped(whole[1]) if whole is not None else b""
        return self._in_string(at + 1, counts=_is_text(self._name), after=self._member)

    def _skipped(self, piece: bytes, at: int) -> int:
        """Something within a value that is skipped."""
        there = self._within(piece, at)
        if self._capture is not None and there > at:
            self._capture += piece[at:there]
            if not self._depth:
                self._captured(bytes(self._capture))
            elif len(self._capture) > REPORT:
                self._capture = None
        return there

    def _within(self, piece: bytes, at: int) -> int:
        there = _end(UNEVENTFUL(piece, at))
        if there > at:
            return there
        if piece[at] in b"]}":
            closed = min(_end(CLOSINGS(piece, at)) - at, self._depth)
            self._depth -= closed
            if not self._depth:
                self._step = self._member
            return at + closed
        if piece[at] != 0x22:  # "
            there = _end(OPENINGS(piece, at))
            self._depth += there - at
            return there
        if len(piece) - at <= TAIL and (ANY_STRING(piece, at) is None or UNSURE(piece, at) is not None):
            return -1
        named = NAMED(piece, at)
        if named is not None:
            self.delta = self.delta or (named[1] == b"delta" and self._holder != b"response")
            if named[2]:
                return self._in_string(named.end(), counts=self._capture is None, after=self._skipped)
            return named.end()
        whole = ANY_STRING(piece, at)
        return whole.end() if whole is not None else self._in_string(at + 1, counts=False, after=self._skipped)

    def _in_string(self, at: int, counts: bool, after: Step) -> int:
        self._step, self._counts, self._after = self._rest, counts, after
        return at

    def _rest(self, piece: bytes, at: int) -> int:
        """What is left of a string."""
        there = _end(REST(piece, at))
        if self._counts:
            self.text += text_size(piece[at:there])
            if self.said is not None:
                self.said.add(piece[at:there])
        if there == len(piece):
            return self._kept(piece, at, there)
        if piece[there] == 0x22:  # "
            self._step = self._after
            return self._kept(piece, at, there + 1)
        # A backslash whose sign is not all there: less than the six bytes of the longest.
        return self._kept(piece, at, there) if there > at else -1

    def _kept(self, piece: bytes, at: int, there: int) -> int:
        if self._capture is not None:
            self._capture += piece[at:there]
            if len(self._capture) > REPORT:
                self._capture = None
        return there

    def _captured(self, report: bytes) -> None:
        self._capture = None
        try:
            found = json.loads(report.decode("utf-8", "replace"), parse_int=whole_number)
        except (ValueError, RecursionError):
            return
        self.reports[self._holder] = found

    def _given_up(self) -> int:
        self.failed = True
        return -1


def whole_number(digits: str) -> int | None:
    """An integer of JSON, None if it is too long to be counted: Python refuses to read those of 4,300 digits."""
    return int(digits) if len(digits) <= DIGITS else None


def _end(found: re.Match[bytes] | None) -> int:
    assert found is not None, "the expression matches nothing, too"
    return found.end()


def _unescaped(name: bytes) -> bytes:
    """A name as it is meant; as it is written, if that means nothing."""
    if b"\\" not in name:
        return name
    try:
        meant: str = json.loads(b'"%b"' % name)
    except ValueError:
        return name
    return meant.encode("utf-8", "surrogatepass")


def _is_text(name: bytes) -> bool:
    return re.fullmatch(OF_NAMES, name) is not None
