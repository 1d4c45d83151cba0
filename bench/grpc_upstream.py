"""A model's server for benchmarks: `BidiGenerateContent` over HTTP/2 by hand, a few microseconds a message.

The gateway under test has a core of its own, and this shares the other with the generator of the load: a
server of grpc.aio would be full before the gateway is. Audio is counted, not messages: each `chunk_bytes` of
it are answered, however the gateway cuts or gathers them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from struct import Struct
from typing import Final, cast

from hpack import Decoder

from antiphon.gemini.client import METHOD
from antiphon.gemini.codec import ClientMessage
from antiphon.rpc import frames
from antiphon.rpc.events import Frame
from bench import replies

_WINDOW: Final = frames.MAX_WINDOW_BYTES
_GIVE_BACK: Final = 16 * 1024 * 1024
"""The connection's window is opened again by so much at a time; a stream's lasts for 18 hours of audio."""
_MAX_STREAMS: Final = 100_000
_FRAME_BYTES: Final = 16_384
_PREFIX: Final = Struct(">BI")
_HEAD: Final = Struct(">HBBBI")
_WORD: Final = Struct(">I")

# HPACK by hand, so that there is no table to keep: an indexed :status 200, and literals without indexing.
_OK: Final = b"\x88" + b"\x0f\x10" + b"\x10application/grpc"
_DONE: Final = b"\x00\x0bgrpc-status\x010"
_UNKNOWN: Final = _OK + b"\x00\x0bgrpc-status\x0212"


class _Call:
    """A conversation: what came of it and is not whole, and what waits for the peer's window."""

    __slots__ = ("audio_bytes", "number", "rest", "stream", "waiting", "window")

    def __init__(self, stream: int, window: int) -> None:
        self.stream = stream
        self.window = window
        self.rest = b""
        self.audio_bytes = 0
        self.number = 0
        self.waiting: deque[bytes] = deque()


class GrpcUpstream(asyncio.Protocol):
    """One connection. `answer` is None where numbers are told, else the message that answers each chunk."""

    def __init__(self, chunk_bytes: int, answer: bytes | None) -> None:
        self._chunk_bytes = chunk_bytes
        self._answer = answer
        self._set_up = replies.set_up()
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._greeted = False
        self._decoder = Decoder()
        self._calls: dict[int, _Call] = {}
        self._out: list[bytes] = []
        self._window = frames.WINDOW_BYTES
        self._first_window = frames.WINDOW_BYTES
        self._unread = 0
        self._block: tuple[int, bytes] | None = None
        self._last_prefix = b"\xff" * 64
        self._last_size = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1 << 30)
        self._transport.write(
            frames.settings(
                {frames.MAX_CONCURRENT_STREAMS: _MAX_STREAMS, frames.INITIAL_WINDOW_SIZE: _WINDOW}
            )
            + frames.window_update(0, _WINDOW - frames.WINDOW_BYTES)
        )

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def close(self) -> None:
        """End the connection, where there still is one."""
        if self._transport:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        if not self._greeted:
            if end < len(frames.PREFACE):
                self._rest = data
                return
            assert data.startswith(frames.PREFACE), "the peer does not speak HTTP/2"
            at, self._greeted = len(frames.PREFACE), True
        unpack = _HEAD.unpack_from
        while end - at >= 9:
            high, low, kind, flags, stream = unpack(data, at)
            begin = at + 9
            stop = begin + (high << 8 | low)
            if stop > end:
                break
            if kind == frames.DATA:
                self._data(stream, data, begin, stop, flags)
            else:
                self._control(Frame(kind, flags, stream & 0x7FFF_FFFF, data[begin:stop]))
            at = stop
        self._rest = data[at:] if at < end else b""
        if self._unread >= _GIVE_BACK:
            self._out.append(frames.window_update(0, self._unread))
            self._unread = 0
        if self._out and self._transport:
            out, self._out = self._out, []
            self._transport.write(b"".join(out))

    # ---- DATA

    def _data(self, stream: int, data: bytes, begin: int, stop: int, flags: int) -> None:
        self._unread += stop - begin
        call = self._calls.get(stream)
        if call is None:
            return
        if flags & frames.PADDED:
            padding, begin = data[begin], begin + 1
            stop -= padding
        if call.rest:
            data = call.rest + data[begin:stop]
            begin, stop = 0, len(data)
        while stop - begin >= 5:
            _, size = _PREFIX.unpack_from(data, begin)
            after = begin + 5 + size
            if after > stop:
                break
            self._message(call, data, begin + 5, after)
            begin = after
        call.rest = data[begin:stop] if begin < stop else b""
        if flags & frames.END_STREAM:
            self._headers(stream, _DONE, ends=True)
            del self._calls[stream]

    def _message(self, call: _Call, data: bytes, begin: int, stop: int) -> None:
        """Take a message: its audio is all that matters."""
        size = stop - begin
        if size == self._last_size and data.startswith(self._last_prefix, begin):
            # As the one before: what stands before the audio says how long that is, too.
            audio = size - len(self._last_prefix)
        else:
            message = ClientMessage.FromString(data[begin:stop])
            if message.HasField("setup"):
                self._send(call, self._set_up)
                return
            pcm = message.realtime_input.audio.data
            audio = len(pcm)
            if not audio:
                return
            if data.endswith(pcm, begin, stop):
                self._last_size, self._last_prefix = size, data[begin : stop - audio]
        call.audio_bytes += audio
        while call.audio_bytes >= self._chunk_bytes:
            call.audio_bytes -= self._chunk_bytes
            self._send(call, self._answer or replies.transcription(call.number))
            call.number += 1

    def _send(self, call: _Call, message: bytes) -> None:
        size = len(message)
        if call.waiting or size > call.window or size > self._window:
            call.waiting.append(message)
            return
        self._write(call, message, size)

    def _write(self, call: _Call, message: bytes, size: int) -> None:
        call.window -= size
        self._window -= size
        self._out.append(_HEAD.pack(size >> 8, size & 0xFF, frames.DATA, 0, call.stream))
        self._out.append(message)

    def _flush(self, call: _Call) -> None:
        """Send what waits, as far as the windows go. A peer may open them by less than a message."""
        while call.waiting:
            message = call.waiting[0]
            room = min(call.window, self._window)
            if room <= 0:
                return
            if len(message) > room:
                call.waiting[0] = message[room:]
                message = message[:room]
            else:
                call.waiting.popleft()
            self._write(call, message, len(message))

    # ---- the rest

    def _control(self, frame: Frame) -> None:
        kind = frame.kind
        if kind == frames.HEADERS:
            self._begin(frame)
        elif kind == frames.CONTINUATION and self._block:
            self._block = (self._block[0], self._block[1] + frame.payload)
            if frame.flags & frames.END_HEADERS:
                self._call()
        elif kind == frames.WINDOW_UPDATE:
            size = frames.parse_word(frame.payload, "WINDOW_UPDATE")
            self._open_window(frame.stream, size)
        elif kind == frames.PING and not frame.flags & frames.ACK:
            self._out.append(frames.pack(frames.PING, frames.ACK, 0, frame.payload))
        elif kind == frames.SETTINGS and not frame.flags & frames.ACK:
            self._settings(frame)
        elif kind == frames.RST_STREAM:
            self._calls.pop(frame.stream, None)

    def _begin(self, frame: Frame) -> None:
        self._block = (frame.stream, frames.unpadded(frame))
        if frame.flags & frames.END_HEADERS:
            self._call()

    def _call(self) -> None:
        """Take a call whose headers are whole; all but the conversation is UNIMPLEMENTED."""
        assert self._block
        (stream, block), self._block = self._block, None
        headers = {str(name): str(value) for name, value in self._decoder.decode(block)}
        if headers.get(":path") == METHOD:
            self._calls[stream] = _Call(stream, self._first_window)
            self._headers(stream, _OK)
        else:
            self._headers(stream, _UNKNOWN, ends=True)

    def _headers(self, stream: int, block: bytes, *, ends: bool = False) -> None:
        flags = frames.END_HEADERS | frames.END_STREAM * ends
        self._out.append(frames.pack(frames.HEADERS, flags, stream, block))

    def _open_window(self, stream: int, size: int) -> None:
        if stream:
            if call := self._calls.get(stream):
                call.window += size
                self._flush(call)
            return
        self._window += size
        for call in self._calls.values():
            if call.waiting:
                self._flush(call)

    def _settings(self, frame: Frame) -> None:
        for name, value in frames.parse_settings(frame.payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                grown, self._first_window = value - self._first_window, value
                for call in self._calls.values():
                    call.window += grown
                    self._flush(call)
        self._out.append(frames.pack(frames.SETTINGS, frames.ACK, 0))
