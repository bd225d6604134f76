"""The stream of work that an operator moves: one list of things to take, in pieces that any key may fetch.

Law: the pieces are numbered from 0, and which piece a number is does not depend on who takes it or when: sharding
moves real work and makes none up.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple, Protocol

from headgate.drill.asking import Subject, subject, template, topic
from headgate.drill.catalogue import Catalogue, Collection, shuffled
from headgate.drill.prompting import PATHS, sized
from headgate.drill.reading import one_item, one_page
from headgate.drill.words import firm
from headgate.drill.work import Work, Worker


class Job(Protocol):
    """A list of work."""

    pieces: int

    def piece(self, number: int, at: float) -> Work | None:
        """The work of a number."""
        ...

    def changed(self) -> None:
        """The operator was seen, and says things anew from now on."""
        ...


class Bank:
    """A list of questions, each to be asked in each of some templates: what a distillation sends.

    The pieces of one question follow each other, so that a range of pieces is a range of questions.
    """

    def __init__(self, random: Random, templates: int, questions: int, topics: int, paraphrase: float) -> None:
        self._random = random
        self._seed = random.getrandbits(64)
        self._topics = [topic(random) for _ in range(topics)]
        house = firm(random)
        self._templates = [template(random, random.choice(self._topics), house) for _ in range(templates)]
        self._paraphrase = paraphrase
        self._path = random.choice(PATHS)
        self._kind = random.choice(("code", "conversation"))
        self._rows = questions
        self._known: dict[int, Subject] = {}
        self.pieces = questions * templates

    def piece(self, number: int, at: float) -> Work:
        """The prompt of a number."""
        row, which = divmod(number, len(self._templates))
        # The list may be by topic, as lists are: neighbours have one.
        about = self._known.get(row)
        if about is None:
            if len(self._known) > 4096:
                self._known.clear()
            one = self._topics[row * len(self._topics) // self._rows]
            about = self._known[row] = subject(Random(f"{self._seed} {row}"), one)
        made = self._templates[which].filled(self._random, about, self._paraphrase)
        return sized(self._random, self._path, made, self._kind)

    def changed(self) -> None:
        """Half of the templates are written anew."""
        house = firm(self._random)
        for at in range(0, len(self._templates), 2):
            self._templates[at] = template(self._random, self._random.choice(self._topics), house)


class _Span(NamedTuple):
    listing: Collection
    start: int
    pages: int


class Harvest:
    """A share of a catalogue, to be read page by page or item by item; in listing order, or mixed.

    It is taken from `parts` stretches of as many collections; with `apart`, of just so many, and all of one length.
    """

    def __init__(
        self, random: Random, stock: Catalogue, share: float, page: int, parts: int, apart: bool, mixed: bool
    ) -> None:
        self._random = random
        self._page = page
        self._spans: list[_Span] = []
        left = max(6 * parts, int(stock.items * share) // page)
        each = max(1, left // parts)
        # Large collections first: what an operator is after is seldom the smallest one. Small ones are made up for by
        # more of them, unless each key is to have just one.
        best = sorted(stock.collections, key=lambda one: one.many * random.random(), reverse=True)
        if apart:
            best = best[:parts]
            each = min(each, *[listing.many // page for listing in best])
        for listing in best:
            pages = max(1, min(listing.many // page, each))
            # It begins where a page begins, as everybody's pages do.
            start = int(random.random() * (listing.many // page - pages + 1)) * page
            self._spans.append(_Span(listing, max(0, start), pages))
            left -= pages
            if left <= 0 and not apart:
                break
        self.pieces = sum(span.pages for span in self._spans)
        self._order = shuffled(random, self.pieces) if mixed else None

    def piece(self, number: int, at: float) -> Work:
        """The page of a number."""
        if self._order is not None:
            number = self._order[number]
        for listing, start, pages in self._spans:
            if number < pages:
                place = start + number * self._page
                if self._page == 1:
                    return one_item(self._random, listing.item(place))
                return one_page(self._random, listing, place, self._page)
            number -= pages
        raise AssertionError("a piece beyond the last")  # pragma: no cover

    def changed(self) -> None:
        """Nothing to say anew: an item is an item."""


class Demand:
    """The customers of a reseller: each with wishes of its own. A piece is a customer's number; they never end."""

    def __init__(self, customers: list[Worker]) -> None:
        self._customers = customers
        self.pieces = len(customers)

    def piece(self, number: int, at: float) -> Work | None:
        """What a customer asks for next."""
        return self._customers[number].next(at)

    def changed(self) -> None:
        """Its customers know nothing of it."""
