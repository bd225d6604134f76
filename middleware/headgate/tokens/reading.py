"""Two readers of usage: of a body in JSON, and of a stream of server-sent events.

Law: what was reported last holds, and it is told whether that is final. Which API it is shows in the JSON itself:
chat completions, Responses, embeddings and Anthropic's messages are read by one reader. What was generated and not
yet reported is counted in bytes, so that a stream that breaks off is charged for what was sent. An event costs a few
searches for a fixed string; JSON is read only where a report stands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from headgate.tokens.frame import Frame, frame_of
from headgate.tokens.said import Said
from headgate.tokens.skim import Skim
from headgate.tokens.sse import Events
from headgate.tokens.texts import delta_in, generated
from headgate.tokens.usage import Usage, counts, inclusive, may_report, report_of

RESPONSE_ENDED = frozenset({"response.completed", "response.incomplete", "response.failed"})
FRAMES = 8
"""Events in a row that may differ in more than their text, before that is no longer looked at: those of OpenAI's
Responses are numbered."""

COMPLETION = b'"text_completion"'
MESSAGE_STOP = b'"message_stop"'
DONE = b"[DONE]"


class Reader(Protocol):
    """Reads a response as it passes.

    | field | meaning |
    | --- | --- |
    | `usage` | what was reported so far |
    | `complete` | that is final: the answer has ended |
    | `text` | bytes of text generated since the output was last reported: content, reasoning, arguments of tools |
    | `lost` | it is not what its type says, so that nothing is known of it |
    | `said` | that text, for whoever counts it; None where nobody wants it |
    """

    @property
    def usage(self) -> Usage: ...  # noqa: D102
    @property
    def complete(self) -> bool: ...  # noqa: D102
    @property
    def text(self) -> int: ...  # noqa: D102
    @property
    def lost(self) -> bool: ...  # noqa: D102
    @property
    def said(self) -> Said | None: ...  # noqa: D102

    def fed(self, data: bytes | memoryview) -> None:
        """Read on. No error for anything that is fed; memory is bounded."""

    def fed_all(self, parts: Sequence[bytes]) -> None:
        """Read several parts, as if each were fed in its turn."""


def reader(content_type: str, encoded: bool, said: Said | None = None) -> Reader | None:
    """A reader for a response of that type; None where nothing can be read: it is neither JSON nor server-sent
    events, or `encoded` (gzip and the like). `said` is told the text that was generated.

    >>> found = reader("application/json; charset=utf-8", encoded=False)
    >>> found.fed(b'{"object": "list", "usage": {"prompt_tokens": 8, "total_tokens": 8}, "data": [')
    >>> found.usage, found.complete
    (Usage(input=8, cached=None, output=None, reasoning=None), False)
    """
    kind = content_type.partition(";")[0].strip().lower()
    if encoded:
        return None
    if kind == "text/event-stream":
        return Streamed(said)
    return Whole(said) if kind == "application/json" or kind.endswith("+json") else None


class Whole:
    """A body in JSON: its top-level `usage` is the report."""

    __slots__ = ("_report", "_skim", "said", "usage")

    def __init__(self, said: Said | None = None) -> None:
        self.said = said
        self._skim = Skim(said=said)
        self._report: dict[str, Any] | None = None
        self.usage = Usage()

    @property
    def complete(self) -> bool:
        """The object is whole."""
        return self._skim.ended

    @property
    def text(self) -> int:
        """Bytes of generated text; 0 once the output is reported, which is all of it."""
        return self._skim.text if self.usage.output is None else 0

    @property
    def lost(self) -> bool:
        """It is no object (a list, UTF-16, no JSON at all), and nothing was reported before that showed."""
        return self._skim.failed and self._report is None

    def fed(self, data: bytes | memoryview) -> None:
        """Read on."""
        self._skim.fed(data)
        self._noticed()

    def fed_all(self, parts: Sequence[bytes]) -> None:
        """Read on."""
        for part in parts:
            self._skim.fed(part)
        self._noticed()

    def _noticed(self) -> None:
        report = self._skim.report
        if report is not self._report:
            self._report = report
            self.usage = inclusive(counts(report or {}))
        if self.said is not None and self.usage.output is not None:
            self.said.forget()


class Streamed(Events):
    """A stream: reports are put together, the last word on each number wins."""

    lost = False
    """Of a stream each event is read for itself: what is none of ours is passed over."""

    __slots__ = ("_counts", "_frame", "_frames", "complete", "text", "usage")

    def __init__(self, said: Said | None = None) -> None:
        super().__init__(said)
        self.usage = Usage()
        self.complete = False
        self.text = 0
        self._counts: dict[str, int] = {}
        self._frame: Frame | None = None  # what the last event had around its text
        self._frames = FRAMES

    def fed(self, data: bytes | memoryview) -> None:
        """Read on."""
        if type(data) is not bytes or self._open or not self._frames:
            return super().fed(data)
        event = self._first + data if self._first else data
        if self._frame is not None and (size := self._frame.size(event)) >= 0:
            self._frames, self._first = FRAMES, b""
            if size:
                self._framed_text(event, size)
            return None
        super().fed(data)
        if not self._first:
            self._framed(event)
        return None

    def fed_all(self, parts: Sequence[bytes]) -> None:
        """Read on. Events that differ in their words alone are known together by a few comparisons."""
        if self._frame is not None and self._frames and not self._open and not self._first and len(parts) > 1:
            data = b"".join(parts)
            size = self._frame.sizes(data, len(parts))
            if size >= 0:
                self._frames = FRAMES
                if size:
                    self._framed_text(data, size)
                return
        for part in parts:
            self.fed(part)

    def _framed_text(self, data: bytes, size: int) -> None:
        """So much was generated by events that have the frame."""
        self.text += size
        self.complete = False
        if self.said is not None and self._frame is not None:
            self.said.add(self._frame.text(data))

    def _framed(self, data: bytes) -> None:
        """Keep what the next event may have in common with this."""
        if b'"delta"' in data:
            self._frames -= 1
            self._frame = frame_of(data)

    def whole(self, data: bytes, start: int, end: int) -> None:
        """An event of ordinary size."""
        delta = delta_in(data, start, end)
        if delta >= 0 and (size := generated(data, delta, end, self.said)):
            self.text += size
            self.complete = False
        if may_report(data, start, end):
            self._reported(data[start:end])
        elif delta < 0:
            self._without_delta(data, start, end)

    def skimmed(self, skim: Skim) -> None:
        """An event of any size. Its `choices` are not looked at: that it was the last shows by what comes next."""
        if not skim.ended:
            return
        if skim.delta and skim.text:
            self.text += skim.text
            self.complete = False
            if self.said is not None and skim.said is not None:
                self.said.add_all(skim.said)
        if skim.report is not None:
            self._counted(skim.report, skim.kind.decode("utf-8", "replace") in RESPONSE_ENDED)

    def _reported(self, data: bytes) -> None:
        try:
            event = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            # No JSON, or such as Python will not read: a number of thousands of digits, too many brackets.
            skim = Skim(of_event=True)
            skim.fed(data)
            if skim.ended and skim.report is not None:
                self._counted(skim.report, skim.kind.decode("utf-8", "replace") in RESPONSE_ENDED)
            return
        report = report_of(event)
        if report is not None:
            self._counted(report, _final(event))

    def _counted(self, report: dict[str, Any], final: bool) -> None:
        found = counts(report)
        if not found:
            return
        self._counts.update(found)
        self.usage = inclusive(self._counts)
        self.complete = final
        if "output" in found:
            self.text = 0
            if self.said is not None:
                self.said.forget()

    def _without_delta(self, data: bytes, start: int, end: int) -> None:
        """An event that neither generates nor reports, but may end the stream; or one of the old completions."""
        if data.startswith(DONE, start) or data.find(MESSAGE_STOP, start, end) >= 0:
            self.complete = bool(self._counts) and not self.text
        elif (at := data.find(COMPLETION, start, end)) >= 0 and (size := generated(data, at, end, self.said)):
            self.text += size
            self.complete = False


def _final(event: dict[str, Any]) -> bool:
    """Whether what an event reports is the last word on it."""
    kind = event.get("type")
    if kind == "message_delta":
        delta = event.get("delta")
        return isinstance(delta, dict) and delta.get("stop_reason") is not None
    if isinstance(kind, str) and kind in RESPONSE_ENDED:
        return True
    choices = event.get("choices")
    return isinstance(choices, list) and all(
        isinstance(choice, dict) and choice.get("finish_reason") is not None for choice in choices
    )
