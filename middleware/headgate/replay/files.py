"""A log file, opened and unpacked: plain, gzip or zstd, from a disk or from standard input.

Law: what can be read is read. A file that ends in mid-stream, as one does that is still being written, gives what it
has and says that it is cut off; whether it is packed is told by its first bytes, not by its name. Memory is bounded
by a few blocks, whatever is in it.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from headgate.errors import HeadgateError

BLOCK = 1 << 18
"""Bytes that are read at a time: large enough that the calls do not count, small beside everything else."""

PIECE = 1 << 13
"""Packed bytes that zstd is given at a time. A block of it can be 32,768 times as large unpacked: 256 MB at worst, of
a file that was made for it; an ordinary log gives 100 kB."""

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

NOT_READ = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
"""Packings that are told from garbage, so that the remedy can be named."""


class LogError(HeadgateError):
    """A log cannot be read at all: it is not there, it is a folder, it is packed in a way that is not known."""


class LogFile:
    """One log, by its path; `-` is standard input. `blocks` gives its bytes, unpacked.

    `name`: how it is called in what is told. `size`: bytes on the disk, 0 where nobody knows; `taken`: those that
    were read so far. `fault`: why it ended early, "" where it did not. `waiting`: whether it is being read now.

    Raises LogError for what cannot be opened, when it is made.
    """

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == "-" else path
        self.size = 0
        self.taken = 0
        self.fault = ""
        self.waiting = False
        self._file = _opened(path)
        if path != "-":
            self.size = Path(path).stat().st_size
        self._begun = self.read(BLOCK)
        self.taken = 0
        for mark, packing in NOT_READ.items():
            if self._begun.startswith(mark):
                self.close()
                raise LogError(f"{self.name}: is packed with {packing}, which is not read: unpack it first")

    def blocks(self) -> Iterator[bytes]:
        """The log's bytes in pieces of no fixed size; ends early, with `fault`, where no more can be unpacked."""
        begun, self._begun = self._begun, b""
        unpacked = {GZIP: self._unzipped, ZSTD: self._unpacked}
        try:
            yield from next((way for mark, way in unpacked.items() if begun.startswith(mark)), self._raw)(begun)
        finally:
            self.close()

    def read(self, size: int) -> bytes:
        """The next bytes as they are in the file."""
        self.waiting = True
        block = self._file.read(size)
        self.waiting = False
        self.taken += len(block)
        return block

    def close(self) -> None:
        """Let go of the file; standard input stays open."""
        if self._file is not sys.stdin.buffer:
            self._file.close()

    def _raw(self, begun: bytes) -> Iterator[bytes]:
        self.taken += len(begun)
        block = begun
        while block:
            yield block
            block = self.read(BLOCK)

    def _unzipped(self, begun: bytes) -> Iterator[bytes]:
        with gzip.GzipFile(fileobj=_Again(begun, self)) as unzipped:
            try:
                while block := unzipped.read1(BLOCK):
                    yield block
            except EOFError:
                self.fault = "is cut off: the gzip stream does not end"
            except (gzip.BadGzipFile, zlib.error) as fault:
                self.fault = f"is damaged: {fault}"

    def _unpacked(self, begun: bytes) -> Iterator[bytes]:
        frame, failed = _zstd()
        unpacking = None
        for block in self._raw(begun):
            for at in range(0, len(block), PIECE):
                piece = block[at : at + PIECE]
                while piece:
                    unpacking = unpacking or frame()
                    try:
                        out = unpacking.decompress(piece)
                    except failed as fault:
                        self.fault = f"is damaged: {fault}"
                        return
                    if out:
                        yield out
                    piece = b""
                    if unpacking.eof:  # a file may hold several frames, one behind the other
                        piece, unpacking = unpacking.unused_data, None
        if unpacking is not None:
            self.fault = "is cut off: the zstd stream does not end"


class _Again(io.RawIOBase):
    """A log's bytes from its beginning, of which the first were read already."""

    def __init__(self, begun: bytes, file: LogFile) -> None:
        self._begun, self._log = begun, file
        file.taken += len(begun)

    def read(self, size: int = -1) -> bytes:
        if not self._begun:
            return self._log.read(size)
        cut = len(self._begun) if size < 0 else size
        block, self._begun = self._begun[:cut], self._begun[cut:]
        return block


def _opened(path: str) -> BinaryIO:
    if path == "-":
        return sys.stdin.buffer
    if Path(path).is_dir():
        raise LogError(f"{path}: is a folder; name the log files in it")
    try:
        return Path(path).open("rb")
    except OSError as fault:
        raise LogError(f"{path}: cannot be read: {fault.strerror}") from None


def _zstd() -> tuple[Callable[[], Any], type[Exception]]:
    """What unpacks one frame of zstd, and its fault: the standard library's from Python 3.14 on."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.ZstdDecompressor, zstd.ZstdError
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
