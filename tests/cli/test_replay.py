"""`headgate replay`: a report on yesterday's log, or clear words."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from headgate.cli import app
from headgate.linking import Evidence, Finding, Observation
from headgate.replay import Replay, replaying

from .conftest import Run

command = sys.modules["headgate.cli.replay"]

LIMITS = """\
headgate: v1
policy: little
mode: enforce
zone: Europe/Berlin
on_store_error: closed
identify: {key: [header.authorization.bearer], directory: keys.yaml, anonymous: refuse}
plans: [free, build]
limits:
  rpm: {meter: requests, per: key, rate: {free: 5/min, build: 60/min}, burst: 1}
  day: {meter: requests, per: group, quota: {free: 20/day, build: 500/day}}
  open: {meter: streams, per: key, max: 8}
"""

CANARIES = {
    "prompt": "canary prompt of the test",
    "address": "203.0.113.77",
    "secret": "hg_canarysecret0123456789",
    "card": "card_canary_99",
}


class Twins:
    """Finds that all keys that begin with `twin` are one."""

    def __init__(self) -> None:
        self.at: dict[str, int] = {}

    def saw(self, observation: Observation) -> None:
        if observation.key.startswith("twin"):
            self.at.setdefault(observation.key, observation.at)

    def groups(self) -> list[tuple[Mapping[str, int], float]]:
        return [(found.members, found.confidence) for found in self.findings()]

    def findings(self) -> list[Finding]:
        if len(self.at) < 2:
            return []
        second = sorted(self.at.values())[1]
        members = {key: max(at, second) for key, at in self.at.items()}
        orgs = tuple(sorted(members))
        told = [
            ("templates", 9.5, "they share 14 of 20 prompt templates that no other org has"),
            ("questions", 6.0, "the questions behind them come again 31 times; of unrelated keys 0.2 would"),
        ]
        return [Finding(members, orgs, 0.9996, tuple([Evidence(a, orgs, b, c) for a, b, c in told]))]


@pytest.fixture(autouse=True)
def _twins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_linker", Twins)
    monkeypatch.setattr(replaying, "LOOK", 5)


@pytest.fixture
def limits(folder: Path) -> Path:
    file = folder / "headgate.yaml"
    file.write_text(LIMITS, encoding="utf-8")
    return file


def request(at: float, key: str, org: str | None, **more: Any) -> str:
    return json.dumps({"ts": 1_773_144_000 + at, "key": key, "org": org, "method": "POST", "path": "/v1/x"} | more)


def yesterday() -> list[str]:
    """Four keys of four orgs that work through one queue, and two others; one of them asks too often."""
    lines = [request(60 * n + at, f"twin{at}", f"org{at}", tokens_out=50) for n in range(12) for at in range(4)]
    lines += [request(720 + n / 10, "busy", "honest", tokens_out=5) for n in range(9)]
    return [*lines, request(800, "calm", None)]


@pytest.fixture
def log(folder: Path) -> Path:
    file = folder / "yesterday.jsonl"
    file.write_text("\n".join([*yesterday(), ""]), encoding="utf-8")
    return file


def test_a_person_reads_at_once_what_would_be_refused_who_is_one_and_who_is_hit(
    limits: Path, log: Path, run: Run
) -> None:
    said = run("replay", "yesterday.jsonl")
    assert said.exit_code == 0 and said.stderr == ""
    assert said.stdout == (Path(__file__).parent / "golden" / "replay.txt").read_text(encoding="utf-8")
    assert max(len(line) for line in said.stdout.splitlines()) <= 80


def test_the_report_for_programs_has_the_fields_of_the_format(limits: Path, log: Path, run: Run) -> None:
    said = run("replay", "yesterday.jsonl", "--format", "json")
    report = json.loads(said.stdout)
    assert (report["events"], report["skipped"]) == (58, 0)
    decisions = report["decisions"]
    assert decisions["allowed"] + decisions["denied"] == 58
    assert decisions["by_limit"]["day"] == decisions["newly_refused"] > 20
    assert decisions["without_linking"]["by_limit"] == {"rpm": 3}
    [group] = report["groups"]
    assert group["keys"] == group["evidence"][0]["keys"] == ["twin0", "twin1", "twin2", "twin3"]
    assert group["orgs"] == ["org0", "org1", "org2", "org3"]
    assert group["linked_at"]["twin0"] == group["linked_at"]["twin1"] == 1_773_144_001
    assert group["usage"] == {"requests": 48, "output_tokens": 2400}
    assert group["newly_refused"] == decisions["newly_refused"] == sum(group["newly_refused_keys"].values())
    assert report["undecided"] == [{"limit": "open", "reason": "how many are under way at once is not in a log"}]


def test_logs_are_read_packed_several_and_from_standard_input(
    limits: Path, log: Path, run: Run, folder: Path
) -> None:
    lines = yesterday()
    (folder / "one.gz").write_bytes(gzip.compress("\n".join(lines[::2]).encode()))
    (folder / "two.log").write_text("\n".join(lines[1::2]), encoding="utf-8")
    whole = json.loads(run("replay", "yesterday.jsonl", "--format", "json").stdout)
    halves = json.loads(run("replay", "one.gz", "two.log", "--format", "json").stdout)
    result = CliRunner().invoke(app, ["replay", "-", "--format", "json"], input=log.read_bytes())
    piped = json.loads(result.stdout)
    for name in ("events", "groups", "decisions", "affected"):
        assert whole[name] == piped[name]
        if name != "groups":
            assert halves[name] == whole[name]


def test_bad_lines_are_told_beside_the_report(limits: Path, run: Run, folder: Path) -> None:
    (folder / "log").write_text("\n".join([request(0, "k1", "acme"), "nonsense", "", *["x"] * 20]), encoding="utf-8")
    said = run("replay", "log")
    assert said.exit_code == 0
    assert "headgate: log:2: skipped: is no JSON: invalid character (byte 4)\n" in said.stderr
    assert "headgate: log:3: skipped: is empty\n" in said.stderr
    assert "headgate: log: 12 more lines were skipped\n" in said.stderr
    assert "22 lines skipped" in said.stdout


def test_a_log_that_is_cut_off_is_reported_as_far_as_it_goes(limits: Path, log: Path, run: Run, folder: Path) -> None:
    (folder / "cut.gz").write_bytes(gzip.compress(log.read_bytes())[:-30])
    said = run("replay", "cut.gz")
    assert said.exit_code == 0
    assert "headgate: warning: cut.gz is cut off: the gzip stream does not end" in said.stderr
    assert "cut.gz is cut off: the gzip stream does not end" in said.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.log"], "nowhere.log: cannot be read: No such file or directory"),
        (["."], ".: is a folder; name the log files in it"),
        (["empty.log"], "empty.log: is empty"),
        (
            ["t.csv"],
            "t.csv: is neither JSON Lines nor Common Log Format: none of its first 3 lines is an entry",
        ),
        (["bad.log"], "bad.log: no line of it can be read"),
        (["empty.log", "empty.log"], "a log is named twice"),
    ],
)
def test_what_cannot_be_read_ends_with_clear_words(
    limits: Path, run: Run, folder: Path, words: list[str], told: str
) -> None:
    (folder / "empty.log").touch()
    (folder / "t.csv").write_text("time,key\n1,k1\n2,k1\n", encoding="utf-8")
    (folder / "bad.log").write_text('{"ts": "never"}\n', encoding="utf-8")
    said = run("replay", *words)
    assert said.exit_code == 2 and said.stdout == ""
    assert said.stderr.splitlines()[-1] == f"headgate: {told}"


def test_a_log_that_may_not_be_read_is_told(
    limits: Path, log: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def refusing(path: Path, *args: Any, **more: Any) -> Any:
        if path.name == log.name:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **more)

    monkeypatch.setattr(Path, "open", refusing)
    said = run("replay", "yesterday.jsonl")
    assert said.exit_code == 2
    assert said.stderr == "headgate: yesterday.jsonl: cannot be read: Permission denied\n"


def test_a_policy_in_shadow_is_decided_as_if_it_were_enforced(limits: Path, log: Path, run: Run) -> None:
    limits.write_text(LIMITS.replace("mode: enforce", "mode: shadow"), encoding="utf-8")
    report = json.loads(run("replay", "yesterday.jsonl", "--format", "json").stdout)
    assert report["policy"]["mode"] == "shadow" and report["decisions"]["denied"] > 20
    assert "the policy's mode is `shadow`: this is what it would decide if it were `enforce`" in report["notes"]


def test_the_policys_keys_are_read_if_they_are_there_and_others_if_they_are_named(
    limits: Path, log: Path, run: Run, folder: Path
) -> None:
    text = "headgate-keys: v1\norgs: {honest: {plan: build}}\n"
    text += f"keys: [{{key: busy, org: honest, digest: {32 * '1'}}}]\n"
    (folder / "other.yaml").write_text(text, encoding="utf-8")
    assert json.loads(run("replay", "yesterday.jsonl", "--format", "json").stdout)["affected"][0]["key"] == "busy"
    said = run("replay", "yesterday.jsonl", "--format", "json", "--keys", "other.yaml")
    assert json.loads(said.stdout)["affected"] == []
    (folder / "keys.yaml").write_text(text, encoding="utf-8")
    assert json.loads(run("replay", "yesterday.jsonl", "--format", "json").stdout)["affected"] == []
    (folder / "keys.yaml").write_text("headgate-keys: v1\nkeys: 5\n", encoding="utf-8")
    assert run("replay", "yesterday.jsonl").exit_code == 2


def test_fewer_groups_may_be_shown_and_surer_ones_asked_for(limits: Path, log: Path, run: Run) -> None:
    said = run("replay", "yesterday.jsonl", "--limit-groups", "0")
    assert "1 group of keys" in said.stdout and "1 more are not shown" in said.stdout
    report = json.loads(run("replay", "yesterday.jsonl", "--at-least", "1", "--format", "json").stdout)
    assert report["groups"] == [] and report["decisions"]["newly_refused"] == 0
    assert run("replay", "yesterday.jsonl", "--at-least", "1.5").exit_code == 2
    limits.write_text(LIMITS + "linking: {states: {suspect: 0.6, linked: 0.9999}, channels: 3}\n", encoding="utf-8")
    assert json.loads(run("replay", "yesterday.jsonl", "--format", "json").stdout)["groups"] == []
    report = json.loads(run("replay", "yesterday.jsonl", "--at-least", "0.9", "--format", "json").stdout)
    assert [note for note in report["notes"] if "1 of the groups has fewer kinds" in note and "channels: 3" in note]


def test_prompts_addresses_and_secrets_of_the_log_are_shown_nowhere(
    limits: Path, run: Run, folder: Path, pepper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Replay] = []
    begun = Replay.__init__
    monkeypatch.setattr(Replay, "__init__", lambda self, *args: (made.append(self), begun(self, *args))[1])
    raw = {"prompt": CANARIES["prompt"], "ip": CANARIES["address"], "traits": {"payment": CANARIES["card"]}}
    lines = [request(n, f"twin{n % 3}", f"org{n % 3}", **raw) for n in range(30)]
    lines += [request(40 + n, CANARIES["secret"], "leaky", **raw) for n in range(9)]
    lines += [f'{{"ts": 50, "prompt": "{CANARIES["prompt"]}', json.dumps({"ts": 51, "ip": [CANARIES["address"]]})]
    (folder / "log").write_text("\n".join(lines), encoding="utf-8")
    common = [
        f'{CANARIES["address"]} - - [10/Mar/2026:12:00:{n:02} +0000] "GET /x?key={CANARIES["secret"]} HTTP/1.1" 200 5'
        for n in range(20)
    ]
    (folder / "common").write_text("\n".join([*common, CANARIES["secret"]]), encoding="utf-8")
    shown = ""
    for form in ("text", "json"):
        for name in ("log", "common"):
            said = run("replay", name, "--format", form)
            assert said.exit_code == 0
            shown += said.stdout + said.stderr
    assert "secret-" in shown and "address-" in shown
    assert "9 lines have a secret" in shown.replace("\n    ", " ")
    for kept in made:
        shown += _all_that_is_kept(kept)
    for name, canary in CANARIES.items():
        assert canary not in shown, f"{name} is shown"


def _all_that_is_kept(replay: Replay) -> str:
    """Every text that can be reached from a replay, save the logs themselves."""
    import gc

    seen: set[int] = {id(replay.logs)}
    texts, queue = [], [replay.callers, replay.ledgers, replay.counting, replay.asked.linking, replay.figures]
    while queue:
        one = queue.pop()
        if id(one) in seen or isinstance(one, type) or (callable(one) and not hasattr(one, "__dict__")):
            continue
        seen.add(id(one))
        if isinstance(one, str | bytes):
            texts.append(str(one))
        elif type(one).__module__.startswith("headgate") or isinstance(one, dict | list | tuple | set | frozenset):
            queue += gc.get_referents(one)
    return "\n".join(texts)


def test_nothing_is_left_behind(
    limits: Path, log: Path, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_DEMO", "true")
    before = sorted(folder.iterdir())
    assert run("replay", "yesterday.jsonl").exit_code == 0
    assert sorted(folder.iterdir()) == before


def test_control_characters_of_a_log_do_not_reach_the_terminal(limits: Path, run: Run, folder: Path) -> None:
    (folder / "log").write_text("\n".join([request(n / 10, "k\x1b[2J", "o\x07") for n in range(9)]), encoding="utf-8")
    said = run("replay", "log")
    assert "\x1b" not in said.stdout and "\x07" not in said.stdout and "k\\x1b[2J" in said.stdout


def test_ctrl_c_gives_what_was_found_until_then(
    limits: Path, log: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Twins):
        seen = 0

        def saw(self, observation: Observation) -> None:
            super().saw(observation)
            self.seen += 1
            if self.seen == 30:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(command, "_linker", Impatient)
    before = signal.getsignal(signal.SIGINT)
    said = run("replay", "yesterday.jsonl", "--format", "json")
    assert said.exit_code == 130 and signal.getsignal(signal.SIGINT) is before
    report = json.loads(said.stdout)
    assert report["interrupted"] and report["events"] == 30 and len(report["groups"]) == 1
    assert said.stderr == "headgate: stopped: this is what 30 lines have shown, not the whole log\n"
    assert "stopped before the end" in run("replay", "yesterday.jsonl").stdout


def test_ctrl_c_ends_the_waiting_for_a_log_that_does_not_go_on(limits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stalled(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            if not found:
                os.kill(os.getpid(), signal.SIGINT)
            return found

    class Input:
        buffer = Stalled("\n".join(yesterday()).encode())

    result = CliRunner().invoke(app, ["check"])  # the runner puts its own input in place, and ours goes over it
    monkeypatch.setattr("headgate.replay.files.sys.stdin", Input)
    monkeypatch.setattr("typer.echo", lambda text, err=False: told.append(text))
    told: list[str] = []
    with pytest.raises(typer.Exit) as ended:
        command.replay(["-"], format=command.Format.JSON)
    assert ended.value.exit_code == 130 and result.exit_code == 0
    assert json.loads(told[0])["events"] == 0 and told[1].startswith("headgate: stopped")


def test_a_bar_is_drawn_on_a_terminal_alone(
    limits: Path, log: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("replay", "yesterday.jsonl").stderr == ""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    drawn = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", drawn)
    running = command._bar
    made = Replay(replaying.Asked(command.policy_of(command.settings(None)), Twins(), b"p"), [])
    with running(made, []) as watched:
        watched()
    assert "reading" in drawn.getvalue()
