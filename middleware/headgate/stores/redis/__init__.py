"""The ledger in Redis or Valkey, for a fleet: one server, a master told by sentinels, or a cluster.

| part | knows |
| --- | --- |
| `store` | which line a call takes: every event loop has its own |
| `address`, `faults` | what a URI names; what went wrong, in words |
| `script/` | the ledger in Lua (`*.lua`), how a command is written for it (`codec`, `lines`, `keys`) and its answer read (`replies`) |
| `wire/` | what travels together and how long it waits (`line`, `cluster`, `batch`), to which server and whether it may be asked (`node`, `breaker`, `sentinel`), over which connection (`opening`, `connection`) |
| `slots/` | what to do where the places of one command lie in several slots of a cluster (`plan`) |
| `doctor/` | what is wrong with a server, before it shows |
"""  # noqa: E501

from __future__ import annotations

from headgate.stores.redis.store import DEADLINE, RedisStore

__all__ = ["DEADLINE", "RedisStore"]
