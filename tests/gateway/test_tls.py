"""The same gateway behind TLS, where nothing can be half-closed and data arrives in other pieces."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.certificates import self_signed
from gateway.raw_socket import raw_socket
from gateway.running import Gateway, running_gateway
from gateway.talker import connected, talking

pytestmark = pytest.mark.own_socket


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a key and a certificate of its own for 127.0.0.1."""
    return self_signed(tmp_path)


@pytest_asyncio.fixture(loop_scope="session")
async def secured(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    monkeypatch.setattr("antiphon.server.HANDSHAKE_TIMEOUT_S", 0.5)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with running_gateway(tls=context) as gateway:
        yield gateway


@pytest.fixture
def trust(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


async def test_a_session(secured: Gateway, trust: ssl.SSLContext) -> None:
    async with talking(secured, ssl=trust) as talker:
        pcm = bytes(range(256)) * 3000
        await talker.speak(pcm, 40_000)
        await talker.until("audio_response")
        assert secured.upstream.conversations[0].heard == pcm


async def test_an_error_comes_before_the_close(secured: Gateway, trust: ssl.SSLContext) -> None:
    async with connected(secured, ssl=trust) as talker:
        await talker.send("auth", token="no token")
        await talker.closed("AUTH_TOKEN_INVALID", 4401)
    async with talking(secured, ssl=trust) as talker:
        await talker.socket.send("x" * 70_000)
        await talker.closed("PROTOCOL_TOO_BIG", 1009)


async def test_a_client_that_vanishes_leaves_nothing(secured: Gateway, trust: ssl.SSLContext) -> None:
    async with talking(secured, ssl=trust) as talker:
        await talker.start()
        talker.socket.transport.abort()
        await secured.deserted()


async def test_what_is_no_tls_is_cut(secured: Gateway) -> None:
    async with raw_socket(secured.port) as raw:
        raw.send(b"GET / HTTP/1.1\r\n\r\n")
        await raw.ended()


@pytest.mark.interpreted
async def test_a_handshake_that_does_not_come_is_cut(secured: Gateway) -> None:
    async with raw_socket(secured.port) as raw:
        await raw.ended(within_s=2)
