"""What the demo shows: who calls, how things stand (a live table, or plain lines where there is no terminal), and the
summary.

It reads callers and findings and decides nothing; whether the figures agree is `demo_tally`'s to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from demo_callers import Caller, Org
from demo_sheet import Refusals, Sheet
from demo_tally import Account, Finding, Tally
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

WIDE = 100
"""Columns from which on there is room to say what a limit counts."""

LINES = 10
"""Lines that a run prints where there is no terminal to draw on."""


@dataclass
class Row:
    """One limit of one subject as it stands. `used` counts what is held as used: that is what a limit does."""

    subject: str
    limit: str
    words: str
    used: int
    most: int
    let_in: int = 0
    refused: int = 0


class Screen:
    """A terminal that is redrawn while the demo runs; elsewhere `LINES` lines for the whole run."""

    def __init__(self, console: Console, sheet: Sheet, seconds: float) -> None:
        self._console = console
        self._sheet = sheet
        self._notes: list[str] = []
        self._above = 0  # lines over the table that shall stay in sight
        self._pause, self._due = seconds / LINES, seconds
        drawn = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, auto_refresh=False) if drawn else None

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """One line of what happens."""
        # Where nobody looks at a screen, a line stays a line.
        self._console.print(text, markup=False, soft_wrap=self._live is None)

    def cast(self, orgs: Sequence[Org], ledger: str) -> None:
        """Who will call, in a sentence each."""
        self.say(f"An LLM API behind headgate: 2 uvicorn workers, {ledger}. Who calls it:")
        table = Table(box=None, show_header=False, padding=(0, 1))
        self._above = 1 + len(orgs)
        for org in orgs:
            table.add_row(org.name, org.plan, "1 key" if org.keys == 1 else f"{org.keys} keys", org.role)
        self._console.print(table)

    def note(self, text: str) -> None:
        """Something that happened on the way; it stays in sight."""
        self._notes.append(text)
        if self._live is None:
            self.say(text)

    def show(self, callers: Sequence[Caller], left: float) -> None:
        """How things stand, with `left` seconds to go."""
        if self._live is not None:
            self._live.update(self._drawn(callers, left), refresh=True)
        elif left <= self._due:
            self._due = left - self._pause
            self.say(line(callers, left))

    def _drawn(self, callers: Sequence[Caller], left: float) -> RenderableType:
        """The rows that refuse most, then the fullest; as many there is room for, each in its place."""
        rows, names = self._rows(callers), labels([caller.account for caller in callers])
        room = max(5, self._console.height - 6 - self._above - len(self._notes))
        shown = sorted(rows, key=lambda row: (-row.refused, -row.used / row.most))[:room]
        title = f"{left:.0f} s to go (red: used up at this moment){_faults(callers)}"
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        _columns(table, "who", "limit", *self._wide("what it counts"), ">used", ">of", ">allowed", ">denied")
        for row in sorted([row for row in rows if row in shown], key=lambda row: list(names).index(row.subject)):
            figures = f"{row.used:,}", f"{row.most:,}", f"{row.let_in:,}", f"{row.refused:,}"
            style = "red" if row.refused and row.used >= row.most else "yellow" if row.refused else ""
            table.add_row(names[row.subject], row.limit, *self._wide(row.words), *figures, style=style)
        return Group(table, *[Text(note, style="bold magenta") for note in self._notes])

    def _rows(self, callers: Sequence[Caller]) -> list[Row]:
        rows: dict[tuple[str, str], Row] = {}
        for caller in callers:
            words = {rule.limit: rule.words for rule in self._sheet.rules(caller.account.plan)}
            for told in caller.usage:
                limit, subject = told["limit"], caller.account.subject(told["per"])
                row = rows.setdefault((subject, limit), Row(subject, limit, words[limit], 0, 0))
                row.used, row.most = told["used"] + told["held"], told["quota"]
                row.let_in += len(caller.seen.answered)
                row.refused += caller.seen.refusals.get(limit, Refusals()).count
        return list(rows.values())

    def _wide(self, text: str) -> tuple[str, ...]:
        return (text,) if self._console.width >= WIDE else ()


def labels(accounts: Sequence[Account]) -> dict[str, str]:
    """A name for each subject that a reader can tell from the others, in the order in which they are shown: a
    customer's keys, its orgs, and the customer itself where that is several orgs.

    >>> labels([Account("k_1", "alder", "build", "alder"), Account("k_2", "alder", "build", "alder")])
    {'k_1': 'alder key 1', 'k_2': 'alder key 2', 'alder': 'alder'}
    """
    names: dict[str, str] = {}
    for group in dict.fromkeys(account.group for account in accounts):
        for org in dict.fromkeys(account.org for account in accounts if account.group == group):
            keys = [account.key for account in accounts if account.org == org]
            names |= {key: f"{org} key {number}" for number, key in enumerate(keys, 1)}
            names[org] = org
        names[group] = group
    return names


def line(callers: Sequence[Caller], left: float) -> str:
    """How things stand, for a screen that is none."""
    by_limit: dict[str, int] = {}
    for caller in callers:
        for limit, refusals in caller.seen.refusals.items():
            by_limit[limit] = by_limit.get(limit, 0) + refusals.count
    reasons = ", ".join(f"{limit} {count}" for limit, count in sorted(by_limit.items()))
    served = sum(len(caller.seen.answered) for caller in callers)
    refused = sum(caller.seen.refused for caller in callers)
    text = f"{left:4.0f} s to go: {served} served, {refused} refused" + (f" ({reasons})" if reasons else "")
    return text + _faults(callers)


def _faults(callers: Sequence[Caller]) -> str:
    """Replies that are neither an answer nor a refusal: there should be none."""
    faults = sum(sum(caller.seen.faults.values()) for caller in callers)
    return f", {faults} FAULTS" if faults else ""


def summary(found: Tally, console: Console) -> None:
    """The figures that mean something, and the verdict."""
    names = labels([key.account for key in found.keys])
    telling = [finding for finding in found.limits if finding.refused or finding.booked_more or not finding.holds]
    table = Table(title="What each limit allows, and what the origin's own log says was served",
                  title_justify="left", title_style="bold", box=SIMPLE_HEAD)  # fmt: skip
    wide = console.width >= WIDE
    counts = ("what it counts",) if wide else ()
    _columns(table, "who", "limit", *counts, ">allows", ">served", ">ledger", ">denied", "")
    for finding in sorted(telling, key=lambda finding: list(names).index(finding.subject)):
        words = (finding.words,) if wide else ()
        ledger = "" if finding.ledger is None else f"{finding.ledger:,}"
        table.add_row(names[finding.subject], finding.limit, *words, _allows(finding), f"{finding.served:,}", ledger,
                      f"{finding.refused:,}", _mark(finding), style="" if finding.holds else "bold red")  # fmt: skip
    if telling:
        console.print(table)
    console.print(Text(_footnote(len(found.limits) - len(telling))))
    for key in found.keys:
        if not key.holds(found.killed):
            console.print(
                f"{names[key.account.key]}: {len(key.seen.answered)} answers reached its clients, {key.served} were "
                f"served; {key.seen.unanswered + key.seen.broken} connections broke; "
                f"faults: {key.seen.faults or 'none'}", style="bold red"
            )  # fmt: skip
    console.print(_counted(found))
    console.print(verdict(found), style="bold green" if found.holds else "bold red")


def _footnote(rest: int) -> str:
    text = "A rate gives back while it runs, so that it allows a little more than it does at once."
    return text + (f" {rest} more limits refused nobody, and agree." if rest else "")


def _allows(finding: Finding) -> str:
    if finding.verb == "max" or not finding.least:
        return f"up to {finding.most:,}"
    return f"{finding.least:,} to {finding.most:,}" if finding.least < finding.most else f"{finding.most:,}"


def _mark(finding: Finding) -> str:
    if not finding.holds:
        return "DIFFERS"
    if finding.booked_more:
        return "+ held"
    return "used up" if finding.used_up else "agrees"


def _counted(found: Tally) -> str:
    left = sum(key.seen.left for key in found.keys)
    text = f"{found.served:,} requests served, {found.refused:,} refused in {found.elapsed:.1f} s"
    text += f"; {left:,} streams were left by their clients half way."
    if found.killed:
        cut = sum(key.seen.unanswered + key.seen.broken for key in found.keys)
        text += f" Cut short by the kill: {cut}; what was held for those stays charged."
    return text


def verdict(found: Tally) -> str:
    """The last line."""
    if not found.served:
        return "The origin served nothing: there is nothing to compare."
    if not found.holds:
        return "The origin did NOT serve what the policy allows; see what differs above."
    used_up = [finding for finding in found.limits if finding.used_up]
    proof = "; ".join(f"{f.limit} of {f.subject}: {f.served:,} of {f.most:,}" for f in used_up)
    return f"The origin served exactly what the policy allows ({proof or 'no quota was used up'})."


def _columns(table: Table, *names: str) -> None:
    """`>` begins the name of a column of figures."""
    for name in names:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
