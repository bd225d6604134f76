"""Shapes: what may stand where, as values; and the reading of a tree by its shape.

Law: one description is read three times: to check a file, to write its JSON Schema, to write the reference. Reading
goes on after a fault, so that all of them are found at once; what is wrong is left out of what is read, and counts as
written, so that nothing is reported twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headgate.document import Branch, Broken, Mark, Node, Row, Scalar
from headgate.nearest import nearest
from headgate.policy.literals import Wrong
from headgate.policy.problem import Findings, is_hidden, shown
from headgate.policy.words import AMBIGUOUS


@dataclass(frozen=True, slots=True)
class Kind:
    """A form of scalar.

    `what` names it in a sentence (`a rate`), `form` says how it is written, `read` types it or raises `Wrong`,
    `number` is the problem of text that is none, `schema` its JSON Schema. Free `words` must be quoted where a
    YAML reader might take them for something else.
    """

    name: str
    what: str
    form: str
    number: str
    schema: Mapping[str, Any]
    read: Callable[[str], Any]
    words: bool = False


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar of one kind; with `unlimited` that word may stand instead."""

    kind: Kind
    unlimited: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """One of a few words, each with its meaning."""

    what: str
    words: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record: its shape, what it means, whether it must be there, and what holds where it is not."""

    shape: Shape
    doc: str
    required: bool = False
    default: str = ""


@dataclass(frozen=True, slots=True)
class OneOf:
    """Of these fields exactly one (or, `optional`, at most one) is written. `what` names them together."""

    what: str
    names: tuple[str, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Others:
    """Fields whose names the author chooses, beside the fixed ones. `what` says what they are."""

    what: str
    key: Kind
    shape: Shape


@dataclass(frozen=True, slots=True)
class Record:
    """A map with known fields. `what` names one in a sentence; `hints` answer for names often tried in vain."""

    what: str
    fields: Mapping[str, Field]
    one_of: OneOf | None = None
    others: Others | None = None
    hints: Mapping[str, str] = field(default_factory=dict)
    least: int = 0


@dataclass(frozen=True, slots=True)
class Named:
    """A map by names that the author chooses: a table. `what` names one row of it."""

    what: str
    key: Kind
    item: Shape


@dataclass(frozen=True, slots=True)
class Many:
    """A list; `alone`: one item may stand without brackets."""

    item: Shape
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Either:
    """A scalar or a map, told apart by their form."""

    scalar: Shape
    branch: Shape


Shape = Leaf | Words | Record | Named | Many | Either


@dataclass(slots=True)
class Found:
    """What was read of one node: its value, its place, and for maps and lists what stands below.

    `value`: of a leaf what its kind makes of it, `None` for `unlimited`. `fields` hold None for what was written
    and is wrong; `names` say where each field's name stands.
    """

    mark: Mark
    value: Any = None
    text: str = ""
    fields: dict[str, Found | None] = field(default_factory=dict)
    names: dict[str, Mark] = field(default_factory=dict)
    items: list[Found] = field(default_factory=list)
    form: str = "leaf"

    def has(self, name: str) -> bool:
        """Whether the field is written, be it right or wrong."""
        return name in self.fields

    def get(self, name: str) -> Found | None:
        """The field, if it is written and right."""
        return self.fields.get(name)

    def value_of(self, name: str, default: Any = None) -> Any:
        """The value of a leaf below."""
        found = self.fields.get(name)
        return default if found is None else found.value

    def rows(self, name: str) -> Iterator[tuple[str, Found]]:
        """What is right of a table or record below, by name."""
        below = self.fields.get(name)
        return iter(()) if below is None else below.right()

    def right(self) -> Iterator[tuple[str, Found]]:
        """The fields that are right."""
        return ((name, found) for name, found in self.fields.items() if found is not None)

    def each(self, name: str) -> list[Found]:
        """The items of a list below."""
        found = self.fields.get(name)
        return [] if found is None else found.items


def read(shape: Shape, node: Node, path: str, out: Findings, at: Mark | None = None) -> Found | None:
    """What a node holds by its shape, or None where it is wrong. `at`: where to say that something is missing."""
    if isinstance(node, Broken):
        return None
    match shape:
        case Either():
            return read(shape.branch if isinstance(node, Branch) else shape.scalar, node, path, out, at)
        case Many():
            return _many(shape, node, path, out)
        case Record() | Named():
            if not isinstance(node, Branch):
                return _misshaped(shape, node, path, out)
            if isinstance(shape, Record):
                return _record(shape, node, path, out, at or node.mark)
            return _named(shape, node, path, out)
        case Leaf() | Words():
            if not isinstance(node, Scalar):
                return _misshaped(shape, node, path, out)
            return _leaf(shape, node, out) if isinstance(shape, Leaf) else _word(shape, node, out)


def _leaf(shape: Leaf, node: Scalar, out: Findings) -> Found | None:
    kind = shape.kind
    if shape.unlimited and node.text == "unlimited":
        return Found(node.mark, None, node.text)
    hidden = is_hidden(node)
    if kind.words and node.plain and AMBIGUOUS.fullmatch(node.text):
        said = f"`{shown(node)}` needs quotes: this is {kind.what}"
        out.add(
            "HG310", node.mark, said if node.text else f"nothing stands here: {kind.what} is needed",
            suggestion="" if hidden or not node.text else f'"{node.text}"',
            advice="without quotes some YAML readers take it for a number, a date, a truth value or nothing",
        )  # fmt: skip
        return None
    try:
        return Found(node.mark, kind.read(node.text), node.text)
    except Wrong as wrong:
        why = f": {wrong.why}" if wrong.why and not hidden else ""
        said = (
            f"`{shown(node)}` is not {kind.what}{why}"
            if node.text.strip()
            else f"nothing stands here: {kind.what} is needed"
        )
        out.add(
            wrong.number or kind.number, node.mark, said,
            suggestion="" if hidden else wrong.suggestion, advice=f"{kind.what} is {kind.form}",
        )  # fmt: skip
        return None


def _word(shape: Words, node: Scalar, out: Findings) -> Found | None:
    if node.text in shape.words:
        return Found(node.mark, node.text, node.text)
    out.add(
        "HG204", node.mark, f"`{shown(node)}` is not {shape.what}",
        suggestion="" if is_hidden(node) else nearest(node.text, shape.words),
        advice="; ".join(f"`{word}`: {meaning}" for word, meaning in shape.words.items()),
    )  # fmt: skip
    return None


def _many(shape: Many, node: Node, path: str, out: Findings) -> Found | None:
    if not isinstance(node, Row):
        if not shape.alone:
            return _misshaped(shape, node, path, out)
        only = read(shape.item, node, path, out)
        return None if only is None else Found(node.mark, items=[only], form="list")
    found = Found(node.mark, form="list")
    said: dict[str, Mark] = {}
    for number, item in enumerate(node.items):
        got = read(shape.item, item, f"{path}[{number}]", out)
        if got is None:
            continue
        if got.form == "leaf" and got.text in said:
            out.add("HG213", got.mark, f"`{got.text}` stands in the list twice", advice="delete one of them")
            continue
        said[got.text] = got.mark
        found.items.append(got)
    if not node.items:
        out.add("HG209", node.mark, f"{_called(path)} is an empty list", advice="fill it or delete the field")
        return None
    return found


def _named(shape: Named, node: Branch, path: str, out: Findings) -> Found | None:
    found = Found(node.mark, form="map")
    for name, (key, below) in node.entries.items():
        found.names[name] = key.mark
        found.fields[name] = None
        if _leaf(Leaf(shape.key), replace(key, plain=True), out) is not None:
            found.fields[name] = read(shape.item, below, f"{path}.{name}", out, key.mark)
    if not node.entries:
        out.add("HG209", node.mark, f"{_called(path)} is empty", advice="fill it or delete the field")
        return None
    return found


def _record(shape: Record, node: Branch, path: str, out: Findings, at: Mark) -> Found | None:
    found = Found(node.mark, form="map")
    for name, (key, below) in node.entries.items():
        found.names[name] = key.mark
        known = shape.fields.get(name)
        if known is not None:
            found.fields[name] = read(known.shape, below, _below(path, name), out, key.mark)
        elif shape.others is not None:
            found.fields[name] = None
            if _leaf(Leaf(shape.others.key), replace(key, plain=True), out) is not None:
                found.fields[name] = read(shape.others.shape, below, _below(path, name), out, key.mark)
        else:
            _unknown(shape, key, path, out)
    for name, known in shape.fields.items() if not node.partial else ():
        if known.required and name not in found.fields:
            meant = nearest(name, [other for other in node.entries if other not in shape.fields])
            if not meant:  # a misspelt field is reported already, with the right name
                out.add("HG202", at, f"{_called(path)} has no `{name}`", advice=f"`{name}`: {known.doc}")
    if shape.one_of is not None and not node.partial:
        _one_of(shape.one_of, found, path, out, at, node.entries)
    if len(found.fields) < shape.least and len(node.entries) < shape.least:
        out.add("HG209", node.mark, f"{_called(path)} is empty", advice="fill it or delete the field")
        return None
    return found


def _one_of(rule: OneOf, found: Found, path: str, out: Findings, at: Mark, written: Iterable[str]) -> None:
    there = [name for name in found.fields if name in rule.names]
    listed = ", ".join(f"`{name}`" for name in rule.names)
    if not there and not rule.optional:
        if any(nearest(name, rule.names) for name in written if name not in found.fields):
            return
        out.add("HG205", at, f"{_called(path)} has no {rule.what}", advice=f"write one of {listed}")
    for second in there[1:]:
        out.add(
            "HG206", found.names[second],
            f"{_called(path)} has `{there[0]}` and `{second}`: one {rule.what} is all it can have",
            advice=f"keep one of {listed}",
        )  # fmt: skip


def _unknown(shape: Record, key: Scalar, path: str, out: Findings) -> None:
    hint = shape.hints.get(key.text, "")
    meant = "" if hint else nearest(key.text, shape.fields)
    known = ", ".join(f"`{name}`" for name in shape.fields)
    out.add(
        "HG201", key.mark, f"{shape.what} has no field `{shown(key)}`",
        suggestion=meant, advice=hint or ("" if meant else f"the fields are {known}"),
    )  # fmt: skip


def _misshaped(shape: Shape, node: Node, path: str, out: Findings) -> Found | None:
    stands = {Branch: "a map", Row: "a list"}.get(type(node), "")
    if isinstance(node, Scalar):
        stands = f"`{shown(node)}`" if node.text else "empty"
    one = isinstance(shape, Many) and isinstance(node, Scalar) and node.text and not is_hidden(node)
    out.add(
        "HG203", node.mark, f"{_called(path)} is {stands}, and should be {described(shape)}",
        suggestion=f"[{node.text}]" if one and isinstance(node, Scalar) else "",
    )  # fmt: skip
    return None


def described(shape: Shape) -> str:
    """A shape in a few words: `a map (one limit by each name)`, `a list of …`, `a rate`."""
    match shape:
        case Leaf():
            return f"{shape.kind.what}: {shape.kind.form}" + (", or `unlimited`" if shape.unlimited else "")
        case Words():
            return "one of " + ", ".join(f"`{word}`" for word in shape.words)
        case Record():
            names = [f"`{name}`" for name in shape.fields]
            return (
                f"a map with fields such as {', '.join(names[:4])}" if names[4:] else f"a map with {', '.join(names)}"
            )
        case Named():
            return f"a map: by its name, {shape.what}"
        case Many():
            return f"a list, in which each item is {described(shape.item)}"
        case Either():
            return f"{described(shape.scalar)}; or {described(shape.branch)}"


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _called(path: str) -> str:
    return f"`{path}`" if path else "the policy"
