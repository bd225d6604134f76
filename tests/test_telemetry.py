"""Events: one line each whatever they hold, bounded, and never with a secret in them."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.telemetry import LONGEST, LONGEST_LINE, Lines, events, listening, log_to, logger, stop_logging

CANARIES = (
    "hg_canary-canary-canary-canary-0123456789",
    "Bearer canary.of.the-log",
    "Basic Y2FuYXJ5OmNhbmFyeQ==",
    "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnkiOiJjYW5hcnkifQ.Y2FuYXJ5",
    "sk-canary0123456789canary",
    "redis://canary:canary@127.0.0.1/0",
)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    level = logger.level
    handler = log_to(str(tmp_path / "headgate.log"), "debug")
    yield tmp_path / "headgate.log"
    stop_logging(handler)
    logger.setLevel(level)


def lines(log: Path) -> list[dict[str, Any]]:
    text = log.read_bytes().decode("ascii")
    assert text.endswith("\n")
    return [json.loads(line) for line in text[:-1].split("\n")]


def test_an_event_is_one_line_of_json_with_its_name_level_and_time(log: Path) -> None:
    events.info("headgate.denied", limit="rpm", left=0)
    [line] = lines(log)
    assert (line["event"], line["level"], line["limit"], line["left"]) == ("headgate.denied", "info", "rpm", 0)
    assert line["timestamp"].endswith("Z")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "evil", ["\r\n", "\n", "\u2028", "\u2029", "\x85", "\x0b", "\x1b[2J", "\x00", "\udc80", "\x9b31m"]
)
def test_no_value_forges_a_line_or_reaches_a_terminal(evil: str, log: Path) -> None:
    forged = f'x{evil}{{"event": "headgate.granted"}}{evil}'
    events.info(forged, path=forged, nested={forged: [forged, {"a": forged}]}, raw=forged.encode("utf-8", "ignore"))
    [line] = lines(log)
    assert line["event"] == forged
    assert all(32 <= byte < 127 for byte in log.read_bytes()[:-1])


@pytest.mark.parametrize("canary", CANARIES)
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(canary: str, log: Path) -> None:
    class Held:
        def __repr__(self) -> str:
            return f"<Held {canary}>"

    events.info(
        f"seen {canary}",
        text=f"got '{canary}' from it",
        nested={"a": [canary, (canary, {canary: canary})]},
        raw=canary.encode(),
        fault=StoreError(f"no answer from {canary}", transient=True),
        thing=Held(),
        items={canary},
    )
    try:
        raise KeyError(canary) from ValueError(f"cause {canary}")
    except KeyError:
        events.exception("headgate.failed")
    assert "canary" not in log.read_text().replace("test_telemetry.py", "").replace("canary)", "").replace(
        "{canary}", ""
    )
    assert lines(log)[1]["exception"].startswith("ValueError: cause [hidden]") or "[hidden]" in log.read_text()


NAMES = ("pepper", "HEADGATE_PEPPER", "admin_token", "api_key", "authorization", "set_cookie", "prompt", "password")


@pytest.mark.parametrize("name", [*NAMES, "secret", "ip", "address", "client"])
def test_what_is_named_like_a_secret_is_hidden_at_any_depth(name: str, log: Path) -> None:
    events.info("x", **{name: "canary", "inner": {"a": [{name: ["canary"]}]}})
    assert "canary" not in log.read_text()
    assert lines(log)[0][name] == "[hidden]"


def test_counts_of_tokens_are_no_secrets(log: Path) -> None:
    events.info("x", input_tokens=7, used={"output_tokens": 8, "prompt_tokens": 1.5})
    [line] = lines(log)
    assert (line["input_tokens"], line["used"]) == (7, {"output_tokens": 8, "prompt_tokens": 1.5})


def test_nothing_from_outside_fills_a_log(log: Path) -> None:
    deep: Any = "x"
    for _ in range(1000):
        deep = [deep]
    events.info(
        "y" * 10**6,
        long="x" * 10**6,
        deep=deep,
        many=list(range(10**5)),
        wide={str(number): "z" * 10**4 for number in range(1000)},
        huge=10**5000,
        odd=[math.nan, math.inf],
        **{f"field{number}": number for number in range(1000)},
    )
    [line] = lines(log)
    assert len(log.read_bytes()) <= LONGEST_LINE
    assert len(line["event"]) == len(line["long"]) == LONGEST
    assert line["huge"] == "[left out]" and line["odd"] == ["nan", "inf"] and len(line["many"]) == 32
    assert "level" in line and "timestamp" in line and "field900" not in line


def test_an_event_that_is_too_long_all_in_all_keeps_its_name_and_decision(log: Path) -> None:
    events.info("headgate.denied", decision="3f2a", **{f"f{n}": ["x" * LONGEST] * 32 for n in range(30)})
    [line] = lines(log)
    assert (line["event"], line["decision"], line["level"]) == ("headgate.denied", "3f2a", "info")
    assert line["cut"] > LONGEST_LINE


def test_the_end_of_a_long_traceback_is_kept(log: Path) -> None:
    def down(depth: int) -> None:
        if depth == 0:
            raise StoreError("the fault itself", transient=False)
        (down if depth % 2 else lambda further: down(further))(depth - 1)

    try:
        down(60)
    except StoreError:
        events.exception("x")
    assert lines(log)[0]["exception"].endswith("StoreError: the fault itself")


def test_said_twice_of_one_file_it_is_written_once(log: Path) -> None:
    assert log_to(str(log), "warning") is log_to(str(log), "info")
    events.info("once")
    assert len(lines(log)) == 1


def test_a_level_says_what_is_listened_to(log: Path) -> None:
    log_to(str(log), "warning")
    events.info("too quiet")
    events.warning("heard")
    assert [line["event"] for line in lines(log)] == ["heard"]
    assert not listening(logging.INFO) and listening(logging.WARNING)
    with pytest.raises(ValueError, match="no log level `loud`"):
        log_to(str(log), "loud")


def test_a_log_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        log_to(str(tmp_path / "nowhere" / "headgate.log"))


def test_a_file_that_is_moved_away_is_begun_anew(log: Path) -> None:
    events.info("before")
    log.rename(log.with_suffix(".1"))
    events.info("after")
    log.unlink()
    events.info("last")
    assert [line["event"] for line in lines(log.with_suffix(".1"))] == ["before"]
    assert [line["event"] for line in lines(log)] == ["last"]


def test_standard_error_is_written_to_where_it_is_now(capsys: pytest.CaptureFixture[str]) -> None:
    handler, level = log_to("stderr"), logger.level
    try:
        events.warning("seen")
    finally:
        stop_logging(handler)
        logger.setLevel(level)
    said = capsys.readouterr()
    assert json.loads(said.err)["event"] == "seen" and said.out == ""


def test_a_log_that_fails_fails_no_request(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = next(handler for handler in logger.handlers if isinstance(handler, Lines))
    log.unlink()
    log.parent.rmdir()
    events.info("lost")
    assert "FileNotFoundError" in capsys.readouterr().err
    assert handler in logger.handlers
    log.parent.mkdir()


def _write_some(log: str, number: int) -> None:
    log_to(log)
    for turn in range(200):
        events.warning("headgate.decision", worker=number, turn=turn, filler="x" * 200, more=["y" * 250] * 30)


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    log = tmp_path / "headgate.log"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_some, args=(str(log), number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    seen = {(line["worker"], line["turn"]) for line in lines(log)}
    assert len(seen) == 800
