"""The user's side of a conversation: when he speaks, and what he has said.

What the model hears goes in; messages to the client come out. A base client is sent only the
recognition_result among them, so updates that are not final are not even made for it. Times are seconds on
the caller's clock.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, Final

from msgspec import UNSET, UnsetType

from antiphon import live
from antiphon.extension import ServerMessage, SpeechStarted, SpeechStopped, TranscriptUpdate
from antiphon.messages import RecognitionResult, milliseconds
from antiphon.session.timing import Arrivals, UserTurn
from antiphon.session.utterance import Utterance

_MAX_STREAMS: Final = 64
"""Audio streams of the past whose speech may still be told of."""


class Timeline:
    """Places in the audio streams of a session, in milliseconds, told from those of model connections."""

    KEPT: ClassVar[dict[str, Any]] = {"position_ms": float, "_streams": list[float], "_connection": float}

    def __init__(self) -> None:
        self.position_ms = 0.0
        """Audio received in this session."""
        self._streams: deque[float] = deque([0.0], maxlen=_MAX_STREAMS)
        self._connection = 0.0
        self._arrivals = Arrivals()

    def begin_stream(self) -> None:
        self._streams.append(self.position_ms)

    def begin_connection(self, waiting_ms: float) -> None:
        """Note that audio goes to a new connection from now on, `waiting_ms` of it being here already."""
        self._connection = self.position_ms - waiting_ms

    def skip(self, skipped_ms: float) -> None:
        """Note that so much of the audio does not go to the connection."""
        self._connection += skipped_ms

    def place_ms(self, at_ms: float | None) -> float:
        """Return the place in its stream of a place in the connection; of now where that is None."""
        place = self.position_ms if at_ms is None else self._place(at_ms)
        begin = next((begin for begin in reversed(self._streams) if begin <= place), place)
        return round(max(0.0, place - begin), 1)

    def came(self, begin_ms: float, now: float) -> None:
        """Note that the audio from a place on has come just now, for `came_at()`."""
        if self.position_ms > begin_ms:
            self._arrivals.note(begin_ms, self.position_ms, now)

    def came_at(self, at_ms: float) -> float | None:
        """Return when the audio up to a place in the connection had come; None where that is not known."""
        return self._arrivals.at(self._place(at_ms))

    def _place(self, at_ms: float) -> float:
        return min(self._connection + at_ms, self.position_ms)


class UserSide:
    """What the user says, as the client is told of it."""

    KEPT: ClassVar[dict[str, Any]] = {
        "_utterance": Utterance,
        "_count": int,
        "_revision": int,
        "_speaks": bool,
        "_engine_tells": bool,
        "_button_tells": bool,
    }

    def __init__(
        self, timeline: Timeline, turn: UserTurn | None = None, *, tells_updates: bool = True
    ) -> None:
        self._timeline = timeline
        self._turn = turn or UserTurn()
        self._tells_updates = tells_updates
        self._utterance = Utterance()
        self._count = 0
        self._revision = 0
        self._speaks = False
        self._engine_tells = False
        self._button_tells = False

    @property
    def open(self) -> bool:
        """Whether an utterance is not final."""
        return self._utterance.open

    @property
    def final_at(self) -> float:
        """When `expire()` has something to do; infinity when nothing is due."""
        return self._utterance.final_at

    # ---- when he speaks

    def press(self, *, pressed: bool, now: float) -> list[ServerMessage]:
        """Note that the talk button was pressed or released; from the first time on it alone tells."""
        self._button_tells = True
        messages = self._speak(pressed, None, now)
        if not pressed:
            self._turn.released(now)
        return messages

    def voice(self, event: live.VoiceActivity, now: float) -> list[ServerMessage]:
        """Note voice activity that the engine tells of."""
        self._engine_tells = True
        return [] if self._button_tells else self._speak(event.started, event.at_ms, now)

    def _speak(self, started: bool, at_ms: float | None, now: float) -> list[ServerMessage]:
        if started is self._speaks:
            return []
        self._speaks = started
        if started:
            self._turn.begin()
        else:
            self._turn.spoken(None if at_ms is None else self._timeline.came_at(at_ms))
        kind = SpeechStarted if started else SpeechStopped
        return [kind(timestamp=milliseconds(now), stream_ms=self._timeline.place_ms(at_ms))]

    def _infer(self, now: float, *, started: bool) -> list[ServerMessage]:
        """Tell of speech by its transcription, where nobody else tells."""
        return [] if self._engine_tells or self._button_tells else self._speak(started, None, now)

    # ---- what he says

    def begin_connection(self) -> None:
        """Note that another connection to the model hears what follows."""
        self._utterance.begin_connection()

    def hear(self, event: live.Heard, now: float) -> list[ServerMessage]:
        """Take a piece of the transcription."""
        self._utterance.hear(event, now)
        text = self._utterance.transcript
        messages = self._infer(now, started=True) if text and not self._speaks else []
        self._turn.transcribed(now)
        if event.final or self._utterance.long:
            return messages + self.finish(now)
        return messages + self._results(text, now, final=False) if text else messages

    def typed(self, text: str, now: float) -> None:
        """Take a typed turn; a command that is recognised next refers to it."""
        self._turn.typed(now)
        self._utterance.typed(text)

    def answered(self) -> None:
        """Note that the model's turn has ended."""
        self._turn.finish(guessed=not (self._engine_tells or self._button_tells))

    def finish(self, now: float, command: str | UnsetType = UNSET) -> list[ServerMessage]:
        """Say the final result, if it is still to say, or if it is to be said again with a command."""
        text = self._utterance.transcript
        if self._utterance.finish() or self._revision:  # an engine may take back all that it has told
            return self._infer(now, started=False) + self._results(text, now, final=True, command=command)
        if command is UNSET:
            return []
        return [self._result(text, milliseconds(now), final=True, command=command)]

    def expire(self, now: float) -> list[ServerMessage]:
        """Do what has fallen due."""
        return self.finish(now) if now >= self._utterance.final_at else []

    def _results(
        self, text: str, now: float, *, final: bool, command: str | UnsetType = UNSET
    ) -> list[ServerMessage]:
        timestamp = milliseconds(now)
        result = self._result(text, timestamp, final=final, command=command)
        if not self._revision:
            self._count += 1
        self._revision += 1
        if not (final or self._tells_updates):
            return [result]
        update = TranscriptUpdate(
            timestamp=timestamp,
            role="user",
            utterance_id=f"u{self._count}",
            revision=self._revision,
            text=text,
            is_final=final,
        )
        if final:
            self._revision = 0
        return [result, update]

    def _result(
        self, text: str, timestamp: int, *, final: bool, command: str | UnsetType
    ) -> RecognitionResult:
        return RecognitionResult(
            timestamp=timestamp,
            transcript=text,
            confidence=self._utterance.confidence,
            command=command,
            is_final=final,
        )
