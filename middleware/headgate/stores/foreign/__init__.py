"""Any other server that the `limits` package can reach: memcached, MongoDB. What is weaker is said beforehand."""

from __future__ import annotations

from headgate.clock import Clock, wall_clock
from headgate.stores.foreign.counters import missing, shown
from headgate.stores.foreign.promises import Keeping, unsupported, weaker
from headgate.stores.foreign.store import ForeignStore

__all__ = ["ForeignStore", "Keeping", "keeping_of", "open_foreign", "schemes", "unsupported", "weaker"]


def schemes() -> tuple[str, ...]:
    """The schemes that `limits` knows, as they are written here. Imports it.

    >>> {"memcached", "mongodb"} < set(schemes())
    True
    """
    import limits.aio.storage  # each of its storages says its schemes by being imported

    known = [each.removeprefix("async+") for each in vars(limits.storage)["SCHEMES"] if each.startswith("async+")]
    return tuple(sorted(set(known) - {"memory"}))


def keeping_of(uri: str) -> Keeping:
    """What the store behind a URI of `limits` says of itself. Nothing is opened, and its client need not be there.

    >>> keeping_of("mongodb://user:secret@db.example:27017/").name
    'mongodb://db.example:27017'
    """
    return Keeping(shown(uri), weaker(uri))


def open_foreign(uri: str, clock: Clock = wall_clock) -> ForeignStore:
    """The store behind a URI whose scheme is one of `schemes`. Nothing is connected before the first use.

    Raises StoreError where the client for it is not installed.

    >>> open_foreign("memcached://127.0.0.1:11211").deadline
    0.25
    """
    missing(uri)
    return ForeignStore(uri, clock=clock)
