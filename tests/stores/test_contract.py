"""The shipped contract suite on every store there is."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from headgate.stores import MemoryStore, SqliteStore, Store, open_store
from headgate.stores.sqlite import sweep
from headgate.testing import ManualClock
from headgate.testing.stores import StoreContract


class TestMemoryStore(StoreContract):
    def make_store(self, clock: ManualClock) -> Store:
        return MemoryStore(clock=clock)


class TestSqliteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self._names = (f"sqlite:///{tmp_path}/ledger-{n}.db" for n in count())

    def make_store(self, clock: ManualClock) -> Store:
        return open_store(next(self._names), clock=clock)

    def make_peer(self, store: Store, clock: ManualClock) -> Store:
        assert isinstance(store, SqliteStore)
        return SqliteStore(store._path, clock=clock)


class TestSqliteStoreThatForgetsAtEveryTurn(TestSqliteStore):
    """Forgetting decides nothing: the contract holds as well where it happens all the time."""

    @pytest.fixture(autouse=True)
    def _at_every_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sweep, "EVERY", 1)
        monkeypatch.setattr(sweep, "PACE", 100)


def test_a_manual_clock_needs_no_test_library() -> None:
    code = "import sys, headgate.testing; sys.exit('pytest' in sys.modules or 'hypothesis' in sys.modules)"
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0
