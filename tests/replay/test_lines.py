"""Lines become entries, or are counted and named; nothing that stands in one is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.replay import lines as law
from headgate.replay.entry import Entry, Unfit, entry_of
from headgate.replay.files import LogError, LogFile
from headgate.replay.lines import Lines

from .worlds import line, log_of

CANARY = "canary-5f1c"


def read(path: str) -> tuple[Lines, list[Entry]]:
    log = Lines(LogFile(path))
    return log, [entry for part in log.entries() for entry in part]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{{"ts": 1, "status": "{CANARY}"}}', "Expected `int | null`, got `str` - at `$.status`"),
        (f'{{"ts": 1, "prompt": "{CANARY}', "is no JSON: Input data was truncated"),
        (f"{CANARY} is what the log says", "is no JSON: invalid character (byte 0)"),
        ("", "is empty"),
        ("null", "Expected `object`, got `null`"),
        (f'["{CANARY}"]', "Expected `object`, got `array`"),
        ('{"ts": 1773144000000}', "`ts` is no time in seconds: it may be in milliseconds"),
        ('{"ts": -1}', "`ts` is no time in seconds"),
        (f'{{"ts": "{CANARY}"}}', "`ts` is neither seconds nor a time in ISO 8601"),
        ('{"ts": 1, "bytes_out": -5}', "Expected `int` >= 0 - at `$.bytes_out`"),
        ('{"key": "k1"}', "has no `ts`, and no line before it has one"),
        ('{"ts": 1, "key": "' + "k" * 257 + '"}', "`key` or `org` is longer than 256 letters"),
        ('{"ts": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "is nested too deep"),
    ],
)
def test_a_line_that_is_none_says_why_and_repeats_nothing(text: str, said: str) -> None:
    with pytest.raises(Unfit) as fault:
        entry_of(text.encode(), None)
    assert str(fault.value) == said and CANARY not in str(fault.value)


def test_letters_that_are_none_make_a_bad_line() -> None:
    with pytest.raises(Unfit, match="is no UTF-8"):
        entry_of(b'{"ts": 1, "key": "\xff"}', None)


def test_bad_lines_are_counted_and_the_first_are_named_by_their_places(tmp_path: Path) -> None:
    path = log_of(tmp_path, [line(0), "", "null", *["nonsense"] * 20, line(1)])
    log, entries = read(path)
    assert (log.events, log.skipped, len(entries)) == (2, 22, 2)
    assert [(bad.line, bad.reason) for bad in log.bad[:2]] == [(2, "is empty"), (3, "Expected `object`, got `null`")]
    assert len(log.bad) == law.NAMED and log.bad[0].log == path


def test_a_missing_field_is_none_and_an_unknown_one_is_passed_over(tmp_path: Path) -> None:
    _, entries = read(log_of(tmp_path, ['{"ts": 5, "new": {"deep": [1]}}', '{"key": "k1", "traits": null}']))
    assert [(entry.at, entry.key, entry.org, entry.traits) for entry in entries] == [
        (5_000_000, None, None, None),
        (5_000_000, "k1", None, None),
    ]


def test_a_last_line_without_an_end_and_lines_with_another_counts(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'\xef\xbb\xbf{"ts": 1}\r\n{"ts": 2}\r\n{"ts": 3}')
    log, entries = read(str(path))
    assert [entry.at for entry in entries] == [1_000_000, 2_000_000, 3_000_000] and log.skipped == 0


def test_a_line_of_megabytes_is_one_bad_line_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(law, "LONGEST", 1 << 20)
    monkeypatch.setattr("headgate.replay.files.BLOCK", 1 << 16)
    path = log_of(tmp_path, [line(0), '{"prompt": "' + "x" * (3 << 20) + '"}', line(1)])
    log, entries = read(path)
    assert (len(entries), log.skipped, log.bad[0].line) == (2, 1, 2)


def test_a_time_far_ahead_of_its_neighbours_is_a_bad_line(tmp_path: Path) -> None:
    log, entries = read(log_of(tmp_path, [line(0), line(1), line(400 * 86_400), line(2), line(3)]))
    assert (len(entries), log.skipped, log.bad[0].line) == (4, 1, 3)
    assert log.bad[0].reason == "its time is far ahead of the lines around it"


def test_a_gap_of_days_is_no_mistake(tmp_path: Path) -> None:
    log, entries = read(log_of(tmp_path, [line(0), line(1), line(400 * 86_400), line(400 * 86_400 + 1)]))
    assert (len(entries), log.skipped) == (4, 0)


def test_the_format_is_told_by_the_lines_and_not_by_the_name(tmp_path: Path) -> None:
    common = '192.0.2.1 - - [10/Mar/2026:12:00:00 +0000] "GET /a HTTP/1.1" 200 5'
    log, entries = read(log_of(tmp_path, ["# a heading", common, common], "log.jsonl"))
    assert (log.form, len(entries), log.skipped) == (law.COMMON, 2, 1)
    with pytest.raises(LogError, match="neither JSON Lines nor Common Log Format"):
        read(log_of(tmp_path, ["time,key,path"] * 5))
