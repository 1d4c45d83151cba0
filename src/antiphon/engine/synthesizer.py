"""Text to speech: hibari's built-in voice, for all conversations."""

from __future__ import annotations

import asyncio
import logging
import re
import unicodedata
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

import numpy as np
from hibari import Hibari

from antiphon.engine.models import ModelStore

RATE_HZ: Final = 24_000
PIECE_BYTES: Final = RATE_HZ * 2 // 5
"""200 ms: what is said can be cut off between two pieces."""

VOICE: Final = "hibari-heart.onnx"
PRONUNCIATION: Final = "hibari-pronunciation.onnx"

_SEED: Final = 20_251_121
_GAIN: Final = 2.0
"""The voice peaks at a quarter of full scale."""

_MAX_CHARACTERS: Final = 280
"""A longer sentence is spoken in parts, or one without punctuation could take seconds and gigabytes."""

_CLAUSE_END: Final = re.compile(r"(?<=[,;:])\s")
_WORD_END: Final = re.compile(r"\s")
_LONG_NUMBER: Final = re.compile(r"\d{16,}")
_LONG_WORD: Final = re.compile(r"\S{40}(?=\S)")

_log = logging.getLogger(__name__)


class Synthesizer:
    """Speaks English. One thread does all of it, sentence by sentence, in the order they are asked for.

    Close it with `aclose`, or use it as a context manager.
    """

    def __init__(self, voice: Hibari) -> None:
        self._voice = voice
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="synthesizer")

    @classmethod
    def load(cls, store: ModelStore) -> Self:
        """Load the voice (0.2 s, 150 MB). Nothing is fetched: it is a part of the hibari package.

        Raises:
            ModelError: a model file is missing or damaged.
        """
        for name in (VOICE, PRONUNCIATION):
            store.read(name)
        return cls(Hibari(model=str(store.path(VOICE)), threads=1))

    async def warm_up(self) -> None:
        """Make a first sentence, which takes 0.6 s: what is asked for meanwhile comes after it."""
        async for _ in self.stream("Ready."):
            pass

    async def stream(self, text: str) -> AsyncIterator[bytes]:
        """Yield `text` as speech, 24 kHz mono PCM16 in pieces of at most 200 ms.

        A sentence is made when the one before it has been taken; the first piece is there after about
        40 ms. What cannot be spoken is left out, so there may be no pieces at all. The same text
        always sounds the same.
        """
        loop = asyncio.get_running_loop()
        for sentence in sentences(text):
            pcm = await loop.run_in_executor(self._thread, self._speak, sentence)
            for start in range(0, len(pcm), PIECE_BYTES):
                yield pcm[start : start + PIECE_BYTES]

    async def aclose(self) -> None:
        """Finish the sentence that is being made, and end the thread."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _speak(self, sentence: str) -> bytes:
        try:
            wave = self._voice(sentence, seed=_SEED)
        except (IndexError, KeyError, ValueError) as error:
            # The package's reading of numbers and symbols has gaps; they must not cost a conversation.
            _log.warning("a sentence of %d characters cannot be spoken: %r", len(sentence), type(error))
            return b""
        pcm: bytes = np.clip(wave * (_GAIN * 32767), -32768, 32767).astype("<i2").tobytes()
        return pcm


def sentences(text: str) -> Iterator[str]:
    """Split `text` into what is spoken at a time, each of at most 280 characters and readable."""
    for sentence in Hibari.split_sentences(_readable(text)):
        while len(sentence) > _MAX_CHARACTERS:
            end = _break(sentence)
            yield sentence[:end]
            sentence = sentence[end:].lstrip()
        if any(one.isalnum() for one in sentence):
            yield sentence


def _break(sentence: str) -> int:
    """Return where a sentence that is too long is broken: after a clause, else a word, else anywhere."""
    for kind in (_CLAUSE_END, _WORD_END):
        if found := list(kind.finditer(sentence, 1, _MAX_CHARACTERS)):
            return found[-1].start()
    return _MAX_CHARACTERS


def _readable(text: str) -> str:
    """Write `text` with characters that the voice's front end reads."""
    plain = unicodedata.normalize("NFKC", text)
    plain = "".join(str(unicodedata.digit(one)) if one.isdigit() else one for one in plain)
    # "[word](/sounds/)" would be taken for a pronunciation.
    plain = plain.replace("](", "] (")
    plain = _LONG_NUMBER.sub(lambda digits: " ".join(digits[0]), plain)
    return _LONG_WORD.sub(lambda letters: letters[0] + " ", plain)
