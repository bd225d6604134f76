"""What the tests of the stores in front of a store share: a clock, a count of calls, slices for everybody."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.quota.command import Command, Outcome, Reserve
from headgate.quota.match import slice_of
from headgate.stores import Store
from headgate.testing import ManualClock


class Elapsed:
    """A machine's monotonic clock beside a store's: what passes on the one passes on the other; none is set back."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock, self._seen, self._passed = clock, clock.now, 7

    def __call__(self) -> int:
        self._passed += max(0, self._clock.now - self._seen)
        self._seen = self._clock.now
        return self._passed


class Counted:
    """A store that counts how often it is asked, and keeps what was said last."""

    def __init__(self, store: Store) -> None:
        self.store, self.calls = store, 0
        self.said: list[Command] = []
        self.immediate, self.punctual, self.deadline = store.immediate, store.punctual, store.deadline

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        """Counts, and passes on."""
        self.calls += 1
        self.said = list(commands)
        return await self.store.transact(commands, now)

    async def close(self) -> None:
        """Passes on."""
        await self.store.close()


class EverybodySlices:
    """Gives every reservation's demands a slice, as a policy with `slice: 20%` on each limit would."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.immediate, self.punctual, self.deadline = store.immediate, store.punctual, store.deadline

    async def transact(self, commands: Sequence[Command], now: int | None = None) -> list[Outcome]:
        """Passes on, with slices."""
        return await self.store.transact([sliced(command) for command in commands], now)

    async def close(self) -> None:
        """Passes on."""
        await self.store.close()


def sliced(command: Command) -> Command:
    """The same reservation, of which a worker may hold a fifth beforehand; but not of what counts different things,
    which no policy can slice."""
    if not isinstance(command, Reserve):
        return command
    return command._replace(
        demands=tuple(
            [d if d.place[1] == "records" else d._replace(slice=slice_of(d.verb, 2_000)) for d in command.demands]
        )
    )
