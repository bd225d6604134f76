"""The tables of the documentation say what the code says: settings, events, promises, sizes."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import pytest

from headgate.quota.command import Demand, Reserve
from headgate.quota.decision import told
from headgate.quota.gcra import Rate
from headgate.quota.window import Rolling
from headgate.settings import Settings, variable_of
from headgate.stores import fitness, open_store
from headgate.stores.redis import doctor as of_redis
from headgate.stores.redis.doctor import rights
from headgate.stores.redis.script.scripts import SCRIPT
from headgate.stores.sqlite import doctor as of_file


def rows(page: Path, title: str) -> list[list[str]]:
    """The cells of the table that stands first under a heading."""
    _, _, rest = page.read_text(encoding="utf-8").partition(f"\n{title}\n")
    table = re.search(r"(?:^\|.*\n)+", rest, re.M)
    assert table is not None, f"no table under {title}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[0].splitlines()[2:]]


def test_every_setting_is_told_with_its_default(repo: Path) -> None:
    told_of = {
        cells[0].strip("` "): cells[1].strip("`") for cells in rows(repo / "docs/operations.md", "## Settings")
    }
    words = {"": "(empty)", None: "(not set)"}
    defaults = {
        variable_of(name): words.get(field.default, str(field.default))
        for name, field in Settings.model_fields.items()
    }
    assert told_of == defaults


def emitted(repo: Path) -> dict[str, tuple[set[str], set[str]]]:
    """Each event that the code sends: (levels, fields)."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for path in sorted((repo / "middleware").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(ast.Attribute(ast.Name("events"), level), [ast.Constant(str(name)), *_], keywords):
                    levels, fields = found.setdefault(name, (set(), set()))
                    levels.add(level)
                    fields.update([word.arg or ast.unparse(word.value) for word in keywords])
    return found


def test_every_event_is_told_with_its_level_and_fields(repo: Path) -> None:
    sent = emitted(repo)
    assert len(sent) > 15, "the code is read"
    table = {cells[0].strip("` "): cells[1:] for cells in rows(repo / "docs/operations.md", "## Log events")}
    assert sorted(table) == sorted(sent)
    for name, (level, fields, _) in table.items():
        levels, names = sent[name]
        assert {level} == levels, name
        if not any(field.startswith("told(") for field in names):
            assert set(re.findall(r"`(\w+)`", fields)) == names, name


def test_the_fields_of_a_decisions_event_are_told(repo: Path) -> None:
    source = Path(told.__code__.co_filename).read_text(encoding="utf-8")
    body = ast.unparse(next(n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == "told"))
    named = set(re.findall(r"'(\w+)':|\['(\w+)'\]", body))
    fields = {one or other for one, other in named}
    page = (repo / "docs/operations.md").read_text(encoding="utf-8")
    table = {cells[0].strip("` "): cells[2] for cells in rows(repo / "docs/operations.md", "## Log events")}
    row = re.search(r"A row of `limits`:(.*?)\. Instants", page, re.S)
    assert row is not None
    assert fields == {*re.findall(r"`(\w+)`", table["headgate.denied"]), *re.findall(r"`(\w+)`", row[1])}


def test_every_make_target_that_is_named_is_there(repo: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (repo / "Makefile").read_text(encoding="utf-8"), re.M))
    for page in [repo / "README.md", repo / "AGENTS.md", *(repo / "docs").rglob("*.md")]:
        named = set(re.findall(r"(?:`|^\$ )make ([a-z]+)", page.read_text(encoding="utf-8"), re.M))
        assert named <= targets, page.name


NAMED = re.compile(r"`((?:tests|middleware|benchmarks)/[\w/.]+\.py)(?:::(\w+))?`")


def test_every_promise_names_tests_that_exist(repo: Path) -> None:
    text = (repo / "docs/promises.md").read_text(encoding="utf-8")
    named = NAMED.findall(text)
    assert len(named) > 30
    for path, test in named:
        assert (repo / path).is_file(), path
        if test:
            assert re.search(rf"def {test}\(", (repo / path).read_text(encoding="utf-8")), f"{path}::{test}"


def test_every_promise_that_is_kept_names_a_test(repo: Path) -> None:
    page = repo / "docs/promises.md"
    kept = rows(page, "## Kept") + rows(page, "## Kept in part")
    assert len(kept) == 22
    for cells in kept:
        assert NAMED.search(cells[-1]), cells[0]


@pytest.mark.parametrize(
    ("verb", "steps", "most"), [(Rate(60, 60_000_000), 1, 100), (Rolling(1_000_000, 24 * 3_600_000_000), 24, 500)]
)
def test_a_balance_takes_no_more_room_than_is_told(
    verb: Rate | Rolling, steps: int, most: int, tmp_path: Path
) -> None:
    subjects, path = 500, tmp_path / "headgate.db"
    store = open_store(f"sqlite:///{path}")

    async def size(step: int, subjects: int) -> int:
        demands = tuple([Demand((b"%016d" % n, "month"), verb, 1) for n in range(subjects)])
        # One command, so that it leaves one receipt: what is measured are balances.
        await store.transact([Reserve(b"%016d" % step, demands, 1)], 1_800_000_000_000_000 + step * 3_600_000_000)
        await store.close()
        return path.stat().st_size

    empty = asyncio.run(size(0, 1))
    full = [asyncio.run(size(step, subjects)) for step in range(1, steps + 1)]
    assert (full[-1] - empty) / subjects < most


def test_every_finding_about_a_store_is_told_with_what_it_does(repo: Path) -> None:
    kinds = (*of_redis.KINDS, *of_file.KINDS, fitness.ALONE)
    table = [
        (cells[0].strip("` "), tuple(cells[1].split(", ")), cells[3])
        for cells in rows(repo / "docs/operations.md", "## Is the store fit?")
    ]
    assert table == [(kind.name, kind.severities, kind.why) for kind in kinds]
    assert len({name for name, _, _ in table}) == len(table)


def test_the_rights_that_a_user_of_a_server_needs_are_told(repo: Path) -> None:
    _, _, rest = (repo / "docs/operations.md").read_text(encoding="utf-8").partition("\n## Is the store fit?\n")
    section = rest.partition("\n## ")[0]
    scripts = SCRIPT.text.decode()
    usual, all_of_them = rights.needed("single", False, scripts), rights.needed("cluster", True, scripts)
    assert rights.line(usual) in section
    for command in (*(right.name for right in all_of_them), *rights.LOOKING):
        assert f"+{command}" in section
