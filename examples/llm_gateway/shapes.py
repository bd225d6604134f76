"""How four LLM APIs write an answer: OpenAI's chat completions, Responses and embeddings, Anthropic's messages.

Law: values in, bytes out. What an answer says and what it took is decided elsewhere; here it only gets its form, in
which the two companies' own clients read it. `Counts` are inclusive: `input` has the cached tokens in it, `output`
the reasoning; each API is told them as it counts.

A streamed answer is `opened()`, one `part(text)` after the other, and `closed(…)`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

CREATED = 1_700_000_000
"""When every answer was made (seconds): the same question has the same answer, to the byte."""

STOP, LENGTH = "stop", "length"
"""Why an answer ended: it was whole, or as long as was asked for. OpenAI's words; the others have their own."""


class Counts(NamedTuple):
    """What an answer took, in tokens. `cached` is part of `input`, `reasoning` of `output`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0


def sse(data: dict[str, Any], event: str = "") -> bytes:
    """One server-sent event.

    >>> sse({"n": 1}, "message_stop")
    b'event: message_stop\\ndata: {"n": 1}\\n\\n'
    """
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


@dataclass
class Chat:
    """OpenAI's chat completions. `with_usage`: the client asked for a last chunk that tells the counts. `running`:
    each chunk tells the counts so far, as vLLM does on request: a stream that breaks off is known to the token."""

    id: str
    model: str
    with_usage: bool = False
    running: bool = False

    kind: ClassVar[str] = "chat.completion"

    def plain(self, text: str, counts: Counts, finish: str = STOP) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._head(self.kind), "choices": [choice], "usage": self.usage(counts)}

    def opened(self, counts: Counts) -> bytes:
        """How a stream begins."""
        return self._chunk({"role": "assistant", "content": ""}, counts)

    def part(self, text: str, counts: Counts) -> bytes:
        """A part of it. `counts`: so far, with this one."""
        return self._chunk({"content": text}, counts)

    def closed(self, text: str, counts: Counts, finish: str = STOP) -> bytes:
        """How it ends."""
        last = self._chunk({}, counts, finish)
        if self.with_usage:
            last += sse({**self._head(f"{self.kind}.chunk"), "choices": [], "usage": self.usage(counts)})
        return last + b"data: [DONE]\n\n"

    @staticmethod
    def usage(counts: Counts) -> dict[str, Any]:
        """The counts as this API writes them."""
        return {
            "prompt_tokens": counts.input,
            "completion_tokens": counts.output,
            "total_tokens": counts.input + counts.output,
            "prompt_tokens_details": {"cached_tokens": counts.cached},
            "completion_tokens_details": {"reasoning_tokens": counts.reasoning},
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.id}", "object": kind, "created": CREATED, "model": self.model}

    def _chunk(self, delta: dict[str, str], counts: Counts, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {**self._head(f"{self.kind}.chunk"), "choices": [choice]}
        if self.running:
            chunk["usage"] = self.usage(counts)
        elif self.with_usage:
            chunk["usage"] = None
        return sse(chunk)


@dataclass
class Responses:
    """OpenAI's Responses. Only the last event tells the counts."""

    id: str
    model: str
    _number: int = -1

    def plain(self, text: str, counts: Counts, finish: str = STOP) -> dict[str, Any]:
        """The answer in one piece."""
        whole = finish == STOP
        return {
            **self._head("completed" if whole else "incomplete"),
            "incomplete_details": None if whole else {"reason": "max_output_tokens"},
            "output": [self._item(text, "completed" if whole else "incomplete")],
            "usage": self.usage(counts),
        }

    def opened(self, counts: Counts) -> bytes:
        """How a stream begins."""
        at = {"item_id": f"msg_{self.id}", "output_index": 0, "content_index": 0}
        return (
            self._event("response.created", response=self._head("in_progress") | {"output": [], "usage": None})
            + self._event("response.output_item.added", output_index=0, item=self._item(None, "in_progress"))
            + self._event("response.content_part.added", **at, part=_output_text(""))
        )

    def part(self, text: str, counts: Counts) -> bytes:
        """A part of it."""
        at = {"item_id": f"msg_{self.id}", "output_index": 0, "content_index": 0}
        return self._event("response.output_text.delta", **at, delta=text, logprobs=[])

    def closed(self, text: str, counts: Counts, finish: str = STOP) -> bytes:
        """How it ends. `text`: all of it, which is told once more."""
        answer = self.plain(text, counts, finish)
        at = {"item_id": f"msg_{self.id}", "output_index": 0, "content_index": 0}
        return (
            self._event("response.output_text.done", **at, text=text, logprobs=[])
            + self._event("response.content_part.done", **at, part=_output_text(text))
            + self._event("response.output_item.done", output_index=0, item=answer["output"][0])
            + self._event(f"response.{answer['status']}", response=answer)
        )

    @staticmethod
    def usage(counts: Counts) -> dict[str, Any]:
        """The counts as this API writes them."""
        return {
            "input_tokens": counts.input,
            "input_tokens_details": {"cached_tokens": counts.cached},
            "output_tokens": counts.output,
            "output_tokens_details": {"reasoning_tokens": counts.reasoning},
            "total_tokens": counts.input + counts.output,
        }

    def _head(self, status: str) -> dict[str, Any]:
        return {
            "id": f"resp_{self.id}", "object": "response", "created_at": CREATED, "status": status, "error": None,
            "incomplete_details": None, "instructions": None, "metadata": {}, "model": self.model,
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0,
        }  # fmt: skip

    def _item(self, text: str | None, status: str) -> dict[str, Any]:
        content = [] if text is None else [_output_text(text)]
        return {
            "id": f"msg_{self.id}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return sse({"type": kind, "sequence_number": self._number, **fields}, kind)


@dataclass
class Messages:
    """Anthropic's messages. The counts of the input come first, those of the output last; what was read from the
    cache is counted beside the rest of the input."""

    id: str
    model: str

    def plain(self, text: str, counts: Counts, finish: str = STOP) -> dict[str, Any]:
        """The answer in one piece."""
        content = [{"type": "text", "text": text}]
        return self._message(content, self.usage(counts), _reason(finish))

    def opened(self, counts: Counts) -> bytes:
        """How a stream begins: with the counts of the input, and a first count of the output that is no more than
        a beginning."""
        begun = self._message([], self.usage(Counts(counts.input, 1, counts.cached)), None)
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        return (
            self._event("message_start", message=begun)
            + self._event("content_block_start", **block)
            + self._event("ping")
        )

    def part(self, text: str, counts: Counts) -> bytes:
        """A part of it."""
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def closed(self, text: str, counts: Counts, finish: str = STOP) -> bytes:
        """How it ends: the output's count in two reports, each of which has all so far."""
        half = {"stop_reason": None, "stop_sequence": None}
        ended = {"stop_reason": _reason(finish), "stop_sequence": None}
        return (
            self._event("content_block_stop", index=0)
            + self._event("message_delta", delta=half, usage={"output_tokens": (counts.output + 1) // 2})
            + self._event("message_delta", delta=ended, usage=_of_output(counts))
            + self._event("message_stop")
        )

    @staticmethod
    def usage(counts: Counts) -> dict[str, Any]:
        """The counts as this API writes them: what was read from the cache is not in `input_tokens`."""
        return {
            "input_tokens": counts.input - counts.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": counts.cached,
            **_of_output(counts),
        }

    def _message(self, content: list[Any], usage: dict[str, Any], reason: str | None) -> dict[str, Any]:
        return {
            "id": f"msg_{self.id}", "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": reason, "stop_sequence": None, "usage": usage,
        }  # fmt: skip

    @staticmethod
    def _event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, **fields}, kind)


Shape = Chat | Responses | Messages


def embeddings(model: str, vectors: list[list[float]], counts: Counts) -> dict[str, Any]:
    """OpenAI's embeddings: one vector for each text, and what reading them took."""
    rows = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    return {
        "object": "list",
        "data": rows,
        "model": model,
        "usage": {"prompt_tokens": counts.input, "total_tokens": counts.input},
    }


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _of_output(counts: Counts) -> dict[str, Any]:
    return {"output_tokens": counts.output, "output_tokens_details": {"thinking_tokens": counts.reasoning}}


def _reason(finish: str) -> str:
    return {STOP: "end_turn", LENGTH: "max_tokens"}[finish]
