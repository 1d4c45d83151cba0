"""HTTP/2's frames, as bytes (RFC 9113, sections 4 and 6). Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from antiphon.rpc.events import Frame
from antiphon.rpc.status import Http2Code, Http2Error

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITISED: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9
FRAME_BYTES: Final = 16_384
"""The payload that every peer takes, and all that is taken here."""
MAX_FRAME_BYTES: Final = 2**24 - 1
WINDOW_BYTES: Final = 65_535
MAX_WINDOW_BYTES: Final = 2**31 - 1

_HEADER: Final = struct.Struct(">HBBBI")
_SETTING: Final = struct.Struct(">HI")
_WORD: Final = struct.Struct(">I")
_TWO_WORDS: Final = struct.Struct(">II")


def pack(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return head(len(payload), kind, flags, stream) + payload


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """Return the nine bytes before a payload."""
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return pack(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values.items()))


def window_update(stream: int, size: int) -> bytes:
    """Return a WINDOW_UPDATE; for the connection where the stream is 0."""
    return pack(WINDOW_UPDATE, 0, stream, _WORD.pack(size))


def reset(stream: int, code: int) -> bytes:
    """Return a RST_STREAM."""
    return pack(RST_STREAM, 0, stream, _WORD.pack(code))


def go_away(last_stream: int, code: int, debug: bytes = b"") -> bytes:
    """Return a GOAWAY."""
    return pack(GOAWAY, 0, 0, _TWO_WORDS.pack(last_stream, code) + debug)


class FrameReader:
    """Cuts what comes into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole; to be exhausted before the next call.

        Raises:
            Http2Error: FRAME_SIZE_ERROR, before anything of a frame that is too long is kept.
        """
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= HEADER_BYTES:
            high, low, kind, flags, stream = _HEADER.unpack_from(data, at)
            length = high << 8 | low
            if length > FRAME_BYTES:
                raise Http2Error(Http2Code.FRAME_SIZE_ERROR, f"A frame of {length} bytes is too long.")
            stop = at + HEADER_BYTES + length
            if stop > end:
                break
            yield Frame(kind, flags, stream & 0x7FFF_FFFF, data[at + HEADER_BYTES : stop])
            at = stop
        self._rest = data[at:]


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """Return the settings of a frame, by number and value, in order.

    Raises:
        Http2Error: FRAME_SIZE_ERROR, or a value is none.
    """
    if len(payload) % _SETTING.size:
        raise Http2Error(Http2Code.FRAME_SIZE_ERROR, "SETTINGS are not whole.")
    found = [(int(name), int(value)) for name, value in _SETTING.iter_unpack(payload)]
    for name, value in found:
        if name == ENABLE_PUSH and value:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "A server cannot enable push.")
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW_BYTES:
            raise Http2Error(Http2Code.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large.")
        if name == MAX_FRAME_SIZE and not FRAME_BYTES <= value <= MAX_FRAME_BYTES:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range.")
    return found


def parse_word(payload: bytes, what: str) -> int:
    """Return the only 32 bits of a payload.

    Raises:
        Http2Error: FRAME_SIZE_ERROR.
    """
    if len(payload) != _WORD.size:
        raise Http2Error(Http2Code.FRAME_SIZE_ERROR, f"{what} is not of four bytes.")
    return int(_WORD.unpack(payload)[0])


def parse_go_away(payload: bytes) -> tuple[int, int, bytes]:
    """Return the last stream, the error code and what is said besides.

    Raises:
        Http2Error: FRAME_SIZE_ERROR.
    """
    if len(payload) < _TWO_WORDS.size:
        raise Http2Error(Http2Code.FRAME_SIZE_ERROR, "GOAWAY is too short.")
    last, code = _TWO_WORDS.unpack_from(payload)
    return last & 0x7FFF_FFFF, code, payload[_TWO_WORDS.size :]


def unpadded(frame: Frame) -> bytes:
    """Return the payload of DATA or HEADERS without padding and priority.

    Raises:
        Http2Error: it has more padding than payload, or is too short for its flags.
    """
    payload, begin, padding = frame.payload, 0, 0
    if frame.flags & PADDED:
        if not payload:
            raise Http2Error(Http2Code.FRAME_SIZE_ERROR, "A padded frame is empty.")
        begin, padding = 1, payload[0]
    if frame.kind == HEADERS and frame.flags & PRIORITISED:
        begin += 5
    if begin + padding > len(payload):
        raise Http2Error(Http2Code.PROTOCOL_ERROR, "A frame has more padding than payload.")
    return payload[begin : len(payload) - padding]
