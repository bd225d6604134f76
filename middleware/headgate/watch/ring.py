"""What was seen of requests and not looked at yet: a ring between the request path and the thread that digests it.

Law: putting in never waits and never fails. A ring that is full, or holds as much text as it may, loses what is new
and counts it; what is in it stands in memory alone, for a fraction of a second, and is never written anywhere. The
request path puts in, one thread takes out, and no lock is between them: a deque's ends are each safe by themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MOST = 8_192
"""Glimpses that wait at most: a twentieth of a second of far more requests than one process serves."""

MOST_LETTERS = 8 * 1024 * 1024
"""Letters of prompts that wait at most: beyond them a request is noted without its prompt."""


class Glimpse(NamedTuple):
    """One request that has ended, as the request path saw it. Raw, and therefore never stored.

    `at` in microseconds; `said`: texts of its prompt, the instructions first, bounded; `things`: ids that were
    handed out, as the app named them; `path` and `params` of the router, for those that were not named; `peer`: who
    is at the other end of the connection, as ASGI has it; `client`: (name, value) of the headers that are looked at;
    `told`: what the directory knows of the account.
    """

    at: int
    key: str
    org: str
    status: int
    said: tuple[str, ...]
    things: Sequence[object]
    path: str
    params: Mapping[str, Any] | None
    peer: Sequence[Any] | None
    client: tuple[tuple[bytes, bytes], ...]
    told: Mapping[str, str]


class Ring:
    """The ring. `lost`: glimpses that found no room; `cut`: those that left their prompt behind.

    >>> ring = Ring(most=1)
    >>> glimpse = Glimpse(0, "k1", "acme", 200, ("Hello.",), (), "/", None, None, (), {})
    >>> ring.put(glimpse), ring.put(glimpse), len(ring.taken(512)), ring.lost
    (True, False, 1, 1)
    """

    __slots__ = ("_in", "_letters_in", "_letters_out", "_most", "_most_letters", "cut", "lost")

    def __init__(self, most: int = MOST, most_letters: int = MOST_LETTERS) -> None:
        self._in: deque[Glimpse] = deque()
        self._most = most
        self._most_letters = most_letters
        # One side writes each of them, so that neither needs a lock.
        self._letters_in = self._letters_out = 0
        self.lost = self.cut = 0

    def __len__(self) -> int:
        return len(self._in)

    def put(self, glimpse: Glimpse) -> bool:
        """Whether it found room."""
        if len(self._in) >= self._most:
            self.lost += 1
            return False
        said = glimpse[4]
        if said:
            letters = 0
            for text in said:
                letters += len(text)
            if self._letters_in - self._letters_out + letters > self._most_letters:
                self.cut += 1
                glimpse = glimpse._replace(said=())
            else:
                self._letters_in += letters
        self._in.append(glimpse)
        return True

    def taken(self, most: int) -> list[Glimpse]:
        """The oldest, at most so many; they are not in it any more."""
        found = [self._in.popleft() for _ in range(min(most, len(self._in)))]
        self._letters_out += sum([len(text) for glimpse in found for text in glimpse.said])
        return found
