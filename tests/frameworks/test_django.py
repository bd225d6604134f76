"""Django: views as classes, requests that came without ASGI, and its own test client."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from frameworks import apps
from frameworks.apps import settings
from headgate.frameworks import django as gate


def urls(*patterns: Any) -> Any:
    """The application with these URLs alone."""
    from django.core.asgi import get_asgi_application

    settings.ROOT_URLCONF = apps.Urls(urlpatterns=list(patterns))
    settings.MIDDLEWARE = []
    return get_asgi_application()


def test_a_class_based_view_is_charged_by_the_method_and_found_at_the_start(stage: Any) -> None:
    from django.http import HttpResponse
    from django.urls import include, path
    from django.utils.decorators import method_decorator
    from django.views import View

    @method_decorator(gate.spends("search", cost=6), name="get")
    @method_decorator(gate.spends("serach"), name="post")
    class Search(View):
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse("found")

        def post(self, request: Any) -> HttpResponse:
            return HttpResponse("found")

    app = gate.wrapped(urls(path("", include([path("search", Search.as_view())]))), gate=stage.gate())
    assert stage.statuses(app, "/search", "/search", "/search") == [200, 200, 429]
    failed = stage.lived(app)[0]
    assert failed["type"] == "lifespan.startup.failed"
    assert failed["message"].startswith("/search spends `serach`")


def test_a_whole_view_class_with_async_methods_may_be_decorated(stage: Any) -> None:
    from django.http import HttpResponse
    from django.urls import path
    from django.views import View

    class Search(View):
        async def get(self, request: Any) -> HttpResponse:
            return HttpResponse("found")

    app = gate.wrapped(urls(path("search", gate.spends("search", cost=6)(Search.as_view()))), gate=stage.gate())
    assert stage.statuses(app, "/search", "/search", "/search") == [200, 200, 429]


def test_djangos_own_test_client_knows_no_scope_and_pays_nothing(stage: Any) -> None:
    from django.http import HttpResponse
    from django.test import Client
    from django.urls import path

    @gate.spends("search", cost=6)
    def search(request: Any) -> HttpResponse:
        gate.charge(request, rows=1)
        gate.touch(request, "1")
        gate.spend(request, search=1)
        return HttpResponse("found")

    urls(path("search", search))
    assert [Client().get("/search").status_code for _ in range(4)] == [200] * 4


def test_a_view_that_really_fails_is_still_a_fault(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    from django.http import HttpResponse
    from django.urls import path

    @gate.spends("search", cost=5)
    def search(request: Any) -> HttpResponse:
        raise LookupError("no index")

    app = gate.wrapped(urls(path("search", search)), gate=stage.gate())
    with caplog.at_level(logging.ERROR):
        assert stage.statuses(app, "/search") == [500]
    assert any("no index" in (record.exc_text or "") for record in caplog.records)


def test_a_refusal_is_the_same_without_the_django_middleware(stage: Any) -> None:
    from django.http import HttpResponse
    from django.urls import path

    async def deep(request: Any) -> HttpResponse:
        await gate.aspend(request, search=7)
        return HttpResponse("deep")

    app = gate.wrapped(urls(path("deep", deep)), gate=stage.gate())
    answers = stage.ask(app, "/deep", "/deep")
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["violated-policies"] == ["searches"]
