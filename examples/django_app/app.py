"""The world's time zones behind Django and headgate, in one file: settings, views, URLs and the ASGI application.

What a search costs stands above its view, before it runs; what it handed out is told when it is known, each row
counted (`charge`) and each record named (`touch`). The plans and limits stand in policy.yaml.
"""

from __future__ import annotations

import csv
import secrets
from pathlib import Path

from django.conf import settings

settings.configure(ROOT_URLCONF=__name__, SECRET_KEY=secrets.token_hex(), ALLOWED_HOSTS=["localhost", "127.0.0.1"])

from django.core.asgi import get_asgi_application  # noqa: E402  (Django reads its settings first)
from django.http import Http404, HttpRequest, HttpResponseBadRequest, JsonResponse  # noqa: E402
from django.http.response import HttpResponseBase  # noqa: E402
from django.urls import path  # noqa: E402

from headgate.frameworks import django as gate  # noqa: E402

Row = dict[str, str]

with (Path(__file__).parents[1] / "data_api" / "zones.csv").open(encoding="utf-8", newline="") as table:
    ROWS: dict[str, Row] = {row["id"]: row for row in csv.DictReader(table)}

PAGE_MOST = 25
"""Rows of the longest answer. The policy holds as many before it lets a request in."""


def handed_out(request: HttpRequest, rows: list[Row]) -> None:
    """Tell headgate what leaves with this answer."""
    gate.charge(request, rows=len(rows))
    gate.touch(request, [row["id"] for row in rows])


async def record(request: HttpRequest, number: str) -> HttpResponseBase:
    """One row, or 404, which takes no row away."""
    row = ROWS.get(number)
    if row is None:
        raise Http404("There is no such record.")
    handed_out(request, [row])
    return JsonResponse(row)


@gate.spends("search", cost=5)
def search(request: HttpRequest) -> HttpResponseBase:
    """The rows whose zone or country has `q` in its name, at most `limit` of them. Not async: it runs in a thread."""
    q, limit = request.GET.get("q", "").casefold(), request.GET.get("limit", "10")
    if not q or not (limit.isdecimal() and 1 <= int(limit) <= PAGE_MOST):
        return HttpResponseBadRequest(f"`q` is a text, `limit` a number from 1 to {PAGE_MOST}.")
    found = [row for row in ROWS.values() if q in f"{row['zone']} {row['country_name']}".casefold()]
    handed_out(request, found[: int(limit)])
    return JsonResponse(found[: int(limit)], safe=False)


urlpatterns = [path("records/<str:number>", record), path("search", search)]

app = gate.wrapped(get_asgi_application())
