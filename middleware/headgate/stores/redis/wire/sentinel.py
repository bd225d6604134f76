"""Where the master is, as the sentinels say.

Law: they are asked anew for each connection, all at once, and the one that knows of the latest failover is believed:
its `config-epoch` is the highest. One that is cut off from the others may still name the master of before.
"""

from __future__ import annotations

import asyncio
from typing import Final

from redis.exceptions import ResponseError

from headgate.errors import StoreError
from headgate.stores.redis import faults
from headgate.stores.redis.address import Address, Where, named
from headgate.stores.redis.wire import opening
from headgate.stores.redis.wire.asking import stopped

LATER: Final = 0.1
"""How long (seconds) the first sentinel's answer waits for those of the others."""


class Sentinels:
    """The sentinels of an address. `deadline` (seconds): how long calls wait."""

    def __init__(self, address: Address, deadline: float) -> None:
        self._address = address
        self._within = opening.patience(deadline)

    async def master(self) -> Where:
        """Host and port of the master. Raises StoreError, with what each sentinel said, if none knows it."""
        asking = [asyncio.ensure_future(self._told(where)) for where in self._address.servers]
        try:
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            if any(one.exception() is not None for one in asking if one.done()):
                await asyncio.wait(asking)
            else:
                await asyncio.wait(asking, timeout=LATER)
            answers = [one.result() for one in asking if one.done() and one.exception() is None]
            known = [answer for answer in answers if answer is not None]
            if known:
                return max(known)[1]
            raise self._unknown([one.exception() for one in asking if one.done()])
        finally:
            await stopped(asking)

    def _unknown(self, errors: list[BaseException | None]) -> StoreError:
        service = self._address.service
        for error in errors:
            if error is not None and not isinstance(error, StoreError):
                raise error
        told = [str(error) for error in errors if error is not None]
        if len(told) < len(errors):
            return StoreError(
                f"the sentinels know no master `{service}` that is up; is that its name in `sentinel monitor`?",
                transient=True,
            )
        return StoreError(
            f"no sentinel tells where the master `{service}` is ({'; '.join(dict.fromkeys(told))})",
            transient=any(isinstance(error, StoreError) and error.transient for error in errors),
        )

    async def _told(self, where: Where) -> tuple[int, Where] | None:
        """The epoch and the place of the master that one sentinel knows; None if it knows none that is up."""
        link, server = self._address.connection(where, sentinel=True), named(where)
        try:
            await opening.made(link, server, self._within)
            [told] = await opening.said(link, server, self._within, ("SENTINEL", "MASTER", self._address.service))
        finally:
            await opening.gone(link)
        if isinstance(told, ResponseError):
            if "No such master" in str(told):
                return None
            raise faults.replied(server, faults.reply_of(told))
        return _master(told, server)


def _master(said: object, server: str) -> tuple[int, Where] | None:
    """What SENTINEL MASTER answers: names and values in turn.

    >>> _master([b"ip", b"10.0.0.7", b"port", b"6379", b"flags", b"master", b"config-epoch", b"3"], "s:26379")
    (3, ('10.0.0.7', 6379))
    >>> _master([b"ip", b"10.0.0.7", b"port", b"6379", b"flags", b"master,s_down,o_down"], "s:26379")
    """
    try:
        words = [word.decode() for word in said]  # type: ignore[attr-defined]
        fields = dict(zip(words[::2], words[1::2], strict=True))
        flags = fields["flags"].split(",")
        if "o_down" in flags or "master" not in flags:
            return None
        return int(fields.get("config-epoch", 0)), (fields["ip"], int(fields["port"]))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise faults.unreadable(server, type(error).__name__) from None
