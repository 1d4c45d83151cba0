"""Know when an answer is over. Pure: times are seconds on any one clock."""

from __future__ import annotations

from typing import Protocol

from msgspec import UNSET

from antiphon.extension import (
    ResponseDone,
    ResponseStarted,
    Resumed,
    ServerMessage,
    SpeechStarted,
    ToolCall,
    TranscriptUpdate,
)
from antiphon.messages import AudioResponse, RecognitionResult


class Waiting(Protocol):
    """How long an answer to a recording is waited for."""

    def end(self, now: float) -> None:
        """Note that all was sent."""

    def lost(self) -> None:
        """Note that the connection is lost, and is to be resumed: nothing can come until it is."""

    def receive(self, message: ServerMessage, now: float) -> None:
        """Note what came."""

    @property
    def deadline(self) -> float | None:
        """When it is over, if nothing more comes; None while speech is being sent, or nothing can come."""

    def complaint(self, name: str) -> str | None:
        """Return what was missing, as a sentence."""


class Turn:
    """Know when an answer is over in a base session, which does not say it.

    An answer is over when all that came of it has played and `TAIL_S`
    went by without more. While one is due (at first, and after every result) `SILENCE_S` is waited for it,
    and `behind_s` more.
    """

    SILENCE_S = 8.0
    TAIL_S = 1.0
    SETTLE_S = 3.0
    """As TAIL_S, where nothing was heard since the end of speech: its last words may be on their way."""

    def __init__(self, behind_s: float = 0.0) -> None:
        self._behind_s = behind_s
        self._due = True
        self._heard = ""
        self._answered = False
        self._ended: float | None = None
        self._moved = 0.0
        self._playing_until = 0.0

    def end(self, now: float) -> None:
        """Note that all was sent."""
        self._ended = now

    def lost(self) -> None:
        """A base session does not outlive its connection."""

    def receive(self, message: ServerMessage, now: float) -> None:
        """Note what came."""
        match message:
            case AudioResponse(duration=duration_ms):
                self._moved = now
                self._playing_until = max(now, self._playing_until) + duration_ms / 1000
                self._due = False
                self._answered = True
            case RecognitionResult(transcript=transcript, is_final=True, command=command):
                self._moved = now
                # A final result comes once more when its command became known late.
                self._due |= command is UNSET or transcript != self._heard
                self._heard = transcript
            case RecognitionResult():
                self._moved = now
                self._due = True
            case _:
                pass

    @property
    def deadline(self) -> float | None:
        """When it is over, if nothing more comes; None while speech is being sent."""
        if self._ended is None:
            return None
        if self._due:
            wait_s = self.SILENCE_S + self._behind_s
        else:
            wait_s = self.TAIL_S if self._moved >= self._ended else self.SETTLE_S
        return max(self._ended, self._moved, self._playing_until) + wait_s

    def complaint(self, name: str) -> str | None:
        """Return what was missing, as a sentence."""
        return None if self._answered else _complaint(name, heard=bool(self._heard))


class Exchange:
    """Know when an answer is over in a session of antiphon.v1, which says it.

    An answer is over `TAIL_S` after the last response was, when none is due. One is due at first, whenever
    the user speaks and when a tool was called; then `SILENCE_S` is waited for it, and `behind_s` more.
    """

    SILENCE_S = Turn.SILENCE_S
    TAIL_S = 0.3
    SETTLE_S = Turn.SETTLE_S
    """As TAIL_S, where nothing came since the end of speech: its last words may be on their way."""

    def __init__(self, behind_s: float = 0.0) -> None:
        self._behind_s = behind_s
        self._due = True
        self._heard = False
        self._answered = False
        self._open = False
        self._away = 0
        self._ended: float | None = None
        self._moved = 0.0

    def end(self, now: float) -> None:
        """Note that all was sent."""
        self._ended = now

    def lost(self) -> None:
        """Note that the connection is lost, and is to be resumed: nothing can come until it is."""
        self._away += 1

    def receive(self, message: ServerMessage, now: float) -> None:
        """Note what came."""
        match message:
            case Resumed():
                self._away = max(0, self._away - 1)
            case TranscriptUpdate(role="user", text=text):
                self._due = True
                self._heard |= bool(text)
            case SpeechStarted() | ToolCall():
                self._due = True
            case ResponseStarted():
                self._due = False
                self._answered = self._open = True
            case ResponseDone():
                self._open = False
            case AudioResponse():
                pass
            case _:
                return
        self._moved = now

    @property
    def deadline(self) -> float | None:
        """When it is over, if nothing more comes; None while speech is being sent, or nothing can come."""
        if self._ended is None or self._away:
            return None
        since = max(self._ended, self._moved)
        if self._due or self._open:
            return since + self.SILENCE_S + self._behind_s
        tail_s = self.TAIL_S if self._moved >= self._ended else self.SETTLE_S
        return max(since + tail_s, self._ended + self._behind_s)

    def complaint(self, name: str) -> str | None:
        """Return what was missing, as a sentence."""
        return None if self._answered else _complaint(name, heard=self._heard)


def _complaint(name: str, *, heard: bool) -> str:
    return f"No answer came to {name}." if heard else f"Nothing was recognised in {name}."
