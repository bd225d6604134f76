"""The keys that were met, numbered from 1 in that order, each with its org.

Law: a key has the org that it was first seen with; one that belongs to none is an org of its own.
"""

from __future__ import annotations

from array import array


class Keys:
    """Numbers for keys and orgs.

    >>> keys = Keys()
    >>> keys.number("k1", "acme"), keys.number("k2", "acme"), keys.number("k3", ""), keys.number("k1", "acme")
    (1, 2, 3, 1)
    >>> keys.org(1) == keys.org(2), keys.org(3) == keys.org(1), keys.name(3), keys.org_name(3)
    (True, False, 'k3', 'k3')
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: list[str] = [""]
        self._orgs: dict[str, int] = {}
        self._org_names: list[str] = [""]
        self._of = array("I", [0])

    def number(self, key: str, org: str) -> int:
        """The number of a key."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._names)
            self._names.append(key)
            theirs = self._orgs.get(org) if org else None
            if theirs is None:
                theirs = len(self._org_names)
                self._org_names.append(org or key)
                if org:
                    self._orgs[org] = theirs
            self._of.append(theirs)
        return number

    def org(self, key: int) -> int:
        """The number of a key's org."""
        return self._of[key]

    def name(self, key: int) -> str:
        """The public id of a key."""
        return self._names[key]

    def org_name(self, key: int) -> str:
        """The public id of a key's org; that of the key where it has none."""
        return self._org_names[self._of[key]]

    @property
    def orgs(self) -> int:
        """Orgs met so far."""
        return len(self._org_names) - 1

    def __len__(self) -> int:
        return len(self._names) - 1

    def __sizeof__(self) -> int:
        # A name of some 16 letters has 65 bytes; a row of a dict of such, 50; its number, 28.
        return 160 * len(self._names) + 120 * len(self._org_names) + self._of.__sizeof__()
