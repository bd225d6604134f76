"""What ordinary customers of a data API do: look up, browse, walk through, poll, search, read their own rows.

Law: each reader draws its own interests from its own `Random`; that two walk through one collection is the
collection's fame, and each then walks all of it.
"""

from __future__ import annotations

from random import Random

from headgate.drill import facts
from headgate.drill.asking import topic
from headgate.drill.catalogue import PAGES, Catalogue, Collection, scattered
from headgate.drill.work import Work, Worker


def one_item(random: Random, item: str) -> Work:
    """An item is read."""
    size = 180 + int(facts.drawn(random, facts.SIZE) * 0.12)
    return Work("GET", f"/v1/items/{item.partition(':')[2]}", size, items=(item,))


def one_page(random: Random, listing: Collection, place: int, many: int) -> Work:
    """A page of a collection's listing is read."""
    items = listing.page(place, many)
    size = 90 + len(items) * (260 + int(random.random() * 500))
    return Work("GET", f"/v1/collections/{listing.name}/items", size, items=items)


class Visitor:
    """Reads what is popular, or what is popular in its own field; pages through a listing now and then."""

    def __init__(self, random: Random, stock: Catalogue, field: Collection | None) -> None:
        self._random = random
        self._stock = stock
        self._field = field
        self._page = random.choice(PAGES)
        self._place = -1

    def next(self, at: float) -> Work:
        """An item; or the next page of a listing that is left after a few."""
        random = self._random
        if self._field is None:
            where, place = self._stock.hot(random)
        else:
            many = self._field.many
            where, place = self._field, scattered(facts.popular(random, many), many)
        if self._place >= 0 or random.random() < 0.05:
            listing = where
            self._place = 0 if self._place < 0 else self._place + self._page
            made = one_page(random, listing, min(self._place, listing.many - 1), self._page)
            if random.random() < 0.35 or self._place + self._page >= listing.many:
                self._place = -1
            return made
        return one_item(random, where.item(place))


class Walker:
    """Walks through whole collections, page by page or item by item, each by itself: a mirror, an indexer."""

    def __init__(self, random: Random, listings: list[Collection], page: int, again: bool) -> None:
        self._random = random
        self._listings = listings
        self._page = page
        self._again = again
        # Some are half-way when the log begins.
        self._place = 0 if random.random() < 0.5 else int(listings[0].many * random.random()) // page * page
        self._at = 0

    def next(self, at: float) -> Work | None:
        """The next page; None once all is read, for one who does not begin again."""
        if self._at >= len(self._listings):
            if not self._again:
                return None
            self._at = 0
        listing = self._listings[self._at]
        made = (
            one_page(self._random, listing, self._place, self._page)
            if self._page > 1
            else one_item(self._random, listing.item(self._place))
        )
        self._place += self._page
        if self._place >= listing.many:
            self._place = 0
            self._at += 1
        return made


class Tenant:
    """Reads its own rows, which lie side by side and right beside another tenant's."""

    def __init__(self, random: Random, rows: Collection, first: int, many: int) -> None:
        self._random = random
        self._rows = rows
        self._first = first
        self._many = many
        self._page = random.choice((1, 10, 25, 50))
        self._place = 0

    def next(self, at: float) -> Work:
        """The next rows in order, or some of them again."""
        random = self._random
        page = min(self._page, self._many)
        if random.random() < 0.3:
            place = int(random.random() * self._many)
            return one_item(random, self._rows.item(self._first + place))
        place = self._place
        self._place = (place + page) % self._many
        items = self._rows.page(self._first + place, min(page, self._many - place))
        return Work("GET", "/v1/rows", 80 + len(items) * 310, items=items)


class Poller:
    """Asks for what is newest, again and again: newest first, mostly what it had before."""

    def __init__(self, random: Random, listing: Collection, growth: float, begin: float) -> None:
        self._random = random
        self._listing = listing
        self._growth = growth
        self._begin = begin
        self._page = random.choice((10, 20, 20, 50))

    def next(self, at: float) -> Work:
        """The newest items now."""
        newest = self._listing.many // 2 + int((at - self._begin) * self._growth)
        last = min(newest, self._listing.many - 1)
        items = tuple([self._listing.item(place) for place in range(last, max(last - self._page, 0), -1)])
        return Work("GET", f"/v1/collections/{self._listing.name}/latest", 100 + len(items) * 420, items=items)


class Rereader:
    """A job that reads the same list each time: prices, fixtures, a watch list."""

    def __init__(self, random: Random, listed: list[str]) -> None:
        self._random = random
        self._listed = listed
        self._at = 0

    def next(self, at: float) -> Work:
        """The next of the list, from its beginning at its end."""
        item = self._listed[self._at]
        self._at = (self._at + 1) % len(self._listed)
        return one_item(self._random, item)


class Searcher:
    """Searches with a few words and opens some of what was found."""

    def __init__(self, random: Random, stock: Catalogue) -> None:
        self._random = random
        self._stock = stock
        self._subject = topic(random, narrow=True)
        self._found: tuple[str, ...] = ()

    def next(self, at: float) -> Work:
        """A search, or one of the last search's hits."""
        random = self._random
        if self._found and random.random() < 0.55:
            return one_item(random, self._found[int(random.expovariate(0.6)) % len(self._found)])
        words = [*random.sample(self._subject.things, 2), random.choice(self._subject.kinds)]
        hits = [self._stock.hot(random) for _ in range(10)]
        self._found = tuple(dict.fromkeys([where.item(place) for where, place in hits]))
        size = 200 + len(self._found) * 480
        return Work("POST", "/v1/search", size, " ".join(words), items=self._found)


def watched(random: Random, stock: Catalogue, many: int) -> list[str]:
    """A list of items that somebody keeps, some popular, most of one field."""
    field = random.choice(stock.collections)
    places = [random.randrange(field.many) for _ in range(many * 3 // 4)]
    hot = [stock.hot(random) for _ in range(many - len(places))]
    return [field.item(place) for place in places] + [where.item(place) for where, place in hot]


def reader(random: Random, stock: Catalogue, begin: float) -> Worker:
    """What an ordinary customer of a data API does."""
    kind = random.random()
    if kind < 0.3:
        return Visitor(random, stock, None)
    if kind < 0.52:
        return Visitor(random, stock, random.choice(stock.collections))
    if kind < 0.62:
        many = 1 + int(random.expovariate(0.7))
        listings = random.sample(stock.collections, min(many, len(stock.collections)))
        return Walker(random, listings, random.choice((1, *PAGES)), random.random() < 0.4)
    if kind < 0.72:
        many = 20 + int(random.expovariate(1 / 400))
        return Tenant(random, stock.rows, random.randrange(1 << 22) * 64, many)
    if kind < 0.8:
        return Poller(random, random.choice(stock.collections), random.choice((0.0002, 0.002, 0.01)), begin)
    if kind < 0.88:
        return Rereader(random, watched(random, stock, 8 + int(random.expovariate(1 / 60))))
    return Searcher(random, stock)
