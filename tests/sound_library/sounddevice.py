"""Stands in for the package `sounddevice`, of which it has what is used: devices, and streams whose threads
call back.

There is a microphone of 48 kHz, one of 16 kHz and two loudspeakers, one of which takes 44.1 kHz only. The
microphones are silent, or hear what a test puts into `HEARD`. TEST_SOUND is `no library` or `no device` for
machines that lack these. Of a program that a test starts the first microphone hears the WAV file
TEST_SOUND_HEARD, once and at its rate, and what its loudspeaker played is written to TEST_SOUND_PLAYED.
"""

from __future__ import annotations

import os
import threading
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any


class PortAudioError(Exception):
    """As the package has it."""


if os.environ.get("TEST_SOUND") == "no library":
    raise OSError("PortAudio library not found")

HEARD: dict[float, Callable[[int], bytes]] = {}
"""By the rate of a microphone, what it hears: a function of how many samples are wanted."""

PLAYED = bytearray()
"""What the loudspeaker was given last that was open."""


def _device(name: str, inputs: int, outputs: int, rate_hz: float) -> dict[str, Any]:
    return {
        "name": name,
        "max_input_channels": inputs,
        "max_output_channels": outputs,
        "default_samplerate": rate_hz,
    }


_DEVICES = [
    _device("Built-in microphone", 1, 0, 48_000.0),
    _device("Built-in loudspeaker", 0, 2, 48_000.0),
    _device("Headset microphone", 1, 0, 16_000.0),
    _device("Living room loudspeaker", 0, 2, 44_100.0),
]
_ONLY_ITS_OWN = "Living room loudspeaker"


def _hear(path: Path) -> None:
    with wave.open(str(path), "rb") as file:
        rate_hz, left = file.getframerate(), bytearray(file.readframes(file.getnframes()))

    def heard(samples: int) -> bytes:
        block = bytes(left[: samples * 2])
        del left[: samples * 2]
        return block.ljust(samples * 2, b"\0")

    _DEVICES[0]["default_samplerate"] = float(rate_hz)
    HEARD[rate_hz] = heard


if "TEST_SOUND_HEARD" in os.environ:
    _hear(Path(os.environ["TEST_SOUND_HEARD"]))


def query_devices(device: int | str | None = None, kind: str | None = None) -> Any:
    """All devices, or one; that of a `kind` where none is named."""
    if kind is None:
        return _DEVICES
    if os.environ.get("TEST_SOUND") == "no device":
        raise PortAudioError("Error querying device -1")
    channels = f"max_{kind}_channels"
    fit = [one for one in _DEVICES if one[channels]]
    if device is None:
        return fit[0]
    if isinstance(device, int):
        if not _DEVICES[device][channels]:
            raise ValueError(f"Not an {kind} device: {_DEVICES[device]['name']!r}")
        return _DEVICES[device]
    fit = [one for one in fit if device.lower() in one["name"].lower()]
    if len(fit) != 1:
        raise ValueError(f"{'Multiple' if fit else 'No'} {kind} device matching {device!r}")
    return fit[0]


def check_output_settings(*, device: int | str | None, channels: int, dtype: str, samplerate: float) -> None:
    """Refuse what a loudspeaker does not take."""
    assert (channels, dtype) == (1, "int16")
    one = query_devices(device, "output")
    if one["name"] == _ONLY_ITS_OWN and samplerate != one["default_samplerate"]:
        raise PortAudioError("Invalid sample rate")


class _Stream:
    KIND = ""

    def __init__(
        self,
        *,
        device: int | str | None,
        samplerate: float,
        channels: int,
        dtype: str,
        blocksize: int,
        latency: float,
        callback: Callable[[Any, int, Any, Any], None],
        finished_callback: Callable[[], None],
    ) -> None:
        assert (channels, dtype) == (1, "int16")
        assert latency > blocksize / samplerate
        self.device = query_devices(device, self.KIND)
        self.rate_hz = samplerate
        self._callback = callback
        self._finished = finished_callback
        self._frames = blocksize
        self._block_s = blocksize / samplerate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Stream:
        OPEN.append(self)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        OPEN.remove(self)
        self.unplug()

    def unplug(self) -> None:
        """End the stream, as one does whose device is gone."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        at = time.monotonic()
        while not self._over.wait(max(0.0, at - time.monotonic())):
            at += self._block_s
            self._run_block()
        self._finished()

    def _run_block(self) -> None:
        raise NotImplementedError


OPEN: list[_Stream] = []


class RawInputStream(_Stream):
    """The microphone."""

    KIND = "input"

    def _run_block(self) -> None:
        heard = HEARD.get(self.rate_hz)
        block = heard(self._frames) if heard else bytes(self._frames * 2)
        self._callback(memoryview(block), self._frames, None, None)


class RawOutputStream(_Stream):
    """The loudspeaker."""

    KIND = "output"

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if path := os.environ.get("TEST_SOUND_PLAYED"):
            Path(path).write_bytes(PLAYED)

    def _run_block(self) -> None:
        out = bytearray(self._frames * 2)
        self._callback(memoryview(out), self._frames, None, None)
        PLAYED.extend(out)
