"""A watcher in a process of its own, with the learner that stands in: `child.py STORE`. It publishes in the store's
register and says on standard output when it leads."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from headgate.policy.compiled import Linking, Policy
from headgate.quota.identify import Identify
from headgate.stores.documents import open_documents
from headgate.watch import Watcher, open_stream, watcher
from headgate.watch.publishing import Published
from watch.stand_in import Alike


async def main(store: str) -> None:
    policy = Policy("doc", "0", "enforce", Identify(), (), linking=Linking(linked=970_000))
    findings = Published(open_documents(store), lambda: policy)
    watching = Watcher(open_stream(store), Alike, findings)
    told = False
    while True:
        busy = not await watching._stepped()
        if watching.leading and not told:
            told = True
            print("leads", flush=True)
        await asyncio.sleep(0 if busy else 0.01)


if __name__ == "__main__":
    watcher.SAVE_EVERY = 50_000  # type: ignore[misc]
    asyncio.run(main(sys.argv[1]))
