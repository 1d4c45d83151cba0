"""Servers over TLS: who is trusted, and who is not."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

from antiphon.gemini.upstream import ClientName
from rpc.conformance.certificates import Authority
from rpc.conformance.conftest import Serve
from rpc.conformance.using import WITHIN_S


async def outcomes(client: ClientName, trusted: Path, targets: list[str]) -> list[str]:
    """Return what comes of a call to each, in a process that trusts this authority alone."""
    trust = {"SSL_CERT_FILE": str(trusted), "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(trusted)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rpc.conformance.one_call", client, *targets),
        env=os.environ | trust | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(2 * WITHIN_S):
        said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    found: list[str] = json.loads(said)
    return found


@asynccontextmanager
async def by_hand(certificate: Path | None, *protocols: str) -> AsyncIterator[str]:
    """Serve TLS that agrees on these protocols, or none at all, and say nothing."""
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        if protocols:
            context.set_alpn_protocols(list(protocols))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1000):
                pass
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_who_is_trusted(client: ClientName, serve: Serve, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    good = ours.sign("good")
    async with AsyncExitStack() as stack:
        expected: dict[str, str] = {}
        for certificate, outcome in (
            (good, "echoed"),
            (ours.sign("elsewhere", "127.0.0.2"), "UNAVAILABLE"),
            (ours.sign("expired", lasts=timedelta(hours=-1)), "UNAVAILABLE"),
            (theirs.sign("stranger"), "UNAVAILABLE"),
        ):
            server = await stack.enter_async_context(serve(certificate=certificate))
            expected[server.target] = outcome
        plain = await stack.enter_async_context(serve())
        expected[plain.target] = "UNAVAILABLE"
        for protocols in ((), ("http/1.1",)):
            expected[await stack.enter_async_context(by_hand(good, *protocols))] = "UNAVAILABLE"
        found = await outcomes(client, ours.certificate, list(expected))
        assert found == list(expected.values())
