"""Who a secret belongs to: the key directory, by whatever it is kept.

Law: a directory says whose a key is and nothing else. It counts nothing, refuses nobody, and never hands a secret on:
what it compares and what it remembers are keyed digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from headgate.directory.callback import Callback, imported
from headgate.directory.keys_file import KeysFile
from headgate.quota.facts import Group, Principal

__all__ = ["PYTHON", "Callback", "Directory", "KeysFile", "Nobody", "open_directory"]

PYTHON = "python:"


class Directory(Protocol):
    """Where keys are looked up.

    The same principal *object* is answered for a key as long as its record is unchanged: what was worked out for it
    is kept by it.
    """

    @property
    def files(self) -> tuple[Path, ...]:
        """The files whose change calls for a `refresh`."""

    def known(self, secret: bytes) -> Principal | None:
        """Whose a secret is, without waiting; None where it is not known here (yet)."""

    async def find(self, secret: bytes) -> Principal | None:
        """Whose a secret is; None if nobody's. May wait.

        Raises DirectoryUnavailable if that cannot be told now, IdentityError if the answer is none that may be given.
        """

    @property
    def version(self) -> int:
        """Another number whenever `org` says another thing of somebody than before. Read it ahead of what it stands
        for: a refresh may be under way in another thread."""

    def org(self, name: str) -> Group | None:
        """An org as a group of one, with the plans that its keys are on and its billing anchor; without waiting, and
        None where it is not known here (yet)."""

    def refresh(self) -> bool:
        """Read again what has changed; True if anything had. Raises IdentityError while it is broken."""


class Nobody:
    """The directory of a policy that names none: no key is anybody's."""

    files: tuple[Path, ...] = ()
    version = 0

    def known(self, secret: bytes) -> Principal | None:
        """Nobody."""
        return None

    async def find(self, secret: bytes) -> Principal | None:
        """Nobody."""
        return None

    def org(self, name: str) -> Group | None:
        """No org is known."""
        return None

    def refresh(self) -> bool:
        """There is nothing to read."""
        return False


def open_directory(identify_directory: str, *, base: Path, peppers: Sequence[bytes]) -> Directory:
    """The directory that a policy's `identify` names: a file, `python:module:function`, or "" for none.

    `base`: the folder that a file's name is relative to, the policy's. `peppers`: newest first. Raises IdentityError
    for a file that cannot be used and a function that cannot be imported.
    """
    if not identify_directory:
        return Nobody()
    if identify_directory.startswith(PYTHON):
        function = imported(identify_directory.removeprefix(PYTHON))
        return Callback(function, peppers, name=f"directory {identify_directory}")
    return KeysFile(base / identify_directory, peppers)
