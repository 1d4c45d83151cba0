"""An open session: what can be sent, and what comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from msgspec import UNSET, Struct

from antiphon import extension, messages
from antiphon.client.errors import BaseOnly, ClientError, Closed, not_antiphon
from antiphon.client.link import Link, now_ms
from antiphon.client.outgoing import Frame
from antiphon.client.sound import CAPTURE_HZ, AudioInterface
from antiphon.client.stream import Stream
from antiphon.client.voice import Voice, by_hand, by_voice
from antiphon.errors import ErrorCode
from antiphon.extension import ClientHello, ServerMessage, SessionInfo
from antiphon.messages import StreamFormat

_LEAVE_S: Final = 1.0
"""How long the end of a stream may take to be sent."""

MAX_CHUNK_BYTES: Final = 32 * 1024
"""Audio that goes into one message: base64 makes it 44 KiB, the gateway takes 64."""


class Client:
    """An open session. Made by `connect`; iterate over it in one task, send from any.

    All that sends raises `Closed` when the session is over; iteration just ends, and `closed()` tells why.
    Cancelling either is safe: no message is torn, and none is lost.

    Messages are read as they come, iterated over or not, `MAX_UNREAD` ahead: so pings are answered, pongs
    noticed and tools called at any time. Iteration yields all of them, binary answers as AudioResponse.

    When the connection is lost, the client resumes the session over another, and iteration goes on: a
    `Resumed` says so, and then comes what had not. What is sent meanwhile, or was sent and is not
    acknowledged, is sent then; sending waits while that is more than may be kept. What cannot be resumed is
    over, and `closed()` is a `SessionLost`. An error that ended a connection is told only if it ended the
    session. On leaving, what waits for a connection is lost.
    """

    def __init__(
        self,
        link: Link,
        url: str,
        on_frame: Callable[[bytes], None] | None,
        hello: ClientHello,
    ) -> None:
        self.session_id = ""
        """The gateway's name for this session: its operator finds it in the logs."""
        self.user_id = ""
        """Whom the token speaks for."""
        self.extended = link.extended
        """Whether this is a session of antiphon.v1; else what only that has raises `BaseOnly`."""
        self._link = link
        self._url = url
        self._on_frame = on_frame
        self._hello = hello
        self._stream = Stream(0)

    @property
    def info(self) -> SessionInfo | None:
        """What the gateway offers in this session, as it said last; None in a base session."""
        return self._link.reader.info

    @property
    def connected(self) -> bool:
        """Whether there is a connection now; a session that is to be resumed goes on without one."""
        return self._link.sender.up

    @property
    def resumptions(self) -> int:
        """How often the session was resumed over another connection."""
        return self._link.resumptions

    @property
    def lossy(self) -> bool:
        """Whether something is missing: a resumption could not bring all messages, one way or the other."""
        return self._link.lossy

    @property
    def on_lost(self) -> Callable[[], None] | None:
        """What is called when the connection is lost and the client begins to come back."""
        return self._link.on_lost

    @on_lost.setter
    def on_lost(self, on_lost: Callable[[], None] | None) -> None:
        self._link.on_lost = on_lost

    @property
    def close_code(self) -> int | None:
        """The WebSocket close code; 1006 where the connection was lost; None while the session goes on."""
        return self._link.close_code

    @property
    def close_reason(self) -> str | None:
        """What the gateway said with the close code: mostly the code of an error."""
        return self._link.close_reason

    @property
    def binary_audio(self) -> bool:
        """Whether audio travels as binary frames."""
        return (
            self._hello.binary_audio is True
            and self.info is not None
            and "binary_audio" in self.info.features
        )

    # ---- what every session has

    async def start(
        self,
        format: StreamFormat = "LINEAR16",  # noqa: A002 (the protocol's word)
        rate_hz: int = 16_000,
        language: str = "en-US",
    ) -> None:
        """Open an audio stream: 8000 to 48000 Hz; `language` is a BCP 47 tag such as de or en-US.

        LINEAR16 is mono PCM, 16 bit, little-endian; in FLAC and Ogg Opus the stream itself says its rate. One
        is open at a time.

        Raises:
            ValueError: the rate or the language is none.
            ClientError: a stream is open.
            BaseOnly: it is Opus, which a base session does not take.
        """
        if format.startswith("audio/"):
            self._require_extended()
        config = extension.StreamConfig(sample_rate=rate_hz, format=format, language=language)
        async with self._link.sender.turn:
            if self._link.streaming:
                sentence = "A stream is open already: end() it before you start() another."
                raise ClientError(sentence, ErrorCode.AUDIO_STREAM_ACTIVE)
            stream, frame = Stream.begin(self._stream.number + 1, config, now_ms())
            await self._link.sender.add(frame)
            self._stream, self._link.streaming = stream, True
        await self._link.sender.flush()

    async def send_audio(self, data: bytes) -> None:
        """Send the stream's next bytes, cut anywhere; large ones go as several chunks."""
        for begin in range(0, len(data), MAX_CHUNK_BYTES):
            chunk = data[begin : begin + MAX_CHUNK_BYTES]
            async with self._link.sender.turn:
                stream = self._stream
                await self._link.sender.add(stream.chunk(chunk, now_ms(), binary=self.binary_audio))
                # Only now: a chunk that is cancelled while it waits for room leaves no gap.
                stream.sent(chunk)
            await self._link.sender.flush()

    async def end(self, duration_ms: float | None = None) -> None:
        """End the audio stream: everything sent is to be recognised and answered.

        `duration_ms` is how much audio that was; for LINEAR16 it is counted where it is not given.
        """
        async with self._link.sender.turn:
            if duration_ms is None:
                duration_ms = self._stream.duration_ms
            message = messages.AudioStreamEnd(timestamp=now_ms(), duration=duration_ms)
            await self._link.sender.add(Frame(messages.encode(message)))
            self._link.streaming = False
        await self._link.sender.flush()

    async def command(self, text: str, context: dict[str, Any] | None = None) -> None:
        """Send a typed turn: what the user wants. `context` is any JSON object, for the model to know."""
        message = messages.Command(
            timestamp=now_ms(), command=text, context=UNSET if context is None else context
        )
        await self._send(message)

    async def renew(self, token: str) -> None:
        """Send a fresh token for the same user; an AuthSuccess, or an Error, comes by iteration.

        None comes where the connection is lost meanwhile: the session is resumed with that token.
        """
        await self._link.authorize(token)

    # ---- what antiphon.v1 has; all of it raises BaseOnly in a base session

    async def ping(self) -> float:
        """Return how many seconds it takes there and back. It need not be iterated over meanwhile."""
        self._require_extended()
        return await self._link.ping()

    def abort(self) -> None:
        """Lose the connection, as a network does: to see what survives that."""
        self._require_extended()
        self._link.abort()

    async def activity_start(self) -> None:
        """The user begins to speak. The first one ends automatic detection for the session."""
        await self._extend(extension.ActivityStart())

    async def activity_end(self) -> None:
        """The user has spoken, and is to be answered."""
        await self._extend(extension.ActivityEnd())

    async def interrupt(self, response_id: str | None = None) -> None:
        """Stop the model's answer; with a `response_id` only if it is that one. An AudioFlush comes."""
        await self._extend(extension.Interrupt(response_id=UNSET if response_id is None else response_id))

    async def playback_mark(self, response_id: str, played_ms: float) -> None:
        """Tell how much of a response was heard; see `Speaker`."""
        await self._extend(extension.PlaybackMark(response_id=response_id, played_ms=played_ms))

    async def tool_result(self, call_id: str, result: Any) -> None:
        """Answer a ToolCall with any JSON value."""
        await self._extend(extension.ToolResult(call_id=call_id, result=result))

    async def tool_error(self, call_id: str, sentence: str) -> None:
        """Answer a ToolCall with why it was not carried out, as a sentence for the model."""
        await self._extend(extension.ToolResult(call_id=call_id, error=sentence))

    # ---- by microphone and loudspeaker

    @asynccontextmanager
    async def talk(
        self, sound: AudioInterface, *, language: str = "en-US", push_to_talk: bool = False
    ) -> AsyncIterator[Voice]:
        """Talk by microphone and loudspeaker from here to the end of the `async with`; iterate meanwhile.

            with Sound() as sound:
                async with client.talk(sound):
                    async for message in client:
                        ...

        What the microphone hears is sent, as an audio stream of its own. Answers are played as they come,
        however slow the iteration is; when the user speaks over one it is silent at once, and the gateway is
        told how much of it was heard. With `push_to_talk` only what is said between `start_talking()` and
        `stop_talking()` of the Voice is sent; that ends automatic detection for the session.

        What is wrong with the sound while that goes on, a microphone that is unplugged say, is raised by the
        iteration. On leaving, the loudspeaker is silent and the stream ends.

        Raises:
            ClientError: a stream is open.
            BaseOnly: a base session has no push to talk.
            SoundError: the sound could not be used to its end.
        """
        if push_to_talk:
            self._require_extended()
        await self.start("LINEAR16", CAPTURE_HZ, language)
        voice = Voice(self, sound, push_to_talk=push_to_talk)
        reader = self._link.reader
        reader.play = lambda message: self._play(voice, message)
        tasks = [asyncio.create_task(voice.speak())]
        if self.extended:
            tasks.append(asyncio.create_task(voice.report()))
        for task in tasks:
            task.add_done_callback(self._note_failure)
        try:
            if self.extended:
                await self._send(by_voice(self._hello))
            yield voice
        finally:
            reader.play = None
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            sound.flush()
            with suppress(Closed, TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    if self._link.streaming:
                        await self.end()
                    if self.extended:
                        await self._send(by_hand(self._hello))
        if failure := reader.failure:
            reader.fail(None)
            raise failure

    # ---- what comes

    def __aiter__(self) -> AsyncIterator[ServerMessage]:
        return self

    async def __anext__(self) -> ServerMessage:
        """Return the next message.

        Raises:
            BadMessage: it is not one of the protocol.
        """
        try:
            frame, message = await self._link.reader.get()
        except EOFError:
            raise StopAsyncIteration from None
        if self._on_frame:
            self._on_frame(frame.encode() if isinstance(frame, str) else frame)
        if message is None:
            raise not_antiphon(self._url)
        return message

    def closed(self) -> Closed:
        """Return, to be raised, why the session is over."""
        return self._link.closed()

    # ---- within

    def _play(self, voice: Voice, message: ServerMessage) -> Struct | None:
        try:
            return voice.play(message)
        except Exception as error:  # noqa: BLE001 (the sound may be the application's)
            self._link.reader.play = None
            self._link.reader.fail(error)
            return None

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._link.reader.fail(error)

    async def _extend(self, message: Struct) -> None:
        self._require_extended()
        await self._send(message)

    def _require_extended(self) -> None:
        if not self.extended:
            raise BaseOnly(f"The session with {self._url} has the base messages only.")

    async def _send(self, message: Struct) -> None:
        await self._link.sender.send(Frame(messages.encode(message)))
