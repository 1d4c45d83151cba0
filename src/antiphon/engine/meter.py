"""What one connection has used so far."""

from __future__ import annotations

from typing import Final

from antiphon.engine import wire
from antiphon.engine.playback import RATE_HZ

TOKENS_PER_SECOND: Final = 25
"""Of audio, both ways: what Gemini's native audio models count."""

_INPUT_BYTES_PER_S: Final = 2 * 16_000
_OUTPUT_BYTES_PER_S: Final = 2 * RATE_HZ


class Meter:
    """Counts text and audio; `received_ms` is how much audio came, whether it was listened to or not."""

    def __init__(self, text_in: int) -> None:
        self._text_in = text_in
        self._text_out = 0
        self._heard_bytes = 0
        self._skipped_bytes = 0

    @property
    def received_ms(self) -> float:
        return (self._heard_bytes + self._skipped_bytes) * 1000 / _INPUT_BYTES_PER_S

    def heard(self, size: int) -> None:
        """Count audio (16 kHz PCM16) that the ear was given."""
        self._heard_bytes += size

    def skipped(self, size: int) -> None:
        """Count audio that came while nobody listened; it costs nothing."""
        self._skipped_bytes += size

    def read(self, text: str) -> None:
        """Count text of the client's."""
        self._text_in += wire.text_tokens(text)

    def wrote(self, text: str) -> None:
        """Count text for the client."""
        self._text_out += wire.text_tokens(text)

    def usage(self, spoken_bytes: int) -> wire.Usage:
        """Return the tokens, given how much audio (24 kHz PCM16) was spoken."""
        return wire.Usage(
            text_in=self._text_in,
            audio_in=self._heard_bytes * TOKENS_PER_SECOND // _INPUT_BYTES_PER_S,
            text_out=self._text_out,
            audio_out=spoken_bytes * TOKENS_PER_SECOND // _OUTPUT_BYTES_PER_S,
        )
