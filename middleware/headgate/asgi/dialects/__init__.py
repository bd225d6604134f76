"""What callers are told, in the words of the API whose clients they use.

Law: a dialect chooses words and names of headers; what is decided, whom it concerns and when it ends is the same in
all of them.

`dialect` says what one is, each has a module of its own, `standings` finds the limit that is told of a kind, and
`merging` joins our headers with those of the app behind.
"""

from __future__ import annotations

from collections.abc import Mapping

from headgate.asgi.dialects.anthropic import Anthropic
from headgate.asgi.dialects.dialect import Dialect
from headgate.asgi.dialects.github import GitHub
from headgate.asgi.dialects.ietf import Ietf
from headgate.asgi.dialects.legacy import Legacy
from headgate.asgi.dialects.merging import NAMES, merged
from headgate.asgi.dialects.openai import OpenAI

__all__ = ["NAMES", "Dialect", "dialects", "merged"]


def dialects(pepper: bytes) -> Mapping[str, Dialect]:
    """All dialects by their names in a policy, made once for a gate. `pepper`: its first one.

    >>> sorted(dialects(b"pepper"))
    ['anthropic', 'github', 'ietf', 'legacy', 'openai']
    """
    made: list[Dialect] = [Ietf(pepper), OpenAI(), Anthropic(), GitHub(), Legacy()]
    return {dialect.name: dialect for dialect in made}
