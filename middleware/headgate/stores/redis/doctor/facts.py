"""What was read of the servers, as they said it.

Law: a fact that could not be read is None, or missing from its mapping; nobody downstream may take that for a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Shape = Literal["single", "sentinel", "cluster"]

Durability = Literal["fast", "replicated"]

KEPT = "deghlmnoprw"
"""What may stand between `h` and the brace of a key of headgate's: which keys there are stands in `keys`."""

PATTERN = f"h[{KEPT}]{{*"
"""All keys of headgate, as SCAN and access lists name them."""

BEGINNINGS = tuple(f"h{letter}{{".encode() for letter in KEPT)
"""How a key of headgate's begins."""

ENDLESS = (b"hn{", b"he{", b"hw{")
"""How those begin that have no end: documents, what waits to be looked at, what was learnt from it.
There are a few."""


class Right(NamedTuple):
    """A command as an access list names it, and as it is asked about (`KEY` and `KEYS` stand for one and for
    all kinds of keys of headgate)."""

    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Some keys of a database: how many there were, of those how many are not headgate's, and have no end."""

    looked_at: int
    foreign: int
    lasting: int


@dataclass(frozen=True, slots=True)
class Server:
    """One server. `address`: `host:port`, or the socket's path.

    `info`: the fields of INFO (with `commandstats`). `settings`: what CONFIG GET answers; None where it is not
    permitted. `cluster`: the fields of CLUSTER INFO. `ahead`: how far (seconds) its clock is before this machine's.
    `trips`: round trips (seconds). `slow`: slow commands, each as (name, seconds, seconds ago). `denied`: what the
    user may not do and the store needs; None where that could not be asked. `refused`: what could not be asked, with
    the reason.
    """

    address: str
    info: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] | None = None
    cluster: Mapping[str, str] | None = None
    ahead: float | None = None
    trips: tuple[float, ...] = ()
    slow: tuple[tuple[str, float, float], ...] | None = None
    denied: tuple[str, ...] | None = None
    sample: Sample | None = None
    refused: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str) -> int | None:
        """A number of INFO; None where it is not told.

        >>> Server("h:1", {"maxmemory": "0"}).number("maxmemory"), Server("h:1").number("maxmemory")
        (0, None)
        """
        try:
            return int(self.info[name])
        except (KeyError, ValueError):
            return None

    def setting(self, name: str) -> str | None:
        """A value of CONFIG GET; None where it is not known."""
        return None if self.settings is None else self.settings.get(name)

    def amount(self, name: str) -> int | None:
        """A value of CONFIG GET that is a number; None where it is not known."""
        said = self.setting(name) or ""
        return int(said) if said.isdigit() else None

    @property
    def mode(self) -> str:
        """`standalone`, `cluster` or `sentinel`; "" where it is not told."""
        return self.info.get("redis_mode") or self.info.get("server_mode", "")

    @property
    def replica(self) -> bool:
        """Whether it follows another server."""
        return self.info.get("role") == "slave"

    @property
    def version(self) -> tuple[int, int] | None:
        """The version of Redis that it is, or says that it is compatible with.

        >>> Server("h:1", {"redis_version": "7.2.4", "valkey_version": "9.1.2"}).version
        (7, 2)
        """
        parts = self.info.get("redis_version", "").split(".")
        return (int(parts[0]), int(parts[1])) if len(parts) > 1 and all(p.isdigit() for p in parts[:2]) else None

    @property
    def product(self) -> str:
        """Its name and version, as people call it.

        >>> Server("h:1", {"redis_version": "7.2.4", "valkey_version": "9.1.2"}).product
        'Valkey 9.1.2'
        """
        for name, called in PRODUCTS.items():
            if name in self.info:
                return f"{called} {self.info[name].removeprefix('df-').removeprefix('v')}"
        return "a server that does not say what it is"

    def followers(self) -> list[dict[str, str]] | None:
        """The replicas that a primary knows of, each with `state` and `lag` (seconds); None where it is not told.

        >>> Server("h:1", {"connected_slaves": "1", "slave0": "ip=a,port=2,state=online,lag=0"}).followers()
        [{'ip': 'a', 'port': '2', 'state': 'online', 'lag': '0'}]
        """
        count = self.number("connected_slaves")
        if count is None:
            return None
        rows = [self.info.get(f"slave{at}", "") for at in range(count)]
        return [dict(part.split("=", 1) for part in row.split(",") if "=" in part) for row in rows]


PRODUCTS = {"dragonfly_version": "Dragonfly", "valkey_version": "Valkey", "redis_version": "Redis"}
"""Who says its version under which name; those that imitate another say that one's too."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What one Sentinel says of the primary that it watches. `fine`: that a majority could fail it over now."""

    address: str
    others: int
    quorum: int
    fine: bool
    down_after: float


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was read of one store.

    `away`: servers that belong to it and did not answer, each as (address, what it is, why). `deadline`: how long
    (seconds) a request waits for the store; `workers`: how many processes will connect.
    `password`, `encrypted`: how the address connects; `local`: it does not leave this machine. `user` connects, and
    `needs` those rights.
    """

    servers: tuple[Server, ...]
    shape: Shape = "single"
    away: tuple[tuple[str, str, str], ...] = ()
    watches: tuple[Watch, ...] = ()
    durability: Durability = "fast"
    deadline: float = 0.025
    workers: int = 1
    password: bool = True
    encrypted: bool = True
    local: bool = True
    user: str = "default"
    needs: tuple[Right, ...] = ()


def fields(text: str) -> dict[str, str]:
    """The lines of INFO or CLUSTER INFO as a mapping.

    >>> fields("# Server\\r\\nredis_version:7.2.4\\r\\nconfig_file:/etc/a:b\\r\\n")
    {'redis_version': '7.2.4', 'config_file': '/etc/a:b'}
    """
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split(":", 1) for line in lines if ":" in line)
