"""A sketch is a function of a set of things: exact while it is a list, within two percent when it is none."""

from __future__ import annotations

import random
from bisect import bisect_left
from hashlib import blake2b
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import AmountError
from headgate.quota import things as sketches
from headgate.quota.command import Demand
from headgate.quota.gcra import Rate
from headgate.quota.things import (
    EXACT,
    HEAD,
    HIGHEST,
    MOST_THINGS,
    REGISTERS,
    SKETCHED,
    checked_things,
    count,
    readable,
    united,
    unseen,
    with_things,
)
from headgate.quota.window import Max, Rolling, Total


def thing(number: int) -> bytes:
    return blake2b(b"%d" % number, digest_size=8).digest()


ALL = [thing(number) for number in range(4_000)]
numbers = st.one_of(
    st.lists(st.integers(0, 40), max_size=30),
    st.builds(lambda at, many: list(range(at, at + many)), st.integers(0, 2_000), st.integers(0, 1_600)),
)


def named(those: list[int]) -> tuple[bytes, ...]:
    return tuple([ALL[number] for number in dict.fromkeys(those)])


def sketch(those: list[int]) -> bytes:
    return with_things(b"", named(those))


def values(data: bytes) -> list[int]:
    """The registers one by one, straight from the layout: bits 6 i to 6 i + 5."""
    bits = int.from_bytes(data[HEAD:], "big")
    return [bits >> (6 * (REGISTERS - 1 - i)) & 63 for i in range(REGISTERS)]


# A function of the set.


@given(numbers, numbers, st.randoms())
def test_the_bytes_are_a_function_of_the_set_whatever_way_led_there(
    one: list[int], other: list[int], chance: random.Random
) -> None:
    whole = sketch([*one, *other])
    assert with_things(sketch(one), named(other)) == whole
    assert united(sketch(one), sketch(other)) == united(sketch(other), sketch(one)) == whole
    assert with_things(whole, named(one)) is whole, "what is in it makes no difference"
    assert united(whole, sketch(other)) == whole
    shuffled = list({*one, *other})
    chance.shuffle(shuffled)
    found = b""
    for at in range(0, len(shuffled), 300):
        found = with_things(found, named(shuffled[at : at + 300]))
    assert found == whole


@given(numbers, numbers)
def test_a_list_counts_exactly_and_knows_what_is_new(one: list[int], other: list[int]) -> None:
    found, both = sketch(one), {*one, *other}
    if len(set(one)) <= EXACT:
        assert count(found) == len(set(one))
        assert unseen(found, named(other)) == len(both) - len(set(one))
    else:
        assert unseen(found, named(other)) == len(set(other)), "nobody can tell"
    if len(both) <= EXACT:
        assert count(sketch([*one, *other])) == len(both)


@given(numbers, numbers)
def test_more_things_are_never_counted_as_fewer_and_a_sketch_is_always_readable(
    one: list[int], other: list[int]
) -> None:
    found, more = sketch(one), sketch([*one, *other])
    if (len(found) > EXACT * 8) == (len(more) > EXACT * 8):
        assert count(more) >= count(found)
    assert readable(found) and readable(more)
    assert len(more) <= 16_000


def test_the_thousandth_thing_is_counted_and_the_next_one_makes_a_sketch_of_12_kilobytes() -> None:
    full = sketch(list(range(EXACT)))
    assert (len(full), count(full)) == (8_000, 1_000)
    more = with_things(full, [ALL[EXACT]])
    assert len(more) == SKETCHED == 12_393
    assert abs(count(more) - 1_001) <= 0.02 * 1_001


# How well it counts.


@pytest.mark.parametrize(
    ("many", "seeds"), [(1_001, 60), (2_000, 40), (5_000, 40), (20_000, 20), (100_000, 8), (1_000_000, 2)]
)
def test_things_are_counted_within_two_percent(many: int, seeds: int) -> None:
    errors = []
    for seed in range(seeds):
        drawn = random.Random(f"{many} {seed}").randbytes(8 * many)
        found = with_things(b"", [drawn[at : at + 8] for at in range(0, len(drawn), 8)])
        errors.append(count(found) / many - 1)
    within = sum(abs(error) <= 0.02 for error in errors)
    assert within >= 0.95 * seeds, "one in seventy may be further off"
    assert max(map(abs, errors)) <= 0.035, "more than four standard errors"
    assert abs(sum(errors) / seeds) <= 3 * 0.0081 / seeds**0.5, "and it leans to neither side"


def test_a_million_things_more_are_told_from_the_registers_alone() -> None:
    # So many things one by one take long. What their registers come to is drawn from its distribution instead.
    for many in (10**6, 10**8, 10**10, 10**12):
        errors = [count(drawn_registers(many, seed)) / many - 1 for seed in range(4)]
        assert max(map(abs, errors)) <= 0.035
        assert abs(sum(errors) / len(errors)) <= 0.02


def drawn_registers(many: int, seed: int) -> bytes:
    """Registers after `many` things: P(value <= v) = exp(-many / registers / 2^v), v < 51."""
    chance = random.Random(seed)
    below = [exp(-many / REGISTERS / 2**v) for v in range(HIGHEST)]
    return sketches._sketched(bytes([bisect_left(below, chance.random()) for _ in range(REGISTERS)]))


# How it lies in memory.


@given(st.lists(st.one_of(st.binary(min_size=8, max_size=8), st.integers(0, 14).map(lambda n: n.to_bytes(8, "big")))))
def test_registers_and_histogram_are_what_the_paper_says(drawn: list[bytes]) -> None:
    expected = [0] * REGISTERS
    for each in (*ALL[:1_100], *drawn):
        bits = f"{int.from_bytes(each, 'big'):064b}"
        rest = bits[14:]
        rank = rest.index("1") + 1 if "1" in rest else 51
        at = int(bits[:14], 2)
        expected[at] = max(expected[at], rank)
    found = with_things(with_things(b"", ALL[:1_100]), drawn)
    assert found[0] == 1
    assert values(found) == expected
    told = [int.from_bytes(found[1 + 2 * v : 3 + 2 * v], "big") for v in range(HIGHEST + 1)]
    assert told == [expected.count(v) for v in range(HIGHEST + 1)]


def test_the_worked_example_of_the_module() -> None:
    others = [bytes.fromhex(f"{i << 2 | 0xC000:04x}800000000000") for i in range(EXACT)]
    before = with_things(b"", [*others, bytes(8)])
    after = with_things(before, [bytes.fromhex("0007400000000000")])
    assert values(before)[:3] == [51, 0, 0]
    assert values(after)[:3] == [51, 1, 0]
    assert (before[HEAD : HEAD + 2], after[HEAD : HEAD + 2]) == (b"\xcc\x00", b"\xcc\x10")


def test_the_estimate_is_the_same_integer_on_every_machine() -> None:
    """These figures stand in the test of the script's twin, too."""
    assert [count(sketch(list(range(many)))) for many in (1_001, 1_500, 2_500, 4_000)] == FIGURES


FIGURES = [997, 1_489, 2_461, 3_957]


# What is no sketch, and what is no thing.


@pytest.mark.parametrize(
    "data",
    [b"seven b", bytes(8_008), bytes(SKETCHED), b"\2" + bytes(SKETCHED - 1), bytes(SKETCHED + 1)],
    ids=["half a thing", "too long a list", "no format", "another format", "too long"],
)
def test_bytes_that_are_no_sketch_are_not_taken_for_one(data: bytes) -> None:
    assert not readable(data)


def test_a_histogram_that_does_not_add_up_is_not_taken_for_one() -> None:
    found = bytearray(sketch(list(range(1_500))))
    found[2] ^= 1
    assert not readable(bytes(found))


@pytest.mark.parametrize(
    "things",
    [
        (b"seven b",),
        ("document",),
        (bytearray(8),),
        (ALL[0], ALL[0]),
        [ALL[0]],
        tuple([n.to_bytes(8, "big") for n in range(MOST_THINGS + 1)]),
    ],
    ids=["seven bytes", "text", "changeable", "twice", "a list", "too many"],
)
def test_what_is_no_tuple_of_different_things_is_refused_before_anything_is_kept(things: tuple[bytes, ...]) -> None:
    with pytest.raises(AmountError):
        checked_things(things)
    with pytest.raises(AmountError):
        Demand((b"org", "records"), Total(9), 0, hold=True, things=things)
    asked = Demand((b"org", "records"), Total(9), 0, hold=True)
    with pytest.raises(AmountError):
        asked._replace(things=things)


def test_things_are_held_and_only_windows_that_end_all_at_once_can_count_them() -> None:
    things = (ALL[0],)
    with pytest.raises(AmountError, match="held"):
        Demand((b"org", "records"), Total(9), 0, things=things)
    with pytest.raises(AmountError, match="slice"):
        Demand((b"org", "records"), Total(9), 0, hold=True, slice=5, things=things)
    for verb in (Rate(9, 60), Rolling(9, 60), Max(9, 60)):
        with pytest.raises(AmountError, match="total"):
            Demand((b"org", "records"), verb, 0, hold=True, things=things)


def test_a_demand_keeps_its_things_whatever_else_is_changed() -> None:
    asked = Demand((b"org", "records"), Total(9), 1, hold=True, things=(ALL[0], ALL[1]))
    assert asked.of(5) == asked._replace(amount=5)
    assert asked.of(5).things == asked.at((b"group", "records")).things == (ALL[0], ALL[1])
