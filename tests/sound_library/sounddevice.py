"""Stands in for the package `sounddevice`, of which it has what is used: streams whose threads call back.

The microphone is silent. TEST_SOUND is `no library` or `no device` for machines that lack these.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any


class PortAudioError(Exception):
    """As the package has it."""


if os.environ.get("TEST_SOUND") == "no library":
    raise OSError("PortAudio library not found")


class _Stream:
    def __init__(
        self,
        *,
        samplerate: float,
        channels: int,
        dtype: str,
        blocksize: int,
        callback: Callable[[Any, int, Any, Any], None],
    ) -> None:
        if os.environ.get("TEST_SOUND") == "no device":
            raise PortAudioError("Error querying device -1")
        assert (channels, dtype) == (1, "int16")
        self._callback = callback
        self._frames = blocksize
        self._block_s = blocksize / samplerate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        at = time.monotonic()
        while not self._over.wait(max(0.0, at - time.monotonic())):
            at += self._block_s
            self._callback(memoryview(bytearray(self._frames * 2)), self._frames, None, None)


class RawInputStream(_Stream):
    """The microphone."""


class RawOutputStream(_Stream):
    """The loudspeaker."""
