"""Files and directories of policy, read and united.

Law: a directory is the union of its files. What has a name (a limit, a meter, a scope, a clause, a trait) has one
place; lists are joined in the order of the files' names; a setting that two files say differently is an error that
names both places. Nothing outside the given paths is read, and nothing that is no regular file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headgate.document import Branch, Broken, Mark, Node, Row, Scalar, Source
from headgate.policy.model import POLICY
from headgate.policy.problem import Findings
from headgate.policy.shape import Leaf, Many, Named, Record, Shape, Words
from headgate.policy.tree import read_tree, text_of

OTHER_DOCUMENTS = ("headgate-keys", "headgate-test")
"""First fields of headgate's other documents: in a directory they are passed over."""


Paths = str | Path | Sequence[str | Path]
"""One file or directory, or several."""


def read_files(paths: Paths, files: list[Path], found: Findings) -> Branch | None:
    """The one tree of all files that the paths name, or None. The files that were read are added to `files`."""
    united: Branch | None = None
    named = _each(paths)
    for path, listed in _named(named, found):
        tree = _tree(path, listed, found)
        if tree is None:
            continue
        files.append(path)
        if isinstance(tree, Branch):
            united = tree if united is None else _united(POLICY, united, tree, found)
    if not files and not found.problems:
        where = ", ".join(str(path) for path in named)
        advice = "write a policy there: its first field is `headgate: v1`"
        found.add("HG114", Mark(Source(where)), "no policy file is in there", advice=advice)
    return united


def _each(paths: Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def sources(paths: Paths) -> tuple[Path, ...]:
    """The files that a load of these paths would read, there or not: what to watch for changes.

    A folder that cannot be listed stands for itself. Never raises.
    """
    named = _each(paths)
    return tuple(path for path, _ in _named(named, Findings())) or tuple(named)


def _named(paths: Sequence[Path], found: Findings) -> list[tuple[Path, bool]]:
    """Each file once, and whether it was found in a directory (`listed`) rather than named."""
    named: dict[Path, bool] = {}
    for path in paths:
        try:
            inside = sorted(path.iterdir()) if path.is_dir() else None
        except OSError as fault:
            found.add("HG101", Mark(Source(str(path))), f"the directory cannot be read: {fault.strerror}")
            continue
        if inside is None:
            named[path] = False
            continue
        for file in inside:
            if file.suffix in {".yaml", ".yml"} and not file.stem.endswith(".test") and not file.name.startswith("."):
                named.setdefault(file, True)
    return list(named.items())


def _tree(path: Path, listed: bool, found: Findings) -> Node | None:
    text = text_of(path, found)
    if text is None:
        return None
    tree = read_tree(text, str(path), found)
    if tree is None:
        return None
    if not isinstance(tree, Branch):
        found.add("HG203", tree.mark, "a policy is a map of fields", advice="begin it with `headgate: v1`")
        return tree
    other = next((name for name in tree.entries if name in OTHER_DOCUMENTS), "")
    if not other:
        return tree
    if not listed:
        found.add("HG114", tree.mark, f"this is a `{other}` document and no policy")
    return None


def _united(shape: Shape, first: Branch, second: Branch, found: Findings) -> Branch:
    """Both trees as one. Problems name both places."""
    both = Branch(*first.mark, entries=dict(first.entries))
    for name, (key, node) in second.entries.items():
        if name not in both.entries:
            both.entries[name] = key, node
            continue
        known, before = both.entries[name]
        both.entries[name] = known, _joined(_below(shape, name), known, before, (key, node), found)
    return both


def _below(shape: Shape, name: str) -> Shape | None:
    if isinstance(shape, Record):
        return shape.fields[name].shape if name in shape.fields else None
    return None


def _joined(shape: Shape | None, known: Scalar, before: Node, second: tuple[Scalar, Node], found: Findings) -> Node:
    key, node = second
    name, place = known.text, known.mark
    if isinstance(before, Branch) and isinstance(node, Branch) and isinstance(shape, Named | Record):
        return _united(shape, before, node, found)
    if isinstance(before, Row) and isinstance(node, Row) and isinstance(shape, Many) and _entries(shape):
        return Row(*before.mark, items=[*before.items, *node.items])
    if isinstance(before, Broken) or isinstance(node, Broken) or _same(before, node):
        return before
    if shape is None:
        found.add("HG115", key.mark, f"`{name}` is given in two files, first in {place}")
    else:
        found.add("HG116", key.mark, f"`{name}` says another thing in {place}", advice="keep it in one file")
    return before


def _entries(shape: Many) -> bool:
    """Whether a list is one of entries, which are joined, and not of words, whose order may mean something."""
    return not isinstance(shape.item, Leaf | Words)


def _same(a: Node, b: Node) -> bool:
    if isinstance(a, Scalar) and isinstance(b, Scalar):
        return a.text == b.text
    if isinstance(a, Row) and isinstance(b, Row):
        return len(a.items) == len(b.items) and all(map(_same, a.items, b.items))
    return False
