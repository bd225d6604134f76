"""Quotas per key, per org and per group of linked accounts, for ASGI apps: exact, declarative, explained.

    from headgate import HeadgateMiddleware, charge, spend, touch

    app.add_middleware(HeadgateMiddleware)      # policy, store and pepper come from the environment
    charge(request, rows=12)                    # in an endpoint: what a request really took
    touch(request, "doc:81723")                 # which things it handed out
    await spend(request, search=5)              # what it is about to take, if the limits grant it

The public names are those of `__all__`; everything else may move.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.asgi import HeadgateMiddleware, charge, spend, touch
    from headgate.errors import Denied, DirectoryUnavailable, HeadgateError, IdentityError, PolicyError, StoreError
    from headgate.gate import Gate
    from headgate.policy import Policy, load
    from headgate.quota.decision import Action, Decision
    from headgate.quota.facts import Principal
    from headgate.service import Service
    from headgate.settings import Settings
    from headgate.stores import open_store

__all__ = [
    "Action",
    "Decision",
    "Denied",
    "DirectoryUnavailable",
    "Gate",
    "HeadgateError",
    "HeadgateMiddleware",
    "IdentityError",
    "Policy",
    "PolicyError",
    "Principal",
    "Service",
    "Settings",
    "StoreError",
    "charge",
    "load",
    "open_store",
    "spend",
    "touch",
]

__version__ = version("headgate")

# Where each name lives. They are imported when they are first asked for: a command line that makes a key needs none
# of the middleware, and an app that hands in its own gate needs no settings.
_HOMES = {
    "Action": "quota.decision",
    "Decision": "quota.decision",
    "Denied": "errors",
    "DirectoryUnavailable": "errors",
    "Gate": "gate",
    "HeadgateError": "errors",
    "HeadgateMiddleware": "asgi",
    "IdentityError": "errors",
    "Policy": "policy",
    "PolicyError": "errors",
    "Principal": "quota.facts",
    "Service": "service",
    "Settings": "settings",
    "StoreError": "errors",
    "charge": "asgi",
    "load": "policy",
    "open_store": "stores",
    "spend": "asgi",
    "touch": "asgi",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'headgate' has no attribute {name!r}")
    return getattr(import_module(f"headgate.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
