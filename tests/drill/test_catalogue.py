"""What a data API has to give: numbers, listings, and what is popular."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from headgate.drill.catalogue import catalogue, scattered
from headgate.drill.jobs import Harvest


@pytest.mark.parametrize("many", [1_320, 2_640, 3_960, 7_920, 9_999, 180_000])
def test_what_is_popular_does_not_lie_side_by_side(many: int) -> None:
    places = sorted({scattered(rank, many) for rank in range(60)})
    assert len(places) > 55 and all(0 <= place < many for place in places)
    assert sum(other - one == 1 for one, other in pairwise(places)) <= 6


@pytest.mark.parametrize("ids", ["dense", "mixed", "opaque"])
def test_no_two_places_of_a_catalogue_are_one_item(ids: str) -> None:
    stock = catalogue(Random(3), 6_000, ids)
    items = [item for one in stock.collections for item in one.page(0, one.many)]
    assert len(items) == len(set(items)) == stock.items
    numbers = [int(item.split(":")[1]) for item in items] if ids != "opaque" else []
    ascending = sum(other - one == 1 for one, other in pairwise(numbers)) / len(items)
    assert {"dense": ascending > 0.99, "mixed": 0.6 < ascending < 0.99, "opaque": ascending == 0}[ids]


@pytest.mark.parametrize("mixed", [False, True])
def test_a_harvest_s_pieces_are_whole_pages_each_once_and_begin_where_pages_begin(mixed: bool) -> None:
    stock = catalogue(Random(5), 20_000, "dense")
    job = Harvest(Random(6), stock, 0.1, 25, 4, False, mixed)
    pages = [job.piece(number, 0.0).items or () for number in range(job.pieces)]
    taken = [item for page in pages for item in page]
    assert {len(page) for page in pages} == {25} and len(taken) == len(set(taken))
    assert len(taken) == pytest.approx(0.1 * stock.items, rel=0.2)
    starts = {one.kind + ":" + str(one.first + at) for one in stock.collections for at in range(0, one.many, 25)}
    assert {page[0] for page in pages} <= starts
    order = [int(page[0].split(":")[1]) for page in pages]
    assert (sum(other - one == 25 for one, other in pairwise(order)) > 0.9 * len(order)) is not mixed


def test_each_key_of_a_topic_partition_has_a_collection_of_one_length() -> None:
    stock = catalogue(Random(5), 20_000, "dense")
    job = Harvest(Random(6), stock, 0.1, 10, 5, True, False)
    paths = [job.piece(number, 0.0).path for number in range(job.pieces)]
    assert len(set(paths)) == 5 and len({paths.count(path) for path in set(paths)}) == 1
