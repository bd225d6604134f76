"""Each channel's null model: among readers who have nothing to do with each other, e^nats is rare as it should be."""

from __future__ import annotations

from math import exp
from random import Random

import pytest
from tests.linking.places.worlds import HOUR, honest, read, seen

from headgate.linking.places import places as module
from headgate.linking.places.counts import Counts
from headgate.linking.places.holes import nats as hole
from headgate.linking.places.readers import Readers
from headgate.linking.places.units import Lanes


def test_relays_of_unrelated_readers_are_as_rare_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    relays = module.relays

    def noted(*args: object) -> object:
        for key, nats, unit in relays(*args):  # type: ignore[arg-type]
            told.append(nats)
            yield key, nats, unit

    monkeypatch.setattr(module, "relays", noted)
    starts = 0
    for seed in range(30, 34):
        world = list(honest(Random(seed), keys=250, reads=40))
        starts += len(world)
        seen(world)
    # A start that says x nats or more comes once in e^x starts, or more rarely.
    for nats in (2.0, 3.0, 4.0, 5.0):
        assert sum([one >= nats for one in told]) <= starts * exp(-nats), nats


def test_a_hole_in_a_dense_reading_says_more_than_one_in_a_thin_one() -> None:
    assert hole(0.0) == 0.0 < hole(0.2) < hole(0.6) < hole(0.9)


def test_a_hole_of_chance_is_worth_nothing_on_average() -> None:
    # Under the null, a unit is the other's with the probability q, which costs two nats, and else says hole(q).
    for share in (0.1, 0.3, 0.6, 0.9):
        assert (1 - share) * exp(hole(share)) + share * exp(-2.0) < 1.13


def test_counts_are_never_too_small() -> None:
    counts, random, truth = Counts(narrow=True, cells=256), Random(1), dict[tuple[int, int], int]()
    for _ in range(3000):
        what = (random.randrange(40), random.randrange(40))
        truth[what] = truth.get(what, 0) + 1
        assert counts.add(what) >= truth[what]
    counts.room(1024)
    assert all(counts.of(what) >= many for what, many in truth.items())


def test_postings_say_what_a_list_of_all_reads_says() -> None:
    lanes, random = Lanes(), Random(2)
    readers, truth = Readers(lanes), dict[tuple[int, int], int]()
    for at in range(4000):
        key = random.randrange(60)
        unit = lanes.unit(read(at, str(key), 1 + 20 * random.randrange(400)))
        assert unit is not None
        code, n = unit
        around = readers.around(key, code, n, at)
        assert (around is None) == ((key, code) in truth)
        if around is None:
            truth[key, code] = at
            continue
        here = {other for other, its in truth if its == code}
        # Of a unit, the six latest readers are remembered.
        assert set(around.here) <= here and len(around.here) == min(len(here), 6)
        near = {other for other, its in truth if 0 < abs(its - code) <= 3 * n} - {key}
        assert set(around.near) <= near
        readers.add(key, code, at)
        kept = set(readers.of(key))
        assert len(kept) <= 80
        for other, its in [pair for pair in truth if pair[0] == key and pair[1] not in kept]:
            del truth[other, its]
        truth[key, code] = at
        _, latest = readers.at(code)
        for other in [other for other, its in truth if its == code and other not in dict(latest)]:
            del truth[other, code]


def test_pages_of_a_collection_with_deleted_items_are_units() -> None:
    lanes = Lanes()
    page = read(0, "k", 100)
    with_gap = page._replace(runs=((7, 100, 12), (7, 113, 8)))
    unit, following = lanes.unit(with_gap), lanes.unit(page._replace(runs=((7, 121, 20),)))
    assert unit is not None and following is not None
    readers = Readers(lanes)
    readers.add(1, unit[0], 1)
    around = readers.around(2, following[0], following[1], 2)
    assert around is not None and around.near == {1: [(-1, 1)]}


def test_what_is_no_page_is_no_unit() -> None:
    lanes, page = Lanes(), read(0, "k", 100)
    assert lanes.unit(page._replace(runs=((7, 100, 1), (7, 400, 1), (7, 90, 1)))) is None
    assert lanes.unit(page._replace(runs=((7, 100, 10), (8, 110, 10)))) is None
    assert lanes.unit(page._replace(runs=((7, 0, 1),))) is None
    assert lanes.unit(page._replace(runs=())) is None
    assert lanes.unit(page._replace(served=False)) is None


@pytest.mark.parametrize(("reads", "items", "keys"), [(6_000, 50_000, 15), (6_000, 5_000, 15), (6_000, 5_000, 55)])
def test_keys_that_read_items_at_random_are_nobody_s_relay(reads: int, items: int, keys: int) -> None:
    # One log of three hours, in which each item is as likely as any: a little chance in each region, and in all much.
    random = Random(reads + keys)
    world = [
        read(at * 3 * HOUR / reads, f"k{random.randrange(keys)}", 1 + random.randrange(items), 1)
        for at in range(reads)
    ]
    assert seen(world).findings() == []
