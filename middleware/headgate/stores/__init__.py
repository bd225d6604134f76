"""Where the ledger is kept, by URI."""

from __future__ import annotations

from headgate.clock import Clock, wall_clock
from headgate.errors import StoreError
from headgate.stores.contract import Store
from headgate.stores.memory import MemoryStore
from headgate.stores.sqlite import SqliteStore

__all__ = ["MemoryStore", "SqliteStore", "Store", "open_store"]

KNOWN = "memory:// (one process, forgets when it ends), sqlite:///PATH (the workers of one host)"


def open_store(uri: str, *, clock: Clock = wall_clock) -> Store:
    """The store that a URI names. Nothing is opened before the first use.

    | URI | the ledger is kept |
    | --- | --- |
    | `memory://` | in this process, until it ends |
    | `sqlite:///headgate.db` | in a file, from the working directory; shared by the workers of one host |
    | `sqlite:////var/lib/headgate.db` | the same, with an absolute path |

    A path is taken as it is written: `%`, `?` and `#` mean nothing in it. Raises StoreError for a URI that names no
    store.

    >>> open_store("memory://").immediate, open_store("sqlite:///headgate.db").immediate
    (True, False)
    """
    scheme, found, rest = uri.partition("://")
    if found and scheme == "memory":
        if rest:
            raise StoreError(f"`memory://` takes nothing after it, and `{rest}` follows", transient=False)
        return MemoryStore(clock=clock)
    if found and scheme == "sqlite":
        return SqliteStore(_path(rest), clock=clock)
    # The rest of an unknown URI may carry a password: the scheme alone is shown.
    named = f"`{scheme}://`" if found else "a URI without `://`"
    raise StoreError(f"no store is known for {named}; there are {KNOWN}", transient=False)


def _path(rest: str) -> str:
    if not rest.startswith("/") or len(rest) == 1:
        raise StoreError(
            "a SQLite store is named with three slashes and a path: sqlite:///headgate.db (four: an absolute one)",
            transient=False,
        )
    path = rest[1:]
    if path == ":memory:" or "\0" in path or path.endswith("/"):
        raise StoreError("a SQLite store needs a file; for one process without a file use memory://", transient=False)
    return path
