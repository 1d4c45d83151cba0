"""Configured commands in what a user says: whole utterances against declared phrases.

A function's phrases stand in its description, readable for any model:

    Go back some steps. Said as: "go back {count} steps", "back {count}".

An utterance is a command only as a whole, politeness apart. A command not recognised is said again; one
recognised in error is carried out, so whatever is in doubt does not match.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple, assert_never

from msgspec import Struct

from antiphon.engine import numbers

MAX_WORDS: Final = 24
"""A longer utterance is no command."""
MAX_PHRASES: Final = 500
"""More phrases than this, all functions together, are refused."""

Value = str | int | float | bool


class Parameter(Struct, frozen=True):
    """One parameter of a function; of another kind ("other"), nothing that is said gives a value."""

    kind: Literal["string", "number", "integer", "boolean", "other"] = "string"
    required: bool = False
    enum: tuple[str, ...] = ()


class Function(Struct, frozen=True):
    """A function the model may call; `phrases` may hold `{parameter}` placeholders."""

    name: str
    phrases: tuple[str, ...] = ()
    parameters: dict[str, Parameter] = {}


class Call(Struct, frozen=True):
    """A recognised command. `said` is how it is confirmed in words."""

    name: str
    args: dict[str, Value]
    said: str


class Word(NamedTuple):
    """A word in normal form, and where it stands in the text."""

    key: str
    start: int
    end: int


_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_SAID_AS: Final = re.compile(rf"\bSaid as:\s*(?P<phrases>{_QUOTED}(?:\s*,\s*{_QUOTED})*)")
_WORD: Final = re.compile(r"(?<!\w)-?\d+(?:,\d{3})*(?:\.\d+)?|[^\W\d_]+(?:['’][^\W\d_]+)*|\d+|%")
SLOT: Final = re.compile(r"\{(\w+)\}")
_ARTICLES: Final = frozenset(("a", "an", "the"))
_TRUTHS: Final = {
    **dict.fromkeys(("on", "yes", "true"), True),
    **dict.fromkeys(("off", "no", "false"), False),
}


def _fillers(*phrases: str) -> tuple[tuple[str, ...], ...]:
    return tuple(sorted((tuple(phrase.split()) for phrase in phrases), key=len, reverse=True))


_BEFORE: Final = _fillers(
    *("please", "hey", "hi", "hello", "ok", "okay", "alright", "all right", "um", "uh", "er", "well", "so"),
    *("now", "then", "and", "just", "yes", "yeah", "lets", "let us", "go ahead and", "antiphon"),
    *("can you", "could you", "would you", "will you", "can we", "could we", "can i", "i want to"),
    *("i want you to", "i would like to", "i would like you to", "id like to", "id like you to"),
)
_AFTER: Final = _fillers(
    *("please", "now", "right now", "then", "thanks", "thank you", "for me", "um", "uh", "ok", "okay"),
    *("can you", "could you", "would you", "will you", "antiphon"),
)


def phrases_in(description: str) -> tuple[str, ...]:
    """Return the phrases that a function's description gives, each quoted as in JSON."""
    found = _SAID_AS.search(description)
    if not found:
        return ()
    quoted = re.findall(_QUOTED, found["phrases"])
    return tuple(phrase for one in quoted if (phrase := re.sub(r"\\(.)", r"\1", one[1:-1])).strip())


def words(text: str) -> list[Word]:
    """Return the words of a text (NFKC) in normal form: lower case, no punctuation, no apostrophes."""
    return [
        Word("percent" if key == "%" else key, found.start(), found.end())
        for found in _WORD.finditer(text)
        if (key := re.sub(r"['’,]", "", found[0]).casefold())
    ]


def polite_core(said: Sequence[Word]) -> Sequence[Word]:
    """Return the words without the politeness before and after them; all of them if nothing else is left."""
    keys = tuple(word.key for word in said)
    start, end = 0, len(keys)
    while filler := next((f for f in _BEFORE if keys[start:end][: len(f)] == f), None):
        start += len(filler)
    while filler := next((f for f in _AFTER if keys[start:end][-len(f) :] == f), None):
        end -= len(filler)
    return said[start:end] or said


class _Literal(NamedTuple):
    function: Function
    phrase: str
    key: tuple[str, ...]


class _Slot(NamedTuple):
    name: str
    parameter: Parameter
    choices: dict[tuple[str, ...], str]


class _Pattern(NamedTuple):
    function: Function
    parts: tuple[str | _Slot, ...]
    literals: frozenset[str]


class Grammar:
    """The declared functions' phrases, ready to be matched; a function's name counts as one too."""

    def __init__(self, functions: Iterable[Function] = ()) -> None:
        """Raises:
        ValueError: there are more than `MAX_PHRASES` phrases.
        """
        self.functions = tuple(functions)
        self._literals: dict[str, _Literal] = {}
        self._patterns: list[_Pattern] = []
        for function in self.functions:
            for phrase in (*function.phrases, spoken_name(function)):
                self._add(function, unicodedata.normalize("NFKC", phrase))
        if len(self._literals) + len(self._patterns) > MAX_PHRASES:
            raise ValueError(f"at most {MAX_PHRASES} phrases can be declared")

    def match(self, text: str) -> Call | None:
        """Return the command that an utterance is, or None.

        Literal phrases go before phrases with placeholders, and those before near matches; a near
        match that fits two functions fits none.
        """
        text = unicodedata.normalize("NFKC", text[: 40 * MAX_WORDS])
        said = words(text)
        if not 0 < len(said) <= MAX_WORDS:
            return None
        forms = (said, polite_core(said))
        return self._literally(forms) or self._with_slots(forms, text) or self._nearly(forms)

    def _add(self, function: Function, phrase: str) -> None:
        parts: list[str | _Slot] = []
        for index, piece in enumerate(SLOT.split(phrase)):
            if index % 2 == 0:
                parts += [word.key for word in words(piece)]
            elif piece in function.parameters:
                parameter = function.parameters[piece]
                choices = {_plain([word.key for word in words(choice)]): choice for choice in parameter.enum}
                parts.append(_Slot(piece, parameter, choices))
            else:
                return
        slots = [part.name for part in parts if isinstance(part, _Slot)]
        literals = [part for part in parts if isinstance(part, str)]
        needed = {name for name, parameter in function.parameters.items() if parameter.required}
        if not 0 < len(parts) <= MAX_WORDS or len(slots) > len(set(slots)) or needed - set(slots):
            return
        if slots:
            plain = tuple(part for part in parts if isinstance(part, _Slot) or part not in _ARTICLES)
            needed_words = frozenset(_singular(word) for word in literals if word not in _ARTICLES)
            self._patterns.append(_Pattern(function, plain, needed_words))
        else:
            for form in (words(phrase), polite_core(words(phrase))):
                key = _key([word.key for word in form])
                self._literals.setdefault("".join(key), _Literal(function, phrase.strip(" .!?"), key))

    def _literally(self, forms: Sequence[Sequence[Word]]) -> Call | None:
        for form in forms:
            found = self._literals.get("".join(_key([word.key for word in form])))
            if found:
                return Call(found.function.name, {}, found.phrase)
        return None

    def _with_slots(self, forms: Sequence[Sequence[Word]], text: str) -> Call | None:
        spoken = {_singular(word.key) for word in forms[0]}
        for form in reversed(forms):
            for function, parts, literals in self._patterns:
                args = _bind(parts, form, text) if literals <= spoken else None
                if args is not None:
                    return Call(function.name, args, text[form[0].start : form[-1].end])
        return None

    def _nearly(self, forms: Sequence[Sequence[Word]]) -> Call | None:
        found: dict[str, str] = {}
        for form in forms:
            key = _key([word.key for word in form])
            for function, phrase, phrase_key in self._literals.values():
                if _near(phrase_key, key):
                    found.setdefault(function.name, phrase)
        if len(found) != 1:
            return None
        ((name, phrase),) = found.items()
        return Call(name, {}, phrase)


def spoken_name(function: Function) -> str:
    """Return a function's name as words: `go_back` is "go back"."""
    return re.sub(r"[_\-.:]+", " ", function.name).strip()


def _plain(keys: Sequence[str]) -> tuple[str, ...]:
    """Return words without articles, if there are any others."""
    return tuple(key for key in keys if key not in _ARTICLES) or tuple(keys)


def _key(keys: Sequence[str]) -> tuple[str, ...]:
    """Return words to compare literally: no articles, and digits for number words."""
    return tuple(
        key if (value := numbers.parse([key])) is None or key in numbers.HOMOPHONES else str(value)
        for key in _plain(keys)
    )


def _bind(parts: Sequence[str | _Slot], said: Sequence[Word], text: str) -> dict[str, Value] | None:
    """Return the placeholders' values if the words are the pattern; in polynomial time, whatever it is."""
    reached: dict[int, dict[str, Value]] = {0: {}}
    for part in parts:
        ends: dict[int, dict[str, Value]] = {}
        for start, values in reached.items():
            if isinstance(part, str):
                skip = 1 if start < len(said) - 1 and said[start].key in _ARTICLES else 0
                if start < len(said) and _singular(said[start + skip].key) == _singular(part):
                    ends.setdefault(start + skip + 1, values)
                continue
            for end in range(start + 1, len(said) + 1):
                if end not in ends and (value := _value(part, said[start:end], text)) is not None:
                    ends[end] = {**values, part.name: value}
        reached = ends
    return reached.get(len(said))


def _value(slot: _Slot, said: Sequence[Word], text: str) -> Value | None:
    keys = [word.key for word in said]
    parameter = slot.parameter
    if parameter.enum:
        return slot.choices.get(_plain(keys))
    match parameter.kind:
        case "boolean":
            return _TRUTHS.get(" ".join(keys))
        case "string":
            return text[said[0].start : said[-1].end]
        case "other":
            return None
        case "integer" | "number":
            value = numbers.parse(keys)
            if value is not None and parameter.kind == "integer":
                return int(value) if value == int(value) else None
            return value
        case _:
            assert_never(parameter.kind)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


def _near(phrase: tuple[str, ...], said: tuple[str, ...]) -> bool:
    """Whether words differ from a phrase by one slip, or by two where there are six words and more."""
    if len(phrase) != len(said):
        return len(phrase) == 1 and _slip(phrase[0], "".join(said))
    differing = [(a, b) for a, b in zip(phrase, said, strict=True) if a != b]
    return len(differing) <= (2 if len(phrase) >= 6 else 1) and all(_slip(a, b) for a, b in differing)


def _slip(a: str, b: str) -> bool:
    """Whether two words of about six letters are one edit or one swap apart, after the same first letter."""
    if min(len(a), len(b)) < 5 or max(len(a), len(b)) < 6 or a[0] != b[0] or not (a + b).isalpha():
        return False
    if len(a) > len(b):
        a, b = b, a
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(a) < len(b):
        return a[start:] == b[start + 1 :]
    swapped = a[start : start + 2] == b[start : start + 2][::-1] and a[start + 2 :] == b[start + 2 :]
    return swapped or a[start + 1 :] == b[start + 1 :]
