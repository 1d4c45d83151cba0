"""Bytes in any pieces to what they carry: server-sent events (WHATWG HTML, 9.2), or one document."""

from __future__ import annotations

import re
from typing import Final

MAX_EVENT_BYTES: Final = 256 * 1024
"""Of one event, its lines together."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class TooLong(ValueError):  # noqa: N818 (it reads as what happened)
    """An event, or the document, is longer than it may be."""


class EventReader:
    """Reads one stream. Comments and all fields but `data` are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[str]:
        """Take bytes; return the data of the events that are complete with them.

        Raises:
            TooLong: an event is too long.
        """
        data = self._rest + piece
        *lines, rest = _LINE_END.split(data)
        if data.endswith(b"\r"):
            # Half a line end, perhaps.
            rest = lines.pop() + b"\r"
        self._rest = rest
        found = [event for line in lines if (event := self._line(line)) is not None]
        if self._size + len(rest) > MAX_EVENT_BYTES:
            raise TooLong("an event is too long")
        return found

    def end(self) -> list[str]:
        """Return the data of an event that the end of the stream cut off, or completed."""
        last = self._line(self._rest.rstrip(b"\r"))
        self._rest = b""
        events = [last, self._line(b"")]
        return [data for data in events if data is not None]

    def _line(self, line: bytes) -> str | None:
        if not line:
            data, self._data, self._size = self._data, [], 0
            return b"\n".join(data).decode(errors="replace") if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
        return None


class WholeReader:
    """Reads one document of at most `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()

    @property
    def whole(self) -> bytes:
        return bytes(self._data)

    def feed(self, piece: bytes) -> list[str]:
        """Take bytes; nothing is complete before the end.

        Raises:
            TooLong: there are too many.
        """
        self._data += piece
        if len(self._data) > self._max_bytes:
            raise TooLong("its answer has no end")
        return []

    def end(self) -> list[str]:
        """Return the document."""
        return [self._data.decode(errors="replace")]
