"""A register is read as it was written, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import StoreError
from headgate.linking.finding import Evidence, Finding
from headgate.register import EMPTY, Linked, Register, Said, States
from headgate.register.found import published
from headgate.register.said import spoken
from headgate.register.written import read, written

FINDING = Finding(
    {"k1": 1, "k\u2028é": 2}, ("acme", "bö"), 0.987654321, (Evidence("relay", ("k1",), 3.25, 'a "detail"'),)
)
WHOLE = spoken(
    published(published(EMPTY, [FINDING], 9, States()), [], 10, States(), whole=True),
    "separate", ["a"], others=["b", "c"], reason="appeal 12", actor="ann", at=5,
)  # fmt: skip
WHOLE = published(WHOLE, [FINDING._replace(members={"k8": 3, "k9": 4})], 11, States())


def test_what_is_written_is_read_back() -> None:
    assert read(written(WHOLE)) == WHOLE


def test_nothing_written_is_an_empty_register() -> None:
    assert read("") == EMPTY == Register()


def test_half_a_surrogate_pair_makes_no_document_that_nobody_can_read() -> None:
    odd = spoken(EMPTY, "link", ["a", "b"], reason="\ud800?", actor="\udcff", at=1)
    assert read(written(odd)).said[0][3:5] == ("??", "?")


Spoil = Callable[[dict[str, Any]], object]
GROUPS, PAST, SAID, CHANGES = range(4)


def field(values: type, name: str) -> int:
    return list(values._fields).index(name)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda w: w.pop("register"), id="the register is missing"),
        pytest.param(lambda w: w["register"].__setitem__(SAID, None), id="no list"),
        pytest.param(lambda w: w["register"][SAID][0].__delitem__(slice(3, None)), id="fields are missing"),
        pytest.param(lambda w: w["register"][SAID][0].append(1), id="a field too many"),
        pytest.param(lambda w: w["register"][SAID][0].__setitem__(field(Said, "until"), "2027"), id="no instant"),
        pytest.param(
            lambda w: w["register"][SAID][0].__setitem__(field(Said, "kind"), "allow"), id="an unknown word"
        ),
        pytest.param(lambda w: w["register"][SAID][0].__setitem__(field(Said, "orgs"), [1, 2]), id="no names"),
        pytest.param(lambda w: w["register"][GROUPS][0].__setitem__(field(Linked, "state"), "guilty"), id="no state"),
        pytest.param(
            lambda w: w["register"][GROUPS][0].__setitem__(field(Linked, "confidence"), "x"), id="no number"
        ),
        pytest.param(lambda w: w["register"][GROUPS][0].__setitem__(field(Linked, "since"), True), id="a truth"),
        pytest.param(lambda w: w["register"][GROUPS][0].__setitem__(field(Linked, "members"), ["k1"]), id="no map"),
        pytest.param(
            lambda w: w["register"][GROUPS][0].__setitem__(field(Linked, "evidence"), [[1]]), id="no evidence"
        ),
        pytest.param(lambda w: w["register"][CHANGES].append([]), id="an empty change"),
        pytest.param(lambda w: w.update({"headgate-groups": "1"}), id="another mark"),
    ],
)
def test_an_odd_part_refuses_the_whole(spoil: Spoil) -> None:
    whole = json.loads(written(WHOLE))
    spoil(whole)
    with pytest.raises(StoreError, match="cannot be read") as fault:
        read(json.dumps(whole))
    assert not fault.value.transient


def test_a_newer_form_is_told_apart_from_damage() -> None:
    with pytest.raises(StoreError, match=r"a newer headgate .* upgrade"):
        read('{"headgate-groups":2,"groups":{}}')


@given(st.integers(1, len(written(WHOLE)) - 1))
def test_a_torn_document_is_refused_wherever_it_is_torn(at: int) -> None:
    with pytest.raises(StoreError, match="torn"):
        read(written(WHOLE)[:at])


@given(
    st.text(min_size=1) | st.sampled_from(["[]", "1", "null", "{}", "NaN", '{"headgate-groups":NaN}', "[" * 9_999])
)
def test_what_something_else_wrote_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        read(text)
