"""What a dialect is: the same refusal, and the same standing of limits, in the words of one API.

Law: a dialect changes words and never what is decided: status, wait and whose limits are told are the same in all.
It tells a caller of its own limits alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from headgate.asgi.replies import JSON, Header, Problem, Reply, encoded, refusal, written
from headgate.policy.compiled import Policy
from headgate.quota.decision import Decision


class Dialect(ABC):
    """One API's way to tell limits and refusals. Made once for a gate: it keeps what does not change from one request
    to the next.

    `name`: the policy's word for it. `media`: the content type of its bodies. `event_name`: the name of the event
    that tells an error in a stream of events, "" where it has none.
    """

    __slots__ = ()

    name: ClassVar[str]
    media: ClassVar[bytes] = JSON
    event_name: ClassVar[str] = "error"

    @abstractmethod
    def fields(self, decision: Decision, wait: int = 0) -> list[Header]:
        """The headers that tell how a caller's limits stand, on every response and reply; `wait` is a refusal's, in
        whole seconds. None where no enforced limit was asked, or where the store was not heard."""

    @abstractmethod
    def document(self, problem: Problem) -> Mapping[str, Any]:
        """A problem as a body of this dialect."""

    def headers(self, problem: Problem) -> list[Header]:
        """The headers of a problem beside those that it has in every dialect."""
        return []

    def refused(self, decision: Decision, policy: Policy) -> Reply:
        """The whole reply to a decision that did not let the request in."""
        problem = refusal(decision, policy)
        more = [*self.headers(problem), *self.fields(decision, problem.seconds)]
        return written(problem, self.document(problem), self.media, more)

    def event(self, decision: Decision, policy: Policy) -> bytes:
        """The last part of a stream of events that a limit has ended: whole lines, with the empty one at the end."""
        data = encoded(self.document(refusal(decision, policy)))
        name = b"event: %b\n" % self.event_name.encode("ascii") if self.event_name else b""
        return b"%bdata: %b\n\n" % (name, data)

    def said(self, reply: Reply) -> Reply:
        """A reply of headgate's own (it is not known who is calling, a body is too long, …) in this dialect; one that
        tells no problem stays as it is."""
        problem = reply.problem
        if problem is None:
            return reply
        return written(problem, self.document(problem), self.media, self.headers(problem))
