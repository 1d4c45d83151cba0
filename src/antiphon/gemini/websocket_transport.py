"""Gemini Live over its WebSocket: the same messages, as JSON. It is the only form that Vertex AI has.

Conversations with Google are opened by google-genai, which knows its addresses, logins and names of models.
What it offers from there on loses a conversation over a kind of message that it does not know, so the frames
are read and written here. Any other address is spoken to directly, in plaintext too, which google-genai
does not do.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import websockets
from google.auth.exceptions import GoogleAuthError, TransportError
from google.protobuf import json_format
from websockets.asyncio.client import ClientConnection

from antiphon.errors import ErrorCode, GatewayError
from antiphon.gemini import codec
from antiphon.gemini import json_form as gemini_json
from antiphon.gemini.profiles import Profile
from antiphon.gemini.stream import ModelStream
from antiphon.gemini.upstream import Opening, Upstream, default_credentials, is_private
from antiphon.gemini.websocket import SOCKET_OPTIONS, Socket, gateway_error, opened
from antiphon.live import Answered, LiveEvent, LiveInput

if TYPE_CHECKING:
    from google.genai import Client

PATH: Final = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
PROBE_EVERY_S: Final = 10.0
PROBE_AGAIN_S: Final = 1.0
PROBE_TIMEOUT_S: Final = 5.0
PING_TIMEOUT_S: Final = 5.0

_NO_EXTRA: Final = (
    "Google is spoken to over the WebSocket by google-genai, which is not installed: "
    "`pip install 'antiphon[websocket]'`."
)

_log = logging.getLogger(__name__)


def is_installed() -> bool:
    """Whether the optional extra is there."""
    return importlib.util.find_spec("google.genai") is not None


class WebSocketTransport:
    """A client of one upstream over WebSockets, one for each conversation.

    Raises:
        GatewayError: google-genai is needed and not installed, or Vertex AI and no login.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.ready = False
        self.reached = asyncio.Event()
        self.connections = 0
        self._upstream = upstream
        self._profile = upstream.voice.profile
        self._genai = _genai_client(upstream) if upstream.genai else None

    async def watch(self) -> None:
        """See every few seconds whether the address can be reached; runs until cancelled."""
        host, port = _first_hop(self._upstream)
        while True:
            self.ready = await _answers(host, port)
            if self.ready:
                self.reached.set()
            await asyncio.sleep(PROBE_EVERY_S if self.ready else PROBE_AGAIN_S)

    async def aclose(self) -> None:
        if self._genai:
            await self._genai.aio.aclose()
            self._genai.close()

    @asynccontextmanager
    async def conversation(self, opening: Opening) -> AsyncIterator[ModelStream]:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._upstream.setup_timeout_s):
                    stream = await self._opened(opening, stack)
            except TimeoutError as error:
                raise GatewayError(ErrorCode.UPSTREAM_TIMEOUT) from error
            except (OSError, websockets.WebSocketException) as error:
                raise gateway_error(error) from error
            except GoogleAuthError as error:
                raise _login_error(error) from error
            self.connections += 1
            try:
                yield stream
            finally:
                self.connections -= 1
                await stream.aclose()

    async def _opened(self, opening: Opening, stack: AsyncExitStack) -> _Stream:
        if self._genai:
            socket, complete = await _open_by_genai(self._genai, opening.setup, stack)
            stream = _Stream(socket, self._profile)
        else:
            socket = await self._connect()
            stack.push_async_callback(socket.close)
            stream, complete = _Stream(socket, self._profile), False
            await stream.send_message(opening.setup)
        while not complete:
            complete = (await stream.read_message()).HasField("setup_complete")
        if opening.history is not None:
            await stream.send_message(opening.history)
        return stream

    async def _connect(self) -> ClientConnection:
        upstream = self._upstream
        headers = {"x-goog-api-key": upstream.api_key} if upstream.api_key else None
        return await websockets.connect(
            f"{'wss' if upstream.tls else 'ws'}://{upstream.target}{PATH}",
            additional_headers=headers,
            proxy=None if is_private(_host(upstream)) else True,
            **SOCKET_OPTIONS,
        )


class _Stream(ModelStream):
    """A WebSocket."""

    def __init__(self, socket: ClientConnection, profile: Profile) -> None:
        self._socket = socket
        self._profile = profile
        self._unwritten: Any | None = None
        self._asking: set[asyncio.Task[None]] = set()

    def write(self, item: LiveInput) -> bool:
        self._unwritten = codec.input_message(item, self._profile)
        return self._unwritten is None

    async def drain(self) -> None:
        message, self._unwritten = self._unwritten, None
        if message is not None:
            await self.send_message(message)

    def ask(self, answered: Answered) -> None:
        task = asyncio.get_running_loop().create_task(self._ask(answered))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, answered: Answered) -> None:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await (await self._socket.ping())
        except websockets.ConnectionClosed as error:
            answered(gateway_error(error))
        except TimeoutError:
            answered(GatewayError(ErrorCode.UPSTREAM_LOST))
        else:
            answered(None)

    async def aclose(self) -> None:
        """Ask no more."""
        asking = list(self._asking)
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)

    async def read(self) -> list[LiveEvent]:
        return codec.events(await self.read_message())

    async def read_message(self) -> Any:
        """Return the next message."""
        try:
            return gemini_json.decode(await self._socket.recv(decode=False))
        except websockets.ConnectionClosed as error:
            raise gateway_error(error) from error
        except gemini_json.MalformedError as error:
            raise GatewayError(ErrorCode.UPSTREAM_INTERNAL) from error

    async def send_message(self, message: Any) -> None:
        """Send a message; returns when there is room for another."""
        try:
            await self._socket.send(gemini_json.encode(message))
        except websockets.ConnectionClosed as error:
            raise gateway_error(error) from error


# ---- google-genai


def _genai_client(upstream: Upstream) -> Client:
    if not is_installed():
        raise GatewayError(ErrorCode.UPSTREAM_UNSUPPORTED, _NO_EXTRA)
    from google import genai
    from google.genai import types

    # Everything is named, since google-genai fills in from the environment what is not.
    options = types.HttpOptions(
        base_url=f"https://{upstream.target}",
        api_version="v1beta1" if upstream.vertex else "v1beta",
        async_client_args=dict(SOCKET_OPTIONS),
    )
    if vertex := upstream.vertex:
        return genai.Client(
            vertexai=True,
            credentials=default_credentials(
                "https://www.googleapis.com/auth/cloud-platform",
                "Vertex AI needs Google's application default login, and this machine has none.",
            ),
            project=vertex.project,
            location=vertex.location,
            http_options=options,
        )
    return genai.Client(vertexai=False, api_key=upstream.api_key, http_options=options)


async def _open_by_genai(client: Client, setup: Any, stack: AsyncExitStack) -> tuple[ClientConnection, bool]:
    """Return a connection that the set-up has gone out on, and whether it is acknowledged already."""
    from google.genai import errors, types

    fields = json_format.MessageToDict(setup)["setup"]
    model = fields.pop("model").removeprefix("models/")
    config = types.LiveConnectConfig.model_validate({**fields.pop("generationConfig"), **fields})
    sockets: list[Socket] = []
    opened.set(sockets)
    try:
        session = await stack.enter_async_context(client.aio.live.connect(model=model, config=config))
    except errors.APIError as error:  # it stands for the end of the connection
        cause = error.__context__ or error
        raise gateway_error(cause) from cause
    except ValueError as error:  # the first frame is not what google-genai knows
        raise GatewayError(ErrorCode.UPSTREAM_INTERNAL) from error
    return sockets[-1], session.setup_complete is not None


def _login_error(error: GoogleAuthError) -> GatewayError:
    if isinstance(error, TransportError):
        return GatewayError(ErrorCode.UPSTREAM_LOST)
    _log.error("Google's login was refused: %s", error)
    return GatewayError(ErrorCode.UPSTREAM_UNAUTHORIZED)


# ---- whether anything is there


def _host(upstream: Upstream) -> str:
    return cast(str, urlsplit(f"//{upstream.target}").hostname)


def _first_hop(upstream: Upstream) -> tuple[str, int]:
    """Return what has to answer first: the upstream itself, or the proxy before it."""
    host = _host(upstream)
    proxy = urlsplit(urllib.request.getproxies().get("https", ""))
    if proxy.hostname and not is_private(host) and not urllib.request.proxy_bypass(host):
        return proxy.hostname, proxy.port or 80
    return host, urlsplit(f"//{upstream.target}").port or 443


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
