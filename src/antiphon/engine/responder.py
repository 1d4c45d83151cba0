"""What the engine says: small talk that is true, the confirmation of commands, and what it heard.

There is no language model behind it. A sentence is short, made to be listened to, and claims nothing the
engine does not know.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from antiphon.engine.memory import Memory
from antiphon.engine.phrases import Call, Grammar, words
from antiphon.engine.smalltalk import clock_talk, quote, small_talk

ENGLISH_ONLY: Final = "I'm sorry, I understand English only."

_PLAIN_RESULTS: Final = frozenset(("", "ok", "okay", "done", "success", "true", "yes"))


class Answer(Struct, frozen=True):
    """Sentences to be spoken one after the other."""

    sentences: tuple[str, ...]


def first_line(text: str) -> str:
    """Return what is said in a typed turn; what follows on other lines is context."""
    return text.strip().partition("\n")[0]


def respond(line: str, grammar: Grammar, memory: Memory, language: str, at: datetime) -> Answer | Call:
    """Return the answer to an utterance or a typed turn, or the command that it is.

    `memory` is what came before; `language` is a BCP 47 tag or empty; `at` is local time.
    """
    if call := grammar.match(line):
        return call
    apology = _apology(language, memory)
    if talk := small_talk(line, grammar.functions, memory, at):
        return Answer((*apology, *talk))
    return Answer(apology or _heard(line))


def certain(line: str, grammar: Grammar, at: datetime) -> Answer | Call | None:
    """Return what needs no brain where there is one: a command by its phrases, and what the clock tells."""
    if call := grammar.match(line):
        return call
    told = clock_talk(line, at)
    return Answer(told) if told else None


def confirm(call: Call, result: dict[str, Any], memory: Memory, language: str) -> Answer:
    """Return what to say when a function has answered: its own words if it has any."""
    apology = _apology(language, memory)
    if "error" in result:
        return Answer((*apology, "Sorry, that could not be done."))
    for key in ("say", "output", "result"):
        text = result.get(key)
        if isinstance(text, str) and text.strip(" .!").lower() not in _PLAIN_RESULTS:
            return Answer((*apology, quote(text)))
    return Answer((*apology, f"Okay, {quote(call.said[:1].lower() + call.said[1:])}"))


def unanswered() -> Answer:
    """Return what to say when a function has not answered in time."""
    return Answer(("Sorry, that did not work.", "There was no answer."))


def _apology(language: str, memory: Memory) -> tuple[str, ...]:
    """Warn once, in the first answer, that a conversation in another language will not go well."""
    english = not language or language.partition("-")[0].lower() == "en"
    return () if english or memory.last("model") else (ENGLISH_ONLY,)


def _heard(text: str) -> tuple[str, ...]:
    said = words(text)
    if not said:
        return ("I did not understand that.",)
    heard = f"I heard: {quote(text)}"
    if text.endswith("?") or _QUESTION.match(" ".join(word.key for word in said)):
        return (heard, "I don't know the answer.")
    return (heard,)


_QUESTION: Final = re.compile(
    r"(?:who|whos|what|whats|when|where|wheres|why|how|hows|which|whose"
    r"|(?:is|are|was|were|do|does|did|can|could|will|would|should|may|have|has)"
    r" (?:i|you|he|she|it|we|they|there|this|that|the|a|an|my|your))\b"
)
