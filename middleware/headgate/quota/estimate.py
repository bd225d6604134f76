"""How many tokens a text is taken for, where nobody reports them.

Law: by its bytes, or by a callable of the operator's. What such a callable answers is believed only where it can be
true: a token is at least one byte of text, and a text that is not blank is at least one token. So no fault of it
makes a text free, or dearer than it can be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

BYTES_A_TOKEN = 4_000_000
"""Bytes of English text (in millionths) that are about one token of today's models. A Chinese sign has three of them,
and may be a token or two."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a policy says under `estimate`.

    `bytes_a_token` is in millionths. `count` answers the tokens of a text; None where bytes alone count. `name` is
    how the policy calls it (`python:my_app.tokens:count`), "" for none.
    """

    bytes_a_token: int = BYTES_A_TOKEN
    name: str = ""
    count: Callable[[str], object] | None = None


BY_BYTES = Estimate()


def doubt(answer: object, text: str, size: int) -> str:
    """Why an answer cannot be the tokens of a text of `size` bytes; "" if it can.

    >>> doubt(2, "two words", 9), doubt(10, "two words", 9), doubt(True, "a", 1)
    ('', 'answered more tokens than the text has bytes', 'answered with a bool, not an int')
    """
    if type(answer) is not int:
        return f"answered with a {type(answer).__name__}, not an int"
    if answer < 0:
        return "answered with less than nothing"
    if answer > size:
        return "answered more tokens than the text has bytes"
    return "answered 0 for a text that is not blank" if not answer and text.strip() else ""
