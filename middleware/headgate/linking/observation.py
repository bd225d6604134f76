"""What is kept of a request so that its key may be linked to others: keyed digests and numbers, and no text.

Law: what goes in raw (a prompt, an address, a card's fingerprint) comes out as a number that nobody without the
pepper can tell it from, nor confirm a guess by. What two requests share gives the same number, and that is all that
can be learnt. Two kinds of a value never give the same number: a card cannot be met with for a device.

Order and place are kept where they are the evidence: the clauses of a prompt in their order, and the numbers of the
data items that were handed out, which are the operator's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from ipaddress import ip_address
from typing import NamedTuple

CLAUSES = 64
"""Clauses of a prompt that are looked at, from its beginning: what a bank of templates has in common comes early, and
a caller's megabyte must not cost a second."""

LONGEST = 16_384
"""Letters of a prompt that are looked at."""

KEPT = 200_000
"""Digests of a kind that are kept worked out: most clauses and addresses come again."""

DIGITS = 15
"""Digits at the end of an id that are its number."""

_ends = re.compile(r"[.,:;?!\n()]+\s*").split
_named = re.compile(r"(?<=[a-z] )[A-Z][a-z]+").findall


class Observation(NamedTuple):
    """One request, as linking sees it.

    | field | meaning |
    | --- | --- |
    | `at` | when it came, in microseconds |
    | `key`, `org` | public ids; `org` is "" where the key belongs to none |
    | `served` | whether it was answered with what it asked for (a status below 400) |
    | `denied` | whether it was refused for its limit (429) |
    | `clauses` | digests of the prompt's clauses, in order |
    | `names` | digests of the names within it (words written large in mid-sentence) |
    | `runs` | data items handed out: (digest of their collection, first number, how many), numbers ascending by one |
    | `traits` | (name, digest) of what is known of the account or the connection: `payment`, `address`, `client` … |
    | `signup` | when the account was made, in microseconds; None where nobody told |
    | `size` | tokens that went in; 0 where nobody told |
    """

    at: int
    key: str
    org: str
    served: bool
    denied: bool = False
    clauses: tuple[int, ...] = ()
    names: tuple[int, ...] = ()
    runs: tuple[tuple[int, int, int], ...] = ()
    traits: tuple[tuple[str, int], ...] = ()
    signup: int | None = None
    size: int = 0


class _Numbers(dict[str, int]):
    """The numbers of one kind's values, each worked out when it is first asked for; at most `KEPT` are kept."""

    def __init__(self, kind: str, key: bytes) -> None:
        super().__init__()
        whole = blake2b(kind.encode(), key=key, digest_size=64).digest()
        self._begun = blake2b(key=whole, digest_size=8)

    def __missing__(self, value: str) -> int:
        if len(self) >= KEPT:
            self.clear()
        made = self._begun.copy()
        made.update(value.encode("utf-8", "surrogatepass"))
        number = self[value] = int.from_bytes(made.digest(), "big") >> 1
        return number


class Blind:
    """Turns raw values into the numbers of one pepper.

    A number has 63 bits, so that a script and a database can hold it: among 10^8 values two are alike by chance with
    a probability of 0.0005. BLAKE2b with a key (RFC 7693) is a keyed digest by itself.

    >>> blind = Blind(b"pepper")
    >>> blind("device", "a") == blind("device", "a"), blind("device", "a") == blind("payment", "a")
    (True, False)
    """

    def __init__(self, pepper: bytes) -> None:
        self._key = blake2b(pepper).digest()
        self._by_kind: dict[str, _Numbers] = {}

    def __call__(self, kind: str, value: str) -> int:
        """The number of a value of some kind."""
        numbers = self._by_kind.get(kind)
        return (self._begun(kind) if numbers is None else numbers)[value]

    def _begun(self, kind: str) -> _Numbers:
        return self._by_kind.setdefault(kind, _Numbers(kind, self._key))

    def prompt(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The clauses of a prompt and the names in it.

        >>> one, other = (Blind(b"pepper").prompt(f"Be brief. What does {name} sell?") for name in ("Acme", "Labs"))
        >>> one[0][0] == other[0][0], one[0][1] == other[0][1], one[1] == other[1]
        (True, False, False)
        """
        text = text[:LONGEST]
        clauses = [clause for clause in _ends(text.lower()) if clause][:CLAUSES]
        names = dict.fromkeys(_named(text))
        by_clause = self._by_kind.get("clause") or self._begun("clause")
        by_name = self._by_kind.get("name") or self._begun("name")
        return tuple([by_clause[clause] for clause in clauses]), tuple([by_name[name] for name in names])

    def network(self, address: str) -> tuple[tuple[str, int], ...]:
        """An address and the network around it (/24, and /48 of the new kind), as traits; nothing for what is none.

        >>> [name for name, _ in Blind(b"pepper").network("198.51.100.7")], Blind(b"pepper").network("?")
        (['address', 'network'], ())
        """
        try:
            found = ip_address(address)
        except ValueError:
            return ()
        whole = int(found)
        # A line has a /64 of its own: within it, addresses are drawn anew each day.
        line, around = (whole, whole >> 8) if found.version == 4 else (whole >> 64, whole >> 80)
        return ("address", self("address", f"{found.version}.{line}")), ("network", self("network", f"{around}"))


def runs(blind: Blind, resources: Iterable[str]) -> tuple[tuple[int, int, int], ...]:
    """The data items that were handed out as runs of numbers that ascend by one: `doc:7, doc:8` is one of two.

    An id that does not end in a number has none to go on from, and is a run of its own under 0.

    >>> [(first, many) for _, first, many in runs(Blind(b"pepper"), ["doc:7", "doc:8", "doc:3", "page:4"])]
    [(7, 2), (3, 1), (4, 1)]
    """
    found: list[tuple[int, int, int]] = []
    stem, following = "", None
    collection = first = many = 0
    for name in resources:
        if name == following:  # the way of a page of forty
            many += 1
        else:
            before, stem = stem, name.rstrip("0123456789")
            if len(name) - len(stem) > DIGITS:
                stem = name[:-DIGITS]
            digits = name[len(stem) :]
            number = int(digits or "0")
            # `doc:08` goes on from `doc:7`, though it is not spelt as what follows that.
            if following is None or not digits or stem != before or number != first + many:
                if many:
                    found.append((collection, first, many))
                collection, first, many = blind("collection", stem) if digits else blind("item", name), number, 0
            many += 1
        following = f"{stem}{first + many}" if stem != name else None
    return (*found, (collection, first, many)) if many else ()


def traits(blind: Blind, told: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """What is known of an account, each by its name; what is empty tells nothing, and `signup_ts` is no trait."""
    return tuple([(name, blind(name, value)) for name, value in told.items() if value and name != "signup_ts"])
