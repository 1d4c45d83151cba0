"""An upstream for a TCP proxy: takes a client's messages over WebSocket, answers each chunk with one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from typing import Final, cast

from bench import replies

_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(rb"(?im)^sec-websocket-key:\s*(\S+)")
_AUTHORIZED: Final = b'{"type":"auth_success","timestamp":0,"sessionId":"bench","userId":"bench"}'
_LEAST_CHUNK_BYTES: Final = 512
"""No other message of the load is as long as one that holds audio."""


class WebSocketUpstream(asyncio.Protocol):
    """One connection. `answer` is None where numbers are told, else the message that answers each chunk.

    It does not unmask: what comes is the load's, and its length says what it is.
    """

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._open = False
        self._authorized = False
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def close(self) -> None:
        """End the connection, where there still is one."""
        if self._transport:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        assert self._transport
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not self._open:
            head, whole, data = data.partition(b"\r\n\r\n")
            if not whole:
                self._rest = head
                return
            self._transport.write(_handshake(head))
            self._open = True
        at, end = 0, len(data)
        out = []
        while end - at >= 2:
            size = data[at + 1] & 0x7F
            begin = at + 6
            if size == 126:
                size = int.from_bytes(data[at + 2 : at + 4], "big")
                begin += 2
            elif size == 127:
                size = int.from_bytes(data[at + 2 : at + 10], "big")
                begin += 8
            if begin + size > end:
                break
            if data[at] & 0x0F == 8:
                self._transport.close()
                return
            out += self._answers(size)
            at = begin + size
        self._rest = data[at:]
        if out:
            self._transport.write(b"".join(out))

    def _answers(self, size: int) -> list[bytes]:
        if not self._authorized:
            self._authorized = True
            return [frame(_AUTHORIZED)]
        if size < _LEAST_CHUNK_BYTES:
            return []
        number, self._number = self._number, self._number + 1
        return [frame(self._answer or replies.transcription_text(number))]


def frame(payload: bytes) -> bytes:
    """Return a server's text frame."""
    if len(payload) < 126:
        return bytes((0x81, len(payload))) + payload
    return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload


def _handshake(head: bytes) -> bytes:
    found = _KEY.search(head)
    assert found, "what came is no handshake of WebSocket"
    accepted = base64.b64encode(hashlib.sha1(found[1] + _MAGIC, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
    )
