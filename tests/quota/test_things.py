"""A sketch is a function of a set of things: exact while it is a list, within two percent when it is none."""

from __future__ import annotations

import random
from hashlib import blake2b
from itertools import pairwise
from math import exp, expm1, log, prod

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


def test_the_thousandth_thing_is_counted_and_the_next_one_makes_a_sketch_of_14_kilobytes() -> None:
    full = sketch(list(range(EXACT)))
    assert (len(full), count(full)) == (8_000, 1_000)
    more = with_things(full, [ALL[EXACT]])
    assert len(more) == SKETCHED == 14_309
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
    assert max(map(abs, errors)) <= 0.02, "one in a thousand may be further off, none of these is"
    assert abs(sum(errors) / seeds) <= 3 * 0.0061 / seeds**0.5, "and it leans to neither side"


def reached(many: float) -> list[float]:
    """How likely each rank has been in a register, from 3 below the first, after so many things a register."""
    return [1.0] * 4 + [-expm1(-many / 2**rank) for rank in range(1, HIGHEST)] + [-expm1(-many / 2 ** (HIGHEST - 1))]


def test_a_million_things_more_are_told_from_the_registers_alone() -> None:
    # So many things one by one take long. What their registers come to is drawn from its distribution instead.
    for many in (10**6, 10**8, 10**10, 10**11):
        errors = [count(drawn_registers(many, seed)) / many - 1 for seed in range(4)]
        assert max(map(abs, errors)) <= 0.02
        assert abs(sum(errors) / len(errors)) <= 0.01


def drawn_registers(many: int, seed: int) -> bytes:
    """Registers after `many` things: from the highest rank down, until one has been there, and three more."""
    chance, likely = random.Random(seed), reached(many / REGISTERS)
    registers = bytearray()
    for _ in range(REGISTERS):
        rank = next(rank for rank in range(HIGHEST, -1, -1) if chance.random() < likely[rank + 3])
        window = [chance.random() < likely[rank + 3 - below] for below in (1, 2, 3)]
        registers.append(8 * rank + 4 * window[0] + 2 * window[1] + window[2])
    return sketches._sketched(bytes(registers))


def expected_weight(many: float) -> float:
    """What a register weighs on average, after so many things a register."""
    likely, none_above, weight = reached(many), 1.0, 0.0
    for rank in range(HIGHEST, -1, -1):
        here = none_above * likely[rank + 3]
        for window in range(8):
            bits = [(likely[rank + 2 - n], window >> (2 - n) & 1) for n in range(3)]
            weight += here * prod(p if bit else 1 - p for p, bit in bits) * sketches.WEIGHTS[8 * rank + window]
        none_above *= 1 - likely[rank + 3]
    return weight


def test_the_curve_is_the_one_on_which_the_average_weight_lies() -> None:
    for step in range(round(10 * log(0.06)), round(10 * log(10**11 / REGISTERS)) + 1):
        many = exp(step / 10)
        total = round(REGISTERS * expected_weight(many))
        assert abs(count(sketches._head(total) + bytes(REGISTERS)) / (REGISTERS * many) - 1) <= 0.0006, many


def test_whatever_changes_a_register_makes_it_lighter_and_what_is_lighter_counts_more() -> None:
    for value in range(sketches.EMPTY, 256):
        for other in range(sketches.EMPTY, 256):
            both = sketches._joined(value, other)
            assert both == sketches._joined(other, value) == sketches._joined(both, value)
            assert both == value or sketches.WEIGHTS[both] < sketches.WEIGHTS[value]
    lightest, heaviest = REGISTERS * sketches.WEIGHTS[255], REGISTERS * sketches.WEIGHTS[sketches.EMPTY]
    totals = [heaviest - heaviest * n // 20_000 for n in range(20_000)]
    totals += [heaviest >> n for n in range(1, 26) if heaviest >> n > lightest] + [lightest]
    counts = [count(sketches._head(total) + bytes(REGISTERS)) for total in sorted(totals, reverse=True)]
    assert counts[0] == 0
    assert all(less <= more for less, more in pairwise(counts))


# How it lies in memory.


@given(st.lists(st.one_of(st.binary(min_size=8, max_size=8), st.integers(0, 14).map(lambda n: n.to_bytes(8, "big")))))
def test_registers_and_their_weight_are_what_the_paper_and_the_module_say(drawn: list[bytes]) -> None:
    ranks: list[set[int]] = [{-2, -1, 0} for _ in range(REGISTERS)]
    for each in (*ALL[:1_100], *drawn):
        rest = f"{int.from_bytes(each[4:], 'big'):032b}"[:30]
        rank = rest.index("1") + 1 if "1" in rest else 31
        ranks[int.from_bytes(each[:4], "big") * REGISTERS // 2**32].add(rank)
    expected = []
    for those in ranks:
        top = max(those)
        expected.append(8 * top + sum(4 >> n for n in range(3) if top - 1 - n in those or top - 1 - n < -2))
    found = with_things(with_things(b"", ALL[:1_100]), drawn)
    assert found[0] == 1
    assert list(found[HEAD:]) == expected
    weights = (4.3, 2.06, 2.6, 1.07, 2.8, 1.36, 1.86, 0.52)
    total = sum(weights[value % 8] * 2 ** (-0.8 * (value // 8)) if value > 7 else 1 for value in expected)
    assert abs(int.from_bytes(found[1:HEAD], "big") / 2**39 - total) <= 1e-6


def test_the_worked_example_of_the_module() -> None:
    others = [bytes.fromhex(f"{i:08x}80000000") for i in range(0x80000000, 0x80000000 + EXACT)]
    before = with_things(b"", [*others, bytes.fromhex("0000000100000000")])
    after = with_things(before, [bytes.fromhex("ffffffff20000000")])
    assert (before[HEAD], before[-1]) == (8 * 31, 7)
    assert (after[HEAD], after[-1]) == (8 * 31, 25)
    assert with_things(after, [bytes.fromhex("ffffffff40000000")])[-1] == 29


def test_the_estimate_is_the_same_integer_on_every_machine() -> None:
    """These figures stand in the test of the script's twin, too."""
    assert [count(sketch(list(range(many)))) for many in (1_001, 1_500, 2_500, 4_000)] == FIGURES


FIGURES = [1_002, 1_502, 2_489, 3_971]


# What is no sketch, and what is no thing.


@pytest.mark.parametrize(
    "data",
    [b"seven b", bytes(8_008), bytes(SKETCHED), b"\2" + bytes(SKETCHED - 1), bytes(SKETCHED + 1)],
    ids=["half a thing", "too long a list", "no format", "another format", "too long"],
)
def test_bytes_that_are_no_sketch_are_not_taken_for_one(data: bytes) -> None:
    assert not readable(data)


@pytest.mark.parametrize("weight", [0, REGISTERS * sketches.WEIGHTS[255] - 1, REGISTERS * 2**39 + 1])
def test_a_weight_that_registers_cannot_have_is_not_taken_for_one(weight: int) -> None:
    found = sketch(list(range(1_500)))
    assert not readable(sketches._head(weight) + found[HEAD:])


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
