"""The demo's callers: OpenAI's own client, many at a time a key, who want more than they may have.

A caller notes what it sees: an answer, a refusal and the limits that it names, a broken connection, a fault. It
judges nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai
from demo_sheet import Refusals, Sheet
from demo_stage import Unready
from demo_tally import Account, Seen


@dataclass(frozen=True)
class Org:
    """A customer's org as it is cast: its plan, its keys, and in one sentence what it is there to show."""

    name: str
    plan: str
    keys: int
    role: str


CAST = (
    Org("alder", "build", 2, "each key has its own rpm; the org's tokens are shared"),
    Org("birch", "scale", 1, "the largest plan, and more at once than it grants"),
    Org("cedar", "free", 1, "one customer with dogwood, by their own declaration"),
    Org("dogwood", "free", 2, "so the two share one budget instead of having two"),
)
"""Who calls. The policy declares cedar and dogwood to be one customer."""

LANES = {"free": 2, "build": 3, "scale": 5}
"""Requests that one key tries to have under way: more than its plan's `streams` grants."""

PROMPTS = (
    "Who opens the gate in the morning?",
    "What does the book say when the river is low?",
    "The keeper and the two brothers, in one sentence.",
    "A leak in the weir: what is to be done?",
)

IMPATIENCE = 0.15
"""Seconds after which a refused client asks again. Deliberately rude: `Retry-After` is not what is shown here."""

LEAVES = 7
"""Every seventh turn of a lane is a stream that its client leaves after three chunks."""

PATIENCE = 30.0
"""Seconds that a client waits for an answer."""


@dataclass
class Caller:
    """One key with its secret, what its clients have seen so far, and what headgate told it of itself."""

    account: Account
    secret: str = field(repr=False)
    usage: list[dict[str, Any]]
    seen: Seen = field(default_factory=Seen)

    async def drive(self, url: str, ended: asyncio.Event) -> None:
        """All that the key's clients do until `ended`; each finishes the request that it is in."""
        # Straight to the server: a proxy that this machine may be set up with has no business on the loopback.
        transport = openai.DefaultAsyncHttpxClient(trust_env=False)
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key=self.secret, max_retries=0, timeout=PATIENCE, http_client=transport
        ) as client:
            lanes = LANES[self.account.plan]
            await asyncio.gather(*(self._lane(client, number, ended) for number in range(lanes)))

    async def _lane(self, client: openai.AsyncOpenAI, turn: int, ended: asyncio.Event) -> None:
        while not ended.is_set():
            turn += 1
            messages = [{"role": "user", "content": PROMPTS[turn % len(PROMPTS)]}]
            sent = time.time()
            try:
                if turn % 2:
                    await self._streamed(client, messages, leaves=turn % LEAVES == 0)
                else:
                    await self._whole(client, messages)
                continue
            except openai.APIStatusError as refusal:
                self._refused(refusal, sent)
            except openai.APIConnectionError:
                self.seen.unanswered += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), IMPATIENCE)

    async def _whole(self, client: openai.AsyncOpenAI, messages: list[Any]) -> None:
        answer = await client.chat.completions.create(model="brook-1", messages=messages)
        self.seen.answered.add(str(answer._request_id))

    async def _streamed(self, client: openai.AsyncOpenAI, messages: list[Any], leaves: bool) -> None:
        chunks = await client.chat.completions.create(model="brook-2", messages=messages, stream=True)
        self.seen.answered.add(chunks.response.headers["x-request-id"])
        read = 0
        async with chunks:
            try:
                async for _ in chunks:
                    read += 1
                    if leaves and read == 3:
                        self.seen.left += 1
                        return
            except openai.APIError:
                self.seen.broken += 1

    def _refused(self, refusal: openai.APIStatusError, sent: float) -> None:
        """Note a refusal under each limit that it names; anything but a 429 is a fault."""
        if refusal.status_code != 429:
            fault = f"{refusal.status_code} {refusal.message}"[:200]
            self.seen.faults[fault] = self.seen.faults.get(fault, 0) + 1
            return
        self.seen.refused += 1
        assert isinstance(refusal.body, dict), "a refusal is an error of OpenAI's API, with what headgate adds to it"
        for limit in refusal.body["violated-policies"]:
            so_far = self.seen.refusals.get(limit, Refusals())
            self.seen.refusals[limit] = so_far + Refusals(1, time.time(), sent)

    async def ask_usage(self, client: httpx.AsyncClient) -> None:
        """Ask headgate what this key has used. Without an answer it keeps what it was told before."""
        with suppress(httpx.TransportError):
            answer = await client.get("/headgate/v1/usage", headers=bearer(self.secret))
            if answer.status_code == 200:
                self.usage = answer.json()["limits"]


async def introduced(client: httpx.AsyncClient, sheet: Sheet, secret: str) -> Caller:
    """A key's account of itself, as headgate gives it. Raises Unready when it gives none."""
    try:
        answer = await client.get("/headgate/v1/usage", headers=bearer(secret))
    except httpx.TransportError as fault:
        raise Unready(f"a new key's usage was not answered: {type(fault).__name__}") from None
    if answer.status_code != 200:
        raise Unready(f"a new key's usage was answered with {answer.status_code} {answer.text[:200]}")
    me = answer.json()
    return Caller(Account(me["key"], me["org"], me["plan"], sheet.group(me["org"])), secret, me["limits"])


def bearer(secret: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"authorization": f"Bearer {secret}"}


def used(callers: Sequence[Caller]) -> dict[tuple[str, str], int]:
    """What the ledger has as used, by (limit, subject)."""
    return {
        (row["limit"], caller.account.subject(row["per"])): row["used"] for caller in callers for row in caller.usage
    }
