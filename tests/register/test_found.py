"""What becomes of groups while the detector finds, doubts and finds again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.linking.finding import Evidence, Finding
from headgate.register import EMPTY, Register, States
from headgate.register.found import FORGOTTEN, ITEMS, published
from headgate.register.in_force import kinds
from headgate.register.written import read, written

STATES = States(700_000, 950_000)
ITEM = Evidence("templates", ("k1", "k2"), 9.0, "both send 9 of 11 templates that nobody else sends")


def finding(*keys: str, confidence: float = 0.97, orgs: tuple[str, ...] = (), at: int = 1) -> Finding:
    return Finding(dict.fromkeys(keys, at), orgs or tuple(f"org-{key}" for key in keys), confidence, (ITEM,))


def after(*publications: list[Finding] | Finding, whole: bool = False) -> Register:
    register = EMPTY
    for now, told in enumerate(publications, 100):
        findings = [told] if isinstance(told, Finding) else told
        register = published(register, findings, now, STATES, whole=whole)
    return register


def told(register: Register) -> list[str]:
    return [change.what for change in reversed(register.changes)]


def test_a_group_is_suspected_first_and_linked_when_it_is_sure_enough() -> None:
    register = after(finding("k1", "k2", confidence=0.8), finding("k1", "k2", confidence=0.96))
    [group] = register.groups
    assert (group.state, group.since) == ("linked", 101)
    assert told(register) == ["suspected", "linked"]
    assert register.changes[0].reason == ITEM.detail


def test_what_is_not_even_suspected_is_not_written_down() -> None:
    assert after(finding("k1", "k2", confidence=0.69)) is EMPTY


def test_a_confidence_that_trembles_around_the_threshold_links_nobody_by_turns() -> None:
    trembling = [finding("k1", "k2", confidence=c) for c in (0.96, 0.94, 0.951, 0.90, 0.70, 0.61, 0.95)]
    register = after(*trembling)
    assert told(register) == ["linked"]
    assert register.groups[0].since == 100
    fallen = published(register, [finding("k1", "k2", confidence=0.59)], 200, STATES)
    assert (fallen.groups, fallen.past[0].ended, fallen.past[0].why) == ((), 200, "its confidence fell to 0.59")


def test_who_is_suspected_stays_so_down_to_the_same_bound() -> None:
    register = after(finding("k1", "k2", confidence=0.7), finding("k1", "k2", confidence=0.61))
    assert (told(register), register.groups[0].state) == (["suspected"], "suspect")
    assert after(finding("k1", "k2", confidence=0.7), finding("k1", "k2", confidence=0.59)).groups == ()


def test_the_highest_confidence_of_a_state_is_kept() -> None:
    told = [finding("k1", "k2", confidence=c) for c in (0.8, 0.96, 0.98, 0.7)]
    assert [group.peak for group in after(*told).groups] == [0.98]
    assert [group.peak for group in after(told[0], told[3]).groups] == [0.8]


def test_a_small_movement_writes_nothing() -> None:
    register = after(finding("k1", "k2", confidence=0.97))
    assert published(register, [finding("k1", "k2", confidence=0.9715)], 200, STATES) is register


def test_a_group_keeps_its_id_and_each_keys_instant_while_it_grows() -> None:
    register = after(finding("k1", "k2", at=5), finding("k1", "k2", "k3", at=9))
    [group] = register.groups
    assert group.id == after(finding("k1", "k2", at=5)).groups[0].id
    assert group.members == {"k1": 5, "k2": 5, "k3": 9}
    assert group.since == 100, "it is pooled since it was linked, whoever joins"
    assert told(register) == ["linked", "grown"]


def test_of_a_group_that_parts_the_larger_part_goes_on_and_the_other_is_its_child() -> None:
    keys = [f"k{n}" for n in range(10)]
    whole = after(finding(*keys))
    parted = published(whole, [finding(*keys[:4]), finding(*keys[4:])], 200, STATES)
    child, same = parted.groups
    assert same.id == whole.groups[0].id
    assert (child.id != same.id, child.parent) == (True, same.id)


def test_a_doubtful_whole_takes_all_its_parts_back_at_once() -> None:
    before = after([finding("k1", "k2"), finding("k3", "k4")])
    register = published(before, [finding("k1", "k2", "k3", "k4", confidence=0.3)], 200, STATES)
    assert register.groups == ()
    assert {group.why for group in register.past} == {"its confidence fell to 0.30"}


def test_of_two_groups_that_become_one_the_larger_goes_on_and_the_other_ends_in_it() -> None:
    one, other = [f"k{n}" for n in range(6)], ["k7", "k8", "k9"]
    before = after([finding(*one), finding(*other)])
    united = published(before, [finding(*one, *other)], 200, STATES)
    [group] = united.groups
    assert group.id == before.groups[0].id
    assert united.past[0].why == f"its keys are found in {group.id}"


def test_what_the_detector_does_not_mention_it_has_not_taken_back() -> None:
    register = after(finding("k1", "k2"), [])
    assert register.groups and told(register) == ["linked"]
    forgotten = published(register, [], 100 + FORGOTTEN, STATES)
    assert forgotten.past[0].why == "it has not been found again for 30 days"


def test_a_detector_that_says_that_this_is_all_takes_the_rest_back() -> None:
    register = after(finding("k1", "k2"), [], whole=True)
    assert (register.groups, register.past[0].why) == ((), "it is not found any more")


def test_a_group_that_comes_back_is_the_one_that_it_was() -> None:
    register = after(finding("k1", "k2", at=5), finding("k1", "k2", confidence=0.1), finding("k2", "k1", at=9))
    [group] = register.groups
    assert group.id == after(finding("k1", "k2", at=5)).groups[0].id
    assert (group.since, group.members, register.past) == (102, {"k1": 5, "k2": 5}, ())


def test_keys_without_an_org_bring_no_org_into_a_group() -> None:
    assert after(finding("k1", "k2", orgs=("", "acme"))).groups[0].orgs == ("acme",)


def test_however_much_speaks_of_one_kind_the_other_kinds_are_kept() -> None:
    many = tuple([Evidence("templates", ("k1", "k2"), 9.0 - n / 100, f"item {n}") for n in range(50)])
    few = (Evidence("payment", ("k1", "k2"), 2.0, "one card"), Evidence("device", ("k1", "k2"), 2.0, "one device"))
    told = finding("k1", "k2")._replace(evidence=(*many, *few, few[0]))
    [group] = after(told).groups
    assert kinds(group.evidence) == kinds(told.evidence) == 2
    assert len(group.evidence) == ITEMS
    assert group.evidence[0] == many[0]


@pytest.mark.parametrize("confidence", [float("nan"), float("inf")])
def test_a_confidence_that_is_no_number_is_a_fault_of_the_detectors(confidence: float) -> None:
    with pytest.raises((ValueError, OverflowError)):
        after(finding("k1", "k2", confidence=confidence))


KEYS = st.sampled_from([f"k{n}" for n in range(8)])


@st.composite
def publications(draw: st.DrawFn) -> list[list[Finding]]:
    told: list[list[Finding]] = []
    for _ in range(draw(st.integers(1, 5))):
        left = draw(st.permutations([f"k{n}" for n in range(8)]))
        findings = []
        while len(left) > 1 and draw(st.booleans()):
            many = draw(st.integers(2, len(left)))
            findings.append(finding(*left[:many], confidence=draw(st.sampled_from([0.3, 0.65, 0.8, 0.96, 0.99]))))
            left = left[many:]
        told.append(findings)
    return told


@given(publications(), st.booleans())
def test_whatever_is_found_a_key_is_in_one_group_and_an_id_stands_once(
    told: list[list[Finding]], whole: bool
) -> None:
    register = EMPTY
    for now, findings in enumerate(told, 100):
        before, register = register, published(register, findings, now, STATES, whole=whole)
        keys = [key for group in register.groups for key in group.members]
        ids = [group.id for group in (*register.groups, *register.past)]
        assert len(keys) == len(set(keys))
        assert len(ids) == len(set(ids))
        assert all(group.ended for group in register.past) and not any(group.ended for group in register.groups)
        assert published(register, findings, now, STATES, whole=whole) == register, "said twice it is the same"
        assert read(written(register)) == register
        # Whatever begins, ends or changes its state is told.
        then, since = ({g.id: g.state for g in r.groups} for r in (before, register))
        changed = {id for id in then.keys() | since.keys() if then.get(id) != since.get(id)}
        assert changed <= {change.subject for change in register.changes if change.at == now}
        for each in findings:
            if each.confidence >= 0.96:
                assert any(set(each.members) == set(g.members) and g.state == "linked" for g in register.groups)
