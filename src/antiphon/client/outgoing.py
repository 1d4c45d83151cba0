"""What was sent and may be lost with the connection: kept until it is acknowledged. Pure.

The gateway counts what comes, and so does this. An acknowledgement of audio says that it is safe, and all
that was sent before it. A resumed session says how much has come, and what follows is sent again; what has
come is not safe by that, and is forgotten only to make room.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Place(NamedTuple):
    """Where a chunk of audio stands: in which of the session's streams, from 1 on, and where in that."""

    stream: int
    sequence: int


class Frame(NamedTuple):
    """A frame for the gateway; `place` and `audio_ms` are those of a chunk of audio."""

    data: bytes
    text: bool = True
    place: Place | None = None
    audio_ms: float = 0.0


class Outgoing:
    """Frames by their number, the first of the session being 0: written in order, and kept."""

    def __init__(self, max_bytes: int, max_audio_ms: float) -> None:
        self.written = 0
        """The number of the frame that this connection is to be given next."""
        self.first = 0
        """The number of the first frame that is kept."""
        self._frames: deque[Frame] = deque()
        self._chunks: deque[_Chunk] = deque()
        self._came = 0
        self._bytes = 0
        self._audio_ms = 0.0
        self._max_bytes = max_bytes
        self._max_audio_ms = max_audio_ms

    @property
    def added(self) -> int:
        """How many frames were ever added: the number of the next."""
        return self.first + len(self._frames)

    @property
    def awaits_acknowledgement(self) -> bool:
        """Whether there is audio whose acknowledgement would make room."""
        return bool(self._chunks)

    def make_room_for(self, frame: Frame) -> bool:
        """Return whether a frame fits in; alone, any does."""
        while self._frames and not self._fits(frame):
            if self.first >= self._came:
                return False
            self._drop(self.first + 1)
        return True

    def add(self, frame: Frame) -> int:
        """Let a frame be written after all others; return its number."""
        number = self.added
        self._frames.append(frame)
        self._bytes += len(frame.data)
        self._audio_ms += frame.audio_ms
        if frame.place:
            self._chunks.append(_Chunk(number, frame.place))
        return number

    def peek(self) -> Frame | None:
        """Return the frame that is to be written next."""
        return self._frames[self.written - self.first] if self.written < self.added else None

    def wrote(self, number: int) -> None:
        """Note that a frame is written. It may have been acknowledged since."""
        self.written = max(self.written, number + 1)

    def forget_written(self) -> None:
        """Keep nothing of what is written, where a lost connection is the end anyway."""
        self._drop(self.written)

    def acknowledge(self, place: Place) -> None:
        """Note that audio is safe up to there, and all sent before it; of what was not written nothing is."""
        through = None
        # What is being written may be acknowledged sooner than it is known to be written.
        while self._chunks and self._chunks[0].place <= place and self._chunks[0].number <= self.written:
            through = self._chunks.popleft().number
        if through is not None:
            self._drop(through + 1)

    def await_no_more(self) -> None:
        """Note that the audio written so far was refused, and is not going to be acknowledged."""
        while self._chunks and self._chunks[0].number < self.written:
            self._chunks.popleft()

    def resume(self, received: int) -> int:
        """Write again, on another connection, all after the first `received` frames of the session.

        Return how many are missing: they were acknowledged, and the gateway has lost them all the same.
        """
        missing = max(0, self.first - received)
        if received < self.first:
            self._renumber(received)
        elif received > self.added:
            self._drop(self.added)
            self._renumber(received)
        self.written = self._came = received
        return missing

    def _renumber(self, first: int) -> None:
        """Count as the gateway does, whatever that was."""
        shift = first - self.first
        self.first = first
        self._chunks = deque(chunk._replace(number=chunk.number + shift) for chunk in self._chunks)

    def _fits(self, frame: Frame) -> bool:
        return (
            self._bytes + len(frame.data) <= self._max_bytes
            and self._audio_ms + frame.audio_ms <= self._max_audio_ms
        )

    def _drop(self, number: int) -> None:
        """Forget all frames before this one."""
        while self.first < number:
            frame = self._frames.popleft()
            self.first += 1
            self._bytes -= len(frame.data)
            self._audio_ms -= frame.audio_ms
        while self._chunks and self._chunks[0].number < number:
            self._chunks.popleft()
        self.written = max(self.written, self.first)


class _Chunk(NamedTuple):
    """Which frame is which chunk of audio."""

    number: int
    place: Place
