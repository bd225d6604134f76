"""`headgate check` says what the store cannot keep, and what it keeps less well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

Run = Any

POLICY = """\
headgate: v1
policy: little
mode: enforce
on_store_error: closed
identify: {anonymous: {per: ip}, trust: {proxies: [10.0.0.0/8], header: x-forwarded-for}}
meters:
  tokens: {from: app, reserve: 100}
limits:
  rpm: {meter: requests, per: ip, rate: 60/min}
"""

TOKENS = "  tokens: {meter: tokens, per: ip, quota: 1M/month}\n"


@pytest.fixture
def requests(folder: Path) -> Path:
    path = folder / "headgate.yaml"
    path.write_text(POLICY.replace("meters:\n  tokens: {from: app, reserve: 100}\n", ""))
    return path


def test_a_policy_that_a_memcached_can_keep_is_fine_and_its_weaker_promises_are_listed(
    requests: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "memcached" not in run("check").stdout
    monkeypatch.setenv("HEADGATE_STORE", "memcached://user:hidden-word@cache.example:11211")
    found = run("check", "--strict")
    assert found.exit_code == 0
    assert "Kept at memcached://cache.example:11211, which promises less than SQLite and Redis:\n" in found.stdout
    assert "\n  - nothing is held: " in found.stdout and "\n  - memcached forgets " in found.stdout
    assert "hidden-word" not in found.output
    told = json.loads(run("check", "--format", "json").stdout)
    assert told["ok"] and {problem["number"] for problem in told["problems"]} == {"HG906"}


def test_a_limit_that_the_store_cannot_keep_is_an_error_at_its_line(folder: Path, run: Run) -> None:
    (folder / "headgate.yaml").write_text(POLICY + TOKENS)
    assert run("check").exit_code == 0
    found = run("check", "--store", "mongodb://db.example:27017")
    assert found.exit_code == 1
    assert (
        "headgate.yaml:10:3: error HG424: limit `tokens` cannot be kept at mongodb://db.example:27017" in found.stdout
    )
    assert "memcached forgets" not in found.stdout
    assert run("check", "--store", "redis://db.example").exit_code == 0


def test_a_store_that_nobody_knows_is_told_without_its_password(requests: Path, run: Run) -> None:
    found = run("check", "--store", "mongo://user:hidden-word@db.example")
    assert found.exit_code == 2
    assert "no store is known for `mongo://`" in found.stderr and "hidden-word" not in found.output
