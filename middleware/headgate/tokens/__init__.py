"""What a response of an LLM's API took, read from its bytes as they pass; and what a request for one announces.

Law: bytes in, counts out. No byte is kept that is not needed, none is changed but by `with_usage` and `Hiding`, and
nothing here knows of limits. What is no report where the API writes one is no report: neither text that a user or a
model wrote, nor an object of another's, is taken for it.

`usage` is the counts and how they are made inclusive; `reading` the two readers, over `sse` (events of a stream) and
`skim` (JSON of any size); `texts` how much was generated, `said` what that was; `asking` and `hiding` get a stream to
tell its usage, and keep that from a client that did not ask for it.
"""

from headgate.tokens.asking import Announced, Unread, announced, with_usage
from headgate.tokens.hiding import Hiding
from headgate.tokens.reading import Reader, reader
from headgate.tokens.said import KEPT, Said, plain
from headgate.tokens.usage import METERS, Usage, estimated

__all__ = [
    "KEPT", "METERS", "Announced", "Hiding", "Reader", "Said", "Unread", "Usage", "announced", "estimated", "plain",
    "reader", "with_usage",
]  # fmt: skip
