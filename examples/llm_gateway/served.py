"""What the origin really served: its own count, kept without asking headgate.

Law: a line is written when an answer begins and another when it ends, whatever ends it. A process that is killed
leaves the first without the second. `ORIGIN_LOG` names the file; a demo or a test holds it against the policy.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from asked import Asked
from shapes import LENGTH, STOP, Counts
from starlette.requests import Request


@dataclass
class Served:
    """One answer under way: how many tokens have been generated, and why it ended."""

    request: Request
    asked: Asked
    id: str = field(default_factory=lambda: token_hex(12))
    output_tokens: int = 0
    finish: str = STOP

    @property
    def headers(self) -> dict[str, str]:
        """Tells the client under which id its answer stands in the origin's log."""
        return {"x-request-id": self.id}

    @property
    def counts(self) -> Counts:
        """What it took so far."""
        return Counts(self.asked.input_tokens, self.output_tokens)

    def begun(self) -> None:
        """The answer begins: its prompt is read."""
        decision = getattr(self.request.state, "headgate", None)
        principal = getattr(decision, "principal", None)  # None where headgate is disabled
        _noted(
            id=self.id, key=getattr(principal, "key", ""), worker=os.getpid(), model=self.asked.model,
            input_tokens=self.asked.input_tokens,
        )  # fmt: skip

    def generated(self, last: bool) -> None:
        """One token more, which leaves at once. `last`: it ends a sentence, so the answer is whole."""
        self.output_tokens += 1
        self.finish = LENGTH if self.output_tokens == self.asked.most and not last else STOP

    def ended(self) -> None:
        """The answer has ended: it is whole, it was cut at its length, or its client went away."""
        _noted(id=self.id, output_tokens=self.output_tokens)


def _noted(**line: Any) -> None:
    target = os.environ.get("ORIGIN_LOG")
    if not target:
        return
    text = json.dumps({**line, "at": time.time_ns() // 1_000}) + "\n"
    # One `write` to a file opened for appending is whole: several workers may share it.
    file = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
