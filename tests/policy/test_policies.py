"""The ready-made policies and the language's own examples are right."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from headgate.policy import check

ROOT = Path(__file__).parents[2]
READY = sorted(path for path in (ROOT / "policies").glob("*.yaml") if not path.stem.endswith(".test"))
EXAMPLES = sorted(Path(__file__).with_name("examples").glob("*.yaml"))


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_made_policy_has_neither_error_nor_warning(path: Path) -> None:
    report = check(path)
    assert report.policy is not None and report.policy.name == path.stem
    assert [str(problem) for problem in report.problems if problem.severity != "note"] == []
    text = path.read_text(encoding="utf-8")
    assert ("engine comes later" in text) == bool(report.policy.not_enforced)


def test_the_readme_lists_every_ready_made_policy() -> None:
    readme = (ROOT / "policies" / "README.md").read_text(encoding="utf-8")
    assert all(f"[{path.name}]({path.name})" in readme for path in READY)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_languages_examples_are_read_as_they_stand(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = ModuleType("parcels.auth")
    auth.lookup = lambda secret: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "parcels", ModuleType("parcels"))
    monkeypatch.setitem(sys.modules, "parcels.auth", auth)
    report = check(path)
    assert report.policy is not None, str(report)
    assert {problem.severity for problem in report.problems} == {"note"}
    told = [what.split(":")[0] for what in report.policy.not_enforced]
    assert told and set(told) <= {"`linking`", "`ladder`", "`terms.acceptance`"}
