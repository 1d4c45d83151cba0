"""The engine's RPC, over real gRPC, with an ear that reads and a voice that hums."""

import argparse
import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.ai import generativelanguage_v1beta as official
from google.ai.generativelanguage_v1beta.services.generative_service.transports import (
    GenerativeServiceGrpcAsyncIOTransport,
)

from antiphon import transcription
from antiphon.engine import service
from antiphon.engine.brain import Brain
from antiphon.engine.memory import Handles
from antiphon.engine.playback import RATE_HZ
from antiphon.engine.server import BrainUnusable, CannotListen, add_arguments, listen, serving, thinking
from antiphon.engine.stream import Parts
from loopback_brain import chat_server, says
from loopback_engine import ALL, MODEL, Call, Engine, Hum, Reader, activity, engine, pcm, said, spoken

SILENCE = bytes(32_000)
PARTS = Parts(Reader, Hum(), Handles(), lambda: datetime(2026, 1, 1, tzinfo=UTC), 600.0)


def heard(messages: list[Any]) -> list[transcription.Hypothesis]:
    found = [
        transcription.decode(message.server_content.input_transcription)
        for message in messages
        if message.server_content.HasField("input_transcription")
    ]
    return [one for one in found if one]


def deltas(messages: list[Any]) -> str:
    return "".join(message.server_content.input_transcription.text for message in messages)


async def test_a_spoken_turn() -> None:
    async with engine() as running, running.call() as call:
        await call.setup()
        for word in ("Hello ", "there.", "\n"):
            await call.audio(pcm(word))
        messages = await call.turn()
    assert [one.whole for one in heard(messages)] == ["Hello", "Hello there.", "Hello there."]
    assert [one.final for one in heard(messages)] == [False, False, True]
    assert deltas(messages) == "Hello there."
    assert said(messages) == "Good morning! What can I do for you?"
    assert len(spoken(messages)) == 2 * int(0.2 * RATE_HZ)
    assert messages[-2].server_content.generation_complete
    assert messages[-1].usage_metadata.total_token_count > 0


async def test_the_end_of_the_stream_ends_the_utterance() -> None:
    async with engine() as running, running.call() as call:
        await call.setup()
        await call.audio(pcm("thanks"))
        await call.end_audio()
        assert said(await call.turn()) == "You're welcome."
        await call.audio(pcm("bye"))
        await call.end_audio()
        assert said(await call.turn()) == "Goodbye!"


async def test_a_command() -> None:
    async with engine() as running, running.call() as call:
        await call.setup()
        await call.audio(pcm("Skip this.\n"))
        messages = await call.until(lambda message: message.HasField("tool_call"))
        # The last transcription has the whole and is not final: the call makes it so.
        assert heard(messages[-2:]) == [transcription.Hypothesis("Skip this.", 0.75, final=False)]
        (function,) = messages[-1].tool_call.function_calls
        assert (function.name, dict(function.args)) == ("next", {})
        await call.result(function.id, {"output": "done"})
        assert said(await call.turn()) == "Okay, skip this."


async def test_a_typed_turn_and_a_silent_setup() -> None:
    async with engine() as running, running.call() as call:
        await call.setup(**MODEL)
        await call.type("thanks")
        messages = await call.turn()
        await call.audio(pcm("thanks\n"))
        messages += await call.turn()
    assert not any(message.HasField("session_resumption_update") for message in messages)
    assert (said(messages), deltas(messages)) == ("", "")
    assert len(spoken(messages)) == 2 * 2 * int(0.1 * RATE_HZ)


async def test_an_empty_stream_is_waited_out() -> None:
    async with engine() as running, running.call() as call:
        await call.setup(**MODEL)
        await call.audio(pcm("  "))
        await call.end_audio()
        messages = await call.until(lambda message: bool(message.server_content.waiting_for_input))
        assert activity(messages) == [(True, 0.0), (False, 0.0)]
        await call.end_audio()
        assert (await call.receive()).server_content.waiting_for_input


async def test_it_is_told_when_the_user_speaks() -> None:
    async with engine() as running, running.call() as call:
        await call.setup()
        await call.audio(pcm("x" * 160 + "\n" + "y" * 320 + "\n"))
        messages = await call.turn()
        messages += await call.turn()
    assert activity(messages) == [(True, 0.0), (False, 10.0), (True, 10.0), (False, 30.0)]


async def test_with_activity_signals_those_tell_when_the_user_speaks() -> None:
    manual = {"realtimeInputConfig": {"automaticActivityDetection": {"disabled": True}}}
    async with engine() as running, running.call() as call:
        await call.setup(**ALL, **manual)
        await call.audio(bytes(3 * 16_000), "audio/pcm;rate=48000")
        await call.send({"realtimeInput": {"activityStart": {}}})
        await call.audio(pcm("thanks"))
        await call.send({"realtimeInput": {"activityEnd": {}}})
        messages = await call.turn()
        assert [started for started, _ in activity(messages)] == [True, False]
        assert activity(messages)[0][1] == 500.0
        assert said(messages) == "You're welcome."


async def test_a_message_without_content_stops_the_answer() -> None:
    async with engine(voice=Hum(seconds=10.0)) as running, running.call() as call:
        await call.setup()
        await call.type("thanks")
        await call.answer()
        await call.send({"clientContent": {}})
        messages = await call.turn()
        assert messages[-2].server_content.interrupted
        assert activity(messages) == []


async def test_audio_of_another_rate_is_resampled() -> None:
    heard_bytes = 0

    class Counter(Reader):
        async def feed(self, audio: bytes) -> None:
            nonlocal heard_bytes
            heard_bytes += len(audio)

    async with engine(Counter) as running, running.call() as call:
        await call.setup(**MODEL)
        for rate in (16_000, 48_000, 8_000, 48_000):
            await call.audio(bytes(rate), f"audio/pcm;rate={rate}")
        await call.end_audio()
        await call.receive()
    # Half a second each.
    assert abs(heard_bytes - 4 * 16_000) <= 8


async def test_speech_interrupts_the_answer_at_once() -> None:
    voice = Hum(seconds=10.0)
    async with engine(voice=voice) as running, running.call() as call:
        await call.setup()
        await call.type("hello")
        await call.until(lambda message: message.server_content.HasField("model_turn"))
        voice.may_speak.clear()
        await call.audio(pcm("th"))
        messages = await call.turn()
        assert messages[-2].server_content.interrupted
        assert not any(message.server_content.generation_complete for message in messages)
        made = voice.pieces
        voice.may_speak.set()
        voice.seconds = 0.1
        await call.audio(pcm("anks\n"))
        assert said(await call.turn()) == "You're welcome."
        assert voice.pieces == made + 10
        assert voice.stopped == 1


async def test_an_answer_of_which_all_is_made_can_still_be_interrupted() -> None:
    async with engine(voice=Hum(seconds=10.0)) as running, running.call() as call:
        await call.setup()
        await call.type("thanks")
        await call.answer()
        await call.audio(pcm("next"))
        messages = await call.turn()
        assert messages[-2].server_content.interrupted


async def test_without_interruption_the_answer_goes_on() -> None:
    setup = {**ALL, "realtimeInputConfig": {"activityHandling": "NO_INTERRUPTION"}}
    async with engine(voice=Hum(seconds=0.3)) as running, running.call() as call:
        await call.setup(**setup)
        await call.type("thanks")
        await call.audio(pcm("bye\n"))
        assert said(await call.turn()) == "You're welcome."
        assert said(await call.turn()) == "Goodbye!"


async def test_the_clients_own_activity_signals() -> None:
    setup = {**ALL, "realtimeInputConfig": {"automaticActivityDetection": {"disabled": True}}}
    async with engine() as running, running.call() as call:
        await call.setup(**setup)
        await call.audio(pcm("ignored\n"))
        await call.send({"realtimeInput": {"activityStart": {}}})
        await call.audio(pcm("what\ntime is it"))
        await call.send({"realtimeInput": {"activityEnd": {}}})
        # Back to back: neither signal may overtake audio that was not heard yet.
        await call.send({"realtimeInput": {"activityStart": {}}})
        await call.audio(pcm("thanks"))
        await call.send({"realtimeInput": {"activityEnd": {}}})
        messages = await call.turn()
        messages += await call.turn()
    assert [one.whole for one in heard(messages) if one.final] == ["what time is it", "thanks"]
    assert said(messages).endswith("You're welcome.")


async def test_history_is_remembered() -> None:
    async with engine() as running, running.call() as call:
        await call.setup(**ALL)
        turns = [{"role": "user", "parts": [{"text": "My name is Ann."}]}]
        await call.send({"clientContent": {"turns": turns}})
        await call.send(
            {"clientContent": {"turns": [{"parts": [{"text": "What did I say?"}]}], "turnComplete": True}}
        )
        assert said(await call.turn()) == "You said: My name is Ann."


async def test_many_conversations_at_once_do_not_mix() -> None:
    async with engine() as running:

        async def talk(number: int) -> str:
            async with running.call() as call:
                await call.setup()
                await call.audio(pcm(f"number {number}\n"))
                return said(await call.turn())

        answers = await asyncio.gather(*(talk(number) for number in range(40)))
    assert answers == [f"I heard: number {number}." for number in range(40)]


# ---- the official client


async def test_the_official_client_holds_a_conversation() -> None:
    async with engine() as running:
        transport = GenerativeServiceGrpcAsyncIOTransport(channel=running.channel)
        client = official.GenerativeServiceAsyncClient(transport=transport)
        answered = asyncio.Event()

        async def requests() -> AsyncIterator[official.BidiGenerateContentClientMessage]:
            yield official.BidiGenerateContentClientMessage(
                setup=official.BidiGenerateContentSetup(
                    model="models/gemini-3.8-live",
                    generation_config=official.GenerationConfig(
                        response_modalities=[official.GenerationConfig.Modality.AUDIO]
                    ),
                    input_audio_transcription=official.AudioTranscriptionConfig(),
                    output_audio_transcription=official.AudioTranscriptionConfig(),
                )
            )
            yield official.BidiGenerateContentClientMessage(
                realtime_input=official.BidiGenerateContentRealtimeInput(
                    audio=official.Blob(mime_type="audio/pcm;rate=16000", data=pcm("thanks\n"))
                )
            )
            await answered.wait()

        said_text = ""
        heard_text = ""
        audio = b""
        stream = await client.bidi_generate_content(requests=requests())
        async for message in stream:
            content = message.server_content
            said_text += content.output_transcription.text
            heard_text += content.input_transcription.text
            audio += b"".join(part.inline_data.data for part in content.model_turn.parts)
            if content.turn_complete:
                answered.set()
    assert (heard_text, said_text) == ("thanks", "You're welcome.")
    assert audio


async def test_a_client_that_sends_no_more_gets_its_answer_and_status_ok() -> None:
    async with engine(voice=Hum(seconds=60.0)) as running, running.call() as call:
        await call.setup()
        await call.audio(pcm("thanks"))
        await call.call.done_writing()
        assert said(await call.turn()) == "You're welcome."
        await call.handle()
        with pytest.raises(EOFError):
            await call.receive()
        assert await call.status() == ("OK", "")


async def test_a_client_that_sends_no_more_while_a_function_is_called() -> None:
    async with engine() as running, running.call() as call:
        await call.setup(**{**ALL, "sessionResumption": None})
        await call.type("next")
        await call.call.done_writing()
        messages = await call.turn()
        assert [message.WhichOneof("message_type") for message in messages] == [
            "tool_call",
            "tool_call_cancellation",
            "server_content",
        ]
        assert (await call.status())[0] == "OK"


# ---- what cannot be


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"setup": {}}, "setup.model is missing."),
        ({"realtimeInput": {"text": "hi"}}, "The first message must be a setup."),
        ({"toolResponse": {}}, "The first message must be a setup."),
        ({}, "neither setup"),
    ],
)
async def test_what_cannot_be_first(message: dict[str, Any], sentence: str) -> None:
    async with engine() as running, running.call() as call:
        await call.send(message)
        status, details = await call.status()
    assert status == "INVALID_ARGUMENT"
    assert sentence in details


async def test_nothing_at_all_is_no_setup() -> None:
    async with engine() as running, running.call() as call:
        await call.call.done_writing()
        assert await call.status() == ("INVALID_ARGUMENT", "The first message must be a setup.")


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"setup": MODEL}, "only once"),
        ({"realtimeInput": {"activityStart": {}}}, "automatic_activity_detection.disabled"),
        ({"realtimeInput": {"mediaChunks": [{"mimeType": "audio/pcm", "data": "AAE="}]}}, "media_chunks"),
        ({"realtimeInput": {"audio": {"mimeType": "audio/pcm;rate=1", "data": "AAE="}}}, "8000 to 48000"),
        ({"realtimeInput": {"audio": {"mimeType": "audio/pcm", "data": "AA=="}}}, "whole samples"),
        ({"realtimeInput": {"audio": {"mimeType": "audio/pcm", "data": ""}}}, "whole samples"),
        ({"clientContent": {"turns": [{"role": "root"}]}}, "user or model"),
        ({}, "neither setup"),
    ],
)
async def test_what_cannot_be_later(message: dict[str, Any], sentence: str) -> None:
    async with engine() as running, running.call() as other, running.call() as call:
        await other.setup()
        await call.setup()
        await call.send(message)
        status, details = await call.status()
        assert status == "INVALID_ARGUMENT"
        assert sentence in details
        # It is nobody else's concern.
        await other.type("thanks")
        assert said(await other.turn()) == "You're welcome."


async def test_bytes_that_are_no_message() -> None:
    async with engine() as running:
        for setup in (True, False):
            async with running.call() as call:
                if setup:
                    await call.setup()
                await call.call.write(b"\xff\xff\xff")
                assert (await call.status())[0] == "INVALID_ARGUMENT"


async def test_a_message_that_is_too_large() -> None:
    async with engine() as running, running.call() as call:
        await call.setup()
        await call.audio(bytes(4 * 1024 * 1024 + 2))
        assert (await call.status())[0] == "RESOURCE_EXHAUSTED"


async def test_a_client_that_never_sends_a_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SETUP_TIMEOUT_S", 0.05)
    async with engine() as running, running.call() as call:
        assert await call.status() == ("DEADLINE_EXCEEDED", "No setup came in time.")


# ---- limits


async def test_so_many_conversations_and_no_more() -> None:
    async with engine(max_conversations=2) as running, running.call() as first, running.call() as second:
        await first.setup()
        await second.setup()
        async with running.call() as third:
            await third.send({"setup": ALL})
            status, details = await third.status()
        assert status == "RESOURCE_EXHAUSTED"
        assert "2 conversations" in details
        second.call.cancel()
        await _eventually_set_up(running)
        await first.type("thanks")
        assert said(await first.turn()) == "You're welcome."


async def _eventually_set_up(running: Engine) -> None:
    """Open a call once the place of one that was left is free."""
    async with asyncio.timeout(10):
        while True:
            async with running.call() as call:
                try:
                    await call.setup()
                except (asyncio.InvalidStateError, grpc.aio.AioRpcError, EOFError):
                    continue
                return


async def test_a_client_that_does_not_read_stops_the_voice_not_the_server() -> None:
    voice = Hum(seconds=600.0)
    async with engine(voice=voice) as running, running.call() as slow, running.call() as other:
        await slow.setup()
        await slow.type("thanks")
        await other.setup()
        made = -1
        while made != voice.pieces:
            made = voice.pieces
            await asyncio.sleep(0.2)
        # A minute of audio is 2.9 MB; gRPC takes a few, and the rest is not made.
        assert 0 < made < 10
        voice.seconds = 0.1
        await other.type("thanks")
        assert said(await other.turn()) == "You're welcome."


async def test_a_deaf_ear_holds_up_the_client() -> None:
    may_hear = asyncio.Event()

    class Deaf(Reader):
        async def feed(self, audio: bytes) -> None:
            await may_hear.wait()
            if audio != SILENCE:
                await super().feed(audio)

    async with engine(Deaf) as running, running.call() as call:
        await call.setup()
        sent_s = 0

        async def send() -> None:
            nonlocal sent_s
            for _ in range(600):
                await call.audio(SILENCE)
                sent_s += 1
            await call.audio(pcm("thanks\n"))

        sending = asyncio.create_task(send())
        before = -1
        while before != sent_s:
            before = sent_s
            await asyncio.sleep(0.2)
        assert 60 <= sent_s < 400
        may_hear.set()
        await sending
        assert said(await call.turn()) == "You're welcome."


# ---- resumption


async def test_a_conversation_goes_on_with_its_handle() -> None:
    async with engine() as running:
        async with running.call() as first:
            await first.setup()
            await first.handle()
            await first.type("My name is Ann.")
            messages = await first.turn()
            updates = [
                m.session_resumption_update for m in messages if m.HasField("session_resumption_update")
            ]
            assert [(one.resumable, one.new_handle) for one in updates] == [(False, "")]
            handle = await first.handle()
        async with running.call() as second:
            await second.setup(**{**ALL, "sessionResumption": {"handle": handle}})
            assert await second.handle() != handle
            await second.type("What did I say?")
            assert said(await second.turn()) == "You said: My name is Ann."


async def test_a_handle_is_refused_while_its_connection_is_open() -> None:
    async with engine() as running, running.call() as first:
        await first.setup()
        handle = await first.handle()
        async with running.call() as second:
            await second.send({"setup": {**ALL, "sessionResumption": {"handle": handle}}})
            status, details = await second.status()
            assert status == "FAILED_PRECONDITION"
            assert "still connected" in details
        async with running.call() as third:
            await third.send({"setup": {**ALL, "sessionResumption": {"handle": handle}}})
            await asyncio.sleep(0.05)
            first.call.cancel()
            assert (await third.receive()).HasField("setup_complete")


async def test_a_handle_that_nobody_was_given() -> None:
    async with engine() as running, running.call() as call:
        await call.send({"setup": {**ALL, "sessionResumption": {"handle": "guess"}}})
        status, details = await call.status()
        assert status == "NOT_FOUND"
        assert "handle" in details


# ---- the end


async def test_the_longest_connection_is_announced_and_ends_as_aborted() -> None:
    async with engine(max_connection_s=0.4) as running, running.call() as call:
        await call.setup(**MODEL)
        announced = (await call.receive()).go_away.time_left.ToMilliseconds()
        assert 0 < announced <= 200
        with pytest.raises(grpc.aio.AioRpcError):
            await call.receive()
        assert await call.status() == ("ABORTED", "The connection has reached its longest duration.")


async def test_stopping_announces_the_end_and_then_ends() -> None:
    server, port = listen("127.0.0.1", 0)
    client = Engine(port)
    async with client.call() as call, client.call() as late:
        async with serving(server, PARTS, 2):
            await call.setup(**MODEL)
            await late.call.wait_for_connection()
            leaving = asyncio.create_task(_announced_and_status(call, late))
        assert await leaving == (
            3_000,
            ("UNAVAILABLE", "The server is stopping."),
            ("ABORTED", "The server is stopping."),
        )
    await client.channel.close()


async def _announced_and_status(call: Call, late: Call) -> tuple[int, tuple[str, str], tuple[str, str]]:
    announced = (await call.receive()).go_away.time_left.ToMilliseconds()
    await late.send({"setup": MODEL})
    return announced, await late.status(), await call.status()


async def test_what_a_client_leaves_behind_goes_with_it() -> None:
    async with engine(voice=Hum(seconds=600.0)) as running:
        before = len(asyncio.all_tasks())
        for state in ("setup", "hearing", "calling", "speaking"):
            for _ in range(5):
                async with running.call() as call:
                    await call.setup()
                    if state == "hearing":
                        await call.audio(pcm("hello"))
                    elif state == "calling":
                        await call.type("next")
                        await call.until(lambda message: message.HasField("tool_call"))
                    elif state == "speaking":
                        await call.type("thanks")
                        await call.until(lambda message: message.server_content.HasField("model_turn"))
            await _settled(before + 1)
        gc.collect()
        assert not [one for one in gc.get_objects() if type(one).__name__ == "Conversation"]


async def _settled(tasks: int) -> None:
    """Wait until no more than so many tasks are left."""
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > tasks:  # tasks of the server end without an event
            await asyncio.sleep(0.01)


async def test_a_port_in_use_is_told_of() -> None:
    async with engine() as running:
        port = int(running.target.rpartition(":")[2])
        with pytest.raises(CannotListen, match=f"Port {port}"):
            listen("127.0.0.1", port)


async def test_who_connects_before_the_server_serves_is_served_then() -> None:
    server, port = listen("127.0.0.1", 0)
    early = Engine(port)
    async with early.call() as call:
        setting_up = asyncio.create_task(call.setup())
        await asyncio.sleep(0.05)
        assert not setting_up.done()
        async with serving(server, PARTS, 1):
            await setting_up
            call.call.cancel()
    await early.channel.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "70000"],
        ["--port", "http"],
        ["--max-conversations", "0"],
        ["--max-connection-s", "nan"],
        ["--workers", "-1"],
    ],
)
def test_flags_that_cannot_be(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    assert f"argument {arguments[0]}: " in capsys.readouterr().err


def test_flags() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["--port", "0", "--max-connection-s", "2.5", "--workers", "1"])
    assert (args.host, args.port, args.max_connection_s, args.workers) == ("127.0.0.1", 0, 2.5, 1)
    assert (args.max_conversations, args.models_dir, args.exit_with_parent) == (None, None, False)
    assert (args.brain, args.brain_model) == ("builtin", "")


def brain_of(*arguments: str) -> AbstractAsyncContextManager[Brain | None]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return thinking(parser.parse_args(arguments))


async def test_a_brain_is_woken_with_its_key_and_need_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with brain_of() as brain:
        assert brain is None
    monkeypatch.setenv("ANTIPHON_BRAIN_KEY", "secret")
    async with chat_server(says("Hello!")) as server:
        async with brain_of(f"--brain={server.url}", "--brain-model=large"), asyncio.timeout(10):
            while not server.asked:
                await asyncio.sleep(0.001)
        assert "Bearer secret" in server.heads[0]
        assert server.asked[0]["model"] == "large"
    async with brain_of("--brain", server.url) as brain:
        assert brain


async def test_a_brain_that_cannot_be_used_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrainUnusable, match="neither builtin nor"):
        await brain_of("--brain=ollama").__aenter__()
    monkeypatch.setenv("ANTIPHON_BRAIN_KEY", "two words")
    with pytest.raises(BrainUnusable, match="ANTIPHON_BRAIN_KEY"):
        await brain_of("--brain=http://localhost:1").__aenter__()
