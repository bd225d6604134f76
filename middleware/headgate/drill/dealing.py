"""Which piece of a job a key takes: how one list is cut up among many keys.

Law: numbers of pieces only. Every way of dealing but `Anything` and `Customers` takes each piece once; None says that
the key has nothing left to take.

| deal | attack |
| --- | --- |
| `Queue` | whoever comes takes the next |
| `Modulo` | the keys share the list out like cards |
| `Ranges` | each key has a range of its own |
| `Anything` | any piece, also one that was taken: pieces are drawn, not dealt |
| `Customers` | a reseller's customers, each on one key for a time |
"""

from __future__ import annotations

from random import Random
from typing import Protocol


class Deal(Protocol):
    """Says which piece a key takes next."""

    def number(self, key: int, at: float) -> int | None:
        """The piece's number; None when nothing is left for this key."""
        ...


class Queue:
    """One list, from its beginning to its end."""

    def __init__(self, pieces: int) -> None:
        self._pieces = pieces
        self._next = 0

    def number(self, key: int, at: float) -> int | None:
        """The next piece.

        >>> queue = Queue(2)
        >>> [queue.number(key, 0.0) for key in (5, 3, 5)]
        [0, 1, None]
        """
        if self._next >= self._pieces:
            return None
        self._next += 1
        return self._next - 1


class Modulo:
    """The first piece to the first key, the second to the second, and round again."""

    def __init__(self, pieces: int, keys: int) -> None:
        self._pieces = pieces
        self._next = list(range(keys))
        self._keys = keys

    def number(self, key: int, at: float) -> int | None:
        """The key's next piece."""
        number = self._next[key]
        if number >= self._pieces:
            return None
        self._next[key] += self._keys
        return number


class Ranges:
    """Each key its own range; all of one length."""

    def __init__(self, random: Random, pieces: int, keys: int) -> None:
        order = random.sample(range(keys), keys)
        self._next = [pieces * at // keys for at in order]
        self._ends = [pieces * (at + 1) // keys for at in order]

    def number(self, key: int, at: float) -> int | None:
        """The next piece of the key's range."""
        number = self._next[key]
        if number >= self._ends[key]:
            return None
        self._next[key] += 1
        return number


class Anything:
    """Any piece, each time: two keys meet in one as often as chance has it."""

    def __init__(self, random: Random, pieces: int) -> None:
        self._random = random
        self._pieces = pieces

    def number(self, key: int, at: float) -> int | None:
        """Any piece."""
        return int(self._random.random() * self._pieces)


class Customers:
    """A reseller's customers: each is served by one key, until it is moved to another."""

    def __init__(self, random: Random, customers: int, keys: int, stay: float) -> None:
        self._random = random
        self._customers = customers
        self._keys = keys
        self._stay = stay

    def number(self, key: int, at: float) -> int | None:
        """A customer that this key serves now; any, where it serves none."""
        for _ in range(4 * self._keys):
            one = int(self._random.random() * self._customers)
            moved = int((at + one * 7919) // self._stay)
            if (one * 31 + moved * 17) % self._keys == key:
                return one
        return int(self._random.random() * self._customers)
