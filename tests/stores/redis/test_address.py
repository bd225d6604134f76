"""What a URI of Redis names, and what is said of one that names nothing."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from headgate.errors import StoreError
from headgate.stores import open_store
from headgate.stores.redis.address import read

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("uri", "shape", "servers"),
    [
        ("redis://localhost", "single", (("localhost", 6379),)),
        ("redis://localhost/", "single", (("localhost", 6379),)),
        ("valkey://10.0.0.1:7000/3", "single", (("10.0.0.1", 7000),)),
        ("redis://[::1]:7000/3", "single", (("::1", 7000),)),
        ("rediss://cache.example", "single", (("cache.example", 6379),)),
        ("unix:///run/a%20b.sock?db=2", "single", (("/run/a b.sock", 0),)),
        ("redis+sentinel://a,b:1,[::2]:3/main", "sentinel", (("a", 26379), ("b", 1), ("::2", 3))),
        ("valkeys+cluster://a:1,b:2", "cluster", (("a", 1), ("b", 2))),
        ("redis+cluster://a/0", "cluster", (("a", 6379),)),
    ],
)
def test_a_uri_names_servers(uri: str, shape: str, servers: object) -> None:
    address = read(uri)
    assert (address.shape, address.servers) == (shape, servers)


def test_who_connects_stands_before_the_at_sign_or_behind_the_question_mark() -> None:
    for uri in ("redis://me:p%2Fw%40@host/2", "redis://host?username=me&password=p%2Fw%40&db=2"):
        made = read(uri).connection(("host", 6379))
        assert isinstance(made, Connection)
        assert (made.username, made.password, made.db, made.protocol) == ("me", "p/w@", 2, 2)
    assert read("redis://:only@host").options == {"password": "only"}
    assert read("unix://me:pw@/run/r.sock").options == {"username": "me", "password": "pw"}


def test_a_socket_is_connected_to_by_its_path() -> None:
    made = read("unix:///run/r.sock?db=4").connection(("/run/r.sock", 0))
    assert isinstance(made, UnixDomainSocketConnection)
    assert (made.path, made.db) == ("/run/r.sock", 4)


def test_tls_is_read_once_and_shared_by_all_connections() -> None:
    address = read("rediss://host?ssl_cert_reqs=none&ssl_check_hostname=false")
    one, other = (address.connection(("host", 6379)) for _ in range(2))
    assert isinstance(one, SSLConnection)
    assert isinstance(other, SSLConnection)
    assert one.ssl_context is other.ssl_context
    assert one.ssl_context.get().verify_mode is ssl.CERT_NONE
    trusted = read("rediss://host").connection(("host", 6379))
    assert isinstance(trusted, SSLConnection)
    assert trusted.ssl_context.get().verify_mode is ssl.CERT_REQUIRED


def test_sentinels_have_passwords_of_their_own() -> None:
    address = read("redis+sentinel://:pw@a,b/main/1?sentinel_password=other&sentinel_username=watch")
    assert (address.service, address.options) == ("main", {"password": "pw", "db": 1})
    asking = address.connection(("a", 26379), sentinel=True)
    assert (asking.username, asking.password, asking.db) == ("watch", "other", 0)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("redis://", "names no server"),
        ("redis:///0", "names no server"),
        ("redis://:hunter2@", "names no server"),
        ("redis://@host", "neither a user name nor a password"),
        ("redis://host:0", "port 0"),
        ("redis://host:65536", "number from 1 to 65535"),
        ("redis://host:six", "number from 1 to 65535"),
        ("redis://:hunter2@:6379", "lacks its host"),
        ("redis://host/two", "`two` is none"),
        ("redis://host/-1", "`-1` is none"),
        ("redis://host?db=-1", "from 0 on"),
        ("redis://host?db=x", "`db` .* cannot be used"),
        ("redis://host/0/1", "one number, the database"),
        ("redis://a,b", r"redis\+cluster://"),
        ("redis://:hunter/2@host", "%2F"),
        ("redis://:hunter@2@host", "%40"),
        ("redis://:hunter#2@host", "%23"),
        ("redis://:hunter 2@host", "no blank"),
        ("redis://host?pasword=hunter2", "did you mean `password`"),
        ("redis://host?socket_timeout=1", "HEADGATE_DEADLINE_MS"),
        ("redis://host?protocol=3", "RESP2"),
        ("redis://host?ssl_ca_certs=/a", "write rediss://"),
        ("rediss://host?ssl_ca_certs=/there/is/none.pem", "not there"),
        ("rediss://host?ssl_cert_reqs=perhaps", "cannot be used"),
        ("redis+sentinel://a,b", "redis\\+sentinel://HOST:PORT/NAME"),
        ("redis+sentinel://a,b/", "redis\\+sentinel://HOST:PORT/NAME"),
        ("redis+sentinel://a/main/1/2", "redis\\+sentinel://HOST:PORT/NAME"),
        ("redis+cluster://a/1", "database 0 alone"),
        ("redis+cluster://a?db=1", "database 0 alone"),
        ("redis+cluster://a,,b", "lacks its host"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix:///", "three slashes"),
        ("redis://:pass?hunter2@host", "as %3F"),
        ("redis://:pass?hunter2&more@host/0", "as %3F"),
        ("redis://host?sentinel_password=hunter2", "no option"),
        ("redis+gossip://:hunter2@host", r"`redis\+gossip://`; there are memory://"),
    ],
)
def test_a_uri_that_cannot_be_used_says_what_to_write_and_shows_no_password(uri: str, says: str) -> None:
    with pytest.raises(StoreError, match=says) as fault:
        open_store(uri)
    assert not fault.value.transient
    assert not any(part in str(fault.value) for part in (SECRET, "hunter"))


def test_a_certificate_that_is_none_is_told_when_the_store_is_opened(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(StoreError, match="TLS options"):
        open_store(f"rediss://host?ssl_ca_certs={tmp_path}/ca.pem")


def test_a_store_takes_a_deadline_and_a_durability() -> None:
    store = open_store("redis://host", deadline=0.5, durability="replicated")
    assert (store.immediate, store.punctual, store.deadline) == (False, True, 0.5)
    assert open_store("redis://host").deadline == 0.025
    assert open_store("sqlite:///x.db", deadline=0.5).deadline == 0.5
    with pytest.raises(StoreError, match="deadline"):
        open_store("redis://host", deadline=0)
    for uri in ("memory://", "sqlite:///x.db"):
        with pytest.raises(StoreError, match="no replicas"):
            open_store(uri, durability="replicated")
