"""YAML, read with positions and nothing else: maps, lists and the raw text of scalars.

Law: no scalar is typed here, nothing is constructed, resolved, included, interpolated or imported; so nothing in a
file can do anything. Anchors, aliases, tags, merge keys, directives and duplicate fields are refused, each with its
place. The tree is built from the parser's events with a stack of our own: no depth of nesting can overflow it, and
reading stops at `DEPTH_MOST` levels, `NODES_MOST` nodes and `SIZE_MOST` bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from headgate.policy.problem import SECRET_NAME, Findings, Mark, Source

SIZE_MOST = 1 << 20
"""Bytes of the longest file. A policy of a thousand limits has about a tenth of it."""

NODES_MOST = 20_000
"""Fields and values of the largest file: reading them takes well under a tenth of a second."""

DEPTH_MOST = 16
"""Levels of the deepest nesting. The language needs six."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """Raw text with its place. `plain`: it stood without quotes, so that other readers may take it for a number."""

    text: str
    mark: Mark
    plain: bool = True

    @property
    def shown(self) -> str:
        """The text as a message may quote it; a variable whose name looks like a secret's keeps its value."""
        if self.mark.source.variable and SECRET_NAME.search(self.mark.source.name):
            return "(hidden)"
        return self.text if len(self.text) <= 60 else self.text[:59] + "…"


@dataclass(slots=True)
class Branch:
    """A map: by the field's name, the name with its place and the value.

    `partial`: something of it was refused, so that what is missing need not be complained of.
    """

    mark: Mark
    entries: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)
    partial: bool = False


@dataclass(slots=True)
class Row:
    """A list."""

    mark: Mark
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that is reported already; whoever reads on takes it for right."""

    mark: Mark


Node = Scalar | Branch | Row | Broken

# The parser of libyaml where PyYAML was built with it: the same events, ten times as fast.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _TooMuch(Exception):
    """Reading stops here; the reason is reported."""


def read_tree(text: str, name: str, found: Findings) -> Node | None:
    """The tree of one YAML document, or None where there is none to speak of. Problems go to `found`.

    >>> findings = Findings()
    >>> read_tree("a: {b: 010}", "x.yaml", findings).entries["a"][1].entries["b"][1].text
    '010'
    """
    source = Source(name, tuple(text.splitlines()))
    try:
        return _Builder(source, found).build(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as fault:
        _say_syntax(fault, source, found)
    except yaml.YAMLError as fault:
        # A reader's error: a control character, or half of a surrogate pair.
        found.add("HG104", Mark(source), f"this is no YAML: {str(fault).splitlines()[0]}")
    except _TooMuch:
        pass
    return None


@dataclass(slots=True)
class _Builder:
    source: Source
    found: Findings
    stack: list[Branch | Row] = field(default_factory=list)
    keys: list[Scalar | Broken | None] = field(default_factory=list)
    root: Node | None = None
    nodes: int = 0

    def build(self, events: Iterator[Any]) -> Node | None:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._document(event)
            elif isinstance(event, yaml.NodeEvent):
                self._node(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self.stack.pop()
                self.keys.pop()
        if self.root is None:
            self.found.add("HG105", Mark(self.source), "the file is empty", advice="begin it with `headgate: v1`")
        return self.root

    def _document(self, event: Any) -> None:
        mark = self._mark(event)
        if self.root is not None:
            self.found.add("HG113", mark, "a second document begins here", advice="keep one policy in a file")
            raise _TooMuch
        if event.version or event.tags:
            self.found.add("HG113", Mark(self.source), "YAML directives are not read", advice="delete the `%` line")

    def _node(self, event: Any) -> None:
        mark = self._mark(event)
        self.nodes += 1
        if self.nodes > NODES_MOST:
            self.found.add("HG112", mark, f"the file has more than {NODES_MOST:,} fields and values")
            raise _TooMuch
        if event.anchor is not None:
            self._refuse_anchor(event, mark)
        if isinstance(event, yaml.AliasEvent):
            return self._put(Broken(mark))
        if event.tag is not None:
            self._refuse_tag(event, mark)
        if isinstance(event, yaml.ScalarEvent):
            return self._put(self._scalar(event, mark))
        branch = Branch(mark) if isinstance(event, yaml.MappingStartEvent) else Row(mark)
        self._put(branch if event.tag is None else Broken(mark))
        self.stack.append(branch)
        self.keys.append(None)
        if len(self.stack) > DEPTH_MOST:
            self.found.add("HG111", mark, f"nested more than {DEPTH_MOST} levels deep")
            raise _TooMuch
        return None

    def _scalar(self, event: Any, mark: Mark) -> Scalar | Broken:
        if "${" in event.value:
            self.found.add(
                "HG110", mark, "`${…}` is not filled in: a policy is read as it stands",
                advice="set the field from the environment instead, by its path: HEADGATE__LIMITS__RPM__RATE=60/min",
            )  # fmt: skip
            return Broken(mark)
        return Scalar(event.value, mark, plain=not event.style)

    def _put(self, node: Node) -> None:
        if not self.stack:
            self.root = node
        elif isinstance(top := self.stack[-1], Row):
            top.items.append(node)
        elif self.keys[-1] is None:
            self.keys[-1] = self._key(node)
        else:
            key, self.keys[-1] = self.keys[-1], None
            if isinstance(key, Scalar):
                top.entries[key.text] = key, node
            else:
                top.partial = True

    def _key(self, node: Node) -> Scalar | Broken:
        """A field's name; a Broken one (reported) drops what stands under it."""
        if isinstance(node, Broken):
            return node
        if not isinstance(node, Scalar):
            self.found.add("HG203", node.mark, "a field's name is a word, not a map or list")
            return Broken(node.mark)
        top = self.stack[-1]
        assert isinstance(top, Branch), "only maps have fields"
        if node.text == "<<":
            self.found.add(
                "HG109", node.mark, "merge keys are refused", advice="write the fields out where they hold"
            )
            return Broken(node.mark)
        if node.text in top.entries:
            first = top.entries[node.text][0].mark
            self.found.add("HG106", node.mark, f"`{node.shown}` stands here twice, first in line {first.line}")
            return Broken(node.mark)
        return node

    def _refuse_anchor(self, event: Any, mark: Mark) -> None:
        alias = isinstance(event, yaml.AliasEvent)
        sign = "*" if alias else "&"
        what = "alias" if alias else "anchor"
        quote = f'; if you mean the text, put it in quotes: "{sign}{event.anchor}"' if alias else ""
        self.found.add(
            "HG107", mark, f"`{sign}{event.anchor}` is a YAML {what}, and those are refused",
            advice=f"write the value out where it holds{quote}",
        )  # fmt: skip

    def _refuse_tag(self, event: Any, mark: Mark) -> None:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        self.found.add("HG108", mark, f"`{tag}` is a YAML tag, and those are refused", advice="delete the tag")

    def _mark(self, event: Any) -> Mark:
        start, end = event.start_mark, event.end_mark
        width = end.column - start.column if end.line == start.line else 1
        return Mark(self.source, start.line + 1, start.column + 1, max(1, width))


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
    ("nesting depth", ""),
    ("undefined alias", "aliases are refused; text that begins with `*` needs quotes"),
)


def _say_syntax(fault: yaml.MarkedYAMLError, source: Source, found: Findings) -> None:
    at = fault.problem_mark or fault.context_mark
    mark = Mark(source, at.line + 1, at.column + 1) if at else Mark(source)
    problem = fault.problem or "it cannot be read"
    if "nesting depth" in problem:
        found.add("HG111", mark, f"nested more than {DEPTH_MOST} levels deep")
        return
    advice = next((advice for part, advice in _ADVICE if part in problem), "")
    if fault.context_mark and fault.context and fault.context_mark.line != getattr(at, "line", -1):
        problem += f" ({fault.context} that began in line {fault.context_mark.line + 1})"
    found.add("HG104", mark, f"this is no YAML: {problem}", advice=advice)
