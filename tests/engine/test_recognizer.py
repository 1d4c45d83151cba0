"""Speech to text: the model on human speech and on what is none, and who is served when."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine.models import ModelDamaged, ModelMissing, ModelStore
from antiphon.engine.moonshine import ENCODER, TOKENIZER, Moonshine, loop_period, without_loop
from antiphon.engine.recognizer import NOTHING, Recognizer, Transcript
from recordings import recording, word_errors

RATE_HZ = 16_000


def pcm(samples: np.ndarray) -> bytes:
    return samples.clip(-32768, 32767).astype("<i2").tobytes()


def samples(name: str) -> np.ndarray:
    return np.frombuffer(recording(name).pcm, "<i2").astype(np.float64)


# ---- the model


@pytest.mark.speech
@pytest.mark.parametrize("beams", [1, 4])
def test_speech_becomes_text_with_confidence(moonshine: Moonshine, beams: int) -> None:
    said = recording("ps_0870")
    heard = moonshine.transcribe(said.pcm, Event(), beams)
    assert word_errors(said.reference, heard.text) == 0
    assert 0.9 < heard.confidence < 1.0


@pytest.mark.speech
def test_confidence_falls_with_noise(moonshine: Moonshine) -> None:
    said = samples("ps_0870")
    noise = np.random.default_rng(1).normal(0, said.std(), len(said))
    confidence = [
        moonshine.transcribe(pcm(said + noise * loudness), Event(), 4).confidence for loudness in (0, 0.3, 1)
    ]
    assert confidence == sorted(confidence, reverse=True)
    assert confidence[0] - confidence[-1] > 0.1


@pytest.mark.speech
@pytest.mark.parametrize("gain", [0.05, 1.0, 4.0])
def test_quiet_and_loud_speech_is_heard(moonshine: Moonshine, gain: float) -> None:
    heard = moonshine.transcribe(pcm(samples("ps_goforward") * gain), Event(), 4)
    assert word_errors("go forward ten meters", heard.text) == 0


@pytest.mark.speech
def test_speech_amid_silence_is_heard(moonshine: Moonshine) -> None:
    """So much silence that "nothing was said" is what the model thinks likeliest at first."""
    said = recording("ps_0880")
    margin = bytes(32_000)
    heard = moonshine.transcribe(margin + said.pcm + margin, Event(), 4)
    assert word_errors(said.reference, heard.text) <= 2
    assert heard.confidence > 0.5


TIME = np.arange(8 * RATE_HZ) / RATE_HZ
NOISE = np.random.default_rng(2).normal(0, 1, len(TIME))
NO_SPEECH = {
    "digital silence": TIME * 0,
    "faint noise": NOISE,
    "loud noise": NOISE * 8_000,
    "beating noise": NOISE * 3_000 * (1 + np.sin(8 * np.pi * TIME)),
    "tone": 10_000 * np.sin(880 * np.pi * TIME),
    "chord": 6_000 * sum(np.sin(2 * np.pi * hertz * TIME) for hertz in (262, 330, 392)),
    "siren": 9_000 * np.sin(2 * np.pi * np.cumsum(800 + 400 * np.sin(np.pi * TIME)) / RATE_HZ),
    "hum": 10_000 * np.sign(np.sin(100 * np.pi * TIME)),
}


@pytest.mark.speech
@pytest.mark.parametrize("kind", NO_SPEECH)
@pytest.mark.parametrize("seconds", [0.3, 1, 8])
def test_what_is_no_speech_is_nothing(moonshine: Moonshine, kind: str, seconds: float) -> None:
    heard = moonshine.transcribe(pcm(NO_SPEECH[kind][: int(seconds * RATE_HZ)]), Event(), 4)
    assert heard == NOTHING


@pytest.mark.speech
@pytest.mark.parametrize("size", [0, 2, 100, 3198])
def test_the_shortest_audio_is_nothing(moonshine: Moonshine, size: int) -> None:
    assert moonshine.transcribe(recording("ps_0870").pcm[32_000:][:size], Event(), 4) == NOTHING


@pytest.mark.speech
def test_stopping_ends_the_decoding(moonshine: Moonshine) -> None:
    stop = Event()
    stop.set()
    assert moonshine.transcribe(recording("ps_0870").pcm, stop, 4) == NOTHING


class Counted:
    """A session of the runtime, and how often it has run."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.runs = 0

    def run(self, *arguments: Any) -> Any:
        self.runs += 1
        return self._session.run(*arguments)


@pytest.mark.speech
def test_what_a_draft_holds_is_not_searched_for_again(
    moonshine: Moonshine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = recording("ps_0870")
    decoder = Counted(moonshine._decoder)
    monkeypatch.setattr(moonshine, "_decoder", decoder)
    half = moonshine.transcribe(said.pcm[: len(said.pcm) // 4 * 2], Event(), 1)
    decoder.runs = 0
    anew = moonshine.transcribe(said.pcm, Event(), 1)
    steps, decoder.runs = decoder.runs, 0
    drafted = moonshine.transcribe(said.pcm, Event(), 1, half.tokens)
    assert decoder.runs < steps * 0.75
    assert word_errors(said.reference, drafted.text) == word_errors(said.reference, anew.text) == 0
    assert drafted.confidence == pytest.approx(anew.confidence, abs=0.03)
    # All of it again is one step and the end; what is no speech is none with a draft, too.
    decoder.runs = 0
    assert moonshine.transcribe(said.pcm, Event(), 1, anew.tokens).text
    assert decoder.runs <= 2
    for sound in NO_SPEECH.values():
        assert moonshine.transcribe(pcm(sound), Event(), 1, half.tokens) == NOTHING


@pytest.mark.speech
@pytest.mark.parametrize("beams", [1, 4])
def test_a_draft_that_is_wrong_does_no_harm(moonshine: Moonshine, beams: int) -> None:
    said = recording("ps_0870")
    anew = moonshine.transcribe(said.pcm, Event(), beams)
    for draft in ([7] * 5, [9_999] * 400, moonshine.transcribe(recording("ps_0880").pcm, Event(), 1).tokens):
        heard = moonshine.transcribe(said.pcm, Event(), beams, draft)
        assert word_errors(said.reference, heard.text) == 0
        assert heard.confidence == pytest.approx(anew.confidence, abs=0.01)


@pytest.mark.speech
def test_a_damaged_model_is_refused_before_it_is_loaded(store: ModelStore, tmp_path: Path) -> None:
    for model in store:
        if model.task == "recognition":
            (tmp_path / model.name).symlink_to(store.path(model.name))
    Moonshine.load(ModelStore(tmp_path))
    (tmp_path / ENCODER).unlink()
    data = bytearray(store.read(ENCODER))
    data[len(data) // 2] ^= 1
    (tmp_path / ENCODER).write_bytes(data)
    with pytest.raises(ModelDamaged, match="is damaged"):
        Recognizer.load(ModelStore(tmp_path))
    (tmp_path / TOKENIZER).unlink()
    with pytest.raises(ModelMissing, match="run `antiphon models pull`"):
        Recognizer.load(ModelStore(tmp_path))


# ---- loops

tokens = st.lists(st.integers(3, 9), max_size=40)


@given(tokens, st.lists(st.integers(3, 9), min_size=1, max_size=6), st.integers(16, 20))
def test_a_loop_is_found_and_cut_to_its_first_time(head: list[int], body: list[int], times: int) -> None:
    looping = head + body * times
    period = loop_period(looping)
    assert 0 < period <= len(body)
    rest = without_loop(looping)
    assert len(rest) < len(head) + 2 * len(body)
    assert looping[: len(rest)] == rest
    assert not loop_period(rest) or rest == head[: len(rest)]


@given(tokens)
def test_what_does_not_loop_is_left_as_it_is(spoken: list[int]) -> None:
    if not loop_period(spoken):
        assert without_loop(spoken) == spoken


def test_a_phrase_said_three_times_is_no_loop() -> None:
    assert loop_period([5, 6, 7, 8, 9, 10] * 3) == 0
    assert loop_period([5] * 15) == 0
    assert loop_period([5] * 16) == 1


# ---- who is served when


class Slow:
    """A model that takes until it is let go, and notes what it was asked."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.stopped: list[bytes] = []
        self.go_on = Event()

    def transcribe(self, pcm: bytes, stop: Event, beams: int, draft: Sequence[int] = ()) -> Transcript:
        self.begun.append(pcm)
        while not self.go_on.wait(0.001):
            if stop.is_set():
                self.stopped.append(pcm)
                return NOTHING
        return Transcript(f"{pcm.decode()} {beams}", 0.5)


async def begun(model: Slow, count: int) -> None:
    async with asyncio.timeout(5):
        while len(model.begun) < count:
            await asyncio.sleep(0.001)


async def test_a_partial_waits_for_finals_and_hears_what_came_meanwhile() -> None:
    model = Slow()
    async with Recognizer(model, workers=1) as recognizer, asyncio.TaskGroup() as tasks:
        audio = b"stale"
        finals = [tasks.create_task(recognizer.transcribe(b"final", final=True)) for _ in range(2)]
        await begun(model, 1)
        partial = tasks.create_task(recognizer.partial("me", lambda: audio))
        await asyncio.sleep(0)
        audio = b"newest"
        model.go_on.set()
        assert [await final for final in finals] == [Transcript("final 4", 0.5)] * 2
        assert await partial == Transcript("newest 1", 0.5)
    assert model.begun == [b"final", b"final", b"newest"]
    assert (recognizer.counts.finals, recognizer.counts.partials) == (2, 1)


async def test_a_session_has_one_partial_that_waits() -> None:
    model = Slow()
    async with Recognizer(model, workers=1) as recognizer, asyncio.TaskGroup() as tasks:
        final = tasks.create_task(recognizer.transcribe(b"final", final=True))
        await begun(model, 1)
        first = tasks.create_task(recognizer.partial("me", lambda: b"first"))
        other = tasks.create_task(recognizer.partial("you", lambda: b"other"))
        await asyncio.sleep(0)
        second = tasks.create_task(recognizer.partial("me", lambda: b"second"))
        assert await first == NOTHING
        model.go_on.set()
        assert [(await one).text for one in (final, second, other)] == ["final 4", "second 1", "other 1"]
    # Who asks again keeps his place.
    assert model.begun == [b"final", b"second", b"other"]
    assert recognizer.counts.partials_replaced == 1


async def test_a_partial_that_is_no_longer_wanted_is_not_begun() -> None:
    model = Slow()
    async with Recognizer(model, workers=1) as recognizer, asyncio.TaskGroup() as tasks:
        final = tasks.create_task(recognizer.transcribe(b"final", final=True))
        await begun(model, 1)
        partial = asyncio.create_task(recognizer.partial("me", lambda: b"partial"))
        await asyncio.sleep(0)
        partial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await partial
        model.go_on.set()
        assert (await final).text == "final 4"
    assert model.begun == [b"final"]


async def test_it_tells_how_long_finals_wait() -> None:
    model = Slow()
    async with Recognizer(model, workers=1) as recognizer, asyncio.TaskGroup() as tasks:
        assert recognizer.delay_s() == 0
        finals = [tasks.create_task(recognizer.transcribe(b"final", final=True)) for _ in range(2)]
        await begun(model, 1)
        await asyncio.sleep(0.01)
        assert recognizer.delay_s() >= 0.01
        model.go_on.set()
        await asyncio.gather(*finals)
        assert 0 < recognizer.delay_s() < 1


async def test_what_waits_at_the_end_is_taken_back() -> None:
    model = Slow()
    recognizer = Recognizer(model, workers=1)
    first, second = (asyncio.create_task(recognizer.transcribe(b"final", final=True)) for _ in range(2))
    await begun(model, 1)
    model.go_on.set()
    await recognizer.aclose()
    assert (await first).text == "final 4"
    with pytest.raises(asyncio.CancelledError):
        await second
    assert model.begun == [b"final"]


async def test_a_partial_gives_way_to_a_final() -> None:
    model = Slow()
    async with Recognizer(model, workers=2) as recognizer, asyncio.TaskGroup() as tasks:
        partials = [
            tasks.create_task(recognizer.transcribe(name, final=False)) for name in (b"first", b"second")
        ]
        await begun(model, 2)
        final = tasks.create_task(recognizer.transcribe(b"final", final=True))
        async with asyncio.timeout(5):
            # The one that has done less; no more than the final needs.
            assert await partials[1] == NOTHING
        await begun(model, 3)
        model.go_on.set()
        assert (await final).text == "final 4"
        assert (await partials[0]).text == "first 1"
    assert model.stopped == [b"second"]
    assert recognizer.counts.partials_stopped == 1


async def test_a_partial_goes_on_beside_a_final_where_there_is_room() -> None:
    model = Slow()
    async with Recognizer(model, workers=2) as recognizer, asyncio.TaskGroup() as tasks:
        partial = tasks.create_task(recognizer.transcribe(b"partial", final=False))
        final = tasks.create_task(recognizer.transcribe(b"final", final=True))
        await begun(model, 2)
        model.go_on.set()
        assert (await partial).text == "partial 1"
        assert (await final).text == "final 4"


async def test_finals_are_served_in_order() -> None:
    model = Slow()
    async with Recognizer(model, workers=1) as recognizer, asyncio.TaskGroup() as tasks:
        finals = [tasks.create_task(recognizer.transcribe(b"%d" % n, final=True)) for n in range(5)]
        await begun(model, 1)
        model.go_on.set()
        assert [(await one).text for one in finals] == [f"{n} 4" for n in range(5)]
    assert model.begun == [b"%d" % n for n in range(5)]


async def test_cancelling_stops_the_decoding_and_frees_its_place() -> None:
    model = Slow()
    async with Recognizer(model, workers=1) as recognizer:
        cancelled = asyncio.create_task(recognizer.transcribe(b"cancelled", final=True))
        await begun(model, 1)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        following = asyncio.create_task(recognizer.transcribe(b"next", final=True))
        await begun(model, 2)
        model.go_on.set()
        assert (await following).text == "next 4"
    assert model.begun == [b"cancelled", b"next"]


async def test_an_error_of_the_model_comes_back_and_frees_its_place() -> None:
    class Broken:
        def transcribe(self, pcm: bytes, stop: Event, beams: int, draft: Sequence[int] = ()) -> Transcript:
            raise RuntimeError("no memory")

    async with Recognizer(Broken(), workers=1) as recognizer:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="no memory"):
                await recognizer.transcribe(b"", final=True)


async def test_the_event_loop_goes_on_while_something_is_decoded() -> None:
    model = Slow()
    async with Recognizer(model, workers=1) as recognizer, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(recognizer.transcribe(b"final", final=True))
        await begun(model, 1)
        start = time.monotonic()
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not task.done()
        assert time.monotonic() - start < 5
        model.go_on.set()
