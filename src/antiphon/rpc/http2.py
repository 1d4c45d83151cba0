"""A client's side of an HTTP/2 connection (RFC 9113), without I/O.

Bytes of the peer go into `receive()`, events come out; what is to be written waits in `take()`. Streams are
opened, written to and reset by number. What may be sent is bounded by the peer's windows and waits here
beyond them; what the peer may send is bounded by ours: a stream's is opened again by what `consumed()` tells,
the connection's at once, as the streams bound it.

What a peer does wrong with one stream resets that stream. What it does wrong with the connection raises
`Http2Error`, once the GOAWAY that says so waits to be written; the connection is over then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError

from antiphon.rpc import frames
from antiphon.rpc.events import (
    DataCame,
    Event,
    Flushed,
    Frame,
    GoingAway,
    Headers,
    HeadersCame,
    PingAnswered,
    SettingsCame,
    StreamReset,
)
from antiphon.rpc.frames import FrameReader
from antiphon.rpc.status import Http2Code, Http2Error

STREAM_WINDOW_BYTES: Final = 256 * 1024
"""What the peer may send on a stream beyond what was consumed: 5 s of answers at 24 kHz."""
CONNECTION_WINDOW_BYTES: Final = 16 * 1024 * 1024
HEADER_LIST_BYTES: Final = 64 * 1024
"""Headers that come, as HPACK's list size counts them and as they travel."""
ASSUMED_STREAMS: Final = 100
"""What a peer allows that has not said so yet."""
MAX_IDLE_FRAMES: Final = 1000
"""Frames that bring nothing (SETTINGS, PING, empty DATA) while nothing else is sent either way."""
MAX_UNTAKEN_BYTES: Final = 1024 * 1024
"""Answers to frames, where nobody writes them."""


class _Stream:
    """A stream whose end has not come."""

    __slots__ = ("ends", "is_writable", "send_window", "unread", "waiting", "window")

    def __init__(self, send_window: int) -> None:
        self.send_window = send_window
        self.window = STREAM_WINDOW_BYTES
        """What the peer may send for now."""
        self.unread = 0
        """Consumed, and not yet given back to the peer's window."""
        self.waiting: deque[memoryview] = deque()
        self.ends = False
        """Whether the stream ends behind what waits."""
        self.is_writable = True


class Http2Client:
    """See the module."""

    def __init__(self) -> None:
        self.is_going_away = False
        """Whether the peer takes no more streams, or there are no more numbers for them."""
        self.has_settings = False
        # What is to be written, in order; `take()` it.
        self.pending: list[bytes] = [
            frames.PREFACE,
            frames.settings(
                {
                    frames.ENABLE_PUSH: 0,
                    frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
                    frames.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES,
                }
            ),
            frames.window_update(0, CONNECTION_WINDOW_BYTES - frames.WINDOW_BYTES),
        ]
        self.answer_bytes = 0
        """How much of what `take()` returns the peer has asked for by its frames."""
        self._reader = FrameReader()
        self._encoder = Encoder()
        self._decoder = Decoder(max_header_list_size=HEADER_LIST_BYTES)
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._send_window = frames.WINDOW_BYTES
        self._window = CONNECTION_WINDOW_BYTES
        self._unread = 0
        self._first_window = frames.WINDOW_BYTES
        self._frame_bytes = frames.FRAME_BYTES
        self._max_streams = ASSUMED_STREAMS
        self._idle_frames = 0
        self._block: tuple[int, bytes, bool] | None = None
        """Headers that are not whole: stream, what came of them, whether the stream ends with them."""

    # ---- streams

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    @property
    def room(self) -> int:
        """How many more streams may be opened."""
        return 0 if self.is_going_away else max(0, self._max_streams - len(self._streams))

    def open(self, headers: Headers, *, ends: bool = False) -> int:
        """Open a stream with these headers, pseudo headers first; return its number."""
        assert self.room, "the peer takes no more streams"
        number, self._next = self._next, self._next + 2
        self.is_going_away |= self._next > frames.MAX_WINDOW_BYTES
        stream = self._streams[number] = _Stream(self._first_window)
        stream.is_writable = not ends
        block = self._encoder.encode(headers)
        kind, flags = frames.HEADERS, frames.END_STREAM * ends
        for at in range(0, max(1, len(block)), self._frame_bytes):
            part = block[at : at + self._frame_bytes]
            last = frames.END_HEADERS * (at + self._frame_bytes >= len(block))
            self.pending.append(frames.pack(kind, flags | last, number, part))
            kind, flags = frames.CONTINUATION, 0
        return number

    def send(self, number: int, data: bytes, *, ends: bool = False) -> bool:
        """Send bytes on a stream, or let them wait for the peer's windows; return whether none wait.

        Nothing is sent on a stream that is over.
        """
        stream = self._streams.get(number)
        if stream is None or not stream.is_writable or stream.ends:
            return True
        self._idle_frames = 0
        size = len(data)
        if (
            size <= stream.send_window
            and size <= self._send_window
            and size <= self._frame_bytes
            and not stream.waiting
        ):
            stream.send_window -= size
            self._send_window -= size
            self.pending.append(frames.head(size, frames.DATA, frames.END_STREAM * ends, number))
            self.pending.append(data)
            stream.is_writable = not ends
            return True
        stream.waiting.append(memoryview(data))
        stream.ends = ends
        return self._flush(number, stream)

    def waiting_bytes(self, number: int) -> int:
        """Return how much waits on a stream for the peer's windows."""
        stream = self._streams.get(number)
        return sum(map(len, stream.waiting)) if stream else 0

    def reset(self, number: int, code: Http2Code = Http2Code.CANCEL) -> None:
        """End a stream at once; nothing happens where it is over."""
        if self._streams.pop(number, None):
            self.pending.append(frames.reset(number, code))

    def consumed(self, number: int, size: int) -> None:
        """Let the peer send so much more on a stream."""
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.unread += size
        if stream.unread >= STREAM_WINDOW_BYTES // 2:
            self.pending.append(frames.window_update(number, stream.unread))
            stream.window += stream.unread
            stream.unread = 0

    def ping(self, payload: bytes) -> None:
        """Ask whether the peer is there, with eight bytes that it answers with."""
        assert len(payload) == 8
        self.pending.append(frames.pack(frames.PING, 0, 0, payload))

    def go_away(self, code: Http2Code = Http2Code.NO_ERROR) -> None:
        """Say that the connection is closed."""
        self.pending.append(frames.go_away(0, code))

    def take(self) -> list[bytes]:
        """Return what is to be written, in order."""
        out, self.pending = self.pending, []
        self.answer_bytes = 0
        return out

    # ---- from the peer

    def receive(self, data: bytes) -> Iterator[Event]:
        """Yield what comes of bytes of the peer; to be exhausted before the next call.

        Raises:
            Http2Error: the connection is over.
        """
        try:
            for frame in self._reader.feed(data):
                if frame.kind == frames.DATA and self.has_settings and not self._block:
                    if came := self._data(frame):
                        yield came
                else:
                    yield from self._take_frame(frame)
        except Http2Error as error:
            self.pending.append(frames.go_away(0, error.code, str(error).encode()))
            raise

    def _take_frame(self, frame: Frame) -> Iterator[Event]:
        kind = frame.kind
        if self._block and (kind != frames.CONTINUATION or frame.stream != self._block[0]):
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "Headers are interrupted by another frame.")
        if not self.has_settings and kind != frames.SETTINGS:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "The peer did not begin with SETTINGS.")
        match kind:
            case frames.HEADERS:
                yield from self._begin_headers(frame)
            case frames.CONTINUATION:
                yield from self._continue_headers(frame)
            case frames.RST_STREAM:
                yield from self._reset(frame)
            case frames.SETTINGS:
                yield from self._settings(frame)
            case frames.PING:
                yield from self._ping(frame)
            case frames.GOAWAY:
                yield from self._going_away(frame)
            case frames.WINDOW_UPDATE:
                yield from self._window_update(frame)
            case frames.PUSH_PROMISE:
                raise Http2Error(Http2Code.PROTOCOL_ERROR, "Nothing may be pushed.")
            case frames.PRIORITY:
                self._known(frame)
                self._idle()
                if len(frame.payload) != 5:
                    raise Http2Error(Http2Code.FRAME_SIZE_ERROR, "PRIORITY is not of five bytes.")
            case _:
                self._idle()  # what is not known is to be ignored

    def _known(self, frame: Frame) -> None:
        """Hold the number of a stream to those that were opened."""
        number = frame.stream
        if number == 0 or number % 2 == 0 or number >= self._next:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, f"There is no stream {number}.")

    def _idle(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > MAX_IDLE_FRAMES:
            raise Http2Error(Http2Code.ENHANCE_YOUR_CALM, "Too many frames that bring nothing.")

    def _answer(self, data: bytes) -> None:
        """Let an answer be written; a peer that asks and does not read is not answered for ever."""
        self.answer_bytes += len(data)
        if self.answer_bytes > MAX_UNTAKEN_BYTES:
            raise Http2Error(Http2Code.ENHANCE_YOUR_CALM, "The answers are not read.")
        self.pending.append(data)

    # ---- DATA

    def _data(self, frame: Frame) -> Event | None:
        stream = self._streams.get(frame.stream)
        if stream is None:
            self._known(frame)
        size = len(frame.payload)
        self._window -= size
        if self._window < 0:
            raise Http2Error(Http2Code.FLOW_CONTROL_ERROR, "More came than the connection's window allows.")
        self._unread += size
        if self._unread >= CONNECTION_WINDOW_BYTES // 2:
            self.pending.append(frames.window_update(0, self._unread))
            self._window += self._unread
            self._unread = 0
        data = frames.unpadded(frame) if frame.flags & frames.PADDED else frame.payload
        ends = bool(frame.flags & frames.END_STREAM)
        if data or ends:
            self._idle_frames = 0
        else:
            self._idle()
        if stream is None:
            return None  # it was reset, and this was on its way
        stream.window -= size
        if stream.window < 0:
            return self._refuse(
                frame.stream, Http2Code.FLOW_CONTROL_ERROR, "More came than the window allows."
            )
        if ends:
            self._close(frame.stream, stream)
        return DataCame(frame.stream, data, size, ends)

    # ---- HEADERS

    def _begin_headers(self, frame: Frame) -> Iterator[Event]:
        self._known(frame)
        self._block = (frame.stream, frames.unpadded(frame), bool(frame.flags & frames.END_STREAM))
        yield from self._end_headers(frame)

    def _continue_headers(self, frame: Frame) -> Iterator[Event]:
        if self._block is None:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "CONTINUATION continues nothing.")
        self._idle()
        number, begun, ends = self._block
        if len(begun) + len(frame.payload) > HEADER_LIST_BYTES:
            raise Http2Error(Http2Code.ENHANCE_YOUR_CALM, "The headers are too long.")
        self._block = (number, begun + frame.payload, ends)
        yield from self._end_headers(frame)

    def _end_headers(self, frame: Frame) -> Iterator[Event]:
        if not frame.flags & frames.END_HEADERS or self._block is None:
            return
        (number, block, ends), self._block = self._block, None
        try:
            # They change the decoder's table, so they are decoded whatever has become of their stream.
            decoded = self._decoder.decode(block, raw=True)
        except HPACKError:
            raise Http2Error(Http2Code.COMPRESSION_ERROR, "Headers cannot be decoded.") from None
        headers = [(_text(name), _text(value)) for name, value in decoded]
        stream = self._streams.get(number)
        if stream is None or (not ends and _is_informational(headers)):
            self._idle()
        else:
            self._idle_frames = 0
        if stream is None:
            return
        if wrong := malformed(headers):
            yield self._refuse(number, Http2Code.PROTOCOL_ERROR, wrong)
            return
        if ends:
            self._close(number, stream)
        yield HeadersCame(number, headers, ends)

    # ---- the rest

    def _reset(self, frame: Frame) -> Iterator[Event]:
        self._known(frame)
        code = frames.parse_word(frame.payload, "RST_STREAM")
        if self._streams.pop(frame.stream, None):
            self._idle_frames = 0
            yield StreamReset(frame.stream, code)
        else:
            self._idle()

    def _settings(self, frame: Frame) -> Iterator[Event]:
        if frame.stream:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "SETTINGS are of the connection.")
        self._idle()
        if frame.flags & frames.ACK:
            if frame.payload:
                raise Http2Error(Http2Code.FRAME_SIZE_ERROR, "An acknowledgement of SETTINGS is not empty.")
            return
        self.has_settings = True
        grown = 0
        for name, value in frames.parse_settings(frame.payload):
            match name:
                case frames.HEADER_TABLE_SIZE:
                    self._encoder.header_table_size = min(value, 4096)
                    # Of many sizes the peer is told the least and the last (RFC 7541, section 4.2).
                    sizes = self._encoder.table_size_changes
                    if len(sizes) > 2:
                        sizes[:] = [min(sizes), sizes[-1]]
                case frames.MAX_CONCURRENT_STREAMS:
                    self._max_streams = value
                case frames.INITIAL_WINDOW_SIZE:
                    grown += value - self._first_window
                    self._first_window = value
                case frames.MAX_FRAME_SIZE:
                    self._frame_bytes = value
                case _:
                    pass
        for stream in self._streams.values():
            stream.send_window += grown
            if stream.send_window > frames.MAX_WINDOW_BYTES:
                raise Http2Error(Http2Code.FLOW_CONTROL_ERROR, "A window is too large.")
        self._answer(frames.pack(frames.SETTINGS, frames.ACK, 0))
        yield SettingsCame()
        if grown > 0:
            yield from self._flush_all()

    def _ping(self, frame: Frame) -> Iterator[Event]:
        if frame.stream:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "PING is of the connection.")
        if len(frame.payload) != 8:
            raise Http2Error(Http2Code.FRAME_SIZE_ERROR, "PING is not of eight bytes.")
        self._idle()
        if frame.flags & frames.ACK:
            yield PingAnswered(frame.payload)
        else:
            self._answer(frames.pack(frames.PING, frames.ACK, 0, frame.payload))

    def _going_away(self, frame: Frame) -> Iterator[Event]:
        if frame.stream:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "GOAWAY is of the connection.")
        self._idle()
        last, code, debug = frames.parse_go_away(frame.payload)
        self.is_going_away = True
        for number in [number for number in self._streams if number > last]:
            del self._streams[number]
            yield StreamReset(number, Http2Code.REFUSED_STREAM)
        yield GoingAway(last, code, debug)

    def _window_update(self, frame: Frame) -> Iterator[Event]:
        size = frames.parse_word(frame.payload, "WINDOW_UPDATE") & 0x7FFF_FFFF
        if frame.stream == 0:
            if size == 0:
                raise Http2Error(Http2Code.PROTOCOL_ERROR, "A WINDOW_UPDATE of nothing.")
            self._send_window += size
            if self._send_window > frames.MAX_WINDOW_BYTES:
                raise Http2Error(Http2Code.FLOW_CONTROL_ERROR, "The connection's window is too large.")
            yield from self._flush_all()
            return
        self._known(frame)
        stream = self._streams.get(frame.stream)
        if stream is None:
            return
        stream.send_window += size
        if size == 0:
            yield self._refuse(frame.stream, Http2Code.PROTOCOL_ERROR, "A WINDOW_UPDATE of nothing.")
        elif stream.send_window > frames.MAX_WINDOW_BYTES:
            yield self._refuse(frame.stream, Http2Code.FLOW_CONTROL_ERROR, "The window is too large.")
        elif stream.waiting and self._flush(frame.stream, stream):
            yield Flushed(frame.stream)

    # ---- within

    def _refuse(self, number: int, code: Http2Code, sentence: str) -> StreamReset:
        self.reset(number, code)
        return StreamReset(number, code, is_ours=True, sentence=sentence)

    def _flush_all(self) -> Iterator[Event]:
        for number, stream in list(self._streams.items()):
            if self._send_window <= 0:
                return
            if stream.waiting and self._flush(number, stream):
                yield Flushed(number)

    def _flush(self, number: int, stream: _Stream) -> bool:
        """Send what waits on a stream, as far as the windows allow; return whether nothing is left."""
        while stream.waiting:
            data = stream.waiting[0]
            size = max(0, min(len(data), stream.send_window, self._send_window, self._frame_bytes))
            if data and not size:
                return False
            whole = size == len(data)
            ends = stream.ends and whole and len(stream.waiting) == 1
            stream.send_window -= size
            self._send_window -= size
            self.pending.append(frames.head(size, frames.DATA, frames.END_STREAM * ends, number))
            self.pending.append(bytes(data[:size]))
            if whole:
                stream.waiting.popleft()
            else:
                stream.waiting[0] = data[size:]
            stream.is_writable = not ends
        return True

    def _close(self, number: int, stream: _Stream) -> None:
        """Note the peer's end: nobody listens any more, and a stream that is half open would count as one."""
        if stream.is_writable:
            self.pending.append(frames.reset(number, Http2Code.NO_ERROR))
        del self._streams[number]


def _text(data: bytes) -> str:
    """Return a part of a header; one that is no UTF-8 is of no harm to other calls."""
    return bytes(data).decode("utf-8", "replace")


def _is_informational(headers: Headers) -> bool:
    """Whether these are headers before the answer's (1xx), of which any number may come."""
    return bool(headers) and headers[0][0] == ":status" and headers[0][1].startswith("1")


def malformed(headers: Headers) -> str:
    """Return what is wrong with headers of a response (RFC 9113, section 8.2); "" where nothing is."""
    seen_regular = False
    statuses = 0
    for name, _ in headers:
        if name.startswith(":"):
            statuses += 1
            if name != ":status" or seen_regular or statuses > 1:
                return f"The header {name[:40]} is out of place."
            continue
        seen_regular = True
        if not name or not name.isascii() or name != name.lower():
            return f"{name[:40]!r} is no name of a header."
    return ""
