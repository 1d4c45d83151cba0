"""The model's side of a conversation: its responses begin, are played, and end or are cut short.

Model output, playback marks and time go in; messages to the client come out. A base client is sent only the
audio_response among them. Times are seconds on the caller's clock.

    made of the model's output -> started with its first piece -> ended by the model, all pieces out
      -> completed once it has been played
    anywhere on the way: interrupted, or failed
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any, ClassVar, Final

from msgspec import UNSET, UnsetType

from antiphon.errors import ErrorCode, GatewayError
from antiphon.extension import (
    AudioFlush,
    FlushReason,
    ResponseDone,
    ResponseStarted,
    ResponseStatus,
    ResponseTiming,
    ServerMessage,
    TranscriptUpdate,
)
from antiphon.messages import AudioResponse, milliseconds
from antiphon.session.answer import Answer
from antiphon.session.piece import Piece
from antiphon.session.response import Response
from antiphon.session.timing import UserTurn

MARK_WAIT_S: Final = 0.5
"""How long a client that sends playback marks may take to say what was heard before an interruption."""
MUTE_QUIET_S: Final = 1.0
"""A model that was told to stop and is silent for so long has stopped, whether or not it said so."""

MAX_TRANSCRIPT: Final = 32_768
"""Characters of a response, half an hour of speech: its transcript, sent whole each time, ends there."""

_ID: Final = re.compile(r"r([1-9][0-9]{0,15})")


class ModelSide:
    """What the model says, on its way to the client.

    `can_flush` says whether that client drops what it has queued when it is told to.
    """

    KEPT: ClassVar[dict[str, Any]] = {
        "turn_open": bool,
        "marks": bool,
        "tells_timing": bool,
        "format": str | None,
        "answer": Answer,
        "_count": int,
        "_open": list[Response],
        "_made_number": int | None,
        "_generated": bool,
        "_muted_at": float | None,
        "_superseded": bool,
        "_cut": Response | None,
        "_cut_s": float,
        "_cut_at": float,
    }

    def __init__(self, turn: UserTurn | None = None, *, can_flush: bool) -> None:
        self.turn_open = False
        """Whether the model has begun a turn that it has not ended."""
        self.marks = False
        """Whether this client sends playback marks."""
        self.tells_timing = False
        """Whether this client wants to know when what of a response came."""
        self.format: str | None = None
        """What responses are encoded to from now on; None for PCM."""
        self._turn = turn or UserTurn()
        self._can_flush = can_flush
        self.answer = Answer()
        self._count = 0
        self._open: deque[Response] = deque()
        self._making: Response | None = None
        self._generated = False
        self._muted_at: float | None = None
        self._superseded = False
        self._cut: Response | None = None
        self._cut_s = 0.0
        self._cut_at = float("inf")

    @property
    def _made_number(self) -> int | None:
        """The number of the response that is being made; set after those that are open."""
        return self._making.number if self._making else None

    @_made_number.setter
    def _made_number(self, number: int | None) -> None:
        self._making = next((response for response in self._open if response.number == number), None)

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that have not gone out yet."""
        return self.answer.waiting_s

    @property
    def talking(self) -> bool:
        """Whether a response is not over."""
        return bool(self._open)

    @property
    def deadline(self) -> float:
        """When `expire()` has something to do; infinity when nothing is due."""
        done_at = float("inf")
        if self._open and self._open[0].ended and not self.answer.holds(self._open[0].number):
            done_at = self.answer.played_until
        return min(self.answer.release_at, self._cut_at, done_at)

    def set_lead(self, lead_s: float) -> None:
        """Let pieces go out so far ahead of the ear."""
        self.answer.lead_s = lead_s

    def hold(self, held: bool, now: float) -> list[ServerMessage]:
        """Let nothing go out, or go on: what waits here can still be dropped, what is on its way cannot."""
        self.answer.held = held
        return [] if held else self._release(now)

    # ---- from the model

    def begin_turn(self, now: float) -> list[ServerMessage]:
        """Note output of the model; the first of a turn drops what the user has meanwhile spoken over."""
        if self.turn_open:
            return []
        self.turn_open, self._generated = True, False
        return self._cut_short("superseded", now) if self._superseded else []

    def say(self, text: str, language: str, now: float) -> list[ServerMessage]:
        """Take a piece of what is said, in text."""
        messages = self.begin_turn(now)
        if not self._mutes(now):
            self._make(language, now)
            self.answer.add_text(text)
        return messages

    def speak(self, pcm: bytes, rate_hz: int, language: str, now: float) -> list[ServerMessage]:
        """Take a piece of what is said, in sound."""
        messages = self.begin_turn(now)
        if not self._mutes(now):
            made = self._make(language, now, sound=True)
            if made.sounded_at is None and pcm:
                made.sounded_at = now
            self.answer.add_audio(pcm, rate_hz)
            messages += self._release(now)
        return messages

    def generated(self) -> None:
        """Note that no more of the turn will come; it may still be playing."""
        self._generated = True
        self._muted_at = None
        if self._making and self._making.format:
            # The encoder's last sounds are due when those before have been played, not at the turn's end.
            self.answer.finish()
            self._making.sealed = True

    def ended(self, now: float) -> list[ServerMessage]:
        """Note that the model's turn is over."""
        self.turn_open = False
        self._muted_at = None
        if self._making:
            self.answer.finish()
            self._making.ended = True
            self._making = None
        return self._release(now)

    def cut_off(self, now: float) -> list[ServerMessage]:
        """Note that the model is lost: what it has made of its answer is still played."""
        if self._making and not self._generated:
            self._making.cut_off = True
        return self.ended(now)

    def recover(self, now: float) -> list[ServerMessage]:
        """Go on where another node was. Its encoders are gone, and with them what they had to encode."""
        if any(response.format for response in self._open):
            return self.fail(now)
        return self.cut_off(now)

    def interrupted(self, now: float) -> list[ServerMessage]:
        """Note that the model was interrupted: what is queued of its answer is stale."""
        self.turn_open = False
        self._muted_at = None
        return self._cut_short("interrupted", now)

    # ---- from the user

    def supersede(self) -> None:
        """Note a new turn of the user: what is not heard yet is stale once the model answers that."""
        self._superseded = bool(self._open)

    def stop(self, reason: FlushReason, now: float) -> list[ServerMessage]:
        """Stop talking; what the model still makes of this turn is dropped, too."""
        if not self._open:
            return []
        if self.turn_open and not self._generated:
            self._muted_at = now
        return self._cut_short(reason, now)

    def talks(self, response_id: str) -> bool:
        """Whether a response is not over.

        Raises:
            GatewayError: PROTOCOL_UNKNOWN_RESPONSE.
        """
        number = self._number(response_id)
        return any(response.number == number for response in self._open)

    def mark(self, response_id: str, played_s: float, now: float) -> list[ServerMessage]:
        """Take what the user has really heard of a response.

        Raises:
            GatewayError: PROTOCOL_UNKNOWN_RESPONSE.
        """
        number = self._number(response_id)
        self.marks = True
        if self._cut and self._cut.number == number:
            self._cut_s = min(played_s, self._cut.sent_s)
            return self._settle_cut(now)
        if self._open and self._open[0].number == number and self._open[0].started:
            self.answer.heard_until(now + max(0.0, self._open[0].sent_s - played_s))
            return self._release(now)
        return []

    # ---- from the shell

    def take_unencoded(self) -> list[Piece]:
        """Return the pieces to encode; `encoded()` wants to know of each."""
        return self.answer.take_unencoded()

    def encoded(self, piece: Piece, data: bytes, now: float) -> list[ServerMessage]:
        """Take what an encoder made of a piece, which may have been dropped meanwhile."""
        piece.data = data
        return self._release(now)

    def expire(self, now: float) -> list[ServerMessage]:
        """Do what has fallen due."""
        messages = self._settle_cut(now) if now >= self._cut_at else []
        return messages + self._release(now)

    def fail(self, now: float) -> list[ServerMessage]:
        """End what is open: no more will come."""
        messages = self._settle_cut(now)
        if self._open and self._open[0].started:
            self._open[0].unsent_s = self.answer.until_text_s
            messages += self._done(self._open[0], "failed", self._heard_s(now), now)
        self._open.clear()
        self._making = None
        self.answer.drop()
        return messages

    # ---- within

    def _number(self, response_id: str) -> int:
        found = _ID.fullmatch(response_id)
        if not found or int(found[1]) > self._count:
            raise GatewayError(ErrorCode.PROTOCOL_UNKNOWN_RESPONSE)
        return int(found[1])

    def _mutes(self, now: float) -> bool:
        """Whether output is dropped, as of a turn that the client has stopped."""
        if self._muted_at is None:
            return False
        if now - self._muted_at > MUTE_QUIET_S:
            self._muted_at = None
            return False
        self._muted_at = now
        return True

    def _make(self, language: str, now: float, *, sound: bool = False) -> Response:
        if sound and self._making and self._making.sealed:
            self._making.ended = True
            self._making = None
        if self._making is None:
            self._count += 1
            turn = self._turn
            self._making = Response(
                self._count,
                self.format,
                language,
                turn_ended_at=turn.ended_at,
                transcribed_at=turn.transcribed_at,
                begun_at=now,
            )
            turn.answer()
            self._open.append(self._making)
            self.answer.begin(self._count, self.format)
        return self._making

    def _release(self, now: float) -> list[ServerMessage]:
        """Let go out what may, and complete what has been played."""
        messages: list[ServerMessage] = []
        while piece := self.answer.next_piece(now):
            messages += self._send(piece, now)
        while self._open and self._over(self._open[0], now):
            messages += self._complete(now)
        return messages

    def _send(self, piece: Piece, now: float) -> list[ServerMessage]:
        messages: list[ServerMessage] = []
        while self._open[0].number != piece.number:
            messages += self._complete(now)
        response = self._open[0]
        audio_format = response.format or piece.format
        if not response.started:
            response.started = True
            messages += self._settle_cut(now)
            messages.append(
                ResponseStarted(
                    timestamp=milliseconds(now),
                    response_id=response.id,
                    format=audio_format,
                    language=response.language,
                )
            )
            if self.tells_timing and response.sounded_at is not None:
                messages.append(_timing(response, response.sounded_at, now))
        if text := piece.text[: MAX_TRANSCRIPT - len(response.text)]:
            response.segments.append((response.sent_s, len(response.text)))
            response.text += text
            messages.append(self._update(response, response.text.strip(), now, is_final=False))
        response.sent_s += piece.duration_s
        if piece.data or not piece.last:
            messages.append(
                AudioResponse(
                    timestamp=milliseconds(now),
                    data=piece.data or b"",
                    format=audio_format,
                    duration=piece.duration_ms,
                    text=piece.text,
                    language=response.language,
                )
            )
        return messages

    def _over(self, response: Response, now: float) -> bool:
        if not response.ended or self.answer.holds(response.number):
            return False
        return not response.started or now >= self.answer.played_until

    def _complete(self, now: float) -> list[ServerMessage]:
        response = self._open.popleft()
        status: ResponseStatus = "failed" if response.cut_off else "completed"
        return self._done(response, status, response.sent_s, now) if response.started else []

    def _heard_s(self, now: float) -> float:
        """Return how much of the response that is played has been heard, by the clock."""
        return self._open[0].sent_s - max(0.0, self.answer.played_until - now)

    def _cut_short(self, reason: FlushReason, now: float) -> list[ServerMessage]:
        """Drop everything; what goes out first tells the client to do so, too."""
        cut = self._open[0] if self._open and self._open[0].started else None
        heard_s = self._heard_s(now) if cut else 0.0
        if cut:
            cut.unsent_s = self.answer.until_text_s
        self._open.clear()
        self._making = None
        self._superseded = False
        self.answer.drop()
        if cut is None:
            return []
        if self._can_flush:
            self.answer.heard_until(now)
        self._cut, self._cut_s, self._cut_at = cut, heard_s, now + MARK_WAIT_S
        flush = AudioFlush(timestamp=milliseconds(now), response_id=cut.id, reason=reason)
        done = ResponseDone(timestamp=milliseconds(now), response_id=cut.id, status="interrupted")
        return [flush, done] if self.marks else [flush, done, *self._settle_cut(now)]

    def _settle_cut(self, now: float) -> list[ServerMessage]:
        """Tell the transcript of what was cut short: as the mark says, or else the clock."""
        cut, self._cut, self._cut_at = self._cut, None, float("inf")
        return self._final(cut, cut.heard_text(self._cut_s), now) if cut else []

    def _done(
        self, response: Response, status: ResponseStatus, heard_s: float, now: float
    ) -> list[ServerMessage]:
        done = ResponseDone(timestamp=milliseconds(now), response_id=response.id, status=status)
        return [*self._final(response, response.heard_text(heard_s), now), done]

    def _final(self, response: Response, text: str, now: float) -> list[ServerMessage]:
        return [self._update(response, text, now, is_final=True)] if response.revision else []

    def _update(self, response: Response, text: str, now: float, *, is_final: bool) -> TranscriptUpdate:
        response.revision += 1
        return TranscriptUpdate(
            timestamp=milliseconds(now),
            role="model",
            utterance_id=response.id,
            revision=response.revision,
            text=text,
            is_final=is_final,
        )


def _timing(response: Response, sounded_at: float, now: float) -> ResponseTiming:
    return ResponseTiming(
        timestamp=milliseconds(now),
        response_id=response.id,
        speech_ended_at=_known(response.turn_ended_at),
        transcribed_at=_known(response.transcribed_at),
        model_at=milliseconds(response.begun_at),
        audio_at=milliseconds(sounded_at),
    )


def _known(at: float | None) -> int | UnsetType:
    return UNSET if at is None else milliseconds(at)
