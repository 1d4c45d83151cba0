"""The frames that two workers exchange for a client that one of them has and the other one's session serves.

    kind u8, length u32 (big-endian), payload

Pure. What the payloads are is told by `Kind`.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from antiphon.errors import ErrorCode

MAX_PAYLOAD_BYTES: Final = 1024 * 1024
"""More than any message of either side; a longer frame is a fault."""

_HEADER: Final = struct.Struct(">BI")
_TIME: Final = struct.Struct(">d")
_CODE: Final = struct.Struct(">H")


class Kind(IntEnum):
    """What a frame is; in parentheses what it holds."""

    READY = 1
    """To the client's worker: the session's worker is there, and takes frames (nothing)."""
    TEXT = 2
    """A message, either way (the message)."""
    BINARY = 3
    """A binary message, either way (the message)."""
    CLOSE = 4
    """To the client's worker: close the connection (close code u16, reason)."""
    FAIL = 5
    """To the session's worker: the connection has failed (an error code)."""
    WRITABLE = 6
    """To the session's worker: whether the client's socket takes more (one byte, 0 or 1)."""
    DRAIN = 7
    """To the session's worker: the client's worker stops (f64, seconds that are left)."""
    GONE = 8
    """To the session's worker: the client is gone (one byte; 1: it has closed the connection itself)."""


_KINDS: Final = frozenset(Kind)


class Cut(NamedTuple):
    """A frame found in a buffer: its payload is from `begin` to before `end`, where the next one begins."""

    kind: Kind
    begin: int
    end: int


def pack(kind: Kind, payload: bytes | bytearray | memoryview = b"") -> bytes:
    """Return a frame.

    Raises:
        ValueError: the payload is longer than MAX_PAYLOAD_BYTES.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload of {len(payload)} bytes")
    return _HEADER.pack(kind, len(payload)) + payload


def cut(data: bytes, at: int) -> Cut | None:
    """Return the frame that begins at a place; None where it is not whole yet.

    Raises:
        ValueError: there is no such kind, or it is too long.
    """
    if len(data) - at < _HEADER.size:
        return None
    kind, size = _HEADER.unpack_from(data, at)
    if kind not in _KINDS or size > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a frame of kind {kind} and {size} bytes")
    begin = at + _HEADER.size
    return Cut(Kind(kind), begin, begin + size) if len(data) >= begin + size else None


def pack_close(code: int, reason: str) -> bytes:
    """Return the frame that closes the client's connection."""
    return pack(Kind.CLOSE, _CODE.pack(code) + reason.encode())


def close(payload: bytes) -> tuple[int, str]:
    """Return close code and reason.

    Raises:
        ValueError: it is none.
    """
    try:
        (code,) = _CODE.unpack_from(payload)
    except struct.error as error:
        raise ValueError("a close without a code") from error
    return code, payload[_CODE.size :].decode()


def pack_time(kind: Kind, time_s: float) -> bytes:
    """Return a frame that holds seconds."""
    return pack(kind, _TIME.pack(time_s))


def time(payload: bytes) -> float:
    """Return seconds.

    Raises:
        ValueError: there are none.
    """
    try:
        (time_s,) = _TIME.unpack(payload)
    except struct.error as error:
        raise ValueError("a time of another length") from error
    return float(time_s)


def pack_flag(kind: Kind, *, flag: bool) -> bytes:
    """Return a frame that says yes or no."""
    return pack(kind, bytes([flag]))


def flag(payload: bytes) -> bool:
    """Return yes or no.

    Raises:
        ValueError: it is neither.
    """
    if payload not in (b"\0", b"\1"):
        raise ValueError("neither yes nor no")
    return payload == b"\1"


def error_code(payload: bytes) -> ErrorCode:
    """Return which error it was.

    Raises:
        ValueError: there is no such one.
    """
    return ErrorCode(payload.decode())
