"""What a model heard, in a file that survives the end of the process that writes it.

One file a stream, to which records are only ever added, each by one write of the system: kind, time, length,
and the data.
"""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

_HEADER: Final = struct.Struct("<cdI")

OPENED: Final = b"o"
READY: Final = b"s"
AUDIO: Final = b"a"
AUDIO_END: Final = b"e"
TEXT: Final = b"t"
RESULT: Final = b"r"
MUTE: Final = b"m"
GO_AWAY: Final = b"g"
HANDLE: Final = b"h"
CLOSED: Final = b"x"


class Entry(NamedTuple):
    """Something that happened on a stream; `at` is seconds since the epoch."""

    kind: bytes
    at: float
    data: bytes

    @property
    def fields(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data or b"{}")
        return found


class Recorder:
    """Writes the file of one stream."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, kind: bytes, data: bytes = b"", **fields: Any) -> None:
        data = data or (json.dumps(fields).encode() if fields else b"")
        os.write(self._file, _HEADER.pack(kind, time.time(), len(data)) + data)

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> list[Entry]:
    """Return the entries of a file; one that was being written when its process ended is left out."""
    data = path.read_bytes()
    entries, at = [], 0
    while at + _HEADER.size <= len(data):
        kind, when, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if at + length > len(data):
            break
        entries.append(Entry(kind, when, data[at : at + length]))
        at += length
    return entries


def read_all(folder: Path) -> list[list[Entry]]:
    """Return the streams of a folder, the first opened first."""
    streams = [read(path) for path in folder.glob("*.stream")]
    return sorted((stream for stream in streams if stream), key=lambda stream: stream[0].at)
