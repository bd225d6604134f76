"""`headgate config`: what the service would run with, and where each value comes from.

Law: every setting is shown, defaults too, and every field of the policy that a variable replaces; no secret is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.policies import Policies, settings
from headgate.cli.screen import note, plain, table

if TYPE_CHECKING:
    from headgate.document import Node, Scalar
    from headgate.settings import Settings


def config(
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    policies: Policies = None,
) -> None:
    """Show every setting and every field of the policy that a variable replaces; secrets are hidden."""
    said = settings(policies)
    rows = [[found.variable, plain(found.value) or "(empty)", plain(found.source)] for found in said.origins()]
    rows += _replaced(said)
    columns = ("variable", "value", "from") if origin else ("variable", "value")
    table(columns, [row[: len(columns)] for row in rows])


def _replaced(said: Settings) -> list[list[str]]:
    """A row for each field of the policy that a variable replaces: the variable, its value, what stood there."""
    if not any(name.upper().startswith("HEADGATE__") for name in os.environ):
        return []
    from headgate.policy.environment import apply_environment
    from headgate.policy.files import read_files
    from headgate.policy.problem import Enough, Findings, shown

    found = Findings()
    tree = before = None
    with suppress(Enough):  # more faults than are told: `headgate check` has them
        before = read_files(said.policy_paths(), [], Findings())
        tree = read_files(said.policy_paths(), [], found)
    if tree is None or before is None:
        note(
            "headgate: warning: the policy cannot be read (see `headgate check`): what HEADGATE__… does is not shown"
        )
        return []
    with suppress(Enough):
        apply_environment(tree, os.environ, found)
    for problem in found.problems:
        if problem.variable:
            note(f"headgate: warning: {problem.message} ({problem.file})")
    written = dict(_leaves(before, ()))
    rows = []
    for path, leaf in _leaves(tree, ()):
        if leaf.mark.source.variable:
            old = written.get(path)
            source = f"environment; {f'replaces `{shown(old)}` in {old.mark}' if old else 'not in the policy'}"
            rows.append([f"{leaf.mark.source.name} ({'.'.join(path)})", plain(shown(leaf)), plain(source)])
    return rows


def _leaves(node: Node, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Scalar]]:
    from headgate.document import Branch, Row, Scalar

    if isinstance(node, Scalar):
        yield path, node
    elif isinstance(node, Branch):
        for name, (_, inner) in node.entries.items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(node, Row):
        for number, inner in enumerate(node.items):
            yield from _leaves(inner, (*path, str(number)))
