"""Every number has a golden file: a policy with that fault, and the report that its author reads.

After a change of wording: `GOLDEN=write python -Im pytest tests/policy/test_golden.py`, and read the difference.

A golden file may say in comments at its top how it is read: `# paths: a.yaml b.yaml`, `# env: NAME=value`,
`# store: URI` (where the ledger will be), `# file: NAME` (what follows stands in a file of that name), `# fill: N`
(N more bytes), `# items: N` (N list items), `# wrong: N` (N list items that are wrong).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from headgate.policy import Report, check
from headgate.policy.numbers import NUMBERS
from headgate.stores import keeping

GOLDEN = Path(__file__).with_name("golden")
FILES = sorted(GOLDEN.glob("*.yaml"))


def report_of(golden: Path) -> Report:
    """Lays the golden file out in the present folder and checks it."""
    raw = golden.read_bytes()
    head = raw.decode("utf-8", "replace")
    if fill := re.search(r"^# fill: ([0-9]+)$", head, re.M):
        raw += b"# " + b"x" * int(fill[1])
    if items := re.search(r"^# items: ([0-9]+)$", head, re.M):
        raw += b"".join(b"- p%d\n" % number for number in range(int(items[1])))
    if wrong := re.search(r"^# wrong: ([0-9]+)$", head, re.M):
        raw += b"".join(b"- P%d\n" % number for number in range(int(wrong[1])))
    environ = dict(line.split("=", 1) for line in re.findall(r"^# env: (.*)$", head, re.M))
    paths = re.findall(r"^# paths: (.*)$", head, re.M)
    parts = re.split(rb"^# file: (.*)\n", raw, flags=re.M)
    if len(parts) == 1:
        parts = [b"", b"policy.yaml", *parts]
    for name, content in zip(parts[1::2], parts[2::2], strict=True):
        Path(name.decode()).write_bytes(content)
    store = re.search(r"^# store: (.*)$", head, re.M)
    return check(
        paths[0].split() if paths else "policy.yaml", environ=environ, store=keeping(store[1]) if store else None
    )


@pytest.mark.parametrize("golden", FILES, ids=lambda path: path.stem)
def test_the_author_reads_this_report(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = report_of(golden)
    expected = golden.with_suffix(".txt")
    if os.environ.get("GOLDEN") == "write":
        expected.write_text(f"{report}\n", encoding="utf-8")
    assert f"{report}\n" == expected.read_text(encoding="utf-8")
    number = golden.stem.partition("-")[0]
    assert number in {problem.number for problem in report.problems}
    assert (report.policy is None) == bool(report.errors)


def test_every_number_has_a_golden_file_and_every_golden_file_a_number() -> None:
    assert {path.stem.partition("-")[0] for path in FILES} == set(NUMBERS)
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {path.stem for path in FILES}
    assert {path.suffix for path in GOLDEN.iterdir()} <= {".yaml", ".txt"}


def test_every_number_in_the_code_is_described() -> None:
    import headgate.policy

    package = Path(headgate.policy.__file__).parent
    used = {
        number
        for path in package.glob("*.py")
        if path.name != "numbers.py"
        for number in re.findall(r'"(HG[0-9]{3})"', path.read_text(encoding="utf-8"))
    }
    assert used == set(NUMBERS)
