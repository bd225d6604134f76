"""The tree of one policy file: how much of it is read, and what is said of text that cannot be.

Law: each kind of fault has one number and one sentence here. Nothing is filled in: a policy is read as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headgate import document
from headgate.document import Fault, Kind, Mark, Node, Source
from headgate.policy.problem import Findings

SIZE_MOST = 1 << 20
"""Bytes of the longest file. A policy of a thousand limits has about a tenth of it."""

NODES_MOST = 20_000
"""Fields and values of the largest file: reading them takes well under a tenth of a second."""

DEPTH_MOST = 16
"""Levels of the deepest nesting. The language needs six."""

_SAID: Mapping[Kind, tuple[str, str, str]] = {
    "missing": (
        "HG101", "there is no such file",
        "`headgate init` makes a policy; another one is named by HEADGATE_POLICIES or on the command line",
    ),
    "irregular": ("HG101", "this is no regular file", ""),
    "unreadable": ("HG101", "the file cannot be read: {detail}", "check the path and its permissions"),
    "large": ("HG102", f"the file is larger than {SIZE_MOST:,} bytes, the most that is read", ""),
    "encoding": ("HG103", "this line is not UTF-8: byte {detail}", ""),
    "syntax": ("HG104", "this is no YAML: {detail}", ""),
    "twice": ("HG106", "`{detail}` stands here twice, first in line {first}", ""),
    "anchor": (
        "HG107", "`&{detail}` is a YAML anchor, and those are refused",
        "write the value out where it holds",
    ),
    "alias": (
        "HG107", "`*{detail}` is a YAML alias, and those are refused",
        'write the value out where it holds; if you mean the text, put it in quotes: "*{detail}"',
    ),
    "tag": ("HG108", "`{detail}` is a YAML tag, and those are refused", "delete the tag"),
    "merge": ("HG109", "merge keys are refused", "write the fields out where they hold"),
    "placeholder": (
        "HG110", "`${{…}}` is not filled in: a policy is read as it stands",
        "set the field from the environment instead, by its path: HEADGATE__LIMITS__RPM__RATE=60/min",
    ),
    "depth": ("HG111", f"nested more than {DEPTH_MOST} levels deep", ""),
    "nodes": ("HG112", f"the file has more than {NODES_MOST:,} fields and values", ""),
    "second": ("HG113", "a second document begins here", "keep one policy in a file"),
    "directive": ("HG113", "YAML directives are not read", "delete the `%` line"),
    "name": ("HG203", "a field's name is a word, not a map or list", ""),
}  # fmt: skip

_ADVICE = (
    (
        "cannot start any token",
        "a tab, `@`, `%` or a backquote cannot begin here; indent with blanks, quote the text",
    ),
    ("mapping values are not allowed", "text that holds `: ` needs quotes; or the line is indented too far"),
    ("expected ',' or '}'", "a `{` is not closed, or a comma is missing"),
    ("expected ',' or ']'", "a `[` is not closed, or a comma is missing"),
    ("expected alphabetic or numeric", "text that begins with `*` or `&` needs quotes"),
    ("unexpected ':'", "after a field's `:` comes a blank; text that holds one needs quotes"),
    ("could not find expected ':'", "a field needs `: ` after its name"),
    ("expected <block end>", "this line is indented differently from its neighbours"),
    ("undefined alias", "aliases are refused; text that begins with `*` needs quotes"),
)
"""What helps against bad text, by a part of what the parser says of it."""


def text_of(path: Path, found: Findings) -> str | None:
    """The text of a policy file; None where it cannot be read, which goes to `found`."""
    text = document.text_of(path, SIZE_MOST)
    if isinstance(text, str):
        return text
    _say(text, found)
    return None


def read_tree(text: str, name: str, found: Findings) -> Node | None:
    """The tree of one policy file, or None where there is none to speak of. Problems go to `found`.

    >>> findings = Findings()
    >>> read_tree("a: {b: 010}", "x.yaml", findings).entries["a"][1].entries["b"][1].text
    '010'
    """
    source = Source(name, tuple(text.splitlines()))
    root, faults = document.read(text, source, nodes=NODES_MOST, depth=DEPTH_MOST, never="${")
    for fault in faults:
        _say(fault, found)
    if root is None and not faults:
        found.add("HG105", Mark(source), "the file is empty", advice="begin it with `headgate: v1`")
    return root


def _say(fault: Fault, found: Findings) -> None:
    number, message, advice = _SAID[fault.kind]
    detail = fault.detail.replace("tag:yaml.org,2002:", "!!") if fault.kind == "tag" else fault.detail
    message, advice = (text.format(detail=detail, first=fault.first) for text in (message, advice))
    if fault.kind == "syntax":
        advice = next((advice for part, advice in _ADVICE if part in detail), "")
    found.add(number, fault.mark, message, advice=advice)
