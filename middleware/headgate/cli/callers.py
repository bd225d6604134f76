"""Whom a command speaks of: a principal, from what was said and what the file of keys adds.

Law: what is said on the command line counts; what is not said comes from the file of keys, as it would for a request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headgate.cli.policies import known_plan
from headgate.cli.screen import plain
from headgate.errors import IdentityError

if TYPE_CHECKING:
    from headgate.directory import KeysFile
    from headgate.policy import Policy
    from headgate.quota.facts import Principal


def principal_of(
    policy: Policy, keys: KeysFile | None, *, key: str, org: str, plan: str, tags: frozenset[str] = frozenset()
) -> Principal | None:
    """The caller; None where nobody is named and the policy serves no anonymous ones.

    Raises IdentityError for a key that the file does not have, where the org is not said either, and for a plan
    that the policy does not have.
    """
    from headgate.quota.facts import Principal

    if not key and not org:
        if policy.identify.anonymous is None:
            return None
        return Principal("", "", plan or policy.identify.anonymous, tags=tags)
    found = _known(keys, key, org)
    if found is None and not org:
        raise IdentityError(_unknown(keys, key))
    if found is None:
        found = Principal(key or "(any)", org)
    known_plan(policy, plan or found.plan)
    return replace(found, org=org or found.org, plan=plan or found.plan, tags=found.tags | tags)


def _known(keys: KeysFile | None, key: str, org: str) -> Principal | None:
    """The key's principal, or that of the org's first key with what is the key's own left out."""
    if keys is None:
        return None
    if key:
        return keys.principal(key)
    return of_org(keys, org)


def of_org(keys: KeysFile, org: str) -> Principal | None:
    """An org as a caller: what the file says of it, whichever of its keys calls; None for one that it does not have.

    Its key is the first that is not revoked, for limits that are charged by key.
    """
    from headgate.quota.facts import Principal

    known = keys.table.orgs.get(org)
    if known is None:
        return None
    first = [e.principal.key for e in keys.table.entries if e.principal.org == org and not e.revoked]
    return Principal(
        first[0] if first else "(any)", org, known.plan, known.anchor, known.traits, known.claims, known.tags,
        known.accepted,
    )  # fmt: skip


def _unknown(keys: KeysFile | None, key: str) -> str:
    from headgate.nearest import suggestion

    if key.startswith("hg_"):
        return "--key is the key's public id (k_…), never its secret"
    if keys is None:
        return f"key `{plain(key)}` cannot be looked up here: say --org and --plan too"
    known = [entry.principal.key for entry in keys.table.entries]
    return f"{keys.path} has no key `{plain(key)}`{suggestion(key, known)}; or say --org and --plan too"
