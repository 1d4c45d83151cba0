"""Clients that vanish, stall, flood or do not read: each ends, and takes nothing with it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable

import pytest
from websockets.server import ServerProtocol

from antiphon.bridge import MAX_UNREAD_BYTES
from antiphon.server import TURN_BYTES
from fake_gemini import Conversation, attentive
from gateway.raw_socket import CLOSE, CONT, PING, PONG, TEXT, UPGRADE, RawSocket, frame, raw_socket, request
from gateway.running import Gateway, running_gateway
from gateway.talker import chunk, message, talking

START = {"sampleRate": 16000, "format": "LINEAR16", "language": "en-US"}

Stage = Callable[[Gateway, RawSocket], Awaitable[None]]
Leave = Callable[[RawSocket], None]


def text(kind: str, **fields: object) -> bytes:
    return frame(TEXT, message(kind, **fields).encode())


async def until_read(raw: RawSocket) -> None:
    """Wait until the gateway has taken all that was sent."""
    raw.send(frame(PING, b"here"))
    while (await raw.receive())[1] != b"here":
        pass


# ---- how far a client has come when it leaves


async def connecting(gateway: Gateway, raw: RawSocket) -> None:
    raw.send(request("/ws", UPGRADE)[:40])
    await asyncio.sleep(0.05)


async def unauthenticated(gateway: Gateway, raw: RawSocket) -> None:
    await raw.upgrade()


async def authenticated(gateway: Gateway, raw: RawSocket) -> None:
    await raw.upgrade()
    raw.send(text("auth", token=gateway.token()))
    await raw.receive()


async def in_mid_frame(gateway: Gateway, raw: RawSocket) -> None:
    await authenticated(gateway, raw)
    raw.send(frame(TEXT, b"{", fin=False) + frame(CONT, b"half", announced=8))


async def opening(gateway: Gateway, raw: RawSocket) -> None:
    await authenticated(gateway, raw)
    raw.send(text("audio_stream_start", config=START) + frame(TEXT, chunk(0, bytes(3200)).encode()))
    await until_read(raw)


async def speaking(gateway: Gateway, raw: RawSocket) -> None:
    await opening(gateway, raw)
    async with asyncio.timeout(5):
        while not (gateway.upstream.conversations and gateway.upstream.conversations[0].heard):
            await asyncio.sleep(0.01)


async def listening(gateway: Gateway, raw: RawSocket) -> None:
    await authenticated(gateway, raw)
    raw.send(text("command", command="tell me a story"))
    while b"audio_response" not in (await raw.receive())[1]:
        pass


async def closing(gateway: Gateway, raw: RawSocket) -> None:
    await authenticated(gateway, raw)
    raw.send(frame(CLOSE, struct.pack(">H", 1001)))


STAGES = [connecting, unauthenticated, authenticated, in_mid_frame, opening, speaking, listening, closing]


async def storyteller(conversation: Conversation) -> None:
    """Tell a long story to whoever asks for it, and answer others as usual."""
    await conversation.begin()
    while True:
        received = await conversation.receive()
        if received.realtime_input.text == "tell me a story":
            await conversation.say("Once upon a time", bytes(480_000))
        elif received.realtime_input.text or received.realtime_input.audio_stream_end:
            await conversation.say("Yes.", bytes(4800))


@pytest.mark.parametrize("leave", [RawSocket.reset, RawSocket.half_close], ids=["reset", "FIN"])
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: str(stage.__name__))
async def test_a_client_that_vanishes_leaves_nothing(stage: Stage, leave: Leave) -> None:
    async with running_gateway(storyteller) as gateway:
        async with raw_socket(gateway.port) as raw:
            await stage(gateway, raw)
            leave(raw)
            async with asyncio.timeout(2):
                while gateway.admission.sessions or gateway.upstream.open or gateway.server.connections:
                    await asyncio.sleep(0.01)
        async with talking(gateway) as talker:
            await talker.answered()


# ---- clients that do not read


def close_within(monkeypatch: pytest.MonkeyPatch, delay_s: float) -> None:
    for module in ("server", "asgi.websocket"):
        monkeypatch.setattr(f"antiphon.{module}.CLOSE_TIMEOUT_S", delay_s)


async def unread(gateway: Gateway) -> int:
    """Return the most that ever waited for a client in the gateway's memory, while the session lasts."""
    most = 0
    async with asyncio.timeout(20):
        while gateway.admission.sessions:
            most = max(most, gateway.connections[0].unread_bytes)
            await asyncio.sleep(0.005)
    return most


async def chatty(conversation: Conversation) -> None:
    """Transcribe without end."""
    await conversation.begin()
    await conversation.receive()
    while True:
        await conversation.hear("blah " * 200)


async def test_a_client_that_does_not_read_is_cut() -> None:
    async with running_gateway(chatty) as gateway, raw_socket(gateway.port, 4096) as raw:
        await authenticated(gateway, raw)
        raw.stop_reading()
        raw.send(text("command", command="talk"))
        assert await unread(gateway) < MAX_UNREAD_BYTES * 2
        raw.start_reading()
        last: list[tuple[int, bytes]] = []
        received = 0
        while not last or last[-1][0] != CLOSE:
            last = [*last[-1:], await raw.receive()]
            received += len(last[-1][1])
        assert received > MAX_UNREAD_BYTES, "so much was kept for it before it was cut"
        assert b"SESSION_CLIENT_SLOW" in last[0][1]
        assert last[1][1][:2] == struct.pack(">H", 4413)
        await gateway.deserted()


@pytest.mark.interpreted
async def test_a_client_that_never_reads_again_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    close_within(monkeypatch, 0.2)
    async with running_gateway(chatty) as gateway, raw_socket(gateway.port, 4096) as raw:
        await authenticated(gateway, raw)
        raw.stop_reading()
        raw.send(text("command", command="talk"))
        await unread(gateway)
        async with asyncio.timeout(2):
            while gateway.server.connections:
                await asyncio.sleep(0.01)


@pytest.mark.interpreted
@pytest.mark.own_socket
async def test_a_client_that_pings_and_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    close_within(monkeypatch, 0.5)
    async with running_gateway() as gateway, raw_socket(gateway.port, 4096) as raw:
        await authenticated(gateway, raw)
        raw.stop_reading()
        most = 0
        flood = frame(PING, bytes(125)) * 2000
        async with asyncio.timeout(20):
            while gateway.server.connections:
                raw.send(flood)
                await asyncio.sleep(0.001)
                most = max(most, gateway.connections[0].unread_bytes)
        assert most < MAX_UNREAD_BYTES * 2


@pytest.mark.interpreted
@pytest.mark.own_socket
async def test_a_client_that_half_closes_and_does_not_read_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    close_within(monkeypatch, 0.2)

    enough = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        while not enough.is_set():
            await conversation.hear("blah " * 200)
            await asyncio.sleep(0.002)
        await conversation.until_gone()

    async with running_gateway(script) as gateway, raw_socket(gateway.port, 4096) as raw:
        await authenticated(gateway, raw)
        raw.stop_reading()
        raw.send(text("command", command="talk"))
        async with asyncio.timeout(5):
            while gateway.connections[0].unread_bytes < 100_000:
                await asyncio.sleep(0.002)
        enough.set()
        raw.half_close()
        async with asyncio.timeout(2):
            while gateway.server.connections or gateway.admission.sessions:
                await asyncio.sleep(0.01)


async def test_a_client_that_reads_slowly_enough_is_served() -> None:
    """A second's pause is no reason to cut a listener."""
    async with running_gateway(storyteller) as gateway, raw_socket(gateway.port, 4096) as raw:
        await authenticated(gateway, raw)
        raw.stop_reading()
        raw.send(text("command", command="tell me a story"))
        await asyncio.sleep(1)
        raw.start_reading()
        heard_ms = 0.0
        while heard_ms < 1500:
            heard_ms += (await raw.message())["duration"]


# ---- clients that do not stop


async def test_one_client_that_floods_does_not_stop_another() -> None:
    async with running_gateway() as gateway, talking(gateway) as talker, raw_socket(gateway.port) as raw:
        await authenticated(gateway, raw)
        raw.send(text("audio_stream_start", config=START))

        async def flood() -> None:
            sequence = 0
            while True:
                raw.send(frame(TEXT, chunk(sequence, bytes(32_000)).encode()))
                sequence += 1
                await raw.writer.drain()

        async with asyncio.TaskGroup() as tasks:
            flooding = tasks.create_task(flood())
            for _ in range(3):
                async with asyncio.timeout(5):
                    await talker.answered()
            flooding.cancel()


@pytest.mark.interpreted
@pytest.mark.own_socket
async def test_a_client_that_goes_on_after_its_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    close_within(monkeypatch, 0.3)
    async with running_gateway(attentive) as gateway, raw_socket(gateway.port) as raw:
        await raw.upgrade()
        raw.send(text("auth", token="no token"))
        raw.send(text("command", command="still here") * 200)
        error = await raw.message()
        assert error["code"] == "AUTH_TOKEN_INVALID"
        assert (await raw.receive())[0] == CLOSE
        await raw.ended(2)
    assert not gateway.upstream.conversations


async def test_a_server_that_stops_does_not_wait_for_clients_that_stall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("antiphon.front.STOP_TIMEOUT_S", 0.3)
    async with (
        running_gateway(chatty) as gateway,
        raw_socket(gateway.port) as connecting_client,
        raw_socket(gateway.port, 4096) as deaf,
    ):
        await connecting(gateway, connecting_client)
        await authenticated(gateway, deaf)
        deaf.stop_reading()
        deaf.send(text("command", command="talk"))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(2):
            await gateway.server.stop()
        assert not gateway.server.connections


FLOODS = {
    "pings": frame(PING) * 60_000,
    "pongs": frame(PONG) * 60_000,
    "fragments": frame(TEXT, fin=False) + frame(CONT, fin=False) * 60_000,
    "nonsense": frame(TEXT, b"{}") * 60_000,
}


@pytest.mark.own_socket
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
async def test_a_flood_of_small_frames_is_taken_by_turns(
    gateway: Gateway, flood: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much of it is parsed before others have their turn is bounded, whatever the event loop has read."""
    parsed = 0

    def receive_data(protocol: ServerProtocol, data: bytes) -> None:
        nonlocal parsed
        parsed += len(data)
        ServerProtocol.receive_data(protocol, data)

    monkeypatch.setattr("antiphon.server._WebSocket.receive_data", receive_data, raising=False)
    async with raw_socket(gateway.port) as raw:
        await raw.upgrade()
        raw.send(flood)
        turns = []
        async with asyncio.timeout(20):
            while parsed < 64 * 1024:
                seen = parsed
                await asyncio.sleep(0)
                turns.append(parsed - seen)
        # What is left of one turn and the next one may fall between two looks.
        assert max(turns) <= 2 * TURN_BYTES
