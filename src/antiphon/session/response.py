"""A response of the model, as the client has it: how much went out, and what was said of it."""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

_LONGEST_WORD: Final = 24


class Response(Struct, eq=False):
    """One response of the model. `sent_s` of it went out, with the `text` of its `segments`."""

    number: int
    format: str | None
    """The MIME type it is encoded to; None for PCM, whose rate each piece says."""
    language: str
    started: bool = False
    ended: bool = False
    cut_off: bool = False
    """Whether the model was lost before it had made all of it."""
    sealed: bool = False
    """Whether its encoder is finished, so that no sound can be added."""
    sent_s: float = 0.0
    unsent_s: float = 0.0
    """How much longer its last text would have been, had it not been cut short."""
    text: str = ""
    segments: list[tuple[float, int]] = field(default_factory=list)
    """Where in the audio, in seconds, which character of the text begins to be said."""
    revision: int = 0
    turn_ended_at: float | None = None
    """When all of the user's turn that it answers had come, in seconds on the caller's clock."""
    transcribed_at: float | None = None
    """When the transcript of that came from the model."""
    begun_at: float = 0.0
    """When the first of it came from the model."""
    sounded_at: float | None = None
    """When its first sound did."""

    @property
    def id(self) -> str:
        return f"r{self.number}"

    def heard_text(self, played_s: float) -> str:
        """Return the text that has been said after so much audio, cut after a whole word.

        Within a piece of text, time goes evenly over its characters.
        """
        ends = [*self.segments[1:], (self.sent_s + self.unsent_s, len(self.text))]
        for (begin_s, begin), (end_s, end) in zip(self.segments, ends, strict=False):
            if played_s < end_s:
                share = (played_s - begin_s) / (end_s - begin_s) if played_s > begin_s else 0.0
                return _whole_words(self.text, begin + int(share * (end - begin)))
        return self.text.strip()


def _whole_words(text: str, place: int) -> str:
    """Return the text up to a place, without the word that is cut there; not every script has spaces."""
    said = text[:place]
    if place < len(text) and not (text[place].isspace() or said[-1:].isspace()):
        word = said.split()[-1] if said else ""
        said = said.removesuffix(word) if len(word) <= _LONGEST_WORD else said
    return said.strip()
