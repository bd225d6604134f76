"""`headgate config` and `headgate usage`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from headgate.quota.facts import Call
from headgate.service import Service
from headgate.settings import Settings

from .conftest import Run


def test_every_setting_is_shown_with_where_it_comes_from(
    pepper: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_STORE", f"redis://u:{pepper}@h/0")
    said = run("config", "--origin")
    assert said.exit_code == 0 and said.stderr == ""
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in said.stdout.splitlines()}
    assert len(rows) == len(Settings.model_fields) + 1
    assert rows["HEADGATE_STORE"] == ["redis://[hidden]@h/0", "environment HEADGATE_STORE"]
    assert rows["HEADGATE_PEPPER"] == ["[hidden]", "environment HEADGATE_PEPPER"]
    assert rows["HEADGATE_PREFIX"] == ["/headgate", "default"]
    assert pepper not in said.stdout
    assert "default" not in run("config").stdout


def test_a_field_of_the_policy_is_shown_with_what_it_replaces(
    policy: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE__LIMITS__RPM__RATE__FREE", "5/min")
    monkeypatch.setenv("HEADGATE__LIMITS__RMP__RATE", "6/min")
    said = run("config", "--origin")
    [row] = [line for line in said.stdout.splitlines() if "HEADGATE__" in line]
    assert row.split() == ["HEADGATE__LIMITS__RPM__RATE__FREE", "(limits.rpm.rate.free)", "5/min", "environment;",
                           "replaces", "`2/min`", "in", "headgate.yaml:11:53"]  # fmt: skip
    assert "HEADGATE__LIMITS__RMP__RATE" in said.stderr


def test_a_mistyped_variable_is_not_silent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_STROE", "memory://")
    said = run("config")
    assert said.exit_code == 0 and "HEADGATE_STROE is no setting; did you mean HEADGATE_STORE?" in said.stderr


def test_a_setting_that_cannot_be_used_is_told_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_DEADLINE_MS", "soon")
    refused = run("config")
    assert refused.exit_code == 2 and refused.stdout == ""
    assert refused.stderr == "headgate: HEADGATE_DEADLINE_MS: `soon` is not a whole number\n"


@pytest.fixture
def used(policy: Path, keys: Path, pepper: str) -> None:
    """Two requests of acme's key, counted in the ledger that the settings name."""

    async def served() -> None:
        gate = Service(Settings()).prepare()
        principal = next(e.principal for e in gate.directory.table.entries if e.principal.key == "k_1")  # type: ignore[union-attr]
        for _ in range(2):
            assert (await gate.admit(Call(principal, network="192.0.2.7"))).allowed
        await gate.close()

    asyncio.run(served())


@pytest.mark.usefixtures("used")
def test_what_a_key_has_used_is_shown_limit_by_limit(run: Run) -> None:
    said = run("usage", "k_1")
    assert said.exit_code == 0, said.stderr
    rows = {line.split()[0]: line.split() for line in said.stdout.splitlines()}
    assert rows["limit"] == ["limit", "per", "used", "held", "of", "left", "resets", "mode"]
    assert rows["rpm"][1:6] == ["key", "2", "0", "3", "1"]
    assert rows["month"][1:6] == ["group", "2", "0", "5", "3"] and rows["month"][-1] == "enforce"
    assert rows["rows"][1:6] == ["org", "0", "50", "100", "50"]
    assert rows["open"][6] == "-" and rows["staged"][-1] == "shadow"
    assert "not shown: watched" in said.stderr


@pytest.mark.usefixtures("used")
def test_of_an_org_the_limits_are_shown_that_its_keys_share(run: Run) -> None:
    told = json.loads(run("usage", "acme", "--json").stdout)
    assert (told["key"], told["org"], told["plan"]) == (None, "acme", "free")
    rows = {row["limit"]: row for row in told["limits"]}
    assert set(rows) == {"posts", "rows", "month"}
    assert (rows["month"]["used"], rows["month"]["left"], rows["month"]["verb"]) == (2, 3, "quota")
    assert rows["month"]["resets"].endswith("Z")


def test_looking_makes_no_ledger(policy: Path, keys: Path, pepper: str, folder: Path, run: Run) -> None:
    said = run("usage", "k_1")
    assert said.exit_code == 0 and "headgate.db is not there yet: nothing has been counted" in said.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["headgate.yaml", "keys.yaml"]


def test_nobody_is_told_as_such(policy: Path, keys: Path, pepper: str, run: Run) -> None:
    refused = run("usage", "acmee")
    assert refused.exit_code == 1 and "has no key or org `acmee`; did you mean `acme`?" in refused.stderr
    secret = "hg_" + 32 * "s"
    told = run("usage", secret)
    assert told.exit_code == 2 and secret not in told.stderr
    assert run("usage", "other", "--plan", "build").exit_code == 0
    assert run("usage", "k_9", "--org", "other", "--plan", "build").exit_code == 0
    assert run("usage", "other", "--plan", "gold").exit_code == 2


def test_where_the_app_answers_for_its_keys_the_caller_is_said(policy: Path, pepper: str, run: Run) -> None:
    policy.write_text(policy.read_text().replace("directory: keys.yaml", 'directory: {python: "json:loads"}'))
    refused = run("usage", "k_1")
    assert refused.exit_code == 1 and "--org and --plan say whose it is" in refused.stderr
    assert run("usage", "k_1", "--org", "acme", "--plan", "free").exit_code == 0


def test_a_ledger_that_is_none_is_told_in_one_line(
    policy: Path, keys: Path, pepper: str, folder: Path, run: Run
) -> None:
    (folder / "headgate.db").write_bytes(b"this is no ledger, and long enough to be looked at " * 40)
    refused = run("usage", "k_1")
    assert refused.exit_code == 2 and refused.stdout == "" and "headgate.db" in refused.stderr
