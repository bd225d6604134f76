"""Patterns in which `*` stands for anything: which texts they match.

Law: matching takes time in proportion to the text, whatever a caller sends and however a pattern is written. There
are no regular expressions in a policy, and case counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

Test = Callable[[str], bool]

KEPT = 1_024
"""Single globs that are kept compiled: more than a policy has of them where they are asked for one by one."""


def glob_test(globs: Iterable[str]) -> Test:
    """Whether text matches one of the globs. Case counts; `*` stands for any characters, none and slashes too.

    >>> test = glob_test(["/v1/chat/*", "/items/{id}", "*/export"])
    >>> [test(path) for path in ("/v1/chat/completions", "/v1/chat", "/items/{id}", "/a/export")]
    [True, False, True, True]
    """
    globs = [re.sub(r"\*+", "*", glob) for glob in globs]
    exact = frozenset(glob for glob in globs if "*" not in glob)
    starts = tuple(glob[:-1] for glob in globs if glob.endswith("*") and glob.count("*") == 1)
    others = [glob for glob in globs if "*" in glob[:-1]]
    if not starts and not others:
        return exact.__contains__
    if not others and not exact:
        return lambda text: text.startswith(starts)
    if not others:
        return lambda text: text in exact or text.startswith(starts)
    whole = re.compile("|".join(_expression(glob) for glob in others), re.DOTALL).fullmatch
    return lambda text: text in exact or text.startswith(starts) or whole(text) is not None


def _expression(glob: str) -> str:
    """A glob as an expression that never goes back: each `*` but the last takes as little as it can, for good.

    That is right for globs (the leftmost match leaves the most for the rest) and what keeps them linear."""
    first, *middle, last = [re.escape(part) for part in glob.split("*")]
    return first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last


@lru_cache(KEPT)
def one_glob(glob: str) -> Test:
    """The test of a single glob, kept.

    >>> one_glob("big-*")("big-7b"), one_glob("big-*")("small")
    (True, False)
    """
    return glob_test((glob,))
