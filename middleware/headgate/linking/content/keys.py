"""The keys that linking has seen, by small numbers, and what is kept of each beside its tokens.

Law: a key is a number from its first request on, and what is kept of it is a handful of numbers in arrays: 60 bytes
beside its id.
"""

from __future__ import annotations

from array import array

from headgate.linking.content.kinds import KINDS


class Keys:
    """Keys and their orgs, numbered in the order in which they came.

    >>> keys = Keys()
    >>> keys.number("k1", "acme"), keys.number("k2", "acme"), keys.number("k1", "acme"), keys.orgs
    (1, 2, 1, 1)
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._org_numbers: dict[str, int] = {}
        self.ids = [""]
        self.org_ids: list[str] = []
        self.org = array("i", [-1])
        self.prompts = array("I", [0])
        self.signup = array("q", [0])
        self.shown = tuple(array("I", [0]) for _ in range(KINDS))
        self.total = [0] * KINDS

    @property
    def orgs(self) -> int:
        """How many orgs there are; a key without one is one of its own."""
        return len(self.org_ids)

    def number(self, key: str, org: str) -> int:
        """The number of a key."""
        number = self._numbers.get(key)
        return self._enter(key, org) if number is None else number

    def _enter(self, key: str, org: str) -> int:
        number = self._numbers[key] = len(self.ids)
        self.ids.append(key)
        if not org or (of := self._org_numbers.get(org)) is None:
            of = len(self.org_ids)
            self.org_ids.append(org)
            if org:
                self._org_numbers[org] = of
        self.org.append(of)
        self.prompts.append(0)
        self.signup.append(-1)
        for shown in self.shown:
            shown.append(0)
        return number
