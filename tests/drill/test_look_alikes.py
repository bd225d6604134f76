"""The innocent: each family has its one thing in common, and does no work of another's."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from headgate.drill.lookalikes import families

from .worlds import Seen, seen


def of(kind: str) -> Seen:
    return seen(kind, "none", keys=700, per_key=25.0)


def lines(world: Seen, keys: list[str]) -> list[dict[str, object]]:
    wanted = set(keys)
    return [line for line in world.lines if line["key"] in wanted]


def traits(world: Seen, keys: list[str]) -> list[dict[str, str]]:
    told = {line["key"]: line["traits"] for line in lines(world, keys) if "traits" in line}
    return [told[key] for key in keys]


@pytest.mark.parametrize("kind", ["llm", "data"])
def test_every_family_is_there_and_its_keys_are_of_different_orgs_but_the_fleet_s(kind: str) -> None:
    world = of(kind)
    there = {one["scenario"] for one in world.labels["hard_negatives"].values()}
    assert there == set(families(kind))
    for one in world.labels["hard_negatives"].values():
        orgs = {world.meta["orgs"][key] for key in one["keys"]}
        assert len(orgs) == (1 if one["scenario"] == "lb_fleet" else len(one["keys"]))
        assert len(one["keys"]) > 1


@pytest.mark.parametrize(
    ("name", "most"), [("cgnat_block", 24), ("office_egress", 6), ("ci_egress", 60), ("hackathon", 2)]
)
def test_a_place_s_keys_come_from_few_addresses(name: str, most: int) -> None:
    world = of("llm")
    assert len({line["ip"] for line in lines(world, world.family(name))}) <= most


@pytest.mark.parametrize("kind", ["llm", "data"])
def test_a_class_shares_its_mail_domain_and_its_deadline(kind: str) -> None:
    world = of(kind)
    keys = world.family("university_class")
    assert len({one["email_domain"] for one in traits(world, keys)}) == 1
    times = [line["ts"] for line in lines(world, keys)]
    assert max(times) - min(times) <= 27 * 3600


def test_an_agency_pays_for_all_and_virtual_cards_look_like_few() -> None:
    world = of("llm")
    assert len({one["payment"] for one in traits(world, world.family("agency_card"))}) == 1
    assert len({one["payment"] for one in traits(world, world.family("virtual_cards"))}) <= 3


def test_jobs_at_the_full_hour_ask_in_its_first_minutes() -> None:
    world = of("llm")
    late = [line["ts"] % 900 for line in lines(world, world.family("cron_hour"))]
    assert sum(second < 150 for second in late) > 0.9 * len(late)


def test_installations_of_one_application_share_its_words_and_not_each_other_s_questions() -> None:
    world = of("llm")
    keys = world.family("popular_app")
    who = defaultdict(set)
    for line in lines(world, keys):
        for part in line.get("prompt", "").replace("\n", ".").split("."):
            who[part.strip().lower()].add(line["key"])
    assert max(len(some) for part, some in who.items() if len(part) > 12) > len(keys) / 3
    long = [some for part, some in who.items() if len(part) > 60]
    assert sum(len(some) > 1 for some in long) < 0.15 * len(long)


def test_who_runs_a_benchmark_asks_what_others_ask() -> None:
    world = of("llm")
    asked = Counter(line.get("prompt") for line in lines(world, world.family("benchmark")))
    del asked[None]
    assert sum(asked.values()) > 2 * len(asked)


def test_after_an_outage_many_ask_within_a_second() -> None:
    world = of("llm")
    for day in range(3):
        end = world.meta["t0"] + day * 86_400 + 13.25 * 3600
        asked = lines(world, world.family("outage_recovery"))
        assert not [line for line in asked if end - 899 < line["ts"] < end]
    ends = Counter(int((line["ts"] - world.meta["t0"]) % 86_400 - 13.25 * 3600) for line in asked)
    assert ends[0] > 5 * max(ends[at] for at in (30, 60, 120))


def test_tenants_read_rows_that_nobody_else_reads() -> None:
    world = of("data")
    rows: dict[str, set[str]] = defaultdict(set)
    for line in lines(world, world.family("adjacent_tenants")):
        for item in line["resources"]:
            rows[item].add(line["key"])
    assert rows and all(len(who) == 1 for who in rows.values())
    numbers = sorted(int(item.split(":")[1]) for item in rows)
    assert numbers[-1] - numbers[0] < 20 * 1000  # side by side


def test_crawlers_each_read_what_the_others_read_too() -> None:
    world = of("data")
    readers: dict[str, set[str]] = defaultdict(set)
    for line in lines(world, world.family("crawlers")):
        for item in line["resources"]:
            readers[item].add(line["key"])
    assert max(len(who) for who in readers.values()) > 3


def test_who_polls_a_feed_gets_the_newest_first() -> None:
    world = of("data")
    for line in lines(world, world.family("feed_pollers")):
        if line["status"] == 200 and "doc:" in str(line["resources"]):
            assert line["path"].endswith("/latest")
    assert len(lines(world, world.family("feed_pollers"))) > 500
