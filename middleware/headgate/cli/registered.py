"""The register that a command reads or speaks to, and the orgs and groups that it names.

Law: a command goes by what the service would go by: the same policy, the same store. A name that nobody knows is told
with what was probably meant; what cannot have an effect on the service is refused rather than written down nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from headgate.cli.policies import keys_of, policy_of, settings
from headgate.cli.screen import note, plain
from headgate.errors import IdentityError, StoreError

if TYPE_CHECKING:
    from headgate.directory import KeysFile
    from headgate.policy import Policy
    from headgate.quota.facts import Group
    from headgate.register import Register
    from headgate.settings import Settings


@dataclass(frozen=True, slots=True)
class Registered:
    """What a command knows when it begins: `keys` is None where the app answers for its keys itself; `there`: whether
    there is a ledger to look into; `now` in microseconds."""

    said: Settings
    policy: Policy
    register: Register
    keys: KeysFile | None
    there: bool
    now: int

    @property
    def orgs(self) -> frozenset[str] | None:
        """The orgs of the file of keys; None where there is none."""
        return None if self.keys is None else frozenset(self.keys.table.orgs)

    def groups(self, register: Register | None = None) -> dict[str, Group]:
        """Each org's group in force now; of another register, what it would be."""
        from headgate.register.groups import rules_of
        from headgate.register.in_force import by_org, in_force

        force = in_force(self.register if register is None else register, rules_of(self.policy), self.now)
        return dict(by_org(force.groups))

    def known_orgs(self) -> frozenset[str]:
        """Every org that anything tells of."""
        told = [org for group in (*self.register.groups, *self.register.past) for org in group.orgs]
        told += [org for each in self.register.said for org in (*each.orgs, *each.others)]
        told += [org for group, _ in self.policy.affiliated for org in group.orgs]
        return frozenset(told) | (self.orgs or frozenset())

    def shared(self) -> list[str]:
        """The limits that a group shares."""
        return [limit.id for limit in self.policy.limits if "group" in limit.per]


def opened(policies: str | None, *, writes: bool) -> Registered:
    """The policy, the keys and the register as they stand.

    Raises PolicyError, SettingsError, or StoreError where the store keeps no groups, is not there to be written, or
    does not answer.
    """
    from headgate.clock import wall_clock
    from headgate.register import EMPTY
    from headgate.stores import keeping

    said = settings(policies)
    policy = policy_of(said)
    if said.store.startswith("memory://"):
        if writes:
            raise StoreError(
                "memory:// is each process's own: what is said here reaches no service; keep usage in sqlite:/// or "
                "redis://, or declare groups in the policy's `linking.affiliated`",
                transient=False,
            )
        note("headgate: note: memory:// is each process's own: what the service has found cannot be seen from here")
        register = EMPTY
    elif not writes and (foreign := keeping(said.store)) is not None:
        note(f"headgate: note: {foreign.name} keeps no groups; those of the policy are shown")
        register = EMPTY
    else:
        register = asked(said, lambda register: register)
    keys = keys_of(policy, said) if _readable(policy, said) else None
    return Registered(said, policy, register, keys, _there(said), wall_clock())


def asked(said: Settings, change: Callable[[Register], Register]) -> Register:
    """The register after a change; the very one that stands where the change makes none. Raises StoreError."""
    from headgate.register import Registry
    from headgate.stores.documents import open_documents

    async def whole() -> Register:
        documents = open_documents(said.store, durability=said.durability)
        try:
            return await Registry(documents).changed(change)
        finally:
            await documents.close()

    return asyncio.run(whole())


def linked_now(said: Settings) -> Register:
    """What is linked as the service has it; nothing where that cannot be seen, which is said where it is a fault."""
    from headgate.register import EMPTY

    if not _there(said):
        return EMPTY
    try:
        return asked(said, lambda register: register)
    except StoreError as fault:
        note(plain(f"headgate: note: which orgs are linked is not known: {fault}"))
        return EMPTY


def named_orgs(known: Registered, orgs: Iterable[str]) -> tuple[str, ...]:
    """The orgs, each once. Ends with 1 where the file of keys does not have one."""
    from headgate.directory.record import NAME_MOST
    from headgate.nearest import suggestion

    found = tuple(dict.fromkeys(orgs))
    for org in found:
        if not org or len(org) > NAME_MOST:
            raise IdentityError(f"an org's name has 1 to {NAME_MOST} characters")
        if known.orgs is not None and org not in known.known_orgs():
            note(f"headgate: nobody knows an org `{plain(org)}`{suggestion(org, sorted(known.known_orgs()))}")
            raise typer.Exit(1)
    return found


def no_group(known: Registered, name: str, among: Iterable[str]) -> typer.Exit:
    """Says that there is no such group, or org in one, with what was probably meant."""
    from headgate.nearest import suggestion

    note(
        f"headgate: there is no group `{plain(name)}`{suggestion(name, sorted(among))}; `headgate groups` lists them"
    )
    return typer.Exit(1)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names in a row, of many the first.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = plain(", ".join(names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def _there(said: Settings) -> bool:
    """Whether there is a ledger: looking makes none."""
    scheme, _, rest = said.store.partition(":///")
    from headgate.stores import keeping

    if said.store.startswith("memory://") or keeping(said.store) is not None:
        return False
    return scheme != "sqlite" or Path(rest).exists()


def _readable(policy: Policy, said: Settings) -> bool:
    """Whether the policy names a file of keys that is there: where it is not, names cannot be looked up."""
    from headgate.cli.policies import base_of
    from headgate.directory import PYTHON

    name = policy.identify.directory
    return bool(name) and not name.startswith(PYTHON) and Path(base_of(said.policy_paths()) / name).exists()
