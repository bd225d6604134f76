"""The ledger in a file that the workers of one host share: `sqlite:///headgate.db`.

From the outside in: `store` gathers the calls of an event loop and hands them to a thread; `file` applies them in one
transaction; `rows` is how a balance lies in a table, `sweep` forgets, `turn` queues the processes, `mark` keeps time
from running backwards, `faults` puts into words what went wrong.
"""

from __future__ import annotations

from headgate.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
