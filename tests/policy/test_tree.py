"""Hostile and clumsy YAML: refused with its place, quickly, and nothing is done by reading it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from headgate.document import Branch, Scalar
from headgate.errors import PolicyError
from headgate.policy import Report, check, load
from headgate.policy.problem import Findings
from headgate.policy.tree import SIZE_MOST, read_tree
from timing import ratio

HEAD = "headgate: v1\npolicy: p\nmode: enforce\non_store_error: closed\nidentify: {directory: keys.yaml}\n"
LIMITS = "limits:\n  rpm: {meter: requests, per: key, rate: 60/min}\n"


def checked(tmp_path: Path, text: str) -> Report:
    file = tmp_path / "policy.yaml"
    file.write_text(text, encoding="utf-8")
    return check(file)


def numbers(report: Report) -> set[str]:
    return {problem.number for problem in report.problems}


def test_an_alias_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    report = checked(tmp_path, "\n".join(rows))
    grown = ratio(lambda: checked(tmp_path, "\n".join(rows)), lambda: checked(tmp_path, "\n".join(rows[:5])))
    assert grown < 20, "twice the rows; what they stand for is 6,561 times as much"
    assert report.policy is None and "HG107" in numbers(report)
    assert len(str(report)) < 20_000


@pytest.mark.parametrize("opened", ["[", "{a: ", "- "])
def test_deep_nesting_is_a_problem_and_no_recursion(tmp_path: Path, opened: str) -> None:
    head = "limits: " if opened != "- " else ""
    report = checked(tmp_path, head + opened * 5_000)
    grown = ratio(lambda: checked(tmp_path, head + opened * 5_000), lambda: checked(tmp_path, head + opened * 500))
    assert grown < 30, "ten times as deep; where each level looks at all others, it is a hundred"
    assert report.policy is None and numbers(report) <= {"HG111", "HG104"}


def test_nothing_is_imported_and_nothing_runs_by_reading_tags(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = f"x: !!python/object/apply:os.mkdir ['{mark}']\ny: !!python/name:antigravity.fly\nz: !!binary aGk=\n"
    report = checked(tmp_path, HEAD + LIMITS + text)
    assert not mark.exists() and "antigravity" not in sys.modules
    assert len([p for p in report.problems if p.number == "HG108"]) == 3


@pytest.mark.parametrize(
    "written",
    ["010", "1:30", "1_000", "1e3", "on", ".inf", ".nan", "0x10", "2026-11-23", "+5", "-1", "0o7", "null", "~"],
)
def test_scalars_on_which_yaml_readers_disagree_are_no_amounts(tmp_path: Path, written: str) -> None:
    report = checked(tmp_path, HEAD + f"limits:\n  a: {{meter: streams, per: key, max: {written}}}\n")
    assert report.policy is None and numbers(report) == {"HG301"}


def test_merge_keys_are_refused(tmp_path: Path) -> None:
    assert "HG109" in numbers(checked(tmp_path, HEAD + LIMITS + "terms: {<<: {a: b}}\n"))


def test_nothing_is_included_and_nothing_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-value")
    (tmp_path / "other.yaml").write_text("secret-content")
    report = checked(tmp_path, HEAD + LIMITS + f"include: {tmp_path}/other.yaml\nzone: '${{CANARY}}'\n")
    assert {"HG201", "HG110"} <= numbers(report)
    assert "canary-value" not in str(report) and "secret-content" not in str(report)


def test_what_looks_like_a_credential_is_not_printed(tmp_path: Path) -> None:
    report = checked(tmp_path, HEAD + LIMITS + "token: hg_0123456789abcdefghijkl\n")
    assert "HG201" in numbers(report) and "0123456789" not in str(report)


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    large, huge = tmp_path / "large.yaml", tmp_path / "huge.yaml"
    for file, size in ((large, SIZE_MOST + 1), (huge, 100 * SIZE_MOST)):
        with file.open("wb") as sparse:
            sparse.truncate(size)
        assert numbers(check(file)) == {"HG102"}
    assert ratio(lambda: check(huge), lambda: check(large)) < 20


def test_pipes_links_in_a_circle_and_folders_that_are_gone_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    for name in ("pipe.yaml", "loop.yaml", "gone.yaml", "gone/deep.yaml", "nul\0.yaml"):
        assert numbers(check(tmp_path / name)) == {"HG101"}, name


def test_half_a_file_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = (HEAD + LIMITS).rstrip()
    for end in range(len(whole) - 25):
        assert checked(tmp_path, whole[:end]).policy is None, whole[:end]


def test_control_characters_and_odd_encodings_are_told(tmp_path: Path) -> None:
    assert numbers(checked(tmp_path, HEAD + "x: a\x07b\n")) == {"HG104"}
    file = tmp_path / "bom.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + (HEAD + LIMITS).encode())
    assert check(file).policy is not None
    file.write_bytes((HEAD + LIMITS).encode("utf-16"))
    assert numbers(check(file)) == {"HG103"}


def test_all_faults_are_told_at_once_and_the_error_is_the_report(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        "headgate: v1\npolcy: p\nmode: enfroce\nlimits:\n  rpm: {meter: requests, per: kye, rate: 60/mni}\n"
    )
    with pytest.raises(PolicyError) as caught:
        load(file)
    assert {"HG201", "HG204", "HG303", "HG404", "HG411"} <= {problem.number for problem in caught.value.problems}
    assert str(caught.value) == str(check(file))
    for suggestion in ("policy", "enforce", "60/min", "key"):
        assert f"did you mean `{suggestion}`" in str(caught.value)


def test_a_tree_has_places_and_raw_text() -> None:
    tree = read_tree("a: 1\nlist:\n  - {b: 'x y'}\n", "f.yaml", Findings())
    assert isinstance(tree, Branch)
    key, value = tree.entries["a"]
    assert isinstance(value, Scalar)
    assert (value.text, value.plain, value.mark.line, value.mark.column, str(key.mark)) == (
        "1",
        True,
        1,
        4,
        "f.yaml:1:1",
    )
