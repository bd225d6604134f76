"""Prompts of whole worlds: operators are found, and those who look like one are left alone."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from headgate.linking import Observation
from headgate.linking.content import Content
from linking.content.traffic import (
    MINUTE,
    Said,
    application,
    benchmark,
    customers,
    found,
    mixed,
    operator,
    school,
    sentence,
)


def names(streams: list[list[Said]]) -> set[str]:
    return {stream[0][0] for stream in streams}


@pytest.mark.parametrize("seed", range(3))
def test_a_bank_of_questions_behind_eight_keys_is_found_whole_and_alone(seed: int) -> None:
    random = Random(seed)
    bank = operator(random)
    groups = found(mixed(random, customers(random) + bank))
    assert [set(group.members) for group in groups] == [names(bank)]


def test_two_banks_are_two_groups() -> None:
    random = Random(7)
    one, other = operator(random, name="x"), operator(random, name="y")
    groups = found(mixed(random, customers(random) + one + other))
    assert sorted((set(group.members) for group in groups), key=min) == [names(one), names(other)]


@pytest.mark.parametrize("innocents", [school, benchmark, application])
@pytest.mark.parametrize("seed", range(2))
def test_who_only_looks_like_an_operator_is_left_alone(innocents: object, seed: int) -> None:
    assert callable(innocents)
    random = Random(seed)
    assert found(mixed(random, customers(random) + innocents(random))) == []


def test_among_two_thousand_keys_that_have_nothing_to_do_with_each_other_nobody_is_linked() -> None:
    random = Random(3)
    assert found(mixed(random, customers(random, many=2_000, prompts=8)), least=0.5) == []


def test_who_copies_a_victims_templates_does_not_draw_the_victim_into_a_group() -> None:
    random = Random(5)
    streams = customers(random)
    victim, bank = streams[0], operator(random)
    # Half of what each of the operator's keys sends is the victim's own prompt, word for word
    framed = [
        [(key, org, random.choice(victim)[2] if n % 2 else prompt) for n, (key, org, prompt) in enumerate(stream)]
        for stream in bank
    ]
    groups = found(mixed(random, streams + framed))
    assert all(victim[0][0] not in group.members for group in groups)


def test_the_items_of_evidence_add_up_to_the_confidence() -> None:
    random = Random(0)
    (group,) = found(mixed(random, customers(random) + operator(random)))
    odds = sum(item.weight for item in group.evidence)
    assert abs(1 / (1 + 2.718281828459045**-odds) - group.confidence) < 0.002
    assert {"prior", "templates", "company"} <= {item.signal for item in group.evidence}
    weights = [item.weight for item in group.evidence]
    assert weights == sorted(weights, reverse=True)
    assert all(set(item.keys) == set(group.members) and item.detail for item in group.evidence)


def test_no_prompt_is_in_a_sentence() -> None:
    random = Random(0)
    (group,) = found(mixed(random, customers(random) + operator(random)))
    said = " ".join(item.detail for item in group.evidence)
    assert not any(word in said for word in sentence(random, 200).split())


def test_what_is_said_of_an_instant_rests_on_what_came_before_it() -> None:
    random = Random(1)
    log = list(mixed(random, customers(random) + operator(random)))
    (whole,) = found(log)
    middle = sorted(whole.members.values())[4]
    (cut,) = found([seen for seen in log if seen.at <= middle])
    assert {key: at for key, at in whole.members.items() if at <= middle} == cut.members


def test_asking_changes_nothing() -> None:
    random = Random(1)
    log = list(mixed(random, customers(random, many=80) + operator(random)))
    asked, content = Content(), Content()
    for seen in log:
        asked.saw(seen)
        asked.findings(told=False)
        content.saw(seen)
    assert asked.findings() == content.findings()
    assert [group.evidence for group in asked.findings(told=False)] == [()] * len(content.findings())


STORY = """
from random import Random
from linking.content.traffic import customers, found, mixed, operator
random = Random(1)
print(found(mixed(random, customers(random, many=80) + operator(random)), least=0.0))
"""


def test_the_same_observations_give_the_same_findings_whatever_the_hash_seed() -> None:
    tests = Path(__file__).parents[2]
    source = f"import sys; sys.path[:0] = [{str(tests)!r}]\n{STORY}"
    said = {
        subprocess.run(
            [sys.executable, "-c", source], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert b"Finding" in said.pop()


def flood(random: Random) -> Iterator[Observation]:
    for n in range(4_000):
        clauses = tuple(random.getrandbits(63) for _ in range(8))
        yield Observation(n * MINUTE, "flood", "org-flood", True, clauses=clauses, names=(random.getrandbits(63),))


def test_a_key_that_sends_ever_new_prompts_costs_no_more_than_its_share_and_hides_nobody() -> None:
    random = Random(2)
    bank = operator(random)
    log = sorted([*mixed(random, customers(random) + bank), *flood(random)], key=lambda seen: seen.at)
    content = Content()
    for seen in log:
        content.saw(seen)
    (group,) = [group for group in content.findings() if group.confidence >= 0.95]
    assert set(group.members) == names(bank)
    postings = content._meetings.postings
    assert postings._used <= postings._limit


def test_requests_without_a_prompt_are_noted_and_link_nobody() -> None:
    content = Content()
    for n in range(50):
        content.saw(Observation(n, f"k{n}", "", True, traits=(("payment", 7),), signup=n))
    assert content.findings() == []


def test_keys_of_one_org_are_no_finding() -> None:
    random = Random(4)
    bank = [[(key, "acme", prompt) for key, _, prompt in stream] for stream in operator(random)]
    assert found(mixed(random, customers(random) + bank), least=0.0) == []


def test_keys_without_an_org_are_linked_like_others() -> None:
    random = Random(4)
    bank = [[(key, "", prompt) for key, _, prompt in stream] for stream in operator(random)]
    (group,) = found(mixed(random, customers(random) + bank))
    assert set(group.members) == names(bank)
    assert group.orgs == ()
