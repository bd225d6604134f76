"""Responses as OpenAI and Anthropic send them, with what they took by the inclusive contract."""

from __future__ import annotations

import json
from typing import Any

from headgate.tokens import Usage

HEAD: dict[str, Any] = {
    "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", "object": "chat.completion.chunk", "created": 1_741_570_283,
    "model": "gpt-4o-2024-08-06", "service_tier": "default", "system_fingerprint": "fp_fc9f1d7035",
}  # fmt: skip

OPENAI_USAGE: dict[str, Any] = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 4, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
    },
}  # fmt: skip

RESPONSE_USAGE: dict[str, Any] = {
    "input_tokens": 37,
    "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 0},
    "output_tokens": 11,
    "output_tokens_details": {"reasoning_tokens": 6},
    "total_tokens": 48,
}

MESSAGE_USAGE: dict[str, Any] = {
    "input_tokens": 25,
    "cache_creation_input_tokens": 100,
    "cache_read_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 1,
    "service_tier": "standard",
}

OPENAI = Usage(input=19, cached=8, output=10, reasoning=4)
RESPONSE = Usage(input=37, cached=30, output=11, reasoning=6)
MESSAGE = Usage(input=1125, cached=1000, output=15, reasoning=3)


def event(data: Any, name: str = "", end: str = "\n") -> bytes:
    """One event; no `name`: without the field."""
    field = f"event: {name}{end}" if name else ""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return f"{field}data: {text}{end}{end}".encode()


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    """A chunk of a chat completion; no `delta`: without choices."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return event({**HEAD, "choices": [] if delta is None else [choice], **more})


def chat(*, asked: bool = True, words: tuple[str, ...] = ("Hel", "lo ", "中文\n")) -> bytes:
    """A chat completion's stream; whether it was asked to tell its usage."""
    more: dict[str, Any] = {"usage": None} if asked else {}
    parts = [chunk({"role": "assistant", "content": "", "refusal": None}, **more)]
    parts += [chunk({"content": word}, **more) for word in words]
    parts.append(chunk({}, "stop", **more))
    if asked:
        parts.append(chunk(None, usage=OPENAI_USAGE))
    return b"".join([*parts, b"data: [DONE]\n\n"])


def running(words: tuple[str, ...] = ("Hel", "lo ", "you")) -> bytes:
    """A chat whose chunks tell the usage so far, as vLLM's do on request."""
    parts = [
        chunk({"content": word}, usage={"prompt_tokens": 19, "completion_tokens": at, "total_tokens": 19 + at})
        for at, word in enumerate(words, 1)
    ]
    return b"".join([*parts, chunk(None, usage=OPENAI_USAGE), b"data: [DONE]\n\n"])


def tool_call() -> bytes:
    """A chat that calls a tool, whose arguments speak of usage."""
    arguments = json.dumps({"usage": {"prompt_tokens": 999_999, "completion_tokens": 999_999}})
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "note", "arguments": ""}}
    parts = [chunk({"role": "assistant", "content": None, "tool_calls": [call]})]
    parts += [
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments[at : at + 9]}}]})
        for at in range(0, len(arguments), 9)
    ]
    return b"".join([*parts, chunk({}, "tool_calls"), chunk(None, usage=OPENAI_USAGE), b"data: [DONE]\n\n"])


def responses(ending: str = "completed", usage: Any = RESPONSE_USAGE) -> bytes:
    """A stream of the Responses API."""
    tool = {"type": "function", "name": "f", "parameters": {"delta": {"content": "never generated"}}}
    head = {"id": "resp_67c9", "object": "response", "status": "in_progress", "tools": [tool], "usage": None}
    at = {"item_id": "msg_67c9", "output_index": 0, "content_index": 0}
    whole = {"type": "output_text", "text": "Hi there!", "annotations": []}
    item = {"id": "msg_67c9", "type": "message", "role": "assistant", "content": [whole]}
    named: list[dict[str, Any]] = [
        {"type": "response.created", "response": head},
        {"type": "response.in_progress", "response": head},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **at, "part": {**whole, "text": ""}},
        {"type": "response.output_text.delta", **at, "delta": "Hi", "logprobs": [], "obfuscation": "xK2v"},
        {"type": "response.output_text.delta", **at, "delta": " there!", "logprobs": []},
        {"type": "response.output_text.done", **at, "text": "Hi there!"},
        {"type": "response.content_part.done", **at, "part": whole},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": f"response.{ending}", "response": {**head, "status": ending, "output": [item], "usage": usage}},
    ]
    return b"".join([event({**data, "sequence_number": at}, data["type"]) for at, data in enumerate(named)])


def messages(*, stop: bool = True) -> bytes:
    """A stream of Anthropic's messages; whether it comes to its end."""
    start = {"id": "msg_01", "type": "message", "role": "assistant", "model": "claude", "content": []}
    details = {"output_tokens": 15, "output_tokens_details": {"thinking_tokens": 3}}
    named: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**start, "stop_reason": None, "usage": MESSAGE_USAGE}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hmm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQBCgIY"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
        {"type": "content_block_stop", "index": 0},
    ]
    if stop:
        half = {"stop_reason": None, "stop_sequence": None}
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        named += [
            {"type": "message_delta", "delta": half, "usage": {"output_tokens": 7}},
            {"type": "message_delta", "delta": ended, "usage": details},
            {"type": "message_stop"},
        ]
    return b"".join([event(data, data["type"]) for data in named])


def completion() -> bytes:
    """The old completions, streamed."""
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    choices = [{"text": word, "index": 0, "logprobs": None, "finish_reason": None} for word in ("Once", " more")]
    return b"".join([event({**head, "choices": [choice]}) for choice in choices]) + b"data: [DONE]\n\n"


STREAMS = {
    "chat": (chat(), OPENAI, True, 0),
    "chat that was not asked": (chat(asked=False), Usage(), False, 13),
    "running": (running(), OPENAI, True, 0),
    "tool call": (tool_call(), OPENAI, True, 0),
    "responses": (responses(), RESPONSE, True, 0),
    "responses, incomplete": (responses("incomplete"), RESPONSE, True, 0),
    "responses, failed": (responses("failed"), RESPONSE, True, 0),
    "responses, failed without a word": (responses("failed", None), Usage(), False, 9),
    "messages": (messages(), MESSAGE, True, 0),
    "messages, broken off": (messages(stop=False), Usage(input=1125, cached=1000, output=1), False, 13),
    "completions": (completion(), Usage(), False, 9),
}
"""By name: the bytes; what is reported; whether that is final; bytes of text that are not in it."""
