"""What is wrong with a policy: where, what, and how to mend it; and the report that says it all at once.

Law: a problem is found where the author wrote it, has a number that never changes its meaning (`numbers`), and is
written for somebody who never saw headgate. A value that came from the environment is shown only for the one leaf
that is wrong, and not at all where its name or its form says that it is a secret.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.document import Mark, Scalar
from headgate.policy.numbers import NUMBERS

if TYPE_CHECKING:
    from headgate.policy.compiled import Policy

SEVERITIES = ("error", "warning", "note")
"""An error keeps a policy from being used; a warning says that it may not mean what it seems; a note is no fault."""

REPEATS = 10
"""How many problems of one number a report prints for one file; the rest is counted."""

ERRORS_MOST = 200
"""Errors after which reading stops: whoever reads so many is better served by mending the first ones."""

LINE_MOST = 110
"""Characters of a source line that a report shows; of a longer one, the part around the fault."""

SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSW|PEPPER|CREDENTIAL|APIKEY|API_KEY|(^|__)KEY(__|$)", re.I)
"""Variables whose value is never shown."""

SECRET_TEXT = re.compile(r"\bhg_[A-Za-z0-9_-]{16,}|\bsk-[A-Za-z0-9_-]{16,}|\beyJ[\w-]+\.[\w-]+\.[\w-]*")
"""Text that is never shown, wherever it stands: the form says that it is a credential."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault, warning or note.

    `number` is stable (`HG302`) and has a section in docs/problems.md. `line` and `column` count from 1. `suggestion`
    is text that could stand there instead, "" for none; `advice` says in a sentence what to do; `source` is the line
    as the author wrote it, `width` how much of it is meant. Of a variable of the environment `file` is its name.
    """

    number: str
    severity: str
    file: str
    line: int
    column: int
    message: str
    suggestion: str = ""
    advice: str = ""
    source: str = ""
    width: int = 1
    variable: bool = False

    def __str__(self) -> str:
        """The problem as `headgate check` prints it: place, sentence, line with carets, advice."""
        place = self.file if self.variable else f"{self.file}:{self.line}:{self.column}"
        lines = [f"{place}: {self.severity} {self.number}: {self.message}"]
        if self.source.strip():
            shown, column = _window(without_secrets(self.source), self.column)
            gutter = "" if self.variable else str(self.line)
            width = max(1, min(self.width, len(shown) - column + 1))
            lines.append(f"{gutter:>6} | {shown}")
            lines.append(f"       | {' ' * (column - 1)}{'^' * width}")
        if self.suggestion:
            lines.append(f"       = did you mean `{self.suggestion}`?")
        if self.advice:
            lines.append(f"       = {self.advice}")
        return "\n".join(lines)


def _window(line: str, column: int) -> tuple[str, int]:
    """The part of a long line around a column, and the column in it. A tab is shown as one blank."""
    line = line.replace("\t", " ").rstrip()
    if len(line) <= LINE_MOST:
        return line, column
    start = max(0, min(column - LINE_MOST // 2, len(line) - LINE_MOST))
    shown = line[start : start + LINE_MOST]
    end = "…" if start + LINE_MOST < len(line) else ""
    shown = shown[:-1] + end if end else shown
    return ("…" + shown[1:] if start else shown), column - start


def without_secrets(text: str) -> str:
    """The text with everything that has the form of a credential replaced, length and all, by stars.

    >>> without_secrets("x: hg_0123456789abcdefgh")
    'x: *********************'
    """
    return SECRET_TEXT.sub(lambda found: "*" * len(found[0]), text)


def is_hidden(scalar: Scalar) -> bool:
    """Whether no message may quote it: it is the value of a variable whose name looks like a secret's."""
    return scalar.source.variable and SECRET_NAME.search(scalar.source.name) is not None


def shown(scalar: Scalar) -> str:
    """The text as a message may quote it."""
    return "(hidden)" if is_hidden(scalar) else scalar.short


class Enough(Exception):
    """So many errors are found that reading stops; they are reported."""


@dataclass(slots=True)
class Findings:
    """Collects the problems of one reading, each once. `errors`: how many keep the policy from being used."""

    problems: dict[Problem, None] = field(default_factory=dict)
    errors: int = 0

    def add(self, number: str, mark: Mark, message: str, *, suggestion: str = "", advice: str = "") -> None:
        """Note one problem; its severity is the number's. Raises `Enough` when there are too many errors."""
        source, line, column, width = mark
        text = source.lines[line - 1] if 0 < line <= len(source.lines) else ""
        for word in source.hidden:
            message, suggestion = message.replace(word, "(hidden)"), ""
        problem = Problem(
            number, NUMBERS[number].severity, source.name, line, column, without_secrets(message),
            without_secrets(suggestion), advice, text, width, source.variable,
        )  # fmt: skip
        if problem not in self.problems:
            self.problems[problem] = None
            self.errors += problem.severity == "error"
        if self.errors == ERRORS_MOST and number != "HG118":
            self.add(
                "HG118", mark, f"{ERRORS_MOST} errors so far: the rest is not looked at", advice="mend these first"
            )
            raise Enough

    def in_order(self) -> tuple[Problem, ...]:
        """Errors first, then warnings, then notes; each by file and place."""
        return tuple(sorted(self.problems, key=_place))


def _place(problem: Problem) -> tuple[int, str, int, int, str]:
    return SEVERITIES.index(problem.severity), problem.file, problem.line, problem.column, problem.number


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found: the policy if it can be used, every problem, and the files that were read.

    `str()` of it is the text that `headgate check` prints.
    """

    policy: Policy | None
    problems: tuple[Problem, ...]
    files: tuple[Path, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep the policy from being used."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    def __str__(self) -> str:
        return report_text(self.problems)


def report_text(problems: Sequence[Problem]) -> str:
    """All problems and a last line that counts them. What comes up very often in one file is cut short.

    >>> print(report_text([Problem("HG101", "error", "a.yaml", 1, 1, "there is no such file")]))
    a.yaml:1:1: error HG101: there is no such file
    <BLANKLINE>
    1 error
    """
    counts: Counter[tuple[str, str]] = Counter()
    blocks: list[str] = []
    given: set[tuple[str, str]] = set()
    for problem in problems:
        counts[problem.number, problem.file] += 1
        if counts[problem.number, problem.file] <= REPEATS:
            # Advice that stands above already is not given again.
            known = (problem.number, problem.advice) in given
            blocks.append(str(replace(problem, advice="") if known else problem))
            given.add((problem.number, problem.advice))
    for (number, file), count in counts.items():
        if count > REPEATS:
            blocks.append(f"{file}: and {count - REPEATS} more of {number}")
    return "\n\n".join([*blocks, _count(problems)])


def _count(problems: Iterable[Problem]) -> str:
    counts = Counter(problem.severity for problem in problems)
    parts = [f"{counts[s]} {s}{'' if counts[s] == 1 else 's'}" for s in SEVERITIES if counts[s]]
    return ", ".join(parts) or "no problem found"
