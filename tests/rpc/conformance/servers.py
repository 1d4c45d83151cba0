"""Servers of gRPC that the clients are tested against: grpcio's, and grpc-js's in a process of Node.

Both do what a call tells them, by its API key or, where it has none, by its first message:

    echo                        send back what comes; end where "bye" comes
    hold                        read nothing until `release()`, then as echo
    sink                        read, and say nothing
    end AFTER STATUS TEXT BIN   send back so many messages, then end so; TEXT and BIN (of the trailer
                                grpc-status-details-bin) in hexadecimal digits
    flood COUNT SIZE            send so many messages of so many bytes, numbered by the first four, and end
    metadata                    send the call's metadata as JSON, and end
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import grpc
import grpc.aio

from antiphon.gemini.calls import HEALTH_METHOD, METHOD
from antiphon.gemini.upstream import MAX_MESSAGE_BYTES

SERVING: Final = b"\x08\x01"
"""A `HealthCheckResponse` that says SERVING."""
CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class Stats(NamedTuple):
    """What a server has seen: calls that are open, and that clients left; bytes of messages."""

    open: int
    cancelled: int
    received: int
    sent: int


class Options(NamedTuple):
    """How to serve: with the health service or not, so many streams a connection, over TLS, where."""

    health: bool = True
    streams: int | None = None
    certificate: Path | None = None
    port: int = 0


class Server(Protocol):
    """A server that runs."""

    port: int

    @property
    def target(self) -> str: ...

    async def stats(self) -> Stats: ...

    async def release(self) -> None:
        """Let calls that hold go on."""

    async def leave(self) -> None:
        """Take no more calls, and say so (GOAWAY); those that run go on."""

    async def left(self) -> None:
        """Return when the last call has ended, after `leave()`."""

    async def kill(self) -> None:
        """Stop at once."""


# ---- grpcio


class GrpcioServer:
    """See `Server`."""

    def __init__(self) -> None:
        self.port = 0
        self._open = self._cancelled = self._received = self._sent = 0
        self._released = asyncio.Event()
        self._leaving: asyncio.Task[None] | None = None
        self._is_stopped = False

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, options: Options) -> None:
        settings: list[tuple[str, int]] = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        if options.streams is not None:
            settings.append(("grpc.max_concurrent_streams", options.streams))
        self._server = grpc.aio.server(options=settings)
        self._server.add_generic_rpc_handlers((_Handler(self, health=options.health),))
        address = f"127.0.0.1:{options.port}"
        if options.certificate:
            pem = options.certificate.read_bytes()
            credentials = grpc.ssl_server_credentials([(pem, pem)])
            self.port = self._server.add_secure_port(address, credentials)
        else:
            self.port = self._server.add_insecure_port(address)
        await self._server.start()

    async def stats(self) -> Stats:
        return Stats(self._open, self._cancelled, self._received, self._sent)

    async def release(self) -> None:
        self._released.set()

    async def leave(self) -> None:
        self._leaving = asyncio.create_task(self._server.stop(60))

    async def left(self) -> None:
        assert self._leaving
        await self._leaving

    async def kill(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            await self._server.stop(None)
        if self._leaving:
            await self._leaving

    # ---- calls

    async def serve(self, _: object, context: Any) -> None:
        self._open += 1
        try:
            told = dict(context.invocation_metadata()).get("x-goog-api-key")
            await self._obey((told or (await _read(context)).decode()).split(" "), context)
        except (EOFError, grpc.aio.InternalError):  # which is how a write fails
            self._cancelled += 1
        except asyncio.CancelledError:
            self._cancelled += 1
            raise
        finally:
            self._open -= 1

    async def _obey(self, words: list[str], context: Any) -> None:
        match words:
            case ["echo"]:
                await self._echo(context)
            case ["hold"]:
                await self._released.wait()
                await self._echo(context)
            case ["sink"]:
                while True:
                    self._received += len(await _read(context))
            case ["end", after, status, *rest]:
                for _ in range(int(after)):
                    await context.write(await _read(context))
                text, binary = (bytes.fromhex(word) for word in (*rest, "", "")[:2])
                trailers: list[tuple[str, str | bytes]] = [("x-why", "told so")]
                if binary:
                    trailers.append(("grpc-status-details-bin", binary))
                context.set_trailing_metadata(trailers)
                if int(status):
                    await context.abort(CODES[int(status)], text.decode())
            case ["flood", count, size]:
                for number in range(int(count)):
                    self._sent += int(size)
                    await context.write((number.to_bytes(4, "big") + bytes(int(size)))[: int(size)])
            case ["metadata"]:
                await context.write(json.dumps(dict(context.invocation_metadata())).encode())
            case _:
                await context.abort(grpc.StatusCode.INTERNAL, f"what is {words[0]}?")

    async def _echo(self, context: Any) -> None:
        while (message := await _read(context)) != b"bye":
            self._received += len(message)
            await context.write(message)


async def _read(context: Any) -> bytes:
    """Return the next message.

    Raises:
        EOFError: the client has left; it never ends its side otherwise.
    """
    message = await context.read()
    if message is grpc.aio.EOF:
        raise EOFError
    return bytes(message)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio ships no types
    def __init__(self, server: GrpcioServer, *, health: bool) -> None:
        self._methods = {METHOD: grpc.stream_stream_rpc_method_handler(server.serve)}
        if health:
            self._methods[HEALTH_METHOD] = grpc.unary_unary_rpc_method_handler(_check)

    def service(self, details: Any) -> Any:
        return self._methods.get(details.method)


async def _check(_: bytes, __: Any) -> bytes:
    return SERVING


@asynccontextmanager
async def grpcio_server(options: Options) -> AsyncIterator[GrpcioServer]:
    server = GrpcioServer()
    await server.start(options)
    try:
        yield server
    finally:
        await server.kill()


# ---- grpc-js


class GrpcJsServer:
    """See `Server`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port = 0
        self._reader = reader
        self._writer = writer

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, options: Options) -> None:
        values = options._asdict() | {"certificate": options.certificate and str(options.certificate)}
        self.port = await self._do("start", **values)

    async def stats(self) -> Stats:
        return Stats(**await self._do("stats", port=self.port))

    async def release(self) -> None:
        await self._do("release", port=self.port)

    async def leave(self) -> None:
        await self._do("leave", port=self.port)

    async def left(self) -> None:
        await self._do("left", port=self.port)

    async def kill(self) -> None:
        await self._do("kill", port=self.port)

    async def _do(self, command: str, **values: object) -> Any:
        self._writer.write(json.dumps({"do": command, **values}).encode() + b"\n")
        answer = json.loads(await self._reader.readline())
        assert "error" not in answer, answer
        return answer["answer"]


@asynccontextmanager
async def grpc_js_server(control_port: int, options: Options) -> AsyncIterator[GrpcJsServer]:
    """Serve in the process of Node that is told so by this port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", control_port)
    server = GrpcJsServer(reader, writer)
    try:
        await server.start(options)
        yield server
    finally:
        writer.close()
        await writer.wait_closed()
