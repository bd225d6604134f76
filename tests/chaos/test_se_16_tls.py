"""TLS to a server that is not the one it should be: no connection, and the password is never said."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headgate.errors import StoreError
from headgate.quota.command import Demand, Reserve
from headgate.quota.window import Total
from headgate.stores.redis import RedisStore
from servers.certificates import made_certificates

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="this machine answers to 127.0.0.1 alone")

SECRET = "a-password-of-tests"
ASKED = (Reserve(b"1", (Demand((b"acme", "life"), Total(9), 1),), 1_000),)


@asynccontextmanager
async def listening(host: str, folder: Path | None, heard: list[bytes]) -> AsyncIterator[int]:
    """A server that notes all that it is told, behind TLS if there is a folder of certificates."""

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                heard.append(data)
        except OSError:
            heard.append(b"")
        finally:
            writer.close()

    context = None
    if folder is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
    server = await asyncio.start_server(note, host, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def fault_of(uri: str, deadline: float = 5.0) -> StoreError:
    store = RedisStore(uri, deadline=deadline)
    try:
        with pytest.raises(StoreError) as told:
            await store.transact(ASKED)
        return told.value
    finally:
        await store.close()


@pytest.mark.parametrize("shape", ["rediss", "rediss+cluster"])
@pytest.mark.parametrize(("host", "trusted", "says"), [
    ("127.0.0.1", False, "not trusted"),  # signed by nobody that is known
    pytest.param("127.0.0.2", True, "not trusted", marks=LINUX),  # a good certificate, and another's
])  # fmt: skip
def test_se_16_a_server_that_cannot_prove_who_it_is_gets_no_password(
    tmp_path: Path, shape: str, host: str, trusted: bool, says: str
) -> None:
    folder, heard = made_certificates(tmp_path), list[bytes]()

    async def story() -> None:
        async with listening(host, folder, heard) as port:
            ours = f"?ssl_ca_certs={folder / 'ca.crt'}" if trusted else ""
            fault = await fault_of(f"{shape}://:{SECRET}@{host}:{port}{ours}")
            assert says in str(fault)
            assert not fault.transient
            assert SECRET not in str(fault)

    asyncio.run(story())
    assert b"".join(heard) == b""


def test_se_16_a_server_that_speaks_no_tls_gets_no_password(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def story() -> None:
        async with listening("127.0.0.1", None, heard) as port:
            fault = await fault_of(f"rediss://:{SECRET}@127.0.0.1:{port}", 0.5)
            assert SECRET not in str(fault)

    asyncio.run(story())
    assert SECRET.encode() not in b"".join(heard)
    assert b"AUTH" not in b"".join(heard).upper()
