"""Observations on their way."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.linking.observation import Observation
from headgate.watch.parcel import LARGEST, LONGEST_NAME, TOGETHER, Parcel, packed, parcelled, unpacked
from watch.stand_in import seen

NUMBER = st.integers(0, 2**63 - 1)
OBSERVATION = st.builds(
    Observation,
    st.integers(0, 2**53), st.text(max_size=9), st.text(max_size=9), st.booleans(), st.booleans(),
    st.lists(NUMBER, max_size=5).map(tuple), st.lists(NUMBER, max_size=5).map(tuple),
    st.lists(st.tuples(NUMBER, NUMBER, st.integers(1, 99)), max_size=3).map(tuple),
    st.lists(st.tuples(st.text(max_size=9), NUMBER), max_size=3).map(tuple),
    st.none() | NUMBER, st.integers(0, 2**53),
)  # fmt: skip


@given(st.lists(OBSERVATION, max_size=4))
def test_what_is_packed_comes_out_as_it_was(observations: list[Observation]) -> None:
    parcel = Parcel(b"me", 3, observations)
    assert unpacked(packed(parcel)) == parcel


@given(st.binary(max_size=60))
def test_what_is_no_parcel_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        unpacked(data)


def test_a_damaged_parcel_is_refused_or_read_as_numbers_but_runs_nothing() -> None:
    whole = packed(Parcel(b"me", 3, [seen("k1", 1, 2)]))
    for at in range(len(whole)):
        damaged = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        try:
            assert isinstance(unpacked(damaged), Parcel)
        except ValueError:
            continue
    with pytest.raises(ValueError, match="format 2"):
        unpacked(msgspec.msgpack.encode((2, b"me", 3, [])))


def test_parcels_are_bounded_and_numbered_in_order() -> None:
    made = list(parcelled(b"me", 5, [seen(f"k{n}", n) for n in range(3 * TOGETHER + 1)]))
    assert [number for number, _ in made] == [5, 6, 7, 8]
    assert [len(unpacked(data).seen) for _, data in made] == [TOGETHER, TOGETHER, TOGETHER, 1]
    large = seen("k", *range(2**62, 2**62 + 64))._replace(names=tuple(range(2**62, 2**62 + 64)))
    assert all(len(data) < LARGEST + 2_048 for _, data in parcelled(b"me", 0, [large] * 40))


def test_a_key_with_a_name_beyond_measure_is_not_watched() -> None:
    assert list(parcelled(b"me", 0, [seen("k" * (LONGEST_NAME + 1))])) == []
