"""Clients that leave: the libraries' own ways to end a stream before it has ended. (Sockets that are just closed are
P18's, in tests/chaos.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sdk.line import Line, Serve
from sdk.test_usage import ASK

CHUNKS = 40

POLICY = """
meters:
  usage:         {preset: PRESET}
  input_tokens:  {reserve: 50}
  output_tokens: {reserve: 60}
limits:
  output: {meter: output_tokens, per: org, total: 100M}
  open:   {meter: streams, per: key, max: 1, lease: 10min}
"""


def by_openai(line: Line, k: int) -> None:
    """Reads k chunks of text and closes."""
    with line.openai().chat.completions.create(model="m", messages=ASK, stream=True) as stream:
        for number, _chunk in enumerate(stream):
            if number == k:  # the first has the role alone
                break


def by_responses(line: Line, k: int) -> None:
    with line.openai().responses.create(model="m", input="Who?", stream=True) as stream:
        said = 0
        for event in stream:
            said += event.type == "response.output_text.delta"
            if said == k:
                break


def by_anthropic(line: Line, k: int) -> None:
    with line.anthropic().messages.create(model="m", max_tokens=64, messages=ASK, stream=True) as stream:
        said = 0
        for event in stream:
            said += event.type == "content_block_delta"
            if said == k:
                break


WAYS = [("openai-usage", by_openai), ("openai-usage", by_responses), ("anthropic-usage", by_anthropic)]


@pytest.mark.parametrize(("preset", "leaves"), WAYS, ids=[way.__name__ for _, way in WAYS])
def test_who_leaves_after_any_chunk_pays_for_what_was_sent_and_may_come_again_at_once(
    serve: Serve, preset: str, leaves: Callable[[Line, int], None]
) -> None:
    line: Any = serve(POLICY.replace("PRESET", preset))
    before = 0
    for k in range(CHUNKS + 1):
        line.upstream.plays(stall=k)
        leaves(line, k)
        used = line.used()["output"]
        sent = line.upstream.last.sent
        assert sent == k
        assert abs(used - before - sent) <= 1, f"gone after {k}: {used - before} are charged"
        before = used
