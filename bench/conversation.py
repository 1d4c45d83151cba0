"""What a user waits for, and how well he is understood: human speech through a whole gateway and its engine.

    python -m bench.conversation [--speech FOLDER]

One session at a time, in real time, in chunks of 100 ms. For each file and format it prints the word error
rate, the first partial after speech begins, the final after speech ends (2 s of silence follow it), and, for
the file alone, the first answer audio after `audio_stream_end`. Answers are recognised back, but for those
that the speaker interrupts by going on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from antiphon.audio.recording import Recording
from antiphon.client import Client, connect
from antiphon.engine.models import ModelStore, default_directory
from antiphon.engine.recognizer import Recognizer
from antiphon.messages import AudioFormat, AudioResponse, RecognitionResult
from bench import machine
from recordings import SPEECH, recordings, word_errors, words

SILENCE_S = 2.0
ANSWER_OVER_S = 1.2
MAX_RECOGNISED_BYTES = 29 * 32_000


class Spoken(NamedTuple):
    """What came back for one file. Times are seconds from the first chunk; None for what never came."""

    transcript: str
    utterances: int
    first_partial_at: float | None
    final_at: float | None
    ended_at: float
    first_audio_at: float | None
    answer_text: str
    answer_pcm: bytes


async def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--speech", type=Path, default=SPEECH, help="folder with a manifest.tsv")
    args = parser.parse_args()
    print(f"{machine.describe()}\n")
    print("| file | format | WER | first partial | final | first answer | answer's WER |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    heard: dict[AudioFormat, list[tuple[str, str]]] = {"LINEAR16": [], "FLAC": []}
    waits: dict[str, list[float]] = {"first partial": [], "final": [], "first answer": []}
    answers: list[tuple[str, str]] = []
    store = ModelStore(default_directory())
    async with gateway() as (url, token), connect(url, token) as client:
        recognizer = Recognizer.load(store, 1)
        for sample in recordings(args.speech):
            recording = Recording(Path(sample.name), sample.pcm, 16_000)
            begins, ends = speech_bounds(recording)
            for audio_format in heard:
                with_silence = await speak(client, recording, audio_format, SILENCE_S)
                alone = await speak(client, recording, audio_format, 0.0)
                heard[audio_format] += [(sample.reference, said.transcript) for said in (with_silence, alone)]
                partial = (with_silence.first_partial_at or float("inf")) - begins
                final = (with_silence.final_at or float("inf")) - ends
                answer = (alone.first_audio_at or float("inf")) - alone.ended_at
                for name, wait in zip(waits, (partial, final, answer), strict=True):
                    waits[name].append(wait)
                pcm16 = to_16k(alone.answer_pcm)
                back = await recognizer.transcribe(pcm16[:MAX_RECOGNISED_BYTES], final=True)
                answer_rate = "(interrupted)"
                if alone.utterances == 1:
                    answers.append((alone.answer_text, back.text))
                    answer_rate = f"{error_rate(answers[-1:]):.0%}"
                rate = error_rate(heard[audio_format][-2:])
                print(
                    f"| {sample.name} | {audio_format} | {rate:.1%} | {partial:.2f} s | {final:.2f} s "
                    f"| {answer:.2f} s | {answer_rate} |",
                    flush=True,
                )
        await recognizer.aclose()
    print()
    for audio_format, pairs in heard.items():
        print(f"word error rate, {audio_format}: {error_rate(pairs):.1%} (goal: at most 8%)")
    for (name, values), goal in zip(waits.items(), (1.2, 1.0, 1.5), strict=True):
        print(f"{name}: median {statistics.median(values):.2f} s, worst {max(values):.2f} s (goal: {goal} s)")
    print(f"answers recognised back: {error_rate(answers):.1%} word error (goal: at most 15%)")
    return 0


def error_rate(pairs: list[tuple[str, str]]) -> float:
    """Return the word error rate over pairs of what was said and what was heard."""
    return sum(word_errors(*pair) for pair in pairs) / sum(len(words(said)) for said, _ in pairs)


async def speak(client: Client, recording: Recording, audio_format: AudioFormat, silence_s: float) -> Spoken:
    """Send a recording in real time, and collect what comes back until the answer is over."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    ended_at = float("inf")

    async def send() -> None:
        nonlocal ended_at
        silence = bytes(int(silence_s * recording.rate_hz) * 2)
        padded = Recording(recording.path, recording.pcm + silence, recording.rate_hz)
        await client.start(format=audio_format, rate_hz=padded.rate_hz, language="en-US")
        sent = 0
        for samples, data in padded.chunks(audio_format):
            # A chunk can be sent once its last sample has been spoken.
            sent += samples
            await asyncio.sleep(max(0.0, began + sent / padded.rate_hz - loop.time()))
            await client.send_audio(data)
        await client.end()
        ended_at = loop.time() - began

    first_partial_at = final_at = first_audio_at = None
    transcripts: list[str] = []
    text, pcm = "", b""
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(send())
        while True:
            try:
                async with asyncio.timeout(
                    ANSWER_OVER_S if sending.done() and pcm else 10 + recording.duration_s
                ):
                    message = await anext(client)
            except TimeoutError:
                break
            now = loop.time() - began
            if isinstance(message, RecognitionResult):
                first_partial_at = first_partial_at or now
                if message.is_final:
                    final_at = now
                    transcripts.append(message.transcript)
            elif isinstance(message, AudioResponse):
                if now >= ended_at or sending.done():
                    first_audio_at = first_audio_at or now
                text += message.text
                pcm += message.data
    return Spoken(
        " ".join(transcripts),
        len(transcripts),
        first_partial_at,
        final_at,
        ended_at,
        first_audio_at,
        text,
        pcm,
    )


def speech_bounds(recording: Recording) -> tuple[float, float]:
    """Return when speech begins and ends, in seconds: where 20 ms are louder than 30 dB under the peak."""
    frame = recording.rate_hz // 50
    samples = np.frombuffer(recording.pcm, "<i2").astype(np.float64)
    levels = np.sqrt((samples[: len(samples) // frame * frame].reshape(-1, frame) ** 2).mean(axis=1))
    loud = np.flatnonzero(levels > levels.max() / 10**1.5)
    return float(loud[0]) / 50, float(loud[-1] + 1) / 50


def to_16k(pcm: bytes) -> bytes:
    """Bring an answer of 24 kHz to the recogniser's rate."""
    import soxr

    samples: npt.NDArray[np.int16] = soxr.resample(np.frombuffer(pcm, np.int16), 24_000, 16_000)
    return samples.tobytes()


@asynccontextmanager
async def gateway() -> AsyncIterator[tuple[str, str]]:
    """Run `antiphon serve` on a free port; give its URL and a token."""
    with tempfile.TemporaryDirectory() as runtime:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "antiphon", "serve", "--upstream", "local", "--port", "0"),
            env={**os.environ, "XDG_RUNTIME_DIR": runtime},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout
        try:
            async with asyncio.timeout(60):
                link = None
                while not link:
                    line = (await process.stdout.readline()).decode()
                    if not line:
                        raise SystemExit("The gateway did not start; `make serve` says why.")
                    link = re.search(r"http://([^/]+)/#token=(\S+)", line)
            yield f"ws://{link[1]}/ws", link[2]
        finally:
            process.terminate()
            await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
