"""The key directory that the app brings: a function that is asked whose a secret is.

Law: the app is asked once for a secret that many requests bring at once, and again when five seconds have passed;
what it answers is checked like a file's, and what it may not answer is told without repeating it. Nothing is kept
under the secret: what is remembered lies under its keyed digest.

The function takes the secret (a str) and answers None for nobody's, a `Principal`, or a mapping with `key` and `org`
and any of `plan anchor accepted traits claims tags`. An `async def` is awaited on the event loop. Any other is called
in a thread, so that one that asks a database does not stop every request; several threads may call it at once.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import Any

from headgate.directory import record
from headgate.directory.record import Unfit
from headgate.errors import DirectoryUnavailable, IdentityError
from headgate.nearest import suggestion
from headgate.quota.facts import Group, Principal
from headgate.quota.identify import keyed, plausible
from headgate.telemetry import events

FRESH = 5.0
"""Seconds for which an answer is taken as it was given: how late a revoked key is noticed."""

PATIENCE = 5.0
"""Seconds that the function is waited for. A request that waits longer has been given up by its client."""

STALE = 60.0
"""Seconds after which an answer is no longer given while a newer one is waited for in vain: a database that is away
for a moment shuts nobody out."""

SOON = 0.5
"""Seconds that the newer answer is waited for where there is one to give meanwhile."""

THREADS = 4
"""Threads for a function that is not async: as many again for those who were never known, so that whoever guesses
keys keeps no customer waiting. Ours alone, for the app has uses of its own for the loop's."""

GUESSES = 64
"""Lookups at a time of secrets that were never known; more are told at once that nobody can be asked."""

KNOWN_MOST = 50_000
"""Principals that are remembered, about 1 kB each."""

UNKNOWN_MOST = 10_000
"""Unknown secrets that are remembered, apart from the known ones: whoever guesses keys pushes no customer out."""

FIELDS = ("key", "org", "plan", "anchor", "accepted", "traits", "claims", "tags")

Answer = Principal | Mapping[str, Any] | None
Asked = Callable[[str], Answer | Awaitable[Answer]]


class Callback:
    """A directory that asks a function. `name` is how the policy calls it (`python:myapp.auth:lookup`).

    >>> lookup = Callback(lambda secret: {"key": "k1", "org": "acme"} if secret == "s" else None, [b"pepper"])
    >>> asyncio.run(lookup.find(b"s")).org, asyncio.run(lookup.find(b"t"))
    ('acme', None)
    """

    def __init__(
        self,
        function: Asked,
        peppers: Sequence[bytes],
        *,
        name: str = "the directory",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._function = function
        self._mark = keyed(peppers[0], b"asked")
        self._clock = clock
        self._waits = not _is_async(function)
        self._known: dict[bytes, tuple[Principal, float]] = {}
        self._unknown: dict[bytes, float] = {}
        self._by_key: dict[str, Principal] = {}
        self._orgs: dict[str, Group] = {}
        self.version = 0
        self._flights: dict[bytes, asyncio.Task[Principal | None]] = {}
        self._guesses = 0
        self._pools: dict[bool, ThreadPoolExecutor] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """No file needs watching."""
        return ()

    def refresh(self) -> bool:
        """Nothing is read again: each answer is asked for anew by itself."""
        return False

    def org(self, name: str) -> Group | None:
        """An org as a group of one, with the plans and the anchor that were told with its keys; None where none of
        them was asked about yet. What one key's answer says takes nothing from another's, until a plan changes."""
        return self._orgs.get(name)

    def known(self, secret: bytes) -> Principal | None:
        """Whose a secret is, if that was asked in the last seconds; None where `find` must be asked. Never waits."""
        kept = self._known.get(self._mark(secret))
        return kept[0] if kept is not None and self._clock() < kept[1] else None

    async def find(self, secret: bytes) -> Principal | None:
        """Whose a secret is; None if nobody's.

        Raises DirectoryUnavailable when the function raised or did not answer in time, IdentityError when its answer
        is none that it may give.
        """
        if not plausible(secret):
            return None
        mark = self._mark(secret)
        now, kept = self._clock(), self._known.get(mark)
        if kept is not None and now < kept[1]:
            return kept[0]
        if now < self._unknown.get(mark, float("-inf")):
            return None
        flight = self._flights.get(mark)
        if flight is None or flight.get_loop() is not asyncio.get_running_loop():
            # What another event loop waits for is its own: nobody here could be told.
            flight = self._flown(mark, secret.decode("ascii"), guess=kept is None)
        if kept is None or now >= kept[1] + STALE:
            # Shielded: the client that came first may go away while others wait for the same answer.
            return await asyncio.shield(flight)
        if not (await asyncio.wait({flight}, timeout=SOON))[0]:
            return kept[0]
        try:
            return flight.result()
        except DirectoryUnavailable:
            return kept[0]

    def _flown(self, mark: bytes, secret: str, *, guess: bool) -> asyncio.Task[Principal | None]:
        if guess and self._guesses >= GUESSES:
            raise DirectoryUnavailable(f"{self.name} is asked for {GUESSES} unknown keys already")
        flight = asyncio.get_running_loop().create_task(self._asked(mark, secret, guess))
        self._flights[mark] = flight
        self._guesses += guess
        flight.add_done_callback(lambda done: self._landed(mark, done, guess))
        return flight

    def _landed(self, mark: bytes, flight: asyncio.Task[Principal | None], guess: bool) -> None:
        if self._flights.get(mark) is flight:
            del self._flights[mark]
        self._guesses -= guess
        if not flight.cancelled():
            flight.exception()  # seen: who waited has it, and where nobody did there is nobody to tell

    async def _asked(self, mark: bytes, secret: str, guess: bool) -> Principal | None:
        answer = await self._answer(secret, guess)
        principal = None if answer is None else self._same(checked(answer, secret, self.name))
        until = self._clock() + FRESH
        if principal is None:
            self._known.pop(mark, None)
            _kept(self._unknown, mark, until, UNKNOWN_MOST)
        else:
            self._unknown.pop(mark, None)
            _kept(self._known, mark, (principal, until), KNOWN_MOST)
        return principal

    async def _answer(self, secret: str, guess: bool) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE) as patience:
                answer = await self._in_thread(secret, guess) if self._waits else self._function(secret)
                return await answer if inspect.isawaitable(answer) else answer
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            why = "was cancelled from within"  # not by us: something that it waited for was
        except Exception as fault:
            late = patience.expired()
            why = f"did not answer within {PATIENCE:g} s" if late else f"raised {type(fault).__name__}{_where(fault)}"
        # Its own message and its frames may hold the secret: they go no further than this line.
        events.error("headgate.directory.failed", directory=self.name, reason=why)
        raise DirectoryUnavailable(f"{self.name} {why}") from None

    async def _in_thread(self, secret: str, guess: bool) -> Answer | Awaitable[Answer]:
        if guess not in self._pools:
            self._pools[guess] = ThreadPoolExecutor(THREADS, thread_name_prefix="headgate-directory")
        return await asyncio.get_running_loop().run_in_executor(self._pools[guess], self._called, secret)

    def _called(self, secret: str) -> Answer | Awaitable[Answer]:
        try:
            return self._function(secret)
        except StopIteration as fault:  # no future takes it, and its waiter would wait for ever
            raise RuntimeError("the function raised StopIteration") from fault

    def _same(self, principal: Principal) -> Principal:
        """The object that was answered for the key before, if it says the same."""
        before = self._by_key.get(principal.key)
        if before is not None and before == principal:
            principal = before
        else:
            _kept(self._by_key, principal.key, principal, KNOWN_MOST)
        self._learn(principal, before)
        return principal

    def _learn(self, principal: Principal, before: Principal | None) -> None:
        """What a key's answer says of its org; `before`: what was answered for the key the last time."""
        name, known = principal.org, self._orgs.get(principal.org)
        plans, anchor = frozenset({principal.plan}), principal.anchor
        if known is not None:
            # A plan that changed is the org's as a rule, and an idle key must not keep it on the old one. What a key
            # in use has of its own it brings again with its next answer.
            plans |= known.plans if before is None or before.plan == principal.plan else frozenset()
            anchor = known.anchor if before is principal else anchor
        now = Group(name, frozenset({name}), plans, anchor)
        if now != known:
            _kept(self._orgs, name, now, KNOWN_MOST)
            # A new org changes nothing for anybody who is known; a known one does, for all its keys.
            self.version += known is not None


def imported(name: str) -> Asked:
    """The function that `module:attribute` names. Raises IdentityError, saying what is missing, if there is none."""
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise IdentityError(f"directory python:{name}: write it as python:module:function")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as fault:
        raise IdentityError(f"directory python:{name}: there is no module `{fault.name}` to import") from None
    except (Exception, SystemExit) as fault:
        why = f"{type(fault).__name__}{_where(fault)}"
        raise IdentityError(f"directory python:{name}: importing `{module}` raised {why}") from fault
    for part in attribute.split("."):
        if not hasattr(found, part):
            hint = suggestion(part, [known for known in dir(found) if not known.startswith("_")])
            raise IdentityError(f"directory python:{name}: `{module}` has no `{attribute}`{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise IdentityError(f"directory python:{name}: `{attribute}` is a {type(found).__name__}, not a function")
    function: Asked = found
    return function


def checked(answer: object, secret: str, name: str) -> Principal:
    """The principal that an answer says. Raises IdentityError naming what was wrong of it, never a value.

    >>> checked({"key": "k1", "org": "acme", "claims": {"seats": 3}}, "s3cret", "lookup").claims
    {'seats': '3'}
    >>> checked({"key": "s3cret", "org": "acme"}, "s3cret", "lookup")
    Traceback (most recent call last):
    ...
    headgate.errors.IdentityError: lookup answered with the secret itself in `key`: give the key's public id
    """
    if isinstance(answer, Principal):
        answer = {field: getattr(answer, field) for field in FIELDS}
    if not isinstance(answer, Mapping):
        raise IdentityError(
            f"{name} answered with a {type(answer).__name__}; it may be None, a Principal or a mapping"
        )
    for field in answer:
        if field not in FIELDS:
            raise IdentityError(f"{name} answered with a field that there is not: {_field(field)}")
    for field in FIELDS:
        if any(_tells(text, secret) for text in _texts_of(answer.get(field))):
            raise IdentityError(f"{name} answered with the secret itself in `{field}`: give the key's public id")
    for field in ("key", "org"):
        if not answer.get(field):
            raise IdentityError(f"{name} answered without `{field}`")
    field = ""
    try:
        values: dict[str, Any] = {}
        for field in FIELDS:
            if answer.get(field) is not None:
                values[field] = _CHECKS[field](answer[field])
        return Principal(**values)
    except Unfit as fault:
        raise IdentityError(f"{name} answered with `{field}` that {fault}") from None


def _field(name: object) -> str:
    if not isinstance(name, str):
        return f"one named by a {type(name).__name__}"
    hint = suggestion(name, FIELDS)
    return f"`{name[:40]}`{hint}" if name.isidentifier() else "one that is no name"


def _text(check: Callable[[str], str]) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str):
            raise Unfit(f"is a {type(value).__name__}, not a text")
        return check(value) if value else value

    return read


def _anchor(value: object) -> int:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise Unfit("is a datetime without its zone; give it one, such as UTC")
        return (value - record.EPOCH) // record.MICROSECOND
    if isinstance(value, date):
        return record.instant(value.isoformat())
    if isinstance(value, str):
        return record.instant(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) < 10**13:
            raise Unfit("is a number of seconds or milliseconds; give microseconds, or a datetime")
        return value
    raise Unfit(f"is a {type(value).__name__}; give a datetime, a date or its text")


def _map(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise Unfit(f"is a {type(value).__name__}, not a mapping")
    found: dict[str, str] = {}
    for name, inner in value.items():
        if not isinstance(name, str):
            raise Unfit(f"has a name that is a {type(name).__name__}")
        if isinstance(inner, bool):
            inner = "true" if inner else "false"
        if isinstance(inner, int | float):
            inner = str(inner)
        if inner is not None and not isinstance(inner, str):
            raise Unfit(f"holds a {type(inner).__name__} where a text or a number should be")
        if inner is not None:
            found[record.named(name)] = record.value(inner)
    return found


def _names(value: object) -> frozenset[str]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise Unfit(f"is a {type(value).__name__}, not a list or a set")
    for inner in value:
        if not isinstance(inner, str):
            raise Unfit(f"holds a {type(inner).__name__} where a text should be")
    return frozenset(record.named(inner) for inner in value)


_CHECKS: Mapping[str, Callable[[object], Any]] = {
    "key": _text(record.key_id),
    "org": _text(record.named),
    "plan": _text(record.named),
    "anchor": _anchor,
    "accepted": _text(record.named),
    "traits": _map,
    "claims": _map,
    "tags": _names,
}


def _texts_of(value: object) -> tuple[object, ...]:
    """What of an answer's field could be the secret: the value, or what it holds."""
    if isinstance(value, Mapping):
        return tuple(value.values())
    return tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)


def _tells(text: object, secret: str) -> bool:
    """Whether a text gives the secret away. A very short one may be part of a word by accident."""
    return text == secret or (isinstance(text, str) and len(secret) >= 16 and secret in text)


def _where(fault: BaseException) -> str:
    """` at auth.py:12 in lookup`: where a function of the app raised, without what it said."""
    frames = traceback.extract_tb(fault.__traceback__)
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or (
        callable(function) and inspect.iscoroutinefunction(function.__call__)
    )


def _kept(store: dict[Any, Any], name: object, value: object, most: int) -> None:
    """Remembers a value as the newest, and forgets the oldest where there are too many."""
    store.pop(name, None)
    while len(store) >= most:
        del store[next(iter(store))]
    store[name] = value
