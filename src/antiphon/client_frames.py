"""The frames of a WebSocket, as far as they can be told apart (RFC 6455, section 5.2). Pure.

The sans-I/O library of the server takes a client's frame apart step by step, which costs more than all that
is done with what it holds. So frames are cut out here, and those that are whole messages are read here, too;
all others, and all that is wrong, is the library's.
"""

from __future__ import annotations

from typing import Final, NamedTuple

try:
    from websockets.speedups import apply_mask
except ImportError:  # where it was built without its extension
    from websockets.utils import apply_mask

__all__ = ["BINARY", "TEXT", "Cut", "cut", "payload", "server_header"]

TEXT: Final = 0x81
"""The first byte of a frame that is a whole message of text: final, nothing reserved."""
BINARY: Final = 0x82

_MASKED: Final = 0x80
_MASK_BYTES: Final = 4


class Cut(NamedTuple):
    """Where a frame is: from `start` to before `end`, and its payload from `begin` on."""

    first: int
    start: int
    begin: int
    end: int

    @property
    def is_message(self) -> bool:
        return self.first in (TEXT, BINARY)


def cut(data: bytes, at: int, most: int) -> Cut | None:
    """Return where the frame is that begins at a place; None where its header is not whole.

    Raises:
        ValueError: it is not masked, or its payload is longer than `most` bytes.
    """
    left = len(data) - at
    if left < 2:
        return None
    size, begin = data[at + 1], at + 2
    if not size & _MASKED:
        raise ValueError("not masked")
    size &= 0x7F
    if size >= 126:
        width = 2 if size == 126 else 8
        if left < 2 + width:
            return None
        size = int.from_bytes(data[begin : begin + width], "big")
        begin += width
    if size > most:
        raise ValueError("too long")
    begin += _MASK_BYTES
    return Cut(data[at], at, begin, begin + size)


def payload(data: bytes, frame: Cut) -> bytes | bytearray:
    """Return what a frame holds, unmasked."""
    begin = frame.begin
    return apply_mask(data[begin : frame.end], data[begin - _MASK_BYTES : begin])


def server_header(first: int, size: int) -> bytes:
    """Return the header of a server's frame."""
    if size < 126:
        return bytes((first, size))
    if size < 65_536:
        return bytes((first, 126, size >> 8, size & 0xFF))
    return bytes((first, 127)) + size.to_bytes(8, "big")
