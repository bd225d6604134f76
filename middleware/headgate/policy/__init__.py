"""From the text of a policy file to the values that decide.

    file ──tree──▶ positions and raw text ──shape by model──▶ typed values ──checks──▶ ──compile──▶ Policy

Law: nothing is silently ignored. A policy is used whole or not at all, and all that is wrong with it is said at once,
each thing with its place, a number that keeps its meaning (docs/problems.md) and, where it can be guessed, what was
meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from headgate.clock import wall_clock
from headgate.document import Branch
from headgate.errors import PolicyError
from headgate.policy import checks, keeping, lint
from headgate.policy.compile import compiled
from headgate.policy.compiled import Policy
from headgate.policy.environment import apply_environment
from headgate.policy.files import Paths, read_files, sources
from headgate.policy.keeping import Keeper
from headgate.policy.model import MODES, POLICY
from headgate.policy.problem import Enough, Findings, Problem, Report
from headgate.policy.shape import read

__all__ = ["Policy", "Problem", "Report", "check", "load", "sources"]


def load(
    paths: Paths, *, environ: Mapping[str, str] | None = None, mode: str = "", store: Keeper | None = None
) -> Policy:
    """One compiled policy from files or directories, which are united.

    `environ`: its variables `HEADGATE__…` replace single fields by their path; None for none. `mode` replaces the
    policy's own. `store`: what the store that will keep the ledger says of itself, where it cannot keep everything: a
    limit that it cannot keep is an error. Raises PolicyError for a policy that cannot be used: its text is the whole
    report, its `problems` every problem. Warnings and notes alone raise nothing.
    """
    report = check(paths, environ=environ, mode=mode, store=store)
    if report.policy is None:
        raise PolicyError(str(report), report.problems)
    return report.policy


def check(
    paths: Paths,
    *,
    environ: Mapping[str, str] | None = None,
    mode: str = "",
    now: int | None = None,
    store: Keeper | None = None,
) -> Report:
    """All that can be said of a policy. Never raises for anything in a file; ValueError for a `mode` that is none.

    `now` (microseconds) decides which dated entries have expired; the wall clock where it is None. `store`: as in
    `load`.
    """
    if mode and mode not in MODES.words:
        raise ValueError(f"`{mode}` is not one of {', '.join(MODES.words)}")
    found = Findings()
    files: list[Path] = []
    policy = None
    with suppress(Enough):
        tree = read_files(paths, files, found)
        if tree is not None:
            policy = _policy(tree, environ or {}, mode, wall_clock() if now is None else now, store, found)
    return Report(policy if not found.errors else None, found.in_order(), tuple(files))


def _policy(
    tree: Branch, environ: Mapping[str, str], mode: str, now: int, store: Keeper | None, found: Findings
) -> Policy | None:
    apply_environment(tree, environ, found)
    root = read(POLICY, tree, "", found)
    if root is None:
        return None
    checks.check(root, found)
    policy = compiled(root, found, mode)
    lint.look(root, policy, now, found)
    if policy is not None and store is not None:
        keeping.look(root, policy, store, found)
    return policy
