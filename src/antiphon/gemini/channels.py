"""Connections to a gRPC server: how they are made, and how many streams each is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import grpc
import grpc.aio

from antiphon.gemini.probe import Probe
from antiphon.gemini.upstream import MAX_MESSAGE_BYTES, Upstream, default_credentials

_CHANNEL_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # else every channel shares one connection
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # which is how long one attempt may take, not the wait after it
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.primary_user_agent", "antiphon"),
)


class ChannelPool:
    """Connections to one server, with a bounded number of streams on each; grows on demand.

    A channel on which a set-up timed out gets no more streams, since the server may allow fewer than
    assumed. Channels other than the first are closed when their last stream ends.
    """

    def __init__(self, make: Callable[[], grpc.aio.Channel], streams_a_channel: int) -> None:
        self._make = make
        self._streams_a_channel = streams_a_channel
        self._slots = [Slot(make())]

    @property
    def first(self) -> grpc.aio.Channel:
        return self._slots[0].channel

    @property
    def size(self) -> int:
        """How many connections are held."""
        return len(self._slots)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Slot]:
        """Hold room for one stream."""
        limit = self._streams_a_channel
        slot = next((slot for slot in self._slots if slot.streams < limit and not slot.sealed), None)
        if slot is None:
            slot = Slot(self._make())
            self._slots.append(slot)
        slot.streams += 1
        try:
            yield slot
        finally:
            slot.streams -= 1
            if not slot.streams:
                slot.unseal()
                if slot is not self._slots[0]:
                    self._slots.remove(slot)
                    await slot.aclose()

    async def aclose(self) -> None:
        for slot in self._slots:
            await slot.aclose()


class Slot:
    """A channel and the streams on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.probe = Probe(channel)
        self.streams = 0
        self.sealed = False

    def seal(self) -> None:
        """Give the channel no more streams until it is empty."""
        self.sealed = True
        self.probe.distrust()

    def unseal(self) -> None:
        """Give it streams again: it is empty."""
        self.sealed = False
        self.probe.trust()

    async def aclose(self) -> None:
        await self.probe.aclose()
        await self.channel.close()


def channel_maker(upstream: Upstream) -> Callable[[], grpc.aio.Channel]:
    """Return what makes connections to an upstream.

    Raises:
        GatewayError: UPSTREAM_UNAUTHORIZED, when a login is needed and the machine has none.
    """
    options = list(_CHANNEL_OPTIONS)
    if not upstream.tls:
        return lambda: grpc.aio.insecure_channel(upstream.target, options=options)
    credentials = grpc.ssl_channel_credentials()
    if upstream.adc and not upstream.api_key:
        credentials = grpc.composite_channel_credentials(credentials, _call_credentials())
    return lambda: grpc.aio.secure_channel(upstream.target, credentials, options=options)


def _call_credentials() -> grpc.CallCredentials:
    """Return Google's application default credentials, as gRPC takes them."""
    import google.auth.transport.grpc
    import google.auth.transport.requests

    credentials = default_credentials(
        "https://www.googleapis.com/auth/generative-language",
        "Neither GEMINI_API_KEY is set nor does this machine have Google's application default login.",
    )
    request = google.auth.transport.requests.Request()
    # google-auth leaves this constructor without annotations.
    plugin = google.auth.transport.grpc.AuthMetadataPlugin(credentials, request)  # type: ignore[no-untyped-call]
    return grpc.metadata_call_credentials(plugin)
