"""Calls by the client of gRPC that is our own (`rpc`), which costs a third of grpcio's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from google.auth.exceptions import GoogleAuthError, TransportError

from antiphon import rpc
from antiphon.gemini.calls import HEALTH_METHOD, METHOD
from antiphon.gemini.native_call import NativeCall
from antiphon.gemini.probe import Probe
from antiphon.gemini.upstream import MAX_MESSAGE_BYTES, Upstream, google_credentials
from antiphon.rpc import RpcError, Status

_SPARE: Final = 1
"""Room on every connection for the health check."""


class NativeCalls:
    """See `calls.Calls`."""

    def __init__(self, upstream: Upstream) -> None:
        self.reached = asyncio.Event()
        url = urlsplit(f"//{upstream.target}")
        self._channel = rpc.Channel(
            cast(str, url.hostname),
            url.port or 443,
            tls=_tls() if upstream.tls else None,
            streams=upstream.streams_a_channel,
            spare=_SPARE,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        self._wait_for_ready = upstream.wait_for_ready
        self._metadata = upstream.metadata
        self._login = _Login(upstream.target) if upstream.adc and not upstream.api_key else None
        self._probes: WeakKeyDictionary[rpc.Connection, Probe] = WeakKeyDictionary()

    @property
    def ready(self) -> bool:
        return self._channel.ready

    @property
    def connections(self) -> int:
        return self._channel.size

    async def watch(self) -> None:
        await self._channel.keep(self._told)

    def _told(self, ready: bool) -> None:
        if ready:
            self.reached.set()

    async def aclose(self) -> None:
        for probe in list(self._probes.values()):
            await probe.aclose()
        await self._channel.aclose()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[NativeCall]:
        async with AsyncExitStack() as stack:
            yield NativeCall(partial(self._begin, stack))

    async def _begin(self, stack: AsyncExitStack) -> tuple[rpc.Call, Probe]:
        """Make a call, which ends with the stack."""
        metadata = [*self._metadata, *(await self._login.metadata() if self._login else ())]
        connection = await self._channel.room(wait_for_ready=self._wait_for_ready)
        call = stack.enter_context(connection.call(METHOD, metadata))
        probe = self._probes.get(connection)
        if probe is None:
            probe = self._probes[connection] = Probe(partial(_check, connection, asyncio.Lock()))
        return call, probe


class _Login:
    """Google's application default credentials, for the calls to one server."""

    def __init__(self, target: str) -> None:
        import google.auth.transport.requests

        self._url = f"https://{target}{METHOD.rpartition('/')[0]}"
        self._credentials = google_credentials()
        self._request = google.auth.transport.requests.Request()

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what says who asks; a token that has expired is renewed."""
        headers: dict[str, Any] = {}
        try:
            await asyncio.to_thread(
                self._credentials.before_request, self._request, "POST", self._url, headers
            )
        except TransportError as error:
            raise RpcError(Status.UNAVAILABLE, f"The login could not be renewed: {error}") from error
        except GoogleAuthError as error:
            raise RpcError(Status.UNAUTHENTICATED, f"The login was refused: {error}") from error
        return tuple((name.lower(), str(value)) for name, value in headers.items())


async def _check(connection: rpc.Connection, turn: asyncio.Lock, timeout_s: float) -> None:
    """Ask. The last call that there is room for is kept for one at a time, so that there always is one."""
    try:
        async with asyncio.timeout(timeout_s):
            if connection.room > _SPARE:
                await _ask(connection)
                return
            async with turn:
                await _ask(connection)
    except TimeoutError as error:
        raise RpcError(Status.DEADLINE_EXCEEDED, "The health check was not answered.") from error


async def _ask(connection: rpc.Connection) -> None:
    """Make a health check; an answer may be one message or none, and the call's end is the answer."""
    with connection.call(HEALTH_METHOD) as call:
        call.write(b"")
        call.close_write()
        ended = await call.outcome()
    if ended.status is not Status.OK:
        raise RpcError(ended.status, ended.details)


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    return context
