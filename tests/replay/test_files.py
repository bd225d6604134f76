"""Logs as they lie about: packed, cut off, damaged, several behind one another, or none at all."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pytest
import zstandard

from headgate.replay.files import LogError, LogFile

TEXT = b"".join(b'{"ts": %d, "prompt": "%s"}\n' % (n, b"word " * (n % 50)) for n in range(20_000))


def whole(file: LogFile) -> bytes:
    return b"".join(file.blocks())


def packed(way: str) -> bytes:
    if way == "plain":
        return TEXT
    if way == "gzip":
        return gzip.compress(TEXT)
    return zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)


@pytest.mark.parametrize("way", ["plain", "gzip", "zstd"])
def test_a_log_is_read_whole_however_it_is_packed_and_named(tmp_path: Path, way: str) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(packed(way))
    file = LogFile(str(path))
    assert whole(file) == TEXT
    assert file.fault == "" and file.taken == file.size == len(packed(way))


@pytest.mark.parametrize("way", ["gzip", "zstd"])
def test_several_packed_logs_behind_one_another_are_one(tmp_path: Path, way: str) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(packed(way) * 3)
    assert whole(LogFile(str(path))) == TEXT * 3


@pytest.mark.parametrize("way", ["gzip", "zstd"])
def test_a_log_that_is_cut_off_gives_what_it_has_and_says_so(tmp_path: Path, way: str) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(packed(way)[:-20])
    file = LogFile(str(path))
    found = whole(file)
    assert TEXT.startswith(found) and len(found) > len(TEXT) // 2
    assert file.fault == f"is cut off: the {way} stream does not end"


@pytest.mark.parametrize("way", ["gzip", "zstd"])
def test_a_damaged_log_says_so_and_raises_nothing(tmp_path: Path, way: str) -> None:
    path = tmp_path / "access.log"
    data = bytearray(packed(way))
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(data)
    file = LogFile(str(path))
    whole(file)
    assert file.fault.startswith("is damaged: ")


def test_standard_input_may_be_packed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed("zstd"))))
    file = LogFile("-")
    assert (whole(file), file.name, file.size) == (TEXT, "standard input", 0)


@pytest.mark.parametrize(
    ("begin", "said"),
    [(b"BZh91AY", "packed with bzip2"), (b"\xfd7zXZ\0", "packed with xz"), (b"PK\x03\x04", "packed with zip")],
)
def test_other_packings_are_told_with_the_remedy(tmp_path: Path, begin: bytes, said: str) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(begin + b"rest")
    with pytest.raises(LogError, match=f"{said}, which is not read: unpack it first"):
        LogFile(str(path))


def test_what_is_not_there_or_a_folder_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"nowhere\.log: cannot be read: No such file or directory"):
        LogFile(str(tmp_path / "nowhere.log"))
    with pytest.raises(LogError, match="is a folder; name the log files in it"):
        LogFile(str(tmp_path))


def test_a_small_file_that_unpacks_to_a_gigabyte_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zst"
    packer = zstandard.ZstdCompressor().compressobj()
    with path.open("wb") as file:
        for _ in range(1_024):
            file.write(packer.compress(bytes(1 << 20)))
        file.write(packer.flush())
    assert path.stat().st_size < 200_000
    largest = max(len(block) for block in LogFile(str(path)).blocks())
    assert largest <= 300 << 20
