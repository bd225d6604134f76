"""What a leader knows while it lives: the learner, how far it has read, whose parcels it has had.

Law: each observation is learnt from once, in the order of the stream, however often its parcel comes and whoever dies
in between. A parcel that cannot be read, and an observation that the learner stumbles over, cost themselves alone and
are counted. What is missing is counted, too: a parcel's number tells how many its author made before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from headgate.linking.finding import Finding
from headgate.linking.observation import Observation
from headgate.telemetry import events
from headgate.watch.parcel import unpacked
from headgate.watch.snapshot import Snapshot
from headgate.watch.stream import Found

AUTHORS = 4_096
"""Workers whose last parcel is remembered, those heard last: one that is forgotten made none for a long time."""

SLICE = 16
"""Observations learnt from before others have their turn: less than a millisecond."""


class Learner(Protocol):
    """What learns from observations: `headgate.linking.linker.Linker`.

    If it has `state() -> bytes`, and its class `of(bytes)`, it is kept over a restart; else it learns anew from what
    the stream still has.
    """

    def saw(self, observation: Observation) -> None:
        """One observation."""
        ...

    def findings(self) -> list[Finding]:
        """What follows from all of them."""
        ...


@dataclass(slots=True)
class Tally:
    """What has happened, counted. `twice`: parcels that came again; `missed`: parcels that never came; `broken`:
    those that could not be read; `stumbled`: observations that the learner did not take."""

    parcels: int = 0
    observations: int = 0
    twice: int = 0
    missed: int = 0
    broken: int = 0
    stumbled: int = 0


@dataclass(slots=True)
class Learning:
    """A learner and how far it has read.

    `breath` is called between slices of work: where requests are served by the same process, it lets them through.
    """

    learner: Learner
    breath: Callable[[], None] = lambda: None
    marks: dict[str, str] = field(default_factory=dict)
    serial: int = 0
    whole_from: int = 0
    tally: Tally = field(default_factory=Tally)
    latest: int = 0
    _authors: dict[bytes, int] = field(default_factory=dict)

    def read(self, found: Sequence[Found]) -> None:
        """Learn from parcels of the stream."""
        seen: list[Observation] = []
        for shard, mark, data in found:
            seen += self._opened(shard, mark, data)
            self.marks[shard] = mark
        # Workers' parcels overlap by some moments; what is causal should not rest on who was quicker to send.
        seen.sort(key=_at)
        for begin in range(0, len(seen), SLICE):
            for observation in seen[begin : begin + SLICE]:
                self._learn(observation)
            self.breath()
        if seen:
            self.latest = max(self.latest, seen[-1].at)

    def _opened(self, shard: str, mark: str, data: bytes) -> list[Observation]:
        self.tally.parcels += 1
        try:
            author, number, seen = unpacked(data)
        except ValueError as error:
            self.tally.broken += 1
            if self.tally.broken == 1:
                events.warning("headgate.watch.broken", shard=shard, mark=mark, reason=str(error))
            return []
        last = self._authors.pop(author, None)
        self._authors[author] = number if last is None else max(last, number)
        if len(self._authors) > AUTHORS:
            del self._authors[next(iter(self._authors))]
        if last is not None and number <= last:
            self.tally.twice += 1
            return []
        self.tally.missed += number - last - 1 if last is not None else 0
        return seen

    def _learn(self, observation: Observation) -> None:
        try:
            self.learner.saw(observation)
            self.tally.observations += 1
        except Exception as fault:
            # A fault of ours, and perhaps of each one like it: the first is told, all are counted.
            self.tally.stumbled += 1
            if self.tally.stumbled == 1:
                events.error("headgate.fault", where="linking: saw", kind=type(fault).__name__)

    def snapshot(self) -> Snapshot | None:
        """All of it, to go on from; None where the learner cannot be kept."""
        state: Callable[[], bytes] | None = getattr(self.learner, "state", None)
        if state is None:
            return None
        self.serial += 1
        return Snapshot(self.serial, dict(self.marks), list(self._authors.items()), state(), self.whole_from)

    @classmethod
    def of(cls, snapshot: Snapshot, kind: Any, breath: Callable[[], None]) -> Learning:
        """Go on from a snapshot, with a learner of class `kind`. Raises ValueError where that cannot be read."""
        revived = getattr(kind, "of", None)
        if revived is None:
            raise ValueError("this learner cannot be read again")
        learning = cls(revived(snapshot.learnt), breath, dict(snapshot.marks), snapshot.serial, snapshot.whole_from)
        learning._authors = dict(snapshot.authors)
        return learning


def _at(observation: Observation) -> int:
    return observation.at
