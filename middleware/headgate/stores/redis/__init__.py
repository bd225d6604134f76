"""The ledger in Redis or Valkey, for a fleet: one server, a master told by sentinels, or a cluster.

| part | knows |
| --- | --- |
| `address` | what a URI names |
| `store` | which line a call takes: every event loop has its own |
| `line`, `cluster` | what travels together, how long it waits, and to whom it goes |
| `batch` | the commands of one script call, and who waits for them |
| `node`, `breaker` | one server: whether it may be asked, and over which connection |
| `opening`, `names`, `connection` | how a connection is made, and who gets which answer |
| `sentinel` | where the master is |
| `plan` | what to do where the places of one command lie in several slots |
| `codec`, `scripts` | how a command is written for the script, and the script |
| `faults` | what went wrong, in words |
| `doctor` | what is wrong with a server, before it shows |
"""

from __future__ import annotations

from headgate.stores.redis.store import DEADLINE, RedisStore

__all__ = ["DEADLINE", "RedisStore"]
