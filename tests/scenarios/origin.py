"""The protected app of these scenarios: it counts by itself, one line a request in a file that outlives it."""

import os
from typing import Any

from headgate import HeadgateMiddleware


async def counted(scope: Any, receive: Any, send: Any) -> None:
    """Note who served, in one write that no other worker's can be mixed into; then answer."""
    assert scope["type"] == "http"
    file = os.open(os.environ["ORIGIN_COUNT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, b"%d\n" % os.getpid())
    os.close(file)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


app = HeadgateMiddleware(counted)
