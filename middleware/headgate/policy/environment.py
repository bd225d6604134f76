"""One field of the policy from the environment: `HEADGATE__LIMITS__RPM__RATE__FREE=5/min`.

Law: a variable is a path and a value, checked exactly as if the value stood in the file at that path; what is wrong
with it is said of the variable. Only names with two underscores are looked at: the rest of the environment is not
read, quoted or counted. A path leads to what is there already or to a field that the grammar knows: a misspelt name
never makes a new limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headgate.document import Branch, Broken, Mark, Node, Row, Scalar, Source
from headgate.nearest import nearest
from headgate.policy.kinds import PLAN_OR_DEFAULT
from headgate.policy.model import POLICY
from headgate.policy.problem import SECRET_NAME, Findings
from headgate.policy.shape import Either, Leaf, Many, Named, Record, Shape, Words

PREFIX = "HEADGATE__"

_EXAMPLE = "a path is written as in HEADGATE__LIMITS__RPM__RATE__FREE=5/min"


def apply_environment(tree: Branch, environ: Mapping[str, str], found: Findings) -> None:
    """Put every `HEADGATE__…` variable into the tree, in the order of their names."""
    for variable in sorted(environ):
        if variable.upper().startswith(PREFIX):
            _Path.of(variable, environ[variable], tree, found).put(POLICY, tree, 0)


@dataclass(frozen=True, slots=True)
class _Path:
    variable: str
    value: str
    parts: tuple[str, ...]
    plans: tuple[str, ...]
    found: Findings

    @classmethod
    def of(cls, variable: str, value: str, tree: Branch, found: Findings) -> _Path:
        row = tree.entries["plans"][1] if "plans" in tree.entries else None
        plans = [item.text for item in row.items if isinstance(item, Scalar)] if isinstance(row, Row) else []
        parts = tuple(variable[len(PREFIX) :].lower().split("__"))
        return cls(variable, value, parts, (*plans, "default"), found)

    @property
    def source(self) -> Source:
        secret = SECRET_NAME.search(self.variable) is not None
        hidden = tuple(word for part in self.value.split(",") if (word := part.strip())) if secret else ()
        shown = "(hidden)" if secret else self.value
        return Source(self.variable, (f"{self.variable}={shown}",), variable=True, hidden=hidden)

    def mark(self, at: int | None = None) -> Mark:
        """The place of the value, or of one part of the path."""
        if at is None:
            return Mark(
                self.source, 1, len(self.variable) + 2, max(1, len(self.source.lines[0]) - len(self.variable) - 1)
            )
        begin = len(PREFIX) + sum(len(part) + 2 for part in self.parts[:at]) + 1
        return Mark(self.source, 1, begin, max(1, len(self.parts[at])))

    def put(self, shape: Shape, node: Node | None, at: int) -> Node | None:
        """The node with the value put in at the path's rest; None where that leads nowhere (which is reported)."""
        if isinstance(node, Broken):
            return node
        if at == len(self.parts):
            return self._end(shape.scalar if isinstance(shape, Either) else shape, at)
        if isinstance(shape, Either):
            if isinstance(node, Scalar):
                above = PREFIX + "__".join(self.parts[:at]).upper()
                self._nowhere(
                    at, f"`{self._so_far(at)}` is one value, and has nothing below it",
                    advice=f"set {above}, or write the values by plan in the file",
                )  # fmt: skip
                return None
            return self._below(shape.branch, node, at)
        return self._below(shape, node, at)

    def _below(self, shape: Shape, node: Node | None, at: int) -> Node | None:
        if isinstance(shape, Many):
            return self._item(shape, node, at)
        if isinstance(shape, Record | Named):
            return self._field(shape, node, at)
        self._nowhere(at, f"`{self._so_far(at)}` has nothing below it")
        return None

    def _field(self, shape: Record | Named, node: Node | None, at: int) -> Node | None:
        branch = node if isinstance(node, Branch) else Branch(*self.mark(at))
        known = list(branch.entries)
        if isinstance(shape, Record):
            known += shape.fields
        elif shape.key is PLAN_OR_DEFAULT:
            known += self.plans
        name = self._meant(known, at)
        if name is None:
            return None
        key, below = branch.entries.get(name, (Scalar(*self.mark(at), text=name, plain=False), None))
        put = self.put(_under(shape, name), below, at + 1)
        if put is not None:
            branch.entries[name] = key, put
            return branch
        return None

    def _meant(self, known: Iterable[str], at: int) -> str | None:
        """The one known name that a part of the path stands for: case does not count, `-` is written `_`."""
        part = self.parts[at]
        fits = {name for name in known if name.lower().replace("-", "_") == part.replace("-", "_")}
        if len(fits) == 1:
            return fits.pop()
        if fits:
            self._nowhere(at, f"`{part}` may be {' or '.join(sorted(f'`{name}`' for name in fits))}", known=())
            return None
        where = f"in `{self._so_far(at)}`" if at else "in a policy"
        self._nowhere(at, f"there is no `{part}` {where}", known=known)
        return None

    def _item(self, shape: Many, node: Node | None, at: int) -> Node | None:
        items = node.items if isinstance(node, Row) else []
        part = self.parts[at]
        if not part.isdecimal() or int(part[:6]) >= len(items):
            self._nowhere(at, f"`{self._so_far(at)}` is a list of {len(items)}, counted from 0")
            return None
        put = self.put(shape.item, items[int(part)], at + 1)
        if put is not None and isinstance(node, Row):
            node.items[int(part)] = put
            return node
        return None

    def _end(self, shape: Shape, at: int) -> Node | None:
        mark = self.mark()
        if isinstance(shape, Many) and isinstance(shape.item, Leaf | Words):
            return Row(*mark, items=[Scalar(*mark, text=text.strip(), plain=False) for text in self.value.split(",")])
        if isinstance(shape, Leaf | Words):
            return Scalar(*mark, text=self.value, plain=False)
        known = f": the path goes on with one of {', '.join(shape.fields)}" if isinstance(shape, Record) else ""
        self._nowhere(at - 1, f"`{self._so_far(at)}` is no single field{known}", advice="" if known else _EXAMPLE)
        return None

    def _nowhere(self, at: int, why: str, known: Iterable[str] = (), advice: str = _EXAMPLE) -> None:
        meant = nearest(self.parts[at], known)
        path = "__".join([*self.parts[:at], meant, *self.parts[at + 1 :]]).upper().replace("-", "_") if meant else ""
        listed = list(dict.fromkeys(known))
        if listed:
            advice = "" if meant else f"there are {', '.join(listed)}"
        self.found.add("HG117", self.mark(at), why, suggestion=PREFIX + path if path else "", advice=advice)

    def _so_far(self, at: int) -> str:
        return ".".join(self.parts[:at])


def _under(shape: Record | Named, name: str) -> Shape:
    if isinstance(shape, Named):
        return shape.item
    if name in shape.fields:
        return shape.fields[name].shape
    # A clause, a factor or a test of the author's own: it is there, or the path would not have led here.
    return shape.others.shape if shape.others is not None else Record(name, {})
