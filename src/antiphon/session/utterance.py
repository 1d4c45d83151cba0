"""What the user is saying, put together from the pieces that the model sends."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from antiphon import live

_MAX_TRANSCRIPT: Final = 32_768
"""Characters of one utterance, half an hour of speech; a longer one is cut in two."""
_UNMARKED_FINAL_AFTER_S: Final = 2.0
"""Silence after which a transcription that no model marks as final is taken to be."""


class Utterance:
    """What the user is saying, or said last.

    A transcription comes as deltas, or as the whole so far where the engine revises it. `final_at` is when
    an utterance that no model marks as final is taken to be; infinity when none waits for that.
    """

    KEPT: ClassVar[dict[str, Any]] = {
        "open": bool,
        "confidence": float,
        "final_at": float,
        "_text": str,
        "_before": str,
    }

    def __init__(self) -> None:
        self.open = False
        self.confidence = 0.0
        self.final_at = float("inf")
        self._text = ""
        self._before = ""
        """What was said of it before the connection to the model was renewed."""

    @property
    def transcript(self) -> str:
        return self._text.strip()

    @property
    def long(self) -> bool:
        """Whether it is too long to be sent whole again and again."""
        return len(self._text) > _MAX_TRANSCRIPT

    def hear(self, event: live.Heard, now: float) -> None:
        if not self.open:
            self.open, self._text, self._before, self.confidence = True, "", "", 0.0
        if event.whole is None:
            self._text += event.text
            self.final_at = now + _UNMARKED_FINAL_AFTER_S
        else:
            # An engine that gives the whole also marks the final: a timer would tell the beginning twice.
            self._text = f"{self._before} {event.whole}" if self._before else event.whole
            self.final_at = float("inf")
        self.confidence = event.confidence or self.confidence

    def begin_connection(self) -> None:
        """Note that another connection hears the rest of it, and knows nothing of its beginning."""
        self._before = self.transcript if self.open else ""

    def typed(self, text: str) -> None:
        """Let a command that is recognised next refer to what was typed."""
        if not self.open:
            self._text, self.confidence = text, 0.0

    def finish(self) -> bool:
        """End the utterance; return whether a final result is still to be said."""
        told, self.open = self.open, False
        self.final_at = float("inf")
        return told and bool(self.transcript)
