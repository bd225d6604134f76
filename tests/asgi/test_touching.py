"""How many different things were handed out: what the request names, and what the app touches."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi.upstream import START, Client, held, rested, total
from headgate.asgi import HeadgateMiddleware, touch
from headgate.errors import IdentityError
from headgate.quota.gcra import Rate
from headgate.quota.match import Limit
from headgate.quota.meter import BUILT_IN_METERS, Meter

DOCS = Meter("docs", "distinct.app")
PARCELS = Meter("parcels", "distinct.query.id")


def touching(*batches: Any, status: int = 200, meter: str = "") -> Any:
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        for things in batches:
            touch(scope, things, meter)
        await send({**START, "status": status})
        await send({"type": "http.response.body", "body": b"x"})

    return behind


def test_a_thing_counts_once_however_often_it_is_handed_out(stage):
    app = stage.app(total(DOCS), behind=touching("doc:1", ["doc:1", "doc:2"], iter(["doc:3"])))
    for _ in range(3):
        assert stage.ask(app).status == 200
    assert held(stage, app) == {"docs": (3, 0)}
    app.app = touching([f"doc:{n}" for n in range(5)])
    stage.ask(app)
    assert held(stage, app) == {"docs": (5, 0)}


def test_two_keys_of_one_org_share_what_the_org_has_seen(stage):
    app = stage.app(Limit("docs", DOCS, ("org",), {"": total(DOCS).values[""]}), behind=touching(["a", "b"]))
    for key in ("alice", "bob"):
        stage.ask(app, key=key)
    assert held(stage, app) == {"docs": (2, 0)}


def test_an_answer_that_failed_has_handed_out_nothing(stage):
    app = stage.app(total(DOCS), behind=touching("doc:1", status=404))
    stage.ask(app)
    assert held(stage, app) == {"docs": (0, 0)}


@pytest.mark.parametrize(
    ("named", "things"),
    [
        ("[1, 2, 2, 3]", 3),
        ('["a", 1, "1", true, null, ""]', 3),
        ('{"a": 1}', 1),
        ('[{"a": 1, "b": 2}, {"b":2,"a":1}, [1]]', 2),
        ("7", 1),
        ("[]", 0),
        ("null", 0),
    ],
)
def test_a_body_may_name_several_things_and_none_is_free_for_being_written_oddly(stage, named, things):
    app = stage.app(total(Meter("docs", "distinct.body.ids")), behind=touching())
    for _ in range(2):
        assert stage.ask(app, method="POST", body=[b'{"ids": %s}' % named.encode()]).status == 200
    assert held(stage, app) == ({"docs": (things, 0)} if things else {})


def test_a_list_that_names_more_than_is_left_is_refused_whole(stage):
    app = stage.app(total(Meter("docs", "distinct.body.ids"), 3), behind=touching())
    bodies = [b'{"ids": [1, 2]}', b'{"ids": [3, 4]}', b'{"ids": [2, 3]}']
    assert [stage.ask(app, method="POST", body=[body]).status for body in bodies] == [200, 429, 200]
    assert held(stage, app) == {"docs": (3, 0)}


def test_what_the_request_names_counts_when_it_was_handed_out(stage):
    app = stage.app(total(PARCELS, 2), behind=touching())
    ids = [b"id=1", b"id=2", b"id=1", b"id=2", b"id=3", b"id=1", b""]
    assert [stage.ask(app, query_string=one).status for one in ids] == [200, 200, 200, 200, 429, 200, 200]
    assert held(stage, app) == {"parcels": (2, 0)}
    app = stage.app(total(PARCELS, 2), behind=touching(status=404))
    assert [stage.ask(app, query_string=one).status for one in ids] == [404] * 7
    assert held(stage, app) == {"parcels": (0, 0)}


def test_an_id_that_comes_twice_and_differs_is_a_bad_request(stage):
    app = stage.app(total(PARCELS))
    assert stage.ask(app, query_string=b"id=1&id=2").status == 400


def test_a_meter_that_counts_no_things_is_told_with_what_was_meant(stage):
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(IdentityError, match="did you mean `docs`"):
            touch(scope, "doc:1", "doc")
        with pytest.raises(TypeError, match="named by a text"):
            touch(scope, [1, 2])
        await touching()(scope, receive, send)

    app = stage.app(total(DOCS), behind=behind)
    assert stage.ask(app).status == 200
    assert held(stage, app) == {"docs": (0, 0)}


def test_which_of_two_meters_is_meant_must_be_said(stage):
    pages = replace(DOCS, name="pages")

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(IdentityError, match="which of several"):
            touch(scope, "doc:1")
        touch(scope, "doc:1", "pages")
        await touching()(scope, receive, send)

    app = stage.app(total(DOCS), total(pages), behind=behind)
    assert stage.ask(app).status == 200
    assert held(stage, app) == {"docs": (0, 0), "pages": (1, 0)}


def test_without_a_headgate_nothing_is_touched(stage):
    touch(stage.scope(), "doc:1")


def bounded(monkeypatch: Any, at_once: int, many: int, kept: int) -> None:
    """So many things can be told at once, are settled while a stream lives, and are kept until they are."""
    for where in ("gauge", "held", "watched"):
        monkeypatch.setattr(f"headgate.asgi.metering.{where}.MOST_THINGS", at_once)
    monkeypatch.setattr("headgate.asgi.metering.held.MANY_THINGS", many)
    monkeypatch.setattr("headgate.asgi.metering.gauge.KEPT_THINGS", kept)


@pytest.mark.parametrize("most", [1_000, 25, 12, 3])
def test_more_things_than_can_be_named_at_once_count_once_all_the_same(stage, monkeypatch, most):
    bounded(monkeypatch, at_once=10, many=8, kept=100)
    app = stage.app(total(DOCS, most), behind=touching([f"doc:{n}" for n in range(25)]))
    assert [stage.ask(app).status for _ in range(4)] == ([200] * 4 if most > 25 else [200, 429, 429, 429])
    assert held(stage, app) == {"docs": (25, 0)}


def test_more_things_than_can_be_kept_are_charged_as_they_come(stage, monkeypatch):
    bounded(monkeypatch, at_once=10, many=8, kept=20)
    app = stage.app(total(DOCS), behind=touching([f"doc:{n}" for n in range(25)]))
    for charged in (25, 30):
        stage.ask(app)
        assert held(stage, app) == {"docs": (charged, 0)}


def export(count: int, times: int = 1) -> Any:
    """An endpoint that streams documents and touches each as it goes."""

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-type", b"text/event-stream")]})
        for _ in range(times):
            for n in range(count):
                touch(scope, f"doc:{n}")
                await send({"type": "http.response.body", "body": b"data: doc\n\n", "more_body": True})
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})

    return behind


def streamed(stage: Any, app: Any) -> int:
    async def story() -> int:
        client = Client()
        await app(stage.scope(), client.receive, client.send)
        await rested()
        return client.text.count(b"doc\n")

    return asyncio.run(story())


@pytest.mark.parametrize("most", [1, 2, 9, 10, 30])
def test_an_export_is_cut_after_the_last_new_thing_that_is_granted(stage, most):
    cut = replace(DOCS, overrun="cut", reserve=min(5, most))
    app = stage.app(total(cut, most), behind=export(40))
    assert most <= streamed(stage, app) <= most + 1
    used, still = held(stage, app)["docs"]
    assert most <= used <= most + 1 and still == 0


def test_an_export_of_what_was_seen_before_costs_nothing_and_is_not_cut(stage):
    cut = replace(DOCS, overrun="cut", reserve=5)
    app = stage.app(total(cut, 50), behind=export(40))
    assert [streamed(stage, app) for _ in range(3)] == [40, 40, 40]
    assert held(stage, app) == {"docs": (40, 0)}


def test_a_long_export_is_settled_in_parts_that_can_be_named(stage, monkeypatch):
    bounded(monkeypatch, at_once=10, many=8, kept=10)
    app = stage.app(total(DOCS), behind=export(100, times=2))
    streamed(stage, app)
    assert held(stage, app) == {"docs": (100, 0)}


def test_rates_do_not_count_things(stage):
    with pytest.raises(ValueError):
        from headgate.quota.command import Demand

        Demand((b"s", "docs"), Rate(1, 60_000_000), 0, True, things=(b"12345678",))


def test_the_gate_of_a_request_without_such_a_limit_takes_no_notice(stage, limits):
    only_posts = replace(total(DOCS), applies=lambda call: call.method == "POST")
    gate = stage.gate(only_posts, total(BUILT_IN_METERS["bytes_out"], name="out"))
    app = HeadgateMiddleware(touching("doc:1"), gate=gate)
    stage.ask(app)
    assert held(stage, app) == {"out": (1, 0)}
    stage.ask(app, method="POST")
    assert held(stage, app)["docs"] == (1, 0)


# --- what names nothing


def test_a_limit_whose_source_is_never_there_is_told_of_once(stage, caplog):
    wrong = Meter("docs", "distinct.path.doc_id")
    limits = (
        total(wrong, applies=lambda call: "/docs/7" in call.paths),
        total(wrong, name="elsewhere", applies=lambda call: False),
        total(PARCELS),
    )
    routes = [Route("/docs/{id}", touched_nothing), Route("/", touched_nothing)]
    app = Starlette(routes=routes, middleware=[Middleware(HeadgateMiddleware, gate=stage.gate(*limits))])
    stage.ask(app, "/none", query_string=b"")
    assert "things.unnamed" not in caplog.text  # no route, so no parameters
    stage.ask(app, query_string=b"id=1")
    assert "things.unnamed" not in caplog.text  # one limit does not meet it, and the other has what it counts
    for _ in range(3):
        assert stage.ask(app, "/docs/7", query_string=b"id=1").status == 200
    assert caplog.text.count("things.unnamed") == 1
    assert '"limit": "docs", "source": "path.doc_id", "route": "/docs/{id}"' in caplog.text
    for _ in range(2):
        stage.ask(app)
    assert caplog.text.count("things.unnamed") == 2  # now of the parcels, too


async def touched_nothing(request: Request) -> PlainTextResponse:
    return PlainTextResponse("x")
