"""An empty folder to work in, without the settings of the shell that runs the tests, and the command line itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from typer.testing import CliRunner

from headgate.cli import app
from headgate.telemetry import logger

PEPPER = "canary-pepper-of-the-command-line-tests"


class Said(Protocol):
    """What a command said and how it ended."""

    exit_code: int
    stdout: str
    stderr: str


Run = Callable[..., Said]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in list(os.environ):
        if name.upper().startswith("HEADGATE"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    return tmp_path


@pytest.fixture
def pepper(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HEADGATE_PEPPER", PEPPER)
    return PEPPER


@pytest.fixture
def run() -> Run:
    """Runs one command in this process. What nobody caught is a fault of ours and fails the test."""

    def command(*words: str) -> Said:
        result = CliRunner().invoke(app, list(words))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return command


POLICY = """\
headgate: v1
policy: little
mode: enforce
zone: Europe/Berlin
on_store_error: closed
identify: {key: [header.authorization.bearer], directory: keys.yaml, anonymous: refuse}
plans: [free, build]
meters:
  rows: {from: app, reserve: 25, max: 100}
limits:
  rpm:     {meter: requests, per: key, rate: {free: 2/min, build: 60/min}, burst: 1}
  posts:   {meter: requests, per: org, rate: 10/min, when: {route: /v1/*, method: POST}, unless: {tag: batch}}
  rows:    {meter: rows, per: org, quota: {free: 100/day, build: unlimited}, alert: [80%], terms: fair,
            candidate: 50/day, deny: {status: 403, message: enough}}
  month:   {meter: requests, per: group, quota: {free: 5/month, build: 5k/month}, anchor: subscription}
  staged:  {meter: requests, per: key, total: 1k, rollout: 0%}
  watched: {meter: requests, per: [ip, key], rolling: 2k/7d, mode: shadow}
  open:    {meter: streams, per: key, max: 8, lease: 10m}
terms:
  fair: {title: Fair use, url: "https://x.example/terms#3"}
overrides:
  - {org: bigco, limits: [month], value: 9k/month, reason: contract 2231, until: 2099-12-31}
"""


@pytest.fixture
def policy(folder: Path) -> Path:
    file = folder / "headgate.yaml"
    file.write_text(POLICY, encoding="utf-8")
    return file


@pytest.fixture
def keys(folder: Path) -> Path:
    file = folder / "keys.yaml"
    file.write_text(
        "headgate-keys: v1\n"
        "orgs:\n"
        "  acme: {plan: free, anchor: 2026-01-31}\n"
        "  bigco: {plan: build}\n"
        "keys:\n"
        f"  - {{key: k_1, org: acme, digest: {32 * '1'}, created: 2026-11-24}}\n"
        f"  - {{key: k_2, org: bigco, digest: {32 * '2'}}}\n",
        encoding="utf-8",
    )
    return file
