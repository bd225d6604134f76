"""`headgate doctor`: whether the store is fit to keep a ledger, and what to do where it is not.

Law: it looks and changes nothing. Each matter is told with what it does to the counts and with its remedy; what could
not be looked at is told as not known. No password is printed, nor any name or value that the store holds.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from headgate.cli.check import Format
from headgate.cli.policies import settings
from headgate.cli.screen import plain
from headgate.errors import StoreError

if TYPE_CHECKING:
    from headgate.stores.finding import Finding, Report

COLOURS = {"fault": "bold red", "warning": "bold yellow", "note": "bold cyan"}


def doctor(
    store: Annotated[
        str | None,
        typer.Argument(help="The store's URI. Default: HEADGATE_STORE, where a password is not seen by others."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that will use the store.")] = 1,
    durability: Annotated[
        Literal["fast", "replicated"] | None,
        typer.Option("--durability", help="What is expected of it. Default: HEADGATE_DURABILITY."),
    ] = None,
    format: Annotated[Format, typer.Option("--format", help="How the report is written.")] = Format.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as faults.")] = False,
) -> None:
    """Say whether the store is fit: what is wrong with it, what that does to the counts, and the remedy.

    Ends with 0 if it is, 1 if there are faults, 2 if it could not be looked at.
    """
    from headgate.settings import without_password
    from headgate.stores import fitness

    said = settings()
    address = said.store if store is None else store
    deadline = None if said.deadline_ms is None else said.deadline_ms / 1_000
    try:
        report = asyncio.run(
            fitness.look(address, durability=durability or said.durability, deadline=deadline, workers=workers)
        )
    except StoreError as fault:
        if format is Format.JSON:
            _print_json({**_as_json(fitness.Report(without_password(address)), False), "reason": str(fault)})
        raise
    fine = not report.count("fault") and not (strict and report.count("warning"))
    if format is Format.JSON:
        _print_json(_as_json(report, fine))
    elif sys.stdout.isatty():
        _draw(report)
    else:
        _as_text(report)
    if not fine:
        raise typer.Exit(1)


def _as_json(report: Report, fine: bool) -> dict[str, Any]:
    return {
        "ok": fine,
        "store": report.store,
        "reason": None,
        "servers": [{"where": where, "what": what} for where, what in report.seen],
        "findings": [asdict(finding) for finding in report.findings],
        "not_known": [asdict(what) for what in report.not_known],
    }


def _print_json(shown: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))


def _as_text(report: Report) -> None:
    """For pipes: nothing drawn, coloured or broken into lines."""
    for where, what in report.seen:
        typer.echo(plain(f"{where}  {what}"))
    for finding in report.findings:
        typer.echo()
        typer.echo(plain(f"{finding.severity} {finding.name}  {_places(finding.where, report)}"))
        for line in (finding.what, finding.why, f"remedy: {finding.remedy}"):
            typer.echo(plain(f"  {line}"))
    if report.not_known:
        typer.echo("\nnot known")
        for unknown in report.not_known:
            typer.echo(plain(f"  {unknown.what} ({unknown.reason})  {_places(unknown.where, report)}"))
    typer.echo(f"\n{_verdict(report)}")


def _draw(report: Report) -> None:
    """For a terminal: as wide as it is, the faults in red."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    screen = Console(highlight=False)
    servers = Table.grid(padding=(0, 2))
    servers.add_column(no_wrap=True, style="bold")
    servers.add_column(overflow="fold")
    for where, what in report.seen:
        servers.add_row(Text(plain(where)), Text(plain(what)))
    screen.print(servers)
    for finding in report.findings:
        screen.print()
        screen.print(_headed(finding, report))
        screen.print(Padding(Text(plain(finding.what)), (0, 0, 0, 2)))
        screen.print(Padding(Text(plain(finding.why), style="dim"), (0, 0, 0, 2)))
        remedy = Table.grid(padding=(0, 1))
        remedy.add_row(Text("→", style="green"), Text(plain(finding.remedy), style="green"))
        screen.print(Padding(remedy, (0, 0, 0, 2)))
    if report.not_known:
        screen.print(Text("\nnot known", style="bold"))
        for unknown in report.not_known:
            line = Text(plain(unknown.what))
            line.append(plain(f"  {unknown.reason}, at {_places(unknown.where, report)}"), style="dim")
            screen.print(Padding(line, (0, 0, 0, 2)))
    worst = next((finding.severity for finding in report.findings), "note")
    style = {"fault": "bold red", "warning": "bold yellow", "note": "bold green"}[worst]
    screen.print(Text(f"\n{_verdict(report)}", style=style))


def _headed(finding: Finding, report: Report) -> Any:
    from rich.text import Text

    head = Text(finding.severity.upper(), style=COLOURS[finding.severity])
    head.append(f" {finding.name}", style="bold")
    return head.append(plain(f"  {_places(finding.where, report)}"), style="dim")


def _places(where: tuple[str, ...], report: Report) -> str:
    if len(where) < 4:
        return ", ".join(where)
    everywhere = set(where) == {server for server, _ in report.seen}
    return f"all {len(where)} servers" if everywhere else f"{', '.join(where[:2])} and {len(where) - 2} more"


def _verdict(report: Report) -> str:
    counted = [(report.count(severity), severity) for severity in ("fault", "warning", "note")]
    told = [f"{count} {severity}{'' if count == 1 else 's'}" for count, severity in counted if count]
    told += [f"{len(report.not_known)} not known"] if report.not_known else []
    summary = ", ".join(told)
    if report.count("fault"):
        return f"{summary}. Mend the faults first: until then the counts cannot be relied on."
    if report.count("warning"):
        return f"{summary}. The counts hold today; the warnings say what could change that."
    if report.not_known:
        return f"Nothing is known to be wrong; not all could be looked at ({summary})."
    return f"The store is fit{f' ({summary})' if summary else ''}. Have a good day."
