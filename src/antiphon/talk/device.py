"""The machine's microphone and loudspeaker, by the optional package `sounddevice`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from antiphon.talk.errors import TalkError
from antiphon.talk.sound import CAPTURE_HZ, PLAYBACK_HZ, PlaybackQueue

_BLOCK_S: Final = 0.05
_MAX_CAPTURED_S: Final = 10.0
"""What was captured and cannot be sent yet; more of it pushes out the oldest."""

_INSTEAD: Final = "Or name a sound FILE."


@contextmanager
def opened() -> Iterator[Device]:
    """Open microphone and loudspeaker, and close them on leaving.

    Raises:
        TalkError: there are none that can be used, or what they need is not installed.
    """
    try:
        import sounddevice
    except ImportError:
        raise TalkError(
            f"To talk by microphone, install what it needs: pip install 'antiphon[microphone]'. {_INSTEAD}"
        ) from None
    except OSError:
        raise TalkError(
            "To talk by microphone, install PortAudio (on Debian and Ubuntu: apt install libportaudio2). "
            + _INSTEAD
        ) from None
    device = Device(asyncio.get_running_loop())
    with ExitStack() as streams:
        try:
            for make, rate_hz, callback in (
                (sounddevice.RawOutputStream, PLAYBACK_HZ, device.fill),
                (sounddevice.RawInputStream, CAPTURE_HZ, device.capture),
            ):
                stream = make(
                    samplerate=rate_hz,
                    channels=1,
                    dtype="int16",
                    blocksize=int(rate_hz * _BLOCK_S),
                    callback=callback,
                )
                streams.enter_context(stream)
        except sounddevice.PortAudioError as error:
            why = str(error).rstrip(".")
            raise TalkError(f"No microphone and loudspeaker can be opened: {why}. {_INSTEAD}") from None
        yield device


class Device:
    """A `Sound`. `fill` and `capture` are called by threads of the sound library."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._captured: deque[bytes] = deque(maxlen=int(_MAX_CAPTURED_S / _BLOCK_S))
        self._heard = asyncio.Event()
        self._queue = PlaybackQueue()

    async def read(self) -> bytes:
        """Return what was captured next, at `CAPTURE_HZ`."""
        while not self._captured:
            self._heard.clear()
            await self._heard.wait()
        return self._captured.popleft()

    def play(self, pcm: bytes) -> None:
        """Queue audio at `PLAYBACK_HZ`."""
        self._queue.play(pcm)

    def flush(self) -> None:
        """Be silent at once: drop what is queued."""
        self._queue.flush()

    @property
    def played_ms(self) -> float:
        """How much the device took of what was queued."""
        return self._queue.played_ms

    def fill(self, out: Any, frames: int, time: Any, status: Any) -> None:
        """Give the loudspeaker its next block."""
        out[:] = self._queue.pull(len(out))

    def capture(self, data: Any, frames: int, time: Any, status: Any) -> None:
        """Take the microphone's next block."""
        self._loop.call_soon_threadsafe(self._hear, bytes(data))

    def _hear(self, pcm: bytes) -> None:
        self._captured.append(pcm)
        self._heard.set()
