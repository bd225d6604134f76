"""Where findings go: the register, by the probabilities of the policy that is in force.

Law: the watcher says what was found; from which probability on it counts is the policy's to say, at each publication.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headgate.linking.finding import Finding
from headgate.policy.compiled import Policy
from headgate.register import Registry, states_of
from headgate.stores.documents import Documents


class Published:
    """The register that these documents keep. `policy` answers the one that is in force.

    >>> import asyncio
    >>> from headgate.quota.identify import Identify
    >>> from headgate.stores.documents import MemoryDocuments
    >>> published = Published(MemoryDocuments(), lambda: Policy("doc", "0", "enforce", Identify(), ()))
    >>> one = Finding({"k1": 5, "k2": 6}, ("a", "b"), 0.99, ())
    >>> async def story():
    ...     before = await published.empty()
    ...     await published.publish([one], 7, whole=True)
    ...     return before, await published.empty()
    >>> asyncio.run(story())
    (True, False)
    """

    def __init__(self, documents: Documents, policy: Callable[[], Policy]) -> None:
        self._registry = Registry(documents)
        self._policy = policy

    async def empty(self) -> bool:
        """Whether nothing that was ever found is in force."""
        return not (await self._registry.read()).groups

    async def publish(self, findings: Sequence[Finding], now: int, *, whole: bool) -> None:
        """Take the findings into the register; what they change is in force within two seconds."""
        await self._registry.publish(findings, now, states_of(self._policy()), whole=whole)
