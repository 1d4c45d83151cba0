"""The machine's microphone and loudspeaker, by the optional package `sounddevice`."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import ExitStack, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec import Struct

from antiphon.client.errors import SoundError
from antiphon.client.sound import CAPTURE_HZ, PLAYBACK_HZ, Levels, PlaybackQueue, level

if TYPE_CHECKING:
    from antiphon.audio.resampling import Resampler

_CAPTURED_S: Final = 0.05
_PLAYED_S: Final = 0.02
"""How much audio a callback is for."""

_LATENCY_S: Final = 0.08
"""What PortAudio is asked to hold, for a callback that comes late. A flush is heard so much later."""

_MAX_CAPTURED_S: Final = 10.0
"""What was captured and cannot be sent yet; more of it pushes out the oldest."""


class Device(Struct, frozen=True):
    """A device of the machine; `index`, or a part of `name`, chooses it."""

    index: int
    name: str


class Devices(Struct, frozen=True):
    """The devices of the machine."""

    microphones: tuple[Device, ...]
    loudspeakers: tuple[Device, ...]


def devices() -> Devices:
    """Return the devices that `Sound` can be told to use.

    Raises:
        SoundError: what is needed to look is not installed.
    """
    found = _library().query_devices()

    def those_with(channels: str) -> tuple[Device, ...]:
        return tuple(Device(place, one["name"]) for place, one in enumerate(found) if one[channels] > 0)

    return Devices(those_with("max_input_channels"), those_with("max_output_channels"))


class Sound:
    """The machine's microphone and loudspeaker; both are open from `with Sound() as sound` to its end.

    `microphone` and `loudspeaker` choose a device by its index or by a part of its name, as `devices()` tells
    them; None is the one that the system is set to. The microphone is captured at its own rate and brought to
    16 kHz; of what nobody reads, the last ten seconds are kept. One `Client.talk` after the other may use it.

    Entering waits for the devices, some tenths of a second, and raises `SoundError` where there are none: a
    sentence that says what to install or to connect.
    """

    def __init__(self, microphone: int | str | None = None, loudspeaker: int | str | None = None) -> None:
        self.muted = False
        """Whether silence is captured in place of what the microphone hears. May be set at any time."""
        self._microphone = microphone
        self._loudspeaker = loudspeaker
        self._captured: deque[bytes] = deque(maxlen=int(_MAX_CAPTURED_S / _CAPTURED_S))
        self._heard: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._gone = True
        self._resampler: Resampler | None = None
        self._output: PlaybackQueue | ConvertedQueue = PlaybackQueue()
        self._captured_last = self._played_last = b""
        self._streams = ExitStack()

    def __enter__(self) -> Self:
        library = _library()
        self._captured.clear()
        with ExitStack() as streams:
            try:
                self._open(library, streams)
            except (library.PortAudioError, ValueError) as error:
                why = str(error).strip().rstrip(".")
                raise SoundError(f"No microphone and loudspeaker can be opened: {why}.") from None
            self._streams = streams.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._streams.close()
        self._finish()

    # ---- as an AudioInterface

    async def read(self) -> bytes:
        """Return what was captured next, at 16 kHz: 50 ms.

        Raises:
            SoundError: nothing more will be captured, since a device is gone.
        """
        while not self._captured:
            if self._gone:
                raise SoundError("The microphone or the loudspeaker is gone. Connect it, or choose another.")
            heard = asyncio.Event()
            self._heard = asyncio.get_running_loop(), heard
            if not self._captured and not self._gone:  # nor since
                await heard.wait()
        pcm = self._captured.popleft()
        return self._resampler.feed(pcm) if self._resampler else pcm

    def discard(self) -> None:
        """Forget what was captured so far and not read."""
        self._captured.clear()

    def play(self, pcm: bytes) -> None:
        """Queue audio at 24 kHz; a minute at most, what does not fit is left out."""
        self._output.play(pcm)

    def flush(self) -> None:
        """Be silent at once: drop what is queued."""
        self._output.flush()

    @property
    def played_ms(self) -> float:
        """How much the loudspeaker took of all that was ever queued."""
        return self._output.played_ms

    # ---- for a display

    def levels(self) -> Levels:
        """Return how loud microphone and loudspeaker are just now. Ask as often as a display moves."""
        return Levels(level(self._captured_last), level(self._played_last))

    # ---- within

    def _open(self, library: ModuleType, streams: ExitStack) -> None:
        self._gone = False
        common = {"channels": 1, "dtype": "int16", "latency": _LATENCY_S, "finished_callback": self._finish}
        rate_hz = _output_hz(library, self._loudspeaker)
        self._output = PlaybackQueue() if rate_hz == PLAYBACK_HZ else ConvertedQueue(rate_hz)
        loudspeaker = library.RawOutputStream(
            device=self._loudspeaker,
            samplerate=rate_hz,
            blocksize=int(rate_hz * _PLAYED_S),
            callback=self._fill,
            **common,
        )
        streams.enter_context(loudspeaker)
        rate_hz = int(library.query_devices(self._microphone, "input")["default_samplerate"])
        self._resampler = None if rate_hz == CAPTURE_HZ else _resampler(rate_hz, CAPTURE_HZ)
        microphone = library.RawInputStream(
            device=self._microphone,
            samplerate=rate_hz,
            blocksize=int(rate_hz * _CAPTURED_S),
            callback=self._capture,
            **common,
        )
        streams.enter_context(microphone)

    # These three are called by threads of the library.

    def _fill(self, out: Any, frames: int, time: Any, status: Any) -> None:
        """Give the loudspeaker its next block."""
        out[:] = self._played_last = self._output.pull(len(out))

    def _capture(self, data: Any, frames: int, time: Any, status: Any) -> None:
        """Take the microphone's next block."""
        self._captured_last = bytes(len(data)) if self.muted else bytes(data)
        self._captured.append(self._captured_last)
        self._wake()

    def _finish(self) -> None:
        """Note that a stream is over: it was closed, or its device is gone."""
        self._gone = True
        self._wake()

    def _wake(self) -> None:
        heard, self._heard = self._heard, None
        if heard:
            loop, event = heard
            with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                loop.call_soon_threadsafe(event.set)


class ConvertedQueue:
    """A queue of audio at 24 kHz for a loudspeaker that does not take that."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._queue = PlaybackQueue()
        self._resampler = _resampler(PLAYBACK_HZ, rate_hz)
        self._ready = bytearray()
        self._lock = threading.Lock()

    @property
    def played_ms(self) -> float:
        return self._queue.played_ms

    def play(self, pcm: bytes) -> None:
        self._queue.play(pcm)

    def flush(self) -> None:
        with self._lock:
            self._queue.flush()
            self._resampler = _resampler(PLAYBACK_HZ, self._rate_hz)
            self._ready.clear()

    def pull(self, size: int) -> bytes:
        """Take so many bytes at the loudspeaker's rate. The silence after the last ones pushes them out."""
        with self._lock:
            while len(self._ready) < size:
                self._ready += self._resampler.feed(self._queue.pull(int(PLAYBACK_HZ * _PLAYED_S) * 2))
            pcm = bytes(self._ready[:size])
            del self._ready[:size]
        return pcm


def _library() -> ModuleType:
    """Return the optional package.

    Raises:
        SoundError: it, or the library that it is for, is not installed.
    """
    try:
        import sounddevice
    except ImportError:
        raise SoundError(
            "To talk by microphone, install what it needs: pip install 'antiphon[microphone]'."
        ) from None
    except OSError:
        raise SoundError(
            "To talk by microphone, install PortAudio (on Debian and Ubuntu: apt install libportaudio2)."
        ) from None
    return sounddevice  # type: ignore[no-any-return]


def _output_hz(library: ModuleType, device: int | str | None) -> int:
    """Return the rate to play at: that of the answers where the loudspeaker takes it, else its own."""
    own_hz = int(library.query_devices(device, "output")["default_samplerate"])
    try:
        library.check_output_settings(device=device, channels=1, dtype="int16", samplerate=PLAYBACK_HZ)
    except library.PortAudioError:
        return own_hz
    return PLAYBACK_HZ


def _resampler(from_hz: int, to_hz: int) -> Resampler:
    # Here, since it takes longer to load than all the rest, and few need it.
    from antiphon.audio.resampling import Resampler

    return Resampler(from_hz, to_hz)
