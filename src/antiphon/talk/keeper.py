"""Write answers to files as they come."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import BinaryIO, Final

from antiphon.client import pcm_rate
from antiphon.extension import ResponseStarted, ServerMessage
from antiphon.messages import AudioResponse
from antiphon.talk.errors import TalkError

_SUFFIXES: Final = {"audio/wav": ".wav", "audio/flac": ".flac", "audio/ogg;codecs=opus": ".ogg"}


class Keeper:
    """Write what answers one recording to `FOLDER/NAME.answer.wav`.

    PCM is joined to one WAV file. Anything else is written as it comes, by `NAME.answer.flac` or `.ogg`, and
    each further response to a file of its own, `NAME.answer.2.flac`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._path = Path()
        self._wave: wave.Wave_write | None = None
        self._plain: BinaryIO | None = None
        self._count = 0

    def receive(self, message: ServerMessage) -> None:
        """Take what came.

        Raises:
            TalkError: it cannot be written.
        """
        try:
            match message:
                case ResponseStarted():
                    self._end_plain()
                case AudioResponse():
                    self._add(message)
                case _:
                    pass
        except OSError as error:
            raise TalkError(f"{self._path} cannot be written: {error.strerror}.") from None

    def close(self) -> None:
        if self._wave:
            self._wave.close()
        self._end_plain()

    def _add(self, piece: AudioResponse) -> None:
        if rate_hz := pcm_rate(piece.format):
            if self._wave is None:
                self._begin(".wav", 1)
                self._wave = wave.open(str(self._path), "wb")  # noqa: SIM115 (close() does)
                self._wave.setparams((1, 2, rate_hz, 0, "NONE", "not compressed"))
            self._wave.writeframes(piece.data)
            return
        if piece.format not in _SUFFIXES:
            raise TalkError(f"The answer comes as {piece.format}, which cannot be saved.")
        if self._plain is None:
            self._count += 1
            self._begin(_SUFFIXES[piece.format], self._count)
            self._plain = self._path.open("wb")
        self._plain.write(piece.data)

    def _begin(self, suffix: str, number: int) -> None:
        numbered = f".{number}" if number > 1 else ""
        self._path = self._folder / f"{self._name}.answer{numbered}{suffix}"
        self._folder.mkdir(parents=True, exist_ok=True)

    def _end_plain(self) -> None:
        if self._plain:
            self._plain.close()
            self._plain = None
