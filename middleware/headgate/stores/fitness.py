"""Whether the store that a URI names is fit to keep a ledger: `headgate doctor`, and a service's look at its start.

Law: looking changes nothing and counts nothing. A store that cannot be looked at is a StoreError, never a clean bill.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from headgate.settings import without_password
from headgate.stores import SERVERS, open_store
from headgate.stores.finding import Kind, NotKnown, Report, tell

__all__ = ["ALONE", "Report", "look", "tell"]

ALONE = Kind(
    "memory", ("note",), "Each process counts by itself and forgets at its end: two workers give twice the limit."
)


async def look(
    uri: str,
    *,
    durability: Literal["fast", "replicated"] = "fast",
    deadline: float | None = None,
    workers: int = 1,
    thorough: bool = True,
) -> Report:
    """All that is wrong with a store, and what could not be looked at.

    `deadline` (seconds): how long a request waits for it; the store's own by default. `workers`: how many processes
    use it. Not `thorough`: what is cheap enough for every start of a worker. Raises StoreError where nothing can be
    looked at: the address is wrong, nobody answers, the password is refused.

    >>> [finding.name for finding in asyncio.run(look("memory://")).findings]
    ['memory']
    """
    scheme, _, rest = uri.partition("://")
    shown = without_password(uri)
    # Whatever is wrong with the address is said here; nothing is opened.
    store = open_store(uri, deadline=deadline, durability=durability)
    if scheme == "memory":
        alone = ALONE.found("memory://", "usage is kept in each process's memory", "sqlite:///FILE, or redis://HOST")
        return Report(shown, (("memory://", "this process's memory"),), (alone,))
    if scheme == "sqlite":
        from headgate.stores.sqlite import doctor

        return await asyncio.to_thread(doctor.look, rest[1:], shown, thorough=thorough)
    if scheme in SERVERS or scheme == "unix":
        from headgate.stores.redis.doctor import visit

        return await visit.report(
            uri, shown, durability=durability, deadline=store.deadline, workers=workers, thorough=thorough
        )
    unseen = NotKnown((shown,), "whether it is fit", "headgate doctor looks at Redis, Valkey and SQLite alone")
    return Report(shown, ((shown, "a store of another kind: not looked at"),), not_known=(unseen,))
