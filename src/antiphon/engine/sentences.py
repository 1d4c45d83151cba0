"""A model's text, as it comes, to sentences that can be spoken: no markup, no emojis, no thinking aloud."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

MAX_ANSWER_CHARS: Final = 1_000
"""A minute of speech; nobody listens to more at a time."""
MAX_SENTENCE_CHARS: Final = 280
"""What has no end by then is cut, after a clause or a word if there is one."""

_CLOSERS: Final = {"<think>": "</think>", "<thinking>": "</thinking>", "```": "```"}
"""What is not to be spoken: what opens it, and what closes it."""
_MARKS: Final = (*_CLOSERS, "</think>", "</thinking>")
_MARK: Final = re.compile("|".join(map(re.escape, _MARKS)))

_END: Final = re.compile(r"\n|[.!?…]+[\"'”’)\]*_`]*(?=\s)")
_NO_END: Final = re.compile(
    r"(?:^[\s>#*+•(-]*\d{1,3}|(?:^|[\s(])(?:[^\W\d_]|Mr|Mrs|Ms|Dr|St|Prof|vs|etc|approx|e\.g|i\.e))$"
)
"""Text before a full stop that ends no sentence: a list's number, an initial, an abbreviation."""
_CLAUSE_END: Final = re.compile(r"[,;:]\s")
_WORD_END: Final = re.compile(r"\s")

_BULLETS: Final = re.compile(r"^(?:\s*(?:[-*+•–>]|#{1,6}|\d{1,3}[.)])(?=\s))+")
_LINK: Final = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|\]\([^)]*\)")
_URL: Final = re.compile(r"https?://(?:www\.)?([^\s/?#)\]]+)[^\s)\]]*")
_TAG: Final = re.compile(r"</?[A-Za-z][^<>]{0,80}>")
_TIMES: Final = re.compile(r"(?<=\d)\s*[*×]\s*(?=\d)")
_MARKUP: Final = re.compile(r"[*`~\[\]]")
_GAPS: Final = re.compile(r"[\s|_]+")
_BEFORE_STOP: Final = re.compile(r" (?=[.,!?;:](?:\s|$))")
_SPOKEN_SYMBOLS: Final = frozenset("°©®™")


class Speakable:
    """Reads one answer; `full` once as much was taken of it as may be spoken."""

    def __init__(self) -> None:
        self.full = False
        self._left = MAX_ANSWER_CHARS
        self._raw = ""
        self._hidden_until = ""
        self._text = ""

    def feed(self, text: str) -> list[str]:
        """Take a piece of the answer; return the sentences that are complete with it."""
        self._raw += text
        found: list[str] = []
        while mark := self._next_mark():
            before, self._raw = self._raw[: mark.start()], self._raw[mark.end() :]
            if self._hidden_until:
                self._hidden_until = ""
                continue
            self._text += before
            found += self._whole()
            self._hidden_until = _CLOSERS.get(mark[0], "")
            if not self._hidden_until:
                # Some models are started within their thinking, so that only its end is to be seen.
                self._text = ""
        held = _held(self._raw)
        if not self._hidden_until:
            self._text += self._raw[: len(self._raw) - held]
        self._raw = self._raw[len(self._raw) - held :]
        return found + self._whole()

    def end(self) -> list[str]:
        """Return what is left."""
        if not self._hidden_until:
            self._text += self._raw
        self._text += "\n"
        self._raw = ""
        return self._whole()

    def _next_mark(self) -> re.Match[str] | None:
        closer = self._hidden_until
        return re.search(re.escape(closer), self._raw) if closer else _MARK.search(self._raw)

    def _whole(self) -> list[str]:
        """Take the sentences that are complete off the text."""
        found = []
        while (end := _end(self._text)) and not self.full:
            sentence = speakable(self._text[:end])
            self._text = self._text[end:]
            if len(sentence) > self._left:
                self.full = True
            elif sentence:
                self._left -= len(sentence)
                found.append(sentence)
        if self.full:
            self._text = ""
        return found


def speakable(sentence: str) -> str:
    """Return a sentence without what is for the eye; "" if there is nothing to be said."""
    text = _BULLETS.sub("", sentence)
    text = _URL.sub(r"\1", _LINK.sub(r"\1", text))
    text = _TIMES.sub(" times ", _TAG.sub(" ", text))
    text = _MARKUP.sub("", text)
    text = "".join(one for one in text if _is_spoken(one))
    text = _BEFORE_STOP.sub("", _GAPS.sub(" ", text)).strip()
    if not any(one.isalnum() for one in text):
        return ""
    return text if text.rstrip("\"'”’)")[-1:] in (".", "!", "?", "…", ":", ";", ",") else f"{text}."


def _is_spoken(letter: str) -> bool:
    category = unicodedata.category(letter)
    # Marks are for letters; the variation selectors among them are for emojis.
    return (
        letter.isspace()
        or letter in _SPOKEN_SYMBOLS
        or not (category[0] == "C" or category in ("So", "Sk") or "\ufe00" <= letter <= "\ufe0f")
    )


def _end(text: str) -> int:
    """Return where the first sentence ends; 0 where it is not complete."""
    window = text[: MAX_SENTENCE_CHARS + 1]
    for found in _END.finditer(window):
        if found[0] != "." or not _NO_END.search(window[: found.start()]):
            return found.end()
    if len(text) <= MAX_SENTENCE_CHARS:
        return 0
    for kind in (_CLAUSE_END, _WORD_END):
        if cuts := list(kind.finditer(window, 1)):
            return cuts[-1].end()
    return MAX_SENTENCE_CHARS


def _held(raw: str) -> int:
    """Return how many letters at the end may be the beginning of a mark."""
    longest = max(map(len, _MARKS)) - 1
    for size in range(min(longest, len(raw)), 0, -1):
        if any(mark.startswith(raw[-size:]) for mark in _MARKS):
            return size
    return 0
