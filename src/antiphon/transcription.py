"""What the embedded engine says beside a transcription's text, in private fields of Gemini's message.

`BidiGenerateContentTranscription` has room for text alone. The engine adds unknown fields that any
other client of the RPC skips, as protobuf asks of it, and the gateway reads where they are.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

CONFIDENCE_FIELD: Final = 1000
"""fixed32: a float, 0.0 to 1.0."""
FINAL_FIELD: Final = 1001
"""varint: a bool, whether the utterance ends here."""
WHOLE_FIELD: Final = 1002
"""length-delimited: a string, the whole utterance so far, which replaces all that came before."""

_VARINT: Final = 0
_LENGTH_DELIMITED: Final = 2
_FIXED32: Final = 5


class Hypothesis(NamedTuple):
    """What an engine takes an utterance to be at this moment; `whole` is None where it tells deltas alone."""

    whole: str | None
    confidence: float
    final: bool


def encode(hypothesis: Hypothesis) -> bytes:
    """Return the private fields, for `MergeFromString` into a transcription."""
    fields = [
        _varint(CONFIDENCE_FIELD << 3 | _FIXED32),
        struct.pack("<f", hypothesis.confidence),
        _varint(FINAL_FIELD << 3 | _VARINT),
        b"\x01" if hypothesis.final else b"\x00",
    ]
    if hypothesis.whole is not None:
        whole = hypothesis.whole.encode()
        fields += [_varint(WHOLE_FIELD << 3 | _LENGTH_DELIMITED), _varint(len(whole)), whole]
    return b"".join(fields)


def decode(transcription: Message) -> Hypothesis | None:
    """Return what the private fields of a transcription say; None where it has none or they make no sense."""
    whole: str | None = None
    confidence, final, known = 0.0, False, False
    fields = UnknownFieldSet(transcription)
    for index in range(len(fields)):
        field = fields[index]
        key = (field.field_number, field.wire_type)
        if key == (CONFIDENCE_FIELD, _FIXED32):
            (confidence,) = struct.unpack("<f", struct.pack("<I", field.data))
        elif key == (FINAL_FIELD, _VARINT):
            final = bool(field.data)
        elif key == (WHOLE_FIELD, _LENGTH_DELIMITED):
            try:
                whole = field.data.decode()
            except UnicodeDecodeError:
                return None
        else:
            continue
        known = True
    if not known or not 0.0 <= confidence <= 1.0:
        return None
    return Hypothesis(whole, confidence, final)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


TAGS: Final = (
    _varint(CONFIDENCE_FIELD << 3 | _FIXED32),
    _varint(FINAL_FIELD << 3 | _VARINT),
    _varint(WHOLE_FIELD << 3 | _LENGTH_DELIMITED),
)
"""How the private fields begin; a message without any of them has none."""
