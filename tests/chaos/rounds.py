"""One round of the promise that nothing is admitted beyond a limit: a crew asks for more than one org's limit grants.

Law: the apps' count decides, then the ledger's must be the same.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from chaos.crew import Crew
from chaos.house import LIMIT, SCARCE, house, secret_of

PLANS = (*SCARCE, "network")
TASKS = 64


def round_of(crew: Crew, store: str, file: Path, plan: str, name: str) -> None:
    """An org of the round's own: its scarce limit is a total, a rate, a quota, a rolling one, or its address's."""
    times = LIMIT * 3 // 2 // len(crew.members) + 1
    secret = secret_of(f"org-{name}", plan)
    # Where the org is the scarce one each worker is asked from an address of its own.
    same = plan == "network"
    addresses = [f"10.{sum(name.encode()) % 256}.{0 if same else n}.{len(name)}" for n in range(len(crew.members))]
    before = crew.served
    answers = crew.ask(secret, times, TASKS, addresses)
    assert crew.served - before == LIMIT, (name, plan, answers)
    assert answers == {200: LIMIT, 429: times * len(crew.members) - LIMIT}
    charged = asyncio.run(_charged(store, file, secret, addresses[0]))
    wanted = dict.fromkeys(("total", "quota", "rolling", *(["network"] if same else [])), LIMIT)
    assert {limit: charged[limit] for limit in wanted} == wanted


async def _charged(store: str, file: Path, secret: str, address: str) -> dict[str, int]:
    async with house(store, file) as one:
        return {limit: used for limit, (used, _) in (await one.quiet(secret, address)).items()}
