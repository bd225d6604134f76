"""The command line: `headgate init`, `check`, `key`, `explain`, `replay`, `config`, `usage`, `doctor`, `watch`,
`drill`, and `groups`, `link`, `unlink`, `separate`.

Law: what a person asked for goes to standard output, everything else to standard error. Whoever made a mistake reads
what it was, in one line or with its place, and never a traceback; the exit code says which kind it was.

| exit code | meaning |
| --- | --- |
| 0 | done; nothing found to be wrong |
| 1 | the answer is no: a policy has problems, a store has faults, a key or a decision is not there |
| 2 | it could not be done: wrong use, a file that cannot be read, a setting that is missing |
| 130 | stopped by ctrl-C |

Each command imports what it needs when it runs, so that `headgate key new` starts no store.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from headgate.cli.check import check
from headgate.cli.config import config
from headgate.cli.doctor import doctor
from headgate.cli.drill import drill
from headgate.cli.explain import explain
from headgate.cli.groups import groups
from headgate.cli.init import init
from headgate.cli.key import key
from headgate.cli.link import link, separate, unlink
from headgate.cli.replay import replay
from headgate.cli.screen import note, plain
from headgate.cli.usage import usage
from headgate.cli.watch import watch
from headgate.errors import HeadgateError

__all__ = ["app", "main"]


class Commands(TyperGroup):
    """The commands, with the house's way of failing: a fault that has an owner is told in plain text."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except HeadgateError as fault:
            note("headgate: " + "\n".join(plain(line) for line in str(fault).splitlines()))
            raise typer.Exit(2) from None
        except BrokenPipeError:
            raise  # the reader has gone away: typer ends without a word
        except OSError as fault:
            what = f"{fault.filename}: " if fault.filename else ""
            note(plain(f"headgate: {what}{fault.strerror or type(fault).__name__}"))
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=Commands,
    name="headgate",
    help="Quotas per key, per org and per group of linked accounts, for ASGI apps.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(short_help="Write a ready-made policy, keys.yaml and a pepper.")(init)
app.command(short_help="Report all that is wrong with a policy.")(check)
app.command(short_help="Say why a request is, or was, decided as it is.")(explain)
app.command(short_help="Say what a policy would have decided on a log, and who is one operator.")(replay)
app.command(short_help="Show every setting and where it comes from.")(config)
app.command(short_help="Show what a key or an org has used.")(usage)
app.command(short_help="Say whether the store is fit, and what to do where it is not.")(doctor)
app.command(short_help="Write labelled traffic to try policies and linking on.")(drill)
app.command(short_help="Look for linked keys in what workers have seen.")(watch)
app.command(short_help="Say that orgs are one customer.")(link)
app.command(short_help="Take a group apart, or orgs out of it.")(unlink)
app.command(short_help="Keep orgs apart until a day.")(separate)
app.add_typer(groups, name="groups")
app.add_typer(key, name="key")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"headgate {version('headgate')}")
        raise typer.Exit


@app.callback()
def _headgate(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Quotas per key, per org and per group of linked accounts, for ASGI apps."""


def main() -> None:
    """Run the command line; the entry point of the `headgate` script."""
    # A policy may name the app's own functions. The app's folder comes last: nothing in it can take the place of a
    # module of ours.
    with suppress(OSError):  # a folder that was deleted meanwhile has no name
        sys.path.append(os.getcwd())  # noqa: PTH109  (a text is what the path holds)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without our letters is no fault
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
