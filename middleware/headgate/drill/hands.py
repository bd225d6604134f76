"""Whose turn it is: the ways in which one operator spreads one stream of work over its keys.

Law: a hand knows its keys by number and by what the operator itself can know of them: how much of a plan is used, and
that a request was refused. It never looks at what is asked for.

| hand | attack |
| --- | --- |
| `Rounds` | round robin, a few requests a turn |
| `AtRandom` | any key, each time |
| `Baton` | one key until it is refused or has had its share, then the next |
| `Riding` | one key until it is close under its plan, then the next; never refused |
| `Slices` | a key an hour, or what the slice is |
| `Ramp` | more and more keys |
| `Reborn` | a few keys until they are blocked, then new ones |
"""

from __future__ import annotations

from random import Random
from typing import Protocol

from headgate.drill.accounts import Account


class Hand(Protocol):
    """Says which key takes the next piece of work."""

    def pick(self, at: float) -> int | None:
        """The key's number; None where none can take it now."""
        ...

    def refused(self, key: int, at: float) -> None:
        """That a key was refused for its limit."""
        ...


class AtRandom:
    """Any key, each time."""

    def __init__(self, random: Random, keys: int) -> None:
        self._random = random
        self._keys = keys

    def pick(self, at: float) -> int | None:
        """Any key."""
        return int(self._random.random() * self._keys)

    def refused(self, key: int, at: float) -> None:
        """It does not care."""


class Rounds(AtRandom):
    """Key after key, `turn` requests each."""

    def __init__(self, random: Random, keys: int, turn: int) -> None:
        super().__init__(random, keys)
        self._turn = turn
        self._made = random.randrange(keys * turn)

    def pick(self, at: float) -> int | None:
        """The next key, once the one before had its turn."""
        self._made += 1
        return self._made // self._turn % self._keys


class Baton(AtRandom):
    """One key until it is refused, or has had `share` requests; then the next, after a breath."""

    def __init__(self, random: Random, keys: int, share: int) -> None:
        super().__init__(random, keys)
        self._share = share
        self._key = random.randrange(keys)
        self._left = share
        self._rested = 0.0
        self._spent: dict[int, float] = {}

    def pick(self, at: float) -> int | None:
        """The key whose turn it is; none while the next draws breath, or when all are used up for the day."""
        if self._left <= 0:
            self._pass(at)
        if at < self._rested or self._spent.get(self._key, 0.0) > at:
            return None
        self._left -= 1
        return self._key

    def refused(self, key: int, at: float) -> None:
        """The key is used up until the day ends."""
        self._spent[key] = at - at % 86_400 + 86_400
        if key == self._key:
            self._pass(at)

    def _pass(self, at: float) -> None:
        self._key = (self._key + 1) % self._keys
        self._left = self._share
        self._rested = at + 0.5 + self._random.expovariate(0.3)


class Riding(AtRandom):
    """One key until it is close under its plan's daily limit, then the next."""

    def __init__(self, random: Random, accounts: list[Account]) -> None:
        super().__init__(random, len(accounts))
        self._accounts = accounts
        self._until = [0.82 + random.random() * 0.16 for _ in accounts]
        self._key = random.randrange(len(accounts))

    def pick(self, at: float) -> int | None:
        """A key with room left; none when all are close under their limits."""
        for _ in self._accounts:
            if self._accounts[self._key].share_used(at) < self._until[self._key]:
                return self._key
            self._key = (self._key + 1) % self._keys
        return None


class Slices(AtRandom):
    """The keys take turns by the clock."""

    def __init__(self, random: Random, keys: int, slice_: float) -> None:
        super().__init__(random, keys)
        self._slice = slice_
        self._shift = random.randrange(keys)

    def pick(self, at: float) -> int | None:
        """The key of this slice of time."""
        return (int(at // self._slice) + self._shift) % self._keys


class Ramp(AtRandom):
    """Two keys at first, all of them at the end; what is not yet there takes nothing."""

    def __init__(self, random: Random, keys: int, begin: float, end: float) -> None:
        super().__init__(random, keys)
        self._begin = begin
        self._span = end - begin

    def pick(self, at: float) -> int | None:
        """One of the keys that are there by now; fewer keys do less work."""
        grown = max(0.0, (at - self._begin) / self._span)
        there = 2 + int((self._keys - 1) * grown)
        key = int(self._random.random() * self._keys)
        return key if key < there else None


class Reborn(AtRandom):
    """A few keys at a time; one that is blocked is replaced by a fresh one."""

    def __init__(self, random: Random, keys: int, life: int) -> None:
        super().__init__(random, keys)
        self._live = list(range(min(keys, 2 + random.randrange(3))))
        self._next = len(self._live)
        self._life = {key: self._lives(life) for key in range(keys)}

    def _lives(self, life: int) -> int:
        return int(life * (0.5 + self._random.random()))

    def pick(self, at: float) -> int | None:
        """One of the live keys; none when the last was blocked."""
        return self._live[int(self._random.random() * len(self._live))] if self._live else None

    def blocked(self, key: int) -> bool:
        """Whether the request that this key has just made was the one that gave it away."""
        self._life[key] -= 1
        if self._life[key] > 0 or key not in self._live:
            return False
        self._live.remove(key)
        if self._next < self._keys:
            self._live.append(self._next)
            self._next += 1
        return True
