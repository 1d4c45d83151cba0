"""What a session uses: audio both ways, and the model's tokens.

A model counts the tokens of one connection, from its beginning; here they are added up by difference.
"""

from __future__ import annotations

from typing import Any, ClassVar

from antiphon import live
from antiphon.extension import Usage, UsageUpdate
from antiphon.messages import milliseconds


class Meter:
    """Adds up what is used; `take()` tells what is new since it was last asked."""

    KEPT: ClassVar[dict[str, Any]] = {
        "audio_in_ms": float,
        "audio_out_ms": float,
        "_tokens": tuple[int, int, int],
        "_told": Usage,
    }

    def __init__(self) -> None:
        self.audio_in_ms = 0.0
        self.audio_out_ms = 0.0
        self._tokens = (0, 0, 0)
        self._counted = (0, 0, 0)
        self._told = self._usage()

    def begin_connection(self) -> None:
        """Note that the model counts from nothing again."""
        self._counted = (0, 0, 0)

    def count(self, event: live.Metered) -> None:
        """Take the model's counts. One that is lower than before adds nothing: no count is given back."""
        counts = (event.prompt_tokens, event.response_tokens, event.total_tokens)
        self._tokens = tuple(  # type: ignore[assignment]
            sum_ + max(0, new - old)
            for sum_, new, old in zip(self._tokens, counts, self._counted, strict=True)
        )
        self._counted = tuple(  # type: ignore[assignment]
            max(new, old) for new, old in zip(counts, self._counted, strict=True)
        )

    def take(self, now: float) -> UsageUpdate | None:
        """Return what was used, if anything was since the last time."""
        usage, told = self._usage(), self._told
        if usage == told:
            return None
        self._told = usage
        turn = Usage(
            audio_in_ms=round(usage.audio_in_ms - told.audio_in_ms, 3),
            audio_out_ms=round(usage.audio_out_ms - told.audio_out_ms, 3),
            prompt_tokens=usage.prompt_tokens - told.prompt_tokens,
            response_tokens=usage.response_tokens - told.response_tokens,
            total_tokens=usage.total_tokens - told.total_tokens,
        )
        return UsageUpdate(timestamp=milliseconds(now), turn=turn, session=usage)

    def _usage(self) -> Usage:
        prompt, response, total = self._tokens
        return Usage(
            audio_in_ms=round(self.audio_in_ms, 3),
            audio_out_ms=round(self.audio_out_ms, 3),
            prompt_tokens=prompt,
            response_tokens=response,
            total_tokens=total,
        )
