"""An HTTP endpoint on loopback, for tests."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import msgspec
from msgspec import Struct

SECRET = "a secret of more than thirty-two bytes"


class Request(Struct):
    head: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.rstrip("\r\n").split("\r\n")[1:]
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def answer(
    body: bytes = b'{"ok":true}',
    kind: str = "application/json",
    status: str = "200 OK",
    headers: str = "",
    length: int | None = None,
) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n"
    kind_line = f"Content-Type: {kind}\r\n" if kind else ""
    return f"{head}{kind_line}{headers}\r\n".encode() + body


def json_answer(value: object) -> bytes:
    return answer(json.dumps(value).encode())


class Endpoint:
    """Answers one request a connection with the bytes in `answer`, and keeps the requests.

    `gate` holds answers back; `hung_up` is set when a client leaves without one.
    """

    def __init__(self) -> None:
        self.answer = answer()
        self.requests: list[Request] = []
        self.connections = 0
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.hung_up = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self.gate.set()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            request = Request((await reader.readuntil(b"\r\n\r\n")).decode(), b"")
            request.body = await reader.readexactly(int(request.headers["content-length"]))
            self.requests.append(request)
            self.asked.set()
            opened, left = asyncio.create_task(self.gate.wait()), asyncio.create_task(reader.read())
            await asyncio.wait({opened, left}, return_when=asyncio.FIRST_COMPLETED)
            if left.done():
                self.hung_up.set()
            opened.cancel()
            left.cancel()
            await asyncio.wait({opened, left})
            writer.write(self.answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up.set()
        finally:
            writer.close()
