"""Each attack does what its name says, and moves real work: the log shows it to whoever knows the labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from statistics import mean

import pytest

from headgate.drill.accounts import PLANS
from headgate.drill.plots import SCENARIOS, scenarios
from headgate.drill.world import attacks
from headgate.errors import HeadgateError

from .worlds import Seen, seen

KINDS = ("llm", "data")
PLAIN = {"cover": 0.0, "jitter": 0.0, "duplicates": 0.0, "overlap": "none", "ids": "dense", "paraphrase": 0.0}


def plain(kind: str, scenario: str, **said: object) -> Seen:
    """Groups of one attack with nothing to hide them."""
    return seen(kind, scenario, **{**PLAIN, "size": 5, "groups": 3, "keys": 80, **said})


def in_order(world: Seen, keys: list[str]) -> list[dict[str, object]]:
    return sorted((line for line in world.lines if line["key"] in keys), key=lambda line: line["ts"])


def items(world: Seen, key: str) -> set[str]:
    return {item for line in world.lines if line["key"] == key for item in line.get("resources", ())}


@pytest.mark.parametrize("kind", KINDS)
def test_every_attack_can_be_asked_for_and_takes_something_with_at_least_two_keys(kind: str) -> None:
    world = seen(kind, "all")
    found = {group["scenario"] for group in world.labels["groups"].values()}
    assert found == set(scenarios(kind)) <= set(SCENARIOS)
    for group in world.meta["groups"].values():
        assert sum(bool(points["ts"]) for points in group["taken"].values()) > 1
        assert group["totals"]["requests"] >= 20


def test_an_attack_that_there_is_not_is_said_with_the_nearest() -> None:
    with pytest.raises(HeadgateError, match="did you mean `round_robin`"):
        attacks("llm", ["round_robbin"])
    with pytest.raises(HeadgateError, match="no attack `template_bank` on data"):
        attacks("data", ["template_bank"])


@pytest.mark.parametrize("kind", KINDS)
def test_round_robin_goes_from_key_to_key_evenly(kind: str) -> None:
    world = plain(kind, "round_robin")
    for keys in world.members("round_robin"):
        asked = Counter(line["key"] for line in in_order(world, keys))
        assert len(asked) == 5
        assert max(asked.values()) - min(asked.values()) <= 0.2 * max(asked.values()) + 15


@pytest.mark.parametrize("kind", KINDS)
def test_a_baton_is_in_one_hand_for_a_while_and_passed_within_seconds_of_work(kind: str) -> None:
    world = plain(kind, "baton")
    for keys in world.members("baton"):
        order = [line["key"] for line in in_order(world, keys)]
        passes = sum(one != other for one, other in pairwise(order))
        assert len(keys) <= passes <= len(order) / 3
        after = {one: {b for a, b in pairwise(order) if a == one and b != one} for one in set(order)}
        assert all(len(next_) == 1 for next_ in after.values())  # a ring


def test_a_rider_s_keys_come_close_to_their_plan_s_limit_one_after_the_other() -> None:
    world = plain("data", "quota_riding", per_key=30.0)
    limit = PLANS["data"][0].a_day
    close = total = 0
    for keys in world.members("quota_riding"):
        days: Counter[tuple[str, int]] = Counter()
        for line in in_order(world, keys):
            days[line["key"], int(line["ts"] // 86_400)] += line.get("records", 0)
        assert max(days.values()) <= limit
        close += sum(0.78 * limit < used for used in days.values())
        total += len(days)
    assert close > 0.5 * total
    refused = Counter(line["status"] for keys in world.members("quota_riding") for line in in_order(world, keys))
    assert refused[429] < 0.05 * refused[200]


@pytest.mark.parametrize("scenario", ["modulo_partition", "contiguous_partition", "topic_partition", "shared_queue"])
def test_a_partition_takes_each_item_once(scenario: str) -> None:
    world = plain("data", scenario)
    for keys in world.members(scenario):
        taken = [items(world, key) for key in keys]
        assert sum(map(len, taken)) == len(set().union(*taken)) > 100


def test_ranges_lie_apart_and_cards_are_dealt_out_among_each_other() -> None:
    def runs(scenario: str) -> float:
        world = plain("data", scenario, share=0.01)
        shares = []
        for keys in world.members(scenario):
            owner = {int(item.split(":")[1]): key for key in keys for item in items(world, key)}
            order = [owner[number] for number in sorted(owner)]
            shares.append(sum(one != other for one, other in pairwise(order)) / len(order))
        return mean(shares)

    assert runs("contiguous_partition") < 0.02
    assert runs("modulo_partition") > 3 * runs("contiguous_partition")


def test_a_topic_partition_gives_each_key_a_collection_of_its_own() -> None:
    world = plain("data", "topic_partition")
    for keys in world.members("topic_partition"):
        paths = [{line["path"] for line in world.lines if line["key"] == key} for key in keys]
        if all("collections" in path for one in paths for path in one):
            assert all(len(one) == 1 for one in paths) and len(set().union(*paths)) == len(paths)


@pytest.mark.parametrize("kind", KINDS)
def test_time_slices_leave_one_key_at_work_in_a_quarter_of_an_hour(kind: str) -> None:
    world = plain(kind, "time_sliced")
    for keys in world.members("time_sliced"):
        at_work: dict[int, set[object]] = defaultdict(set)
        for line in in_order(world, keys):
            if line["status"] == 200:
                at_work[int(line["ts"] // 900)].add(line["key"])
        # A request that was refused for no fault of the key's comes again a second later: in another slice at times.
        assert mean(len(there) == 1 for there in at_work.values()) > 0.95


def test_through_proxies_no_address_is_met_twice() -> None:
    world = plain("llm", "residential_proxy")
    for keys in world.members("residential_proxy"):
        lines = in_order(world, keys)
        assert len({line["ip"] for line in lines}) > 0.98 * len(lines)


def test_a_hydra_is_mostly_cover() -> None:
    world = seen("llm", "hydra", groups=4, size=5, keys=100, per_key=40.0)
    taken = sum(group["totals"]["requests"] for group in world.meta["groups"].values())
    asked = sum(len(in_order(world, keys)) for keys in world.members("hydra"))
    assert taken < 0.55 * asked


@pytest.mark.parametrize("kind", KINDS)
def test_a_ramp_ends_with_more_keys_than_it_began_with(kind: str) -> None:
    world = plain(kind, "slow_ramp", size=12)
    grown = 0
    for keys in world.members("slow_ramp"):
        lines = in_order(world, keys)
        part = len(lines) // 4
        first, last = ({line["key"] for line in some} for some in (lines[:part], lines[-part:]))
        grown += len(last) - len(first)
    assert grown > 6


def test_a_farm_s_accounts_were_made_within_minutes_and_share_cards() -> None:
    world = plain("llm", "signup_farm")
    for keys in world.members("signup_farm"):
        traits = {line["key"]: line["traits"] for line in world.lines if line["key"] in keys and "traits" in line}
        group = next(one for one in world.meta["groups"].values() if set(one["taken"]) == set(keys))
        made = sorted(int(traits[key]["signup_ts"]) for key in group["shared"]["signup_ts"])
        assert len(made) > 1 and made[-1] - made[0] < 3600 * len(made)
        if cards := group["shared"].get("payment"):
            assert len({traits[key]["payment"] for key in cards}) == 1


def test_a_bank_asks_the_same_questions_through_several_keys() -> None:
    world = plain("llm", "template_bank", per_key=60.0)
    for keys in world.members("template_bank"):
        asked = defaultdict(set)
        for line in in_order(world, keys):
            for clause in line.get("prompt", "").replace("\n", ".").split("."):
                asked[clause.strip().lower()].add(line["key"])
        shared = [clause for clause, who in asked.items() if len(clause) > 30 and len(who) > 1]
        assert shared


def test_a_reseller_s_keys_carry_many_customers_words() -> None:
    world = plain("llm", "reseller", per_key=60.0)
    for keys in world.members("reseller"):
        starts = {line["prompt"][:25] for line in in_order(world, keys) if "prompt" in line}
        assert len(starts) > 2 * len(keys)


@pytest.mark.parametrize("kind", KINDS)
def test_a_blocked_key_says_no_more_and_another_takes_its_place(kind: str) -> None:
    world = plain(kind, "adaptive", size=8)
    blocked = 0
    for keys in world.members("adaptive"):
        lines = in_order(world, keys)
        ends = {line["key"]: line["ts"] for line in lines if line["status"] == 403}
        blocked += len(ends)
        for line in lines:
            assert line["status"] == 403 or line["ts"] <= ends.get(line["key"], line["ts"])
        assert len({line["key"] for line in lines}) > 4
    assert blocked > 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_swarm_asks_little_of_each_key(kind: str) -> None:
    world = seen(kind, "low_rate_swarm", **{**PLAIN, "groups": 2, "keys": 200})
    for keys in world.members("low_rate_swarm"):
        assert len(keys) >= 20
        assert max(Counter(line["key"] for line in in_order(world, keys)).values()) <= 90


def test_jitter_makes_work_wait_and_duplicates_fetch_it_again() -> None:
    order = plain("data", "shared_queue", share=0.02)
    mixed = plain("data", "shared_queue", share=0.02, jitter=3600.0, duplicates=0.3)
    again = []
    for world in (order, mixed):
        taken = [item for key in world.members("shared_queue")[0] for item in items(world, key)]
        again.append(len(taken) / len(set(taken)))
    assert again[0] == 1
    assert again[1] > 1.05


@pytest.mark.parametrize("overlap", ["none", "low", "high"])
def test_accounts_share_what_the_overlap_says_and_meta_tells_it(overlap: str) -> None:
    world = seen("llm", "round_robin", "shared_queue", groups=4, size=6, overlap=overlap, keys=120)
    traits = {line["key"]: line["traits"] for line in world.lines if "traits" in line}
    for group in world.meta["groups"].values():
        shared = group["shared"]
        assert {"none": not shared, "low": len(shared) <= 2, "high": len(shared) > 1}[overlap]
        for name in ("payment", "device", "email_domain"):
            if name in shared:
                assert len({traits[key][name] for key in shared[name]}) == 1
    benign = [
        traits[key]
        for key in world.meta["orgs"]
        if not any(key in one["taken"] for one in world.meta["groups"].values())
    ]
    devices = Counter(one["device"] for one in benign if "device" in one)
    assert max(devices.values()) <= 15  # one org's keys
