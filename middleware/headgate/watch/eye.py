"""What a request leaves behind when it ends, for linking to look at.

Law: a few microseconds, no waiting, and no fault that a request could meet with: whatever goes wrong here is counted
and swallowed. Where the policy does not ask for linked keys, or nobody vouches for the caller, nothing is taken.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from headgate.policy.compiled import Policy
from headgate.watch.ring import Glimpse, Ring
from headgate.watch.sight import Sight


class Eye:
    """A gate's eye. `faults`: requests that could not be looked at.

    >>> from headgate.policy.compiled import Linking
    >>> from headgate.quota.facts import Call, Principal
    >>> from headgate.quota.identify import Identify
    >>> eye, policy = Eye(), Policy("doc", "0", "enforce", Identify(), (), linking=Linking(linked=970_000))
    >>> eye.saw(policy, Call(Principal("k1", "acme")), {"path": "/", "headers": []}, 7, 200)
    >>> len(eye.ring), eye.faults
    (1, 0)
    """

    __slots__ = ("_sight", "faults", "ring")

    def __init__(self, ring: Ring | None = None) -> None:
        self.ring = Ring() if ring is None else ring
        self.faults = 0
        self._sight: Sight | None = None

    def saw(
        self,
        policy: Policy,
        call: Any,
        scope: MutableMapping[str, Any],
        at: int,
        status: int,
        things: Sequence[object] = (),
    ) -> None:
        """Note a request that has ended, or was refused: when it came (microseconds), the status it was answered,
        the ids of what was handed out. `call` has its principal, and the members of its body if it was looked at.
        Never raises."""
        try:
            sight = self._sight
            if sight is None or sight.policy is not policy:
                sight = self._sight = Sight(policy)
            principal = call.principal
            if sight.watches and principal.key:
                self.ring.put(sight.glimpse(principal, at, status, scope, getattr(call, "body", None), things))
        except Exception:
            self.faults += 1

    def taken(self, most: int) -> list[tuple[Sight, Glimpse]]:
        """The oldest that were seen, at most so many, each with how it is to be looked at."""
        sight = self._sight
        return [] if sight is None else [(sight, glimpse) for glimpse in self.ring.taken(most)]
