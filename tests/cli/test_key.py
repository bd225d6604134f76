"""`headgate key`: a secret is seen once and stands nowhere."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from headgate.directory import KeysFile

from .conftest import Run


def test_the_secret_alone_is_on_standard_output(folder: Path, pepper: str, run: Run) -> None:
    made = run("key", "new", "--org", "acme", "--plan", "build", "--into", "keys.yaml")
    assert made.exit_code == 0
    assert re.fullmatch(r"hg_[A-Za-z0-9_-]{32,}\n", made.stdout)
    secret = made.stdout.strip()
    assert secret not in made.stderr and "keys.yaml" in made.stderr and "(made keys.yaml)" in made.stderr
    assert stat.S_IMODE((folder / "keys.yaml").stat().st_mode) == 0o600
    found = KeysFile(folder / "keys.yaml", [pepper.encode()]).known(secret.encode())
    assert found is not None and (found.org, found.plan) == ("acme", "build") and found.key in made.stderr
    for file in folder.rglob("*"):
        assert secret.encode() not in file.read_bytes() and pepper.encode() not in file.read_bytes()


def test_without_a_pepper_nothing_is_made(folder: Path, run: Run) -> None:
    refused = run("key", "new", "--org", "acme")
    assert refused.exit_code == 2 and refused.stdout == ""
    assert "no pepper: set HEADGATE_PEPPER" in refused.stderr and list(folder.iterdir()) == []


def test_a_plan_is_looked_up_in_the_policy(policy: Path, pepper: str, run: Run) -> None:
    wrong = run("key", "new", "--org", "acme", "--plan", "biuld")
    assert wrong.exit_code == 2 and "has no plan `biuld`; did you mean `build`?" in wrong.stderr
    none = run("key", "new", "--org", "acme")
    assert none.exit_code == 2 and "needs a plan: say --plan (there are free, build)" in none.stderr
    assert run("key", "new", "--org", "acme", "--plan", "free").exit_code == 0
    assert run("key", "new", "--org", "acme").exit_code == 0  # the org's own


def test_a_policy_that_cannot_be_used_keeps_nobody_from_making_a_key(policy: Path, pepper: str, run: Run) -> None:
    policy.write_text("headgate: v9\n")
    made = run("key", "new", "--org", "acme", "--plan", "any")
    assert made.exit_code == 0 and "warning: the policy cannot be used" in made.stderr
    asked = run("key", "new", "--org", "acme", "--policies", "headgate.yaml")
    assert asked.exit_code == 2 and "headgate.yaml:1" in asked.stderr


def test_a_key_with_a_plan_of_its_own_is_said_to_have_one(policy: Path, keys: Path, pepper: str, run: Run) -> None:
    made = run("key", "new", "--org", "acme", "--plan", "build")
    assert "note: org acme is on plan free; this key alone has build" in made.stderr


def test_the_file_that_the_policy_names_is_the_one(folder: Path, policy: Path, pepper: str, run: Run) -> None:
    (folder / "deep").mkdir()
    policy.rename(folder / "deep" / "p.yaml")
    assert run("key", "new", "--org", "acme", "--plan", "free", "--policies", "deep/p.yaml").exit_code == 0
    assert (folder / "deep" / "keys.yaml").exists()
    text = (
        (folder / "deep" / "p.yaml").read_text().replace("directory: keys.yaml", 'directory: {python: "json:loads"}')
    )
    (folder / "deep" / "p.yaml").write_text(text)
    refused = run("key", "list", "--policies", "deep/p.yaml")
    assert refused.exit_code == 2 and "the policy asks the app for its keys" in refused.stderr


def test_keys_are_listed_and_revoked_by_their_public_ids(keys: Path, run: Run) -> None:
    listed = run("key", "list")
    assert listed.exit_code == 0 and "digest" not in listed.stdout and 32 * "1" not in listed.stdout
    assert listed.stdout.splitlines()[1].split() == ["k_1", "acme", "free", "2026-11-24", "-"]
    gone = run("key", "revoke", "k_1")
    assert gone.exit_code == 0 and gone.stdout == "" and "k_1 is revoked" in gone.stderr
    assert re.search(r"^k_1 .* \d{4}-\d\d-\d\d$", run("key", "list").stdout, re.M)
    again = run("key", "revoke", "k_1")
    assert again.exit_code == 0 and "was revoked before" in again.stderr
    wrong = run("key", "revoke", "k_3")
    assert wrong.exit_code == 1 and "`k_3` is not there; did you mean" in wrong.stderr
    secret = "hg_" + 32 * "s"
    told = run("key", "revoke", secret)
    assert told.exit_code == 1 and secret not in told.stderr


def test_an_empty_file_of_keys_says_how_to_make_one(folder: Path, run: Run) -> None:
    missing = run("key", "list")
    assert missing.exit_code == 2 and "keys.yaml: no such file" in missing.stderr
    run("init", "per-key")
    empty = run("key", "list")
    assert empty.exit_code == 0 and empty.stdout == "" and "has no keys" in empty.stderr


@pytest.mark.parametrize("org", ["", "a\x1b[2Jb", "x" * 200])
def test_a_name_that_cannot_be_one_is_refused(org: str, folder: Path, pepper: str, run: Run) -> None:
    refused = run("key", "new", "--org", org)
    assert refused.exit_code == 2 and refused.stderr.startswith("headgate: the org ") and "\x1b" not in refused.stderr
    assert list(folder.iterdir()) == []
