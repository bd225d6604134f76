"""A worker's watching, as its settings have it.

Law: who keeps usage in one process or on one host watches besides serving; beside a fleet's servers a process of its
own does, and workers only pass on what they saw.
"""

from __future__ import annotations

from collections.abc import Callable

from headgate.policy.compiled import Policy
from headgate.settings import Settings
from headgate.stores.documents import Documents, open_documents
from headgate.watch.publishing import Published
from headgate.watch.streams import SHARDS, open_stream
from headgate.watch.watching import Watching

EMBEDDED = ("memory", "sqlite")
"""Schemes of stores beside which a worker watches itself."""


def beside(
    settings: Settings, pepper: bytes, policy: Callable[[], Policy], documents: Documents | None = None
) -> Watching | None:
    """The watching of a worker, not begun yet; None where nobody is to watch. `policy` answers the one in force.
    `documents`: where the register is, if it is in this process alone.

    Raises StoreError for a store that has no place for what was seen.
    """
    scheme = settings.store.partition("://")[0]
    if settings.watch == "off" or (scheme == "memory" and settings.watch == "apart"):
        return None
    open_stream(settings.store, settings.watch_keep)  # what is wrong with the address is told here, and not later

    def findings() -> Published:
        kept = documents or open_documents(settings.store, durability=settings.durability)
        return Published(kept, policy)

    return Watching(
        pepper,
        lambda: open_stream(settings.store, settings.watch_keep),
        findings=findings if scheme in EMBEDDED and settings.watch == "auto" else None,
        shards=1 if scheme in EMBEDDED else SHARDS,
    )
