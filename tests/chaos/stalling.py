"""A model's API that stops in the middle of every stream, for a server that is killed while they wait."""

from __future__ import annotations

import os

from headgate import HeadgateMiddleware
from sdk.upstream import Script, Upstream

app = HeadgateMiddleware(Upstream(Script(stall=int(os.environ.get("STALL", "0")))))
