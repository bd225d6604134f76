"""From the request that was served to the register: a real server, and the learner that stands in."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from headgate.asgi import HeadgateMiddleware, touch
from headgate.linking.observation import Observation
from headgate.register import Registry
from headgate.settings import Settings
from headgate.stores.documents import open_documents
from headgate.testing.servers import Server
from headgate.watch import Watcher, open_stream, watching
from headgate.watch.publishing import Published
from watch.stand_in import Alike, run

PATIENCE = 30.0
CANARY = "Mallory Canarius"
SECRET = "hg_canary_secret_of_key_number_"
CARD = "card-canary-4242"

POLICY = """
headgate: v1
policy: served
mode: enforce
on_store_error: closed
identify:
  key: header.authorization.bearer
  directory: {python: "watch.test_served:lookup"}
  traits: {ja4: header.x-ja4}
meters:
  docs: {distinct: app}
limits:
  life: {meter: requests, per: key, total: 3}
  docs: {meter: docs, per: key, total: 100}
linking:
  signals: [prompts, coverage, payment, address, software]
  states: {suspect: 0.70, linked: 0.97}
"""


def lookup(secret: str) -> Mapping[str, Any] | None:
    number = secret.removeprefix(SECRET)
    return {"key": f"k{number}", "org": f"o{number}", "traits": {"payment": CARD}} if number.isdigit() else None


async def chat(request: Request) -> JSONResponse:
    return JSONResponse({"answer": len(await request.body())})


async def doc(request: Request) -> JSONResponse:
    touch(request, f"doc:{request.path_params['number']}")
    return JSONResponse({})


async def plain(request: Request) -> JSONResponse:
    return JSONResponse({})


async def fails(request: Request) -> JSONResponse:
    raise RuntimeError(CANARY)


APP = Starlette(
    routes=[
        Route("/chat", chat, methods=["POST"]),
        Route("/docs/{number}", doc),
        Route("/plain/{number}/text", plain),
        Route("/fails", fails),
    ]
)


class Noting(Alike):
    """It shows the test what it saw."""

    seen: list[Observation] = []  # noqa: RUF012

    def saw(self, observation: Observation) -> None:
        self.seen.append(observation)
        super().saw(observation)


@pytest.fixture(params=["sqlite", "valkey"])
def said(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(watching, "linker", lambda: Noting)
    monkeypatch.setattr(Noting, "seen", [])
    file = tmp_path / "headgate.yaml"
    file.write_text(POLICY, encoding="utf-8")
    store = f"sqlite:///{tmp_path}/ledger.db"
    if request.param == "valkey":
        server: Server = request.getfixturevalue("valkey")
        store = server.url
    return Settings(policies=str(file), store=store, pepper="0" * 32, deadline_ms=5_000)


@asynccontextmanager
async def served(said: Settings, app: HeadgateMiddleware | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """The app behind a real server; and, beside a fleet's store, a watcher."""
    app = app or HeadgateMiddleware(APP, settings=said)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="on"))
    listening = socket.create_server(("127.0.0.1", 0))
    stop, documents = asyncio.Event(), open_documents(said.store)
    tasks = [asyncio.create_task(server.serve([listening]))]
    if said.store.startswith("redis"):
        watcher = Watcher(open_stream(said.store), Noting, Published(documents, policy(app)))
        await watcher.step()  # somebody watches, before the first request
        tasks.append(asyncio.create_task(watcher.run(stop)))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
            yield client
    finally:
        server.should_exit = True
        stop.set()
        await asyncio.gather(*tasks)
        await documents.close()


def policy(app: HeadgateMiddleware) -> Callable[[], Any]:
    return lambda: app._entry.gate.policy if app._entry is not None else None


async def asked(client: httpx.AsyncClient, n: int, path: str, **more: Any) -> int:
    headers = {"authorization": f"Bearer {SECRET}{n}", "x-ja4": "t13d_canary"}
    return (await client.request("POST" if more else "GET", path, headers=headers, **more)).status_code


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


def test_twenty_keys_with_one_bank_of_questions_are_a_group_in_the_register(said: Settings) -> None:
    async def story() -> None:
        async with served(said) as client:
            for n in range(20):
                said_ = {"messages": [{"role": "user", "content": f"Who is {CANARY}? Be number {n}."}]}
                assert await asked(client, n, "/chat", json=said_) == 200
            assert await asked(client, 99, "/chat", json={"prompt": "Something else entirely."}) == 200
            documents, keys = open_documents(said.store), {f"k{n}" for n in range(20)}
            async with asyncio.timeout(PATIENCE):
                while [set(one.members) for one in (await Registry(documents).read()).groups] != [keys]:
                    await asyncio.sleep(0.01)
            await documents.close()

    run(story())


@pytest.mark.parametrize("store", ["memory", "sqlite", "valkey"])
def test_what_was_found_is_in_force_and_its_keys_share_their_limit(
    store: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "linker", lambda: Alike)
    file = tmp_path / "headgate.yaml"
    shared = "limits:\n  shared: {meter: requests, per: group, total: 25}\n"
    file.write_text(POLICY.replace("limits:\n", shared) + "  channels: 1\n", encoding="utf-8")
    stores = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/ledger.db"}
    url = stores[store] if store in stores else request.getfixturevalue(store).url
    said = Settings(policies=str(file), store=url, pepper="0" * 32, deadline_ms=5_000)

    async def story() -> None:
        app = HeadgateMiddleware(APP, settings=said)
        async with served(said, app) as client:
            for n in range(20):
                assert await asked(client, n, "/chat", json={"prompt": "Who is it?"}) == 200
            assert app._entry is not None
            gate = app._entry.gate
            orgs = {f"o{n}" for n in range(20)}

            def grouped() -> bool:
                group = gate.tariffs.groups.of(gate.policy, "o0", gate.clock())
                return group is not None and group.orgs == orgs

            await until(grouped)
            answers = [await asked(client, n, "/chat", json={"prompt": f"And {n}?"}) for n in range(20)]
            assert (answers.count(200), answers.count(429)) == (5, 15), "what each had used, all have used together"

    run(story())


def test_what_is_seen_of_a_request(said: Settings) -> None:
    async def story() -> None:
        async with served(said) as client:
            assert await asked(client, 1, "/docs/7") == 200
            assert await asked(client, 1, "/plain/8/text") == 200
            assert await asked(client, 1, "/fails") == 500
            assert await asked(client, 1, "/docs/9") == 429
            assert (await client.get("/docs/9", headers={"authorization": "Bearer nobody"})).status_code == 401
            await until(lambda: len(Noting.seen) >= 4)

    run(story())
    one, two, three, four = Noting.seen
    assert [(each.key, each.org, each.served, each.denied) for each in Noting.seen] == [
        ("k1", "o1", True, False), ("k1", "o1", True, False), ("k1", "o1", False, False), ("k1", "o1", False, True),
    ]  # fmt: skip
    assert [[(first, many) for _, first, many in each.runs] for each in Noting.seen] == [[(7, 1)], [(8, 1)], [], []]
    assert {name for name, _ in one.traits} == {"payment", "address", "network", "client"}
    assert one.at <= two.at <= three.at <= four.at


def test_nothing_raw_is_stored_or_told(said: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> bytes:
        async with served(said) as client:
            for n in (1, 2):
                body = {"system": f"Serve {CANARY}.", "messages": [{"role": "user", "content": CANARY}]}
                assert await asked(client, n, "/chat", json=body) == 200
                assert await asked(client, n, "/fails") == 500
            await until(lambda: len(Noting.seen) >= 4)
        stream = open_stream(said.store)
        kept = [await stream.kept(place) or b"" for place in "ab"]
        found = [one.data for one in await stream.read({}, 1_000)]
        await stream.close()
        documents = open_documents(said.store)
        register = json.dumps((await Registry(documents).read())._asdict(), default=str)
        await documents.close()
        assert any(kept), "what was learnt was kept at the end"
        return b"".join([*kept, *found, register.encode()])

    with caplog.at_level("DEBUG", "headgate"):
        written = run(story())
    for path in tmp_path.iterdir():
        if path.name != "headgate.yaml":
            written += path.read_bytes()
    if not said.store.startswith("sqlite"):
        written += run(dumped(said.store))
    told = caplog.text.encode()
    for raw in (CANARY, CANARY.lower(), SECRET, CARD, "127.0.0.1", "t13d_canary", "python-httpx"):
        assert raw.encode() not in written, raw
        assert raw.encode() not in told or raw == "127.0.0.1", raw
    assert b"k1" in written, "the search finds what is there"


async def dumped(url: str) -> bytes:
    """All that the server holds."""
    from redis.asyncio import Redis

    client: Any = Redis.from_url(url)
    try:
        return b"".join([key + (await client.dump(key) or b"") for key in await client.keys("*")])
    finally:
        await client.aclose()


def test_a_policy_that_asks_for_it_later_is_looked_at_from_then_on(said: Settings) -> None:
    file = Path(said.policies)
    with_linking = file.read_text(encoding="utf-8")
    file.write_text(with_linking.partition("linking:")[0], encoding="utf-8")

    async def story() -> None:
        app = HeadgateMiddleware(APP, settings=said)
        entry = await app._started()
        assert entry.gate.eye is None
        file.write_text(with_linking, encoding="utf-8")
        service = next(iter(app._starts.values())).service
        assert service is not None
        assert await service.reload()
        assert entry.gate.eye is not None
        await app._stopped()
        assert entry.gate.eye is None

    run(story())
