"""A gate over a policy that a test writes down, on a clock that it moves: fixtures for tests of the gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.gate import Gate
from headgate.policy import load
from headgate.policy.compiled import Policy
from headgate.stores import open_store
from headgate.testing import ManualClock

HEAD = """
headgate: v1
policy: test
mode: enforce
zone: UTC
on_store_error: closed
identify: {key: [header.x-api-key], anonymous: refuse}
"""
PEPPERS = (b"a pepper of thirty-two bytes. ok.",)


@pytest.fixture
def policy_of(tmp_path: Path) -> Callable[[str], Policy]:
    """The policy of this text, behind a head that names it."""

    def made(text: str) -> Policy:
        file = tmp_path / "headgate.yaml"
        file.write_text(HEAD + text)
        return load(file)

    return made


@pytest.fixture(params=["memory", "sqlite"])
def gate_of(
    request: pytest.FixtureRequest, policy_of: Callable[[str], Policy], tmp_path: Path, clock: ManualClock
) -> Callable[[str], Gate]:
    """A gate with the policy of this text, over a store of its own."""
    uri = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"
    return lambda text: Gate(policy_of(text), open_store(uri, clock=clock), PEPPERS, clock=clock)
