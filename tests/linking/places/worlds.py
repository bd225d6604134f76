"""Small worlds for the tests of `places`: honest readers of a collection, and what an operator may do among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

from headgate.linking.observation import Observation
from headgate.linking.places import Places

SECOND = 1_000_000
HOUR = 3_600
COLLECTION = 7
ITEMS = 200_000
PAGE = 20


def read(at: float, key: str, first: int, n: int = PAGE, org: str = "", served: bool = True) -> Observation:
    """A key reads the items from one number on."""
    return Observation(int(at * SECOND), key, org or f"org of {key}", served, runs=((COLLECTION, first, n),))


def honest(random: Random, keys: int = 150, hours: float = 24, reads: int = 30) -> Iterator[Observation]:
    """Readers that have nothing to do with each other.

    Each comes now and then, and reads a few pages on from where it likes; favourite places are many readers'.
    """
    favourites = [random.randrange(ITEMS // PAGE) * PAGE + 1 for _ in range(40)]
    for number in range(keys):
        key, done = f"honest {number}", 0
        while done < reads:
            at = random.random() * hours * HOUR
            place = random.choice(favourites) if random.random() < 0.4 else random.randrange(ITEMS // PAGE) * PAGE + 1
            for _ in range(min(reads - done, 1 + int(random.expovariate(0.5)))):
                yield read(at, key, place)
                at, place, done = at + random.expovariate(0.2), place + PAGE, done + 1


def seen(*parts: Iterable[Observation]) -> Places:
    """What is found after all of it, in the order of time."""
    places = Places()
    for observation in sorted([one for part in parts for one in part], key=lambda one: (one.at, one.key)):
        places.saw(observation)
    return places


def groups(places: Places, least: float = 0.95) -> list[set[str]]:
    """The members of each finding that is sure enough."""
    return [set(found.members) for found in places.findings() if found.confidence >= least]


def round_robin(keys: list[str], first: int, pages: int, begin: float, pace: float = 20) -> Iterator[Observation]:
    """One queue of pages, a key after the other; nobody else reads there."""
    for page in range(pages):
        yield read(begin + page * pace, keys[page % len(keys)], first + page * PAGE)


def ranges(keys: list[str], first: int, pages: int, begin: float, pace: float = 100) -> Iterator[Observation]:
    """Each key its own range, all at a time."""
    for number, key in enumerate(keys):
        for page in range(pages):
            yield read(begin + number + page * pace, key, first + (number * pages + page) * PAGE)


def remainders(keys: list[str], first: int, pages: int, begin: float, pace: float = 20) -> Iterator[Observation]:
    """Each key the pages of one remainder, its turn after the others'; the step leaves no edges that touch."""
    step = 7 * PAGE
    for turn in range(pages):
        for number, key in enumerate(keys):
            if turn % len(keys) == number:
                yield read(begin + turn * pace, key, first + turn * step)
