"""The user's audio on its way to the model: one stream at a time, and the talk button.

What comes of a message is returned, in order: what goes to the model, and errors for the client.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from antiphon import live
from antiphon.audio.stream import AudioStream, Decoded, StreamState
from antiphon.errors import ErrorCode, GatewayError
from antiphon.messages import StreamFormat
from antiphon.session.user_side import Timeline

Outcome = live.LiveInput | GatewayError

_MAX_AUDIO_BYTES: Final = live.INPUT_RATE_HZ // 2
"""A quarter of a second: what may have got lost is said again whole. FLAC may hold minutes in a chunk."""
_BYTES_A_MS: Final = 2 * live.INPUT_RATE_HZ / 1000


class Microphone:
    """A session's audio streams. With `push_to_talk` only what is said while it is `pressed` is heard."""

    KEPT: ClassVar[dict[str, Any]] = {
        "push_to_talk": bool,
        "pressed": bool,
        "stream_state": StreamState | None,
    }

    def __init__(self, timeline: Timeline) -> None:
        self.push_to_talk = False
        self.pressed = False
        self._timeline = timeline
        self._stream: AudioStream | None = None

    @property
    def stream_state(self) -> StreamState | None:
        """Where the stream that is open stands; to set it is to go on from there."""
        return self._stream.snapshot() if self._stream else None

    @stream_state.setter
    def stream_state(self, state: StreamState | None) -> None:
        self._stream = AudioStream.restored(state) if state else None

    @property
    def open(self) -> bool:
        """Whether a stream is."""
        return self._stream is not None

    def start(self, format: StreamFormat, rate_hz: int) -> None:  # noqa: A002 (the protocol's word)
        """Open a stream."""
        self._stream = AudioStream(format, rate_hz)
        self._timeline.begin_stream()

    def verbatim(self, sequence: int, data: bytes) -> live.Audio | None:
        """Take the stream's next bytes where they are the model's input as they are, as they nearly always
        are; return None where they are not, and `chunk()` has to take them.
        """
        stream = self._stream
        if stream is None or not 0 < len(data) <= _MAX_AUDIO_BYTES:
            return None
        if (self.push_to_talk and not self.pressed) or not stream.passes(sequence, data):
            return None
        self._timeline.position_ms += len(data) / _BYTES_A_MS
        return live.Audio(data)

    def chunk(self, sequence: int, data: bytes) -> list[Outcome]:
        """Take the stream's next bytes."""
        stream = self._stream
        if stream is None:
            return [GatewayError(ErrorCode.AUDIO_STREAM_INACTIVE)]
        outcomes = self._decoded(stream.feed(sequence, data))
        return outcomes + self._over() if stream.ended else outcomes  # ended by what nobody can decode

    def end(self) -> list[Outcome]:
        """End the stream, so that the model answers what there was, to the last sample."""
        if self._stream is None:
            return [GatewayError(ErrorCode.AUDIO_STREAM_INACTIVE)]
        return self._decoded(self._stream.flush()) + self._over()

    def press(self) -> list[Outcome]:
        """Begin an activity; the first one ends automatic detection."""
        if self.pressed:
            return [GatewayError(ErrorCode.PROTOCOL_ACTIVITY_ORDER)]
        self.push_to_talk = self.pressed = True
        return [live.ActivityStart()]

    def release(self) -> list[Outcome]:
        """End the activity, with all that was sent of it."""
        if not self.pressed:
            return [GatewayError(ErrorCode.PROTOCOL_ACTIVITY_ORDER)]
        outcomes = self._decoded(self._stream.drain()) if self._stream else []
        self.pressed = False
        return [*outcomes, live.ActivityEnd()]

    def _over(self) -> list[Outcome]:
        self._stream = None
        if self.push_to_talk:
            return self.release() if self.pressed else []
        return [live.AudioEnd()]

    def _decoded(self, decoded: Decoded) -> list[Outcome]:
        outcomes: list[Outcome] = []
        self._timeline.position_ms += len(decoded.pcm) / _BYTES_A_MS
        if not decoded.pcm:
            return [*decoded.errors]
        if self.pressed or not self.push_to_talk:
            if len(decoded.pcm) <= _MAX_AUDIO_BYTES:
                return [live.Audio(decoded.pcm), *decoded.errors]
            places = range(0, len(decoded.pcm), _MAX_AUDIO_BYTES)
            outcomes += [live.Audio(decoded.pcm[place : place + _MAX_AUDIO_BYTES]) for place in places]
        return [*outcomes, *decoded.errors]
