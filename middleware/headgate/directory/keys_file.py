"""The key directory that comes with headgate: a file, read whole and answered from memory.

Law: what is served by is the last good file. A file that breaks while the service runs keeps everybody who was known,
and says so each time it is looked at, until it is mended.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headgate.directory.sheet import text_of
from headgate.directory.table import Table, parse
from headgate.errors import IdentityError
from headgate.quota.facts import Group, Principal
from headgate.quota.identify import keyed

PURPOSE = b"key"
"""What the digest of a secret is for: no digest of a subject can be taken for one of a key."""

Signature = tuple[int, int, int, int]
"""What is known of a file without reading it: inode, size, times of change (nanoseconds)."""


class KeysFile:
    """`keys.yaml`, made by `headgate key new`.

    `peppers`: newest first; a key is known under any of them. The same principal object is answered for a key as long
    as its record is unchanged, however often the file is read. Raises IdentityError, each fault with file and line,
    for a file that is missing or cannot be used.
    """

    def __init__(self, path: Path, peppers: Sequence[bytes]) -> None:
        self.path = path
        self.table = Table({}, ())
        self.version = 0
        self._marks = tuple([keyed(pepper, PURPOSE) for pepper in peppers])
        self._by_digest: dict[bytes, Principal] = {}
        self._by_key: dict[str, Principal] = {}
        self._orgs: dict[str, Group] = {}
        self._signature: Signature | None = None
        self._fault: str = ""
        self._read()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files to watch."""
        return (self.path,)

    def known(self, secret: bytes) -> Principal | None:
        """Whose a secret is; None if nobody's. Never waits."""
        for mark in self._marks:
            found = self._by_digest.get(mark(secret))
            if found is not None:
                return found
        return None

    async def find(self, secret: bytes) -> Principal | None:
        """The same: what is not known here is nobody's."""
        return self.known(secret)

    def refresh(self) -> bool:
        """Read the file again if it has changed; True if it was.

        Raises IdentityError while it is broken or gone; what was read before stays in force.
        """
        if _signature(self.path) == self._signature:
            if self._fault:
                raise IdentityError(self._fault)
            return False
        self._read()
        return True

    def _read(self) -> None:
        # The signature is taken first: a change during the reading is a change for the next look.
        self._signature = _signature(self.path)
        try:
            table = parse(text_of(self.path), str(self.path))
        except IdentityError as fault:
            self._fault = str(fault)
            raise
        by_key: dict[str, Principal] = {}
        for entry in table.entries:
            before = self._by_key.get(entry.principal.key)
            by_key[entry.principal.key] = before if before == entry.principal and before else entry.principal
        self.table, self._by_key, self._fault = table, by_key, ""
        self._by_digest = {mark: by_key[principal.key] for mark, principal in table.by_digest().items()}
        orgs = _orgs(table)
        if orgs != self._orgs:  # one more key of an org changes nothing for the others
            self._orgs = orgs
            self.version += 1

    def org(self, name: str) -> Group | None:
        """An org as a group of one, with the plans of all its keys; None for one that the file does not have."""
        return self._orgs.get(name)

    def principal(self, key: str) -> Principal | None:
        """The principal of a key's public id, revoked or not; None where there is no such key."""
        return self._by_key.get(key)


def _orgs(table: Table) -> dict[str, Group]:
    """Each org as a group of one. A key with a plan of its own brings that into what the org as a whole has."""
    plans = {name: {org.plan} for name, org in table.orgs.items()}
    for entry in table.entries:
        if not entry.revoked:
            plans[entry.principal.org].add(entry.principal.plan)
    orgs = table.orgs.items()
    return {name: Group(name, frozenset({name}), frozenset(plans[name]), org.anchor) for name, org in orgs}


def _signature(path: Path) -> Signature | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
