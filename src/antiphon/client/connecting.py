"""Open a session: reach the gateway, show the token, and close it all at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from msgspec import UNSET

from antiphon.client.connection import Client
from antiphon.client.dial import dial
from antiphon.client.link import Link
from antiphon.client.reconnect import DEFAULT, Reconnect
from antiphon.client.tokens import Tokens, TokenSource
from antiphon.client.tools import Tool
from antiphon.extension import SUBPROTOCOL, ClientHello


@asynccontextmanager
async def connect(
    url: str,
    token: TokenSource,
    *,
    timeout_s: float = 10.0,
    on_frame: Callable[[bytes], None] | None = None,
    base: bool = False,
    output_formats: Sequence[str] = (),
    binary_audio: bool = False,
    playback_buffer_ms: float | None = None,
    features: Sequence[str] = (),
    tools: Mapping[str, Tool] | None = None,
    reconnect: Reconnect | None = DEFAULT,
    on_lost: Callable[[], None] | None = None,
) -> AsyncIterator[Client]:
    """Open a session at `url` (ws: or wss:) and close it on leaving.

    `token` may also be a function, or a coroutine function, that returns one. It is asked when a token is
    needed: now, before the one in force expires, and to resume when it has expired.

    `timeout_s` bounds the handshake and, again, the wait for the token to be accepted. `on_frame` gets
    every frame from the gateway, as received and when it is iterated over.

    The session is one of antiphon.v1 unless `base` is set or the gateway knows the base messages only:
    `Client.extended`. `output_formats`, `binary_audio`, `playback_buffer_ms` and `features` are those of
    client_hello. `tools` carry out the model's calls by their names; other calls are the caller's, who gets
    the messages of all.

    A session of antiphon.v1 survives the loss of its connection, as `reconnect` says (see `Client`); with
    None it does not. `on_lost` is called when a connection is lost and the client begins to come back.

    Raises:
        CannotConnect, Refused, NotAuthorized, Closed, BadMessage; and what `token` raises.
    """
    hello = ClientHello(
        features=tuple(features) or UNSET,
        output_formats=tuple(output_formats) or UNSET,
        binary_audio=binary_audio or UNSET,
        playback_buffer_ms=UNSET if playback_buffer_ms is None else playback_buffer_ms,
    )
    tokens = Tokens(token)
    first = await tokens.get()
    socket = await dial(url, timeout_s, () if base else (SUBPROTOCOL,))
    link = Link(socket, url, timeout_s, tokens, reconnect, tools or {}, on_lost)
    try:
        client = Client(link, url, on_frame, hello)
        running = asyncio.create_task(link.run())
        try:
            await client._authenticate(first, timeout_s)
            yield client
        finally:
            link.leave()
            running.cancel()
            await link.reader.aclose()
            await asyncio.wait([running])
            if not running.cancelled():
                running.result()
    finally:
        await link.aclose()
