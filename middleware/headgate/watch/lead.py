"""Who leads among the processes of one host: a lock on a file that falls with whoever holds it, however it dies.

Law: at most one holds it at a time, and asking never waits. Where the file system knows no locks, nobody leads.
"""

from __future__ import annotations

import os
from types import ModuleType
from weakref import WeakSet

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_HELD: WeakSet[Lead] = WeakSet()


class Lead:
    """The lead that a file stands for. The file gets mode 0600, is never written, and stays.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as there:
    ...     one, other = Lead(f"{there}/lead"), Lead(f"{there}/lead")
    ...     before = one.taken(), other.taken()
    ...     one.resign()
    ...     after = other.taken()
    ...     other.resign()
    >>> before, after
    ((True, False), True)
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1

    def taken(self) -> bool:
        """Whether this one leads, from now on or still. Raises OSError where the file cannot be made."""
        if self._file >= 0:
            return True
        if fcntl is None:
            return False
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another holds it, or there are no locks here
            os.close(file)
            return False
        self._file = file
        _HELD.add(self)
        return True

    def resign(self) -> None:
        """Lead no more."""
        file, self._file = self._file, -1
        if file >= 0:
            _HELD.discard(self)
            os.close(file)


def _closed_in_child() -> None:
    # A fork shares the lock: a child that kept the file open would lead on beyond its parent's death.
    for lead in list(_HELD):
        lead.resign()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_closed_in_child)
