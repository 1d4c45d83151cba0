"""Binary frames: audio without base64, for clients that asked for it in `client_hello`.

    version u8 | kind u8 | flags u16 | sequence u32 | timestampMs u64 | audio

Big-endian. Kind 1 is an audio_chunk. Kind 2 is an audio_response: what its JSON form says of format and
language stands in the response_started before it, and its text in the transcript_update before it.
"""

from __future__ import annotations

import struct
from typing import Final

from msgspec import Struct

from antiphon.errors import ErrorCode, GatewayError

VERSION: Final = 1
AUDIO_CHUNK: Final = 1
AUDIO_RESPONSE: Final = 2

_HEADER: Final = struct.Struct(">BBHIQ")
HEADER_BYTES: Final = _HEADER.size
MAX_SEQUENCE: Final = 2**32 - 1


class Frame(Struct, frozen=True, gc=False):
    """A binary frame. `sequence` rises by one within a stream of chunks, or within a session's answers."""

    kind: int
    sequence: int
    timestamp_ms: int
    audio: bytes


def pack(frame: Frame) -> bytes:
    """Return the frame's bytes; its sequence goes on at 0 after 2**32 - 1."""
    header = _HEADER.pack(VERSION, frame.kind, 0, frame.sequence & MAX_SEQUENCE, frame.timestamp_ms)
    return header + frame.audio


def unpack(data: bytes | bytearray | memoryview, kind: int) -> Frame:
    """Return the frame in `data`, which must be of the kind. Flags are for later versions, and not looked at.

    Raises:
        GatewayError: PROTOCOL_BAD_BINARY.
    """
    if len(data) < HEADER_BYTES:
        raise _bad(f"It has {len(data)} bytes; the header alone has {HEADER_BYTES}.")
    version, found, _, sequence, timestamp_ms = _HEADER.unpack_from(data)
    if version != VERSION:
        raise _bad(f"Its version is {version}, not {VERSION}.")
    if found != kind:
        raise _bad(f"Its kind is {found}, not {kind}.")
    return Frame(kind, sequence, timestamp_ms, bytes(data[HEADER_BYTES:]))


def _bad(why: str) -> GatewayError:
    return GatewayError(ErrorCode.PROTOCOL_BAD_BINARY, f"The binary frame is not one of this protocol. {why}")
