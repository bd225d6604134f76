"""The world's time zones behind FastAPI and headgate.

What a search costs stands in its dependency, before it runs; what it handed out is told when it is known, each row
counted (`charge`) and each record named (`touch`). The plans and limits stand in policy.yaml.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query, Request

from headgate import charge, touch
from headgate.frameworks import fastapi as gate

Row = dict[str, str]

with (Path(__file__).parents[1] / "data_api" / "zones.csv").open(encoding="utf-8", newline="") as table:
    ROWS: dict[str, Row] = {row["id"]: row for row in csv.DictReader(table)}

PAGE_MOST = 25
"""Rows of the longest answer. The policy holds as many before it lets a request in."""

app = FastAPI(title="Time zones")
gate.install(app)


def handed_out(request: Request, rows: list[Row]) -> None:
    """Tell headgate what leaves with this answer."""
    charge(request, rows=len(rows))
    touch(request, [row["id"] for row in rows])


@app.get("/records/{number}")
async def record(request: Request, number: str) -> Row:
    """One row, or 404, which takes no row away."""
    row = ROWS.get(number)
    if row is None:
        raise HTTPException(404, "There is no such record.")
    handed_out(request, [row])
    return row


@app.get("/search", dependencies=[Depends(gate.dependency("search", cost=5))])
async def search(
    request: Request,
    q: Annotated[str, Query(min_length=1, description="Part of a zone's or a country's name.")],
    limit: Annotated[int, Query(ge=1, le=PAGE_MOST)] = 10,
) -> list[Row]:
    """The rows whose zone or country has `q` in its name, at most `limit` of them."""
    found = [row for row in ROWS.values() if q.casefold() in f"{row['zone']} {row['country_name']}".casefold()]
    handed_out(request, found[:limit])
    return found[:limit]
