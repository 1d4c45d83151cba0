"""Word error rate, as speech recognition counts it: substitutions, insertions and deletions a word said."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SPEECH = Path(__file__).parents[1] / "tests" / "speech"
_SPELLED = {"mr": "mister", "mrs": "missus", "dr": "doctor"}


class Sample(NamedTuple):
    """A file of human speech and what is said in it."""

    path: Path
    reference: str


def samples(folder: Path = SPEECH) -> Iterator[Sample]:
    """Read the manifest of a folder of speech."""
    with (folder / "manifest.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            yield Sample(folder / row["file"], row["reference"])


def words(text: str) -> list[str]:
    """Return the words to compare: lower case, no punctuation but apostrophes, hyphens as spaces."""
    plain = re.sub(r"[^\w' ]", "", text.lower().replace("’", "'").replace("-", " "))
    return [_SPELLED.get(word, word) for word in plain.split()]


def errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Return the fewest edits that turn one into the other, and the number of words said."""
    said, heard = words(reference), words(hypothesis)
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1], len(said)


def rate(pairs: list[tuple[str, str]]) -> float:
    """Return the rate over pairs of reference and hypothesis."""
    counts = [errors(*pair) for pair in pairs]
    return sum(wrong for wrong, _ in counts) / sum(total for _, total in counts)
