"""What the documentation tells a reader to type is typed, and prints what is shown.

The rules that a page keeps: lines after `$ ` are run by one bash for the whole page, in an empty folder of its own,
and `> ` goes on with the last one. Each must succeed, or end as its comment says (`# exit 1`). What is shown below it
must be what it prints; `…` stands for any text, and alone on a line for any lines. A block of another language whose
first line is a file's name (`# app.py`) is saved where it stands.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PATIENCE = 300
"""Seconds that one page's commands may take."""

AT_ONCE = 2
"""Pages that are typed beside each other: mostly they wait for a server."""

NOT_TYPED = ("make ", "pip install ")
"""What is not typed by a test, for it would make an environment within one. That `make` has a target is looked up."""

TYPED_ELSEWHERE = "examples"
"""The examples' pages are typed by tests/examples/test_readmes.py, which also reads their figures."""


class Step(NamedTuple):
    """A command: its line in the page, itself, what is shown below it, the exit code that it ends with."""

    line: int
    command: str
    shown: str
    code: int


@pytest.fixture(scope="session")
def typed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """By its name, each page that is asked for: (its port, its steps, all that they print, in time)."""
    asking = [item for item in request.session.items if "typed" in getattr(item, "fixturenames", ())]
    pages = [item.callspec.params["page"] for item in asking]  # type: ignore[attr-defined]
    wanted = [page for page in pages if not page.name.startswith(TYPED_ELSEWHERE)]
    found: dict[str, tuple[int, list[Step], Future[str]]] = {}
    with ThreadPoolExecutor(AT_ONCE) as hands:
        # The longest page first, so that the others are typed while it waits.
        for page, port in sorted(zip(wanted, _ports(len(wanted)), strict=True), key=lambda pair: -len(pair[0].text)):
            steps, script = _script(page, port)
            found[page.name] = (port, steps, hands.submit(_typed, script, tmp_path_factory.mktemp("page")))
        yield found


@pytest.mark.blocks("console")
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="pages ask with curl, in bash")
def test_commands_do_what_is_shown(page: Any, typed: Mapping[str, Any]) -> None:
    if page.name.startswith(TYPED_ELSEWHERE):
        pytest.skip("typed by tests/examples")
    port, steps, printing = typed[page.name]
    said = printing.result()
    parts = re.split(r"\036(\d+) (\d+)\n", said)
    done = {int(number): (text, int(code)) for text, number, code in zip(*[iter(parts[:-1])] * 3, strict=True)}
    for number, step in enumerate(steps):
        where = f"{page.name}:{step.line}: {step.command}"
        assert number in done, f"{where}: was not reached\n{said[-3000:]}"
        printed, ended = done[number]
        assert ended == step.code, f"{where}: ended with {ended}\n{printed}"
        if step.shown:
            same = re.fullmatch(_pattern(step.shown, port), printed.strip() + "\n")
            assert same, f"{where}: printed\n{printed}\nnot\n{step.shown}"


def _ports(count: int) -> list[int]:
    """So many ports that are free."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return found


def _script(page: Any, port: int) -> tuple[list[Step], str]:
    """The page's commands, and the bash script that types them; files are saved where they stand in the page."""
    steps: list[Step] = []
    script = ["exec 2>&1", "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for block in page.blocks("console", "python", "yaml"):
        if block.language != "console":
            if block.name:
                script.append(f"cat > {block.name} <<'END OF FILE'\n{block.text}END OF FILE")
            continue
        for line, command, shown in _commands(block):
            if command.startswith(NOT_TYPED):
                continue
            code = re.search(r"# exit (\d+)$", command)
            typed = command.replace("8000", str(port))
            if typed.endswith(" &"):
                typed = typed[:-2] + f" >> server-{len(steps)}.log 2>&1 &"
            script += [typed, f"printf '\\036%d %d\\n' {len(steps)} $?"]
            steps.append(Step(line, command, shown, int(code[1]) if code else 0))
    return steps, "\n".join(script)


def _commands(block: Any) -> list[tuple[int, str, str]]:
    """(line, command, what is shown below it)."""
    found: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            found.append((number, line[2:], []))
        elif line.startswith("> ") and found and not found[-1][2]:
            at, command, shown = found[-1]
            found[-1] = (at, f"{command}\n{line[2:]}", shown)
        else:
            assert found, f"line {number}: shown before any command"
            found[-1][2].append(line)
    return [(at, command, "\n".join(shown).strip()) for at, command, shown in found]


def _typed(script: str, folder: Path) -> str:
    """What the script prints. Whatever it has started ends with it."""
    ours = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(("HEADGATE", "UVICORN_"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Files are looked at more often than by default, so that nobody waits for a second.
    ours |= {"PATH": path, "NO_PROXY": "localhost", "HEADGATE_RELOAD_SECONDS": "0.1"}
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=folder, env=ours, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
    return said


def _pattern(shown: str, port: int) -> str:
    """What is shown as a pattern: `…` is any text, alone on a line any lines. How wide a gap is does not count."""
    lines = []
    for line in shown.replace("8000", str(port)).splitlines():
        words = ["[^\\n]*?".join(map(re.escape, word.split("…"))) for word in line.split()]
        lines.append(r"(?:.*\n)*?" if words == ["[^\\n]*?"] else " *" + " +".join(words) + r"[ \r]*\n")
    return "".join(lines)
