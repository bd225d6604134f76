"""What two keys have met in: the counts of a pair, in 24 bytes.

Law: a pair gets a record at its second meeting of a kind that tells something. The first is noted in four bytes
that another pair may take over: most pairs meet once and never again, and they are many more than the keys. When
the records are full, those go that have not grown since the time before; so the room is bounded by the number of
keys, and a stranger who meets everybody once or twice costs the others nothing.

Layout: open addressing with linear probing over three arrays, the pair and its counts (`kinds.COUNTS`) in two words
of nine fields. The top bit of the first word says that the record has grown since the last sweep.
"""

from __future__ import annotations

from array import array

from headgate.linking.content.kinds import FIELD, SHIFT, one, plus

A_KEY = 8
"""Records a key, on average, before those go that stand still: 320 bytes a key with the empty places between."""

LEAST = 4_096
"""Records that are kept at least."""

FULL = 0.6
"""Share of the places that are taken at most."""

NOTES = 12
"""First meetings noted a key, on average."""

_SPREAD = 0x9E3779B97F4A7C15
_ALL = (1 << 64) - 1
_WORD = (1 << 63) - 1
_GROWN = 1 << 63
_TWICE = FIELD << SHIFT["prompt_twice"]
_OPENERS = tuple((FIELD << SHIFT[name], one("strong", name)) for name in ("template", "opening", "question_same"))
_OPENED = (*(with_ for _, with_ in _OPENERS), one("strong", "question"))


class Pairs:
    """The records of pairs. A pair is `smaller << 22 | larger`, by the numbers of its keys.

    >>> pairs = Pairs()
    >>> pairs.met(1 << 22 | 2, one("strong", "template")), pairs.met(1 << 22 | 2, one("strong", "opening"))
    ((0, 0), (0, 2))
    >>> counts = pairs.record(1 << 22 | 2)
    >>> counts == one("strong", "template") + one("strong", "opening")
    True
    """

    def __init__(self) -> None:
        self._keys = 0
        self._room = LEAST
        self._used = 0
        self._notes = array("I", bytes(4 * LEAST * NOTES))
        self._empty()

    def enter(self) -> None:
        """A key more."""
        self._keys += 1
        if NOTES * self._keys > 2 * len(self._notes):
            self._notes = array("I", bytes(4 * NOTES * self._keys))

    def record(self, pair: int) -> int:
        """What the two have met in so far."""
        at = self._place(pair)
        return (self._low[at] & _WORD) | self._high[at] << 63 if self._pairs[at] else 0

    def met(self, pair: int, in_: int) -> tuple[int, int]:
        """Two keys meet in these things. Their strong meetings before and after; 0 and 0 where there is no record."""
        at = self._place(pair)
        if self._pairs[at]:
            before = (self._low[at] & _WORD) | self._high[at] << 63
        else:
            strong = in_ & FIELD
            if not strong:
                return 0, 0
            before = 0
            if strong == 1 and not in_ & _TWICE and not (before := self._noted(pair, in_)):
                return 0, 0
            if self._used >= self._room:
                self._sweep()
                at = self._place(pair)
            self._used += 1
            self._pairs[at] = pair
            in_, before = plus(before, in_), 0
        after = plus(before, in_)
        self._low[at] = after & _WORD | _GROWN
        self._high[at] = after >> 63
        return before & FIELD, after & FIELD

    def _place(self, pair: int) -> int:
        """Where the pair is, or would be."""
        pairs = self._pairs
        at = (pair * _SPREAD & _ALL) * self._size >> 64
        while (there := pairs[at]) and there != pair:
            at += 1
        return at

    def _noted(self, pair: int, in_: int) -> int:
        """What is known of the first meeting, where this is the second; else it is noted."""
        spread = pair * _SPREAD & _ALL
        at = (spread >> 24) % len(self._notes)
        mark = (spread >> 34 | 1) & 0x3FFFFFFF
        note = self._notes[at]
        if note >> 2 == mark:
            return _OPENED[note & 3]
        self._notes[at] = mark << 2 | next((place for place, (field, _) in enumerate(_OPENERS) if in_ & field), 3)
        return 0

    def _empty(self) -> None:
        self._size = int(self._room / FULL)
        # Behind the last place, room for what the walk does not find any for before
        self._pairs, self._low, self._high = (array("Q", bytes(8 * (self._size + 1024))) for _ in range(3))

    def _sweep(self) -> None:
        """More room where more keys have come; else what has not grown goes, and then what is least."""
        kept = [at for at, pair in enumerate(self._pairs) if pair]
        pairs, low, high = self._pairs, self._low, self._high
        if max(LEAST, A_KEY * self._keys) >= 1.25 * self._room:
            self._room = A_KEY * self._keys
        else:
            kept = [at for at in kept if low[at] & _GROWN]
            least = 3
            while len(kept) > 0.75 * self._room:
                kept = [at for at in kept if low[at] & FIELD >= least]
                least += 1
            low = array("Q", [word & _WORD for word in low])
        self._empty()
        self._used = len(kept)
        for before in kept:
            at = self._place(pairs[before])
            self._pairs[at], self._low[at], self._high[at] = pairs[before], low[before], high[before]
