"""Links between pages lead somewhere: to a file that exists, and to a heading that it has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.M | re.S)


def anchors(path: Path) -> set[str]:
    """The headings of a page, as GitHub makes anchors of them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_links_lead_somewhere(page: Any, repo: Path) -> None:
    for target in LINK.findall(CODE.sub("", page.text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        assert path.is_relative_to(repo) and path.exists(), f"{page.name}: {target} is not there"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}: no such heading"


@pytest.mark.parametrize("name", ["guide.md", "operations.md", "how-it-counts.md", "promises.md", "index.md"])
def test_every_page_is_on_the_map(name: str, repo: Path) -> None:
    assert name == "index.md" or f"]({name})" in (repo / "docs" / "index.md").read_text(encoding="utf-8")


def test_the_readme_leads_to_the_documentation(repo: Path) -> None:
    assert "](docs/guide.md)" in (repo / "README.md").read_text(encoding="utf-8")
