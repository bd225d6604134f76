"""Both halves together: one finding a key, no chains, and a state that goes on where it was left."""

from __future__ import annotations

from random import Random

import pytest
from tests.linking.places.worlds import HOUR, ITEMS, honest, round_robin

from headgate.linking.finding import Evidence, Finding
from headgate.linking.linker import Linker, united
from headgate.linking.observation import Observation
from headgate.linking.packed import packed, unpacked
from headgate.linking.places import Places

OPERATOR = ["op 0", "op 1", "op 2", "op 3"]


def _finding(keys: str, confidence: float = 0.97, at: int = 1) -> Finding:
    return Finding(dict.fromkeys(keys, at), tuple(sorted(keys)), confidence, ())


def _members(findings: list[Finding]) -> list[str]:
    return ["".join(sorted(found.members)) for found in findings]


def _world() -> list[Observation]:
    made = [*honest(Random(1)), *round_robin(OPERATOR, ITEMS + 1, 80, 3 * HOUR)]
    return sorted(made, key=lambda one: (one.at, one.key))


def test_what_both_halves_name_becomes_one_finding() -> None:
    assert _members(united([[_finding("abc")], [_finding("bcd", 0.96)]])) == ["abcd"]


def test_one_key_is_no_bridge() -> None:
    assert _members(united([[_finding("abc", 0.99)], [_finding("cde", 0.96)]])) == ["abc", "de"]


def test_findings_do_not_chain() -> None:
    found = united([[_finding("abcd"), _finding("efgh")], [_finding("cdef", 0.96)]])
    assert sorted(_members(found)) == ["abcdef", "gh"]
    keys = [key for finding in found for key in finding.members]
    assert len(keys) == len(set(keys))


def test_a_half_that_is_not_sure_takes_no_part_in_a_sure_finding() -> None:
    assert _members(united([[_finding("abc", 0.99)], [_finding("bcde", 0.7)]])) == ["abc", "de"]


def test_a_key_is_linked_from_when_the_first_half_was_sure() -> None:
    found = united([[_finding("ab", at=5)], [_finding("abc", 0.96, at=3)]])
    assert dict(found[0].members) == {"a": 3, "b": 3, "c": 3}


def test_evidence_of_keys_that_left_goes_with_them() -> None:
    strong = _finding("ab", 0.99)
    weak = _finding("bcd", 0.96)._replace(
        evidence=(Evidence("relay", ("b", "c"), 3.0, "."), Evidence("relay", ("c", "d"), 2.0, "."))
    )
    found = united([[strong], [weak]])
    assert [one.keys for one in found[1].evidence] == [("c", "d")]


def test_the_surest_comes_first_and_groups_are_the_findings() -> None:
    linker = Linker(Places())
    for observation in _world():
        linker.saw(observation)
    findings = linker.findings()
    assert set(findings[0].members) == set(OPERATOR)
    assert linker.groups() == [(found.members, found.confidence) for found in findings]
    assert sum([one.weight for one in findings[0].evidence]) > 0


def test_a_state_goes_on_as_if_there_had_been_no_break() -> None:
    world = _world()
    whole = Linker()
    for observation in world[:2500]:
        whole.saw(observation)
    again = Linker.of(whole.state())
    for observation in world[2500:]:
        whole.saw(observation)
        again.saw(observation)
    assert whole.findings() == again.findings() != []
    assert whole.state() == again.state()


@pytest.mark.parametrize("state", [b"", b"\x93", packed((1, 2), {}), b"\x92\x63\xc0", Linker().state()[:-3]])
def test_a_broken_state_is_a_value_error(state: bytes) -> None:
    with pytest.raises(ValueError):
        Linker.of(state)


def test_a_state_holds_no_class_that_is_not_named() -> None:
    with pytest.raises(TypeError):
        packed(object(), {})
    with pytest.raises(ValueError):
        unpacked(b"\x92\x01\x93\xa1o\xa1x\x90", {})
