"""A client's side of WebSocket (RFC 6455), as bytes: the handshake, and frames that are built once. Pure."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

MAX_FRAME_BYTES: Final = 1024 * 1024
MAX_HANDSHAKE_BYTES: Final = 64 * 1024

_FINAL: Final = 0x80
_MASKED: Final = 0x80
_LENGTH_16: Final = Struct(">H")
_LENGTH_64: Final = Struct(">Q")


class FrameError(Exception):
    """What came is not what a server of WebSocket sends; a sentence."""


class Frame(NamedTuple):
    """A server's frame, where it lies in the bytes that came."""

    kind: int
    data: bytes
    begin: int
    end: int

    @property
    def payload(self) -> bytes:
        return self.data[self.begin : self.end]


def handshake(host: str, path: str, subprotocol: str | None) -> bytes:
    """Return the request that opens a WebSocket; `host` with its port, where that is not the usual one."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        "User-Agent: antiphon-bench",
    ]
    if subprotocol:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def masked(kind: int, payload: bytes) -> bytes:
    """Return a client's frame under a mask of its own.

    The mask is a real one, so that the server has what work it has with any client's; the frame is built
    once and sent by all sessions, so it costs the generator nothing.
    """
    size = len(payload)
    if size < 126:
        head = bytes((_FINAL | kind, _MASKED | size))
    elif size < 65_536:
        head = bytes((_FINAL | kind, _MASKED | 126)) + _LENGTH_16.pack(size)
    else:
        head = bytes((_FINAL | kind, _MASKED | 127)) + _LENGTH_64.pack(size)
    mask = secrets.token_bytes(4)
    pad = (mask * (size // 4 + 1))[:size]
    hidden = int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")
    return head + mask + hidden.to_bytes(size, "little")


class FrameReader:
    """Cuts what a server sends into frames."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole; to be exhausted before the next call.

        Raises:
            FrameError: a frame is masked, in pieces, or too long.
        """
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= 2:
            first, size = data[at], data[at + 1]
            begin = at + 2
            if size == 126:
                begin += 2
                if begin > end:
                    break
                (size,) = _LENGTH_16.unpack_from(data, at + 2)
            elif size == 127:
                begin += 8
                if begin > end:
                    break
                (size,) = _LENGTH_64.unpack_from(data, at + 2)
            elif size > 127:
                raise FrameError("The server sent a masked frame, which only clients do.")
            if size > MAX_FRAME_BYTES:
                raise FrameError(f"The server sent a frame of {size} bytes.")
            if not first & _FINAL or not first & 0x0F:
                raise FrameError(
                    "The server sent a message in pieces, which this client does not put together."
                )
            stop = begin + size
            if stop > end:
                break
            yield Frame(first & 0x0F, data, begin, stop)
            at = stop
        self._rest = data[at:] if at < end else b""
