"""From the bytes of a log to its entries: lines are cut, read, and counted where they are none.

Law: one bad line is one line less. It is counted and named by file and line with the reason, the first few of them;
nothing in a line ends the reading or is repeated in what is said of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from headgate.replay import common_log, entry
from headgate.replay.entry import Entry, Unfit
from headgate.replay.files import LogError, LogFile

NAMED = 10
"""Bad lines of a log that are named; of the others their number is told."""

LONGEST = 16 << 20
"""Bytes of the longest line that is read: a megabyte of prompt has room, and memory is bounded."""

FAR = 86_400_000_000
"""How far ahead (microseconds) of the lines before and behind it a line's time is taken for a mistake: else all lines
after it would be too late."""

FIRST = 1_000
"""Lines from which the format of a log is told: bad ones at its beginning do not make it another."""

JSON, COMMON = "JSON Lines", "Common Log Format"

Reader = Callable[[bytes, "int | None"], Entry]


@dataclass(slots=True)
class Bad:
    """A line that is no entry: its log, its number from 1 on, and why."""

    log: str
    line: int
    reason: str


@dataclass(slots=True)
class Lines:
    """The entries of one log, and what was read: `events` of them, `skipped` lines, the first `bad` of these."""

    file: LogFile
    events: int = 0
    skipped: int = 0
    form: str = ""
    bad: list[Bad] = field(default_factory=list)
    _number: int = 0
    _before: int | None = None

    def entries(self) -> Iterator[list[Entry]]:
        """The entries, in the order in which they stand, as many at a time as a block of the file holds."""
        read: Reader | None = None
        kept: list[bytes] = []
        for lines in _cut(self.file, self):
            if read is None:
                kept += lines
                if len(kept) < FIRST:
                    continue
                lines, read = kept, self._reader(kept)
            yield self._read(lines, read)
        if read is None and kept:
            yield self._read(kept, self._reader(kept))

    def _reader(self, lines: list[bytes]) -> Reader:
        lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        objects = sum([line.lstrip().startswith(b"{") for line in lines[:FIRST]])
        common = sum([common_log.is_common_log(line) for line in lines[:FIRST]])
        self.form = COMMON if common > objects else JSON
        if not common and not objects:
            raise LogError(
                f"{self.file.name}: is neither JSON Lines nor Common Log Format: none of its first "
                f"{min(len(lines), FIRST):,} lines is an entry"
            )
        return common_log.entry_of if self.form is COMMON else entry.entry_of

    def _read(self, lines: list[bytes], read: Reader) -> list[Entry]:
        found: list[Entry] = []
        before, number, last = self._before, self._number, 0
        for line in lines:
            number += 1
            try:
                one = read(line, before)
            except Unfit as fault:
                self.skip(number, str(fault))
                continue
            if before is not None and one.at < before - FAR and len(found) > 1 and one.at > found[-2].at - FAR:
                del found[-1]
                self.skip(last, "its time is far ahead of the lines around it")
            before, last = one.at, number
            found.append(one)
        self._before, self._number = before, number
        self.events += len(found)
        return found

    def skip(self, number: int, reason: str) -> None:
        """Count a line that is none, and name it if it is among the first."""
        self.skipped += 1
        if len(self.bad) < NAMED:
            self.bad.append(Bad(self.file.name, number, reason))


def _cut(file: LogFile, told: Lines) -> Iterator[list[bytes]]:
    """The lines of a file, without their ends; a last one without an end counts. One that is too long is cut, which
    makes it a bad one, and its rest is passed over."""
    rest, passing = b"", False
    for block in file.blocks():
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if passing and lines:
            del lines[0]
            passing = False
        if passing:
            rest = b""
        elif len(rest) > LONGEST:
            lines.append(rest[:64])
            rest, passing = b"", True
        if lines:
            yield lines
    if rest:
        yield [rest]
