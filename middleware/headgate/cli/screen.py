"""How the commands show things: tables for people, the same rows for pipes.

Law: what a pipe gets is never cut, coloured or drawn; what a terminal gets is as wide as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import typer


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[str] = frozenset()) -> None:
    """Print rows under their columns; those named in `right` are numbers. Nothing is printed for no rows."""
    kept = [list(row) for row in rows]
    if not kept:
        return
    if sys.stdout.isatty():
        _drawn(columns, kept, right)
        return
    widths = [max(len(row[at]) for row in [list(columns), *kept]) for at in range(len(columns))]
    for row in [list(columns), *kept]:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, columns, strict=True)
        ]
        typer.echo("  ".join(cells).rstrip())


def _drawn(columns: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        shown.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*[Text(cell) for cell in row])
    Console().print(shown)


def note(text: str) -> None:
    """Say something beside what was asked for, on standard error."""
    typer.echo(text, err=True)


def plain(text: str) -> str:
    """A text that came from elsewhere as a terminal may show it: no control character takes effect.

    >>> plain("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
