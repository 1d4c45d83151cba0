"""The Python client loses its connection, at every kind of moment, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import pytest
from msgspec import UNSET

from antiphon import extension, messages
from antiphon.client import (
    AuthorizationLost,
    Client,
    Closed,
    NotAuthorized,
    Reconnect,
    SessionLost,
    connect,
    link,
    tokens,
)
from antiphon.client.tools import MAX_CALLS
from antiphon.extension import AudioAck, Resumed, ServerMessage, SpeechStarted
from antiphon.messages import AudioResponse, Error
from scripted_gateway import EXTENDED, Peer, scripted_gateway
from unit.resuming_gateway import ResumingGateway, lose, refusing, resuming_gateway

QUICK: Final = Reconnect(delays_s=(0.0, 0.02), give_up_s=5.0)


@asynccontextmanager
async def session(
    token: Any = "a token", info: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[ResumingGateway, Client]]:
    """Yield a gateway and a client that has begun its session; in the end, nothing of it is at work."""
    before = asyncio.all_tasks()
    async with (
        asyncio.timeout(20),
        resuming_gateway(**(info or {})) as gateway,
        connect(gateway.url, token, **{"reconnect": QUICK, **options}) as client,
    ):
        yield gateway, client
    assert asyncio.all_tasks() <= before


async def so_far(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def until(client: Client, kind: type[Any], **where: Any) -> list[ServerMessage]:
    """Return the messages up to the first of a kind that has the given fields."""
    found: list[ServerMessage] = []
    async for message in client:
        found.append(message)
        if isinstance(message, kind) and all(getattr(message, k) == v for k, v in where.items()):
            return found
    raise AssertionError(found)


def numbers(found: list[ServerMessage]) -> list[float]:
    return [message.stream_ms for message in found if isinstance(message, SpeechStarted)]


def sequences(gateway: ResumingGateway) -> list[int]:
    return [int(chunk.sequence) for chunk in gateway.chunks]


class TestWhatComes:
    @pytest.mark.parametrize("within", [False, True])
    async def test_in_order_none_lost_and_none_twice(self, within: bool) -> None:
        async with session() as (gateway, client):
            await gateway.say(0)
            await gateway.say(1)
            assert numbers(await until(client, SpeechStarted, stream_ms=1)) == [0, 1]
            await gateway.say(2)
            gateway.cut_within_a_message() if within else gateway.cut()
            await gateway.say(3)
            found = await until(client, SpeechStarted, stream_ms=3)
            assert numbers(found) == [2, 3]
            (resumed,) = (message for message in found if isinstance(message, Resumed))
            assert 1 <= resumed.replayed <= 2, "as much as had not come"
            assert (client.resumptions, client.lossy, client.connected) == (1, False, True)
            assert client.close_code is None
            await gateway.say(4)
            assert numbers(await until(client, SpeechStarted)) == [4]

    async def test_binary_answers(self) -> None:
        async with session(binary_audio=True) as (gateway, client):
            form = "audio/pcm;rate=24000"
            await gateway.send("response_started", responseId="r1", format=form, language="de")
            for sequence in range(6):
                if sequence in (2, 3):
                    gateway.cut()
                    await so_far(lambda: client.resumptions == gateway.connections - 1 > 0)
                await gateway.send_audio(sequence)
            await gateway.say(0)
            pieces = [m for m in await until(client, SpeechStarted) if isinstance(m, AudioResponse)]
            assert [(piece.format, piece.language, piece.duration) for piece in pieces] == [
                (form, "de", 10.0)
            ] * 6

    async def test_what_the_gateway_does_for_its_session_is_told(self) -> None:
        rotation = {"reason": "go_away", "contextRestored": True, "gapMs": 140, "lostAudioMs": 0}
        async with session() as (gateway, client):
            await gateway.send("session_rotating", **rotation)
            await gateway.send("session_rotated", **rotation, replayedAudioMs=0, upstream="primary")
            await gateway.send("go_away", timeLeftMs=500, reason="drain")
            await gateway.send("audio_ack", sequence=0, windowMs=10, stream=1)
            kinds = [type(message) for message in await until(client, AudioAck)]
            assert kinds == [
                *(extension.SessionRotating, extension.SessionRotated, extension.GoAway, AudioAck)
            ]

    async def test_pings_count_and_pongs_do_not(self) -> None:
        async with session() as (gateway, client):
            await gateway.send("ping", id=1)
            await client.ping()
            await gateway.say(0)
            await until(client, SpeechStarted)
            gateway.cut()
            await until(client, Resumed)
            assert [resume.received for resume in gateway.resumes] == [4]

    async def test_what_the_model_has_heard_is_said_to_the_next_node(self) -> None:
        async with session() as (gateway, client):
            gateway.cut()
            await until(client, Resumed)
            for heard_ms in (300.0, 800.5):
                await gateway.send("audio_heard", heardMs=heard_ms)
            await until(client, extension.AudioHeard, heard_ms=800.5)
            gateway.cut()
            await until(client, Resumed)
            assert [resume.heard_ms for resume in gateway.resumes] == [UNSET, 800.5]

    async def test_a_client_that_reads_late(self) -> None:
        """What has been read and not iterated over is not asked for again."""
        async with session() as (gateway, client):
            for number in range(3):
                await gateway.say(number)
            await client.ping()
            gateway.cut()
            await so_far(lambda: client.resumptions == 1)
            await gateway.say(3)
            assert numbers(await until(client, SpeechStarted, stream_ms=3)) == [0, 1, 2, 3]
            assert gateway.resumes[0].received == 5

    async def test_what_was_lost_is_told(self) -> None:
        async with session() as (gateway, client):
            gateway.lossy = True
            gateway.cut()
            assert isinstance((await until(client, Resumed))[-1], Resumed)
            assert client.lossy


class TestWhatIsSent:
    @pytest.mark.parametrize("binary", [False, True])
    async def test_each_comes_once_and_in_order(self, binary: bool) -> None:
        async with session(binary_audio=binary) as (gateway, client):
            gateway.cut_after = 4
            await client.start()
            for number in range(10):
                await client.send_audio(bytes([number]) * 320)
                await client.command(str(number))
            gateway.cut_after = 0
            await client.end()
            await client.command("done")
            await so_far(lambda: "done" in gateway.commands)
            assert sequences(gateway) == list(range(10))
            assert [chunk.data[0] for chunk in gateway.chunks] == list(range(10))
            assert gateway.commands == [*map(str, range(10)), "done"]
            assert client.resumptions >= 1

    async def test_while_there_is_no_connection(self) -> None:
        async with session() as (gateway, client):
            gateway.attempts.extend([lose] * 3)
            gateway.cut()
            await so_far(lambda: not client.connected)
            for number in range(5):
                await client.command(str(number))
            assert not gateway.commands
            await so_far(lambda: len(gateway.commands) == 5)
            assert gateway.commands == ["0", "1", "2", "3", "4"]

    async def test_a_hello_that_did_not_come(self) -> None:
        async with session(features=["playback_mark"]) as (gateway, client):
            await so_far(lambda: len(gateway.came) == 1)
            gateway.came.clear()
            gateway.cut()
            await so_far(lambda: len(gateway.came) == 1)
            assert gateway.came == [extension.ClientHello(features=("playback_mark",))]
            assert client.resumptions == 1

    async def test_a_second_cut_before_the_answer_to_the_first(self) -> None:
        async with session() as (gateway, client):
            await gateway.say(0)
            gateway.attempts.extend([lose, lose])
            gateway.cut()
            await client.command("a")
            await gateway.say(1)
            await so_far(lambda: client.resumptions == 1)
            assert numbers(await until(client, SpeechStarted, stream_ms=1)) == [0, 1]
            assert len(gateway.resumes) == 3
            await client.ping()
            assert gateway.commands == ["a"]

    async def test_a_second_cut_while_what_was_missed_is_sent(self) -> None:
        async with session() as (gateway, client):
            gateway.acknowledges = False
            await client.start()
            for _ in range(20):
                await client.send_audio(bytes(3200))
            gateway.cut()
            for number in range(20):
                await gateway.say(number)
            gateway.came = gateway.came[:5]
            gateway.replays = 7
            await client.command("done")
            await so_far(lambda: gateway.replays is None)
            gateway.cut_after = 3
            await so_far(lambda: "done" in gateway.commands)
            assert sequences(gateway) == list(range(20))
            assert numbers(await until(client, SpeechStarted, stream_ms=19)) == list(range(20))
            assert client.resumptions >= 2
            assert gateway.resumes[1].received - gateway.resumes[0].received <= 7

    async def test_audio_that_is_acknowledged_is_forgotten(self) -> None:
        async with session() as (gateway, client):
            await client.start()
            for _ in range(5):
                await client.send_audio(bytes(320))
            await until(client, AudioAck, sequence=4)
            kept = client._link.sender.outgoing
            assert kept.added - kept.first == 0
            await client.end()
            gateway.acknowledges = False
            await client.start()
            await client.send_audio(bytes(320))
            assert kept.added - kept.first == 3

    async def test_an_acknowledgement_that_is_late_is_of_a_stream_that_is_over(self) -> None:
        async with session() as (gateway, client):
            gateway.acknowledges = False
            for _ in range(2):
                await client.start()
                for _ in range(3):
                    await client.send_audio(bytes(320))
                await client.end()
            await client.ping()
            gateway.cut()
            gateway.came = gateway.came[:7]  # the first chunk of the second stream is the last
            for sequence in range(3):
                await gateway.send("audio_ack", sequence=sequence, windowMs=0, stream=1)
            kept = client._link.sender.outgoing
            await until(client, AudioAck, sequence=2)
            assert kept.first == 4
            await client.ping()
            await gateway.send("audio_ack", sequence=2, windowMs=0, stream=2)
            await until(client, AudioAck, stream=2)
            assert kept.first == 9

    async def test_at_random(self) -> None:
        chance = random.Random(7)
        async with session(binary_audio=True) as (gateway, client):
            said = asked = 0

            async def harm() -> None:
                nonlocal said
                while True:
                    await asyncio.sleep(chance.random() * 0.02)
                    await gateway.say(said)
                    said += 1
                    gateway.attempts.extend([lose] * chance.choice([0, 0, 1]))
                    gateway.replays = chance.choice([None, None, 2])
                    gateway.cut_after = chance.choice([None, 0, 3])
                    if chance.random() < 0.5:
                        gateway.cut()

            harming = asyncio.create_task(harm())
            heard: list[ServerMessage] = []

            async def listen() -> None:
                async for message in client:
                    heard.append(message)  # noqa: PERF401 (it is looked at meanwhile)

            listening = asyncio.create_task(listen())
            lengths: list[int] = []
            planned = [30, 1, 1, 40]
            while planned or client.resumptions <= 3:  # a slow machine cuts it less often meanwhile
                length = planned.pop(0) if planned else 10
                lengths.append(length)
                await client.start()
                for sequence in range(length):
                    await client.send_audio(bytes(100))
                    if sequence % 3 == 0:
                        await client.command(str(asked))
                        asked += 1
                    await asyncio.sleep(chance.random() * 0.004)
                await client.end()
            harming.cancel()
            gateway.attempts.clear()
            gateway.replays = gateway.cut_after = None
            await gateway.say(said)
            await client.command("done")
            await so_far(lambda: "done" in gateway.commands)
            await so_far(lambda: numbers(heard)[-1:] == [said])
            listening.cancel()
            await asyncio.wait([harming, listening])
            assert numbers(heard) == list(range(said + 1))
            assert gateway.commands == [*map(str, range(asked)), "done"]
            assert sequences(gateway) == [number for length in lengths for number in range(length)]
            assert client.resumptions > 3


class TestRoom:
    SMALL: Final = Reconnect(delays_s=(0.0, 0.02), give_up_s=5.0, max_bytes=4000, max_audio_s=60)

    async def test_senders_wait_in_their_order_and_over_a_cut(self) -> None:
        async with session(reconnect=self.SMALL) as (gateway, client):
            gateway.acknowledges = False
            await client.start()
            await client.send_audio(bytes(2700))
            await so_far(lambda: len(gateway.chunks) == 1)
            sending = [asyncio.create_task(client.command(f"{n}" + " " * 3000)) for n in range(3)]
            await asyncio.sleep(0.05)
            assert not gateway.commands
            gateway.attempts.append(lose)
            gateway.cut()
            await so_far(lambda: len(gateway.resumes) == 1)
            assert not gateway.commands
            await asyncio.gather(*sending)
            await so_far(lambda: len(gateway.commands) == 3)
            assert [command[0] for command in gateway.commands] == ["0", "1", "2"]
            assert sequences(gateway) == [0]

    async def test_by_the_length_of_audio(self) -> None:
        brief = Reconnect(delays_s=(0.0,), max_audio_s=1.0)
        async with session(reconnect=brief) as (gateway, client):
            gateway.acknowledges = False
            await client.start(rate_hz=16_000)
            await client.send_audio(bytes(32_000))
            sending = asyncio.create_task(client.send_audio(bytes(320)))
            await asyncio.sleep(0.05)
            assert not sending.done()
            await gateway.send("audio_ack", sequence=0, windowMs=0, stream=1)
            await sending
            await so_far(lambda: sequences(gateway) == [0, 1])

    async def test_a_chunk_that_is_cancelled_while_it_waits_leaves_no_gap(self) -> None:
        async with session(reconnect=self.SMALL) as (gateway, client):
            gateway.acknowledges = False
            await client.start()
            await client.send_audio(bytes(2700))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.send_audio(b"\x01" * 600), 0.05)
            await gateway.send("audio_ack", sequence=0, windowMs=0, stream=1)
            await client.send_audio(b"\x02" * 600)
            await so_far(lambda: len(gateway.chunks) == 2)
            assert sequences(gateway) == [0, 1]
            assert gateway.chunks[1].data == b"\x02" * 600

    async def test_what_is_never_acknowledged_is_accounted_for_by_resuming(self) -> None:
        async with session(reconnect=self.SMALL) as (gateway, client):
            for number in range(12):
                await client.command(f"{number}" + " " * 1000)
            await so_far(lambda: len(gateway.commands) == 12)
            assert [int(command) for command in gateway.commands] == list(range(12))
            assert client.resumptions >= 2

    async def test_audio_that_is_refused_is_not_acknowledged(self) -> None:
        async with session(reconnect=self.SMALL) as (gateway, client):
            gateway.acknowledges = False
            await client.send_audio(bytes(2700))
            await gateway.send("error", code="AUDIO_STREAM_INACTIVE", message="None.", details={})
            await client.send_audio(bytes(2700))
            await so_far(lambda: sequences(gateway) == [0, 1])
            assert client.resumptions == 1

    async def test_audio_whose_acknowledgement_does_not_come(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(link, "_ACKNOWLEDGED_S", 0.05)
        async with session(reconnect=self.SMALL) as (gateway, client):
            gateway.acknowledges = False
            for _ in range(3):
                await client.send_audio(bytes(2700))
            await so_far(lambda: sequences(gateway) == [0, 1, 2])
            assert client.resumptions == 2

    async def test_a_refusal_waits_for_no_room(self) -> None:
        """Else nothing would be read, and no acknowledgement come that makes room."""

        async def work() -> None:
            await asyncio.sleep(60)

        async with session(reconnect=self.SMALL, tools={"work": work}) as (gateway, client):
            gateway.acknowledges = False
            await client.send_audio(bytes(2700))
            sending = asyncio.create_task(client.send_audio(bytes(2700)))
            for number in range(MAX_CALLS + 1):
                await gateway.send("tool_call", callId=f"c{number}", name="work", args={}, deadlineMs=60_000)
            await so_far(lambda: any(isinstance(m, extension.ToolResult) for m in gateway.came))
            await gateway.send("audio_ack", sequence=0, windowMs=0, stream=1)
            await sending
            await so_far(lambda: sequences(gateway) == [0, 1])

    async def test_an_acknowledgement_that_comes_late(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(link, "_ACKNOWLEDGED_S", 0.2)
        async with session(reconnect=self.SMALL) as (gateway, client):
            gateway.acknowledges = False
            await client.send_audio(bytes(2700))
            sending = asyncio.create_task(client.send_audio(bytes(2700)))
            await asyncio.sleep(0.3)
            await gateway.send("audio_ack", sequence=0, windowMs=0, stream=1)
            await sending
            assert client.resumptions == 0


class TestWhatEndsIt:
    @pytest.mark.parametrize("close_code", [1000, 1009, 4400, 4401, 4403, 4408, 4409, 4441, 4999])
    async def test_close_codes(self, close_code: int) -> None:
        async with session() as (gateway, client):
            await gateway.close(close_code)
            assert [message async for message in client] == []
            assert client.close_code == close_code
            assert not isinstance(client.closed(), SessionLost)
            with pytest.raises(Closed):
                await client.command("too late")
            assert gateway.connections == 1

    async def test_the_session_goes_on_elsewhere(self) -> None:
        """Though the close code is lost with the connection."""
        async with session() as (gateway, client):
            await gateway.send(
                "error", code="SESSION_TAKEN_OVER", message="Elsewhere.", details={"fatal": True}
            )
            gateway.cut()
            assert [type(message) async for message in client] == [Error]
            assert client.closed().code == "SESSION_TAKEN_OVER"
            assert gateway.connections == 1

    @pytest.mark.parametrize("close_code", [1001, 1011, 1012, 1013, 4413])
    async def test_close_codes_that_do_not(self, close_code: int) -> None:
        async with session() as (gateway, client):
            await gateway.close(close_code)
            assert isinstance(await anext(client), Resumed)

    async def test_an_error_that_is_survived_is_not_told(self) -> None:
        async with session() as (gateway, client):
            await gateway.fail("SERVER_DRAINING", 1001)
            assert isinstance(await anext(client), Resumed)
            await gateway.close(1000)
            assert [message async for message in client] == []
            assert client.closed().code is None
            assert gateway.resumes[0].received == 3, "but counted"

    async def test_an_error_that_is_no_end_is_told(self) -> None:
        async with session() as (gateway, client):
            await gateway.send("error", code="PROTOCOL_BAD_JSON", message="Fatal?", details={"fatal": True})
            await gateway.say(0)
            assert [type(m) for m in await until(client, SpeechStarted)] == [Error, SpeechStarted]

    async def test_the_gateway_has_the_session_no_more(self) -> None:
        async with session() as (gateway, client):
            gateway.attempts.append(refusing("SESSION_RESUME_REFUSED", None))
            await gateway.fail("UPSTREAM_LOST", 1011)
            assert [type(message) async for message in client] == [Error], "it is told after all"
            closed = client.closed()
            assert isinstance(closed, SessionLost)
            assert (
                str(closed)
                == "The connection was lost, and the gateway has the session no more. Connect anew."
            )
            assert closed.code == "SESSION_RESUME_REFUSED"
            for late in (client.command("too late"), client.ping(), client.renew("another")):
                with pytest.raises(SessionLost):
                    await late

    async def test_senders_are_told(self) -> None:
        async with session(reconnect=TestRoom.SMALL) as (gateway, client):
            gateway.acknowledges = False
            await client.send_audio(bytes(2700))
            waiting = asyncio.create_task(client.send_audio(bytes(2700)))
            pinging = asyncio.create_task(client.ping())
            await asyncio.sleep(0.02)
            gateway.attempts.append(refusing("SESSION_RESUME_REFUSED", None))
            gateway.cut()
            with pytest.raises(SessionLost):
                await waiting
            await asyncio.wait([pinging])

    async def test_it_gives_up(self) -> None:
        impatient = Reconnect(delays_s=(0.0, 0.02), give_up_s=0.3)
        async with session(reconnect=impatient) as (gateway, client):
            gateway.attempts.extend([lose] * 1000)
            gateway.cut()
            begin = time.monotonic()
            assert [message async for message in client] == []
            assert 0.25 < time.monotonic() - begin < 3
            assert str(client.closed()) == (
                "The connection was lost, and could not be restored in 0.3 seconds. "
                "The gateway closed the connection (1006)."
            )
            assert len(gateway.resumes) > 5

    async def test_it_gives_up_when_the_session_is_gone(self) -> None:
        limits = {**ResumingGateway()._info["limits"], "resumeMs": 200}
        lasting = Reconnect(delays_s=(0.0, 0.02))
        async with session(info={"limits": limits}, reconnect=lasting) as (gateway, client):
            gateway.attempts.extend([lose] * 1000)
            gateway.cut()
            assert [message async for message in client] == []
            assert "could not be restored in 0.2 seconds" in str(client.closed())

    async def test_switched_off(self) -> None:
        async with session(reconnect=None) as (gateway, client):
            await client.start()
            gateway.cut()
            assert [message async for message in client] == []
            assert str(client.closed()) == "The connection to the gateway was lost."
            assert (client.close_code, gateway.connections) == (1006, 1)

    async def test_a_gateway_that_cannot(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.until(messages.Command)
            peer.socket.transport.abort()

        async with scripted_gateway(script, **EXTENDED) as url, connect(url, "a token") as client:
            await client.command("next")
            assert [message async for message in client] == []
            assert client.close_code == 1006
            assert not isinstance(client.closed(), SessionLost)

    async def test_a_base_session(self) -> None:
        peers = []

        async def script(peer: Peer) -> None:
            peers.append(peer)
            await peer.accept()
            peer.socket.transport.abort()

        async with scripted_gateway(script) as url, connect(url, "a token") as client:
            assert [message async for message in client] == []
        assert len(peers) == 1


class TestAttempts:
    @pytest.mark.parametrize(
        "refusal",
        [
            refusing("SESSION_RESUME_UNAVAILABLE", 1013),
            refusing("SERVER_AT_CAPACITY", 1013),
            refusing("AUTH_UNAVAILABLE", 1013),
            refusing("QUOTA_CONNECTIONS", 4429, retryAfterMs=20),
            lose,
        ],
    )
    async def test_it_is_tried_again(self, refusal: Any) -> None:
        async with session() as (gateway, client):
            gateway.attempts.extend([refusal] * 2)
            gateway.cut()
            assert isinstance(await anext(client), Resumed)
            assert len(gateway.resumes) == 3

    async def test_it_waits_as_long_as_the_gateway_says(self) -> None:
        async with session() as (gateway, client):
            gateway.attempts.append(refusing("SERVER_AT_CAPACITY", 1013, retryAfterMs=250))
            gateway.cut()
            begin = time.monotonic()
            await until(client, Resumed)
            assert time.monotonic() - begin >= 0.25

    async def test_the_handshake_is_refused_for_now(self) -> None:
        async with session() as (gateway, client):
            gateway.statuses.extend([HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS])
            gateway.cut()
            assert isinstance(await anext(client), Resumed)
            assert gateway.connections == 2

    async def test_the_handshake_is_refused(self) -> None:
        async with session() as (gateway, client):
            gateway.statuses.append(HTTPStatus.FORBIDDEN)
            gateway.cut()
            assert [message async for message in client] == []
            assert "refused the connection with HTTP 403" in str(client.closed())
            assert isinstance(client.closed(), SessionLost)

    async def test_nothing_listens_any_more(self) -> None:
        async with asyncio.timeout(10):
            async with resuming_gateway() as gateway:
                opened = connect(gateway.url, "a token", reconnect=Reconnect(delays_s=(0.02,), give_up_s=0.3))
                client = await opened.__aenter__()
            try:
                assert [message async for message in client] == []
                assert f"Nothing listens at {gateway.url}" in str(client.closed())
            finally:
                await opened.__aexit__(None, None, None)

    async def test_no_answer(self) -> None:
        async def wait(peer: Peer, _: extension.Resume) -> None:
            await peer.send("ping", id=1)

        async with session(timeout_s=1.0) as (gateway, client):
            gateway.attempts.append(wait)
            gateway.cut()
            assert isinstance(await anext(client), Resumed)

    @pytest.mark.parametrize("answer", ["words", '{"type": "unheard_of"}', b"\x01"])
    async def test_another_answer(self, answer: str | bytes) -> None:
        async def greet(peer: Peer, _: extension.Resume) -> None:
            await peer.socket.send(answer)

        async with session() as (gateway, client):
            gateway.attempts.append(greet)
            gateway.cut()
            assert [message async for message in client] == []
            assert "does not resume sessions" in str(client.closed())

    async def test_a_gateway_that_closes_for_good(self) -> None:
        async def close(peer: Peer, _: extension.Resume) -> None:
            await peer.socket.close(1000)

        async with session() as (gateway, client):
            gateway.attempts.append(close)
            gateway.cut()
            assert [message async for message in client] == []
            assert "cannot be resumed: The gateway closed the connection (1000)." in str(client.closed())

    async def test_connections_that_are_lost_at_once_are_not_hammered_at(self) -> None:
        slow = Reconnect(delays_s=(0.0, 0.4, 0.4), give_up_s=5.0)
        async with session(reconnect=slow) as (gateway, client):
            begin = time.monotonic()
            for _ in range(8):
                gateway.cut()
                await until(client, Resumed)
            assert time.monotonic() - begin > 0.2, "seven waits of 0.2 s, by chance"


class TestHalfOpen:
    async def test_silence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(link, "GRACE_S", 0.4)
        lost: list[float] = []
        now = time.monotonic
        async with session(info={"heartbeatMs": 50}, on_lost=lambda: lost.append(now())) as (gateway, client):
            for _ in range(12):
                await asyncio.sleep(0.05)
                await gateway.send("ping", id=1)
            assert not lost
            begin = now()
            gateway.heeds = False
            await until(client, Resumed)
            assert 0.3 < lost[0] - begin < 2
            assert client.resumptions == 1

    async def test_not_where_it_is_switched_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(link, "GRACE_S", 0.05)
        async with session(info={"heartbeatMs": 20}, reconnect=None) as (gateway, client):
            await asyncio.sleep(0.3)
            await gateway.say(0)
            await until(client, SpeechStarted)


class Asked:
    """Gives tokens, and counts them."""

    def __init__(self, fails: int = 0) -> None:
        self.count = 0
        self.fails = fails

    async def __call__(self) -> str:
        self.count += 1
        await asyncio.sleep(0)
        if 1 < self.count <= 1 + self.fails:
            raise OSError("no network")
        return f"token {self.count}"


class TestTokens:
    @pytest.mark.parametrize("plain", [False, True])
    async def test_another_when_one_expired(self, plain: bool) -> None:
        asked = Asked()
        given = iter(["token 1", "token 2"])
        async with session(token=(lambda: next(given)) if plain else asked) as (gateway, client):
            gateway.cut()
            await until(client, Resumed)
            assert gateway.tokens == ["token 1", "token 1"], "asked only when it is needed"
            await gateway.fail("AUTH_TOKEN_EXPIRED", 4440)
            await until(client, Resumed)
            assert gateway.tokens == ["token 1", "token 1", "token 2"]

    async def test_there_is_no_other(self) -> None:
        async with session() as (gateway, client):
            await gateway.fail("AUTH_TOKEN_EXPIRED", 4440)
            assert [type(message) async for message in client] == [Error]
            assert (client.closed().code, client.close_code) == ("AUTH_TOKEN_EXPIRED", 4440)
            assert gateway.connections == 1

    async def test_it_expired_while_the_connection_was_lost(self) -> None:
        async with session(token=Asked()) as (gateway, client):
            gateway.attempts.append(refusing("AUTH_TOKEN_EXPIRED", 4440))
            gateway.cut()
            await until(client, Resumed)
            assert gateway.tokens == ["token 1", "token 1", "token 2"]

    @pytest.mark.parametrize("renewable", [True, False])
    async def test_none_is_good(self, renewable: bool) -> None:
        async with session(token=Asked() if renewable else "a token") as (gateway, client):
            gateway.attempts.extend([refusing("AUTH_TOKEN_EXPIRED", 4440)] * 5)
            gateway.cut()
            assert [message async for message in client] == []
            closed = client.closed()
            assert isinstance(closed, AuthorizationLost)
            assert isinstance(closed, NotAuthorized)
            assert isinstance(closed, Closed)
            assert closed.code == "AUTH_TOKEN_EXPIRED"
            assert len(gateway.resumes) == 1 + renewable

    @pytest.mark.parametrize(("code", "close"), [("AUTH_TOKEN_INVALID", 4401), ("AUTH_USER_CHANGED", 4403)])
    async def test_not_authorized(self, code: str, close: int) -> None:
        async with session(token=Asked()) as (gateway, client):
            gateway.attempts.append(refusing(code, close))
            gateway.cut()
            assert [message async for message in client] == []
            assert isinstance(client.closed(), NotAuthorized)
            assert client.closed().code == code
            assert len(gateway.resumes) == 1

    async def test_none_can_be_had_for_now(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.ERROR):
            async with session(token=Asked(fails=2)) as (gateway, client):
                await gateway.fail("AUTH_TOKEN_EXPIRED", 4440)
                await until(client, Resumed)
                assert gateway.tokens == ["token 1", "token 4"]
        assert [record.getMessage() for record in caplog.records] == ["No token could be had"] * 2

    async def test_none_is_to_be_had(self) -> None:
        given = iter(["token 1"])

        def get_token() -> str:
            for token in given:
                return token
            raise NotAuthorized("The user has left.")

        async with session(token=get_token) as (gateway, client):
            await gateway.fail("AUTH_TOKEN_EXPIRED", 4440)
            assert [type(message) async for message in client] == [Error]
            assert isinstance(client.closed(), NotAuthorized)
            assert str(client.closed()).endswith("The user has left.")
            assert not gateway.resumes

    async def test_what_it_raises_at_first_is_the_callers(self) -> None:
        async def get_token() -> str:
            raise OSError("no network")

        with pytest.raises(OSError, match="no network"):
            async with connect("ws://127.0.0.1:1/ws", get_token):
                pass

    async def test_renewed_before_it_expires(self) -> None:
        expires = int((time.time() + 31) * 1000)
        async with session(token=Asked(), info={"tokenExpiresAt": expires}) as (gateway, client):
            gateway._info["tokenExpiresAt"] = expires + 60_000
            found = await until(client, extension.SessionInfo)
            assert [type(message) for message in found] == [messages.AuthSuccess, extension.SessionInfo]
            assert gateway.tokens == ["token 1", "token 2"]
            assert 29 < expires / 1000 - time.time() < 30.5

    async def test_renewed_when_the_gateway_says_that_it_is_time(self) -> None:
        async with session(token=Asked()) as (gateway, client):
            await gateway.send("go_away", timeLeftMs=1000, reason="token")
            await until(client, extension.SessionInfo)
            assert gateway.tokens == ["token 1", "token 2"]
            gateway.cut()
            await until(client, Resumed)
            assert gateway.tokens == ["token 1", "token 2", "token 2"]
            assert gateway.resumes[0].resume_token == "resume 0", "the last that was given"

    async def test_none_can_be_had_to_renew_it(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tokens, "_AGAIN_S", 0.05)
        async with session(token=Asked(fails=1)) as (gateway, client):
            await gateway.send("go_away", timeLeftMs=1000, reason="token")
            await until(client, extension.SessionInfo)
            assert gateway.tokens == ["token 1", "token 3"]
        assert [record.getMessage() for record in caplog.records] == ["No token could be had"]

    async def test_what_cannot_be_renewed_is_left_alone(self) -> None:
        async with session(info={"tokenExpiresAt": int(time.time() * 1000)}) as (gateway, client):
            await gateway.send("go_away", timeLeftMs=1000, reason="token")
            await client.ping()
            assert gateway.tokens == ["a token"]

    async def test_renewed_by_hand(self) -> None:
        async with session() as (gateway, client):
            await client.renew("another")
            await until(client, extension.SessionInfo)
            gateway.attempts.append(lose)
            gateway.cut()
            await so_far(lambda: not client.connected)
            await client.renew("a third")
            await until(client, Resumed)
            assert gateway.tokens[:2] == ["a token", "another"]
            await so_far(lambda: gateway.tokens[-1] == "a third")

    async def test_renewed_by_hand_while_another_is_shown(self) -> None:
        shown, go_on = asyncio.Event(), asyncio.Event()

        async def wait(peer: Peer, resume: extension.Resume) -> None:
            shown.set()
            await go_on.wait()
            gateway.tokens.pop()  # it is noted again
            await gateway._resume(peer, resume)

        async with session() as (gateway, client):
            gateway.attempts.append(wait)
            gateway.cut()
            await shown.wait()
            await client.renew("another")
            go_on.set()
            await until(client, Resumed)
            await so_far(lambda: gateway.tokens == ["a token", "a token", "another"])


class TestLife:
    async def test_pings_and_tools_outlive_the_connection(self) -> None:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def work() -> str:
            began.set()
            await go_on.wait()
            return "done"

        async with session(tools={"work": work}) as (gateway, client):
            gateway.heeds = False
            await client.command("stop heeding")
            await so_far(lambda: len(gateway.commands) == 1)
            pinging = asyncio.create_task(client.ping())
            await gateway.send("tool_call", callId="c1", name="work", args={}, deadlineMs=5000)
            await began.wait()
            gateway.heeds = True
            gateway.attempts.append(lose)
            gateway.cut()
            go_on.set()
            assert 0 < await pinging < 5
            await so_far(lambda: extension.ToolResult(call_id="c1", result="done") in gateway.came)
            gateway.cut()
            await until(client, Resumed)
            await client.ping()
            results = [message for message in gateway.came if isinstance(message, extension.ToolResult)]
            assert len(results) == 1

    async def test_it_is_said_when_the_connection_is_lost(self) -> None:
        lost: list[bool] = []
        async with session() as (gateway, client):
            client.on_lost = lambda: lost.append(client.connected)
            assert client.on_lost is not None
            for _ in range(2):
                gateway.cut()
                await until(client, Resumed)
            assert lost == [False, False]

    async def test_what_on_lost_raises_is_raised_on_leaving(self) -> None:
        def fail() -> None:
            raise LookupError("of the application")

        with pytest.raises(LookupError, match="of the application"):
            async with session(on_lost=fail) as (gateway, client):
                gateway.cut()
                assert [message async for message in client] == []

    async def test_lost_on_purpose(self) -> None:
        async with session() as (gateway, client):
            client.abort()
            assert isinstance(await anext(client), Resumed)
            assert gateway.connections == 2

    @pytest.mark.parametrize("moment", ["away", "dialling", "waiting for an answer", "sending", "iterating"])
    async def test_to_leave_at_any_moment_is_clean(self, moment: str) -> None:
        async def wait(peer: Peer, _: extension.Resume) -> None:
            answering.set()

        answering = asyncio.Event()
        slow = Reconnect(delays_s=(5.0 if moment == "away" else 0.0,), max_bytes=4000)
        begin = time.monotonic()
        async with session(reconnect=slow) as (gateway, client):
            gateway.acknowledges = False
            tasks: list[asyncio.Task[Any]] = []
            if moment == "sending":
                await client.send_audio(bytes(2700))
                tasks.append(asyncio.create_task(client.send_audio(bytes(2700))))
                await asyncio.sleep(0.02)
            elif moment == "iterating":
                tasks.append(asyncio.create_task(until(client, SpeechStarted)))
                await asyncio.sleep(0.02)
            else:
                gateway.attempts.append(wait)
                gateway.cut()
                await so_far(lambda: not client.connected)
                if moment == "waiting for an answer":
                    await answering.wait()
                await client.command("never comes")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert time.monotonic() - begin < 4

    async def test_who_still_sends_when_it_is_left(self) -> None:
        async with session(reconnect=TestRoom.SMALL) as (gateway, client):
            gateway.acknowledges = False
            await client.send_audio(bytes(2700))
            sending = asyncio.create_task(client.send_audio(bytes(2700)))
            await client.ping()
        with pytest.raises(Closed, match=r"^The session was left.$"):
            await sending

    async def test_cancelled_from_outside(self) -> None:
        gone = asyncio.Event()

        async def converse() -> None:
            async with session() as (gateway, client):
                gateway.attempts.extend([lose] * 1000)
                gateway.cut()
                gone.set()
                await until(client, Resumed)

        task = asyncio.create_task(converse())
        await gone.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
