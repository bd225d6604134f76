"""What a chat request asks for, read from its body: a value that can be answered, or the reason why not.

It knows no limits and no keys; what it reads has bounds of its own, so that the longest answer is known beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from generator import tokens

OUTPUT_MOST = 48
"""Tokens of the longest answer. The policy holds as many before it lets a request in, so nothing runs over."""

INPUT_MOST = 256
"""Tokens of the longest prompt; the policy holds as many."""


class Unfit(ValueError):
    """A request that this API does not take: the status and the code that the client is told."""

    def __init__(self, message: str, status: int = 400, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Asked:
    """A chat request that can be answered. `most`: tokens of the answer at which it is cut."""

    model: str
    prompt: str
    most: int
    stream: bool
    with_usage: bool
    input_tokens: int


def asked(body: bytes, models: Collection[str]) -> Asked:
    """Read a body. Sampling options are taken and change nothing: the same question has the same answer here.

    >>> asked(b'{"model": "m", "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 9}', ["m"])
    Asked(model='m', prompt='Who?', most=9, stream=False, with_usage=False, input_tokens=2)

    Raises Unfit for what cannot be answered.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise Unfit("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise Unfit("the body is not a JSON object")
    model = fields.get("model")
    if not isinstance(model, str) or model not in models:
        raise Unfit(f"no such model; there are {', '.join(models)}", 404, "model_not_found")
    if fields.get("n", 1) != 1:
        raise Unfit("`n` other than 1 is not served")
    prompt = _prompt(fields.get("messages"))
    count = len(tokens(prompt))
    if count > INPUT_MOST:
        raise Unfit(f"the prompt has {count} tokens, at most {INPUT_MOST} are read", code="context_length_exceeded")
    options = fields.get("stream_options")
    with_usage = isinstance(options, dict) and options.get("include_usage") is True
    return Asked(model, prompt, _most(fields), fields.get("stream") is True, with_usage, count)


def _prompt(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise Unfit("`messages` is not a list of at least one message")
    return "\n".join(text for message in messages for text in _texts(message))


def _texts(message: Any) -> list[str]:
    """The content of one message: a text, or a list of parts that are all texts."""
    content = message.get("content") if isinstance(message, dict) else None
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    read = [text for text in texts if isinstance(text, str)]
    if len(read) != len(parts):
        raise Unfit("a message is not an object whose `content` is text")
    return read


def _most(fields: dict[str, Any]) -> int:
    wanted = fields.get("max_completion_tokens")
    wanted = fields.get("max_tokens") if wanted is None else wanted
    if wanted is None:
        return OUTPUT_MOST
    # A bool is an int to Python, and no number to anybody else.
    if type(wanted) is not int or wanted < 1:
        raise Unfit("`max_tokens` is not a whole number of at least 1")
    return min(wanted, OUTPUT_MOST)
