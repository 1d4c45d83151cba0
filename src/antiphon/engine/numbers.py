"""English numbers as they are said: words to values, and values to words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_ONES: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES: Final = {
    **{word: value for value, word in enumerate(_ONES)},
    **{word: 10 * value for value, word in enumerate(_TENS, start=2)},
}
_SCALES: Final = {"thousand": 1_000, "million": 1_000_000}
HOMOPHONES: Final = {"won": 1, "to": 2, "too": 2, "for": 4, "ate": 8}
_ORDINALS: Final = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
    "twenty": "twentieth",
    "thirty": "thirtieth",
}
_DIGITS: Final = re.compile(r"-?\d{1,15}(\.\d{1,15})?")


def parse(words: Sequence[str]) -> int | float | None:
    """Return the number that lower-case words or digits say; None where they say none.

    A lone word that sounds like a number ("to", "for") counts as it, since a recogniser writes either.
    """
    if not words:
        return None
    if words[0] in ("minus", "negative"):
        value = parse(words[1:])
        return None if value is None else -value
    if len(words) == 1 and (word := words[0]) not in _VALUES:
        if _DIGITS.fullmatch(word):
            return float(word) if "." in word else int(word)
        if word in HOMOPHONES:
            return HOMOPHONES[word]
    if "point" in words:
        point = list(words).index("point")
        return _decimal(words[:point], words[point + 1 :])
    return _cardinal(words)


def _decimal(whole: Sequence[str], decimals: Sequence[str]) -> float | None:
    value = parse(whole) if whole else 0
    digits = [str(_VALUES[word]) if word in _VALUES else word for word in decimals]
    if not isinstance(value, int) or not digits or not all(re.fullmatch(r"\d", digit) for digit in digits):
        return None
    return float(f"{value}.{''.join(digits)}")


def _cardinal(words: Sequence[str]) -> int | None:
    total, group = 0, 0
    room = 1_000  # what may be added to the group must be less
    scale = 1_000_000_000  # and the next scale less than this
    started = False
    for index, word in enumerate(words):
        if word == "and" and started and room in (100, 1_000) and index < len(words) - 1:
            continue
        if word == "a" and index == 0 and words[1:] and words[1] in ("hundred", *_SCALES):
            group, room = 1, 0
        elif (value := _VALUES.get(word)) is not None:
            if value >= room or (value == 0 and len(words) > 1):
                return None
            group += value
            room = 10 if value >= 20 else 0
        elif word == "hundred" and 1 <= group <= 9:
            group, room = group * 100, 100
        elif word in _SCALES and group and _SCALES[word] < scale:
            scale = _SCALES[word]
            total += group * scale
            group, room = 0, 1_000
        else:
            return None
        started = True
    return total + group


def cardinal(value: int) -> str:
    """Return the words for 0 to 9999."""
    if value < 20:
        return _ONES[value]
    if value < 100:
        tens, ones = divmod(value, 10)
        return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")
    size, name = (100, "hundred") if value < 1_000 else (1_000, "thousand")
    many, rest = divmod(value, size)
    return f"{cardinal(many)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(value: int) -> str:
    """Return the word for the 1st to the 99th."""
    head, hyphen, last = cardinal(value).rpartition("-")
    if last.endswith("y") and last not in _ORDINALS:
        return head + hyphen + last[:-1] + "ieth"
    return head + hyphen + _ORDINALS.get(last, last + "th")


def year(value: int) -> str:
    """Return how a year from 1000 to 9999 is read: "twenty twenty-six", "two thousand nine"."""
    century, rest = divmod(value, 100)
    if century % 10 == 0 and rest < 10:
        return cardinal(value)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"
