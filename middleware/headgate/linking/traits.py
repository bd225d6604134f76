"""What two keys share of their accounts, networks and clients, and how much that says.

Law: a shared trait is worth ln(m / u): m, the probability that two keys of one operator share it; u, that two keys of
different ones do, which is its share among all orgs but the two, with a floor for each kind, so that one sighting
buys no more than it can know. Within a family (identity, network, client) traits come together: the best counts, and
a quarter of the second (whoever shares a card shares a mail domain); a family has a cap. What more than twelve orgs
share says nothing: an office, a carrier, a library.

Traits are cheap to copy and to share. Whoever asks here must have other evidence first: one card pays for all clients
of an agency, and a class comes from one mail domain and one address.

Of a key, `MOST_OF` traits are remembered, the first that it showed, of a home line's or a proxy's addresses no more
than four: an operator gains nothing by many, but that later ones are not compared.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from math import log
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of trait: its family, m, the floor of u, and how many of it are remembered of a key."""

    family: str
    alike: float
    floor: float
    many: int


KINDS = {
    "payment": Kind("identity", 0.35, 1e-4, 2),
    "device": Kind("identity", 0.3, 1e-4, 2),
    "email_domain": Kind("network", 0.2, 1e-3, 1),
    "signup_ip": Kind("network", 0.2, 3e-4, 1),
    "signup_network": Kind("network", 0.3, 1e-3, 1),
    "address": Kind("network", 0.25, 1e-3, 4),
    "network": Kind("network", 0.3, 3e-3, 4),
    "agent": Kind("client", 0.4, 2e-3, 2),
    "client": Kind("client", 0.4, 2e-3, 2),
    "ja4": Kind("client", 0.3, 3e-3, 2),
}
"""Chosen on labelled worlds (see `places.weights`). `client` is software and handshake together."""

OTHER = Kind("account", 0.3, 1e-3, 1)
"""Whatever else the integrator tells of an account."""

SILENT = frozenset({"plan", "signup_ts"})
"""What tells nothing: thousands have one plan, and an instant is no trait."""

CAPS = {"identity": 7.0, "network": 3.5, "client": 2.5, "account": 3.5}
"""Nats of a family at most: one card is not enough."""

MOST_OF = 12
"""Traits of a key that are remembered."""

MOST_ORGS = 12
"""What more orgs share than these says nothing."""

LEAST_ORGS = 200
"""As if there were as many orgs at least: rarity among a handful is none."""


class Shared(NamedTuple):
    """A trait that two keys share: its name, what it says (nats), and how many orgs have it."""

    name: str
    family: str
    weight: float
    orgs: int


class Traits:
    """The traits of all keys; keys and orgs are whole numbers, given by the caller in ascending order.

    Memory: some 65 bytes a key, and some 20 a trait that differs.

    >>> traits = Traits()
    >>> for key in (1, 2):
    ...     traits.saw(key, key, [("payment", 77), ("plan", 5)])
    >>> [(shared.name, round(shared.weight, 1), shared.orgs) for shared in traits.shared(1, 2)]
    [('payment', 4.9, 2)]
    """

    def __init__(self) -> None:
        self._rows = array("I", bytes(4 << 10))
        self._mask = (1 << 10) - 1
        self._tags = array("Q", [0])
        self._orgs = array("H", [0])
        self._last = array("I", [0])
        self._name = array("B", [0])
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._of = array("I")
        self._many = array("B")
        self._met = 0

    def saw(self, key: int, org: int, traits: Iterable[tuple[str, int]]) -> None:
        """Note what a request showed of a key."""
        while key >= len(self._many):
            self._many.append(0)
            self._of.extend([0] * MOST_OF)
        if org > self._met:
            self._met = org
        many, base = self._many[key], key * MOST_OF
        for name, digest in traits:
            row = self._find(digest)
            if row and row in self._of[base : base + many]:
                continue
            if many >= MOST_OF or name in SILENT or self._full(key, name):
                continue
            if not row:
                row = self._add(name, digest)
            if self._last[row] != org:
                self._last[row] = org
                if self._orgs[row] < 0xFFFF:
                    self._orgs[row] += 1
            self._of[base + many] = row
            many += 1
            self._many[key] = many

    def known(self, key: int) -> int:
        """How many traits of a key are remembered."""
        return self._many[key] if key < len(self._many) else 0

    def shared(self, a: int, b: int) -> list[Shared]:
        """What two keys share, the strongest first; what tells nothing is left out."""
        if max(a, b) >= len(self._many):
            return []
        others = self._of[b * MOST_OF : b * MOST_OF + self._many[b]]
        found = []
        for row in self._of[a * MOST_OF : a * MOST_OF + self._many[a]]:
            if row in others and self._orgs[row] <= MOST_ORGS:
                name = self._names[self._name[row]]
                weight = self._worth(name, self._orgs[row])
                if weight > 1:
                    found.append(Shared(name, KINDS.get(name, OTHER).family, weight, self._orgs[row]))
        return sorted(found, key=lambda shared: (-shared.weight, shared.name))

    def weight(self, a: int, b: int) -> float:
        """What two keys' shared traits say together, in nats."""
        return summed(self.shared(a, b))

    def _worth(self, name: str, orgs: int) -> float:
        kind = KINDS.get(name, OTHER)
        return log(kind.alike / max((max(0, orgs - 2) + 0.5) / (max(LEAST_ORGS, self._met) + 1), kind.floor))

    def _full(self, key: int, name: str) -> bool:
        base, number = key * MOST_OF, self._numbers.get(name)
        same = sum([self._name[row] == number for row in self._of[base : base + self._many[key]]])
        return same >= KINDS.get(name, OTHER).many

    def _find(self, digest: int) -> int:
        at = digest & self._mask
        while self._rows[at]:
            if self._tags[self._rows[at]] == digest:
                return self._rows[at]
            at = at + 1 & self._mask
        return 0

    def _add(self, name: str, digest: int) -> int:
        number = self._numbers.get(name)
        if number is None:
            # What is told of accounts has a few names; past 255 they are taken for one.
            number = self._numbers[name] = min(254, len(self._names))
            if number == len(self._names):
                self._names.append(name)
        row = len(self._tags)
        self._tags.append(digest)
        self._orgs.append(0)
        self._last.append(0)
        self._name.append(number)
        if row * 3 > len(self._rows) * 2:
            self._mask = 2 * self._mask + 1
            self._rows = array("I", bytes(8 * len(self._rows)))
            for old in range(1, row):
                self._put(old)
        self._put(row)
        return row

    def _put(self, row: int) -> None:
        at = self._tags[row] & self._mask
        while self._rows[at]:
            at = at + 1 & self._mask
        self._rows[at] = row

    def __sizeof__(self) -> int:
        columns = (self._rows, self._tags, self._orgs, self._last, self._name, self._of, self._many)
        return sum([part.__sizeof__() for part in columns])


def summed(shared: Iterable[Shared]) -> float:
    """What traits say together: of each family its best and a quarter of its second, up to its cap.

    >>> summed([Shared("payment", "identity", 4.0, 2), Shared("device", "identity", 2.0, 2)])
    4.5
    """
    families: dict[str, list[float]] = {}
    for one in shared:
        families.setdefault(one.family, []).append(one.weight)
    told = 0.0
    for family, weights in families.items():
        best = sorted(weights, reverse=True)[:2]
        told += min(CAPS[family], best[0] + sum(best[1:]) / 4)
    return told
