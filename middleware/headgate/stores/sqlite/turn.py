"""A fair lock between the processes that write one file.

Law: waiting is sleeping. The kernel wakes the waiting processes one after the other, while SQLite's own way is to try
again after a pause, where whoever pauses longest starves. It is about order alone: what keeps the counts exact is
SQLite's write lock, which is taken besides. So a host without `flock` is slower and not wrong.
"""

from __future__ import annotations

import os
from types import ModuleType, TracebackType
from weakref import WeakSet

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_OPEN: WeakSet[Turn] = WeakSet()


class Turn:
    """A context in which no other process, and no other `Turn` on the same path, is.

    `path` is a file beside the database, made with mode 0600 and never written. The lock falls with the process that
    holds it, however it dies. Waits without bound: whoever asked for the work bounds its own waiting.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1

    def __enter__(self) -> Turn:
        if self._file < 0 and fcntl is not None:
            self._open()
        if self._file >= 0 and fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            except OSError:  # a file system that knows no locks
                self.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._file >= 0 and fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file; the next turn opens it again."""
        file, self._file = self._file, -1
        if file >= 0:
            _OPEN.discard(self)
            os.close(file)

    def _open(self) -> None:
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError:
            return  # the database beside it cannot be written either, and says so better
        _OPEN.add(self)


def _closed_in_child() -> None:
    # A fork shares the lock: a child that kept the file open would hold it beyond its parent's death.
    for turn in list(_OPEN):
        turn.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_closed_in_child)
