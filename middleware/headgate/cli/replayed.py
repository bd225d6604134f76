"""The report of a replay as a person reads it: what was read, what would be refused, who is one, who is hit.

Law: 80 columns suffice. A terminal gets colours; a pipe gets the same words, with none and nothing drawn. What came
from the log is shown with no control character in effect.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headgate.cli.screen import plain
from headgate.quota.explain import duration, instant

if TYPE_CHECKING:
    from headgate.policy import Policy
    from headgate.replay.report import Affected, Group, Report

WIDTH = 80
WIDEST = 110
"""Columns that are used at most: longer lines are hard to read."""

REASONS = 3
"""Sentences of evidence that are shown of a group, each of another kind; all are in the report for programs."""

NAMED = 4
"""Keys that are named where there may be many."""


def show(report: Report, policy: Policy) -> None:
    """Print a report to standard output."""
    if sys.stdout.isatty():
        screen = Console(highlight=False)
        _show(Console(highlight=False, width=WIDEST) if screen.width > WIDEST else screen, report, policy)
        return
    screen = Console(highlight=False, width=WIDTH, color_system=None, force_terminal=False)
    with screen.capture() as captured:
        _show(screen, report, policy)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def _show(screen: Console, report: Report, policy: Policy) -> None:
    _show_read(screen, report, policy.zone)
    _show_refused(screen, report, policy)
    _show_groups(screen, report, policy.zone)
    _show_affected(screen, report)
    _show_notes(screen, report)


def _show_read(screen: Console, report: Report, zone: str) -> None:
    logs = report.logs[0].name if len(report.logs) == 1 else f"{len(report.logs)} logs"
    _say(screen, f"{logs}: {report.events:,} requests of {_many(report.keys, 'key')} and {_many(report.orgs, 'org')}")
    if report.since is not None and report.until is not None:
        _say(screen, f"{_time(report.since, zone)} to {_time(report.until, zone)} {zone} ({_length(report)})")
    skipped = f"; {_many(report.skipped, 'line')} skipped" if report.skipped else ""
    _say(screen, f"policy {report.policy}, mode {report.mode}, version {report.version}{skipped}")
    if report.interrupted:
        _say(screen, "stopped before the end: this is what was read until then", "bold yellow")


def _show_refused(screen: Console, report: Report, policy: Policy) -> None:
    _head(screen, "What this policy would have refused")
    alone, both = report.alone, report.decisions
    total = max(1, alone.allowed + alone.denied)
    _say(
        screen,
        f"{alone.denied:,} of {total:,} requests ({_share(alone.denied, total)}) by the limits as they are",
        "bold",
    )
    meters = {limit.id: f"{limit.meter.name} per {' + '.join(limit.per)}" for limit in policy.limits}
    shown = Table.grid(padding=(0, 2))
    for name, justify in (("limit", "left"), ("times", "right"), ("what", "left")):
        shown.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for limit, times in sorted(alone.by_limit.items(), key=lambda item: (-item[1], item[0])):
        shown.add_row(Text(limit), Text(f"{times:,}"), Text(meters.get(limit, ""), style="dim"))
    for limit, times in sorted(alone.in_shadow.items(), key=lambda item: (-item[1], item[0])):
        shown.add_row(Text(limit), Text(f"{times:,}"), Text("in shadow: decided, not refused", style="dim"))
    if shown.row_count:
        screen.print(Padding(shown, (0, 0, 0, 2)))
    if report.newly_refused:
        _say(
            screen,
            f"{report.newly_refused:,} more ({_share(report.newly_refused, total)}) once each group counts as one "
            f"customer: {both.denied:,} in all ({_share(both.denied, total)})",
            "bold",
        )
    for limit, why in report.undecided:
        _say(screen, f"not decided: {limit} ({why})", "dim", 2)


def _show_groups(screen: Console, report: Report, zone: str) -> None:
    found = len(report.groups) + report.hidden
    if not found:
        _head(screen, "No keys look like one operator's")
        return
    _head(screen, f"{_many(found, 'group')} of keys that {'looks' if found == 1 else 'each look'} like one operator")
    for number, group in enumerate(report.groups, 1):
        if number > 1:
            screen.print()
        _show_group(screen, group, number, zone)
    if report.hidden:
        _say(screen, f"{report.hidden:,} more are not shown (--limit-groups)")


def _show_group(screen: Console, group: Group, number: int, zone: str) -> None:
    since = min(group.linked_at.values())
    title = Text(f"{number}. ", style="bold").append(plain(group.id), style="bold cyan")
    title.append(
        f"  {_many(len(group.keys), 'key')} of {_many(len(group.orgs), 'org')}, {_sure(group.confidence)} sure"
    )
    title.append(f", since {_time(since, zone)}")
    screen.print(title)
    _labelled(screen, "keys", _named(group.keys))
    _labelled(screen, "why", " ".join(_reasons(group)) or "-")
    _labelled(screen, "took", _amounts(group.usage))
    for share in group.may_take:
        _labelled(screen, "may take", f"{share.meter}: {share.value}, as one customer ({share.limit})")
    refused = sum(group.newly_refused.values())
    if refused:
        by = ", ".join([f"{limit} {times:,}" for limit, times in sorted(group.refused_by.items())])
        _labelled(
            screen, "as one", f"{refused:,} of its requests would be refused that were not (by {by})", "bold red"
        )
        _labelled(screen, "spared", _amounts(group.spared))
        _labelled(screen, "whose", _counted(group.newly_refused))
    elif group.may_take:
        _labelled(
            screen, "as one", "nothing more would be refused: together they stayed within one customer's limits"
        )


def _reasons(group: Group) -> list[str]:
    """The strongest sentence of each kind of evidence that speaks for it."""
    first = {item.signal: item for item in reversed(group.evidence) if item.weight > 0}
    strongest = sorted(first.values(), key=lambda item: -item.weight)
    return [_sentence(item.detail) for item in strongest[:REASONS]]


def _show_affected(screen: Console, report: Report) -> None:
    if not report.affected:
        return
    _head(screen, "Keys in no group that the limits refuse most often: look at these first")
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name, justify in (("key", "left"), ("org", "left"), ("plan", "left"), ("refused", "right"), ("by", "left")):
        shown.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for one in report.affected:
        shown.add_row(*[Text(cell) for cell in _row(one)])
    screen.print(Padding(shown, (0, 0, 0, 2)))


def _row(one: Affected) -> tuple[str, ...]:
    by = ", ".join([limit for limit, _ in sorted(one.by_limit.items(), key=lambda item: (-item[1], item[0]))])
    return plain(one.key), plain(one.org) or "-", plain(one.plan), f"{one.denied:,} of {one.requests:,}", by


def _show_notes(screen: Console, report: Report) -> None:
    told = [f"{log.name} {log.fault}" for log in report.logs if log.fault]
    if not told and not report.notes:
        return
    _head(screen, "To be read with it")
    for text in (*told, *report.notes):
        shown = Table.grid(padding=(0, 1))
        shown.add_row(Text("-"), Text(plain(text), overflow="fold"))
        screen.print(Padding(shown, (0, 0, 0, 2)))


def _head(screen: Console, text: str) -> None:
    screen.print()
    screen.print(Text(text, style="bold underline"))


def _say(screen: Console, text: str, style: str = "", inset: int = 0) -> None:
    screen.print(Padding(Text(plain(text), style=style, overflow="fold"), (0, 0, 0, inset)))


def _labelled(screen: Console, label: str, text: str, style: str = "") -> None:
    shown = Table.grid(padding=(0, 1))
    shown.add_column(width=9, no_wrap=True)
    shown.add_column(overflow="fold")
    shown.add_row(Text(label, style="dim"), Text(plain(text), style=style))
    screen.print(Padding(shown, (0, 0, 0, 3)))


def _time(seconds: float, zone: str) -> str:
    """To the minute, in the policy's zone."""
    return instant(round(seconds * 1e6), zone)[:16]


def _length(report: Report) -> str:
    minutes = round(((report.until or 0) - (report.since or 0)) / 60)
    return duration(minutes * 60_000_000) if minutes else "less than a minute"


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2g} %" if part < whole else "100 %"


def _sure(confidence: float) -> str:
    """Never rounded up to certainty."""
    return f"{min(confidence, 0.999) * 100:.1f} %"


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _amounts(usage: Mapping[str, int]) -> str:
    return ", ".join([f"{amount:,} {meter.replace('_', ' ')}" for meter, amount in usage.items()]) or "-"


def _named(keys: Iterable[str]) -> str:
    named = list(keys)
    more = len(named) - NAMED
    return ", ".join(named[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _counted(times: Mapping[str, int]) -> str:
    rows = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    return _named([f"{key} {count:,}" for key, count in rows])
