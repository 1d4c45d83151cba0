"""What the embedded engine says of the user's voice as such, in private fields of Gemini's message.

`BidiGenerateContentServerContent` tells what the user says and that an answer was interrupted, but not when
the user began to speak and when they ceased. The engine adds unknown fields that any other client of the RPC
skips, as protobuf asks of it, and the gateway reads where they are.
"""

from __future__ import annotations

import math
import struct
from typing import Final

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

STARTED_FIELD: Final = 1010
"""varint: a bool, whether the user has begun to speak; otherwise they have ceased."""
AT_MS_FIELD: Final = 1011
"""fixed64: a double, where in the audio of this connection, in milliseconds."""

_VARINT: Final = 0
_FIXED64: Final = 1


def encode(started: bool, at_ms: float | None) -> bytes:
    """Return the private fields, for `MergeFromString` into a server content."""
    fields = _key(STARTED_FIELD, _VARINT) + (b"\x01" if started else b"\x00")
    return fields if at_ms is None else fields + _key(AT_MS_FIELD, _FIXED64) + struct.pack("<d", at_ms)


def decode(server_content: Message) -> tuple[bool, float | None] | None:
    """Return whether the user began to speak, and where; None without the fields or if they make no sense."""
    started: bool | None = None
    at_ms: float | None = None
    fields = UnknownFieldSet(server_content)
    for index in range(len(fields)):
        field = fields[index]
        key = (field.field_number, field.wire_type)
        if key == (STARTED_FIELD, _VARINT):
            started = bool(field.data)
        elif key == (AT_MS_FIELD, _FIXED64):
            (at_ms,) = struct.unpack("<d", struct.pack("<Q", field.data))
    if started is None or (at_ms is not None and not 0.0 <= at_ms < math.inf):
        return None
    return started, at_ms


def _key(field: int, wire_type: int) -> bytes:
    """Return the tag of a field of 16 to 2,047: a varint of two bytes."""
    tag = field << 3 | wire_type
    return bytes((tag & 0x7F | 0x80, tag >> 7))


TAG: Final = _key(STARTED_FIELD, _VARINT)
"""How the private fields begin; a message without it has none."""
