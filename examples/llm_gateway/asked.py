"""What a request asks of the model, read from its body: a value that can be answered, or the reason why not.

It knows no limits and no keys; what it reads has bounds of its own, so that the longest answer is known beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from generator import tokens

OUTPUT_MOST = 48
"""Tokens of the longest answer. The policy holds as many before it lets a request in, so nothing runs over."""

INPUT_MOST = 256
"""Tokens of the longest prompt; the policy holds as many."""

TEXTS = frozenset({"text", "input_text", "output_text"})
"""What the APIs call a part of a message that is text."""

MOST_NAMES = ("max_completion_tokens", "max_output_tokens", "max_tokens")
"""What the APIs call the tokens at which an answer is cut."""


class Unfit(ValueError):
    """A request that this API does not take: the status and the code that the client is told."""

    def __init__(self, message: str, status: int = 400, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Asked:
    """A request that can be answered. `most`: tokens of the answer at which it is cut."""

    model: str
    prompt: str
    most: int
    stream: bool
    with_usage: bool
    input_tokens: int


def asked(body: bytes, models: Collection[str]) -> Asked:
    """Read a chat, a Responses or a messages body. Sampling options are taken and change nothing: the same question
    has the same answer here.

    >>> asked(b'{"model": "m", "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 9}', ["m"])
    Asked(model='m', prompt='Who?', most=9, stream=False, with_usage=False, input_tokens=2)
    >>> asked(b'{"model": "m", "input": "Who?", "instructions": "Be brief."}', ["m"]).prompt
    'Be brief.\\nWho?'

    Raises Unfit for what cannot be answered.
    """
    fields = _fields(body, models)
    if fields.get("n", 1) != 1:
        raise Unfit("`n` other than 1 is not served")
    before = [text for name in ("system", "instructions") if name in fields for text in _content(fields[name])]
    prompt = "\n".join([*before, *_said(fields)])
    count = _counted([prompt])
    options = fields.get("stream_options")
    with_usage = isinstance(options, dict) and options.get("include_usage") is True
    return Asked(fields["model"], prompt, _most(fields), fields.get("stream") is True, with_usage, count)


def embedded(body: bytes, models: Collection[str]) -> tuple[str, list[str], int]:
    """Read an embeddings body: the model, the texts, and their tokens. Raises Unfit.

    >>> embedded(b'{"model": "m", "input": ["Who?", "The keeper."]}', ["m"])
    ('m', ['Who?', 'The keeper.'], 5)
    """
    fields = _fields(body, models)
    given = fields.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Unfit("`input` is not a text, or a list of at least one")
    return fields["model"], texts, _counted(texts)


def _fields(body: bytes, models: Collection[str]) -> Mapping[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise Unfit("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise Unfit("the body is not a JSON object")
    model = fields.get("model")
    if not isinstance(model, str) or model not in models:
        raise Unfit(f"no such model; there are {', '.join(models)}", 404, "model_not_found")
    return fields


def _counted(texts: list[str]) -> int:
    count = sum(len(tokens(text)) for text in texts)
    if count > INPUT_MOST:
        raise Unfit(f"the prompt has {count} tokens, at most {INPUT_MOST} are read", code="context_length_exceeded")
    return count


def _said(fields: Mapping[str, Any]) -> list[str]:
    """The texts of all messages; Responses takes a bare text for one."""
    messages = fields.get("messages", fields.get("input"))
    if isinstance(messages, str):
        return [messages]
    if not isinstance(messages, list) or not messages:
        raise Unfit("`messages` is not a list of at least one message")
    if not all(isinstance(message, dict) for message in messages):
        raise Unfit("a message is not an object whose `content` is text")
    return [text for message in messages for text in _content(message.get("content"))]


def _content(content: Any) -> list[str]:
    """A text, or a list of parts that are all texts."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") in TEXTS]
    read = [text for text in texts if isinstance(text, str)]
    if len(read) != len(parts):
        raise Unfit("a message is not an object whose `content` is text")
    return read


def _most(fields: Mapping[str, Any]) -> int:
    wanted = next((fields[name] for name in MOST_NAMES if fields.get(name) is not None), OUTPUT_MOST)
    # A bool is an int to Python, and no number to anybody else.
    if type(wanted) is not int or wanted < 1:
        raise Unfit("`max_tokens` is not a whole number of at least 1")
    return min(wanted, OUTPUT_MOST)
