"""The world's time zones behind Litestar and headgate.

What a search costs stands in its guard, before it runs; what it handed out is told when it is known, each row counted
(`charge`) and each record named (`touch`). The plans and limits stand in policy.yaml.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

from litestar import Litestar, Request, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, QueryParameter

from headgate import charge, touch
from headgate.frameworks import litestar as gate

Row = dict[str, str]
Asked = Request[Any, Any, Any]

with (Path(__file__).parents[1] / "data_api" / "zones.csv").open(encoding="utf-8", newline="") as table:
    ROWS: dict[str, Row] = {row["id"]: row for row in csv.DictReader(table)}

PAGE_MOST = 25
"""Rows of the longest answer. The policy holds as many before it lets a request in."""


def handed_out(request: Asked, rows: list[Row]) -> None:
    """Tell headgate what leaves with this answer."""
    charge(request, rows=len(rows))
    touch(request, [row["id"] for row in rows])


@get("/records/{number:str}")
async def record(request: Asked, number: FromPath[str]) -> Row:
    """One row, or 404, which takes no row away."""
    row = ROWS.get(number)
    if row is None:
        raise NotFoundException("There is no such record.")
    handed_out(request, [row])
    return row


@get("/search", guards=[gate.spends("search", cost=5)])
async def search(
    request: Asked,
    q: Annotated[str, QueryParameter(min_length=1, description="Part of a zone's or a country's name.")],
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MOST)] = 10,
) -> list[Row]:
    """The rows whose zone or country has `q` in its name, at most `limit` of them."""
    found = [row for row in ROWS.values() if q.casefold() in f"{row['zone']} {row['country_name']}".casefold()]
    handed_out(request, found[:limit])
    return found[:limit]


app = Litestar([record, search], plugins=[gate.HeadgatePlugin()])
