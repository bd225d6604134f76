"""What can go wrong between a client and a server, as values; drawn from a seed where it is left to chance."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum


class Fate(Enum):
    """What becomes of one request and its reply."""

    PASS = "passes"
    LOSE = "the request is carried out, its reply is lost, the connection is reset"
    CLOSE = "the request is carried out, its reply is lost, the connection is closed in order"
    TEAR = "the request is carried out, half of its reply arrives, the connection is reset"
    SWALLOW = "the request is carried out, its reply is left out, the next one follows: no network does this"
    UNSENT = "the request does not reach the server, the connection is reset"


@dataclass(frozen=True)
class Faults:
    """How things stand; `proxy.faults` may be set at any time and holds for what arrives from then on.

    `latency`: seconds that each reply is held back; `jitter`: up to so many more, drawn, in order. `lag`: seconds
    that each request is held back. `slice`: replies arrive in pieces of 1 to so many bytes, drawn; 0: whole.
    `bandwidth`: bytes of replies a second; 0: as many as go. `lose`, `tear`, `unsent`: the share of commands with
    that fate, drawn; of `commands` alone where some are named. `refuse`: nobody can connect. `mute`: requests pass,
    replies do not. `hole`: nothing passes, and new connections are accepted. What `mute` and `hole` held back passes
    when they end, also what somebody sent who has gone since, as a network would deliver it.
    """

    latency: float = 0.0
    jitter: float = 0.0
    lag: float = 0.0
    slice: int = 0
    bandwidth: int = 0
    lose: float = 0.0
    tear: float = 0.0
    unsent: float = 0.0
    commands: frozenset[bytes] = frozenset()
    refuse: bool = False
    mute: bool = False
    hole: bool = False

    def drawn(self, command: bytes, chance: random.Random) -> Fate:
        """A command's fate. Nothing is drawn where nothing can happen, so that other draws stay what they were."""
        if self.commands and command not in self.commands:
            return Fate.PASS
        for share, fate in ((self.lose, Fate.LOSE), (self.tear, Fate.TEAR), (self.unsent, Fate.UNSENT)):
            if share and chance.random() < share:
                return fate
        return Fate.PASS


@dataclass
class Spoil:
    """What was asked of single commands: `skip` of them pass, then `left` have the fate, counting down. `command`: of
    its name alone; empty: of any."""

    fate: Fate
    command: bytes = b""
    skip: int = 0
    left: int = 1

    def takes(self, command: bytes) -> bool:
        """Whether this one is it."""
        if not self.left or (self.command and self.command != command):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.left -= 1
        return True
