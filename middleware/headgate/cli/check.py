"""`headgate check`: all that is wrong with a policy, at once, and what of it is not enforced yet.

Law: a policy is fine only if all of it was read and understood. What this version reads and does not act on is said
plainly, every time.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.policies import base_of, settings
from headgate.cli.screen import note
from headgate.errors import HeadgateError

if TYPE_CHECKING:
    from headgate.policy import Policy, Report

UNREADABLE = "HG101"
"""The number of a problem that says that a file could not be read at all."""


NOT_ENFORCED = "HG901"
"""The number of a note that something is read and not acted upon by this version."""

WEAKER = "HG906"
"""The number of a note that the store promises less than others."""

LISTED = (NOT_ENFORCED, WEAKER)
"""Notes that have lists of their own at the end, which say it with fewer lines."""


class Format(StrEnum):
    """How a report is written."""

    TEXT = "text"
    JSON = "json"


def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Policy files or folders, together one policy. Default: HEADGATE_POLICIES."),
    ] = None,
    format: Annotated[Format, typer.Option("--format", help="How the report is written.")] = Format.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as problems.")] = False,
    store: Annotated[
        str | None, typer.Option("--store", help="Where usage will be kept. Default: HEADGATE_STORE.")
    ] = None,
) -> None:
    """Report every fault of a policy, each with its place, a number and what was probably meant.

    What the store cannot keep of it is told, too; the store is not asked.
    Ends with 0 if the policy is fine, 1 if it has problems, 2 if it could not be read.
    """
    from headgate.policy import check as checked
    from headgate.stores import keeping

    said = settings()
    files = tuple(paths or said.policy_paths())
    keeper = keeping(said.store if store is None else store)
    report = checked(files, environ=os.environ, mode=said.mode, store=keeper)
    keys = _keys(report.policy, files)
    wrong = [problem for problem in report.problems if problem.severity == "error"]
    warned = [problem for problem in report.problems if problem.severity == "warning"]
    fine = not wrong and not keys and not (strict and warned)
    if format is Format.JSON:
        import json

        typer.echo(json.dumps(_as_json(report, keys, fine), indent=2, ensure_ascii=False))
    else:
        _as_text(report, keys, "" if keeper is None else keeper.name)
    if any(problem.number == UNREADABLE for problem in wrong):
        raise typer.Exit(2)
    if not fine:
        raise typer.Exit(1)


def _keys(policy: Policy | None, files: tuple[Path, ...]) -> list[str]:
    """What is wrong with the file of keys that the policy names, if there is one and it can be looked at."""
    from headgate.directory import PYTHON, KeysFile

    if policy is None or not policy.identify.directory or policy.identify.directory.startswith(PYTHON):
        return []
    path = base_of(files) / policy.identify.directory
    if not path.exists():
        note(f"headgate: note: {path} is not there yet; `headgate key new` makes it")
        return []
    try:
        entries = KeysFile(path, ()).table.entries
    except HeadgateError as fault:
        return str(fault).splitlines()
    return [
        f"{path}:{entry.line}: key {entry.principal.key} has the plan `{entry.principal.plan}`, which the policy "
        "does not have"
        for entry in entries
        if policy.plans and entry.principal.plan not in policy.plans and not entry.revoked
    ]


def _as_text(report: Report, keys: list[str], store: str) -> None:
    from headgate.policy.problem import report_text

    policy = report.policy
    shown = [problem for problem in report.problems if policy is None or problem.number not in LISTED]
    if shown:
        typer.echo(report_text(shown))
    for line in keys:
        typer.echo(line)
    if policy is None:
        return
    if shown or keys:
        typer.echo()
    limits = len(policy.limits)
    typer.echo(
        f"{policy.name}: {limits} limit{'' if limits == 1 else 's'}, mode {policy.mode}, version {policy.version}"
    )
    if policy.not_enforced:
        typer.echo("\nRead, checked and not enforced by this version:")
        for what in policy.not_enforced:
            typer.echo(f"  - {what}")
    weaker = [problem.message for problem in report.problems if problem.number == WEAKER]
    if weaker:
        typer.echo(f"\nKept at {store}, which promises less than SQLite and Redis:")
        for what in weaker:
            typer.echo(f"  - {what.removeprefix(f'at {store} ')}")


def _as_json(report: Report, keys: list[str], fine: bool) -> dict[str, Any]:
    policy = report.policy
    return {
        "ok": fine,
        "files": [str(file) for file in report.files],
        "problems": [asdict(problem) for problem in report.problems],
        "keys": keys,
        "policy": None
        if policy is None
        else {
            "name": policy.name,
            "mode": policy.mode,
            "version": policy.version,
            "plans": list(policy.plans),
            "limits": [limit.id for limit in policy.limits],
        },
        "not_enforced": [] if policy is None else list(policy.not_enforced),
    }
