"""A cluster against the specification: the store contract's machine, as far as several slots can be one ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from headgate.clock import SECOND
from headgate.quota.balance import Balance
from headgate.quota.command import Command, Demand, Gone, Join, Merge, Outcome, Reserve, Seen
from headgate.quota.holds import brought
from headgate.quota.window import Quota
from headgate.testing.store_machine import LIMITS, MOVES, StoreMachine
from headgate.testing.stores import StoreContract

MINUTE = 60 * SECOND


class ScatteredMachine(StoreMachine):
    """Subjects lie in different slots.

    What is compared is what balances mean at the instant of the answer, not how they are written: a reservation that
    was held for a moment and taken back leaves them brought to that instant. As in a policy, a limit either holds or
    uses at once, so that no such moment shows in the other holds' bookkeeping. The clock goes forward: what several
    slots make of one that was set back between them is not one ledger's answer. Windows are those of the instant, as
    a tariff's are: what is read by windows that ended long ago depends on who has come by since.
    """

    moves = tuple(move for move in MOVES if move > 0)
    held: frozenset[str] | None = None

    def asked(self, data: Any, now: int) -> tuple[Demand, ...]:
        if self.held is None:
            self.held = data.draw(st.frozensets(st.sampled_from(LIMITS)), label="held") | {"seats"}
        held = self.held
        return tuple(
            d._replace(hold=True) if d.place[1] in held else d._replace(hold=False, things=())
            for d in super().asked(data, now)
        )

    def transact(self, commands: list[Command]) -> None:
        said = [as_of(command, self.clock.now) for command in commands if not self.forgotten(command)]
        if said:
            super().transact(said)

    def forgotten(self, command: Command) -> bool:
        """Whether a reservation is said again though nobody remembers its verdict any more. That is a new one under
        an old id; where it is refused, what is taken back is the old one's, too. Nobody says one so late."""
        receipt = self.receipts.get(getattr(command, "rid", b""))
        return isinstance(command, Reserve) and receipt is not None and receipt.until <= self.clock.now

    def compare(self, command: Command, outcome: Outcome, expected: Outcome) -> None:
        ours, theirs = (meant(command, one, outcome.now) for one in (outcome, expected))
        assert ours == theirs, f"{command}\n{outcome}\n{expected}\n{ours}\n{theirs}"


def as_of(command: Command, now: int) -> Command:
    """The command by the windows of `now`."""
    if isinstance(command, Merge | Join):
        sources = tuple(of_today(source, now) for source in command.sources)
        return command._replace(into=of_today(command.into, now), sources=sources)
    return command._replace(demands=tuple(of_today(demand, now) for demand in command.demands))


def of_today(demand: Demand, now: int) -> Demand:
    verb = demand.verb
    if not isinstance(verb, Quota) or not verb.edges:
        return demand
    begun = now - now % MINUTE
    return demand._replace(verb=replace(verb, edges=tuple(begun + n * MINUTE for n in range(-1, 4))))


def meant(command: Command, outcome: Outcome, now: int) -> Any:
    """An outcome with its balances as they are read at `now`."""
    if isinstance(outcome, Gone):
        # A note that has run out is followed or not, by whether anybody has come by since.
        return outcome._replace(moved=())
    balances = getattr(outcome, "balances", None)
    if balances is None:
        return outcome
    each = isinstance(outcome, Seen)
    read = tuple(as_read(d, b, now, each) for d, b in zip(command.demands, balances, strict=True))
    return outcome._replace(balances=read)  # type: ignore[call-arg]


def as_read(demand: Demand, balance: Balance | None, now: int, each: bool) -> Any:
    if balance is not None and balance.until <= now and balance.holds is None:
        balance = None  # as good as untouched
    standing, holds = brought(balance, demand.verb, now)
    used, since, until, parts = standing
    if not demand.verb.spent(standing) or demand.verb.kind == "total":
        since = until = 0
    return used, since, until, parts, holds.held if holds else 0, dict(holds.by_rid) if holds and each else {}


class ScatteredContract(StoreContract):
    """The store contract where the places of its tests lie in several slots."""

    def test_the_store_answers_as_the_specification_does(self) -> None:
        ours = settings(deadline=None, stateful_step_count=30)
        run_state_machine_as_test(lambda: ScatteredMachine(self.make_store), settings=ours)  # type: ignore[arg-type]
