"""What a data API has to give: collections of items, how they are numbered, and which of them are popular.

Law: a place in a listing and an item's number are two things. Some collections are numbered without a gap, in some
items were deleted, some are listed by another order than their numbers; and where the operator's ids are opaque, the
number shows nowhere.
"""

from __future__ import annotations

from array import array
from random import Random
from typing import NamedTuple

from headgate.drill import facts


def scattered(rank: int, many: int) -> int:
    """A place among so many for a rank: the same each time, and as good as drawn.

    A mere multiple of the rank would not do: for some sizes it puts the popular items side by side, and whoever reads
    them would seem to go on where another stopped. (The mixing is that of SplitMix64.)

    >>> len({scattered(rank, 1000) for rank in range(100)}) > 90
    True
    """
    mixed = (rank + many) * 0x9E3779B97F4A7C15 & 0xFFFF_FFFF_FFFF_FFFF
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFF_FFFF_FFFF_FFFF
    return (mixed ^ mixed >> 27) % many


class Collection(NamedTuple):
    """Items `first` to `first + many` (more, where some were deleted) under one name."""

    name: str
    kind: str
    first: int
    many: int
    gap: int
    """After so many items one number is missing; 0 for never."""
    order: array[int] | None
    """The listing, where it does not follow the numbers."""
    opaque: bool

    def item(self, place: int) -> str:
        """The id of the item at a place of the listing.

        >>> [Collection("c1", "doc", 100, 8, 3, None, False).item(place) for place in (0, 2, 3)]
        ['doc:100', 'doc:102', 'doc:104']
        """
        if self.order is not None:
            place = self.order[place]
        number = self.first + place + (place // self.gap if self.gap else 0)
        if self.opaque:
            return f"{self.kind}:{number * 0x9E3779B97F4A7C15 & 0xFFFF_FFFF_FFFF:012x}x"
        return f"{self.kind}:{number}"

    def page(self, place: int, size: int) -> tuple[str, ...]:
        """The ids of a page of the listing that begins at a place; shorter at the end."""
        if not (self.gap or self.order or self.opaque):
            first, end = self.first + place, self.first + min(place + size, self.many)
            return tuple([f"{self.kind}:{number}" for number in range(first, end)])
        return tuple([self.item(at) for at in range(place, min(place + size, self.many))])


class Catalogue(NamedTuple):
    """All that there is: public collections, and the rows that tenants keep to themselves."""

    collections: tuple[Collection, ...]
    rows: Collection
    items: int

    def find(self, place: int) -> tuple[Collection, int]:
        """The collection that holds a place of the whole, and the place in it."""
        for one in self.collections:
            if place < one.many:
                return one, place
            place -= one.many
        return self.collections[-1], self.collections[-1].many - 1

    def hot(self, random: Random) -> tuple[Collection, int]:
        """An item drawn by popularity; what is popular is spread over all collections."""
        rank = facts.popular(random, self.items)
        return self.find(scattered(rank, self.items))


def catalogue(random: Random, items: int, ids: str) -> Catalogue:
    """A catalogue of about so many items; `ids` is `dense` (no gaps), `mixed` or `opaque`.

    >>> made = catalogue(Random(1), 5000, "dense")
    >>> sum(one.many for one in made.collections) == made.items, 4000 < made.items < 6000
    (True, True)
    """
    weights = [random.lognormvariate(0, 1.1) for _ in range(30)]
    made: list[Collection] = []
    first = 1 + random.randrange(9000)
    kinds = random.sample(("doc", "case", "product", "paper", "listing", "profile"), 3)
    for at, weight in enumerate(weights):
        many = max(60, int(items * weight / sum(weights)))
        form = 0.0 if ids != "mixed" else random.random()
        gap = random.choice((12, 30, 90)) if form > 0.6 else 0
        order = shuffled(random, many) if form > 0.9 else None
        made.append(Collection(f"c{at:02}", random.choice(kinds), first, many, gap, order, ids == "opaque"))
        first += many + many // 12 + 40 + random.randrange(900)
    rows = Collection("rows", "row", 1 + random.randrange(90_000), 1 << 30, 0, None, ids == "opaque")
    return Catalogue(tuple(made), rows, sum(one.many for one in made))


def shuffled(random: Random, many: int) -> array[int]:
    """The numbers below `many`, in any order."""
    order = array("I", range(many))
    random.shuffle(order)
    return order


PAGES = (10, 20, 20, 25, 50, 50, 100)
"""Page sizes, by how common they are."""
