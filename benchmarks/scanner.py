"""What it costs to read the usage of a stream as it passes: microseconds of CPU a chunk, against a floor.

    make bench
    python benchmarks/scanner.py [--rounds 7] [--chunks 20000] [--json FILE]

The floor is the least that any code does with a chunk: a call that takes its length and looks for one word. All
shapes take turns, so that a neighbour on the machine disturbs all alike; the ratio to the floor of the same turn is
what means something elsewhere. A body's figure is for each 64 KiB of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from headgate.tokens import Hiding, reader

HEAD = {
    "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", "object": "chat.completion.chunk", "created": 1_741_570_283,
    "model": "gpt-4o-2024-08-06", "service_tier": "default", "system_fingerprint": "fp_fc9f1d7035",
}  # fmt: skip

PIECE = 65_536
"""Bytes of a body that come at once."""


def event(data: dict[str, Any], name: str = "") -> bytes:
    """One server-sent event."""
    field = f"event: {name}\n" if name else ""
    return f"{field}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def chat(word: str, **more: Any) -> bytes:
    """A chunk of OpenAI's chat completions."""
    choice = {"index": 0, "delta": {"content": word}, "logprobs": None, "finish_reason": None}
    return event({**HEAD, "choices": [choice], **more})


def numbered(number: int) -> bytes:
    """A chunk of OpenAI's Responses."""
    at = {"item_id": "msg_67c9fdcf37fc8190ba82116e33fb28c507b8b0ad4e5eb654", "output_index": 0, "content_index": 0}
    kind = "response.output_text.delta"
    return event({"type": kind, **at, "delta": " word", "logprobs": [], "sequence_number": number}, kind)


MESSAGE = event(
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " a word and another"}},
    "content_block_delta",
)
RUNNING = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}

SHAPES: dict[str, Callable[[int], bytes]] = {
    "chat": lambda number: chat(" word"),
    "chat that was asked for its usage": lambda number: chat(" word", usage=None),
    "chat with an escape in each chunk": lambda number: chat(" wörd\n"),
    "chat whose chunks all differ": lambda number: chat(" word", obfuscation="x" * (number % 9), at=number),
    "chat with running usage": lambda number: chat(" word", usage=RUNNING),
    "Responses": numbered,
    "messages": lambda number: MESSAGE,
}
"""Streams: the chunk of each number."""


def embeddings(count: int) -> list[bytes]:
    """So many pieces of a body of embeddings."""
    row = b'{"object":"embedding","index":0,"embedding":[%s0]},' % (b"0.0123456789," * 999)
    whole = b'{"object":"list","data":[' + row * (count * PIECE // len(row) + 1)
    return [whole[at : at + PIECE] for at in range(0, count * PIECE, PIECE)]


@dataclass(slots=True)
class Subject:
    """What is fed with what, and microseconds of CPU a chunk, a round each."""

    name: str
    chunks: list[bytes]
    make: Callable[[], Callable[[bytes], object]]
    took: list[float] = field(default_factory=list)

    def of(self, floor: Subject) -> float:
        """The median of its ratio to the floor of the same turn."""
        return statistics.median(a / b for a, b in zip(self.took, floor.took, strict=True))

    def turn(self) -> None:
        """One round."""
        fed, chunks = self.make(), self.chunks
        begun = time.process_time()
        for chunk in chunks:
            fed(chunk)
        self.took.append((time.process_time() - begun) / len(chunks) * 1e6)


def floor() -> Callable[[bytes], object]:
    """The least that is done with a chunk."""

    def fed(data: bytes) -> bool:
        return len(data) > 0 and b"usage" in data

    return fed


def reading(kind: str) -> Callable[[], Callable[[bytes], object]]:
    """A new reader each time."""

    def make() -> Callable[[bytes], object]:
        found = reader(kind, encoded=False)
        assert found is not None, "a kind that is read"
        return found.fed

    return make


def subjects(chunks: int) -> list[Subject]:
    """All of them, the floor first."""
    streams = {name: [shape(number) for number in range(chunks)] for name, shape in SHAPES.items()}
    found = [Subject("the floor", streams["chat"], floor)]
    found += [Subject(name, stream, reading("text/event-stream")) for name, stream in streams.items()]
    asked = streams["chat that was asked for its usage"]
    found.append(Subject("hiding, while there is nothing to hide", asked, lambda: Hiding().fed))
    body = embeddings(max(1, chunks // 100))
    found.append(Subject("a body of embeddings, 64 KiB", body, reading("application/json")))
    return found


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description="What it costs to read usage as it passes.")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--chunks", type=int, default=20_000)
    options.add_argument("--json", type=Path, default=None)
    given = options.parse_args()
    found = subjects(given.chunks)
    for _ in range(given.rounds + 1):
        for subject in found:
            subject.turn()
    for subject in found:
        del subject.took[0]  # it warmed up
    table = Table(title="Reading usage as it passes")
    for name in ("", "bytes a chunk", "CPU, µs a chunk", "of the floor"):
        table.add_column(name, justify="left" if not name else "right")
    for subject in found:
        size = statistics.mean(map(len, subject.chunks))
        took = statistics.median(subject.took)
        table.add_row(subject.name, f"{size:,.0f}", f"{took:.2f}", f"{subject.of(found[0]):.1f}")
    Console().print(table)
    if given.json is not None:
        rows = [{"name": each.name, "took": each.took, "of_floor": each.of(found[0])} for each in found]
        given.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
