r"""Server-sent events from bytes that come in pieces of any size.

Law: what an event's data is follows the standard (WHATWG HTML, 9.2.6): lines end in LF, CR or CRLF, several `data`
lines are one text with LF between, comments and other fields are passed over, a byte order mark may come first, and
an event without its empty line is none. However the bytes are cut, the same data comes out.

An event that comes in one piece is not copied: `whole` is told where in it the data is. One in two is put together.
Of one in more pieces at most `HELD` bytes are kept; a longer one is skimmed as it passes, and so is one that comes
whole.

What follows a line end is never looked at before it is there: the LF that a CR may have is passed over with the empty
lines that may stand before any event.
"""

from __future__ import annotations

import re

from headgate.tokens.said import Said
from headgate.tokens.skim import WINDOW, Skim

HELD = 65_536
"""Bytes of an event's data that are kept, or read as one: deltas have hundreds, and what has more is skimmed."""

BOM = b"\xef\xbb\xbf"
FIELD = 6
"""Bytes of a line that tell whether it is data: `data:`, and a blank that is not part of it."""

LF, CR = 0x0A, 0x0D
END_OF_LINE = re.compile(rb"[\r\n]").search
NOTHING = re.compile(rb"(?:[\r\n]++|:[^\r\n]*+[\r\n])*+").match
"""Empty lines and comments between events."""

EVENT = re.compile(rb"(?:(?:event|id|retry)?:.*+\n)*+data: ?(.*+)\n\n").match
"""An event with one line of data, in bytes without CR. A dot is anything but LF."""

EVENT_WITH_CR = re.compile(rb"(?:(?:event|id|retry)?:[^\r\n]*+\r?\n)*+data: ?(.*+)\n\r?\n").match
"""The same in bytes with CR, the line's own CR with it: that must be the only one."""


class Events:
    """The events of one stream. A subclass says what becomes of each: `whole` is called with those of at most `HELD`
    bytes of data, `skimmed` with the others. `said`: is told the generated text, by the subclass; None where nobody
    wants it."""

    __slots__ = ("_any", "_begun", "_cr", "_data", "_first", "_held", "_open", "_skim", "_start", "said")

    def __init__(self, said: Said | None = None) -> None:
        self.said = said
        self._start: bytes | None = b""  # what has come, while it may be part of a byte order mark
        self._first = b""  # an event's first piece, of which no line ends in CR, as long as there is no second one
        self._open = False  # within an event that comes line by line
        self._begun = b""  # a line's first bytes, while they do not tell what it is
        self._data: bool | None = None  # whether the line is data, once that is known
        self._cr = False  # the last line ended in CR, to which an LF may belong
        self._any = False  # the event has a line of data
        self._held = bytearray()
        self._skim: Skim | None = None

    def whole(self, data: bytes, start: int, end: int) -> None:
        """An event's data: `data[start:end]`."""
        raise NotImplementedError

    def skimmed(self, skim: Skim) -> None:
        """An event with more data than is kept."""
        raise NotImplementedError

    def fed(self, data: bytes | memoryview) -> None:
        """Read on."""
        if type(data) is not bytes:
            for at in range(0, len(data), WINDOW):
                self.fed(bytes(data[at : at + WINDOW]))
            return
        if self._start is not None:
            data = self._marked(self._start + data)
        joins = not self._first  # one piece is waited for, not any number of them
        if not joins:
            data, self._first = self._first + data, b""
        at, size = 0, len(data)
        if self._open:
            at = self._lines(data, 0)
        with_cr = b"\r" in data
        event = EVENT_WITH_CR if with_cr else EVENT
        while at < size:
            found = event(data, at)
            if found is not None:
                start, end = found.span(1)
                if with_cr:
                    there = data.find(b"\r", start, end)
                    if 0 <= there < end - 1:
                        at = self._lines(data, at)
                        continue
                    end -= there == end - 1
                if end - start <= HELD:
                    self.whole(data, start, end)
                else:
                    self._long(data, start, end)
                at = found.end()
            else:
                between = NOTHING(data, at)
                if between is not None and between.end() > at:
                    at = between.end()
                elif (joins or at) and not with_cr and size - at <= HELD and data.find(b"\n\n", at) < 0:
                    self._first, at = data[at:], size
                else:
                    at = self._lines(data, at)

    def _marked(self, data: bytes) -> bytes:
        """What comes after the byte order mark; nothing while it is not known whether there is one."""
        if len(data) < len(BOM) and BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(BOM)

    def _skimming(self) -> Skim:
        """Of an event that turns out to be none, what it said is not told."""
        return Skim(of_event=True, said=None if self.said is None else Said())

    def _long(self, data: bytes, start: int, end: int) -> None:
        skim = self._skimming()
        skim.fed(data, start, end)
        self.skimmed(skim)

    def _lines(self, data: bytes, at: int) -> int:
        """Lines that do not come whole, to the end of the event or of what is there."""
        self._open, size = True, len(data)
        while at < size:
            if self._cr:
                self._cr = False
                if data[at] == LF:
                    at += 1
                    continue
            found = END_OF_LINE(data, at)
            end = found.start() if found is not None else size
            if end > at:
                self._part(data, at, end)
            if found is None:
                break
            at = end + 1
            self._cr = data[end] == CR
            if self._line_ended():
                self._open = self._cr = False
                return at
        return size

    def _part(self, data: bytes, at: int, end: int) -> None:
        """A part of a line."""
        if self._data is None:
            there = min(end, at + FIELD - len(self._begun))
            self._begun += data[at:there]
            if len(self._begun) < FIELD:
                return
            at = there
            self._data = self._begun.startswith(b"data:")
            if self._data:
                self._next_line()
                if self._begun[-1:] != b" ":
                    self._add(self._begun, FIELD - 1, FIELD)
        if self._data and at < end:
            self._add(data, at, end)

    def _line_ended(self) -> bool:
        """Whether the event ends with this line."""
        if self._data is None:
            if not self._begun:
                self._event_ended()
                return True
            if self._begun in {b"data", b"data:"}:
                self._next_line()
        self._begun, self._data = b"", None
        return False

    def _next_line(self) -> None:
        if self._any:
            self._add(b"\n", 0, 1)
        self._any = True

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._skim is None:
            if len(self._held) + end - start <= HELD:
                self._held += data[start:end]
                return
            self._skim = self._skimming()
            self._skim.fed(bytes(self._held))
            self._held = bytearray()
        self._skim.fed(data, start, end)

    def _event_ended(self) -> None:
        skim, held = self._skim, bytes(self._held)
        if self._any:
            self._skim, self._any = None, False
            if held:
                self._held = bytearray()
            if skim is not None:
                self.skimmed(skim)
            else:
                self.whole(held, 0, len(held))
