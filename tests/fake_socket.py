"""The WebSocket form of the fake Gemini: what a script does with an RPC, done with a socket."""

from __future__ import annotations

import asyncio
import http
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import json_format
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from antiphon.gemini.codec import ClientMessage

PATHS = (
    "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
    "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent",
)

_C = grpc.StatusCode
CLOSES = {
    _C.OK: (1000, ""),
    _C.CANCELLED: (1001, ""),
    _C.ABORTED: (1001, ""),
    _C.UNAVAILABLE: (1011, "The service is currently unavailable."),
    _C.DEADLINE_EXCEEDED: (1011, "Deadline expired before operation could complete."),
    _C.RESOURCE_EXHAUSTED: (1011, "You exceeded your current quota."),
    _C.UNAUTHENTICATED: (1008, "Request had invalid authentication credentials."),
    _C.PERMISSION_DENIED: (1008, "The caller does not have permission."),
    _C.INVALID_ARGUMENT: (1007, "Request contains an invalid argument."),
    _C.FAILED_PRECONDITION: (1008, "Precondition check failed."),
    _C.OUT_OF_RANGE: (1007, "Request contains an invalid argument."),
    _C.ALREADY_EXISTS: (1008, "Requested entity already exists."),
    _C.NOT_FOUND: (1008, "models/m is not found for API version v1beta."),
    _C.UNIMPLEMENTED: (1008, "Operation is not implemented, or supported, or enabled."),
    _C.INTERNAL: (1011, "Internal error encountered."),
    _C.UNKNOWN: (1011, "Unknown error."),
    _C.DATA_LOSS: (1011, "Internal error encountered."),
}
"""How the service says a status where it has only close codes."""

# It says of every socket that leaves in the middle of a word; here most of them do.
_log = logging.getLogger("fake_socket")
_log.propagate = False
_log.addHandler(logging.NullHandler())


class AbortedError(Exception):
    """The script has ended its conversation with a status."""


class SocketContext:
    """What a script asks of the context of an RPC."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket

    async def left_with(self) -> int | None:
        """Return the close code that the client has left with."""
        await self._socket.wait_closed()
        return self._socket.close_code

    async def hang_up(self, code: int, until: asyncio.Event) -> None:
        """Say that the conversation is over, and keep the connection for a while all the same."""
        self._socket.transport.pause_reading()
        self._socket.transport.write(b"\x88\x02" + code.to_bytes(2, "big"))
        await until.wait()
        self._socket.transport.resume_reading()

    def invocation_metadata(self) -> list[tuple[str, str]]:
        assert self._socket.request
        pairs = self._socket.request.headers.raw_items()
        return [(":path", self._socket.request.path), *((name.lower(), value) for name, value in pairs)]

    async def write(self, message: Any) -> None:
        """Send a message as JSON, or bytes that are no message as they are."""
        if hasattr(message, "DESCRIPTOR"):
            data = json_format.MessageToJson(message, indent=None).encode()
        else:
            data = message.SerializeToString()
        try:
            await self._socket.send(data)
        except ConnectionClosed:
            raise EOFError from None

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        close, words = CLOSES[code]
        await self._socket.close(close, f"{words} {details}".strip()[:120])
        raise AbortedError


class FakeSocketServer:
    """Serves `converse(requests, context)` to every socket, cancelled when the client leaves."""

    def __init__(
        self,
        converse: Callable[[AsyncIterator[Any], SocketContext], Awaitable[None]],
        refuses_with: Callable[[], int | None],
    ) -> None:
        self._converse = converse
        self._refuses_with = refuses_with
        self._sockets: set[ServerConnection] = set()
        self._server: Server

    async def start(self, port: int, tls: ssl.SSLContext | None) -> int:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            port,
            ssl=tls,
            process_request=self._check,
            max_size=None,
            max_queue=2,
            ping_interval=0.5,  # while nothing is read, only this finds that the client has gone
            ping_timeout=None,
            close_timeout=0.1,
            compression=None,
            logger=_log,
        )
        bound: int = next(iter(self._server.sockets)).getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Break every connection."""
        self._server.close(close_connections=False)
        for socket in self._sockets:
            socket.transport.abort()
        await self._server.wait_closed()

    def _check(self, socket: ServerConnection, request: Request) -> Response | None:
        if status := self._refuses_with():
            response = socket.respond(http.HTTPStatus(status), "no\n")
            response.headers["Retry-After"] = "7"
            return response
        if request.path not in PATHS:
            return socket.respond(http.HTTPStatus.NOT_FOUND, "no\n")
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        self._sockets.add(socket)
        talking = asyncio.ensure_future(self._converse(_requests(socket), SocketContext(socket)))
        leaving = asyncio.create_task(socket.wait_closed())
        try:
            await asyncio.wait([talking, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            talking.cancel()
            leaving.cancel()
            await asyncio.wait([talking, leaving])
            self._sockets.discard(socket)
        if not talking.cancelled() and not isinstance(talking.exception(), AbortedError):
            talking.result()


async def _requests(socket: ServerConnection) -> AsyncIterator[Any]:
    try:
        async for frame in socket:
            yield json_format.Parse(frame, ClientMessage())
    except ConnectionClosed:
        return


async def relay(grpc_port: int, socket_port: int) -> asyncio.Server:
    """Listen for both protocols on one port, as Google does: HTTP/2 begins with PRI, HTTP/1.1 with GET."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(3)
        if not first:
            writer.close()
            return
        onwards, back = await asyncio.open_connection(
            "127.0.0.1", grpc_port if first == b"PRI" else socket_port
        )
        back.write(first)
        await asyncio.gather(copy(reader, back), copy(onwards, writer))

    return await asyncio.start_server(accept, "127.0.0.1", 0)
