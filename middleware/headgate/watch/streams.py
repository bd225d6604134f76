"""The stream that belongs to a store, by the store's URI."""

from __future__ import annotations

from headgate.errors import StoreError
from headgate.stores import keeping
from headgate.watch.memory import MemoryStream
from headgate.watch.sqlite import SqliteStream
from headgate.watch.stream import KEEP, SHARDS, Stream

__all__ = ["SHARDS", "open_stream"]


def open_stream(uri: str, keep: int = KEEP) -> Stream:
    """The stream beside the store that a URI names; nothing is opened before the first call. `keep`: parcels that it
    keeps at most.

    Raises StoreError for a URI that names no store, or one that keeps counters and nothing else.

    >>> open_stream("memory://").shared, open_stream("sqlite:///headgate.db").shared
    (False, True)
    """
    if (keeper := keeping(uri)) is not None:
        raise StoreError(
            f"{keeper.name} keeps counters and nothing else: for linking keep usage in SQLite or Redis",
            transient=False,
        )
    scheme, _, rest = uri.partition("://")
    if scheme == "memory":
        return MemoryStream(keep)
    if scheme == "sqlite":
        return SqliteStream(f"{rest[1:]}-watch", keep)
    from headgate.watch.redis import RedisStream  # here: what speaks to servers takes long to load

    return RedisStream(uri, keep)
