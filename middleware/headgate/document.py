"""A YAML document, read with positions and nothing else: maps, lists and the raw text of scalars.

Law: no scalar is typed here, nothing is constructed, resolved, included, filled in or imported; so nothing in a file
can do anything. Whatever makes YAML say more than it shows is refused: anchors, aliases, tags, merge keys,
directives, duplicate fields, a second document. A fault is a value with its kind and its place; whoever asked has the
words for it, and reading goes on after it where it can. The tree is built from the parser's events with a stack of
our own: no depth of nesting can overflow it, and reading stops at the bounds that it is given.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

SHOWN_MOST = 60
"""Characters of a scalar that a message quotes."""

# The parser of libyaml where PyYAML was built with it: the same events, ten times as fast.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Kind = Literal[
    # of a file
    "missing", "irregular", "unreadable", "large", "encoding",
    # after which reading stops
    "syntax", "second", "nodes", "depth",
    # after which it goes on
    "directive", "anchor", "alias", "tag", "merge", "name", "twice", "placeholder",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """Where text came from: a file with its lines, or (`variable`) one variable of the environment.

    `hidden`: words of a variable's value that no message may quote, since its name looks like a secret's.
    """

    name: str
    lines: tuple[str, ...] = ()
    variable: bool = False
    hidden: tuple[str, ...] = ()


class Mark(NamedTuple):
    """A place in a source: line and column count from 1; `width` characters are underlined."""

    source: Source
    line: int = 1
    column: int = 1
    width: int = 1

    def __str__(self) -> str:
        return self.source.name if self.source.variable else f"{self.source.name}:{self.line}:{self.column}"


class Fault(NamedTuple):
    """One thing that is refused.

    `detail`: of an anchor, alias, tag or field its name, of bad text what the parser says, of an unreadable file what
    the system says, of bytes that are no UTF-8 the first. `first`: of a field that stands twice the line where it
    stands first.
    """

    kind: Kind
    mark: Mark
    detail: str = ""
    first: int = 0


# Nodes are flat, and no mark is made before it is asked for: a file of 50,000 keys has half a million of them, and
# the garbage collector walks over each object.
@dataclass(slots=True)
class Placed:
    """What stands somewhere: at `mark`, and up to (`end_line`, `end_column`), which lies behind its last character.

    All count from 1. The end of a map or list without brackets lies behind the comments that follow it.
    """

    source: Source
    line: int = 1
    column: int = 1
    width: int = 1
    end_line: int = 1
    end_column: int = 1

    @property
    def mark(self) -> Mark:
        """Where it begins."""
        return Mark(self.source, self.line, self.column, self.width)


@dataclass(slots=True)
class Scalar(Placed):
    """Raw text. `plain`: it stood without quotes, so that other readers may take it for a number."""

    text: str = ""
    plain: bool = True

    @property
    def short(self) -> str:
        """The text as a message quotes it."""
        return shortened(self.text)


@dataclass(slots=True)
class Branch(Placed):
    """A map: by the field's name, the name with its place and the value.

    `flow`: it stands in braces. `partial`: something of it was refused, so that what is missing need not be
    complained of.
    """

    entries: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)
    flow: bool = False
    partial: bool = False


@dataclass(slots=True)
class Row(Placed):
    """A list. `flow`: it stands in brackets."""

    items: list[Node] = field(default_factory=list)
    flow: bool = False


@dataclass(slots=True)
class Broken(Placed):
    """Something that is reported already; whoever reads on takes it for right."""


Node = Scalar | Branch | Row | Broken


class Document(NamedTuple):
    """What was read. `root` is None where reading stopped and, without any fault, where there is nothing."""

    root: Node | None
    faults: tuple[Fault, ...]


def text_of(path: Path, most: int) -> str | Fault:
    """The text of a regular file of at most so many bytes. A mark of the byte order at its beginning is left out."""
    mark = Mark(Source(str(path)))
    try:
        # Looked at before it is opened, which would wait for a pipe's other end.
        if not stat.S_ISREG(path.stat().st_mode):
            return Fault("irregular", mark)
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except FileNotFoundError:
        return Fault("missing", mark)
    except (OSError, ValueError) as fault:
        return Fault("unreadable", mark, getattr(fault, "strerror", None) or str(fault))
    if len(raw) > most:
        return Fault("large", mark)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = raw.count(b"\n", 0, fault.start) + 1
        return Fault("encoding", mark._replace(line=line), f"0x{raw[fault.start]:02x}")


def read(text: str, source: Source, *, nodes: int, depth: int, never: str = "") -> Document:
    """One YAML document. Never raises.

    At most `nodes` fields and values are read, nested at most `depth` levels deep. `never`: characters that no scalar
    may hold (a `placeholder`), "" for none.

    >>> document = read("a: {b: 010}\\na: *x", Source("x.yaml"), nodes=100, depth=5)
    >>> document.root.entries["a"][1].entries["b"][1].text
    '010'
    >>> [(fault.kind, str(fault.mark), fault.detail) for fault in document.faults]
    [('twice', 'x.yaml:2:1', 'a'), ('alias', 'x.yaml:2:4', 'x')]
    """
    reading = _Reading(source, nodes, depth, never)
    try:
        reading.run(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as fault:
        reading.faults.append(_syntax(fault, source))
    except (yaml.YAMLError, UnicodeEncodeError) as fault:
        # A reader's error: a control character, or half of a surrogate pair.
        reading.faults.append(Fault("syntax", Mark(source), str(fault).splitlines()[0]))
    except _Stopped:
        pass
    else:
        return Document(reading.root, tuple(reading.faults))
    return Document(None, tuple(reading.faults))


def shortened(text: str) -> str:
    """The text as a message quotes it."""
    return text if len(text) <= SHOWN_MOST else text[: SHOWN_MOST - 1] + "…"


class _Stopped(Exception):
    """Reading stops here; the reason is among the faults."""


@dataclass(slots=True)
class _Reading:
    source: Source
    nodes_most: int
    depth_most: int
    never: str
    faults: list[Fault] = field(default_factory=list)
    # What is open: the map or list, and of a map the name whose value comes next.
    stack: list[Branch | Row] = field(default_factory=list)
    names: list[Scalar | Broken | None] = field(default_factory=list)
    root: Node | None = None
    nodes: int = 0

    def run(self, events: Iterator[Any]) -> None:
        for event in events:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._open(event)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._close(event)
            elif kind is yaml.AliasEvent:
                self._count(event)
                self._fault("alias", event, event.anchor)
                self._put(Broken(*self._mark(event)))
            elif kind is yaml.DocumentStartEvent:
                self._document(event)

    def _document(self, event: Any) -> None:
        if self.root is not None:
            self._fault("second", event)
            raise _Stopped
        if event.version or event.tags:
            self.faults.append(Fault("directive", Mark(self.source)))

    def _scalar(self, event: Any) -> None:
        self._count(event)
        begin, end, text = event.start_mark, event.end_mark, event.value
        width = end.column - begin.column if end.line == begin.line else 1
        place = self.source, begin.line + 1, begin.column + 1, width or 1, end.line + 1, end.column + 1
        if event.anchor is not None or event.tag is not None:
            self._refuse(event)
        if self.never and self.never in text:
            self._fault("placeholder", event)
            self._put(Broken(*place))
        else:
            self._put(Scalar(*place, text, not event.style))

    def _open(self, event: Any) -> None:
        self._count(event)
        mark, flow = self._mark(event), bool(event.flow_style)
        node: Branch | Row
        node = Branch(*mark, flow=flow) if type(event) is yaml.MappingStartEvent else Row(*mark, flow=flow)
        if event.anchor is not None or event.tag is not None:
            self._refuse(event)
        self._put(node if event.tag is None else Broken(*mark))
        self.stack.append(node)
        self.names.append(None)
        if len(self.stack) > self.depth_most:
            self._fault("depth", event)
            raise _Stopped

    def _close(self, event: Any) -> None:
        node, end = self.stack.pop(), event.end_mark
        node.end_line, node.end_column = end.line + 1, end.column + 1
        self.names.pop()

    def _put(self, node: Node) -> None:
        if not self.stack:
            self.root = node
        elif isinstance(top := self.stack[-1], Row):
            top.items.append(node)
        elif (name := self.names[-1]) is None:
            self.names[-1] = self._name(top, node)
        else:
            self.names[-1] = None
            if isinstance(name, Scalar):
                top.entries[name.text] = name, node
            else:
                top.partial = True

    def _name(self, top: Branch, node: Node) -> Scalar | Broken:
        """A field's name; a Broken one (reported) drops what stands under it."""
        if isinstance(node, Broken):
            return node
        if not isinstance(node, Scalar):
            self.faults.append(Fault("name", node.mark))
        elif node.text == "<<":
            self.faults.append(Fault("merge", node.mark))
        elif node.text in top.entries:
            self.faults.append(Fault("twice", node.mark, node.short, top.entries[node.text][0].line))
        else:
            return node
        return Broken(*node.mark)

    def _count(self, event: Any) -> None:
        self.nodes += 1
        if self.nodes > self.nodes_most:
            self._fault("nodes", event)
            raise _Stopped

    def _refuse(self, event: Any) -> None:
        if event.anchor is not None:
            self._fault("anchor", event, event.anchor)
        if event.tag is not None:
            self._fault("tag", event, event.tag)

    def _fault(self, kind: Kind, event: Any, detail: str = "") -> None:
        self.faults.append(Fault(kind, self._mark(event), detail))

    def _mark(self, event: Any) -> Mark:
        begin, end = event.start_mark, event.end_mark
        width = end.column - begin.column if end.line == begin.line else 1
        return Mark(self.source, begin.line + 1, begin.column + 1, max(1, width))


def _syntax(fault: yaml.MarkedYAMLError, source: Source) -> Fault:
    at, begun = fault.problem_mark or fault.context_mark, fault.context_mark
    mark = Mark(source, at.line + 1, at.column + 1) if at else Mark(source)
    problem = fault.problem or "it cannot be read"
    if "nesting depth" in problem:  # the parser's own bound, far above ours
        return Fault("depth", mark)
    if begun and fault.context and begun.line != getattr(at, "line", -1):
        problem += f" ({fault.context} that began in line {begun.line + 1})"
    return Fault("syntax", mark, problem)
