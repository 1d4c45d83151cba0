"""Text to speech, heard again by the engine's own recognizer."""

import socket
from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from antiphon.engine.models import CATALOGUE, ModelMissing, ModelStore
from antiphon.engine.recognizer import Recognizer
from antiphon.engine.synthesizer import PIECE_BYTES, RATE_HZ, Synthesizer, sentences
from recordings import word_errors, words

SENTENCES = [
    "Hello, I am listening.",
    "Good morning! How can I help you today?",
    "It is a quarter past three in the afternoon.",
    "I heard: the weather is lovely in the mountains.",
    "I heard: and you always want to see it in the superlative degree.",
    "Okay, going to the next page.",
    "I have paused the reading.",
    "Would you like me to repeat that?",
    "You can say next, previous, repeat, pause, or slower.",
    "I am sorry, I did not understand that.",
    "Thank you, goodbye, and have a nice day.",
    "I can tell you the time, and repeat what you said.",
]


async def spoken(synthesizer: Synthesizer, text: str) -> list[bytes]:
    return [piece async for piece in synthesizer.stream(text)]


@pytest.mark.speech
async def test_what_is_said_is_understood(synthesizer: Synthesizer, recognizer: Recognizer) -> None:
    errors = total = 0
    for text in SENTENCES:
        samples = np.frombuffer(b"".join(await spoken(synthesizer, text)), "<i2")
        pcm = soxr.resample(samples, RATE_HZ, 16_000).tobytes()
        heard = await recognizer.transcribe(pcm, final=True)
        errors += word_errors(text, heard.text)
        total += len(words(text))
    assert errors / total <= 0.15


@pytest.mark.speech
async def test_speech_comes_in_short_pieces_at_a_good_level(synthesizer: Synthesizer) -> None:
    pieces = await spoken(synthesizer, " ".join(SENTENCES))
    assert {len(piece) % 2 for piece in pieces} == {0}
    assert max(map(len, pieces)) <= PIECE_BYTES
    samples = np.frombuffer(b"".join(pieces), "<i2").astype(np.float64)
    assert 25 < len(samples) / RATE_HZ < 60
    assert 0.3 < abs(samples).max() / 32768 < 1.0
    assert -26 < 20 * np.log10(samples.std() / 32768) < -16


@pytest.mark.speech
async def test_the_same_text_sounds_the_same(synthesizer: Synthesizer) -> None:
    first, again = [await spoken(synthesizer, "Good morning. It is nine.") for _ in range(2)]
    assert first == again


@pytest.mark.speech
@pytest.mark.parametrize("text", ["", " \n", "...", "?!", "\N{PARTY POPPER}", "\x00", "日本語"])
async def test_what_cannot_be_spoken_is_no_audio(synthesizer: Synthesizer, text: str) -> None:
    assert await spoken(synthesizer, text) == []


@pytest.mark.speech
async def test_odd_text_does_not_break_the_voice(synthesizer: Synthesizer) -> None:
    """Each of these is more than the voice's own reading of text takes, or was meant for."""
    for text in (
        "①②③ and ½, x²",
        "9" * 60,
        "[one](/two/)",
        "a" * 500,
        "፩፪",
        "1e400",
        "$" + "9" * 30,
        "٣ · Ⅷ",
    ):
        assert await spoken(synthesizer, text), text


async def test_a_sentence_that_cannot_be_made_is_left_out() -> None:
    def stumble(sentence: str, seed: int) -> np.ndarray:
        if "stumble" in sentence:
            raise ValueError("a gap in the reading of numbers")
        return np.full(24, 0.1, np.float32)

    async with Synthesizer(stumble) as synthesizer:
        pieces = await spoken(synthesizer, "I stumble. I do not.")
    assert [len(piece) for piece in pieces] == [48]


@pytest.mark.speech
async def test_one_may_stop_listening(synthesizer: Synthesizer) -> None:
    stream = synthesizer.stream(" ".join(SENTENCES))
    assert await anext(aiter(stream))
    # Another conversation is served at once, before the other sentences.
    assert await spoken(synthesizer, "Hello.")


@pytest.mark.speech
async def test_nothing_is_fetched(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    async with Synthesizer.load(store) as synthesizer:
        assert await spoken(synthesizer, "Hello, supercalifragilistic Antiphon.")


def test_a_missing_voice_is_told_before_it_is_loaded(tmp_path: Path) -> None:
    absent = tuple(replace(model, package="no-such-package") for model in CATALOGUE)
    with pytest.raises(ModelMissing, match="hibari-heart"):
        Synthesizer.load(ModelStore(tmp_path, absent))


def test_text_is_split_where_one_would_pause() -> None:
    clause = "this part goes on for a while and then comes to a comma, "
    long = clause * 9
    assert list(sentences("Hello. How are you?\n\nFine; and you?")) == [
        "Hello.",
        "How are you?",
        "Fine; and you?",
    ]
    parts = list(sentences(long))
    assert len(parts) > 1
    assert all(part.endswith("comma,") for part in parts)
    assert " ".join(parts) == long.strip()
    assert all(len(part) <= 280 and part.endswith("word") for part in sentences("word " * 100))


@given(st.text(max_size=600) | st.text(alphabet="ab1,. \n(½①[](/", max_size=900))
def test_whatever_is_said_is_said_in_short_parts(text: str) -> None:
    parts = list(sentences(text))
    assert all(0 < len(part) <= 280 for part in parts)
    assert all(any(one.isalnum() for one in part) for part in parts)


@given(st.text(alphabet="abcdefg .,?", max_size=900))
def test_no_letter_is_lost(text: str) -> None:
    letters = "".join(filter(str.isalpha, text))
    assert "".join(filter(str.isalpha, "".join(sentences(text)))) == letters
