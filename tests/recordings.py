"""The recordings of human speech in `speech/`, and how to compare what was heard with what was said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import av

SPEECH = Path(__file__).parent / "speech"


class Recording(NamedTuple):
    """Speech, 16 kHz mono PCM16, and what is said in it."""

    name: str
    pcm: bytes
    reference: str

    @property
    def seconds(self) -> float:
        return len(self.pcm) / 32_000


def recordings(folder: Path = SPEECH) -> list[Recording]:
    """Return every recording of a folder's manifest."""
    _, *lines = (folder / "manifest.tsv").read_text(encoding="utf-8").splitlines()
    rows = (line.split("\t") for line in lines)
    return [Recording(Path(file).stem, samples(folder / file), reference) for file, *_, reference in rows]


def recording(name: str) -> Recording:
    return next(one for one in recordings() if one.name == name)


def samples(path: Path) -> bytes:
    """Return the samples of a WAV or FLAC file, which must be 16 kHz mono 16 bit."""
    with av.open(path) as container:
        (stream,) = container.streams.audio
        assert (stream.rate, stream.channels) == (16_000, 1)
        frames = [frame.to_ndarray() for frame in container.decode(stream)]
    assert all(frame.dtype == "int16" for frame in frames)
    return b"".join(frame.tobytes() for frame in frames)


def words(text: str) -> list[str]:
    """Return the words of a text as word error rates are counted on."""
    plain = text.lower().replace("’", "'").replace("mr.", "mister").replace("-", " ")
    return re.findall(r"[\w']+", plain)


def word_errors(said: str, heard: str) -> int:
    """Return how many words must be put in, left out or changed to turn one text into the other."""
    target = words(said)
    row = list(range(len(target) + 1))
    for count, word in enumerate(words(heard), 1):
        previous, row = row, [count]
        for place, other in enumerate(target, 1):
            row.append(min(previous[place] + 1, row[-1] + 1, previous[place - 1] + (word != other)))
    return row[-1]
