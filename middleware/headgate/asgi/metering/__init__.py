"""What a request that is served uses: read as it passes, grown while it lives, settled at its end.

Law: nothing is buffered and no first byte is delayed; what is held is settled once, however the request ends.

`metered` is one request under way; `watched` one of which amounts are held; `gauge` says how much it has used,
`growing` keeps what is held ahead of that, `cutting` ends a response that has reached its limit, `reporting` is what
an endpoint says of itself, `sizes` is how many bytes a message has.
"""

from headgate.asgi.metering.metered import SCOPE_KEY, Metered, behind
from headgate.asgi.metering.reporting import charge, spend, touch

__all__ = ["SCOPE_KEY", "Metered", "behind", "charge", "spend", "touch"]
