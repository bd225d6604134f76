"""The wire: what an ASGI server hands over becomes facts, and a decision becomes a reply.

Law: nothing here decides. It gathers (`identify`, `body`, `routes`), asks the gate, answers what is refused
(`replies`, `ratelimit_headers`), and measures what is served (`metering`). `middleware` is the way of a request.
"""

from headgate.asgi.metering import charge, spend, touch
from headgate.asgi.middleware import HeadgateMiddleware

__all__ = ["HeadgateMiddleware", "charge", "spend", "touch"]
