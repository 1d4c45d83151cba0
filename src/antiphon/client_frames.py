"""The frames of a WebSocket, as far as they can be told apart (RFC 6455, section 5.2). Pure.

The sans-I/O library of the server takes a client's frame apart step by step, which costs more than all that
is done with what it holds. So frames are cut out here, and those that are whole messages are read here, too;
all others, and all that is wrong, is the library's.
"""

from __future__ import annotations

from typing import Final

from websockets import frames

__all__ = ["BINARY", "TEXT", "cut", "payload", "server_header"]

TEXT: Final = 0x81
"""The first byte of a frame that is a whole message of text: final, nothing reserved."""
BINARY: Final = 0x82

apply_mask = frames.apply_mask  # type: ignore[attr-defined]  # the one in C, where there is one

_MASKED: Final = 0x80
_MASK_BYTES: Final = 4


def cut(data: bytes, at: int, most: int) -> tuple[int, int] | None:
    """Return where the payload of the frame that begins at a place begins, and where it ends; None where the
    frame's header is not whole.

    Raises:
        ValueError: it is not masked, or its payload is longer than `most` bytes.
    """
    left = len(data) - at
    if left < 2:
        return None
    size, begin = data[at + 1] - _MASKED, at + 2 + _MASK_BYTES
    if size < 0:
        raise ValueError("not masked")
    if size == 126:
        if left < 4:
            return None
        size, begin = data[at + 2] << 8 | data[at + 3], begin + 2
    elif size == 127:
        if left < 10:
            return None
        size, begin = int.from_bytes(data[at + 2 : at + 10], "big"), begin + 8
    if size > most:
        raise ValueError("too long")
    return begin, begin + size


def payload(data: bytes, begin: int, end: int) -> bytes | bytearray:
    """Return what a frame holds, unmasked."""
    return apply_mask(data[begin:end], data[begin - _MASK_BYTES : begin])


def server_header(first: int, size: int) -> bytes:
    """Return the header of a server's frame."""
    if size < 126:
        return bytes((first, size))
    if size < 65_536:
        return bytes((first, 126, size >> 8, size & 0xFF))
    return bytes((first, 127)) + size.to_bytes(8, "big")
