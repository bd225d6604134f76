"""A small YAML document as plain values with positions: what a file of keys is read by.

Law: what is read is what stands there. Every scalar is the text that was written (`no` is a plan named no,
`2026-01-31` a text), and whatever makes YAML say more than it shows is refused: aliases, anchors, tags, duplicate
names, a second document. Faults are gathered and told at once, each with its line. It knows nothing of keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

DEEPEST = 8
"""Levels of nesting that are read: a file of keys has four."""

LARGEST = 16 * 1024 * 1024
"""Bytes of the largest file that is read: about 100,000 keys. More than that belongs behind `python:`."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(ValueError):
    """The text is no document of this kind; `faults` are (line, what is wrong), lines counted from 1."""

    def __init__(self, faults: list[tuple[int, str]]) -> None:
        super().__init__("; ".join(f"line {line}: {what}" for line, what in faults))
        self.faults = faults


@dataclass(slots=True)
class Node:
    """One value: a text, a map or a list, with the place where it stands.

    `line` and `column` count from 0, as do `end_line` and `end_column`, which lie behind its last character.
    `flow`: written with braces, brackets or quotes rather than by indentation.
    """

    line: int
    column: int
    end_line: int = 0
    end_column: int = 0
    flow: bool = False
    text: str | None = None
    entries: dict[str, tuple[Node, Node]] = field(default_factory=dict)
    items: list[Node] | None = None

    @property
    def kind(self) -> str:
        """`text`, `list` or `map`."""
        return "text" if self.text is not None else "list" if self.items is not None else "map"

    @property
    def empty(self) -> bool:
        """Whether nothing was written: `orgs:` and no more."""
        return self.text is not None and not self.flow and self.text in {"", "~", "null"}

    def last_line(self) -> int:
        """The last line on which something of it stands; that of a block's own end lies past its comments."""
        if self.text is not None or self.flow:
            return self.end_line
        inner = [pair[1] for pair in self.entries.values()] + (self.items or [])
        return max([self.line, *(node.last_line() for node in inner)])


def read(text: str) -> Node:
    """The document's one value. Raises Unreadable with every fault that was found.

    >>> node = read("orgs:\\n  acme: {plan: no}\\n")
    >>> node.entries["orgs"][1].entries["acme"][1].entries["plan"][1].text
    'no'
    >>> try:
    ...     read("a: 1\\na: 2")
    ... except Unreadable as fault:
    ...     print(fault)
    line 2: `a` stands here twice; the first is in line 1
    """
    faults: list[tuple[int, str]] = []
    try:
        document = _document(yaml.parse(text, Loader=_Loader), faults)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        raise Unreadable([*faults, ((mark.line if mark else 0) + 1, str(fault.problem or "is no YAML"))]) from None
    except yaml.YAMLError as fault:
        raise Unreadable([*faults, (1, f"is no YAML: {str(fault).splitlines()[0]}")]) from None
    if faults:
        raise Unreadable(faults)
    return document


def _document(events: Iterator[Any], faults: list[tuple[int, str]]) -> Node:
    """Builds the tree from the parser's events with a stack of its own: no depth of nesting runs over ours."""
    root: Node | None = None
    open_: list[tuple[Node, Node | None]] = []
    documents = 0
    for event in events:
        begun, end = _marks(event)
        line = begun.line
        _refused(event, faults)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                faults.append((line + 1, "a second document begins; there must be one"))
                break
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if len(open_) >= DEEPEST:
                raise Unreadable([*faults, (line + 1, f"nested deeper than {DEEPEST} levels")])
            node = Node(line, begun.column, flow=bool(event.flow_style))
            node.items = [] if isinstance(event, yaml.SequenceStartEvent) else None
            open_.append((node, None))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            node, _ = open_.pop()
            node.end_line, node.end_column = end.line, end.column
            root = _placed(node, open_, faults) or root
        elif isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
            quoted = getattr(event, "style", None) in {"'", '"', "|", ">"}
            node = Node(line, begun.column, end.line, end.column, quoted, getattr(event, "value", ""))
            root = _placed(node, open_, faults) or root
    return root if root is not None else Node(0, 0)


def _marks(event: Any) -> tuple[Any, Any]:
    return event.start_mark, event.end_mark


def _refused(event: Any, faults: list[tuple[int, str]]) -> None:
    line = event.start_mark.line + 1
    if isinstance(event, yaml.AliasEvent):
        faults.append((line, f"the alias `*{event.anchor}`: write the value out"))
    elif getattr(event, "anchor", None):
        faults.append((line, f"the anchor `&{event.anchor}`: write values out where they are meant"))
    if getattr(event, "tag", None):
        faults.append((line, f"the tag `{event.tag}`: values are written without tags"))


def _placed(node: Node, open_: list[tuple[Node, Node | None]], faults: list[tuple[int, str]]) -> Node | None:
    """Puts a finished node where it belongs; answers it if it is the document's own."""
    if not open_:
        return node
    parent, name = open_[-1]
    if parent.items is not None:
        parent.items.append(node)
    elif name is None:
        if node.text is None:
            faults.append((node.line + 1, "a name is a text, not a list or a map"))
            node.text = f"\0{node.line}"
        open_[-1] = (parent, node)
    else:
        text = name.text or ""
        if text in parent.entries:
            first = parent.entries[text][0].line + 1
            faults.append((name.line + 1, f"`{text}` stands here twice; the first is in line {first}"))
        else:
            parent.entries[text] = (name, node)
        open_[-1] = (parent, None)
    return None
