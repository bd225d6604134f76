"""What stands in the documentation: pages, and their blocks in order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]

FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.M | re.S)
NAMED = re.compile(r"\A# ([\w.-]+\.(?:py|yaml))\n")


@dataclass(frozen=True)
class Block:
    """One block of a page. `name`: the file that the reader is told to save it as, in its first line as a comment."""

    language: str
    note: str
    text: str
    line: int

    @property
    def name(self) -> str:
        found = NAMED.match(self.text)
        return found[1] if found else ""


@dataclass(frozen=True)
class Page:
    """One page of the documentation."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(REPO))

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def blocks(self, *languages: str) -> list[Block]:
        """The blocks in these languages, in the order in which they stand."""
        text = self.text
        return [
            Block(found[1], found[2].strip(), found[3], text.count("\n", 0, found.start()) + 2)
            for found in FENCE.finditer(text)
            if found[1] in languages
        ]


def pages() -> list[Page]:
    """README, docs, the ready-made policies' page and the examples' pages."""
    paths = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md")), REPO / "policies" / "README.md"]
    return [Page(path) for path in [*paths, *sorted((REPO / "examples").glob("*/README.md"))]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "blocks(*languages): run for each page that has a block in one of them")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for a `page` runs for each; one marked `blocks` for those that have such blocks."""
    if "page" not in metafunc.fixturenames:
        return
    wanted = metafunc.definition.get_closest_marker("blocks")
    found = [page for page in pages() if wanted is None or page.blocks(*wanted.args)]
    metafunc.parametrize("page", found, ids=[page.name for page in found])


@pytest.fixture(scope="session")
def repo() -> Path:
    return REPO
