"""The three files of a drill: the log, its labels, what was true of it."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from headgate.drill.world import Drill, world
from headgate.drill.writing import POINTS, write
from headgate.errors import HeadgateError

from .worlds import read, seen

KINDS = ("llm", "data")
FIELDS = {
    "ts": float,
    "key": str,
    "org": str,
    "method": str,
    "path": str,
    "status": int,
    "ip": str,
    "user_agent": str | None,
    "ja4": str | None,
    "bytes_out": int,
    "tokens_in": int,
    "tokens_out": int,
    "records": int,
    "resources": list,
    "prompt": str,
    "traits": dict,
}
NEEDED = {"ts", "key", "org", "method", "path", "status", "ip", "user_agent", "ja4", "bytes_out"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_has_the_fields_of_the_format_and_no_others(kind: str) -> None:
    lines = seen(kind, "all").lines
    assert len(lines) > 5000
    for line in lines:
        assert NEEDED <= set(line) <= set(FIELDS)
        for name, value in line.items():
            assert isinstance(value, FIELDS[name]), (name, value)
        assert "?" not in line["path"]
        assert line.get("records", 0) == len(line.get("resources", ()))
        assert all(isinstance(value, str) for value in line.get("traits", {}).values())


@pytest.mark.parametrize("kind", KINDS)
def test_lines_lie_in_the_log_s_span_and_are_at_most_five_seconds_late(kind: str) -> None:
    world_ = seen(kind, "all")
    latest, late = 0.0, 0
    for line in world_.lines:
        assert world_.meta["t0"] <= line["ts"] <= world_.meta["t1"]
        assert latest - line["ts"] < 5
        late += line["ts"] < latest
        latest = max(latest, line["ts"])
    assert 0 < late < 0.1 * len(world_.lines)


@pytest.mark.parametrize("kind", KINDS)
def test_traits_come_on_a_key_s_first_line_and_on_about_a_quarter_of_the_others(kind: str) -> None:
    known: set[str] = set()
    others = told = 0
    for line in seen(kind, "all").lines:
        if line["key"] not in known:
            known.add(line["key"])
            assert "plan" in line["traits"]
        else:
            others += 1
            told += "traits" in line
    assert 0.22 < told / others < 0.28


@pytest.mark.parametrize("kind", KINDS)
def test_labels_name_keys_of_the_log_each_once_and_groups_span_two_orgs(kind: str) -> None:
    world_ = seen(kind, "all")
    asked = Counter(line["key"] for line in world_.lines)
    assert set(asked) == set(world_.meta["orgs"])
    named = [key for part in world_.labels.values() for one in part.values() for key in one["keys"]]
    assert len(named) == len(set(named)) and set(named) <= set(asked)
    for name, group in world_.labels["groups"].items():
        orgs = {world_.meta["orgs"][key] for key in group["keys"]}
        assert len(orgs) == world_.meta["groups"][name]["n_orgs"] > 1
        assert group["keys"] == sorted(group["keys"])  # the order says nothing
    orgs_of = {line["key"]: line["org"] for line in world_.lines}
    assert orgs_of == world_.meta["orgs"]


@pytest.mark.parametrize("kind", KINDS)
def test_look_alikes_are_no_fewer_than_attackers(kind: str) -> None:
    meta = seen(kind, "all", keys=700, per_key=4.0, days=1.0).meta
    assert meta["hard_negative_keys"] >= meta["attack_keys"] > 30


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_group_took_is_what_its_keys_were_served_where_nothing_covers_it(kind: str) -> None:
    world_ = seen(kind, "all", cover=0.0)
    by_key = world_.by_key()
    for name, group in world_.meta["groups"].items():
        served = [line for key in group["taken"] for line in by_key[key] if line["status"] == 200]
        told = group["totals"]
        assert told["requests"] == len(served), name
        assert told["records"] == sum(line.get("records", 0) for line in served)
        assert told["bytes"] == sum(line["bytes_out"] for line in served)
        tokens = sum(line.get("tokens_in", 0) + line.get("tokens_out", 0) for line in served)
        assert told["tokens"] == tokens
        for points in group["taken"].values():
            assert len(points["ts"]) <= POINTS
            for column in points.values():
                assert column == sorted(column)


def test_cover_is_the_share_that_was_asked_for_and_is_not_counted_as_taken() -> None:
    world_ = seen("llm", "round_robin", "shared_queue", groups=4, cover=0.5, size=5)
    by_key = world_.by_key()
    taken = sum(group["totals"]["requests"] for group in world_.meta["groups"].values())
    asked = sum(len(by_key[key]) for group in world_.meta["groups"].values() for key in group["taken"])
    assert 0.35 < 1 - taken / asked < 0.65


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_attack_there_is_no_group(kind: str) -> None:
    world_ = seen(kind, "none")
    assert world_.labels["groups"] == {} == world_.meta["groups"]
    assert world_.labels["hard_negatives"] and world_.meta["attack_keys"] == 0


def test_malformed_lines_are_as_many_as_were_asked_for_and_cannot_be_read() -> None:
    world_ = seen("llm", "round_robin", malformed=9)
    text = (world_.folder / "log.jsonl").read_text().splitlines()
    assert len(text) - len(world_.lines) == 9 == world_.meta["malformed_lines"]
    assert world_.meta["events"] == len(world_.lines) and all(text)


def test_without_traits_nothing_tells_an_account_but_key_and_org() -> None:
    told = {name for line in seen("data", "round_robin", traits=False).lines for name in line}
    assert not told & {"traits", "ip", "user_agent", "ja4"} and {"key", "org", "resources"} <= told


def test_the_same_drill_is_the_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from headgate.drill.world import *\n"
        "from headgate.drill.writing import write\n"
        "names = attacks(sys.argv[2], ['all'])\n"
        "drill = Drill(kind=sys.argv[2], keys=140, days=1, per_key=9, size=3, attacks=names)\n"
        "write(world(drill), Path(sys.argv[1]), 'log.jsonl.gz', malformed=3)"
    )
    for kind in KINDS:
        for seed in ("0", "7"):
            ran = [sys.executable, "-c", script, str(tmp_path / kind / seed), kind]
            subprocess.run(ran, check=True, env={"PYTHONHASHSEED": seed}, timeout=120)
        for name in ("log.jsonl.gz", "labels.json", "meta.json"):
            one, other = ((tmp_path / kind / seed / name).read_bytes() for seed in ("0", "7"))
            assert one == other, name


def test_another_seed_is_another_world() -> None:
    one, other = (set(seen("llm", "baton", seed=seed, keys=60).meta["orgs"]) for seed in (1, 2))
    assert not one & other


def test_one_attack_more_changes_nothing_of_the_others(tmp_path: Path) -> None:
    alone, beside = (seen("llm", *names, size=4, keys=120) for names in (("baton",), ("baton", "hydra")))
    keys = alone.members("baton")[0]
    assert keys == beside.members("baton")[0]
    for key in keys:
        one, other = (
            [(line["ts"], line.get("prompt")) for line in world_.by_key()[key]] for world_ in (alone, beside)
        )
        assert sorted(one, key=str) == sorted(other, key=str)


def test_a_log_is_packed_as_its_name_says(tmp_path: Path) -> None:
    drill = Drill(keys=40, days=1, per_key=10)
    plain, packed = (write(world(drill), tmp_path / name, name) for name in ("log.jsonl", "log.jsonl.gz"))
    assert gzip.decompress(packed.log.read_bytes()) == plain.log.read_bytes()


def test_a_log_packed_by_zstd_is_the_same_log(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard", reason="zstd is in the standard library of this Python")
    drill = Drill(keys=40, days=1, per_key=10)
    plain, packed = (write(world(drill), tmp_path / name, name) for name in ("log.jsonl", "log.jsonl.zst"))
    with packed.log.open("rb") as file:
        assert zstandard.ZstdDecompressor().stream_reader(file).read() == plain.log.read_bytes()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"kind": "web"}, "--kind is one of llm, data"),
        ({"overlap": "much"}, "--overlap is one of none, low, high"),
        ({"ids": "uuid"}, "--ids is one of dense, mixed, opaque"),
        ({"days": 0}, "--days is more than 0"),
        ({"keys": 1}, "--keys is from 2"),
        ({"per_key": 0}, "--rate is more than 0"),
        ({"cover": 1.0}, "--cover is from 0% to 95%"),
        ({"size": 1}, "--size is 2 at least"),
        ({"share": 0.9}, "--share is more than 0%"),
        ({"jitter": -1}, "--jitter is from 0"),
        ({"duplicates": 2}, "--duplicates is from 0%"),
        ({"paraphrase": 7}, "--paraphrase is from 0%"),
        ({"groups": 0}, "--groups is from 1"),
    ],
)
def test_what_cannot_be_drawn_is_said(said: dict[str, object], words: str) -> None:
    with pytest.raises(HeadgateError, match=words):
        Drill(**said)  # type: ignore[arg-type]


def test_groups_that_do_not_fit_into_the_keys_are_said() -> None:
    with pytest.raises(HeadgateError, match="--keys 30 is too few"):
        world(Drill(keys=30, attacks=("round_robin",), size=40))


def test_keys_of_the_smallest_worlds_are_as_many_as_were_asked_for(tmp_path: Path) -> None:
    for keys in (2, 3, 40):
        write(world(Drill(keys=keys, days=1, per_key=5, look_alikes=False)), tmp_path / str(keys))
        assert len(read(tmp_path / str(keys)).meta["orgs"]) == keys
