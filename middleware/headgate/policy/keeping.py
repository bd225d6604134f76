"""What of a policy the store cannot keep, where it is known which store that will be.

Law: a policy knows no store. Whoever checks or loads one hands in what the store says of itself. A limit that cannot
be kept there is an error at the limit's own line, for every request that meets it would find no ledger; what is
merely weaker there is told in notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from headgate.document import Mark, Source
from headgate.policy.compiled import Policy
from headgate.policy.problem import Findings
from headgate.policy.shape import Found


class Keeper(Protocol):
    """What a store says of itself: how it may be called in a report, and what it promises less than others."""

    @property
    def name(self) -> str:
        """The store as it may be shown, without a password."""

    @property
    def weaker(self) -> tuple[str, ...]:
        """One sentence for each promise that does not hold there."""

    def unsupported(self, policy: Policy) -> Mapping[str, str]:
        """By its id, each limit that cannot be kept there, with the reason."""


def look(root: Found, policy: Policy, store: Keeper, out: Findings) -> None:
    """Everything that a store cannot keep of a policy, and what it keeps less well."""
    limits = root.get("limits")
    assert limits is not None, "a policy that was compiled has limits"
    for name, why in store.unsupported(policy).items():
        out.add(
            "HG424", limits.names[name], f"limit `{name}` cannot be kept at {store.name}: {why}",
            advice="keep usage in SQLite or Redis (`HEADGATE_STORE`), or take the limit out",
        )  # fmt: skip
    place = Mark(Source("HEADGATE_STORE", variable=True))
    for sentence in store.weaker:
        out.add("HG906", place, f"at {store.name} {sentence}")
