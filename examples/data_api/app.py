"""A read-only data API behind headgate: the world's time zones, by number and by search.

What is counted is not only requests but rows handed out (`charge(request, rows=n)`): one search for twenty rows takes
as much of the table away as twenty look-ups of one. The app knows nothing of limits; those stand in policy.yaml.

The rows (zones.csv) are made of `zone.tab` and `iso3166.tab` of the IANA time zone database, release 2026f, which is
in the public domain.
"""

from __future__ import annotations

import csv
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headgate import HeadgateMiddleware, charge

PAGE_MOST = 25
"""Rows of the longest answer. The policy holds as many before it lets a request in."""

Row = dict[str, str | int | float]


def _read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {**row, "id": int(row["id"]), "latitude": float(row["latitude"]), "longitude": float(row["longitude"])}
            for row in csv.DictReader(file)
        ]


def _text(row: Row) -> str:
    """All that is searched of a row."""
    parts = [str(row[name]) for name in ("zone", "country", "country_name", "comment")]
    return " ".join(parts).casefold().replace("_", " ")


ROWS = _read(Path(__file__).with_name("zones.csv"))
BY_ID = {row["id"]: row for row in ROWS}
TEXTS = [(_text(row), row) for row in ROWS]


def problem(status: int, title: str) -> Response:
    """An error as RFC 9457 writes it, like headgate's own refusals."""
    return JSONResponse({"title": title, "status": status}, status, media_type="application/problem+json")


async def record(request: Request) -> Response:
    """GET /records/{id}: one row, or 404, which takes no row away."""
    row = BY_ID.get(request.path_params["id"])
    if row is None:
        return problem(404, "There is no such record.")
    charge(request, rows=1)
    return JSONResponse(row)


async def search(request: Request) -> Response:
    """GET /search?q=&limit=: the rows that hold every word of `q`, at most `limit` of them."""
    words = request.query_params.get("q", "").casefold().replace("_", " ").split()
    limit = request.query_params.get("limit", "10")
    if not words:
        return problem(400, "`q` holds no word to search for.")
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 4 and 1 <= int(limit) <= PAGE_MOST):
        return problem(400, f"`limit` is not a whole number from 1 to {PAGE_MOST}.")
    matching = [row for text, row in TEXTS if all(word in text for word in words)]
    found = matching[: int(limit)]
    charge(request, rows=len(found))
    return JSONResponse({"total": len(matching), "rows": found})


def build() -> Starlette:
    """The app behind headgate, which finds its policy, store and pepper in the environment."""
    routes = [Route("/records/{id:int}", record), Route("/search", search)]
    return Starlette(routes=routes, middleware=[Middleware(HeadgateMiddleware)])


app = build()
