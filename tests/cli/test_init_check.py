"""`headgate init` and `headgate check`."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from .conftest import Run

READY = ("data-api", "linked-group", "llm-api", "per-key", "per-org")


@pytest.mark.parametrize("name", READY)
def test_a_ready_made_policy_is_fine_and_a_key_can_be_made_at_once(name: str, folder: Path, run: Run) -> None:
    begun = run("init", name)
    assert begun.exit_code == 0 and begun.stderr == ""
    assert "app.add_middleware(HeadgateMiddleware)" in begun.stdout
    for file, mode in (("keys.yaml", 0o600), ("headgate.pepper", 0o600)):
        assert stat.S_IMODE((folder / file).stat().st_mode) == mode
    said = {line.split()[1] for line in begun.stdout.splitlines() if line.startswith("made ")}
    assert said == {path.name for path in folder.iterdir()}
    assert run("check", "--strict").exit_code == 0
    step = next(line for line in begun.stdout.splitlines() if "headgate key new --org" in line)
    issued = run(*step.split("headgate ")[1].split())
    assert issued.exit_code == 0 and issued.stdout.startswith("hg_")
    assert run("check").exit_code == 0


def test_without_a_name_it_is_the_llm_api(folder: Path, run: Run) -> None:
    run("init")
    assert "policy: llm-api" in (folder / "headgate.yaml").read_text()


def test_nothing_is_replaced_unless_force_says_so_and_then_only_the_policy(folder: Path, run: Run) -> None:
    run("init", "per-key")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    refused = run("init", "per-org")
    assert refused.exit_code == 2 and "headgate.yaml is there already; --force replaces it" in refused.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    forced = run("init", "per-org", "--force")
    assert forced.exit_code == 0 and "found  keys.yaml  left as it is" in forced.stdout
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"headgate.yaml"}


def test_another_folder_is_made_and_named_in_the_next_steps(folder: Path, run: Run) -> None:
    begun = run("init", "per-key", "--into", "a folder/of mine")
    assert begun.exit_code == 0 and "cd 'a folder/of mine' && headgate check" in begun.stdout
    assert (folder / "a folder/of mine/headgate.pepper").exists() and [p.name for p in folder.iterdir()] == [
        "a folder"
    ]


def test_a_policy_that_there_is_not_is_told_with_those_that_there_are(folder: Path, run: Run) -> None:
    refused = run("init", "lm-api")
    assert refused.exit_code == 2 and refused.stdout == ""
    assert "did you mean `llm-api`?" in refused.stderr
    assert all(name in refused.stderr for name in READY)
    assert list(folder.iterdir()) == []
    assert run("init", "../secrets").exit_code == 2


def test_a_folder_that_cannot_be_written_is_told_in_one_line(folder: Path, run: Run) -> None:
    (folder / "file").write_text("")
    refused = run("init", "per-key", "--into", "file/below")
    assert refused.exit_code == 2 and len(refused.stderr.splitlines()) == 1


def test_a_fine_policy_is_told_in_short(policy: Path, keys: Path, run: Run) -> None:
    found = run("check")
    assert found.exit_code == 0, found.stdout
    assert "little: 7 limits, mode enforce, version " in found.stdout


def test_what_is_not_enforced_is_said_plainly(folder: Path, run: Run) -> None:
    run("init", "llm-api")
    found = run("check")
    assert "Read, checked and not enforced by this version:\n  - `ladder`" in found.stdout
    told = json.loads(run("check", "--format", "json").stdout)
    assert told["ok"] and any("ladder" in what for what in told["not_enforced"])


def test_faults_are_told_all_at_once_with_their_places(policy: Path, run: Run) -> None:
    policy.write_text(policy.read_text().replace("mode: enforce", "mode: enforced").replace("60/min", "60/mni"))
    found = run("check", "headgate.yaml")
    assert found.exit_code == 1
    assert "headgate.yaml:3:7: error HG" in found.stdout and "headgate.yaml:11:" in found.stdout
    told = json.loads(run("check", "--format=json").stdout)
    assert not told["ok"] and told["policy"] is None
    assert {problem["line"] for problem in told["problems"]} >= {3, 11}


def test_warnings_count_if_strict(policy: Path, run: Run) -> None:
    policy.write_text(policy.read_text().replace("until: 2099-12-31", "until: 2020-12-31"))
    assert run("check").exit_code == 0
    assert run("check", "--strict").exit_code == 1


def test_a_file_that_cannot_be_read_is_another_exit_code(folder: Path, run: Run) -> None:
    assert run("check", "nowhere.yaml").exit_code == 2
    assert run("check", "--format", "xml").exit_code == 2
    (folder / "empty").mkdir()
    assert run("check", "empty").exit_code == 1


def test_variables_are_checked_with_the_policy(policy: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE__LIMITS__RPM__RATE__FREE", "soon")
    found = run("check")
    assert found.exit_code == 1 and "HEADGATE__LIMITS__RPM__RATE__FREE" in found.stdout


def test_keys_that_do_not_fit_the_policy_are_told(policy: Path, keys: Path, run: Run) -> None:
    keys.write_text(keys.read_text().replace("plan: build", "plan: gold"))
    found = run("check")
    assert found.exit_code == 1 and "keys.yaml:7: key k_2 has the plan `gold`" in found.stdout
    keys.write_text(keys.read_text() + "  - {}\n")
    assert "keys.yaml:8: a key has no `key`" in run("check").stdout
    keys.unlink()
    missing = run("check")
    assert missing.exit_code == 0 and "keys.yaml is not there yet" in missing.stderr
