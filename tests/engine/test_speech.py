"""The engine with its real models: human speech in; transcript, calls and intelligible speech out."""

import asyncio
import re
import signal
import sys
import wave
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from antiphon import transcription
from antiphon.engine.detector import DetectorModel
from antiphon.engine.ear import ListenerEar
from antiphon.engine.listener import Listener, ListenerEvent
from antiphon.engine.playback import RATE_HZ
from antiphon.engine.recognizer import Recognizer
from antiphon.engine.stream import Ear
from antiphon.engine.synthesizer import Synthesizer
from loopback_engine import ALL, MODEL, Call, Engine, engine, said, spoken

pytestmark = pytest.mark.speech

SPEECH = Path(__file__).parent.parent / "speech"
SAID = {
    "ps_goforward": "go forward ten meters",
    "arctic_a0007": "and you always want to see it in the superlative degree",
    "ps_0880": "he was not an ill disposed young man",
}
SILENCE = bytes(2 * 16_000)


def recorded(name: str) -> bytes:
    with wave.open(str(SPEECH / f"{name}.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        frames: bytes = file.readframes(file.getnframes())
        return frames


def bare(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def word_errors(said: str, heard: str) -> float:
    """Return the word error rate, by edit distance."""
    expected, got = bare(said), bare(heard)
    row = list(range(len(got) + 1))
    for i, word in enumerate(expected, start=1):
        last, row[0] = row[0], i
        for j, other in enumerate(got, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != other))
    return row[-1] / len(expected)


@pytest.fixture
async def running(
    recognizer: Recognizer, detector_model: DetectorModel, synthesizer: Synthesizer
) -> AsyncIterator[Engine]:
    def open_ear(on_event: Callable[[ListenerEvent], None], tasks: asyncio.TaskGroup) -> Ear:
        return ListenerEar(Listener(recognizer, detector_model, on_event, tasks))

    async with engine(open_ear, synthesizer) as running:
        yield running


async def synthesised(synthesizer: Synthesizer, text: str) -> bytes:
    """Return a text spoken by the engine's own voice, at 16 kHz."""
    audio = b"".join([piece async for piece in synthesizer.stream(text)])
    return at_16_khz(audio)


def at_16_khz(audio: bytes) -> bytes:
    resampled: bytes = soxr.resample(np.frombuffer(audio, np.int16), RATE_HZ, 16_000).tobytes()
    return resampled


async def hear(call: Call, audio: bytes) -> None:
    for start in range(0, len(audio), 3_200):
        await call.audio(audio[start : start + 3_200])


def final(messages: list[Any]) -> tuple[str, float]:
    """What was heard in the end, and how surely."""
    told = [
        transcription.decode(message.server_content.input_transcription)
        for message in messages
        if message.server_content.HasField("input_transcription")
    ]
    (last,) = [one for one in told if one and one.final]
    assert last.whole is not None
    return last.whole, last.confidence


@pytest.mark.parametrize("name", SAID)
async def test_speech_is_transcribed_and_answered_intelligibly(name: str, running: Engine) -> None:
    async with running.call() as call:
        await call.setup()
        await hear(call, recorded(name))
        await call.end_audio()
        messages = await call.answer()
    heard, confidence = final(messages)
    assert word_errors(SAID[name], heard) <= 0.25
    assert 0.5 < confidence <= 1.0
    assert said(messages) == f"I heard: {heard}"
    deltas = "".join(message.server_content.input_transcription.text for message in messages)
    assert bare(deltas) == bare(heard)
    # The answer is heard by another conversation.
    async with running.call() as call:
        await call.setup()
        await hear(call, at_16_khz(spoken(messages)))
        await call.end_audio()
        again, _ = final(await call.answer())
    assert word_errors(said(messages), again) <= 0.15


async def test_a_spoken_command_with_a_number_is_called(running: Engine) -> None:
    forward = {
        "name": "go_forward",
        "description": 'Walk. Said as: "go forward {count} meters".',
        "parameters": {"type": "OBJECT", "properties": {"count": {"type": "INTEGER"}}, "required": ["count"]},
    }
    async with running.call() as call:
        await call.setup(**{**ALL, "tools": [{"functionDeclarations": [forward]}]})
        await hear(call, recorded("ps_goforward"))
        await call.end_audio()
        messages = await call.until(lambda message: message.HasField("tool_call"))
        (function,) = messages[-1].tool_call.function_calls
        assert (function.name, dict(function.args)) == ("go_forward", {"count": 10})
        await call.result(function.id, {"output": "ok"}, name="go_forward")
        assert bare(said(await call.answer())) == bare("Okay, go forward ten meters.")


async def test_utterances_in_one_stream_are_told_apart(running: Engine, synthesizer: Synthesizer) -> None:
    async with running.call() as call:
        await call.setup()
        for text in ("Skip this.", "What time is it?"):
            await hear(call, SILENCE + await synthesised(synthesizer, text) + SILENCE)
        messages = await call.until(lambda message: message.HasField("tool_call"))
        assert messages[-1].tool_call.function_calls[0].name == "next"
        # The second utterance came while the first was acted on.
        messages = await call.answer()
        assert said(messages).endswith("It's nine oh five in the morning.")


async def test_speech_interrupts_the_answer(running: Engine, synthesizer: Synthesizer) -> None:
    async with running.call() as call:
        await call.setup()
        await call.type("What can you do?")
        await call.answer()
        await hear(call, SILENCE)
        await hear(call, await synthesised(synthesizer, "Thank you very much."))
        messages = await call.turn()
        assert messages[-2].server_content.interrupted
        await call.end_audio()
        assert said(await call.answer()) == "You're welcome."


async def test_silence_and_noise_are_not_answered(running: Engine) -> None:
    noise = np.random.default_rng(1).normal(0, 300, 3 * 16_000).astype(np.int16).tobytes()
    async with running.call() as call:
        await call.setup(**MODEL)
        await hear(call, SILENCE + noise)
        await call.end_audio()
        assert (await call.receive()).server_content.waiting_for_input


# ---- the process


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "antiphon.engine", *arguments), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )


async def ready_port(process: asyncio.subprocess.Process) -> str:
    assert process.stdout
    async with asyncio.timeout(60):
        line = (await process.stdout.readline()).decode()
    assert line.startswith("engine ready on 127.0.0.1:")
    return line.rpartition(":")[2].strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_process_in_order(number: signal.Signals) -> None:
    process = await start("--port", "0")
    await ready_port(process)
    process.send_signal(number)
    async with asyncio.timeout(10):
        output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"", b"")


async def test_the_process_ends_with_its_parent() -> None:
    process = await start("--port", "0", "--exit-with-parent")
    await ready_port(process)
    assert process.stdin
    process.stdin.close()
    async with asyncio.timeout(10):
        await process.communicate()
    assert process.returncode == 0


async def test_a_port_in_use_is_one_sentence() -> None:
    first = await start("--port", "0")
    port = await ready_port(first)
    second = await start("--port", port)
    async with asyncio.timeout(60):
        _, errors = await second.communicate()
    assert second.returncode == 1
    assert errors.decode().splitlines()[-1] == (
        f"antiphon engine: Port {port} of 127.0.0.1 cannot be listened on: Address already in use."
    )
    first.terminate()
    await first.communicate()


async def test_missing_models_are_one_sentence(tmp_path: Path) -> None:
    process = await start("--models-dir", str(tmp_path))
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.startswith(b"antiphon engine: ")
    assert b"antiphon models pull" in errors
    assert b"Traceback" not in errors
