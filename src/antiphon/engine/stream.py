"""One `BidiGenerateContent` call: carries messages, audio and time between gRPC, ear, voice and conversation.

All its tasks live in one group: whatever ends the call ends them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, assert_never

import grpc
import numpy as np
import numpy.typing as npt
import soxr

from antiphon.engine import wire
from antiphon.engine.chat import BrainFailed
from antiphon.engine.conversation import Conversation
from antiphon.engine.effects import Ask, Effect, End, Hush, Say, Send
from antiphon.engine.listener import ListenerEvent
from antiphon.engine.memory import Handles, Memory
from antiphon.engine.playback import RATE_HZ
from antiphon.engine.queues import Inbox, Outbox

if TYPE_CHECKING:  # an engine without one need not load HTTP
    from antiphon.engine.brain import Brain

INPUT_RATE_HZ: Final = 16_000
FLUSH_TIMEOUT_S: Final = 2.0
"""What was sent before the end may take so long to leave."""

_VOICE_BYTES: Final = 2 * RATE_HZ
"""A second: what the voice makes at once may be many."""


class Ear(Protocol):
    """What hears one conversation. `feed` takes 16 kHz PCM16; `end` returns once all of it was heard."""

    async def feed(self, pcm: bytes) -> None: ...

    async def end(self) -> None: ...


class Voice(Protocol):
    """What speaks for all conversations: 24 kHz PCM16, as it is made."""

    def stream(self, text: str) -> AsyncIterator[bytes]: ...


OpenEar = Callable[[Callable[[ListenerEvent], None], asyncio.TaskGroup], Ear]


class Context(Protocol):
    """The part of gRPC's servicer context that a stream uses."""

    async def read(self) -> Any: ...

    async def write(self, message: Any) -> None: ...


@dataclass(frozen=True)
class Parts:
    """What all conversations share; `delay_s` tells how long their finals wait for a thread."""

    open_ear: OpenEar
    voice: Voice
    handles: Handles
    clock: Callable[[], datetime]
    max_connection_s: float
    brain: Brain | None = None
    delay_s: Callable[[], float] = lambda: 0.0


class CallEnded(Exception):  # noqa: N818 (it is an outcome, not always an error)
    """The call is over, with a gRPC status and a sentence for it; `busy`: others leave no room for it."""

    def __init__(self, status: grpc.StatusCode, sentence: str = "", *, busy: bool = False) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.busy = busy


class _Speech:
    """The sentences of one turn on the way to the voice, None after the last; an answer has a longest."""

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.sentences: asyncio.Queue[str | None] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None


class Stream:
    """One call after its setup. The handles that it gives out belong to `owner`."""

    def __init__(
        self, context: Context, setup: wire.Setup, memory: Memory, owner: object, parts: Parts
    ) -> None:
        self._context = context
        self._setup = setup
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._tasks = asyncio.TaskGroup()
        self._inbox = Inbox()
        self._outbox = Outbox()
        self._moved = asyncio.Event()
        self._ended: asyncio.Future[CallEnded] = self._loop.create_future()
        self._speech: _Speech | None = None
        self._thinking: asyncio.Task[None] | None = None
        self._conversation = Conversation(
            setup,
            memory,
            self._loop.time(),
            max_connection_s=parts.max_connection_s,
            keep=lambda kept, now: parts.handles.keep(kept, owner, now),
            clock=parts.clock,
            new_id=lambda: uuid.uuid4().hex,
            thinks=parts.brain is not None,
        )

    async def run(self) -> CallEnded:
        """Serve the call; return how it ended."""
        try:
            async with self._tasks:
                await self._run()
        except* CallEnded:
            pass
        return self._ended.result()

    def drain(self, time_left_s: float) -> None:
        """Announce to the client that the server stops."""
        self._perform(self._conversation.drain(time_left_s, self._loop.time()))

    async def _run(self) -> None:
        ear = self._parts.open_ear(self._heard, self._tasks)
        self._tasks.create_task(self._read())
        self._tasks.create_task(self._listen(ear))
        self._tasks.create_task(self._write())
        self._tasks.create_task(self._keep_time())
        self._perform(self._conversation.open(self._loop.time()))
        ended = await self._ended
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await self._outbox.flushed()
        raise ended  # which cancels the group's other tasks

    def _end(self, status: grpc.StatusCode, sentence: str) -> None:
        if not self._ended.done():
            self._ended.set_result(CallEnded(status, sentence))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if self._ended.done():
                return
            match effect:
                case Send(message=message):
                    if not self._outbox.put(message):
                        self._end(grpc.StatusCode.RESOURCE_EXHAUSTED, "The answers are read too slowly.")
                case Say():
                    self._say(effect)
                case Ask():
                    assert self._parts.brain
                    self._thinking = self._tasks.create_task(self._think(effect, self._parts.brain))
                case Hush():
                    self._hush()
                case End(status=status, sentence=sentence):
                    self._end(grpc.StatusCode[status], sentence)
                case _:
                    assert_never(effect)
        self._moved.set()

    def _heard(self, event: ListenerEvent) -> None:
        self._perform(self._conversation.hear(event, self._loop.time()))

    async def _read(self) -> None:
        """Take the client's messages: what the ear must get in order into the inbox, the rest at once."""
        while (data := await self._context.read()) is not grpc.aio.EOF:
            try:
                for item in wire.parse(data):
                    await self._take(item)
            except wire.Invalid as invalid:
                self._end(grpc.StatusCode.INVALID_ARGUMENT, str(invalid))
                return
        await self._inbox.put(None)

    async def _write(self) -> None:
        try:
            await self._outbox.empty_into(self._context)
        except grpc.aio.BaseError:
            self._end(grpc.StatusCode.CANCELLED, "The client is gone.")

    async def _take(self, item: wire.ClientInput) -> None:
        match item:
            case wire.Setup():
                raise wire.Invalid("The setup can be sent only once, first.")
            case wire.ActivityStarted() | wire.ActivityEnded() if self._setup.detects_activity:
                raise wire.Invalid(
                    "Activity signals need automatic_activity_detection.disabled in the setup."
                )
            case wire.Audio() | wire.AudioEnded() | wire.ActivityStarted() | wire.ActivityEnded():
                await self._inbox.put(item)
            case wire.Typed() | wire.Content() | wire.ToolResult():
                self._perform(self._conversation.receive(item, self._loop.time()))
            case _:
                assert_never(item)

    def _say(self, say: Say) -> None:
        """Let the voice say sentences, after those of the same turn that it has not said yet."""
        if self._speech is None or self._speech.turn != say.turn:
            self._speech = _Speech(say.turn)
            self._speech.task = self._tasks.create_task(self._speak(self._speech))
        for sentence in say.sentences:
            self._speech.sentences.put_nowait(sentence)
        if say.last:
            self._speech.sentences.put_nowait(None)

    def _hush(self) -> None:
        self._outbox.drop_answer()
        for task in (self._thinking, self._speech and self._speech.task):
            if task:
                task.cancel()

    async def _think(self, ask: Ask, brain: Brain) -> None:
        conversation, turn = self._conversation, ask.turn
        try:
            calls = await brain.think(
                ask.question, lambda sentence: self._perform(conversation.thought(turn, sentence))
            )
        except BrainFailed:
            self._perform(conversation.brain_failed(turn))
        else:
            if calls:
                self._perform(conversation.wants_tools(turn, calls, self._loop.time()))
            else:
                self._perform(conversation.thought_over(turn))

    async def _listen(self, ear: Ear) -> None:
        """Give the ear what is in the inbox."""
        resampler = Resampler()
        open_audio = False
        while True:
            item = await self._inbox.get()
            if isinstance(item, wire.Audio):
                if self._conversation.listens:
                    open_audio = True
                    pcm = resampler.feed(item)
                    self._conversation.listened(len(pcm))
                    await ear.feed(pcm)
                else:
                    self._conversation.skipped(len(item.pcm) * INPUT_RATE_HZ // item.rate_hz)
                continue
            if open_audio:
                open_audio = False
                if rest := resampler.flush():
                    await ear.feed(rest)
                await ear.end()
            now = self._loop.time()
            match item:
                case wire.ActivityStarted():
                    self._perform(self._conversation.start_activity(now))
                case wire.ActivityEnded():
                    self._perform(self._conversation.end_activity(now))
                case wire.AudioEnded():
                    self._perform(self._conversation.end_audio(now))
                case None:
                    self._perform(self._conversation.end_activity(now))
                    self._perform(self._conversation.close_input(now))
                    return
                case _:
                    assert_never(item)

    async def _speak(self, speech: _Speech) -> None:
        while (sentence := await speech.sentences.get()) is not None:
            audio = self._parts.voice.stream(sentence)
            try:
                await self._pass_on(speech.turn, sentence, audio)
            finally:
                if isinstance(audio, AsyncGenerator):
                    await audio.aclose()
            if speech.sentences.empty():
                self._perform(self._conversation.paused(speech.turn))
        self._perform(self._conversation.generated(speech.turn, self._loop.time()))

    async def _pass_on(self, turn: int, text: str, audio: AsyncIterator[bytes]) -> None:
        async for pcm in audio:
            for start in range(0, len(pcm), _VOICE_BYTES):
                await self._outbox.room()
                piece = pcm[start : start + _VOICE_BYTES]
                self._perform(self._conversation.spoke(turn, piece, text, self._loop.time()))
                text = ""

    async def _keep_time(self) -> None:
        while (deadline := self._conversation.deadline()) < float("inf"):
            self._moved.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._moved.wait()
            except TimeoutError:
                self._perform(self._conversation.expire(self._loop.time()))


class Resampler:
    """Brings audio of any rate to 16 kHz; what has it already passes through."""

    def __init__(self) -> None:
        self._rate_hz = INPUT_RATE_HZ
        self._stream: Any = None

    def feed(self, audio: wire.Audio) -> bytes:
        """Return the audio at 16 kHz, a few milliseconds of it held back."""
        rest = b""
        if audio.rate_hz != self._rate_hz:
            rest = self.flush()
            self._rate_hz = audio.rate_hz
        if self._rate_hz == INPUT_RATE_HZ:
            return rest + audio.pcm
        if self._stream is None:
            self._stream = soxr.ResampleStream(self._rate_hz, INPUT_RATE_HZ, 1, dtype="int16", quality="LQ")
        return rest + self._resample(np.frombuffer(audio.pcm, np.int16), last=False)

    def flush(self) -> bytes:
        """Return what was held back."""
        if self._stream is None:
            return b""
        rest = self._resample(np.zeros(0, np.int16), last=True)
        self._stream = None
        return rest

    def _resample(self, samples: npt.NDArray[np.int16], *, last: bool) -> bytes:
        resampled: bytes = self._stream.resample_chunk(samples, last=last).tobytes()
        return resampled
