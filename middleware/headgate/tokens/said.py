r"""The text itself that was generated, for whoever counts it otherwise than by its bytes.

Law: bounded, and nothing is lost. At most `KEPT` bytes wait to be counted, and one piece more; what comes beyond is
told by its size alone. A text waits as it stands between the signs of a JSON string, for much of it is reported
before anybody counts it.
"""

from __future__ import annotations

import re

from headgate.tokens.texts import text_size

KEPT = 16_384
"""Bytes of text that wait to be counted: twice what is read in one go, where a stream is far from its limit."""

ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
MEANT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Said:
    """Text since the output was last reported.

    | field | meaning |
    | --- | --- |
    | `kept` | text that waits to be counted, as it is escaped |
    | `beyond` | bytes of more text, of which nothing is kept |
    | `tokens`, `uncounted` | what was counted of it before: tokens, and bytes that nobody could count |
    """

    __slots__ = ("beyond", "kept", "tokens", "uncounted")

    def __init__(self) -> None:
        self.kept = bytearray()
        self.beyond = self.tokens = self.uncounted = 0

    def add(self, piece: bytes) -> None:
        """Note a piece of text: what stands in a JSON string, between two of its signs."""
        if len(self.kept) < KEPT:
            self.kept += piece
        else:
            self.beyond += text_size(piece)

    def add_all(self, other: Said) -> None:
        """Note what another has, of which nothing was counted yet."""
        self.add(bytes(other.kept))
        self.beyond += other.beyond

    def forget(self) -> None:
        """What was said is reported."""
        if self.kept:
            self.kept = bytearray()
        self.beyond = self.tokens = self.uncounted = 0

    def copy(self) -> Said:
        """This as it is now."""
        other = Said()
        other.kept = bytearray(self.kept)
        other.beyond, other.tokens, other.uncounted = self.beyond, self.tokens, self.uncounted
        return other


def plain(text: str) -> str:
    r"""A text of JSON with the signs that are meant; what cannot be a text (half of a surrogate pair) as U+FFFD.

    >>> plain(r"a\nb \u4e2d \ud83d\ude00 \"c\" \ud83d")
    'a\nb 中 😀 "c" �'
    """
    if "\\" not in text:
        return text
    found = ESCAPE.sub(_meant, text)
    if "\\u" in text:
        found = found.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return found


def _meant(found: re.Match[str]) -> str:
    digits, sign = found.groups()
    return chr(int(digits, 16)) if digits else MEANT.get(sign, sign)
