"""How a server is named, what it refuses, and what is told of it."""

from __future__ import annotations

import ssl
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from antiphon.store import StoreAway, StoreMisconfigured, Verdict
from antiphon.valkey_client import parse_url
from antiphon.valkey_store import ValkeyStore
from gateway.certificates import self_signed
from store.conftest import PATIENT_S
from store.proxy import proxy, saying
from store.sessions import change, new_id
from valkey_server import HOST, ValkeyServer

PASSWORD = "s3cr%40t/wörd"
ESCAPED = "s3cr%2540t%2Fw%C3%B6rd"


@pytest.fixture(scope="module")
def locked() -> Iterator[ValkeyServer]:
    with ValkeyServer(
        *("--requirepass", PASSWORD, "--user", "reader", "on", ">r", "~*", "&*", "+@read", "+ping"),
        *("--user", "other", "on", ">o", "~other:*", "&*", "+@all"),
        *("--user", "deaf", "on", ">d", "~antiphon:*", "resetchannels", "+@all"),
        *("--user", "antiphon", "on", ">a", "~antiphon:*", "&antiphon:*", "+@all", "-@dangerous", "-@admin"),
    ) as server:
        yield server


async def fault(url: str) -> str:
    """Return what a ping says of a store that cannot be used."""
    store = ValkeyStore(url, timeout_s=PATIENT_S)
    with pytest.raises(StoreMisconfigured) as raised:
        await store.ping()
    await store.aclose()
    told = "".join(traceback.format_exception(raised.value)) + repr(store) + repr(vars(store))
    assert PASSWORD not in told
    assert ESCAPED not in told
    return str(raised.value)


async def works(url: str) -> None:
    store, name = ValkeyStore(url, timeout_s=PATIENT_S), new_id()
    await store.ping()
    assert await store.save([change(name)], "a", 0) == [Verdict.SAVED]
    assert (await store.claim(name, "alice", "digest", "b", 0)).fence == 2
    await store.aclose()


class TestLogin:
    async def test_a_password(self, locked: ValkeyServer) -> None:
        await works(f"redis://:{ESCAPED}@{HOST}:{locked.port}/3")
        await works(f"valkey://default:{ESCAPED}@{HOST}:{locked.port}")
        with locked.client(password=PASSWORD, db=3) as client:
            assert client.dbsize() > 0

    async def test_a_user_who_may_do_what_is_needed_and_no_more(self, locked: ValkeyServer) -> None:
        await works(f"valkey://antiphon:a@{HOST}:{locked.port}")

    async def test_none_or_a_wrong_one(self, locked: ValkeyServer) -> None:
        assert "refuses the login" in await fault(locked.url)
        assert "refuses the login" in await fault(f"valkey://:wrong@{HOST}:{locked.port}")
        assert "refuses the login" in await fault(f"valkey://nobody:{ESCAPED}@{HOST}:{locked.port}")

    async def test_one_that_is_not_asked_for(self, shared_server: ValkeyServer) -> None:
        assert "refuses the login" in await fault(f"valkey://:{ESCAPED}@{HOST}:{shared_server.port}")

    @pytest.mark.parametrize("user", ["reader:r", "other:o", "deaf:d"])
    async def test_a_user_who_may_not_do_what_is_needed(self, locked: ValkeyServer, user: str) -> None:
        message = await fault(f"valkey://{user}@{HOST}:{locked.port}")
        assert "does not allow what is needed" in message or "cannot be used" in message


class TestServers:
    async def test_a_database_that_is_not_there(self, shared_server: ValkeyServer) -> None:
        assert "DB index is out of range" in await fault(f"{shared_server.url}/99")

    async def test_keys_that_are_something_elses(self, shared_server: ValkeyServer) -> None:
        with shared_server.client() as client:
            client.set("antiphon:{mallory}:members", "a string")
        store = ValkeyStore(shared_server.url, timeout_s=PATIENT_S)
        with pytest.raises(StoreMisconfigured, match="WRONGTYPE"):
            await store.admit("mallory", "s", 1, 0)
        assert await store.admit("alice", "s", 1, 0)
        await store.aclose()

    @pytest.mark.parametrize(
        "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":x\r\n", b"$9x\r\n", b"x" * 99_999]
    )
    async def test_something_else_answers(self, answer: bytes) -> None:
        async with saying(answer) as port:
            assert "is neither Valkey nor Redis" in await fault(f"valkey://{HOST}:{port}")

    async def test_a_cluster(self) -> None:
        async with saying(b"-MOVED 3999 127.0.0.1:6381\r\n") as port:
            assert "MOVED" in await fault(f"valkey://{HOST}:{port}")

    async def test_tls(self, shared_server: ValkeyServer, tmp_path: Path) -> None:
        certificate = self_signed(tmp_path)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        async with proxy(shared_server.port, context) as tls:
            await works(f"rediss://{HOST}:{tls.port}/0?ssl_ca_certs={certificate}")
            await works(f"valkeys://{HOST}:{tls.port}/0?ssl_cert_reqs=none")
            assert "CERTIFICATE_VERIFY_FAILED" in await fault(f"rediss://{HOST}:{tls.port}")
            # It is for an address, and not for the name.
            assert "Hostname mismatch" in await fault(
                f"rediss://localhost:{tls.port}?ssl_ca_certs={certificate}"
            )
        async with saying(b"-ERR unknown\r\n") as port:
            assert "cannot be spoken to with TLS" in await fault(f"rediss://{HOST}:{port}")

    async def test_a_server_behind_tls_that_is_stopped(self, tmp_path: Path) -> None:
        certificate = self_signed(tmp_path)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        with ValkeyServer() as server:
            async with proxy(server.port, context) as tls:
                store = ValkeyStore(f"rediss://{HOST}:{tls.port}/0?ssl_ca_certs={certificate}")
                await store.admit("alice", "s", 1, 0)
                server.pause()
                for _ in range(2):
                    with pytest.raises(StoreAway):
                        await store.admit("alice", "s", 1, 0)
                server.resume()
                assert not await store.admit("alice", "t", 1, 0)
                await store.aclose()


class TestUrls:
    def test_what_it_says(self) -> None:
        server = parse_url(f"valkey://us%3Aer:{ESCAPED}@[::1]:7000/5")
        assert (server.host, server.port, server.database) == ("::1", 7000, 5)
        assert (server.username, server.password, server.tls) == ("us:er", PASSWORD, None)
        assert str(server) == "[::1]:7000/5"
        assert repr(ValkeyStore("rediss://h")) == "ValkeyStore(h:6379/0)"
        assert parse_url("rediss://h").tls

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "hidden",
            "http://:hidden@h",
            "unix:///hidden",
            "valkey://:hid/den@h",
            "valkey://u:1/hidden@h:6379/0",
            "valkey://u:1?hidden@h:6379/0",
            "valkey://u:1#hidden@h:6379/0",
            "valkey://u:hidden@h:port",
            "valkey://u:hidden@h:99999",
            "valkey://u:hidden@[h",
            "valkey://:hidden@h/x",
            "valkey://:hidden@h/1/2",
            "valkey://:hidden@h/-1",
            "valkey://:hidden@h?ssl_cert_reqs=none",
            "valkey://:hidden@h?socket_timeout=9",
            "valkeys://:hidden@h?socket_timeout=9",
            "valkeys://:hidden@h?ssl_cert_reqs=optional",
            "valkeys://:hidden@h?ssl_ca_certs=/nowhere",
        ],
    )
    def test_what_cannot_be_used(self, url: str) -> None:
        with pytest.raises(StoreMisconfigured) as raised:
            ValkeyStore(url)
        assert str(raised.value).endswith(".")
        told = traceback.format_exception(raised.value, limit=0)
        assert "hid" not in "".join(told)

    def test_without_the_package_a_sentence_says_what_to_install(self) -> None:
        program = (
            "import sys; sys.modules['valkey'] = None\n"
            "from antiphon.store import StoreMisconfigured\n"
            "from antiphon.valkey_store import ValkeyStore\n"
            "try: ValkeyStore('valkey://h')\n"
            "except StoreMisconfigured as error: print(error)\n"
        )
        said = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        assert "pip install 'antiphon[valkey]'" in said
