"""`headgate drill`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headgate.cli import app
from headgate.drill.lookalikes import FAMILIES
from headgate.drill.plots import SCENARIOS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "drill.md"

LITTLE = ("--keys", "60", "--days", "1", "--rate", "10", "--attack", "baton", "--size", "3")


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["drill", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_it_says_what_it_wrote_and_what_to_run_next(tmp_path: Path) -> None:
    code, said, noted = run(str(tmp_path / "a drill"), *LITTLE, "--name", "log.jsonl.gz")
    assert code == 0 and noted == ""
    assert {path.name for path in (tmp_path / "a drill").iterdir()} == {"log.jsonl.gz", "labels.json", "meta.json"}
    meta = json.loads((tmp_path / "a drill/meta.json").read_text())
    assert f"{meta['events']:,} requests of 60 keys in 1 day, and 10 lines that cannot be read" in said
    assert "1 group of 3 keys" in said
    assert f"headgate replay '{tmp_path}/a drill/log.jsonl.gz' --policies headgate.yaml" in said


def test_shares_are_written_as_people_write_them(tmp_path: Path) -> None:
    for at, cover in enumerate(("30%", "0.3")):
        assert run(str(tmp_path / str(at)), *LITTLE, "--cover", cover, "--paraphrase", "0%")[0] == 0
    one, other = (json.loads((tmp_path / name / "meta.json").read_text()) for name in "01")
    assert one == other and one["drill"]["cover"] == 0.3 and one["drill"]["paraphrase"] == 0


def test_what_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    assert run(str(tmp_path), *LITTLE)[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, said, noted = run(str(tmp_path), *LITTLE, "--seed", "2")
    assert code == 2 and said == "" and "log.jsonl is there already; --force replaces it" in noted
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert run(str(tmp_path), *LITTLE, "--seed", "2", "--force")[0] == 0
    assert (tmp_path / "log.jsonl").read_bytes() != before["log.jsonl"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--attack", "batton"), "there is no attack `batton` on llm; did you mean `baton`?"),
        (("--kind", "web"), "--kind is `llm` or `data`, not `web`"),
        (("--cover", "much"), "--cover is a share, as `30%` or `0.3`: much"),
        (("--cover", "nan"), "--cover is from 0% to 95%"),
        (("--keys", "10"), "--keys 10 is too few"),
        (("--name", "../log.jsonl"), "--name is the log's name"),
        (("--name", "meta.json"), "--name is the log's name"),
        (("--malformed", "-1"), "--malformed is from 0"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    code, said, noted = run(str(tmp_path / "out"), *words)
    assert code == 2 and said == "" and told in noted
    assert not (tmp_path / "out").exists()


def test_attacks_are_named_one_by_one_or_by_commas(tmp_path: Path) -> None:
    words = [word for word in LITTLE if word not in ("--attack", "baton")]
    for at, asked in enumerate((["--attack", "baton,hydra"], ["--attack", "baton", "--attack", "hydra"])):
        assert run(str(tmp_path / str(at)), *words, *asked)[0] == 0
    one, other = (json.loads((tmp_path / name / "labels.json").read_text()) for name in "01")
    assert one == other and {group["scenario"] for group in one["groups"].values()} == {"baton", "hydra"}


def test_without_an_attack_it_says_so(tmp_path: Path) -> None:
    words = ("--keys", "60", "--days", "1", "--rate", "10", "--attack", "none", "--kind", "data", "--malformed", "0")
    code, said, _ = run(str(tmp_path), *words)
    assert code == 0 and "no groups" in said and "cannot be read" not in said


def test_the_page_names_every_option_every_attack_and_every_family() -> None:
    page = PAGE.read_text(encoding="utf-8")
    asked = CliRunner().invoke(app, ["drill", "--help"]).stdout
    options = set(re.findall(r"--[a-z-]+", asked)) - {"--help", "--look-alikes", "--traits"}
    assert len(options) > 15
    for name in [*options, *SCENARIOS, *FAMILIES]:
        assert f"`{name}" in page, name
    for name, what in SCENARIOS.items():
        assert f"| `{name}` | {what}" in page
