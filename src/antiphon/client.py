"""The Python client: connect, prove who speaks, stream audio, iterate over what comes back.

    async with connect("ws://127.0.0.1:8080/ws", token) as client:
        await client.start(rate_hz=16_000)
        await client.send_audio(pcm)
        await client.end()
        async for message in client:
            ...

It speaks the base messages. Sending waits while the gateway takes no more; messages that are not yet
iterated over are bounded by `websockets`' queue, after which the gateway is made to wait.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET
from websockets import exceptions as ws
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.frames import CloseCode
from websockets.http11 import Response

from antiphon import messages
from antiphon.errors import DISPOSITIONS, ErrorCode
from antiphon.messages import AudioFormat, ClientMessage, ServerMessage

MAX_CHUNK_BYTES: Final = 32 * 1024
"""Audio that goes into one message: base64 makes it 44 KiB, the gateway takes 64."""

_CLOSE_TIMEOUT_S = 2.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ClientError(Exception):
    """What went wrong, as a sentence; `code` is the gateway's error code where it gave one.

    ├── CannotConnect   no gateway was reached
    ├── Refused         it refused the handshake, with HTTP `status`
    ├── NotAuthorized   it did not accept the token
    ├── Closed          the connection is over, with `close_code`
    └── BadMessage      it sent what is no message of the protocol
    """

    def __init__(self, sentence: str, code: str | None = None) -> None:
        self.code = code
        super().__init__(sentence)


class CannotConnect(ClientError):  # noqa: N818 (reads as what happened, as do its siblings)
    """No gateway was reached."""


class Refused(ClientError):  # noqa: N818
    """The gateway refused the handshake."""

    def __init__(self, sentence: str, status: int, code: str | None) -> None:
        self.status = status
        super().__init__(sentence, code)


class NotAuthorized(ClientError):  # noqa: N818
    """The gateway did not accept the token."""


class Closed(ClientError):  # noqa: N818
    """The connection is over."""

    def __init__(self, sentence: str, close_code: int | None, code: str | None) -> None:
        self.close_code = close_code
        super().__init__(sentence, code)


class BadMessage(ClientError):  # noqa: N818
    """The gateway sent what is no message of the protocol."""


@asynccontextmanager
async def connect(
    url: str,
    token: str,
    *,
    timeout_s: float = 10.0,
    on_frame: Callable[[bytes], None] | None = None,
) -> AsyncIterator[Client]:
    """Open a session at `url` (ws: or wss:) and close it on leaving.

    `timeout_s` bounds the handshake and, again, the wait for the token to be accepted. `on_frame` gets
    every frame from the gateway, as received.

    Raises:
        CannotConnect, Refused, NotAuthorized, Closed, BadMessage.
    """
    socket = await _open(url, timeout_s)
    async with socket:
        client = Client(socket, url, on_frame)
        await client._authenticate(token, timeout_s)
        yield client


class Client:
    """An open session. Made by `connect`; iterate over it in one task, send from any.

    All that sends raises `Closed` when the connection is over; iteration just ends, and `close_code` and
    `close_reason` tell how. Cancelling either is safe.
    """

    def __init__(
        self, socket: ClientConnection, url: str, on_frame: Callable[[bytes], None] | None = None
    ) -> None:
        self.session_id = ""
        self.user_id = ""
        self._socket = socket
        self._url = url
        self._on_frame = on_frame
        self._last_error: messages.Error | None = None
        self._sequence = 0
        self._bytes_a_ms = 0.0
        self._sent_bytes = 0

    @property
    def close_code(self) -> int | None:
        """The WebSocket close code; 1006 where the connection was lost; None while it is open."""
        return self._socket.close_code

    @property
    def close_reason(self) -> str | None:
        return self._socket.close_reason

    async def start(
        self,
        format: AudioFormat = "LINEAR16",  # noqa: A002 (the protocol's word)
        rate_hz: int = 16_000,
        language: str = "en-US",
    ) -> None:
        """Open an audio stream: mono, 8000 to 48000 Hz; `language` is a BCP 47 tag."""
        self._sequence = self._sent_bytes = 0
        self._bytes_a_ms = rate_hz * 2 / 1000 if format == "LINEAR16" else 0
        config = messages.StreamConfig(sample_rate=rate_hz, format=format, language=language)
        await self._send(messages.AudioStreamStart(timestamp=_now_ms(), config=config))

    async def send_audio(self, data: bytes) -> None:
        """Send the stream's next bytes, cut anywhere; large ones go as several chunks."""
        for place in range(0, len(data), MAX_CHUNK_BYTES):
            chunk = data[place : place + MAX_CHUNK_BYTES]
            message = messages.AudioChunk(timestamp=_now_ms(), data=chunk, sequence=self._sequence)
            self._sequence += 1
            self._sent_bytes += len(chunk)
            await self._send(message)

    async def end(self, duration_ms: float | None = None) -> None:
        """End the audio stream: everything sent is to be recognised and answered.

        `duration_ms` is how much audio that was; for LINEAR16 it is counted where it is not given.
        """
        if duration_ms is None:
            duration_ms = self._sent_bytes / self._bytes_a_ms if self._bytes_a_ms else 0
        await self._send(messages.AudioStreamEnd(timestamp=_now_ms(), duration=duration_ms))

    async def command(self, text: str, context: dict[str, Any] | None = None) -> None:
        """Send a typed turn; `context` is any JSON object."""
        message = messages.Command(
            timestamp=_now_ms(), command=text, context=UNSET if context is None else context
        )
        await self._send(message)

    async def renew(self, token: str) -> None:
        """Send a fresh token for the same user; an AuthSuccess, or an Error, comes by iteration."""
        await self._send(messages.Auth(timestamp=_now_ms(), token=token))

    def __aiter__(self) -> AsyncIterator[ServerMessage]:
        return self

    async def __anext__(self) -> ServerMessage:
        """Return the next message.

        Raises:
            BadMessage: it is not one of the protocol.
        """
        try:
            frame = await self._socket.recv(decode=False)
        except ws.ConnectionClosed:
            raise StopAsyncIteration from None
        if self._on_frame:
            self._on_frame(frame)
        try:
            message = messages.decode_server(frame)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _not_antiphon(self._url) from None
        if isinstance(message, messages.Error):
            self._last_error = message
        return message

    def closed(self) -> Closed:
        """Return, to be raised, why the connection is over."""
        error = self._last_error
        if error and error.details and error.details.fatal:
            return Closed(f"The gateway closed the connection: {error.message}", self.close_code, error.code)
        # It may not have been iterated over; its code is the reason of the close, too.
        if self.close_reason in DISPOSITIONS:
            code = ErrorCode(self.close_reason)
            sentence = f"The gateway closed the connection: {DISPOSITIONS[code].message}"
            return Closed(sentence, self.close_code, code)
        if self.close_code == CloseCode.ABNORMAL_CLOSURE:
            return Closed("The connection to the gateway was lost.", self.close_code, None)
        return Closed(f"The gateway closed the connection ({self.close_code}).", self.close_code, None)

    async def _send(self, message: ClientMessage) -> None:
        try:
            await self._socket.send(messages.encode(message), text=True)
        except ws.ConnectionClosed:
            raise self.closed() from None

    async def _authenticate(self, token: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.renew(token)
                async for answer in self:
                    match answer:
                        case messages.AuthSuccess(session_id=session_id, user_id=user_id):
                            self.session_id, self.user_id = session_id, user_id
                            return
                        case messages.Error(code=code, message=sentence):
                            kind = NotAuthorized if code.startswith("AUTH_") else ClientError
                            raise kind(sentence, code)
                        case _:
                            raise _not_antiphon(self._url)
        except TimeoutError:
            sentence = f"The gateway at {self._url} did not answer to the token in {timeout_s:g} seconds."
            raise CannotConnect(sentence) from None
        raise self.closed()


async def _open(url: str, timeout_s: float) -> ClientConnection:
    try:
        return await connect_websocket(
            url,
            compression=None,
            open_timeout=timeout_s,
            close_timeout=_CLOSE_TIMEOUT_S,
            proxy=None if urlsplit(url).hostname in _LOOPBACK else True,
        )
    except ws.InvalidStatus as error:
        raise _refused(url, error.response) from None
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", None) or error.reason
        raise CannotConnect(f"The gateway at {url} could not be reached securely: {why}.") from None
    except (ws.InvalidURI, ValueError):
        sentence = f"{url} is not the address of a gateway; one looks like ws://127.0.0.1:8080/ws."
        raise CannotConnect(sentence) from None
    except TimeoutError:
        raise CannotConnect(f"The gateway at {url} did not answer in {timeout_s:g} seconds.") from None
    except ConnectionRefusedError:
        raise CannotConnect(f"Nothing listens at {url}; is the gateway running?") from None
    except OSError as error:
        raise CannotConnect(f"The gateway at {url} cannot be reached: {error.strerror or error}.") from None
    except ws.WebSocketException:
        raise CannotConnect(f"What answers at {url} is not a WebSocket server.") from None


def _refused(url: str, response: Response) -> Refused:
    status = response.status_code
    try:
        refusal = msgspec.json.decode(response.body or b"", type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        hint = " Is the path right?" if status == 404 else ""
        return Refused(f"The server at {url} refused the connection with HTTP {status}.{hint}", status, None)
    return Refused(f"The gateway at {url} refused the connection: {refusal.message}", status, refusal.code)


class _Refusal(msgspec.Struct, frozen=True):
    code: str
    message: str


def _not_antiphon(url: str) -> BadMessage:
    return BadMessage(f"What answers at {url} does not speak Antiphon's protocol.")


def _now_ms() -> int:
    return int(time.time() * 1000)
