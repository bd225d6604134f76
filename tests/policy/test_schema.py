"""What is written from the grammar stays equal to it, and the schema agrees with the checks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from headgate.document import Branch, Node, Row, Scalar
from headgate.policy import reference, schema
from headgate.policy.problem import Findings
from headgate.policy.tree import read_tree

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden")
RIGHT = [
    *sorted(path for path in (ROOT / "policies").glob("*.yaml") if not path.stem.endswith(".test")),
    *sorted((ROOT / "examples").glob("*/policy.yaml")),
    *sorted(Path(__file__).with_name("examples").glob("*.yaml")),
    *sorted(path for path in GOLDEN.glob("HG[59]*.yaml")),
]

SEEN_BY_A_SCHEMA = (
    *("HG201", "HG202-missing", "HG203", "HG204", "HG205", "HG206", "HG207", "HG209", "HG210", "HG211", "HG212"),
    *("HG213", "HG301", "HG302", "HG303", "HG304", "HG305", "HG306", "HG307", "HG309", "HG310", "HG313", "HG314"),
    *("HG317", "HG318"),
)
"""Numbers whose golden files a schema can refuse; the rest needs to know more than one place."""

VALIDATOR = Draft202012Validator(schema.schema())


def plain(node: Node) -> Any:
    """A tree as an editor sees it: scalars typed as YAML 1.2 has them."""
    if isinstance(node, Branch):
        return {name: plain(value) for name, (_, value) in node.entries.items()}
    if isinstance(node, Row):
        return [plain(item) for item in node.items]
    assert isinstance(node, Scalar)
    text = node.text
    if not node.plain:
        return text
    if text in {"", "~", "null"}:
        return None
    if text in {"true", "false"}:
        return text == "true"
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return int(text)
    return float(text) if re.fullmatch(r"[-+]?[0-9]*\.[0-9]+", text) else text


def document(path: Path) -> Any:
    tree = read_tree(path.read_text(encoding="utf-8"), path.name, Findings())
    assert tree is not None
    return plain(tree)


def test_the_schema_in_the_repository_is_the_grammars() -> None:
    assert (ROOT / "policies" / "headgate-v1.schema.json").read_text(encoding="utf-8") == schema.text()
    Draft202012Validator.check_schema(json.loads(schema.text()))


@pytest.mark.parametrize("page", ["policy-reference", "problems"])
def test_the_pages_in_the_repository_are_the_grammars(page: str) -> None:
    written = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert written == reference.PAGES[page.partition("-")[0]]()


@pytest.mark.parametrize("path", RIGHT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_schema_refuses_no_right_policy(path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(document(path))] == []


@pytest.mark.parametrize("number", SEEN_BY_A_SCHEMA)
def test_the_schema_refuses_what_it_can_see(number: str) -> None:
    files = sorted(GOLDEN.glob(f"{number}*.yaml"))
    assert files
    for path in files:
        assert not VALIDATOR.is_valid(document(path)), path.name
