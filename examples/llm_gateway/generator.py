"""A language model small enough to read: word n-grams counted in a short text.

It decides which word follows; it knows nothing of HTTP, keys or limits. The same model, prompt and number of
tokens give the same text on every machine, so that a test can compare answers and a demo can count them.
A token is a word or one mark of punctuation.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random

CORPUS = Path(__file__).with_name("corpus.txt")
TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
ENDS = frozenset(".!?")
DIMENSIONS = 16


def tokens(text: str) -> list[str]:
    """The words and marks of a text.

    >>> tokens("Open it, keeper!")
    ['Open', 'it', ',', 'keeper', '!']
    """
    return TOKEN.findall(text)


def direction(text: str) -> list[float]:
    """Where a text points to in 16 dimensions: texts that share words point alike.

    >>> direction("Open it, keeper!") == direction("open it, KEEPER!")
    True
    """
    sums = [0.0] * DIMENSIONS
    for word in tokens(text.lower()):
        sums = [
            a + b - 127.5 for a, b in zip(sums, sha256(word.encode("utf-8", "surrogatepass")).digest(), strict=False)
        ]
    length = sum(value * value for value in sums) ** 0.5 or 1.0
    return [round(value / length, 6) for value in sums]


@dataclass(frozen=True)
class Generator:
    """Continues a prompt by the words that followed the last `order` words in the text it was made of.

    >>> model = Generator("the gate is open. the gate is old.", order=2)
    >>> first = list(model.continued("is it?", most=6))
    >>> first == list(model.continued("is it?", most=6)), len(first) <= 6
    (True, True)
    """

    text: str
    order: int = 1
    followers: dict[tuple[str, ...], list[str]] = field(init=False, default_factory=lambda: defaultdict(list))
    openings: list[tuple[str, ...]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        words = tokens(self.text)
        for at in range(len(words) - self.order):
            state = tuple(words[at : at + self.order])
            self.followers[state].append(words[at + self.order])
            if at == 0 or words[at - 1] in ENDS:
                self.openings.append(state)

    def continued(self, prompt: str, most: int) -> Iterator[str]:
        """At most `most` tokens, each with the blank that precedes it; ends early at the end of a sentence."""
        lot = Random(sha256(prompt.encode("utf-8", "surrogatepass")).digest())
        state = self._opening(prompt, lot)
        for number in range(most):
            word = state[number] if number < self.order else lot.choice(self.followers[state])
            if number >= self.order:
                state = (*state[1:], word)
            yield word if number == 0 or not word[0].isalnum() else f" {word}"
            if word in ENDS or (number >= self.order and state not in self.followers):
                return

    def _opening(self, prompt: str, lot: Random) -> tuple[str, ...]:
        """A sentence's beginning that shares its first word with the prompt, if there is one."""
        asked = {word.lower() for word in tokens(prompt)}
        related = [state for state in self.openings if state[0].lower() in asked]
        return lot.choice(related or self.openings)


def from_corpus(order: int) -> Generator:
    """A generator made of the text beside this module."""
    return Generator(CORPUS.read_text(encoding="utf-8"), order)
