"""What stands in for tokens that no response tells, as a policy has it under `estimate`.

Law: one estimate for all presets, for a response does not say which of them it is of. A callable is asked once when
the policy is loaded: what cannot count one word is found there, and whatever it has to fetch first is fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headgate.policy.conditions import imported
from headgate.policy.literals import Wrong
from headgate.policy.problem import Findings
from headgate.policy.shape import Found
from headgate.quota.estimate import BY_BYTES, Estimate, doubt

TRIED = "tokens"
"""What a callable is asked first."""


def check(root: Found, out: Findings) -> None:
    """Say where `estimate` belongs to nothing, and where two of them differ."""
    first: Found | None = None
    for name, found in root.rows("meters"):
        if not found.has("estimate"):
            continue
        estimate = _leaf(found.get("estimate"))
        if not found.has("preset"):
            out.add(
                "HG427", found.names["estimate"], f"`estimate` is an option of a preset, and `{name}` is none",
                advice="write it beside `preset: …`",
            )  # fmt: skip
        elif estimate is not None and first is not None and estimate.value != first.value:
            out.add(
                "HG428", found.names["estimate"], "another preset says another `estimate`",
                advice="say it once: it holds for the tokens of all presets",
            )  # fmt: skip
        else:
            first = first or estimate


def estimate_of(root: Found, out: Findings) -> Estimate:
    """The estimate, its callable imported and tried."""
    rows = (found.get("estimate") for _, found in root.rows("meters") if found.has("preset"))
    found = next((leaf for leaf in map(_leaf, rows) if leaf is not None), None)
    if found is None:
        return BY_BYTES
    if isinstance(found.value, int):
        return Estimate(found.value)
    try:
        count = imported(found.value, what="an estimate")
        _try(count, found.value)
    except Wrong as wrong:
        out.add("HG410", found.mark, wrong.why)
        return BY_BYTES
    return Estimate(name=f"python:{found.value}", count=count)


def _leaf(found: Found | None) -> Found | None:
    """Bytes a token, in millionths; or module and name, however that is written."""
    return found if found is None or found.form == "leaf" else found.get("python")


def _try(count: Callable[[str], object], reference: str) -> None:
    try:
        answer = count(TRIED)
    except (Exception, SystemExit, asyncio.CancelledError) as fault:
        raise Wrong(f"`{reference}` cannot count one word: {type(fault).__name__}: {fault}") from None
    if why := doubt(answer, TRIED, len(TRIED)):
        raise Wrong(f"`{reference}` was asked to count the word `{TRIED}`, and {why}")
