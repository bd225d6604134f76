"""Who has shown what: tokens and their holders, in eight bytes each.

Law: a token is asked for and remembered in one step, and the answer is who had shown it before. The room is bounded
by the number of keys. When it is full, every key keeps its newest tokens, and those that came up again, up to the
same number for all: a quiet key's stay for weeks, a busy key's for hours, and one that shows ever new things makes
only its own forgotten. So nobody can have another's tokens dropped, and nothing is gained by a flood.

Layout: one array of 64-bit numbers, open addressing with linear probing, in the order of the tokens. An entry is one
holder of one token:

    | 35 bits of the token | 22 bits: the key's number | 5 bits: in which template | 2 bits: sweeps since it came up |

The place follows from the same 35 bits, so the table is swept and grown in its order. Among 10^7 tokens one is taken
for another in 0.03 % of the questions: one chance match more among those that everybody has.
"""

from __future__ import annotations

from array import array

A_KEY = 64
"""Entries a key, on average, before the table is swept: 830 bytes a key with the empty places between."""

AT_MOST = 64
"""Entries that one key may add between two sweeps."""

LEAST = 4_096
"""Entries that the table holds at least."""

KEYS = (1 << 22) - 1
"""Keys that can be told apart."""

FULL = 0.62
"""Share of the places that are taken at most: a question walks over four of them on average when it is full."""

AFTER = 0.75
"""Share of the room that is taken after a sweep, at most: a sweep costs 0.5 µs an entry, and must not come often."""

SLACK = 4_096
"""Places behind the last one, for what the walk does not find room for before."""

_OLDEST = 3


class Postings:
    """The tokens that keys have shown. A token is a number of 63 bits.

    >>> postings = Postings()
    >>> [postings.enter() for _ in range(3)]
    [1, 2, 3]
    >>> postings.show(77 << 40, key=1, tag=5), postings.show(77 << 40, key=2, tag=6)
    ([], [37])
    >>> [(entry >> 5, entry & 31) for entry in postings.show(77 << 40, key=3, tag=6)]
    [(1, 5), (2, 6)]
    >>> postings.show(77 << 40, key=3, tag=6)
    """

    def __init__(self) -> None:
        self._limit = LEAST
        self._used = 0
        self._refused = 0
        self._added = array("H", [0])
        self._crowded: set[int] = set()
        self._crowded_before: set[int] = set()
        self._lay([])

    def enter(self) -> int:
        """A key more; its number."""
        self._added.append(0)
        return len(self._added) - 1

    def show(self, token: int, key: int, tag: int, holders: int = 30) -> list[int] | None:
        """A key shows a token in a template. Who had shown it, each as `number << 5 | tag`.

        None where it is nothing new of this key, or where `holders` keys have shown it, so that it says nothing of
        any two of them.
        """
        if token in self._crowded:
            return None
        table = self._table
        mark = token >> 28
        at = mark * self._size >> 35
        found: list[int] = []
        while entry := table[at]:
            if entry >> 29 == mark:
                if entry & 3:
                    table[at] = entry & ~3
                if entry >> 7 & KEYS == key:
                    return None
                found.append(entry >> 2 & 0x7FFFFFF)
            at += 1
        if found and (len(found) >= holders or token in self._crowded_before):
            self._crowded.add(token)
            return None
        if self._added[key] >= AT_MOST:
            self._refused += 1
            if self._refused >= self._limit:
                self._sweep()
            return found
        self._added[key] += 1
        table[at] = mark << 29 | key << 7 | tag << 2
        self._used += 1
        if self._used >= self._limit or at >= len(table) - 2:
            self._sweep()
        return found

    def _sweep(self) -> None:
        """More room where more keys have come; else each key's oldest go."""
        kept = [entry for entry in self._table if entry]
        keys = len(self._added)
        limit = max(LEAST, A_KEY * (keys - 1))
        if limit < 1.25 * self._limit:
            ages = array("I", bytes(16 * keys))
            for entry in kept:
                ages[entry >> 5 & 0xFFFFFC | entry & 3] += 1
            oldest = _oldest(ages, limit)
            # Of a key whose newest alone are too many, every second one stays, and of all keys the same
            kept = [
                entry + (entry & 3 < _OLDEST)
                for entry in kept
                if entry & 3 < oldest[entry >> 7 & KEYS] or (entry >> 29 & 1 and not oldest[entry >> 7 & KEYS])
            ]
            self._crowded_before, self._crowded = self._crowded, set()
            self._added = array("H", bytes(2 * keys))
            self._refused = 0
        self._limit = limit
        self._lay(sorted(kept))

    def _lay(self, entries: list[int]) -> None:
        self._size = size = int(self._limit / FULL)
        self._used = len(entries)
        self._table = table = array("Q", bytes(8 * (size + SLACK)))
        last = -1
        for entry in entries:
            at = (entry >> 29) * size >> 35
            last = at if at > last else last + 1
            table[last] = entry


def _oldest(ages: array[int], limit: int) -> bytearray:
    """Of each key, the age from which on its entries go, so that all keep the same number and the room suffices.

    `ages`: entries of each key and age, four a key.
    """
    share = 2 * limit * 4 // len(ages)
    while True:
        oldest = bytearray(len(ages) // 4)
        total = 0
        for key in range(len(oldest)):
            held = age = 0
            while age <= _OLDEST and held + ages[4 * key + age] <= share:
                held += ages[4 * key + age]
                age += 1
            oldest[key], total = age, total + held
        if total <= AFTER * limit:
            return oldest
        share = share * 3 // 4
