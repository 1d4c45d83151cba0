"""Measure the engine's speech: word errors, delays in real time, speed, memory. Prints; asserts nothing.

    python bench/speech.py [--sessions N]

Delays are counted in the audio's own time: from when the first speech of an utterance would have been
heard to its first partial, and from its last speech to its final result.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import time
from pathlib import Path

import numpy as np
import soxr

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from antiphon.engine.detector import FRAME_BYTES, FRAME_MS, Detector, DetectorModel
from antiphon.engine.listener import Final, Listener, ListenerEvent, Partial, SpeechStarted, SpeechStopped
from antiphon.engine.models import ModelStore, default_directory
from antiphon.engine.recognizer import Recognizer
from antiphon.engine.synthesizer import RATE_HZ, Synthesizer
from recordings import Recording, recordings, word_errors, words

CHUNK_S = 0.1
TAIL = bytes(32_000)
"""A second of silence: the listener has to find the end by itself."""

SENTENCES = (
    "Hello, I am listening.",
    "It is a quarter past three in the afternoon.",
    "I heard: and you always want to see it in the superlative degree.",
    "Okay, going to the next page.",
    "You can say next, previous, repeat, pause, or slower.",
    "I am sorry, I did not understand that.",
)


class Result:
    """What was told of one recording, and the delays in milliseconds."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.partial_ms: list[float] = []
        self.final_ms: list[float] = []
        self.began = time.monotonic()
        self._edge_ms: float | None = None

    def __call__(self, event: ListenerEvent) -> None:
        now_ms = (time.monotonic() - self.began) * 1000
        match event:
            case SpeechStarted(at_ms) | SpeechStopped(at_ms):
                self._edge_ms = at_ms
            case Partial() if self._edge_ms is not None:
                self.partial_ms.append(now_ms - self._edge_ms)
                self._edge_ms = None
            case Final(text) if self._edge_ms is not None:
                self.final_ms.append(now_ms - self._edge_ms)
                self.text.append(text)
            case _:
                pass


async def listen(recognizer: Recognizer, detector_model: DetectorModel, one: Recording) -> Result:
    result = Result()
    pcm = one.pcm + TAIL
    async with asyncio.TaskGroup() as tasks:
        ear = Listener(recognizer, detector_model, result, tasks)
        size = int(CHUNK_S * 32_000)
        for count, start in enumerate(range(0, len(pcm), size), 1):
            await asyncio.sleep(result.began + count * CHUNK_S - time.monotonic())
            ear.feed(pcm[start : start + size])
        ear.end()
        await ear.caught_up()
        await ear.aclose()
    return result


def spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{np.median(values):5.0f} / {max(values):5.0f}"


async def measure_listening(recognizer: Recognizer, detector_model: DetectorModel, sessions: int) -> None:
    print(f"\nIn real time, {CHUNK_S * 1000:.0f} ms chunks, {sessions} at once")
    print(f"{'file':16} {'s':>5} {'errors':>8} {'first partial ms':>17} {'final ms':>15}   (median / worst)")
    everything = Result()
    errors = total = 0
    for one in recordings():
        results = await asyncio.gather(*(listen(recognizer, detector_model, one) for _ in range(sessions)))
        wrong = word_errors(one.reference, " ".join(results[0].text))
        spoken = len(words(one.reference))
        errors, total = errors + wrong, total + spoken
        partial_ms = [value for result in results for value in result.partial_ms]
        final_ms = [value for result in results for value in result.final_ms]
        everything.partial_ms += partial_ms
        everything.final_ms += final_ms
        delays = f"{spread(partial_ms):>17} {spread(final_ms):>15}"
        print(f"{one.name:16} {one.seconds:5.1f} {wrong:4}/{spoken:3} {delays}")
    rate = f"{errors / total:.1%}"
    print(
        f"{'all':16} {'':5} {rate:>8} {spread(everything.partial_ms):>17} {spread(everything.final_ms):>15}"
    )


async def measure_speed(recognizer: Recognizer, detector_model: DetectorModel) -> None:
    pcm = next(one.pcm for one in recordings() if one.name == "ps_0870")[: 5 * 32_000]
    print("\nOne thread")
    for final in (False, True):
        began = time.monotonic()
        for _ in range(5):
            await recognizer.transcribe(pcm, final=final)
        taken = (time.monotonic() - began) / 5
        kind = "final" if final else "partial"
        print(f"5 s of speech, {kind:8} {taken * 1000:6.0f} ms, {taken / 5:.3f} of real time")
    detector = Detector(detector_model)
    frames = [pcm[start : start + FRAME_BYTES] for start in range(0, len(pcm) - FRAME_BYTES, FRAME_BYTES)]
    began_at = time.monotonic()
    for frame in frames:
        detector.feed(frame)
    taken = (time.monotonic() - began_at) / len(frames) * 1000
    print(f"voice activity {taken:.2f} ms a frame of {FRAME_MS} ms, {taken / FRAME_MS:.3f} of real time")


async def measure_speaking(synthesizer: Synthesizer, recognizer: Recognizer) -> None:
    first_ms, audio_s, taken_s, errors, total = [], 0.0, 0.0, 0, 0
    print("\nSpoken and heard again")
    for text in SENTENCES:
        began = time.monotonic()
        pieces: list[bytes] = []
        async for piece in synthesizer.stream(text):
            if not pieces:
                first_ms.append((time.monotonic() - began) * 1000)
            pieces.append(piece)
        taken_s += time.monotonic() - began
        samples = np.frombuffer(b"".join(pieces), "<i2")
        audio_s += len(samples) / RATE_HZ
        heard = await recognizer.transcribe(soxr.resample(samples, RATE_HZ, 16_000).tobytes(), final=True)
        errors += word_errors(text, heard.text)
        total += len(words(text))
        print(f"  {text}\n      {heard.text} ({heard.confidence:.2f})")
    rate = f"{errors / total:.1%}"
    print(f"first audio {spread(first_ms)} ms, {taken_s / audio_s:.3f} of real time, word errors {rate}")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=1, help="conversations at once (1)")
    sessions = parser.parse_args().sessions
    store = ModelStore(default_directory())
    began = time.monotonic()
    recognizer, detector_model, synthesizer = (
        Recognizer.load(store),
        DetectorModel.load(store),
        Synthesizer.load(store),
    )
    print(f"loaded in {time.monotonic() - began:.1f} s")
    async with recognizer, synthesizer:
        await measure_listening(recognizer, detector_model, sessions)
        await measure_speed(recognizer, detector_model)
        await measure_speaking(synthesizer, recognizer)
    print(f"\nmost memory used {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    asyncio.run(main())
