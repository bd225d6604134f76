"""Lines of Apache and nginx."""

from __future__ import annotations

import pytest

from headgate.replay.common_log import ADDRESS, entry_of, is_common_log
from headgate.replay.entry import Unfit

LINE = b'203.0.113.9 - - [10/Mar/2026:13:00:00 +0100] "GET /v1/items/7?token=secret HTTP/1.1" 200 2326'


def test_a_line_tells_when_what_and_how_much() -> None:
    entry = entry_of(LINE + b' "https://x.example/" "curl/8.5"')
    assert (entry.at, entry.method, entry.path) == (1_773_144_000_000_000, "GET", "/v1/items/7")
    assert (entry.status, entry.bytes_out, entry.ip, entry.user_agent) == (200, 2326, "203.0.113.9", "curl/8.5")


def test_the_query_is_no_part_of_what_is_kept() -> None:
    assert "secret" not in repr(entry_of(LINE))


def test_the_key_is_the_user_and_else_the_address() -> None:
    assert entry_of(LINE.replace(b"- - [", b"- ann [")).key == "ann"
    assert entry_of(LINE).key == f"{ADDRESS}203.0.113.9"


@pytest.mark.parametrize(
    ("request_line", "method", "path"),
    [
        (b"GET / HTTP/1.0", "GET", "/"),
        (b"POST /a b HTTP/1.1", "POST", "/a b"),
        (b"GET /old", "GET", "/old"),
        (b"-", None, None),
        (b"\\x16\\x03\\x01", None, None),
        (b'GET /say\\"so\\" HTTP/1.1', "GET", '/say\\"so\\"'),
    ],
)
def test_requests_that_are_odd_or_none(request_line: bytes, method: str | None, path: str | None) -> None:
    entry = entry_of(LINE.replace(b"GET /v1/items/7?token=secret HTTP/1.1", request_line))
    assert (entry.method, entry.path) == (method, path)


@pytest.mark.parametrize(
    "time", [b"31/Feb/2026:13:00:00 +0100", b"10/Mrz/2026:13:00:00 +0100", b"10 Mar 2026 13:00:00 +0100"]
)
def test_a_time_that_is_none_makes_a_bad_line(time: bytes) -> None:
    with pytest.raises(Unfit, match="its time is none"):
        entry_of(LINE.replace(b"10/Mar/2026:13:00:00 +0100", time))


def test_a_hostile_line_is_read_in_linear_time() -> None:
    begun = b"h - - [10/Mar/2026:13:00:00 +0100] "
    for text in (b"h - " + b"u " * 50_000 + b"[10/Mar/2026", begun + b'"' + b"\\" * 100_001):
        assert not is_common_log(text)
