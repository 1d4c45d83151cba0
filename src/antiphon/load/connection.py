"""One session of the load: a WebSocket by hand, since a library's costs more than the gateway may."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections import deque
from typing import Final, Literal, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from antiphon import frames as binary
from antiphon import messages
from antiphon.load.frames import (
    BINARY,
    CLOSE,
    MAX_HANDSHAKE_BYTES,
    PING,
    PONG,
    TEXT,
    Frame,
    FrameError,
    FrameReader,
    handshake,
    masked,
)
from antiphon.load.schedule import offset_s
from antiphon.load.speech import Voice
from antiphon.load.tally import Tally
from antiphon.messages import AudioStreamEnd, AudioStreamStart, Auth, StreamConfig

Answers = Literal["number", "audio", "ack", "none"]
"""What answers a chunk: a recognition_result whose transcript is its number, audio, or an audio_ack."""

SUBPROTOCOL: Final = "antiphon.v1"

_TYPE: Final = re.compile(rb'"type":\s*"([a-z_]+)"')
_TRANSCRIPT: Final = re.compile(rb'"transcript":\s*"(\d+)"')
_FINAL: Final = re.compile(rb'"isFinal":\s*true')
_SEQUENCE: Final = re.compile(rb'"sequence":\s*(\d+)')
_DATA: Final = re.compile(rb'"data":\s*"')
_ID: Final = re.compile(rb'"id":\s*("(?:[^"\\]|\\.)*"|\d+)')


class LoadError(Exception):
    """Why there can be no load, as a sentence."""


class Target(Struct, frozen=True):
    """The gateway under load, and how it is spoken to.

    `answer_bytes` is how much audio answers a chunk, where audio does.
    """

    url: str
    tokens: tuple[str, ...]
    """Used in turn: a gateway may allow a user but a few connections."""
    extended: bool = False
    as_binary: bool = False
    answers: Answers = "number"
    answer_bytes: int = 4800
    language: str = "en-US"
    timeout_s: float = 15.0
    tls: ssl.SSLContext | None = None


class Session(asyncio.Protocol):
    """Connects, proves who it is, and sends a chunk when told to; notes when each is answered."""

    def __init__(self, number: int, target: Target, voice: Voice, tally: Tally) -> None:
        self.offset_s = offset_s(number, voice.chunk_s)
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the token was taken."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent = 0
        self.ended_s: float | None = None
        """When the stream was ended; None while it goes on."""
        self.last_final_s = float("-inf")
        """When the last final transcript came; all by `time.perf_counter()`."""
        self.first_audio_s = float("inf")
        """When the first audio came since the stream began."""
        self.last_audio_s = float("-inf")
        self._until: int | None = None
        self._token = target.tokens[number % len(target.tokens)]
        self._target = target
        self._voice = voice
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._opening: bytearray | None = bytearray()
        self._answers = target.answers
        self._pending: deque[float] = deque()
        """When each chunk that is not answered was due."""
        self._first = 0
        """The number of the first of them."""
        self._came = 0
        """Bytes of audio that came and do not yet make an answer."""
        self._writable = True
        self._closing = False

    # ---- what is sent

    def speak(self, due_s: float, now_s: float) -> None:
        """Send the next chunk, and the end of the stream behind the last."""
        if self.ended_s is not None:
            return
        self._tally.sent(due_s, now_s)
        if self._transport is None or self._closing:
            return  # it was lost: the chunk stays unanswered
        if not self._writable:
            self._tally.blocked(due_s)
            return
        number = self.sent
        self.sent = number + 1
        self._pending.append(due_s)
        self._transport.write(self._voice.chunk(number))
        if self.sent == self._until:
            self.end()
            self.ended_s = now_s

    def start(self, chunks: int | None = None) -> None:
        """Open an audio stream; it is to be so long, or has no end."""
        self._until = self.sent + chunks if chunks else None
        self.ended_s = None
        self.first_audio_s = float("inf")
        self.last_audio_s = float("-inf")
        config = StreamConfig(
            sample_rate=self._voice.rate_hz, format=self._voice.audio_format, language=self._target.language
        )
        self._say(AudioStreamStart(timestamp=_now_ms(), config=config))

    def end(self) -> None:
        """End the audio stream."""
        self._say(AudioStreamEnd(timestamp=_now_ms(), duration=self.sent * self._voice.chunk_s * 1000))

    def leave(self) -> None:
        """Close the connection."""
        self._closing = True
        if self._transport is not None:
            self._transport.write(masked(CLOSE, (1000).to_bytes(2, "big")))
            self._transport.close()

    @property
    def is_lost(self) -> bool:
        return self.gone.done()

    def _say(self, message: Struct) -> None:
        self._write(TEXT, messages.encode(message))

    def _write(self, kind: int, payload: bytes) -> None:
        if self._transport is not None and not self._closing:
            self._transport.write(masked(kind, payload))

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        parts = urlsplit(self._target.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        subprotocol = SUBPROTOCOL if self._target.extended else None
        self._transport.write(handshake(parts.netloc.rpartition("@")[2], path, subprotocol))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._tally.error("lost")
        self._fail(LoadError("The gateway closed the connection before the session began."))
        if not self.gone.done():
            self.gone.set_result(None)
        self._transport = None

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True

    def data_received(self, data: bytes) -> None:
        if self._opening is not None:
            data = self._handshake(data)
        if not data:
            return
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except FrameError as error:
            self._tally.error("frame")
            self._fail(LoadError(str(error)))
            self._abort()

    # ---- what comes

    def _handshake(self, data: bytes) -> bytes:
        """Take a piece of the answer to the handshake; return what follows it."""
        assert self._opening is not None
        self._opening += data
        head, end, rest = bytes(self._opening).partition(b"\r\n\r\n")
        if not end:
            if len(head) > MAX_HANDSHAKE_BYTES:
                self._refuse("What answers is not a WebSocket server.")
            return b""
        status = head.split(b" ", 2)[1:2]
        if not head.startswith(b"HTTP/1.1 ") or status != [b"101"]:
            shown = status[0].decode("latin-1") if status and head.startswith(b"HTTP/") else "no HTTP"
            self._refuse(f"The handshake was answered with {shown}, not 101. {_sentence_of(rest)}".rstrip())
            return b""
        if self._target.extended and SUBPROTOCOL.encode() not in head:
            self._refuse("What answers does not speak antiphon.v1; leave --extended out.")
            return b""
        self._opening = None
        # Answers are taken as they come: what they would wait for is this client's loudspeaker.
        hello: dict[str, object] = {"type": "client_hello", "playbackBufferMs": 30_000}
        if self._target.as_binary:
            hello["binaryAudio"] = True
        if self._target.extended:
            self._write(TEXT, msgspec.json.encode(hello))
        self._say(Auth(timestamp=_now_ms(), token=self._token))
        return rest

    def _take(self, frame: Frame) -> None:
        kind, data, begin, end = frame
        if kind == TEXT:
            if self._answers == "number" and (
                found := _TRANSCRIPT.search(data, begin, min(end, begin + 200))
            ):
                self._answered(int(found[1]))
                return
            self._take_message(data, begin, end)
        elif kind == BINARY:
            self._heard(end - begin - binary.HEADER_BYTES)
        elif kind == PING:
            self._write(PONG, frame.payload)
        elif kind == CLOSE:
            code = int.from_bytes(data[begin : begin + 2], "big") if end - begin >= 2 else 1005
            if not self._closing:
                self._tally.error(f"closed with {code}")
                self._fail(LoadError(f"The gateway closed the connection with {code}."))
            self._closing = True
            if self._transport is not None:
                self._transport.close()

    def _take_message(self, data: bytes, begin: int, end: int) -> None:
        found = _TYPE.search(data, begin, end)
        match found and found[1]:
            case b"audio_response":
                self._take_audio(data, begin, end)
            case b"audio_ack" if self._answers == "ack":
                self._acknowledged(int(_field(_SEQUENCE, data, begin, end, b"0")))
            case b"recognition_result":
                self._tally.heard()
                if _FINAL.search(data, begin, end):
                    self.last_final_s = time.perf_counter()
            case b"auth_success":
                if not self.ready.done():
                    self.ready.set_result(None)
            case b"error":
                self._take_error(data[begin:end])
            case b"ping":
                number = _field(_ID, data, begin, end, b"0")
                self._write(TEXT, b'{"type":"pong","id":%b,"echoTime":0}' % number)
            case _:
                pass

    def _take_audio(self, data: bytes, begin: int, end: int) -> None:
        found = _DATA.search(data, begin, end)
        if not found:
            return
        start = found.end()
        stop = data.find(b'"', start, end)
        self._heard((stop - start) * 3 // 4 - data.count(b"=", max(start, stop - 2), stop))

    def _take_error(self, payload: bytes) -> None:
        try:
            error = msgspec.json.decode(payload, type=_Error)
        except (msgspec.DecodeError, UnicodeDecodeError):
            error = _Error("unreadable", "An error that cannot be read.")
        self._tally.error(error.code)
        self._fail(LoadError(f"The gateway refused the session: {error.message} ({error.code})"))

    def _heard(self, size: int) -> None:
        """Take so much audio: every `answer_bytes` of it answer the next chunk."""
        if self._answers != "audio":
            self._tally.heard()
            self.last_audio_s = time.perf_counter()
            self.first_audio_s = min(self.first_audio_s, self.last_audio_s)
            return
        self._came += size
        while self._came >= self._target.answer_bytes:
            self._came -= self._target.answer_bytes
            self._answered(self._first)

    def _acknowledged(self, number: int) -> None:
        now_s = time.perf_counter()
        while self._pending and self._first <= number:
            self._tally.answered(self._pending.popleft(), now_s)
            self._first += 1

    def _answered(self, number: int) -> None:
        ahead = number - self._first
        pending = self._pending
        if not 0 <= ahead < len(pending):
            return  # one that is waited for no more
        for _ in range(ahead):
            self._tally.skipped(pending.popleft())
        self._first = number + 1
        self._tally.answered(pending.popleft(), time.perf_counter())

    # ---- how it ends

    def _refuse(self, why: str) -> None:
        self._fail(LoadError(why))
        self._abort()

    def _fail(self, error: LoadError) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # whoever waits is told; where nobody does, that is no fault

    def _abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()


class _Error(Struct):
    code: str
    message: str = ""


def _field(pattern: re.Pattern[bytes], data: bytes, begin: int, end: int, default: bytes) -> bytes:
    found = pattern.search(data, begin, end)
    return found[1] if found else default


def _sentence_of(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Error).message
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _now_ms() -> int:
    return messages.milliseconds(time.time())
