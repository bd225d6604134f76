"""One app's headgate, put together from its settings and kept fresh while the app runs.

Law: what is served by is always a whole policy and a whole directory, the last good ones. A file that breaks while
the app runs changes nothing but `degraded` and the log; a file that is broken at the start stops the start. Nothing
is opened before `start`, and `start` needs no network unless the store is on one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from headgate.clock import Clock, wall_clock
from headgate.directory import Directory, open_directory
from headgate.errors import HeadgateError, IdentityError, PolicyError, SettingsError, StoreError
from headgate.gate import Gate
from headgate.policy import load, sources
from headgate.policy.compiled import Policy
from headgate.policy.keeping import Keeper
from headgate.quota.command import Look
from headgate.register import Following
from headgate.settings import Settings
from headgate.stores import Store, fitness, keeping, open_store
from headgate.stores.documents import Documents, open_documents
from headgate.stores.refusals import RefusalsStore
from headgate.stores.slices import SlicedStore
from headgate.telemetry import events, log_to
from headgate.watch import Watching, beside, watches

Signature = tuple[tuple[str, int, int, int], ...]
"""What is known of files without reading them: name, inode, size, time of change (nanoseconds)."""


START_PATIENCE = 5.0
"""Seconds that a start waits for the store's first answer before it says so and goes on."""

START_PAUSE = 0.2
"""Seconds until a store that did not answer in time is asked once more at the start."""


class Service:
    """A gate and what keeps it fresh: policy files and keys are looked at every `reload_seconds`, and on SIGHUP.

    `degraded` says why the last reload was not taken, `stale` why the groups that people or the detector have linked
    could not be read the last time; "" while all is well. A reload that is taken keeps the usage of everybody:
    balances lie under the limits' ids. `documents`: where those groups are kept beside the ledger, once it is
    prepared; None for a store that keeps none.

    >>> import asyncio, tempfile
    >>> from pathlib import Path
    >>> from headgate.settings import Settings
    >>> async def first_decision() -> str:
    ...     text = "headgate: v1\\npolicy: doc\\nmode: enforce\\non_store_error: closed\\n"
    ...     text += "identify: {anonymous: {per: ip}}\\nlimits: {rpm: {meter: requests, per: ip, rate: 1/min}}\\n"
    ...     with tempfile.TemporaryDirectory() as folder:
    ...         file = Path(folder, "headgate.yaml")
    ...         file.write_text(text)
    ...         service = Service(Settings(policies=str(file), store="memory://", pepper="0" * 32))
    ...         await service.start()
    ...         nobody = await service.gate.identify(None)
    ...         decision = await service.gate.admit(Call(nobody, network="192.0.2.7"))
    ...         await service.stop()
    ...         return decision.action.value
    >>> from headgate.quota.facts import Call
    >>> asyncio.run(first_decision())
    'allow'
    """

    def __init__(
        self, settings: Settings | None = None, *, environ: Mapping[str, str] | None = None, clock: Clock = wall_clock
    ) -> None:
        self.settings = settings if settings is not None else Settings()
        self.degraded = ""
        self.documents: Documents | None = None
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._gate: Gate | None = None
        self._keeper: Keeper | None = None
        self._task: asyncio.Task[None] | None = None
        self._asked: asyncio.Task[bool] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._following: Following | None = None
        self._followed: asyncio.Task[None] | None = None
        self._listening: asyncio.AbstractEventLoop | None = None
        self._before: Any = None
        self._reloading = asyncio.Lock()
        self._standing_in = False
        self._watching: Watching | None = None
        self._seen: Signature = ()
        self._taken: Signature = ()

    @property
    def gate(self) -> Gate:
        """The gate. Raises IdentityError before `prepare` or `start`."""
        if self._gate is None:
            raise IdentityError("headgate is not started: `await service.start()` comes first")
        return self._gate

    def prepare(self) -> Gate:
        """Read the policy and the keys and put the gate together; nothing runs yet and no store is opened.

        Raises PolicyError, IdentityError or StoreError, each with what to mend.
        """
        if self._gate is None:
            settings = self.settings
            self._keeper = keeping(settings.store)
            self._seen = self._taken = self._signature()
            policy = self._policy()
            peppers = self._peppers(policy.mode)
            store = open_store(
                settings.store, clock=self._clock, deadline=self._deadline(), durability=settings.durability
            )
            self._gate = Gate(
                policy,
                _fronted(store) if self._keeper is None else store,
                peppers=peppers,
                directory=open_directory(policy.identify.directory, base=self._base(), peppers=peppers),
                clock=self._clock,
                deadline=self._deadline(),
                address="" if settings.store.startswith("memory:") else settings.store,
            )
            if self._keeper is None:
                self.documents = open_documents(settings.store, clock=self._clock, durability=settings.durability)
                self._following = Following(self.documents, self._gate.tariffs.groups)
        return self._gate

    async def start(self) -> None:
        """Get ready to decide, on the running event loop; a second call does nothing."""
        if self._task is not None and not self._task.get_loop().is_closed():
            return
        if self.settings.log:
            log_to(self.settings.log, self.settings.log_level)
        self.settings.warn()
        policy = self.prepare().policy
        # This loop's own: the service may have been started on another before, which is closed by now.
        self._reloading, self._asked = asyncio.Lock(), None
        self._task = asyncio.get_running_loop().create_task(self._kept_fresh())
        if self._following is not None:
            self._followed = asyncio.get_running_loop().create_task(self._following.follow())
        self._listen()
        self._watch()
        events.info(
            "headgate.started", policy=policy.name, version=policy.version, mode=policy.mode,
            store=self.settings.store.partition("://")[0], limits=len(policy.limits),
        )  # fmt: skip
        if self._keeper is not None:
            events.warning("headgate.store.weaker", store=self._keeper.name, what=list(self._keeper.weaker))
        if policy.not_enforced:
            events.warning("headgate.not_enforced", policy=policy.name, what=list(policy.not_enforced))
        # Behind the requests: the first of them waits for its own deadline and for nothing else.
        self._looking = asyncio.get_running_loop().create_task(self._looked())

    async def _looked(self) -> None:
        """Ask the store for nothing, so that a wrong address is told at the start and not by the first requests; then
        look whether it is fit to keep a ledger, and tell what is wrong with it.

        It stops no start: what happens without the store is the policy's to say, and the store may yet come.
        """
        try:
            async with asyncio.timeout(START_PATIENCE):
                await self._asked_for_nothing()
                settings = self.settings
                report = await fitness.look(
                    settings.store, durability=settings.durability, deadline=self._deadline(), thorough=False
                )
                fitness.tell(report.findings)
        except (StoreError, TimeoutError) as fault:
            reason = str(fault) or f"no answer within {START_PATIENCE:g} s"
            events.error("headgate.store.error", reason=reason, transient=getattr(fault, "transient", True), ways=[])

    async def _asked_for_nothing(self) -> None:
        """The first connection takes longer than a request would wait: it is made before one comes."""
        while True:
            try:
                await self.gate.store.transact((Look(()),))
                return
            except StoreError as fault:
                if not fault.unknown:
                    raise
            await asyncio.sleep(START_PAUSE)

    async def stop(self) -> None:
        """Settle what is under way and close the store. It can be started again."""
        self._deaf()
        tasks = (self._task, self._asked, self._looking, self._followed)
        under_way = [task for task in tasks if task is not None]
        self._task = self._asked = self._looking = self._followed = None
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        watching, self._watching = self._watching, None
        if watching is not None:
            self.gate.eye = None
            await asyncio.to_thread(watching.stop)
        if self.documents is not None:
            await self.documents.close()
        if self._gate is not None:
            await self._gate.close()

    @property
    def stale(self) -> str:
        """Why the groups in force may be out of date; "" while all is well."""
        return "" if self._following is None else self._following.degraded

    async def regroup(self) -> bool:
        """Take the groups as they are linked now, not when the next second has passed; whether they had changed."""
        return self._following is not None and await self._following.look()

    async def reload(self) -> bool:
        """Take the files as they are now; False if any is broken, and of that the last good one stays.

        A policy that is taken decides from the next request on; requests under way end as they were begun. Reading
        is done in a thread and one reload at a time; taking is one step on the event loop.
        """
        async with self._reloading:
            # Before the reading: a change during it is a change for the next look.
            self._taken = await asyncio.to_thread(self._signature)
            fresh, faults = await asyncio.to_thread(self._read)
            for fault in faults:
                self._rejected(fault)
            self.degraded = "\n".join(str(fault) for fault in faults)
            if fresh is not None:
                self._take(fresh)
            return not faults

    def _read(self) -> tuple[tuple[Policy, Directory] | None, list[HeadgateError]]:
        """The keys and the policy as their files have them, each by itself: a typo in the policy revives no key."""
        gate, faults = self.gate, []
        try:
            if gate.directory is not None:
                gate.directory.refresh()
        except HeadgateError as fault:
            faults.append(fault)
        try:
            policy = self._policy()
            if policy.mode != "disabled":
                self._with_pepper()
            directory = gate.directory
            if directory is None or policy.identify.directory != gate.policy.identify.directory:
                directory = open_directory(policy.identify.directory, base=self._base(), peppers=gate.peppers)
        except HeadgateError as fault:
            return None, [*faults, fault]
        return (policy, directory), faults

    def _take(self, fresh: tuple[Policy, Directory]) -> None:
        policy, directory = fresh
        self.gate.directory = directory
        if policy.version != self.gate.policy.version:
            events.info("headgate.policy.taken", policy=policy.name, version=policy.version, mode=policy.mode)
            self.gate.policy = policy
            self._watch()

    def _watch(self) -> None:
        """Have requests looked at, once there is a policy that asks for linked keys. What it asks for later is read
        anew with each policy."""
        if self._watching is None and self._keeper is None and watches(self.gate.policy):
            # Of documents in this process alone there is one; of others each thread opens its own.
            mine = self.documents if self.settings.store.startswith("memory:") else None
            self._watching = beside(self.settings, self.gate.peppers[0], lambda: self.gate.policy, mine)
            if self._watching is not None:
                self._watching.start()
                self.gate.eye = self._watching.eye

    def _rejected(self, fault: HeadgateError) -> None:
        faults = fault.problems if isinstance(fault, PolicyError) and fault.problems else (fault,)
        serving = self.gate.policy.version
        events.error("headgate.policy.rejected", faults=len(faults), first=str(faults[0]), serving=serving)

    def _peppers(self, mode: str) -> tuple[bytes, ...]:
        """The peppers; for a policy that is disabled, one drawn for the moment where there is none."""
        try:
            peppers = self.settings.peppers()
        except SettingsError:
            if mode != "disabled":
                raise
            self._standing_in = True
            return (secrets.token_bytes(32),)
        if self._keeper is not None and len(peppers) > 1:
            raise SettingsError(
                f"HEADGATE_PEPPER_PREVIOUS: {self._keeper.name} cannot move usage from one pepper to the next; keep "
                "the pepper as it is, or keep usage in SQLite or Redis"
            )
        return peppers

    def _with_pepper(self) -> None:
        """Raises SettingsError where the pepper in use was drawn for the moment: nothing may be kept under it."""
        if self._standing_in:
            raise SettingsError(
                "this policy needs a pepper, and there was none at the start: set it, then start anew"
            )

    def _policy(self) -> Policy:
        settings = self.settings
        return load(settings.policy_paths(), environ=self._environ, mode=settings.mode, store=self._keeper)

    def _deadline(self) -> float | None:
        return None if self.settings.deadline_ms is None else self.settings.deadline_ms / 1_000

    def _base(self) -> Path:
        """The folder that file names in the policy are relative to: the first policy file's."""
        first = Path(self.settings.policy_paths()[0])
        return first if first.is_dir() else first.parent

    async def _kept_fresh(self) -> None:
        pause = self.settings.reload_seconds
        while pause > 0:
            await asyncio.sleep(pause)
            now = await asyncio.to_thread(self._signature)
            # Half a file is no policy: what changes is taken when it has not changed for one more look.
            settled, self._seen = now == self._seen, now
            if settled and now != self._taken:
                await self.reload()

    def _signature(self) -> Signature:
        files: list[Path] = []
        # A folder that is gone, or a link that leads nowhere: the reload says so.
        with suppress(OSError, PolicyError):
            files += sources(self.settings.policy_paths())
        if self._gate is not None and self._gate.directory is not None:
            files += self._gate.directory.files
        return tuple([_glance(file) for file in files])

    def _listen(self) -> None:
        """Reload on SIGHUP, unless the host has a use of its own for it or this is not its main thread."""
        if not hasattr(signal, "SIGHUP"):
            return
        before = signal.getsignal(signal.SIGHUP)
        # Ignored, as under nohup: a hangup then still ends nothing, and whoever sends the signal means a reload.
        if before not in {signal.SIG_DFL, signal.SIG_IGN}:
            return
        # Not the main thread, or a loop that knows no signals: then files are watched, and that is all.
        with suppress(RuntimeError, ValueError, NotImplementedError):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)
            self._listening, self._before = loop, before

    def _hung_up(self) -> None:
        self._asked = asyncio.get_running_loop().create_task(self.reload())

    def _deaf(self) -> None:
        if self._listening is not None and not self._listening.is_closed():
            self._listening.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, self._before)
        self._listening = None


def _fronted(store: Store) -> Store:
    """A store of headgate's own as a worker asks it: slices spare most questions where the policy has any; and where
    each question goes over a wire, what was refused a moment ago is not asked again."""
    if store.immediate:
        return store
    sliced = SlicedStore(store)
    return RefusalsStore(sliced) if store.punctual else sliced


def _glance(file: Path) -> tuple[str, int, int, int]:
    try:
        seen = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), seen.st_ino, seen.st_size, seen.st_mtime_ns
