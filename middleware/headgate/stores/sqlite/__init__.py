"""The ledger in a file that the workers of one host share: `sqlite:///headgate.db`.

From the outside in: `store` gathers the calls of an event loop and puts them on the `desk`; `serving` is the thread
that takes them up and keeps what is still owed; `file` applies them in one transaction, whose `page` is what it has
read and will write; `rows` is how a balance lies in the tables, `sweep` forgets, `turn` queues the processes, `mark`
keeps time from running backwards, `faults` puts into words what went wrong.
"""

from __future__ import annotations

from headgate.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
