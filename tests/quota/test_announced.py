"""What a request says that it will take, and how much of that is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.quota.ahead import NOT_NAMED, amount_of, reserved, varies
from headgate.quota.balance import SAFE
from headgate.quota.facts import Call, Principal
from headgate.quota.meter import MILLION, Meter, Sum

ACME = Principal("k1", "acme")
MOST = ("body.max_completion_tokens", "body.max_tokens", "body.max_output_tokens")
OUTPUT = Meter("output_tokens", "preset.openai-usage", 1_000, MOST, ("body.n", "body.best_of"))

TEXTS = st.one_of(
    st.just(""),
    st.integers(-5, 5).map(str),
    st.integers(0, 10**20).map(str),
    st.text("0123456789.-+e _٣", max_size=20),
)


def call(**body: str) -> Call:
    return Call(ACME, lookup=lambda source, name: body.get(name, "") if source == "body" else "")


def test_of_several_words_for_one_amount_the_largest_is_held() -> None:
    assert reserved(OUTPUT, call(max_tokens="1", max_completion_tokens="50000")) == 50_000
    assert reserved(OUTPUT, call(max_output_tokens="7")) == 7
    assert reserved(OUTPUT, call(max_tokens="0", max_output_tokens="none")) == 0


def test_a_request_that_names_none_of_them_holds_what_the_policy_says() -> None:
    assert reserved(OUTPUT, call()) == reserved(OUTPUT, call(max_tokens="4e3", max_output_tokens="-9")) == 1_000


def test_as_many_answers_as_are_wanted_are_held_and_at_least_one() -> None:
    assert reserved(OUTPUT, call(max_tokens="400", n="128")) == 51_200
    assert reserved(OUTPUT, call(max_tokens="400", n="2", best_of="5")) == 2_000
    assert [reserved(OUTPUT, call(n=n)) for n in ("3", "0", "-4", "many", "")] == [3_000, *[1_000] * 4]


def test_a_meter_of_one_amount_may_be_held_several_times() -> None:
    images = Meter("images", "app", reserve=1, reserve_times=("body.n",))
    assert varies(images, {}) and not varies(Meter("images", "app", reserve=1), {})
    assert [reserved(images, call(n=n)) for n in ("4", "")] == [4, 1]


def test_what_is_held_is_never_more_than_the_meter_charges() -> None:
    assert reserved(Meter("rows", "app", reserve=2_000, most=1_000), call()) == 1_000
    capped = Meter("tokens", "app", 10, MOST, ("body.n",), most=500)
    assert reserved(capped, call(max_tokens="400", n="2")) == 500


def test_a_sum_holds_all_answers_of_its_parts() -> None:
    credits = Meter("credits", "sum", sum=Sum({"output_tokens": 5 * MILLION}), parts=(OUTPUT,))
    assert reserved(credits, call(max_tokens="10", n="4"), 2 * MILLION) == 400


@given(st.dictionaries(st.sampled_from(["max_tokens", "max_completion_tokens", "n", "best_of"]), TEXTS))
def test_whatever_is_written_there_an_amount_is_held_that_can_be_counted(body: dict[str, str]) -> None:
    held = reserved(OUTPUT, call(**body))
    assert type(held) is int and 0 <= held <= SAFE
    named = [amount_of(body.get(name, "")) for name in ("max_tokens", "max_completion_tokens")]
    assert held >= min(max(named) if max(named) != NOT_NAMED else 1_000, SAFE)


@pytest.mark.parametrize("text", ["", "1e3", "4.0", "-1", "+1", " 1", "1_000", "٣", "²", "true", "[1]"])
def test_what_is_no_whole_number_is_not_named(text: str) -> None:
    assert amount_of(text) == NOT_NAMED


@pytest.mark.parametrize(
    ("text", "amount"), [("0", 0), (str(SAFE), SAFE), (str(SAFE + 1), SAFE), ("9" * 9_999, SAFE)]
)
def test_a_number_past_what_can_be_counted_is_the_most_that_can(text: str, amount: int) -> None:
    assert amount_of(text) == amount
