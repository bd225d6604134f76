"""What is counted: amounts, and sums of them by a price list."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import AmountError
from headgate.quota.balance import SAFE
from headgate.quota.globs import glob_test, one_glob
from headgate.quota.meter import BUILT_IN, BUILT_IN_METERS, MILLION, Meter, Sum

WEIGHTS = st.integers(0, 10**12)
AMOUNTS = st.integers(0, SAFE)


def test_every_built_in_meter_is_there_by_its_name() -> None:
    assert tuple(sorted(BUILT_IN)) == tuple(sorted(BUILT_IN_METERS))
    assert all(meter.name == name for name, meter in BUILT_IN_METERS.items())
    assert [name for name, meter in BUILT_IN_METERS.items() if meter.known_before] == ["requests", "streams"]


def test_a_sum_is_rounded_up_once() -> None:
    tenth = Sum({"a": MILLION // 10, "b": MILLION // 10})
    assert [tenth.summed({"a": a, "b": b}, MILLION) for a, b in ((0, 0), (1, 0), (5, 5), (5, 6))] == [0, 1, 1, 2]


def test_what_is_not_told_counts_as_nothing_and_what_has_no_weight_does_not_count() -> None:
    assert Sum({"a": MILLION, "b": MILLION}).summed({"a": 3, "c": 99}, 2 * MILLION) == 6


def test_a_part_that_has_a_price_of_its_own_is_not_paid_for_twice() -> None:
    priced = Sum(
        {"input_tokens": MILLION, "cached_tokens": MILLION // 10, "output_tokens": 5 * MILLION},
        inside=(("cached_tokens", "input_tokens"),),
    )
    assert priced.summed({"input_tokens": 1_000, "cached_tokens": 800, "output_tokens": 10}, MILLION) == 200 + 80 + 50
    assert priced.summed({"input_tokens": 1_000}, MILLION) == 1_000


def test_a_report_that_contradicts_itself_never_makes_anything_cheaper_than_its_part() -> None:
    priced = Sum(
        {"input_tokens": MILLION, "cached_tokens": MILLION // 10}, inside=(("cached_tokens", "input_tokens"),)
    )
    assert priced.summed({"input_tokens": 10, "cached_tokens": 10**9}, MILLION) == 10**8
    assert priced.summed({"cached_tokens": 50}, MILLION) == 5


@given(st.dictionaries(st.sampled_from("abc"), WEIGHTS), st.dictionaries(st.sampled_from("abcd"), AMOUNTS), WEIGHTS)
def test_a_sum_is_exact_and_never_passes_what_can_be_counted(
    weights: dict[str, int], used: dict[str, int], factor: int
) -> None:
    exact = sum(Fraction(weight, MILLION) * used.get(name, 0) for name, weight in weights.items())
    assert Sum(weights).summed(used, factor) == min(ceil(exact * Fraction(factor, MILLION)), SAFE)


def test_the_first_pattern_that_matches_gives_the_factor() -> None:
    prices = Sum({}, "body.model", (("big-*", 4), ("big-7", 9), ("*", 2)), default=7)
    assert [prices.factor(model) for model in ("big-7", "small", "")] == [4, 2, 2]
    assert Sum({}, "body.model", (("big-*", 4),), default=7).factor("") == 7
    assert Sum({}, "body.model", (("big-*", 4),)).factor("BIG-7") == MILLION


def test_what_names_things_is_told_from_what_counts_amounts() -> None:
    sources = ("distinct.app", "distinct.path.parcel_id", "app", "request", "preset.openai-usage", "sum")
    assert [Meter("m", source).things for source in sources] == ["app", "path.parcel_id", "", "", "", ""]


@pytest.mark.parametrize("amount", [-1, 2**53, 1.0, True, "1"])
def test_no_amount_that_cannot_be_counted_is_taken(amount: object) -> None:
    with pytest.raises(AmountError):
        Meter("rows", "app", most=None).bounded(-1 if amount == 2**53 else amount)  # type: ignore[arg-type]


@given(st.lists(st.text("ab*", max_size=6), min_size=1, max_size=4), st.text("ab*", max_size=12))
def test_a_list_of_globs_is_any_one_of_them(globs: list[str], text: str) -> None:
    assert glob_test(globs)(text) == any(one_glob(glob)(text) for glob in globs)
