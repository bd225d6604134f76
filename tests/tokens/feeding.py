"""A response is fed to a reader: whole, or in pieces."""

from __future__ import annotations

from itertools import pairwise

from headgate.tokens import Reader, Usage, reader

Seen = tuple[Usage, bool, int]


def of(kind: str = "text/event-stream") -> Reader:
    found = reader(kind, encoded=False)
    assert found is not None
    return found


def seen(found: Reader) -> Seen:
    return found.usage, found.complete, found.text


def read(*pieces: bytes, kind: str = "text/event-stream") -> Seen:
    found = of(kind)
    for piece in pieces:
        found.fed(piece)
    return seen(found)


def body(*pieces: bytes) -> Seen:
    return read(*pieces, kind="application/json")


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(at)]
