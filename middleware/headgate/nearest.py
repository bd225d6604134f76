"""What was probably meant: the known word that is nearest to a misspelt one.

Law: one rule for whatever is misspelt, a field, a setting, a plan or a key. At most a third of the letters may be
wrong, so that no word is offered only for want of a better one.
"""

from __future__ import annotations

from collections.abc import Iterable

LETTERS_MOST = 64
"""Letters of a word that are compared."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that the given one is likely meant for, or "".

    Likely: at most a third of its letters (and one at least) are wrong, missing, added or swapped with a neighbour.
    Or else it is the beginning, up to a dash, of one known word and no other. Of several that are as near the last:
    in a file of keys it is the newest.

    >>> nearest("mater", ["meter", "per", "rate"]), nearest("quota", ["meter", "per"])
    ('meter', '')
    >>> nearest("headgate", ["headgate-keys", "orgs", "keys"])
    'headgate-keys'
    """
    best, most, longer = "", max(1, len(word) // 3), []
    for other in known:
        if abs(len(other) - len(word)) <= most:
            distance = _distance(word.lower(), other.lower(), most)
            if distance <= most:
                best, most = other, distance
        elif word and other.startswith(word + "-"):
            longer.append(other)
    return best or (longer[0] if len(longer) == 1 else "")


def suggestion(word: str, known: Iterable[str]) -> str:
    """The same as the end of a sentence; "" where nothing is near.

    >>> suggestion("orgg", ["org", "plan"])
    '; did you mean `org`?'
    """
    meant = nearest(word, known)
    return f"; did you mean `{meant}`?" if meant else ""


def _distance(a: str, b: str, most: int) -> int:
    """Edits between two words, a swap of neighbours being one (optimal string alignment).

    Past `most` they are not counted: of 50,000 keys all but a few are given up after some letters.
    """
    a, b = a[:LETTERS_MOST], b[:LETTERS_MOST]
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        # INVARIANT: no row is under the least of the two before it, since a swap reaches back over one.
        if min(row) > most and min(last) > most:
            return most + 1
        before, last = last, row
    return last[-1]
