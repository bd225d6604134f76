"""What the fields of a meter mean together, and what a limit may ask of one.

Law: what would silently be without effect is reported: a field that says nothing for this origin of a count, an
option that the preset does not have, a window that cannot count different things.
"""

from __future__ import annotations

from headgate.policy import estimates
from headgate.policy.meters import PRESET_METERS
from headgate.policy.names import Names, check_meter, check_scope, mark_of
from headgate.policy.problem import Findings
from headgate.policy.shape import Found
from headgate.quota.meter import BUILT_IN

ORIGINS = ("from", "preset", "distinct", "sum")

COUNT_THINGS = ("quota", "total")
"""Verbs under which different things can be counted: their windows begin at one instant for all that is in them. What
trails would have to forget things one by one, and nobody can tell which are in a sketch."""


def check(root: Found, names: Names, out: Findings) -> None:
    """All checks of the section `meters`."""
    presets = any(found.has("preset") for _, found in root.rows("meters"))
    for name, found in root.rows("meters"):
        if name in {"requests", "streams"}:
            continue  # reported as names that are taken
        origin = next((each for each in ORIGINS if found.has(each)), "")
        built_in = name in BUILT_IN
        if built_in and (origin or found.has("max")):
            field = origin or "max"
            out.add(
                "HG208", found.names[field], f"`{field}` does not go with `{name}`, which headgate counts itself",
                advice="of it, `reserve`, `reserve_default` and `overrun` can be set",
            )  # fmt: skip
        elif not origin and not built_in and not (presets and name in PRESET_METERS):
            out.add(
                "HG407", mark_of(root, "meters", name), f"nothing feeds the meter `{name}`",
                advice="write `from: app`, `from: header.X`, `preset: …`, `distinct: …` or `sum: …`",
            )  # fmt: skip
        if origin not in {"preset", "sum"}:
            _check_reserve(name, found, out)
        _check_fields(found, origin, out)
        _check_sum(name, found, root, names, out)
    _check_presets(root, out)
    estimates.check(root, out)


def _check_reserve(name: str, found: Found, out: Findings) -> None:
    named = found.each("reserve")
    sources = [each for each in named if isinstance(each.value, str)]
    for amount in named if len(named) > 1 else ():
        if not isinstance(amount.value, str):
            # Not a least that is held: a request that announces less would seem to hold this.
            out.add(
                "HG208", amount.mark, f"`{amount.text}` stands among the sources of `reserve`",
                advice="write what a request holds that names none of them as `reserve_default`",
            )  # fmt: skip
    if found.has("reserve_times") and not found.has("reserve"):
        out.add(
            "HG208", found.names["reserve_times"], "`reserve_times` multiplies a `reserve`, and there is none",
            advice="write `reserve`: what one answer may take",
        )  # fmt: skip
    if found.has("reserve_default") and not sources and found.get("reserve") is not None:
        out.add(
            "HG208", found.names["reserve_default"], "`reserve` is an amount already: `reserve_default` says nothing",
            advice="keep one of them",
        )  # fmt: skip
    elif found.has("reserve_default") and not found.has("reserve"):
        out.add(
            "HG208", found.names["reserve_default"], "`reserve_default` belongs to a `reserve` that names a source",
            advice="write `reserve: body.max_tokens` with it, or call it `reserve`",
        )  # fmt: skip
    elif sources and not found.has("reserve_default"):
        out.add(
            "HG517", found.names["reserve"], f"a request that does not say it holds nothing of `{name}`",
            advice="write `reserve_default`: what such a request holds",
        )  # fmt: skip
    if name == "bytes_in" and (sources or found.has("reserve_times")):
        field = "reserve" if sources else "reserve_times"
        out.add(
            "HG208", found.names[field], "a request tells its `bytes_in` by its `content-length`, not by a source",
            advice="write an amount: `reserve` is held where there is no `content-length`",
        )  # fmt: skip


def _check_fields(found: Found, origin: str, out: Findings) -> None:
    """Fields that say nothing for this origin of the count."""
    if found.has("times") and origin != "sum":
        out.add("HG208", found.names["times"], "`times` multiplies a `sum`, and there is none")
    by_app = found.value_of("distinct") == "app"
    for field in ("reserve", "reserve_default", "reserve_times", "max", "overrun"):
        if origin not in {"preset", "sum", "distinct"} or not found.has(field) or (by_app and field == "reserve"):
            continue
        advice = {
            "preset": "set it for the meters that a preset gives: `output_tokens: {…}`",
            "sum": "a sum holds what its meters hold, and is cut where one of them is: set it for those",
            "distinct": "a thing that the request names is held as one thing, where it is new",
        }[origin]
        out.add("HG208", found.names[field], f"`{field}` does not go with `{origin}`", advice=advice)
    header = origin == "from" and found.value_of("from") not in {None, "app"}
    if header and found.value_of("overrun") == "cut":
        out.add(
            "HG520", found.names["overrun"], "nothing is cut: a header says the whole amount beforehand",
            advice="delete `overrun`; what goes beyond the limit is debt",
        )  # fmt: skip


def _check_presets(root: Found, out: Findings) -> None:
    """`include_usage`, where it belongs to nothing."""
    for name, found in root.rows("meters"):
        if not found.has("include_usage"):
            continue
        if not found.has("preset"):
            out.add(
                "HG427", found.names["include_usage"],
                f"`include_usage` is an option of a preset, and `{name}` is none",
                advice="write it beside `preset: openai-usage`",
            )  # fmt: skip
        elif found.value_of("preset") == "anthropic-usage":
            out.add(
                "HG427", found.names["include_usage"], "`anthropic-usage` has no `include_usage`",
                advice="a stream of Anthropic's API always tells its usage: delete it",
            )  # fmt: skip


def _check_sum(name: str, found: Found, root: Found, names: Names, out: Findings) -> None:
    declared = dict(root.rows("meters"))
    below = found.get("sum")
    for other, mark in below.names.items() if below is not None else ():
        row = declared.get(other)
        if other == name or (row is not None and row.has("sum")):
            out.add("HG420", mark, f"`{other}` is a sum itself", advice="add up the meters that it is made of")
        elif other == "streams" or (row is not None and row.has("distinct")):
            out.add("HG420", mark, f"`{other}` cannot be added to others", advice="it counts things, not amounts")
        else:
            check_meter(other, mark, root, names, out)
    times = found.get("times")
    by = times.get("by") if times is not None else None
    if by is not None:
        check_scope(by, names, out)


def check_limit(name: str, verb: str, found: Found, root: Found, out: Findings) -> None:
    """What a limit cannot have that counts different things."""
    meter = found.value_of("meter", "")
    row = dict(root.rows("meters")).get(meter)
    if row is None or not row.has("distinct"):
        return
    if verb and verb not in COUNT_THINGS:
        out.add(
            "HG425", found.names[verb],
            f"limit `{name}` counts different things (`{meter}`), and a `{verb}` cannot",
            advice="use `quota: 2k/month`, which begins anew with each month, or `total: 2k`",
        )  # fmt: skip
    if found.has("slice"):
        out.add(
            "HG426", found.names["slice"],
            f"limit `{name}` counts different things (`{meter}`): none can be charged before it is known which",
            advice="delete `slice`",
        )  # fmt: skip
