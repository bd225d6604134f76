"""A key, its group and its address lie in three slots of a cluster: nobody is told of that, and what one of them
refuses is charged in none."""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections import Counter
from pathlib import Path

import pytest

from chaos.house import house, secret_of
from headgate.stores.redis.script.codec import tag_of
from headgate.testing.clusters import SLOTS, Cluster

LIMIT = 15

POLICY = """\
headgate: v1
policy: slots
mode: enforce
on_store_error: closed
identify: {{key: [header.x-api-key], directory: "python:chaos.house:whose", anonymous: refuse}}
plans: [total]
limits:
  key:     {{meter: requests, per: key, total: {key}}}
  group:   {{meter: requests, per: group, total: {group}}}
  network: {{meter: requests, per: ip, total: {network}}}
  streams: {{meter: streams, per: key, max: 10k}}
linking:
  affiliated:
    - {{orgs: [north, south], reason: one owner by their own declaration, until: 2036-12-31}}
"""

PLENTY = {"key": "1M", "group": "1M", "network": "1M"}


@pytest.mark.parametrize("scarce", sorted(PLENTY))
def test_fl_10_three_slots_are_one_decision_and_what_one_refuses_is_charged_in_none(
    cluster: Cluster, tmp_path: Path, scarce: str
) -> None:
    file, secret = tmp_path / "headgate.yaml", secret_of("north")
    file.write_text(POLICY.format(**PLENTY | {scarce: LIMIT}))

    async def story() -> None:
        async with house(cluster.url, file) as one:
            demands = await one.demands(secret)
            assert len({crc_hqx(tag_of(demand.place[0]), 0) % SLOTS for demand in demands}) == 3
            answers = await one.asked(secret, 200, 50)
            assert answers == Counter({200: LIMIT, 429: 200 - LIMIT})
            found = await one.quiet(secret)
            assert found == dict.fromkeys(PLENTY, (LIMIT, 0)) | {"streams": (0, 0)}
            assert one.origin.served == LIMIT

    asyncio.run(story())
