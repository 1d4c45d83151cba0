"""Open a session: reach the gateway, show the token, and close it all at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from msgspec import UNSET

from antiphon import messages
from antiphon.client.connection import Client
from antiphon.client.dial import dial
from antiphon.client.errors import CannotConnect, ClientError, NotAuthorized, not_antiphon
from antiphon.client.link import Link
from antiphon.client.outgoing import Frame
from antiphon.client.reconnect import DEFAULT, Reconnect
from antiphon.client.tokens import Tokens, TokenSource
from antiphon.client.tools import Tool
from antiphon.extension import SUBPROTOCOL, ClientHello, SessionInfo


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

    Who speaks is said by `token`: a text, or a function or coroutine function that returns one. A function is
    asked when a token is needed: now, before the one in force expires, and to resume when it has expired.

    What may be wished for, of a session of antiphon.v1:

    - `tools`: functions that carry out the model's calls, by their names (see `Tool`). Other calls are the
      caller's, who gets the messages of all.
    - `output_formats`: how answers may come, the best first: audio/pcm;rate=24000 (as they do where none is
      offered), audio/wav, audio/flac, audio/ogg;codecs=opus.
    - `binary_audio`: audio travels as it is, not as base64; the messages look the same.
    - `playback_buffer_ms`: how far ahead of their time answers may come: 100 to 30000; 250 by default.
    - `features`: what else the caller promises: "playback_mark" to send playback marks, "tools" to carry out
      commands that the gateway does not know to be tools.
    - `reconnect`: how it comes back when its connection is lost (see `Client`); with None it does not.
      `on_lost` is called when that begins.
    - `base`: with True it is no session of antiphon.v1, but one of the nine base messages.

    `timeout_s` bounds the handshake and, again, the wait for the token to be accepted. `on_frame` gets every
    frame from the gateway, as received and when it is iterated over.

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
            await _authenticate(client, link, first, hello, timeout_s)
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


async def _authenticate(client: Client, link: Link, token: str, hello: ClientHello, timeout_s: float) -> None:
    """Show the token and say what this client can do; return when both are answered."""
    try:
        async with asyncio.timeout(timeout_s):
            if client.extended and hello != ClientHello():
                # It is written after the token, at once, however soon that is answered.
                async with link.sender.turn:
                    await link.sender.add(Frame(messages.encode(hello)))
            await client.renew(token)
            async for answer in client:
                match answer:
                    case messages.AuthSuccess(session_id=session_id, user_id=user_id):
                        client.session_id, client.user_id = session_id, user_id
                        if not client.extended:
                            return
                    case SessionInfo() if client.session_id:
                        return
                    case messages.Error(code=code, message=sentence):
                        kind = NotAuthorized if code.startswith("AUTH_") else ClientError
                        raise kind(sentence, code)
                    case _:
                        raise not_antiphon(link.url)
    except TimeoutError:
        sentence = f"The gateway at {link.url} did not answer to the token in {timeout_s:g} seconds."
        raise CannotConnect(sentence) from None
    raise client.closed()
