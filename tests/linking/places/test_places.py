"""One operator's walk behind many keys: what is found, and who is spared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from tests.linking.places.worlds import (
    HOUR,
    ITEMS,
    PAGE,
    groups,
    honest,
    ranges,
    read,
    round_robin,
    seen,
)

from headgate.linking.observation import Observation
from headgate.linking.places import Places, weights

OPERATOR = ["op 0", "op 1", "op 2", "op 3"]
FAR = ITEMS + 1
"""Where no honest reader of these worlds goes."""


def test_keys_that_share_one_queue_are_found_and_nobody_else() -> None:
    places = seen(honest(Random(1)), round_robin(OPERATOR, FAR, 80, 3 * HOUR))
    assert groups(places) == [set(OPERATOR)]
    signals = {one.signal for one in places.findings()[0].evidence}
    assert "relay" in signals


def test_without_relays_they_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "RELAY_CAP", 0.0)
    assert groups(seen(honest(Random(1)), round_robin(OPERATOR, FAR, 80, 3 * HOUR))) == []


def test_four_ranges_in_a_row_are_found_by_their_edges() -> None:
    places = seen(honest(Random(2)), ranges(OPERATOR, FAR, 20, 3 * HOUR))
    assert groups(places) == [set(OPERATOR)]
    assert places.findings()[0].evidence[1].signal == "tiling"


def test_without_tiles_the_ranges_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "TILE_CAP", 0.0)
    assert groups(seen(honest(Random(2)), ranges(OPERATOR, FAR, 20, 3 * HOUR))) == []


def test_two_readers_whose_ranges_touch_are_not_enough() -> None:
    assert groups(seen(honest(Random(3)), ranges(OPERATOR[:2], FAR, 20, 3 * HOUR))) == []


def test_tenants_with_adjacent_rows_of_their_own_are_spared() -> None:
    def tenants() -> Iterator[Observation]:
        for visit in range(4):
            yield from ranges([f"tenant {number}" for number in range(6)], FAR, 15, (2 + 4 * visit) * HOUR)

    assert groups(seen(honest(Random(4)), tenants()), least=0.0) == []


def test_a_class_that_starts_at_the_same_pages_is_spared() -> None:
    random = Random(5)

    def pupils() -> Iterator[Observation]:
        exercises = [FAR + random.randrange(5000) * PAGE for _ in range(6)]
        for number in range(25):
            for exercise in exercises:
                at = 10 * HOUR + random.random() * 2 * HOUR
                for page in range(3):
                    yield read(at + page * 15, f"pupil {number}", exercise + page * PAGE)

    assert groups(seen(honest(random), pupils())) == []


def test_honest_readers_of_the_whole_collection_are_spared() -> None:
    random = Random(6)

    def crawlers() -> Iterator[Observation]:
        for number in range(5):
            begin, pace = random.random() * 12 * HOUR, 20 + random.random() * 40
            for page in range(400):
                yield read(begin + page * pace, f"crawler {number}", FAR + page * PAGE)

    assert groups(seen(honest(random), crawlers())) == []


def test_jobs_of_one_minute_are_spared_though_they_meet_in_time() -> None:
    random = Random(7)
    favourites = [FAR + random.randrange(200) * PAGE for _ in range(60)]

    def jobs() -> Iterator[Observation]:
        for hour in range(1, 24):
            for number in range(4):
                for nth in range(6):
                    yield read(hour * HOUR + nth * 2 + random.random(), f"job {number}", random.choice(favourites))

    assert groups(seen(honest(random), jobs())) == []


def test_who_reads_the_latest_is_no_relay() -> None:
    def pollers() -> Iterator[Observation]:
        for turn in range(100):
            for number in range(5):
                runs = tuple([(7, FAR + turn - back, 1) for back in range(10)])
                yield Observation(
                    int((2 * HOUR + turn * 300 + number) * 1e6), f"poller {number}", f"o{number}", True, runs=runs
                )

    assert groups(seen(honest(Random(8)), pollers()), least=0.0) == []


def test_a_key_that_meets_a_group_at_one_place_does_not_ride_along() -> None:
    operator = [f"op {number}" for number in range(8)]
    queue = list(round_robin(operator, FAR, 200, 3 * HOUR))
    rider = [read(3 * HOUR + 100 * 20 + 3, "rider", FAR + 110 * PAGE)]
    assert groups(seen(honest(Random(9)), queue, rider)) == [set(operator)]


def test_two_operators_and_a_key_that_reads_beside_both_stay_two() -> None:
    one, other = [f"one {number}" for number in range(4)], [f"other {number}" for number in range(4)]
    bridge = [read(3 * HOUR + 1003, "bridge", FAR + 51 * PAGE), read(9 * HOUR + 1003, "bridge", 3 * FAR + 51 * PAGE)]
    places = seen(
        honest(Random(10)), round_robin(one, FAR, 120, 3 * HOUR), round_robin(other, 3 * FAR, 120, 9 * HOUR), bridge
    )
    found = groups(places)
    assert sorted(sorted(group - {"bridge"}) for group in found) == [one, other]


def test_keys_of_one_org_are_no_finding() -> None:
    fleet = [one._replace(org="acme") for one in round_robin(OPERATOR, FAR, 80, 3 * HOUR)]
    assert groups(seen(honest(Random(11)), fleet), least=0.0) == []


def test_no_honest_reader_is_linked_in_worlds_without_an_operator() -> None:
    for seed in range(20, 24):
        assert groups(seen(honest(Random(seed), keys=250, reads=40))) == [], seed


def test_what_was_linked_rests_on_what_was_seen_before() -> None:
    whole = sorted(
        [*honest(Random(12)), *round_robin(OPERATOR, FAR, 80, 3 * HOUR)], key=lambda one: (one.at, one.key)
    )
    linked = next(found.members for found in seen(whole).findings() if found.confidence >= 0.95)
    last = max(linked.values())
    assert groups(seen([one for one in whole if one.at <= last])) == [set(OPERATOR)]
    early = groups(seen([one for one in whole if one.at < min(linked.values())]))
    assert early == []


def test_asking_changes_nothing() -> None:
    asked, left = Places(), Places()
    for one in sorted(
        [*honest(Random(13)), *round_robin(OPERATOR, FAR, 80, 3 * HOUR)], key=lambda one: (one.at, one.key)
    ):
        asked.saw(one)
        left.saw(one)
        asked.findings(told=False)
    assert asked.findings() == left.findings()


_FINDINGS = """
from random import Random
from tests.linking.places.worlds import HOUR, ITEMS, honest, round_robin, seen
print(seen(honest(Random(14)), round_robin(["a", "b", "c", "d"], ITEMS + 1, 80, 3 * HOUR)).findings())
"""


def test_the_same_requests_give_the_same_findings_in_every_process() -> None:
    root = Path(__file__).parents[3]
    said = [
        subprocess.run(
            [sys.executable, "-c", _FINDINGS],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{root}:{root / 'middleware'}"},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1] != b"[]\n"


def test_a_key_that_reads_without_end_takes_no_more_room_than_its_share() -> None:
    places, random = Places(), Random(15)
    for number in range(30_000):
        places.saw(read(number, "flood", random.randrange(ITEMS * 10), 1 + number % 3))
    before = places.__sizeof__()
    for number in range(30_000, 90_000):
        places.saw(read(number, "flood", random.randrange(ITEMS * 10), 1 + number % 3))
    assert places.__sizeof__() <= before * 1.05


def test_many_keys_cost_a_bounded_room_each() -> None:
    places = seen(honest(Random(16), keys=600, reads=120))
    assert places.__sizeof__() / 600 < 4000
