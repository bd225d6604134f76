"""Warnings and notes: a policy that can be used, and may not mean what it seems to.

Law: a warning never keeps a policy from being used, and each says what happens as things stand. What can be seen in
the text is said even beside errors; what needs the compiled values is looked at once there are none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from headgate.document import Mark
from headgate.nearest import nearest
from headgate.policy import meter_lint
from headgate.policy.checks import dated
from headgate.policy.compile import steps_come_later
from headgate.policy.compiled import Policy
from headgate.policy.meters import PRESET_METERS
from headgate.policy.model import ENGINES_LATER
from headgate.policy.problem import Findings
from headgate.policy.shape import Found
from headgate.policy.values import Manner, capacity, end_of
from headgate.policy.words import is_source
from headgate.quota.calendar import Calendar
from headgate.quota.gcra import Rate
from headgate.quota.globs import one_glob
from headgate.quota.identify import IPV6_CUSTOMER
from headgate.quota.match import Limit
from headgate.quota.owner import Value
from headgate.quota.window import Max, Rolling, Total

DAY = 86_400_000_000
LONGEST = {"hour": DAY // 24, "day": DAY, "week": 7 * DAY, "month": 31 * DAY, "year": 366 * DAY}
"""The longest that each unit of the calendar can be."""

BURSTS = 10
"""A burst of more than so many times the rate's amount is more likely a slip than meant."""

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "TRACE", "CONNECT")
IDENTITIES = frozenset({"key", "org", "group", "ip"})
CALLERS_OWN = ("header", "query", "path", "body")


def look(root: Found, policy: Policy | None, now: int, out: Findings) -> None:
    """All warnings and notes of a root and, if it could be compiled, of the policy. `now` in microseconds."""
    _expired(root, now, out)
    _identity(root, out)
    for name, found in root.rows("limits"):
        _chosen_by_caller(name, found, root, out)
        _tests(name, found, out)
    _patterns(root, out)
    meter_lint.look(root, out)
    if policy is not None:
        _unused(root, out)
        _later(root, out)
        _compiled(root, policy, out)


def _expired(root: Found, now: int, out: Findings) -> None:
    zone = root.value_of("zone", "UTC")
    for what, entry in dated(root):
        until = entry.get("until")
        if until is not None and end_of(until.value, zone) <= now:
            out.add("HG502", until.mark, f"this {what} ended with {until.text}: it does nothing any more")


def _identity(root: Found, out: Findings) -> None:
    found = root.get("identify")
    if root.has("identify") and found is None:
        return
    anonymous = found.get("anonymous") if found is not None else None
    known = found is not None and (found.has("directory") or (anonymous is not None and anonymous.form == "map"))
    if not known and (found is None or anonymous is not None or not found.has("anonymous")):
        mark = found.mark if found is not None else root.names.get("policy", root.mark)
        out.add(
            "HG511", mark, "every request is refused with 401: there is no `directory` to know a key by, and callers "
            "without a key are refused",
            advice="write `identify: {directory: keys.yaml}`, or `anonymous: {per: ip}`",
        )  # fmt: skip
    trust = found.get("trust") if found is not None else None
    for proxy in trust.each("proxies") if trust is not None else ():
        if proxy.value.prefixlen == 0:
            out.add("HG513", proxy.mark, f"`{proxy.text}` trusts everybody to say which address they come from")
    if found is None or not found.has("trust"):
        _by_address(root, anonymous, out)


def _by_address(root: Found, anonymous: Found | None, out: Findings) -> None:
    places = [scope.mark for _, limit in root.rows("limits") for scope in limit.each("per") if scope.value == "ip"]
    if not places and anonymous is not None and anonymous.form == "map":
        places = [anonymous.mark]
    if places:
        out.add(
            "HG904", places[0], "callers are counted by address, and no proxy is trusted: behind one they all "
            "share its address",
            advice="with a proxy in front: `identify: {trust: {proxies: [10.0.0.0/8], header: x-forwarded-for}}`",
        )  # fmt: skip


def _unused(root: Found, out: Findings) -> None:
    """Scopes, meters and clauses that nothing refers to."""
    used: dict[str, set[str]] = {"scopes": set(), "meters": set(), "terms": {"acceptance"}}
    for _, limit in root.rows("limits"):
        used["meters"].add(limit.value_of("meter", ""))
        used["terms"].add(limit.value_of("terms", ""))
        used["scopes"].update(scope.value for scope in limit.each("per"))
        for word in ("when", "unless"):
            used["scopes"].update(name for name, _ in limit.rows(word))
    for _, meter in root.rows("meters"):
        used["meters"].update(name for name, _ in meter.rows("sum"))
        times = meter.get("times")
        used["scopes"].add(times.value_of("by", "") if times is not None else "")
    used["terms"].update(step.value_of("terms", "") for step in root.each("ladder"))
    presets = {name for name, found in root.rows("meters") if found.has("preset")}
    if used["meters"] & set(PRESET_METERS):
        used["meters"] |= presets
    used["meters"] |= set(PRESET_METERS) if presets else set()
    for section, words in used.items():
        below = root.get(section)
        for name, mark in below.names.items() if below is not None else ():
            if name not in words:
                out.add("HG514", mark, f"nothing uses `{section}.{name}`")


def _chosen_by_caller(name: str, found: Found, root: Found, out: Findings) -> None:
    scopes = {each: source.value for each, source in root.rows("scopes")}
    per = found.each("per")
    if not per or any(scope.value in IDENTITIES for scope in per):
        return
    sources = [scopes.get(scope.value, scope.value) for scope in per]
    if any(is_source(source) and source.partition(".")[0] in CALLERS_OWN for source in sources):
        out.add(
            "HG508", per[0].mark, f"limit `{name}` counts by what the caller writes: whoever changes it begins anew",
            advice="add who it is: `per: [org, …]`",
        )  # fmt: skip


def _tests(name: str, found: Found, out: Findings) -> None:
    for word in ("when", "unless"):
        below = found.get(word)
        for method in below.each("method") if below is not None else ():
            meant = nearest(method.value, METHODS)
            if method.value not in METHODS and meant:
                out.add("HG516", method.mark, f"`{method.text}` is an unusual method", suggestion=meant)
        for network in below.each("ip") if below is not None else ():
            if network.value.version == 6 and network.value.prefixlen > IPV6_CUSTOMER:
                wider = str(network.value.supernet(new_prefix=IPV6_CUSTOMER))
                said = f"`{network.text}` matches nobody: an IPv6 caller is charged by its /{IPV6_CUSTOMER}"
                out.add("HG518", network.mark, said, suggestion=wider)
    unless = found.get("unless")
    if unless is not None and set(unless.fields) == {"route"}:
        for route in unless.each("route"):
            if route.value.rstrip("*") in {"", "/"} and route.value.endswith("*"):
                out.add("HG509", route.mark, f"`{route.text}` matches every path: limit `{name}` never applies")


def _patterns(root: Found, out: Findings) -> None:
    """Patterns of `times` and `dialect` behind another one that matches all that they do."""
    dialect = root.get("dialect")
    tables = [meter.get("times") for _, meter in root.rows("meters")]
    tables.append(dialect if dialect is not None and dialect.form == "map" else None)
    for table in tables:
        before: list[str] = []
        for pattern, mark in table.names.items() if table is not None else ():
            if pattern in {"by", "default"}:
                continue
            # What matches a pattern's own text, stars and all, matches whatever stands in their place.
            wider = next((other for other in before if one_glob(other)(pattern)), "")
            if wider:
                out.add("HG519", mark, f"`{pattern}` never decides: `{wider}` stands before it and matches the same")
            before.append(pattern)


def _later(root: Found, out: Findings) -> None:
    if steps_come_later(root):
        later = ENGINES_LATER["ladder"]
        out.add("HG901", root.names["ladder"], f"`ladder` is checked and not enforced in full yet: {later}")
    terms = root.get("terms")
    if terms is not None and terms.get("acceptance") is not None:
        nobody = ENGINES_LATER["acceptance"]
        out.add("HG901", terms.names["acceptance"], f"`acceptance` is checked and not enforced yet: {nobody}")


def _compiled(root: Found, policy: Policy, out: Findings) -> None:
    table = root.get("limits")
    assert table is not None, "a compiled policy has limits"
    rows, names = dict(table.right()), table.names
    # What counts things that the request names asks nothing of a request that names none.
    always = [limit for limit in policy.limits if limit.applies is None and limit.meter.things in {"", "app"}]
    # A limit's own shadow is meant; a whole policy in shadow is still to be looked at as if it were enforced.
    if all(rows[limit.id].value_of("mode") == "shadow" for limit in always):
        out.add(
            "HG501", root.names["limits"], "some requests meet no limit: every one has a condition, is in shadow, or "
            "counts things that not every request names",
            advice="add one for all: `all: {meter: requests, per: key, rate: 600/min}`",
        )  # fmt: skip
    texts = {limit.id: frozenset(text for text, _ in limit.conditions) for limit in policy.limits}
    counts: defaultdict[tuple[str, frozenset[str]], list[Limit]] = defaultdict(list)
    for limit in policy.limits:
        counts[_counted(limit)].append(limit)
    for limit in policy.limits:
        found = rows[limit.id]
        _grows(limit, found, policy.plans, out)
        _bursts(limit, found, out)
        at = names[limit.id]
        if all(value is None for value in limit.values.values()):
            out.add("HG507", at, f"limit `{limit.id}` is unlimited for everybody")
        for other in _wider(limit, counts[_counted(limit)], texts):
            if _beside(limit, other, at, policy, out):
                break


def _grows(limit: Limit, found: Found, plans: tuple[str, ...], out: Findings) -> None:
    known = [(plan, limit.values.get(plan, limit.values.get(""))) for plan in plans]
    for (weaker, less), (stronger, more) in pairwise(known):
        if _speed(less) > _speed(more):
            verb = Manner.of(found, "UTC")
            mark = found.names[verb.verb] if verb is not None else found.mark
            out.add(
                "HG504", mark, f"in limit `{limit.id}` plan `{stronger}` gets less than the weaker plan `{weaker}`"
            )


def _speed(value: Value) -> tuple[float, int]:
    """A measure by which the values of one verb compare: units a time, then units at once."""
    if value is None:
        return float("inf"), 0
    return value.capacity / _length(value), value.capacity


def _length(value: Value) -> int:
    if isinstance(value, Rate):
        return value.period
    if isinstance(value, Rolling):
        return value.length
    return LONGEST[value.unit] * value.every if isinstance(value, Calendar) else 1


def _bursts(limit: Limit, found: Found, out: Findings) -> None:
    rates = [value for value in limit.values.values() if isinstance(value, Rate)]
    if any(rate.burst > BURSTS * rate.amount for rate in rates):
        out.add(
            "HG506", found.names["burst"], f"limit `{limit.id}` lets more than {BURSTS} times its amount at once: "
            "a rate allows its whole amount at once, and the burst on top",
        )  # fmt: skip


def _counted(limit: Limit) -> tuple[str, frozenset[str]]:
    """What a limit counts, and for whom."""
    return limit.meter.name, frozenset(limit.per)


def _wider(limit: Limit, alike: list[Limit], texts: dict[str, frozenset[str]]) -> Iterator[Limit]:
    """The limits that count the same and are enforced whenever this one is."""
    mine = texts[limit.id]
    for other in alike:
        theirs = texts[other.id]
        if other is limit or not theirs <= mine or other.shadow or other.rollout < limit.rollout:
            continue
        # A field more under `unless` exempts less: only like exemptions are compared.
        if not any(text.startswith("unless") for text in mine - theirs):
            yield other


def _beside(limit: Limit, other: Limit, at: Mark, policy: Policy, out: Findings) -> bool:
    """Whether a limit means nothing beside another, which is then said."""
    plans = policy.plans or ("",)
    pairs = [(limit.values.get(p, limit.values.get("")), other.values.get(p, other.values.get(""))) for p in plans]
    if all(_stricter(strict, loose) for loose, strict in pairs):
        twins = all(_stricter(loose, strict) for loose, strict in pairs)
        if twins and limit.id < other.id:
            return False
        out.add("HG503", at, f"limit `{limit.id}` never decides: `{other.id}` is always as strict or stricter")
        return True
    if all(_out_of_reach(quota, rate) for quota, rate in pairs):
        out.add(
            "HG505", at, f"nobody can use up `{limit.id}`: at the full rate of `{other.id}` its window ends first"
        )
        return True
    return False


def _stricter(strict: Value, loose: Value) -> bool:
    """Whether a value refuses all that the other refuses, for good reason only: the same verb and window."""
    if strict is None:
        return loose is None
    if loose is None:
        return True
    if isinstance(strict, Rate) and isinstance(loose, Rate):
        return strict.capacity <= loose.capacity and strict.amount * loose.period <= loose.amount * strict.period
    if isinstance(strict, Rolling) and isinstance(loose, Rolling):
        return strict.length >= loose.length and strict.capacity <= loose.capacity
    if isinstance(strict, Calendar) and isinstance(loose, Calendar):
        alike = (strict.unit, strict.every, strict.zone, strict.anchor) == (
            loose.unit,
            loose.every,
            loose.zone,
            loose.anchor,
        )
        return alike and strict.capacity <= loose.capacity
    alike = (isinstance(strict, Max) and isinstance(loose, Max)) or (
        isinstance(strict, Total) and isinstance(loose, Total)
    )
    return alike and strict.capacity <= loose.capacity


def _out_of_reach(quota: Value, rate: Value) -> bool:
    """Whether the rate, kept up for the whole window, stays below the quota."""
    if not isinstance(quota, Calendar | Rolling) or not isinstance(rate, Rate) or not (most := capacity(quota)):
        return False
    return rate.capacity + _length(quota) * rate.amount // rate.period < most
