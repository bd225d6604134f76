"""What the documentation tells a reader to save and to run is saved and run.

The rules that a page keeps:
- a block whose first line is a comment with a file's name (`# app.py`) is that file;
- `python`: run in order, in one namespace for the page; a block that begins with `>>>` is a session, and its answers
  must be the ones that are shown;
- `yaml`: a policy or a file of keys must have no fault; what begins with neither is a part of a policy, and must have
  no fault in a small one.

What is typed: test_console.py.
"""

from __future__ import annotations

import doctest
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from headgate.directory import KeysFile
from headgate.policy import check

SMALL = """\
headgate: v1

policy: small

mode: enforce

on_store_error: closed

identify:
  directory: keys.yaml

plans: [free, paid]

meters:
  rows: {from: app, reserve: 10}

limits:
  rpm: {meter: requests, per: key, rate: {free: 10/min, paid: 100/min}}
  month: {meter: requests, per: group, quota: {free: 10k/month, paid: 1M/month}}
  rows: {meter: rows, per: org, quota: {free: 1k/day, paid: 50k/day}}
"""
"""The policy that a part of one is tried in. A section of the part takes the place of the one here."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and nothing of ours in the environment."""
    for name in list(os.environ):
        if name.upper().startswith(("HEADGATE", "UVICORN_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def saved(page: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, with the modules that the page has its reader save there."""
    monkeypatch.syspath_prepend(str(folder))
    for block in page.blocks("python"):
        if block.name:
            (folder / block.name).write_text(block.text)
            monkeypatch.delitem(sys.modules, Path(block.name).stem, raising=False)
    return folder


@pytest.mark.blocks("python")
def test_python_runs(page: Any, saved: Path) -> None:
    space: dict[str, Any] = {"__name__": "__page__"}
    for block in page.blocks("python"):
        if block.text.startswith(">>>"):
            _session(block, space, page.name)
        else:
            # Code that is compiled under its page's lines, so that a fault is found where it stands.
            exec(compile("\n" * (block.line - 1) + block.text, page.name, "exec"), space)


def _session(block: Any, space: dict[str, Any], name: str) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, space, name, name, block.line - 1)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append, clear_globs=False)
    space.update(test.globs)
    assert result.failed == 0, "".join(said)


@pytest.mark.blocks("yaml")
def test_policies_and_keys_have_no_fault(page: Any, saved: Path) -> None:
    for block in page.blocks("yaml"):
        file = saved / "page.yaml"
        root = re.search(r"^headgate[\w-]*(?=:)", block.text, re.M)
        file.write_text(block.text if root else _within(block.text))
        if root and root[0] == "headgate-keys":
            assert KeysFile(file, ()).table.entries, f"{page.name}:{block.line}: no keys"
            continue
        report = check(file)
        wrong = [problem for problem in report.problems if problem.severity == "error"]
        assert not wrong, f"{page.name}:{block.line}\n{report}"


def _within(part: str) -> str:
    """A part of a policy, within a small one."""
    mine = _sections(part)
    assert "".join([text for _, text in mine]) == part, "a part begins with a section: nothing of it is left out"
    sections = dict(_sections(SMALL)) | dict(mine)
    return "\n".join(sections.values())


def _sections(text: str) -> list[tuple[str, str]]:
    return [(found[1], found[0]) for found in re.finditer(r"^(\w+):.*\n(?:(?!\w+:).*\n)*", text, re.M)]


def test_every_policy_that_is_shipped_has_no_fault(repo: Path) -> None:
    shipped = [*sorted((repo / "policies").glob("*.yaml")), *sorted((repo / "examples").glob("*/policy.yaml"))]
    assert shipped
    for path in shipped:
        report = check(path)
        assert not [problem for problem in report.problems if problem.severity != "note"], f"{path.name}\n{report}"
