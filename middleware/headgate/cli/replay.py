"""`headgate replay`: what a policy would have decided, and which keys would have been linked, on a log of yesterday.

Law: nothing is decided for anybody and nothing is kept. What is shown was counted from the log; prompts, addresses
and secrets in it are shown nowhere. Whoever stops it gets what was found until then.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.check import Format
from headgate.cli.policies import Policies, keys_of, policy_of, settings
from headgate.cli.screen import note, plain
from headgate.errors import IdentityError

if TYPE_CHECKING:
    from headgate.directory import KeysFile
    from headgate.policy import Policy
    from headgate.replay import Lines, Linking, Replay
    from headgate.settings import Settings

SURE = 0.95
"""The least confidence of a group, where neither the policy nor whoever asks says another."""

STOPPED = 130
"""The exit code of what ctrl-C has stopped."""


def replay(
    logs: Annotated[list[str], typer.Argument(metavar="LOG…", help="Logs, plain, .gz or .zst; `-`: standard input.")],
    policies: Policies = None,
    format: Annotated[Format, typer.Option("--format", help="How the report is written.")] = Format.TEXT,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="The file of keys; default: the policy's, if it is there.")
    ] = None,
    least: Annotated[
        float | None,
        typer.Option(
            "--at-least", min=0.0, max=1.0, help="The least confidence of a group; default: the policy's, or 0.95."
        ),
    ] = None,
    most: Annotated[
        int | None, typer.Option("--limit-groups", min=0, help="The most groups that are shown; all are counted.")
    ] = None,
) -> None:
    """Say what a policy would have decided on logs, which keys look like one operator's, and who would be refused."""
    from headgate.replay import Asked, Lines, LogError, LogFile, Replay

    said = settings(policies)
    policy = policy_of(said)
    if len(set(logs)) < len(logs):
        raise LogError("a log is named twice")
    if least is None:
        least = policy.linking.linked / 1_000_000 if policy.linking is not None and policy.linking.linked else SURE
    asked = Asked(_enforced(policy, said), _linker(), _pepper(said), _keys(policy, said, keys), least, policy.mode)
    with ExitStack() as opened:
        read = [Lines(opened.enter_context(closing(LogFile(name)))) for name in logs]
        running = Replay(asked, read)
        stopped = _run(running, read)
    _said_of(read)
    if not running.entries and not stopped:
        raise LogError("\n".join([_without_entries(log) for log in read]))
    _show(running, format, most, stopped)
    if stopped:
        note(f"headgate: stopped: this is what {running.entries:,} lines have shown, not the whole log")
        raise typer.Exit(STOPPED)


def _enforced(policy: Policy, said: Settings) -> Policy:
    """The policy as it would decide in earnest: in shadow, or disabled, it would refuse nothing. Limits that are in
    shadow by themselves stay so."""
    if policy.mode == "enforce":
        return policy
    return policy_of(said.model_copy(update={"mode": "enforce"}))


def _linker() -> Linking:
    from headgate.linking.linker import Linker

    return Linker()


def _keys(policy: Policy, said: Settings, named: Path | None) -> KeysFile | None:
    """The file of keys: the one that is named, or the policy's if it is there."""
    from headgate.directory import KeysFile

    if named is not None:
        return KeysFile(named, ())
    try:
        return keys_of(policy, said)
    except IdentityError as fault:
        from headgate.cli.policies import base_of

        if (base_of(said.policy_paths()) / policy.identify.directory).exists():
            raise fault from None
        return None


def _pepper(said: Settings) -> bytes:
    """The service's pepper; where there is none, one for the moment: then digests mean nothing to anybody else."""
    import secrets

    try:
        # For trying out, the settings would make a pepper and keep it: a replay keeps nothing.
        return said.model_copy(update={"demo": False}).peppers()[0]
    except IdentityError:
        return secrets.token_bytes(32)


def _run(running: Replay, read: list[Lines]) -> bool:
    """Read all there is, with a bar where somebody watches; True if ctrl-C has stopped it."""
    with _interruptible(running, read), _bar(running, read) as watched:
        try:
            running.run(watched)
        except KeyboardInterrupt:
            return True
    return running.stopped


@contextmanager
def _interruptible(running: Replay, read: list[Lines]) -> Iterator[None]:
    """Ctrl-C stops between two lines, so that what was found until then stands; at once while a log is waited for."""

    def stop(number: int, frame: Any) -> None:
        if running.stopped or any(log.file.waiting for log in read):
            raise KeyboardInterrupt
        running.stopped = True

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(running: Replay, read: list[Lines]) -> Iterator[Callable[[], None]]:
    """What draws how far the reading is, on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    sizes = [log.file.size for log in read]
    total = sum(sizes) if all(sizes) else None
    columns = (TextColumn("reading"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[lines]:,} lines"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=total, lines=0)
        yield lambda: progress.update(task, completed=sum([log.file.taken for log in read]), lines=running.entries)


def _said_of(read: list[Lines]) -> None:
    """What is wrong with the logs themselves, beside the report: bad lines by their places, a log that is cut off."""
    for log in read:
        for bad in log.bad:
            note(plain(f"headgate: {bad.log}:{bad.line}: skipped: {bad.reason}"))
        if log.skipped > len(log.bad):
            note(plain(f"headgate: {log.file.name}: {log.skipped - len(log.bad):,} more lines were skipped"))
        if log.file.fault:
            note(plain(f"headgate: warning: {log.file.name} {log.file.fault}; what was read until there counts"))


def _without_entries(log: Lines) -> str:
    if log.file.fault:
        return f"{log.file.name}: {log.file.fault}, and nothing before that could be read"
    return f"{log.file.name}: no line of it can be read" if log.skipped else f"{log.file.name}: is empty"


def _show(running: Replay, format: Format, most: int | None, stopped: bool) -> None:
    report = running.report(interrupted=stopped, most=most)
    if format is Format.JSON:
        import json

        from headgate.replay import as_json

        typer.echo(json.dumps(as_json(report), indent=2, ensure_ascii=False))
        return
    from headgate.cli.replayed import show

    show(report, running.asked.policy)
