"""The generator of the load, before upstreams whose answers are known."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from antiphon.load import Generator, Limits, LoadError, Measurement, Target, Voice, judge
from antiphon.load.speech import noise
from antiphon.load.turns import Turns, take_turns
from bench import replies
from bench.websocket_upstream import WebSocketUpstream

from .hosting import hosted

PCM = noise(0.5)


@asynccontextmanager
async def upstream(answer: bytes | None = None) -> AsyncIterator[str]:
    async with hosted(lambda: WebSocketUpstream(answer)) as port:
        yield f"ws://127.0.0.1:{port}/ws"


@asynccontextmanager
async def gateway(answer: Callable[[int], list[str]]) -> AsyncIterator[str]:
    """A gateway that sends to each chunk, by its number, what `answer` says."""

    async def talk(client: ServerConnection) -> None:
        async for text in client:
            message = json.loads(text)
            if message["type"] == "auth":
                await client.send('{"type": "auth_success"}')
            if message["type"] == "audio_chunk":
                for frame in answer(message["sequence"]):
                    await client.send(frame)

    async with serve(talk, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"


def result(text: str, *, final: bool = False) -> str:
    return json.dumps({"type": "recognition_result", "transcript": text, "isFinal": final})


async def measured(target: Target, sessions: int = 5, seconds: float = 1.0) -> Measurement:
    async with Generator(target, Voice(PCM)) as load:
        await load.resize(sessions)
        return await load.measure(seconds, settle_s=0.2)


async def test_every_chunk_is_answered_by_its_number() -> None:
    async with upstream() as url:
        found = await measured(Target(url, ("t",)), sessions=20)
    assert 195 <= found.due <= 205
    assert found.answered == found.due == found.latency.count == found.lateness.count
    assert (found.skipped, found.errors) == (0, {})
    assert 0 < found.latency.percentile(0.5) < 1.0


async def test_every_chunk_is_answered_by_audio() -> None:
    async with upstream(replies.audio_text(bytes(4800))) as url:
        found = await measured(Target(url, ("t",), answers="audio"))
    assert found.answered == found.due > 40
    async with upstream(replies.audio_text(bytes(2400))) as url:
        found = await measured(Target(url, ("t",), answers="audio"))
    assert found.latency.percentile(0.9) > 0.3  # each takes two pieces, so the answers fall behind


async def test_answers_that_are_lost_are_seen() -> None:
    async with gateway(lambda number: [] if number == 5 else [result(str(number))]) as url:
        found = await measured(Target(url, ("t",)), sessions=3, seconds=1.5)
    assert found.skipped == 3
    assert judge(found, Limits(p99_s=1.0)).passed is False


async def test_answers_that_come_twice_count_once() -> None:
    async with gateway(lambda number: [result(str(number))] * 2) as url:
        found = await measured(Target(url, ("t",)))
    assert found.answered == found.due


async def test_latency_counts_from_when_a_chunk_was_due() -> None:
    async with upstream() as url, Generator(Target(url, ("t",)), Voice(PCM)) as load:
        await load.resize(5)
        measuring = asyncio.create_task(load.measure(1.0))
        await asyncio.sleep(0.3)
        # The generator itself stands still, as a busy machine may let it.
        time.sleep(0.2)  # noqa: ASYNC251
        found = await measuring
    assert found.latency.most_s > 0.15
    assert found.lateness.most_s > 0.15
    assert 48 <= found.due <= 52  # what was due meanwhile was sent all the same


async def test_errors_are_counted_by_their_code() -> None:
    refusal = json.dumps({"type": "error", "code": "UPSTREAM_LOST", "message": "It is gone."})
    async with gateway(lambda number: [result(str(number)), *([refusal] if number == 5 else [])]) as url:
        found = await measured(Target(url, ("t",)), sessions=2)
    assert found.errors == {"UPSTREAM_LOST": 2}


async def test_a_connection_that_is_lost() -> None:
    def fail(number: int) -> list[str]:
        if number == 3:
            raise ValueError("it breaks")
        return [result(str(number))]

    async with gateway(fail) as url:
        found = await measured(Target(url, ("t",)), sessions=2)
    assert found.errors == {"closed with 1011": 2}
    assert found.answered < found.due


async def test_acknowledgements_answer_all_up_to_them() -> None:
    acks = {"type": "audio_ack", "windowMs": 1, "stream": 1}

    async def talk(client: ServerConnection) -> None:
        async for text in client:
            message = json.loads(text)
            if message["type"] == "auth":
                await client.send('{"type":"auth_success"}')
            if message["type"] == "audio_chunk" and message["sequence"] % 3 == 2:
                await client.send(json.dumps({**acks, "sequence": message["sequence"]}))

    async with serve(talk, "127.0.0.1", 0, subprotocols=["antiphon.v1"]) as server:  # type: ignore[list-item]
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"
        found = await measured(Target(url, ("t",), extended=True, answers="ack"))
    assert found.answered == found.due
    assert 0.15 < found.latency.most_s < 1.0


async def test_sessions_come_and_go() -> None:
    async with upstream() as url, Generator(Target(url, ("t",)), Voice(PCM)) as load:
        for sessions in (3, 10, 4):
            await load.resize(sessions)
            found = await load.measure(0.5, settle_s=0.1)
            assert (load.sessions, found.answered) == (sessions, found.due)
            assert abs(found.due - sessions * 5) <= sessions
        assert load.lost == 0
        assert load.set_up.count == 10


async def test_turns() -> None:
    """The final transcript and the audio come 0.1 and 0.3 s after the end of what was said."""

    async def talk(client: ServerConnection) -> None:
        async for text in client:
            match json.loads(text)["type"]:
                case "auth":
                    await client.send('{"type":"auth_success"}')
                case "audio_stream_end":
                    await asyncio.sleep(0.1)
                    await client.send(result("go", final=True))
                    await asyncio.sleep(0.2)
                    await client.send(replies.audio_text(bytes(4800)).decode())

    turns = Turns()
    async with serve(talk, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"
        async with Generator(Target(url, ("t",), answers="none"), Voice(PCM)) as load:
            await load.resize(2, speaking=False)
            await take_turns(load, 5, 0.5, turns)
    assert (turns.said, turns.unanswered) == (2, 0)
    assert 0.1 <= turns.to_final.percentile(0.0) <= turns.to_final.most_s < 1.0
    assert 0.3 <= turns.to_audio.percentile(0.0) <= turns.to_audio.most_s < 1.0


async def test_nothing_listens() -> None:
    async with Generator(Target("ws://127.0.0.1:1/ws", ("t",)), Voice(PCM)) as load:
        with pytest.raises(LoadError, match=r"^Nothing listens at ws://127.0.0.1:1/ws; is the gateway"):
            await load.resize(3)


async def test_no_websocket_server() -> None:
    async def serve_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"code":"DRAINING","message":"It stops."}')
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve_http, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        async with Generator(Target(url, ("t",)), Voice(PCM)) as load:
            with pytest.raises(LoadError, match=r"answered with 503, not 101. It stops\."):
                await load.resize(1)


async def test_a_gateway_without_extensions() -> None:
    async with (
        gateway(lambda _: []) as url,
        Generator(Target(url, ("t",), extended=True), Voice(PCM)) as load,
    ):
        with pytest.raises(LoadError, match="does not speak antiphon"):
            await load.resize(1)
