"""The counts are inclusive, whoever reports them; and a number is one, or it is not reported."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from anthropic.types import MessageDeltaUsage
from anthropic.types import Usage as MessageUsage
from openai.types import CompletionUsage, CreateEmbeddingResponse
from openai.types.responses import ResponseUsage

from headgate.tokens import METERS, Usage, estimated
from headgate.tokens.usage import counts, inclusive, report_of
from tokens.transcripts import MESSAGE_USAGE, OPENAI, OPENAI_USAGE, RESPONSE, RESPONSE_USAGE

MOST = 2**53 - 1


def used(report: dict[str, Any]) -> Usage:
    return inclusive(counts(report))


def test_openai_counts_cached_input_and_reasoning_as_parts_and_so_do_we() -> None:
    assert used(OPENAI_USAGE) == OPENAI
    assert used(RESPONSE_USAGE) == RESPONSE


def test_anthropic_counts_its_cache_beside_the_input_and_we_add_it() -> None:
    assert used(MESSAGE_USAGE) == Usage(input=25 + 100 + 1000, cached=1000, output=1)


def test_a_gateway_that_reports_anthropics_cache_in_openais_form_has_added_it_already() -> None:
    report = {"prompt_tokens": 1125, "completion_tokens": 2, "cache_read_input_tokens": 1000}
    assert used(report).input == 1125


def test_reasoning_beside_the_output_shows_in_the_total_and_is_added() -> None:
    beside = {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35,
        "completion_tokens_details": {"reasoning_tokens": 20},
    }  # fmt: skip
    assert used(beside) == Usage(input=10, output=25, reasoning=20)
    assert used({**beside, "completion_tokens": 25}) == Usage(input=10, output=25, reasoning=20)


def test_embeddings_have_an_input_and_nothing_else() -> None:
    assert used({"prompt_tokens": 8, "total_tokens": 8}) == Usage(input=8)


@pytest.mark.parametrize("number", [-1, 1.0, 1.5, "12", True, None, [], {}, MOST + 1, 10**400, float("nan")])
def test_what_is_no_count_is_not_reported(number: object) -> None:
    assert used({"prompt_tokens": number, "completion_tokens": 3}) == Usage(output=3)
    assert used({"input_tokens": number, "cache_read_input_tokens": 3, "output_tokens": number}) == Usage()


@pytest.mark.parametrize("number", [0, 1, MOST])
def test_every_whole_number_that_can_be_counted_is_a_count(number: int) -> None:
    assert used({"input_tokens": number, "input_tokens_details": {}}).input == number


def test_a_sum_of_counts_can_be_counted() -> None:
    report = {"input_tokens": MOST, "cache_read_input_tokens": MOST, "cache_creation_input_tokens": MOST}
    assert used(report) == Usage(input=MOST, cached=MOST)


def test_a_part_is_never_more_than_the_whole() -> None:
    report = {"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}
    assert used({**report, "completion_tokens_details": {"reasoning_tokens": 9}}) == Usage(5, 5, 5, 5)


@pytest.mark.parametrize("details", [None, 3, [], "x", {}, {"cached_tokens": None}])
def test_details_that_are_none_hide_nothing_else(details: object) -> None:
    assert used({"prompt_tokens": 5, "prompt_tokens_details": details}) == Usage(input=5)


def test_a_later_report_wins_where_it_says_something() -> None:
    assert Usage(1, 2, 3, 4).merged(Usage(output=30)) == Usage(1, 2, 30, 4)
    assert Usage().merged(Usage(0, 0, 0, 0)) == Usage(0, 0, 0, 0)


def test_a_report_is_the_events_own_or_its_messages_or_its_responses_and_no_other() -> None:
    report = {"input_tokens": 1}
    assert report_of({"usage": report}) == report_of({"message": {"usage": report}}) == report
    assert report_of({"response": {"usage": report}, "usage": None}) == report
    for other in (
        {"delta": {"usage": report}},
        {"choices": [{"usage": report}]},
        [report],
        None,
        {"usage": [report]},
    ):
        assert report_of(other) is None


def test_the_clients_know_the_fields_that_are_read() -> None:
    for kind, names in (
        (CompletionUsage, "prompt_tokens completion_tokens prompt_tokens_details completion_tokens_details"),
        (CreateEmbeddingResponse.model_fields["usage"].annotation, "prompt_tokens total_tokens"),
        (ResponseUsage, "input_tokens output_tokens input_tokens_details output_tokens_details"),
        (MessageUsage, "input_tokens output_tokens cache_creation_input_tokens cache_read_input_tokens"),
        (MessageDeltaUsage, "input_tokens output_tokens cache_creation_input_tokens cache_read_input_tokens"),
    ):
        assert set(names.split()) <= set(kind.model_fields), kind
    details = MessageUsage.model_fields["output_tokens_details"].annotation
    assert "thinking_tokens" in get_args(details)[0].model_fields


def test_each_meter_is_a_field() -> None:
    assert tuple(METERS.values()) == Usage._fields


def test_four_bytes_are_a_token_and_a_beginning_is_one_too() -> None:
    assert [estimated(size) for size in (0, 1, 4, 5)] == [0, 1, 1, 2]
