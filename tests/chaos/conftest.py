"""The ledgers that a fleet may have, and the workers that the tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.crew import Crew

WORKERS = 8


@pytest.fixture(scope="session")
def _crews(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Crew]]:
    """The run's crew, in a list: one of which a test has lost somebody is replaced."""
    held: list[Crew] = []
    yield held
    for crew in held:
        crew.end()


@pytest.fixture
def crew(_crews: list[Crew], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """Eight workers for the whole run; none of them is killed."""
    if _crews and not _crews[0].whole:
        _crews.pop().end()
    if not _crews:
        _crews.append(Crew(tmp_path_factory.mktemp("crew"), WORKERS))
    yield _crews[0]
    if _crews[0].whole:
        _crews[0].close()


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty ledger that processes share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("valkey" if request.param == "redis" else "cluster").url)


@pytest.fixture(params=["redis", "cluster"])
def servers(request: pytest.FixtureRequest) -> str:
    """The address of an empty ledger on servers of a fleet."""
    return str(request.getfixturevalue("valkey" if request.param == "redis" else "cluster").url)
