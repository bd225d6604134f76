"""Where the ledger is kept, by URI."""

from __future__ import annotations

from headgate.clock import Clock, wall_clock
from headgate.errors import StoreError
from headgate.stores.contract import Store
from headgate.stores.memory import MemoryStore

__all__ = ["MemoryStore", "Store", "open_store"]


def open_store(uri: str, *, clock: Clock = wall_clock) -> Store:
    """The store that a URI names: `memory://`. Nothing is opened before the first use.

    Raises StoreError for a URI that names none.

    >>> open_store("memory://").immediate
    True
    """
    if uri == "memory://":
        return MemoryStore(clock=clock)
    raise StoreError(f"no store is known for `{uri.partition('://')[0]}://`: use memory://", transient=False)
