"""Ogg: packets to pages, and a byte stream back to pages and packets (RFC 3533).

A page says where it ends and carries a CRC-32, but its body may hold anything, page headers too. So every
header found opens a *candidate*, and whichever ends first with its CRC right is a page: what a false or
damaged header claims does not keep the true pages behind it waiting. Time is linear in the input.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from fastcrc import crc32
from msgspec import Struct

MAX_PAGE_BYTES: Final = 27 + 255 + 255 * 255

_MAX_CANDIDATES: Final = 8
_CAPTURE: Final = b"OggS"
_HEADER: Final = struct.Struct("<4sBBqIIIB")
"""Capture pattern, version, flags, granule position, serial, number, CRC, count of segments."""
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_NO_GRANULE: Final = -1


class Page(Struct, frozen=True, gc=False):
    """A page whose CRC is right.

    `granule` is the position at the end of the last packet that ends here, None where none does. `parts` are
    its packets; the first goes on with an earlier page's where `continued`, the last is gone on with where
    `unfinished`.
    """

    serial: int
    number: int
    granule: int | None
    first: bool
    last: bool
    continued: bool
    unfinished: bool
    parts: tuple[bytes, ...]


class Hole(Struct, frozen=True, gc=False):
    """Something was left out here."""


class PageWriter:
    """Write one logical stream."""

    def __init__(self, serial: int) -> None:
        self._serial = serial
        self._number = 0

    def write(self, packets: Iterable[tuple[bytes, int]], *, last: bool = False) -> bytes:
        """Return pages that hold the packets, each with the granule position at its end.

        The first page written is the stream's first one, and a head is to have it for itself.
        """
        pages: list[bytes] = []
        lacing = bytearray()
        body = bytearray()
        granule, flags = _NO_GRANULE, 0
        for packet, position in packets:
            for place in range(0, len(packet) + 1, 255):
                if len(lacing) == 255:
                    pages.append(self._page(lacing, body, granule, flags))
                    lacing.clear()
                    body.clear()
                    granule, flags = _NO_GRANULE, _CONTINUED if place else 0
                segment = packet[place : place + 255]
                lacing.append(len(segment))
                body += segment
            granule = position
        if lacing:
            pages.append(self._page(lacing, body, granule, flags | (_LAST if last else 0)))
        return b"".join(pages)

    def _page(self, lacing: bytearray, body: bytearray, granule: int, flags: int) -> bytes:
        if not self._number:
            flags |= _FIRST
        head = [_CAPTURE, 0, flags, granule, self._serial, self._number]
        self._number += 1
        page = bytearray(_HEADER.pack(*head, 0, len(lacing)) + lacing + body)
        page[22:26] = _crc(page).to_bytes(4, "little")
        return bytes(page)


class PageReader:
    """Find the pages of a stream that arrives in pieces, cut anywhere, with anything between them.

    Pages of all logical streams come out, in order, and a Hole once for each region that is no page, before
    the next page. Buffers at most a page beyond the piece it was given. What comes out depends on the bytes
    alone, not on their cutting. All methods are to be iterated to the end.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # every header that begins before this place is known
        self._explained = 0  # everything before this place was pages
        self._damaged = False  # and said so, since the last page
        self._candidates: list[tuple[int, int]] = []  # begin and end, by begin

    def feed(self, data: bytes) -> Iterator[Page | Hole]:
        """Yield what the next piece of the stream completes."""
        self._buffer += data
        while True:
            self._scan()
            begin, end = min(self._candidates, key=_end, default=(0, MAX_PAGE_BYTES + len(self._buffer)))
            if end > len(self._buffer):
                break
            self._candidates.remove((begin, end))
            if page := _parse(bytes(self._buffer[begin:end])):
                if begin != self._explained:
                    yield from self._report()
                self._explained = end
                self._scanned = max(self._scanned, end)
                self._damaged = False
                self._candidates = [other for other in self._candidates if other[0] >= end]
                yield page
        begin = self._candidates[0][0] if self._candidates else self._scanned
        if begin > self._explained:
            yield from self._report()
        self._forget(begin)

    def snapshot(self) -> tuple[bytes, int, bool]:
        """Return what another reader needs to go on from here."""
        return bytes(self._buffer), self._explained, self._damaged

    def restore(self, buffer: bytes, explained: int, damaged: bool) -> None:
        """Go on from where another reader was. There is no whole page in what it held."""
        self._buffer += buffer
        self._explained, self._damaged = explained, damaged

    def resync(self) -> None:
        """Drop what is not whole; the next piece does not follow on. No Hole from that is said."""
        self._restart(damaged=True)

    def flush(self) -> Iterator[Hole]:
        """Yield what is left when nothing more will come."""
        if self._explained != len(self._buffer):
            yield from self._report()
        self._restart(damaged=False)

    def _scan(self) -> None:
        """Open the candidates whose header is there, and ends before the first of the open ones does."""
        limit = min((len(self._buffer), *(end for _, end in self._candidates)))
        while (at := self._buffer.find(_CAPTURE, self._scanned)) >= 0:
            self._scanned = at
            lacing = at + _HEADER.size
            if lacing > limit or (body := lacing + self._buffer[lacing - 1]) > limit:
                return
            self._scanned += 1
            known = not self._buffer[at + 4] and self._buffer[at + 5] < 8  # the version, the flags
            if known and len(self._candidates) < _MAX_CANDIDATES:
                end = body + sum(self._buffer[lacing:body])
                self._candidates.append((at, end))
                limit = min(limit, end)
        self._scanned = max(self._scanned, len(self._buffer) - len(_CAPTURE) + 1)

    def _report(self) -> Iterator[Hole]:
        if not self._damaged:
            self._damaged = True
            yield Hole()

    def _restart(self, *, damaged: bool) -> None:
        self._buffer.clear()
        self._candidates.clear()
        self._scanned = self._explained = 0
        self._damaged = damaged

    def _forget(self, size: int) -> None:
        """Drop the buffer's first bytes; places are counted from its beginning."""
        del self._buffer[:size]
        self._scanned -= size
        self._explained -= size
        self._candidates = [(begin - size, end - size) for begin, end in self._candidates]


class PacketReader:
    """Put the packets of one logical stream together from its pages.

    A packet longer than `max_bytes` comes out as its first `max_bytes + 1`.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._number: int | None = None
        self._unfinished: bytes | None = None

    def feed(self, page: Page) -> Iterator[bytes | Hole]:
        """Yield the packets that end on the next page, and a Hole where one or more are lost."""
        if self._number is not None and page.number != self._number:
            self._unfinished = None
            yield Hole()
        self._number = page.number + 1 & 0xFFFFFFFF
        if not page.parts:
            return
        *whole, tail = page.parts
        if not page.unfinished:
            whole.append(tail)
        begun, self._unfinished = self._unfinished, None
        if page.continued != (begun is not None):
            yield Hole()
        for place, part in enumerate(whole):
            if place or not page.continued:
                yield part[: self._max_bytes + 1]
            elif begun is not None:
                yield (begun + part)[: self._max_bytes + 1]
        if page.unfinished and (whole or not page.continued):
            self._unfinished = tail[: self._max_bytes + 1]
        elif page.unfinished and begun is not None:
            self._unfinished = (begun + tail)[: self._max_bytes + 1]


def _end(candidate: tuple[int, int]) -> int:
    return candidate[1]


def _crc(page: bytes | bytearray) -> int:
    """Return the CRC of a page: polynomial 0x04C11DB7, nothing reflected or inverted, its own field zero."""
    return int(crc32.cksum(bytes(page[:22]) + bytes(4) + bytes(page[26:]))) ^ 0xFFFFFFFF


def _parse(page: bytes) -> Page | None:
    """Return the page that is all of these bytes, or None where its CRC is wrong."""
    _, _, flags, granule, serial, number, crc, count = _HEADER.unpack_from(page)
    if crc != _crc(page):
        return None
    lacing = page[_HEADER.size : _HEADER.size + count]
    parts = []
    begin = end = _HEADER.size + count
    for segment in lacing:
        end += segment
        if segment < 255:
            parts.append(page[begin:end])
            begin = end
    unfinished = lacing.endswith(b"\xff")
    if unfinished:
        parts.append(page[begin:end])
    return Page(
        serial=serial,
        number=number,
        granule=None if granule == _NO_GRANULE else granule,
        first=bool(flags & _FIRST),
        last=bool(flags & _LAST),
        continued=bool(flags & _CONTINUED),
        unfinished=unfinished,
        parts=tuple(parts),
    )
