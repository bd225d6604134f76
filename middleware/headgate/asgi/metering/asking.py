"""A stream of OpenAI's is made to tell its usage: what becomes of its request, once that is granted.

Law: the client has no say in it. Whatever some reader may take for a stream is asked, whether its body is short or
long; what cannot be read is refused, for the app might read it. A body is taken in whole only here: nobody fills
memory by asking for what is refused anyway.
"""

from __future__ import annotations

from headgate.asgi import replies
from headgate.asgi.body import Replayed, first_of
from headgate.asgi.identify import Scope, encoded
from headgate.asgi.replies import Reply
from headgate.tokens import Unread, with_usage

LARGEST = 67_108_864
"""Bytes of a body that is taken in whole, to be changed. More than what OpenAI takes (50 MB, pictures in it)."""

MESSAGES = "/messages"
"""How the path ends of what Anthropic's clients ask: it looks like a chat of OpenAI's, but who serves it refuses
`stream_options`. Told by the path, which the app routes by, and by nothing that a client is free to write."""


async def asked(scope: Scope, receive: Replayed) -> Reply | bool:
    """Make a stream tell its usage; whether that was done for a client that did not ask, so that it is to be hidden.
    A refusal, where nobody can tell what is asked for."""
    taken = receive.taken()
    if not taken or scope["path"].rstrip("/").endswith(MESSAGES):
        return False
    if encoded(scope):
        return replies.unread()
    if first_of(taken) != b"{":
        return False
    body = await receive.whole(LARGEST)
    if body is None:
        return replies.too_long(LARGEST)
    if not body:
        return False  # the client went away, which the app is told
    try:
        found = with_usage(body)
    except Unread:
        return replies.unread()
    if found is None:
        return False
    receive.put(found.body)
    told = [header for header in scope["headers"] if header[0] not in {b"content-length", b"transfer-encoding"}]
    scope["headers"] = [*told, (b"content-length", b"%d" % len(found.body))]
    return found.unasked
