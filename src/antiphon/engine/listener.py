"""Hears one conversation: finds the utterances in its audio and has them recognised.

Time is counted in audio, so what is heard does not depend on how fast the audio comes. Only partials,
and the silence that is assumed where no audio comes at all, go by the clock.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from msgspec import Struct

from antiphon.engine.detector import (
    FRAME_BYTES,
    FRAME_MS,
    FRAME_SAMPLES,
    HANGOVER_FRAMES,
    ONSET_FRAMES,
    STAY_PROBABILITY,
    Detector,
    DetectorModel,
)
from antiphon.engine.recognizer import NOTHING, Recognizer, Transcript
from antiphon.errors import ErrorCode, GatewayError

MAX_BACKLOG_S = 300
"""Audio that may wait to be heard; 20 s of it are heard in a second."""

MAX_UTTERANCE_S = 300
"""Someone who talks on for so long gets a final result at the next pause, however short."""

_BYTES_PER_SECOND = 32_000

_PREROLL_FRAMES = 10 + ONSET_FRAMES
"""320 ms from before speech was noticed, or its first consonant is lost."""

_PAUSE_FRAMES = 7
"""After 224 ms of silence the text is made, to be ready when the utterance proves to be over."""

_MIN_PIECE_FRAMES = 250
_MAX_PIECE_FRAMES = 500
"""After 8 s an utterance is cut at the next pause, after 16 s anywhere: a final takes 0.9 s at most, and
others wait for it no longer. The recognizer could take 30 s, and makes no fewer errors with that."""

_MAX_CUT_OFF = 2
_MAX_AHEAD_S = 1.0
"""The listener goes on while what was cut off is recognised, unless so many pieces wait for it, or audio that
comes faster than it is spoken: its partials would come when all is over."""

_CUT_WINDOW_FRAMES = 200
_CUT_SMOOTHING_FRAMES = 5
"""Where there is no pause, the cut comes in the last 6.4 s, at the quietest 160 ms."""

_FIRST_PARTIAL_FRAMES = 12
_RETRY_FRAMES = 8
_PARTIAL_FRAMES = 16
_PARTIAL_LOAD = 3.0
_PATIENCE_S = 3.0
"""A partial after 384 ms of speech, every 256 ms until it has a word, then every 512 ms; less often
where decoding would take more than a quarter of a core. The recognizer thins them further where many
want one: then those who have been shown nothing yet go before others, by three seconds."""

_HANGOVER_LEFT_S = (HANGOVER_FRAMES - _PAUSE_FRAMES) * FRAME_MS / 1000
"""When the text of what may be the end of an utterance is needed."""

_STARVED_FRAMES = 25
_TICK_FRAMES = 3
"""800 ms without audio are as good as silence: a client may mute without saying so. Counted in ticks of
96 ms, so that a stall of this process does not pass for one."""

_TURN_FRAMES = 8
"""Frames (2 ms of work) after which other tasks have their turn."""


class SpeechStarted(Struct, frozen=True):
    """An utterance began. `at_ms` counts the audio that was fed to the listener before it."""

    at_ms: int


class Partial(Struct, frozen=True):
    """The whole utterance so far, without what is likely to change."""

    text: str
    confidence: float


class SpeechStopped(Struct, frozen=True):
    """The utterance is over; its speech ended at `at_ms`. `Final` or `Discarded` follows."""

    at_ms: int


class Final(Struct, frozen=True):
    """The whole utterance."""

    text: str
    confidence: float


class Discarded(Struct, frozen=True):
    """What seemed an utterance had no words in it."""


ListenerEvent = SpeechStarted | Partial | SpeechStopped | Final | Discarded


@dataclass
class _Utterance:
    """One utterance while it is spoken: text for the pieces cut off, audio for the present one."""

    started_frame: int
    audio: bytearray
    probabilities: list[float]
    voiced: bool = True
    pieces: list[Transcript | None] = field(default_factory=list)
    """What was cut off; None is not recognised yet."""
    draft: tuple[int, ...] = ()
    """What was last recognised in the present piece."""
    shown: str = ""

    @property
    def frames(self) -> int:
        return len(self.audio) // FRAME_BYTES

    def cut(self, frame: int) -> bytes:
        """Take the first `frame` frames off the present piece and return their audio."""
        head = bytes(self.audio[: frame * FRAME_BYTES])
        del self.audio[: frame * FRAME_BYTES]
        del self.probabilities[:frame]
        self.draft = ()
        self.voiced = any(one >= STAY_PROBABILITY for one in self.probabilities)
        return head

    def quietest_frame(self) -> int:
        """Return the frame at which a cut does the least harm to words."""
        first = self.frames - _CUT_WINDOW_FRAMES
        samples = np.frombuffer(self.audio, np.int16)[first * FRAME_SAMPLES :].astype(np.float64)
        power = np.square(samples).reshape(-1, FRAME_SAMPLES).mean(axis=1)
        # Words have quiet places too: the detector's certainty of speech weighs as much as 30 dB.
        weighted = (power + 1) * np.exp2(np.array(self.probabilities[first:]) * 10)
        window = np.ones(_CUT_SMOOTHING_FRAMES)
        smooth = np.convolve(np.log(weighted), window, "valid")
        return first + int(smooth.argmin()) + _CUT_SMOOTHING_FRAMES // 2

    def with_piece(self, piece: Transcript) -> Transcript:
        """Return the utterance's transcript, given its present piece's."""
        pieces = [one for one in (*self.pieces, piece) if one and one.text]
        weight = sum(len(one.text) for one in pieces)
        if not weight:
            return NOTHING
        mean = sum(len(one.text) * math.log(one.confidence) for one in pieces) / weight
        return Transcript(" ".join(one.text for one in pieces), math.exp(mean))


class Listener:
    """The ear of one conversation.

    `on_event` is called with, for each utterance: `SpeechStarted`, any number of `Partial`,
    `SpeechStopped`, and then `Final` or `Discarded`; only then the next one begins. It runs on the
    event loop and must not block. The listener's tasks live in `tasks`, where their errors surface;
    they end with `aclose`, which is due before the group can.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        detector_model: DetectorModel,
        on_event: Callable[[ListenerEvent], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._recognizer = recognizer
        self._detector = Detector(detector_model)
        self._on_event = on_event
        self._tasks = tasks
        self._backlog: deque[bytes | None] = deque()
        self._backlog_bytes = 0
        self._audio_came = asyncio.Event()
        self._audio_heard = asyncio.Event()
        self._rest = bytearray()
        self._frame = 0
        self._preroll: deque[bytes] = deque(maxlen=_PREROLL_FRAMES)
        self._utterance: _Utterance | None = None
        self._starved_frames = 0
        self._next_partial_frame = 0
        self._partial: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[Transcript] | None = None
        self._cut_off: set[asyncio.Task[None]] = set()
        self._listening = tasks.create_task(self._listen())

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that were fed and not heard yet."""
        return self._backlog_bytes / _BYTES_PER_SECOND

    def feed(self, pcm: bytes) -> None:
        """Hear audio: 16 kHz mono PCM16, in pieces of any size, at any speed.

        Raises:
            GatewayError: UPSTREAM_SLOW, more than `MAX_BACKLOG_S` of it wait already; none is taken.
        """
        if self.backlog_s > MAX_BACKLOG_S:
            raise GatewayError(ErrorCode.UPSTREAM_SLOW, "More audio came than can be listened to.")
        self._backlog.append(pcm)
        self._backlog_bytes += len(pcm)
        self._audio_came.set()

    def end(self) -> None:
        """Take the audio so far for complete: an utterance that is open ends here. More may be fed."""
        self._backlog.append(None)
        self._audio_came.set()

    async def caught_up(self, backlog_s: float = 0.0) -> None:
        """Wait until at most `backlog_s` seconds wait to be heard; with 0.0, until everything was heard,
        and an `end` has had its `Final` or `Discarded`."""
        while self.backlog_s > backlog_s or (self._backlog and not backlog_s):
            self._audio_heard.clear()
            await self._audio_heard.wait()

    async def aclose(self) -> None:
        """Stop at once; nothing more is reported."""
        tasks = [task for task in (self._listening, self._partial, self._settling, *self._cut_off) if task]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _listen(self) -> None:
        while True:
            if not self._backlog:
                self._audio_came.clear()
                await self._wait()
                continue
            chunk = self._backlog[0]
            self._starved_frames = 0
            if chunk is None:
                await self._end_audio()
            else:
                await self._hear(chunk)
                self._backlog_bytes -= len(chunk)
            self._backlog.popleft()
            self._audio_heard.set()

    async def _wait(self) -> None:
        """Wait for audio; while an utterance is open, count the time without."""
        if self._utterance is None:
            await self._audio_came.wait()
            return
        try:
            async with asyncio.timeout(_TICK_FRAMES * FRAME_MS / 1000):
                await self._audio_came.wait()
        except TimeoutError:
            self._starved_frames += _TICK_FRAMES
            silent_frames = self._detector.silent_frames + self._starved_frames
            if silent_frames >= _STARVED_FRAMES:
                await self._finish(self._utterance)
                self._start_afresh()
            elif silent_frames >= _PAUSE_FRAMES and self._settling is None:
                self._settle(self._utterance)

    async def _hear(self, pcm: bytes) -> None:
        self._rest += pcm
        while len(self._rest) >= FRAME_BYTES:
            frame = bytes(self._rest[:FRAME_BYTES])
            del self._rest[:FRAME_BYTES]
            await self._hear_frame(frame)

    async def _hear_frame(self, frame: bytes) -> None:
        self._frame += 1
        if self._frame % _TURN_FRAMES == 0:
            await asyncio.sleep(0)
        probability = self._detector.feed(frame)
        if self._utterance is None:
            self._preroll.append(frame)
            if self._detector.speaking:
                self._begin()
        else:
            await self._go_on(self._utterance, frame, probability)

    def _begin(self) -> None:
        started_frame = self._frame - ONSET_FRAMES
        audio = bytearray(b"".join(self._preroll))
        self._preroll.clear()
        probabilities = [1.0] * (len(audio) // FRAME_BYTES)
        self._utterance = _Utterance(started_frame, audio, probabilities)
        self._next_partial_frame = started_frame + _FIRST_PARTIAL_FRAMES
        self._on_event(SpeechStarted(started_frame * FRAME_MS))

    async def _go_on(self, utterance: _Utterance, frame: bytes, probability: float) -> None:
        utterance.audio += frame
        utterance.probabilities.append(probability)
        silent_frames = self._detector.silent_frames
        if silent_frames == 0:
            utterance.voiced = True
            self._give_up_settling()
        if not self._detector.speaking:
            await self._finish(utterance)
        elif silent_frames == _PAUSE_FRAMES:
            await self._pause(utterance)
        elif utterance.frames >= _MAX_PIECE_FRAMES:
            await self._cut(utterance, utterance.quietest_frame())
        elif self._frame >= self._next_partial_frame and self._settling is None:
            self._show_partial(utterance)

    async def _pause(self, utterance: _Utterance) -> None:
        if (self._frame - utterance.started_frame) * FRAME_MS >= MAX_UTTERANCE_S * 1000:
            await self._finish(utterance)
            self._detector.stop()
        elif utterance.frames >= _MIN_PIECE_FRAMES:
            await self._cut(utterance, utterance.frames - _PAUSE_FRAMES // 2)
        else:
            self._settle(utterance)

    async def _end_audio(self) -> None:
        if self._rest:
            await self._hear(bytes(FRAME_BYTES - len(self._rest)))
        if self._utterance is not None:
            await self._finish(self._utterance)
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._detector.reset()
        self._preroll.clear()

    # ---- text

    async def _cut(self, utterance: _Utterance, frame: int) -> None:
        """Have the first frames of the present piece turned into text for good, and go on listening."""
        self._give_up_partial()
        self._give_up_settling()
        utterance.pieces.append(None)
        place = len(utterance.pieces) - 1
        task = self._tasks.create_task(self._transcribe_cut_off(utterance, place, utterance.cut(frame)))
        self._cut_off.add(task)
        task.add_done_callback(self._cut_off.discard)
        while self._cut_off and (len(self._cut_off) >= _MAX_CUT_OFF or self.backlog_s > _MAX_AHEAD_S):
            await asyncio.wait(self._cut_off, return_when=asyncio.FIRST_COMPLETED)

    async def _transcribe_cut_off(self, utterance: _Utterance, place: int, pcm: bytes) -> None:
        utterance.pieces[place] = await self._transcribe(pcm)
        self._report(utterance, NOTHING)

    async def _finish(self, utterance: _Utterance) -> None:
        self._utterance = None
        self._give_up_partial()
        self._on_event(SpeechStopped((self._frame - self._detector.silent_frames) * FRAME_MS))
        if self._settling is not None:
            piece = await self._settling
            self._settling = None
        elif utterance.voiced:
            piece = await self._recognizer.transcribe(bytes(utterance.audio), final=True)
        else:
            piece = NOTHING
        if self._cut_off:
            await asyncio.wait(self._cut_off)
        whole = utterance.with_piece(piece)
        self._on_event(Final(whole.text, whole.confidence) if whole.text else Discarded())

    def _settle(self, utterance: _Utterance) -> None:
        """Transcribe the present piece as if the utterance were over."""
        self._give_up_partial()
        self._give_up_settling()
        if utterance.voiced:
            self._settling = self._tasks.create_task(self._transcribe_settled(utterance))

    async def _transcribe_settled(self, utterance: _Utterance) -> Transcript:
        piece = await self._transcribe(bytes(utterance.audio))
        utterance.draft = piece.tokens
        self._report(utterance, piece)
        return piece

    async def _transcribe(self, pcm: bytes) -> Transcript:
        """Transcribe what may be the end of an utterance, as longer silence will show."""
        return await self._recognizer.transcribe(pcm, final=True, due_in_s=_HANGOVER_LEFT_S)

    def _show_partial(self, utterance: _Utterance) -> None:
        if self._partial is not None and not self._partial.done():
            return
        self._next_partial_frame = self._frame + (_PARTIAL_FRAMES if utterance.shown else _RETRY_FRAMES)
        self._partial = self._tasks.create_task(self._transcribe_partial(utterance))

    async def _transcribe_partial(self, utterance: _Utterance) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()

        def audio() -> bytes:
            nonlocal began
            began = clock()
            return bytes(utterance.audio)

        patience_s = _PATIENCE_S if utterance.shown else 0.0
        piece = await self._recognizer.partial(self, audio, utterance.draft, patience_s)
        rest_frames = int((clock() - began) * _PARTIAL_LOAD * 1000 / FRAME_MS)
        self._next_partial_frame = max(self._next_partial_frame, self._frame + rest_frames)
        if piece.text:
            utterance.draft = piece.tokens
            # The last word may be half spoken.
            certain = piece.text.rpartition(" ")[0]
            self._report(utterance, Transcript(certain, piece.confidence))

    def _report(self, utterance: _Utterance, piece: Transcript) -> None:
        if self._utterance is not utterance or None in utterance.pieces:
            return
        whole = utterance.with_piece(piece)
        if whole.text and whole.text != utterance.shown:
            utterance.shown = whole.text
            self._on_event(Partial(whole.text, whole.confidence))

    def _give_up_partial(self) -> None:
        if self._partial is not None:
            self._partial.cancel()
            self._partial = None

    def _give_up_settling(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
