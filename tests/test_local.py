"""The embedded engine as a child process."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc.aio
import psutil
import pytest

from antiphon import local, node
from antiphon.config import Config, ConfigError
from antiphon.errors import ErrorCode, GatewayError
from antiphon.live import Said, Setup, Text
from antiphon.local import EngineFailed, EngineProcess
from loopback_brain import chat_server, says
from loopback_engine import METHOD, ClientMessage, ServerMessage


@asynccontextmanager
async def running(engine: EngineProcess) -> AsyncIterator[EngineProcess]:
    """Run the engine's supervisor until the end of the block."""
    task = asyncio.create_task(engine.run())
    try:
        async with asyncio.timeout(60):
            await engine.wait_ready()
        yield engine
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def answers(channel: grpc.aio.Channel) -> bool:
    """Whether the engine sets up a conversation."""
    call = channel.stream_stream(
        METHOD, request_serializer=None, response_deserializer=ServerMessage.FromString
    )(wait_for_ready=True, timeout=20)
    await call.write(ClientMessage(setup={"model": "models/any"}).SerializeToString())
    message = await call.read()
    call.cancel()
    return bool(message.HasField("setup_complete"))


async def gone(process: psutil.Process) -> bool:
    """Wait until a process has ended; return whether it did."""
    with suppress(TimeoutError):
        async with asyncio.timeout(10):
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:  # of others
                await asyncio.sleep(0.02)
            return True
    return False


async def test_without_models_it_fails_with_the_engines_own_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "MAX_FAILED_STARTS", 2)
    engine = EngineProcess(models_dir=tmp_path)
    with pytest.raises(EngineFailed, match="antiphon models pull"):
        await engine.run()
    assert not engine.ready
    assert engine.pid is None


async def test_an_engine_that_does_not_become_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "READY_TIMEOUT_S", 0.05)
    engine = EngineProcess()
    with pytest.raises(EngineFailed, match="not ready after"):
        await engine.run()
    assert engine.pid is None


def test_without_a_free_port_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(local, "_PORTS", range(port, port + 1))
        with pytest.raises(EngineFailed, match="No free port"):
            EngineProcess()


@pytest.mark.speech
async def test_it_runs_until_cancelled_and_then_stops_in_order() -> None:
    async with running(EngineProcess()) as engine:
        assert engine.ready
        assert engine.target.startswith("127.0.0.1:")
        assert engine.pid
        process = psutil.Process(engine.pid)
    assert await gone(process)
    assert not engine.ready


async def test_a_brain_that_is_none_is_told_of_before_the_engine_starts() -> None:
    with pytest.raises(ConfigError, match="The brain 'ollama' is neither builtin nor the URL"):
        await node.upstream(Config(upstream="local", engine_brain="ollama")).__aenter__()


@pytest.mark.speech
async def test_the_brain_of_the_settings_answers() -> None:
    async with chat_server(says("I sell tea.")) as server:
        settings = Config(upstream="local", engine_brain=server.url, engine_brain_model="large")
        async with node.upstream(settings) as (gemini, ready), asyncio.timeout(60):
            while not ready():
                await asyncio.sleep(0.01)
            async with gemini.connect(Setup("en-US")) as stream:
                await stream.send(Text("What do you sell?"))
                said = await anext(event async for event in stream if isinstance(event, Said))
    assert said.text == "I sell tea."
    assert server.asked[-1]["model"] == "large"


@pytest.mark.speech
async def test_a_prepared_process_is_taken_over() -> None:
    engine = EngineProcess()
    others = set(psutil.Process().children())
    async with engine.prepared():
        (prepared,) = set(psutil.Process().children()) - others
        async with running(engine):
            assert engine.pid == prepared.pid
    assert await gone(prepared)


async def test_a_prepared_process_that_nobody_wants_is_stopped(tmp_path: Path) -> None:
    others = set(psutil.Process().children())
    async with EngineProcess(models_dir=tmp_path).prepared():
        (prepared,) = set(psutil.Process().children()) - others
    assert await gone(prepared)


@pytest.mark.speech
async def test_the_settings_say_how_many_conversations_there_may_be() -> None:
    settings = Config(upstream="local", engine_conversations=1)
    async with node.upstream(settings) as (gemini, ready), asyncio.timeout(60):
        while not ready():
            await asyncio.sleep(0.01)
        async with gemini.connect(Setup("en-US")):
            with pytest.raises(GatewayError) as caught:
                await gemini.connect(Setup("en-US")).__aenter__()
            assert caught.value.code is ErrorCode.UPSTREAM_BUSY


@pytest.mark.speech
async def test_killed_it_is_started_again_on_the_same_address() -> None:
    async with (
        running(EngineProcess()) as engine,
        grpc.aio.insecure_channel(engine.target) as channel,
    ):
        assert await answers(channel)
        first = engine.pid
        assert first
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(60):
            while engine.ready and engine.pid == first:
                await asyncio.sleep(0.01)
            await engine.wait_ready()
        assert engine.pid != first
        assert await answers(channel)


@pytest.mark.speech
async def test_an_engine_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "STOP_TIMEOUT_S", 0.2)
    async with running(EngineProcess()) as engine:
        assert engine.pid
        process = psutil.Process(engine.pid)
        os.kill(engine.pid, signal.SIGSTOP)
    assert await gone(process)


@pytest.mark.speech
async def test_the_engine_does_not_outlive_a_supervisor_that_is_killed() -> None:
    program = (
        "import asyncio\n"
        "from antiphon.local import EngineProcess\n"
        "async def main():\n"
        "    engine = EngineProcess()\n"
        "    running = asyncio.create_task(engine.run())\n"
        "    await engine.wait_ready()\n"
        "    print(engine.pid, flush=True)\n"
        "    await running\n"
        "asyncio.run(main())\n"
    )
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout
    async with asyncio.timeout(60):
        pid = int(await supervisor.stdout.readline())
    engine = psutil.Process(pid)
    supervisor.kill()
    await supervisor.wait()
    assert await gone(engine)
