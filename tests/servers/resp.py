"""Where a message of Redis's protocol ends and the next begins. Of what is in it only a command's name is looked at.

Law: bytes in, whole messages out, in order and unchanged: joined again they are what came in. RESP2 and RESP3.
"""

from __future__ import annotations

MOST = 64 * 1024 * 1024
"""Bytes of the largest message: a test that sends more has another purpose."""

LINES = b"+-:_#,("
BULKS = b"$!="
AGGREGATES = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}
"""How many elements belong to one that is counted: maps and attributes have two."""


class NotResp(ValueError):
    """The bytes are no message of the protocol."""


class Messages:
    """Cuts a stream into messages.

    >>> Messages().feed(b"+OK\\r\\n$2\\r\\nhi\\r\\n*1\\r\\n:7")
    [b'+OK\\r\\n', b'$2\\r\\nhi\\r\\n']
    """

    def __init__(self) -> None:
        self.rest = b""
        self._at = 0  # where the next element begins
        self._missing = 1  # elements that the message under way still lacks

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that these bytes complete. Raises NotResp; `rest` then holds all that was not given out."""
        self.rest += data
        found: list[bytes] = []
        begin = 0
        while (end := self._element(self._at)) is not None:
            self._at, more = end
            self._missing += more - 1
            if not self._missing:
                found.append(self.rest[begin : self._at])
                begin, self._missing = self._at, 1
        self.rest, self._at = self.rest[begin:], self._at - begin
        if len(self.rest) > MOST:
            raise NotResp("a message is larger than what is passed on")
        return found

    def _element(self, at: int) -> tuple[int, int] | None:
        """Where the element that begins at `at` ends, and how many follow that belong to it; None: not here yet."""
        line = self.rest.find(b"\r\n", at)
        if at >= len(self.rest):
            return None
        kind = self.rest[at]
        if kind not in LINES and kind not in BULKS and kind not in AGGREGATES:
            raise NotResp(f"a message cannot begin with {chr(kind)!r}")
        if line < 0:
            return None
        end = line + 2
        if kind in LINES:
            return end, 0
        try:
            count = int(self.rest[at + 1 : line])
        except ValueError:
            raise NotResp("the length of an element is no number") from None
        if kind in BULKS:
            end += count + 2 if count >= 0 else 0
            return (end, 0) if end <= len(self.rest) else None
        # An attribute stands before what it describes: that is still to come.
        return end, max(count, 0) * AGGREGATES[kind] + (kind == ord("|"))


def command_name(message: bytes) -> bytes:
    """The name of the command in a request, in capitals.

    >>> command_name(b"*2\\r\\n$3\\r\\nget\\r\\n$1\\r\\na\\r\\n")
    b'GET'
    """
    return message.split(b"\r\n", 3)[2].upper() if message.count(b"\r\n") > 2 else b""
