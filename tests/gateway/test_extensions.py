"""Negotiation, turns, usage and binary frames of `antiphon.v1`, from a real client over a real socket."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from typing import Any

import av
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from antiphon import frames
from antiphon.extension import FEATURES
from antiphon.session import Limits
from audio_samples import mux_opus
from fake_gemini import ANSWER, Conversation, attentive
from gateway.extended import extended
from gateway.running import running_gateway
from gateway.talker import Message


def decoded(data: bytes) -> bytes:
    """Return the samples of a file: mono PCM16 at 24 kHz."""
    with av.open(io.BytesIO(data), "r") as container:
        resampler = av.AudioResampler("s16", "mono", 24_000)
        frames = [*container.decode(audio=0), None]
        return b"".join(
            bytes(part.planes[0])[: part.samples * 2]
            for frame in frames
            for part in resampler.resample(frame)
        )


def sound(messages: list[Message]) -> bytes:
    """Return the joined audio of responses."""
    pieces = [base64.b64decode(m["data"]) for m in messages if m["type"] == "audio_response"]
    return b"".join(pieces + [m["data"] for m in messages if m["type"] == "binary"])


class TestNegotiation:
    async def test_session_info_follows_auth_success_and_every_renewal(self) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            info = talker.info
            assert info["protocol"] == "antiphon.v1"
            assert set(info["features"]) == set(FEATURES)
            assert info["limits"]["messageBytes"] == 65536
            assert "audio/ogg;codecs=opus" in info["inputFormats"]
            assert info["outputFormats"][0] == "audio/pcm;rate=24000"
            renewed = await talker.auth(gateway.token(ttl_s=120))
            assert renewed["tokenExpiresAt"] > info["tokenExpiresAt"]

    @pytest.mark.parametrize("offered", [["antiphon.v1"], ["graphql-ws", "antiphon.v1", "antiphon.v2"]])
    async def test_the_subprotocol_is_chosen_among_others(self, offered: list[str]) -> None:
        protocols = [Subprotocol(name) for name in offered]
        async with running_gateway() as gateway, connect(gateway.url, subprotocols=protocols) as socket:
            assert socket.subprotocol == "antiphon.v1"

    async def test_a_client_of_another_protocol_is_a_base_client(self) -> None:
        protocols = [Subprotocol("antiphon.v2")]
        async with running_gateway() as gateway, connect(gateway.url, subprotocols=protocols) as socket:
            await socket.send(json.dumps({"type": "auth", "timestamp": 0, "token": gateway.token()}))
            assert json.loads(await socket.recv())["type"] == "auth_success"
            await socket.send(json.dumps({"type": "ping", "id": 1}))
            assert json.loads(await socket.recv())["code"] == "PROTOCOL_UNKNOWN_TYPE"
            assert socket.subprotocol is None

    async def test_unknown_features_are_ignored_and_hello_may_come_first(self) -> None:
        protocols = [Subprotocol("antiphon.v1")]
        async with running_gateway() as gateway, connect(gateway.url, subprotocols=protocols) as socket:
            hello = {"type": "client_hello", "features": ["telepathy"], "binaryAudio": True, "zoom": 3}
            for message in (hello, {"type": "auth", "timestamp": 0, "token": gateway.token()}, hello):
                await socket.send(json.dumps(message))
            kinds = [json.loads(await socket.recv())["type"] for _ in range(2)]
            assert kinds == ["auth_success", "session_info"]
            await socket.send(json.dumps({"type": "command", "timestamp": 0, "command": "hello"}))
            while not isinstance(await socket.recv(), bytes):
                pass

    async def test_a_bad_hello_is_an_error_and_changes_nothing(self) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.hello(binaryAudio="yes")
            error = await talker.refused("PROTOCOL_BAD_MESSAGE")
            assert error["details"]["path"] == "$.binaryAudio"
            await talker.hello(playbackBufferMs=-1)
            await talker.refused("PROTOCOL_BAD_MESSAGE")
            await talker.answered()

    @pytest.mark.parametrize("ping_id", ["a", 7, 1.5])
    async def test_ping_is_echoed(self, ping_id: Any) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.socket.send(json.dumps({"type": "ping", "timestamp": 123, "id": ping_id}))
            pong = await talker.receive("pong")
            assert (pong["id"], pong["echoTime"]) == (ping_id, 123)

    async def test_the_server_is_heard_of_at_every_heartbeat(self) -> None:
        async with running_gateway(limits=Limits(heartbeat_s=0.1)) as gateway, extended(gateway) as talker:
            assert talker.info["heartbeatMs"] == 100
            first = await talker.receive("ping")
            await talker.send("pong", id=first["id"])
            assert (await talker.receive("ping"))["id"] != first["id"]

    async def test_pings_keep_no_idle_session_open(self) -> None:
        limits = Limits(heartbeat_s=0.05, idle_timeout_s=0.4)
        async with running_gateway(limits=limits) as gateway, extended(gateway) as talker:
            async with asyncio.timeout(10):
                while (message := await talker.receive())["type"] == "ping":
                    await talker.send("pong", id=message["id"])
                    await talker.send("ping", id=0)
                    assert (await talker.receive())["type"] in ("pong", "ping")
            assert message["code"] == "SESSION_IDLE"


class TestTurns:
    async def test_a_turn_from_speech_to_usage(self) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.speak(bytes(6400))
            messages = await talker.until("usage")
        kinds = [m["type"] for m in messages if m["type"] not in ("recognition_result", "audio_ack")]
        assert kinds == [
            *("speech_started", "transcript_update", "transcript_update"),
            *("speech_stopped", "transcript_update"),
            *("response_started", "transcript_update", *["audio_response"] * 4),
            *("transcript_update", "response_done", "usage"),
        ]
        updates = [m for m in messages if m["type"] == "transcript_update"]
        assert [(m["role"], m["utteranceId"], m["revision"], m["text"], m["isFinal"]) for m in updates] == [
            ("user", "u1", 1, "hello", False),
            ("user", "u1", 2, "hello there", False),
            ("user", "u1", 3, "hello there", True),
            ("model", "r1", 1, "General greeting.", False),
            ("model", "r1", 2, "General greeting.", True),
        ]
        assert messages[-2]["status"] == "completed"
        assert sound(messages) == ANSWER

    async def test_who_asks_is_told_where_the_time_went(self) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker, extended(gateway) as other:
            assert "response_timing" in talker.info["features"]
            await talker.hello(features=["response_timing"])
            began_s = time.time()
            await talker.speak(bytes(6400))
            messages = await talker.until("usage")
            (told,) = [m for m in messages if m["type"] == "response_timing"]
            order = ("speechEndedAt", "transcribedAt", "modelAt", "audioAt", "timestamp")
            times = [told[name] for name in order]
            assert times == sorted(times)
            assert all(isinstance(at, int) for at in times)
            assert began_s - 1 < times[0] / 1000 <= times[-1] / 1000 < time.time() + 1
            await other.speak(bytes(6400))
            assert "response_timing" not in [m["type"] for m in await other.until("usage")]

    async def test_places_are_counted_in_each_stream_anew(self) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            for _ in range(2):
                await talker.speak(bytes(32_000))
                messages = await talker.until("usage")
                places = [m["streamMs"] for m in messages if m["type"].startswith("speech_")]
                assert places == [1000, 1000]

    async def test_a_lost_model_fails_the_response(self) -> None:
        async def lost(conversation: Conversation) -> None:
            if len(gateway.upstream.conversations) > 1:
                await attentive(conversation)
            await conversation.begin()
            await conversation.receive()
            await conversation.say("Half an", ANSWER * 4)

        async with running_gateway(lost) as gateway, extended(gateway) as talker:
            await talker.send("command", command="speak")
            messages = await talker.until("response_done")
            assert messages[-1]["status"] == "failed"
            assert messages[-2]["type"] == "transcript_update"
            assert messages[-2]["isFinal"]
            assert sound(messages) == ANSWER * 4, "what was made of it is played"
            assert {"session_rotating", "session_rotated"} <= {m["type"] for m in messages}
            await talker.send("command", command="go on")
            assert (await talker.until("response_done"))[-1]["status"] == "completed"


class TestUsage:
    async def test_tokens_are_counted_by_difference(self) -> None:
        async def counting(conversation: Conversation) -> None:
            await conversation.begin()
            for turn in (1, 2):
                await conversation.receive()
                counts = {"prompt_token_count": 10 * turn, "response_token_count": 7 * turn}
                await conversation.say("Yes.", ANSWER)
                usage = {**counts, "total_token_count": 17 * turn}
                await conversation.send(server_content={"turn_complete": True}, usage_metadata=usage)
            await conversation.receive()
            await conversation.send(usage_metadata={"prompt_token_count": 21, "total_token_count": 36})
            await conversation.until_gone()

        async with running_gateway(counting) as gateway, extended(gateway) as talker:
            for turn in (1, 2):
                await talker.send("command", command="go")
                usage = (await talker.until("usage"))[-1]
                spent = {"promptTokens": 10, "responseTokens": 7, "totalTokens": 17}
                assert usage["turn"] == {"audioInMs": 0, "audioOutMs": 320, **spent}
                assert usage["session"]["totalTokens"] == 17 * turn
                assert usage["session"]["audioOutMs"] == 320 * turn
            await talker.send("command", command="no answer")
            late = await talker.receive("usage")
            assert (late["turn"]["promptTokens"], late["session"]["totalTokens"]) == (1, 36)


class TestBinary:
    async def test_audio_both_ways(self) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.hello(binaryAudio=True)
            await talker.start()
            pcm = bytes(range(250)) * 40
            for sequence, place in enumerate(range(0, len(pcm), 3200)):
                chunk = frames.Frame(frames.AUDIO_CHUNK, sequence, 1, pcm[place : place + 3200])
                await talker.socket.send(frames.pack(chunk))
            await talker.end()
            messages = await talker.until("usage")
            pieces = [m for m in messages if m["type"] == "binary"]
            assert [piece["sequence"] for piece in pieces] == [0, 1, 2, 3]
            assert sound(messages) == ANSWER
            await talker.socket.close()
            await gateway.upstream.idle()
            assert gateway.upstream.conversations[0].heard == pcm

    @pytest.mark.parametrize(
        "data",
        [b"", b"\x01", bytes(15), b"\x02\x01" + bytes(14), b"\x01\x02" + bytes(14), b"\x01\x00" + bytes(999)],
    )
    async def test_malformed_frames_are_errors(self, data: bytes) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.hello(binaryAudio=True)
            await talker.socket.send(data)
            await talker.refused("PROTOCOL_BAD_BINARY")
            await talker.answered_in_binary()

    async def test_binary_that_was_not_asked_for(self) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.socket.send(frames.pack(frames.Frame(frames.AUDIO_CHUNK, 0, 0, bytes(100))))
            await talker.refused("PROTOCOL_BINARY_UNEXPECTED")
            await talker.answered()

    async def test_frames_in_fragments_and_json_beside_them(self) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.hello(binaryAudio=True)
            await talker.start()
            data = frames.pack(frames.Frame(frames.AUDIO_CHUNK, 0, 0, b"\x05\x06" * 800))
            await talker.socket.send([data[:7], data[7:500], data[500:]])
            talker.sequence = 1
            await talker.chunk(b"\x07\x08" * 800)
            await talker.end()
            await talker.until("usage")
            [conversation] = gateway.upstream.conversations
            assert conversation.heard == b"\x05\x06" * 800 + b"\x07\x08" * 800


class TestFormats:
    @pytest.mark.parametrize("binary", [False, True])
    @pytest.mark.parametrize("wanted", ["audio/wav", "audio/flac", "audio/ogg;codecs=opus"])
    async def test_answers_come_in_the_format_that_was_asked_for(self, wanted: str, *, binary: bool) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.hello(outputFormats=["audio/x-new", wanted, "audio/wav"], binaryAudio=binary)
            for _ in range(2):
                await talker.send("command", command="speak")
                messages = await talker.until("usage")
                started = next(m for m in messages if m["type"] == "response_started")
                assert started["format"] == wanted
                assert messages[-1]["turn"]["audioOutMs"] == 320
                pcm = decoded(sound(messages))
                if "opus" in wanted:
                    assert len(pcm) == len(ANSWER)
                else:
                    assert pcm == ANSWER

    async def test_unknown_formats_leave_pcm(self) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.hello(outputFormats=["audio/x-new"])
            await talker.send("command", command="speak")
            assert sound(await talker.until("usage")) == ANSWER

    async def test_opus_is_heard(self) -> None:
        pcm = b"".join(
            int(8000 * (-1) ** (n // 40)).to_bytes(2, "little", signed=True) for n in range(16_000)
        )
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.start(48_000, "audio/ogg;codecs=opus")
            stream = mux_opus(pcm, 16_000)
            for place in range(0, len(stream), 777):
                await talker.chunk(stream[place : place + 777])
            await talker.end()
            await talker.until("usage")
            [conversation] = gateway.upstream.conversations
            assert len(conversation.heard) == len(pcm)
