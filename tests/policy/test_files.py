"""A directory of files is their union."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.policy import check, load, sources

HEAD = "headgate: v1\npolicy: p\nmode: enforce\non_store_error: closed\nidentify: {directory: keys.yaml}\n"
RPM = "limits:\n  rpm: {meter: requests, per: key, rate: 60/min}\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_tables_are_united_and_lists_joined(tmp_path: Path) -> None:
    override = "overrides:\n  - {org: %s, limits: rpm, value: unlimited, reason: r, until: 2199-01-01}\n"
    day = "headgate: v1\nlimits:\n  day: {meter: rows, per: key, quota: 1k/day}\nmeters:\n  rows: {from: app}\n"
    write(tmp_path, a=HEAD + RPM + override % "acme", b=day + override % "bolt")
    policy = load(tmp_path)
    assert [limit.id for limit in policy.limits] == ["rpm", "day"]
    assert [override.name for override in policy.overrides] == ["acme", "bolt"]
    assert policy == load([tmp_path / "a.yaml", tmp_path / "b.yaml"]) == load([tmp_path, tmp_path / "a.yaml"])


def test_records_are_united_field_by_field(tmp_path: Path) -> None:
    write(tmp_path, a=HEAD + RPM, b="headgate: v1\nidentify: {anonymous: {per: ip}, directory: keys.yaml}\n")
    assert load(tmp_path).identify.anonymous == ""


@pytest.mark.parametrize(
    ("second", "number"),
    [
        (RPM, "HG115"), ("mode: shadow\n", "HG116"), ("identify: {directory: other.yaml}\n", "HG116"),
        ("plans: [a, b]\n", "HG116"), ("identify: other.yaml\n", "HG116"),
    ],
)  # fmt: skip
def test_what_two_files_say_differently_names_both_places(tmp_path: Path, second: str, number: str) -> None:
    write(tmp_path, a=HEAD + RPM + "plans: [b, a]\n", b="headgate: v1\n" + second)
    [problem] = check(tmp_path).errors
    assert problem.number == number and problem.file.endswith("b.yaml") and "a.yaml:" in problem.message


def test_what_two_files_say_alike_is_no_conflict(tmp_path: Path) -> None:
    write(tmp_path, a=HEAD + RPM, b=HEAD)
    assert load(tmp_path).name == "p"


def test_other_documents_in_a_directory_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, a=HEAD + RPM, keys="headgate-keys: v1\norgs: {}\n", b="headgate-test: v1\n")
    (tmp_path / "a.test.yaml").write_text("anything: [")
    (tmp_path / ".hidden.yaml").write_text("anything: [")
    (tmp_path / "notes.txt").write_text("anything: [")
    report = check(tmp_path)
    assert report.policy is not None and [file.name for file in report.files] == ["a.yaml"]


def test_the_files_to_watch_are_told_even_if_they_are_gone(tmp_path: Path) -> None:
    write(tmp_path, a=HEAD + RPM, b=HEAD)
    assert sources(tmp_path) == (tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert sources([tmp_path / "gone.yaml"]) == (tmp_path / "gone.yaml",)
