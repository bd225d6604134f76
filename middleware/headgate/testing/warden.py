"""Ends the servers of a process that died: a small process that watches its keeper, and what the keeper tells it.

Law: it is told of each server that begins or ends, by lines on its standard input; when that ends, its keeper is no
more, and what is left is killed by its id and its folder removed. Run as a script it imports nothing that takes long.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

NOBODY = 0
"""Stands for the process of a server that does not run at present; no process has this id."""


class _Warden(NamedTuple):
    process: subprocess.Popen[bytes]
    told: dict[Path, int]


_wardens: dict[int, _Warden] = {}
"""The warden of this process, by its id: a child that was forked has none, and ends nothing of its parent's."""


def guarded(folder: Path, pid: int = NOBODY) -> None:
    """From now on the folder goes when this process ends, and so does the process that works in it."""
    keeper = os.getpid()
    before = _wardens.get(keeper)
    if before is None or before.process.poll() is not None:  # none yet, or somebody ended it
        _wardens[keeper] = _Warden(_started(), before.told if before is not None else {})
        for other, worker in _wardens[keeper].told.items():
            _say(_wardens[keeper], worker, other)
    _wardens[keeper].told[folder] = pid
    _say(_wardens[keeper], pid, folder)


def released(folder: Path) -> None:
    """The folder is gone already, and nobody works in it."""
    warden = _wardens.get(os.getpid())
    if warden is not None and warden.told.pop(folder, None) is not None:
        _say(warden, NOBODY, folder)


def _started() -> subprocess.Popen[bytes]:
    # A session of its own: ctrl-C must not reach it, nor what kills a whole process group.
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, cwd="/", start_new_session=True
    )
    atexit.register(_dismissed, process, os.getpid())
    return process


def _say(warden: _Warden, pid: int, folder: Path) -> None:
    if warden.process.stdin is not None:
        with suppress(BrokenPipeError):  # the next one that is started is told of all
            warden.process.stdin.write(f"{pid}\t{folder}\n".encode())
            warden.process.stdin.flush()


def _dismissed(process: subprocess.Popen[bytes], keeper: int) -> None:
    if os.getpid() == keeper and process.stdin is not None:
        process.stdin.close()
        process.wait()


def watch() -> None:
    """The warden itself: lines of a process id and a folder, between them a tab; the last one of a folder counts."""
    working: dict[str, tuple[int, int | None]] = {}
    for line in sys.stdin:
        number, folder = line.rstrip("\n").split("\t")
        _, handle = working.pop(folder, (NOBODY, None))
        if handle is not None:
            os.close(handle)
        if Path(folder).is_dir():  # else it was released
            working[folder] = int(number), _handle(int(number))
    for pid, handle in working.values():
        _kill(pid, handle)
    for folder in working:
        shutil.rmtree(folder, ignore_errors=True)


def _handle(pid: int) -> int | None:
    """A handle of the very process, where the system has such: an id may be another's by the time of a kill."""
    with suppress(AttributeError, OSError):
        return os.pidfd_open(pid)
    return None


def _kill(pid: int, handle: int | None) -> None:
    with suppress(OSError):
        if handle is not None:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        elif pid != NOBODY and not hasattr(os, "pidfd_open"):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    watch()
