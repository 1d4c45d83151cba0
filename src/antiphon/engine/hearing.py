"""What is told of an utterance while it grows: deltas for any client, the whole for the gateway."""

from __future__ import annotations

from typing import NamedTuple

from antiphon.transcription import Hypothesis


class Told(NamedTuple):
    """A piece of transcription: what to append, and beside it the whole utterance."""

    delta: str
    hypothesis: Hypothesis


class Hearing:
    """One utterance after the other. With activity signals of the client's, one may come in pieces."""

    def __init__(self) -> None:
        self._agreement = Agreement()
        self._pieces: list[tuple[str, float]] = []
        self._told = ""

    def partial(self, text: str, confidence: float) -> Told | None:
        """Take a hypothesis of the present piece; None where there is nothing new to tell."""
        whole, hypothesis = _joined([*self._pieces, (text, confidence)])
        if whole == self._told:
            return None
        self._told = whole
        return Told(self._agreement.partial(whole), hypothesis)

    def piece(self, text: str, confidence: float) -> Told | None:
        """Take a piece that is complete; more may follow."""
        self._pieces.append((text, confidence))
        return self.partial("", 0.0)

    def final(self, text: str = "", confidence: float = 0.0) -> Told | None:
        """Take the last piece, and begin anew; None where there was no word, and none was told of."""
        whole, hypothesis = _joined([*self._pieces, (text, confidence)])
        told = self._told
        self._pieces.clear()
        self._told = ""
        delta = self._agreement.final(whole)
        return Told(delta, hypothesis._replace(final=True)) if whole or told else None


class Agreement:
    """Local agreement: emits a word once two hypotheses in a row have it, and the rest with the last one.

    What was emitted stands: where a later hypothesis contradicts it, only the words beyond as many follow.
    """

    def __init__(self) -> None:
        self._previous: list[str] = []
        self._emitted = 0

    def partial(self, text: str) -> str:
        """Return what can be appended, given the whole utterance so far."""
        words = text.split()
        agreed = 0
        for word, before in zip(words, self._previous, strict=False):
            if _bare(word) != _bare(before):
                break
            agreed += 1
        self._previous = words
        return self._emit(words, agreed)

    def final(self, text: str) -> str:
        """Return what is still to be appended, given the whole utterance, and begin anew."""
        words = text.split()
        delta = self._emit(words, len(words))
        self._previous, self._emitted = [], 0
        return delta

    def _emit(self, words: list[str], end: int) -> str:
        new = words[self._emitted : end]
        if not new:
            return ""
        lead = " " if self._emitted else ""
        self._emitted = end
        return lead + " ".join(new)


def _joined(pieces: list[tuple[str, float]]) -> tuple[str, Hypothesis]:
    """Return the joined text and what is told of it; each piece counts for the confidence by its length."""
    said = [(text, confidence) for text, confidence in pieces if text]
    length = sum(len(text) for text, _ in said)
    confidence = sum(confidence * len(text) for text, confidence in said) / length if length else 0.0
    whole = " ".join(text for text, _ in said)
    return whole, Hypothesis(whole, confidence, final=False)


def _bare(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalnum())
