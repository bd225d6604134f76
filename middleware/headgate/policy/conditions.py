"""`when` and `unless`, compiled: one closure that says whether a limit applies to a call.

Law: AND over fields, OR in lists. What is not sure is charged: a limit applies if any form of the path matches, an
exemption only if all do; a value that is not there matches nothing; a callable that fails exempts nobody. Patterns
are globs with `*` alone and matched in linear time, whatever a caller sends.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from headgate.policy.literals import Wrong
from headgate.policy.shape import Found
from headgate.policy.words import is_source
from headgate.quota.facts import Call
from headgate.quota.globs import glob_test
from headgate.quota.identify import Network
from headgate.quota.match import Condition
from headgate.telemetry import events

ADDRESSES = 4_096
"""Networks whose comparison with a list is remembered, for each list; parsing an address costs five microseconds."""


def route_test(globs: Sequence[str], *, exempt: bool) -> Condition:
    """Whether a call's path, or the template that the router matched, meets a glob.

    To apply a limit any form of the path is enough, or the template. To exempt from one (`exempt`) all forms and,
    where it is known, the template must match; a glob that is itself a template (`/items/{id}`) needs only that.
    """
    test = glob_test(globs)
    if not exempt:

        def meets(call: Call) -> bool:
            paths = call.paths
            if test(paths[0]):
                return True
            return any(map(test, paths[1:])) or (call.route != "" and test(call.route))

        return meets
    template = glob_test([glob for glob in globs if "{" in glob])

    def spared(call: Call) -> bool:
        route = call.route
        if route and template(route):
            return True
        return all(map(test, call.paths)) and (not route or test(route))

    return spared


def network_test(networks: Sequence[Network]) -> Condition:
    """Whether the address that is charged lies in one of the networks (an IPv6 one with its whole /64)."""

    @lru_cache(maxsize=ADDRESSES)
    def inside(address: str) -> bool:
        try:
            charged = ip_network(address)
        except ValueError:
            return False
        return any(_within(charged, network) for network in networks)

    return lambda call: inside(call.network)


def _within(charged: Network, network: Network) -> bool:
    if isinstance(charged, IPv4Network):
        return isinstance(network, IPv4Network) and charged.subnet_of(network)
    return isinstance(network, IPv6Network) and charged.subnet_of(network)


def value_test(source: str, globs: Sequence[str]) -> Condition:
    """Whether the value of a source matches; none, or an empty one, never does."""
    test = glob_test(globs)

    def meets(call: Call) -> bool:
        value = call.value(source)
        return value != "" and test(value)

    return meets


def country_test(countries: Iterable[str]) -> Condition:
    """Whether the caller's country is one of these: the trait `country`, else the claim of that name."""
    wanted = frozenset(countries)

    def meets(call: Call) -> bool:
        return (call.value("trait.country") or call.value("claim.country")).upper() in wanted

    return meets


def callable_test(rule: Callable[[Call], object], name: str, *, exempt: bool) -> Condition:
    """Asks a callable of the host app. If it fails the limit applies, and an event says so."""

    def meets(call: Call) -> bool:
        try:
            return bool(rule(call))
        except Exception as fault:
            events.error("headgate.rule.failed", rule=name, fault=type(fault).__name__)
            return not exempt

    return meets


def imported(reference: str, *, waits: bool = False, what: str = "a condition") -> Callable[..., Any]:
    """The callable that `module:name` names. Raises `Wrong` if there is none, or if it waits where
    `what` must not."""
    module, _, names = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except (
        Exception,
        SystemExit,
    ) as fault:  # a module that ends the program when it is imported must not end a service
        raise Wrong(f"`{module}` cannot be imported: {type(fault).__name__}: {fault}") from None
    for name in names.split("."):
        if not hasattr(found, name):
            raise Wrong(f"`{module}` has no `{names}`")
        found = getattr(found, name)
    if not callable(found):
        raise Wrong(f"`{reference}` is no callable")
    if not waits and inspect.iscoroutinefunction(found):
        raise Wrong(f"`{reference}` is async, and {what} must not wait")
    rule: Callable[..., Any] = found
    return rule


def condition(name: str, found: Found, sources: dict[str, str], *, exempt: bool) -> Condition:
    """The test of one field. `sources`: where a scope or trait of the policy is read. Raises `Wrong`."""
    if name == "python":
        return callable_test(imported(found.value), found.value, exempt=exempt)
    values = [item.value for item in found.items]
    match name:
        case "route":
            return route_test(values, exempt=exempt)
        case "method":
            methods = frozenset(values)
            return lambda call: call.method in methods
        case "plan":
            plans = frozenset(values)
            return lambda call: call.principal.plan in plans
        case "key" | "org":
            return _principal_test(name, values)
        case "tag":
            test = glob_test(values)
            return lambda call: any(map(test, call.tags)) or any(map(test, call.principal.tags))
        case "ip":
            return network_test(values)
        case "country":
            return country_test(values)
    return value_test(name if is_source(name) else sources[name], values)


def _principal_test(name: str, globs: Sequence[str]) -> Condition:
    test = glob_test(globs)
    if name == "key":
        return lambda call: call.principal.key != "" and test(call.principal.key)
    return lambda call: call.principal.org != "" and test(call.principal.org)


def applies(when: Sequence[Condition], unless: Sequence[Condition]) -> Condition | None:
    """All of `when`, and not all of `unless`; None where there is neither.

    >>> always = applies([], [])
    >>> from headgate.quota.facts import Principal
    >>> posts = applies([lambda call: call.method == "POST"], [])
    >>> always, posts(Call(Principal("k", "o"), method="POST"))
    (None, True)
    """
    wanted, spared = _all(when), _all(unless)
    if wanted is None and spared is None:
        return None
    if spared is None:
        return wanted
    exempted = spared
    if wanted is None:
        return lambda call: not exempted(call)
    needed = wanted
    return lambda call: needed(call) and not exempted(call)


def _all(tests: Sequence[Condition]) -> Condition | None:
    if len(tests) < 2:
        return tests[0] if tests else None
    first, second, rest = tests[0], tests[1], tuple(tests[2:])
    if not rest:
        return lambda call: first(call) and second(call)
    return lambda call: first(call) and second(call) and all(test(call) for test in rest)
