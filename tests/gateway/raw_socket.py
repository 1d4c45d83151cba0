"""A WebSocket client that says whatever it is told to, however wrong, and does nothing of itself."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from gateway.talker import Message, checked

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1 = 0x40

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


class Response(NamedTuple):
    """An HTTP response; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    announced: int | None = None,
) -> bytes:
    """Return a frame; `announced` is the length that its header tells, if not the true one."""
    length = len(payload) if announced is None else announced
    header = bytes([fin << 7 | rsv | opcode])
    if length < 126:
        header += bytes([masked << 7 | length])
    elif length < 1 << 16:
        header += struct.pack(">BH", masked << 7 | 126, length)
    else:
        header += struct.pack(">BQ", masked << 7 | 127, length)
    if not masked:
        return header + payload
    mask = os.urandom(4)
    repeated = mask * (len(payload) // 4 + 1)
    return header + mask + bytes(a ^ b for a, b in zip(payload, repeated, strict=False))


class RawSocket:
    """A connected socket."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: socket.socket
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._client = client

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def request(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: bytes = b""
    ) -> Response:
        """Send a request and return its response, read to the end of the connection unless it is a 101."""
        self.send(request(path, headers, method) + body)
        return await self.response()

    async def response(self) -> Response:
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            status_line, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            status = int(status_line.split()[1])
            body = b"" if status == 101 else await self.reader.read()
        return Response(status, headers, body)

    async def upgrade(self, **headers: str) -> Response:
        response = await self.request("/ws", {**UPGRADE, **headers})
        assert response.status == 101
        return response

    async def receive(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame."""
        async with asyncio.timeout(5):
            first, length = await self.reader.readexactly(2)
            assert first & 0x70 == 0, "a reserved bit is set"
            assert first & 0x80, "fragmented"
            assert length < 0x80, "masked"
            if length == 126:
                (length,) = struct.unpack(">H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(length)

    async def message(self) -> Message:
        opcode, payload = await self.receive()
        assert opcode == TEXT
        return checked(payload.decode())

    async def closed(self, code: str, close: int) -> None:
        """Take one error of this code, this close frame, and the end of the connection."""
        error = await self.message()
        assert (error["type"], error["code"], error["details"]["fatal"]) == ("error", code, True), error
        opcode, payload = await self.receive()
        assert opcode == CLOSE
        assert payload == struct.pack(">H", close) + code.encode()
        self.send(frame(CLOSE, payload[:2]))
        await self.ended()

    async def ended(self, within_s: float = 5) -> None:
        """Wait for the end of the connection, by FIN or RST."""
        async with asyncio.timeout(within_s):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass

    def stop_reading(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a write transport reads, too

    def start_reading(self) -> None:
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above

    def half_close(self) -> None:
        """Send FIN, and go on to read."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Vanish with RST, as a killed machine's successor answers."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def request(path: str, headers: dict[str, str] | None = None, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1"]
    headers = {"Host": "gateway.test", "Connection": "close", **(headers or {})}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def raw_socket(port: int, receive_buffer_bytes: int | None = None) -> AsyncIterator[RawSocket]:
    """Connect; a small receive buffer lets little wait in the kernel for a client that does not read."""
    client = socket.socket()
    if receive_buffer_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=client, limit=2**20)
    try:
        yield RawSocket(reader, writer, client)
    finally:
        writer.transport.abort()
