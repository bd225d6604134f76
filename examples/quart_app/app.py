"""The world's time zones behind Quart and headgate.

What a search costs stands above its view, before it runs; what it handed out is told when it is known, each row
counted (`charge`) and each record named (`touch`). The plans and limits stand in policy.yaml.
"""

from __future__ import annotations

import csv
from pathlib import Path

from quart import Quart, abort, request

from headgate.frameworks import quart as gate

Row = dict[str, str]

with (Path(__file__).parents[1] / "data_api" / "zones.csv").open(encoding="utf-8", newline="") as table:
    ROWS: dict[str, Row] = {row["id"]: row for row in csv.DictReader(table)}

PAGE_MOST = 25
"""Rows of the longest answer. The policy holds as many before it lets a request in."""

app = Quart(__name__)
gate.install(app)


def handed_out(rows: list[Row]) -> None:
    """Tell headgate what leaves with this answer."""
    gate.charge(rows=len(rows))
    gate.touch([row["id"] for row in rows])


@app.get("/records/<number>")
async def record(number: str) -> Row:
    """One row, or 404, which takes no row away."""
    row = ROWS.get(number)
    if row is None:
        abort(404, "There is no such record.")
    handed_out([row])
    return row


@app.get("/search")
@gate.spends("search", cost=5)
async def search() -> list[Row]:
    """The rows whose zone or country has `q` in its name, at most `limit` of them."""
    q, limit = request.args.get("q", "").casefold(), request.args.get("limit", "10")
    if not q or not (limit.isdecimal() and 1 <= int(limit) <= PAGE_MOST):
        abort(400, f"`q` is a text, `limit` a number from 1 to {PAGE_MOST}.")
    found = [row for row in ROWS.values() if q in f"{row['zone']} {row['country_name']}".casefold()]
    handed_out(found[: int(limit)])
    return found[: int(limit)]
