"""A stream of audio, as it is sent: its chunks numbered, its audio counted. Pure."""

from __future__ import annotations

import msgspec

from antiphon import frames, messages
from antiphon.client.outgoing import Frame, Place
from antiphon.extension import AudioStreamStart, StreamConfig


class Stream:
    """One of a session's streams. `number` is counted from 1, as the gateway counts those that it opened."""

    def __init__(self, number: int, bytes_a_ms: float = 0.0) -> None:
        self.number = number
        self._bytes_a_ms = bytes_a_ms
        self._sequence = 0
        self._sent_bytes = 0

    @classmethod
    def begin(cls, number: int, config: StreamConfig, now_ms: int) -> tuple[Stream, Frame]:
        """Return the stream, and the message that opens it.

        Raises:
            ValueError: the gateway would not open it.
        """
        try:
            msgspec.convert(msgspec.to_builtins(config), StreamConfig)
        except msgspec.ValidationError as error:
            raise ValueError(f"There is no stream like that: {error}.") from None
        message = AudioStreamStart(timestamp=now_ms, config=config)
        is_pcm = config.format == "LINEAR16"
        return cls(number, config.sample_rate * 2 / 1000 if is_pcm else 0.0), Frame(messages.encode(message))

    @property
    def duration_ms(self) -> float:
        """How much audio was sent; 0 where that cannot be told from its bytes."""
        return self._ms(self._sent_bytes)

    def chunk(self, data: bytes, now_ms: int, *, binary: bool) -> Frame:
        """Return the next chunk; it counts once it is `sent`."""
        place, audio_ms = Place(self.number, self._sequence), self._ms(len(data))
        if binary:
            packed = frames.pack(frames.Frame(frames.AUDIO_CHUNK, self._sequence, now_ms, data))
            return Frame(packed, text=False, place=place, audio_ms=audio_ms)
        message = messages.AudioChunk(timestamp=now_ms, data=data, sequence=self._sequence)
        return Frame(messages.encode(message), place=place, audio_ms=audio_ms)

    def sent(self, data: bytes) -> None:
        """Count a chunk."""
        self._sequence += 1
        self._sent_bytes += len(data)

    def _ms(self, size: int) -> float:
        return size / self._bytes_a_ms if self._bytes_a_ms else 0.0
