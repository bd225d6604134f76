"""The one method that a store has.

Law: a store runs `quota.ledger.apply` atomically over all the balances that a command names, and remembers receipts
as long as they say. It knows no policy and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headgate.quota.command import Command, Outcome


class Store(Protocol):
    """Where balances are kept.

    Guaranteed by every store, and shown by the contract suite (`headgate.testing.stores.StoreContract`): each command
    is applied whole or not at all, to every worker that shares the store; the commands of one call are applied in
    their order; a repeated command answers alike; what was acknowledged survives the worker's death (not the
    machine's); a caller that is cancelled disturbs nobody else's call. An outcome tells the sum of what a balance
    holds; each hold by itself (`Holds.by_rid`) is told where a lease has ended by then, and by a `Look`: a store need
    not read thousands of them to tell that one more was added.

    `immediate`: `transact` never waits, so that no deadline need be kept for it. `deadline`: how long (seconds) a
    caller should wait for this store where the operator says nothing; 0 for one that is immediate. `punctual`: it
    keeps that time by itself, so that a caller needs no timer of its own.
    """

    @property
    def immediate(self) -> bool:
        """Whether `transact` never waits."""

    @property
    def punctual(self) -> bool:
        """Whether `transact` ends within the deadline by itself."""

    @property
    def deadline(self) -> float:
        """Seconds that a caller should wait."""

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        """Apply the commands; `now` (microseconds) replaces the store's own clock in tests.

        Raises StoreError. If it is `unknown`, any of the commands may have been applied; each may be repeated.
        """

    async def close(self) -> None:
        """Let go of files and connections. A closed store opens again when it is used."""
