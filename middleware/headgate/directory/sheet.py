"""A file of keys as text and as a tree: how much of it is read, and what is said of one that cannot be.

Law: every fault is told at once, each as `file:line: what`, in the order of the lines. What makes a text one of keys
is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from headgate import document
from headgate.document import Branch, Kind, Node, Source
from headgate.errors import IdentityError

SIZE_MOST = 16 * 1024 * 1024
"""Bytes of the largest file that is read: about 100,000 keys. More than that belongs behind `python:`."""

NODES_MOST = 2_000_000
"""Fields and values of the largest file: a file of that size has fewer, unless it is one of something else."""

DEPTH_MOST = 8
"""Levels of nesting that are read: a file of keys has four."""

FAULTS_SHOWN = 20
"""Faults told of one file; a file with more is not one of keys."""

Fault = tuple[int, str]
"""The line, from 1, and what is wrong there."""

_SAID: Mapping[Kind, str] = {
    "missing": "no such file; `headgate init` makes one, `headgate key new` fills it",
    "irregular": "cannot be read: it is no regular file",
    "unreadable": "cannot be read: {detail}",
    "large": f"is larger than {SIZE_MOST // 2**20} MiB; keep that many keys behind `python:`",
    "encoding": "holds bytes that are no UTF-8",
    "syntax": "is no YAML: {detail}",
    "second": "a second document begins; there must be one",
    "nodes": f"has more than {NODES_MOST:,} fields and values",
    "depth": f"nested deeper than {DEPTH_MOST} levels",
    "directive": "a YAML directive (`%`): write the file without",
    "anchor": "the anchor `&{detail}`: write values out where they are meant",
    "alias": "the alias `*{detail}`: write the value out",
    "tag": "the tag `{detail}`: values are written without tags",
    "merge": "the merge key `<<`: write the fields out",
    "name": "a name is a text, not a list or a map",
    "twice": "`{detail}` stands here twice; the first is in line {first}",
}


def text_of(path: Path) -> str:
    """The text of a file of keys. Raises IdentityError for one that is missing, no file, too large, or no text."""
    text = document.text_of(path, SIZE_MOST)
    if isinstance(text, str):
        return text
    place = text.mark.source.name + (f":{text.mark.line}" if text.kind == "encoding" else "")
    raise IdentityError(f"{place}: {_told(text)}")


def read(text: str, name: str) -> Node:
    """The one value of a file that is called `name`. Raises IdentityError with every fault that was found.

    >>> read("a: 1\\na: 2", "keys.yaml")
    Traceback (most recent call last):
    ...
    headgate.errors.IdentityError: keys.yaml:2: `a` stands here twice; the first is in line 1
    """
    source = Source(name)
    root, faults = document.read(text, source, nodes=NODES_MOST, depth=DEPTH_MOST)
    if faults:
        raise refusal([(fault.mark.line, _told(fault)) for fault in faults], name)
    return Branch(source) if root is None else root


def refusal(faults: Sequence[Fault], name: str) -> IdentityError:
    """The error that tells the faults of a file."""
    lines = [f"{name}:{line}: {what}" for line, what in sorted(faults, key=lambda fault: fault[0])]
    if len(lines) > FAULTS_SHOWN:
        lines[FAULTS_SHOWN:] = [f"{name}: and {len(lines) - FAULTS_SHOWN} more"]
    return IdentityError("\n".join(lines))


def _told(fault: document.Fault) -> str:
    return _SAID[fault.kind].format(detail=fault.detail, first=fault.first)
