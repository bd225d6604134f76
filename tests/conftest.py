"""How much Hypothesis tries: HYPOTHESIS_PROFILE=quick (the default) or long. And the servers and
gates that tests ask for."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["servers.fixtures", "gates"]

settings.register_profile("quick", max_examples=40, deadline=None, derandomize="CI" in os.environ)
settings.register_profile(
    "long",
    max_examples=1_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
