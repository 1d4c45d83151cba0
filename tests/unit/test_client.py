"""The Python client against a real WebSocket server."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from antiphon import messages
from antiphon.client import (
    MAX_CHUNK_BYTES,
    BadMessage,
    BaseOnly,
    CannotConnect,
    Client,
    ClientError,
    Closed,
    NotAuthorized,
    Refused,
    connect,
)
from antiphon.messages import AudioResponse, AuthSuccess, RecognitionResult
from scripted_gateway import Peer, Script, scripted_gateway

Drive = Callable[[Client], Awaitable[None]]


async def accepting(peer: Peer) -> None:
    await peer.accept()


@asynccontextmanager
async def connected(script: Script) -> AsyncIterator[Client]:
    async with scripted_gateway(script) as url, connect(url, "a token") as client:
        yield client


@asynccontextmanager
async def tcp_server(answer: bytes) -> AsyncIterator[int]:
    """Serve something that is no WebSocket, and says this or nothing; yield its port."""
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        if not answer:
            await reader.read()
        writer.close()
        await writer.wait_closed()
        done.set()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await done.wait()


class TestSending:
    """What goes over the wire, field for field."""

    @staticmethod
    async def sent(drive: Drive) -> list[dict[str, object]]:
        """Return the messages that a client sends, without their timestamps."""
        peers: list[Peer] = []
        done = asyncio.Event()

        async def script(peer: Peer) -> None:
            peers.append(peer)
            await peer.accept()
            try:
                while True:
                    await peer.receive()
            except ConnectionClosed:
                done.set()

        async with connected(script) as client:
            await drive(client)
        await done.wait()
        for message in peers[0].received:
            assert abs(message.pop("timestamp") - time.time() * 1000) < 60_000
        return peers[0].received

    async def test_a_linear16_stream(self) -> None:
        async def drive(client: Client) -> None:
            await client.start(rate_hz=8000, language="de")
            await client.send_audio(b"\x01\x02" * 800)
            await client.send_audio(b"")
            await client.send_audio(b"\x03")
            await client.end()

        auth, start, first, second, end = await self.sent(drive)
        assert auth == {"type": "auth", "token": "a token"}
        config = {"sampleRate": 8000, "format": "LINEAR16", "language": "de"}
        assert start == {"type": "audio_stream_start", "config": config}
        assert first == {
            "type": "audio_chunk",
            "data": base64.b64encode(b"\x01\x02" * 800).decode(),
            "sequence": 0,
        }
        assert second == {"type": "audio_chunk", "data": "Aw==", "sequence": 1}
        assert end == {"type": "audio_stream_end", "duration": 1601 / 16}

    async def test_large_audio_is_split_to_fit(self) -> None:
        audio = bytes(range(256)) * 1000

        async def drive(client: Client) -> None:
            await client.start()
            await client.send_audio(audio)

        chunks = (await self.sent(drive))[2:]
        assert b"".join(base64.b64decode(str(chunk["data"])) for chunk in chunks) == audio
        assert [chunk["sequence"] for chunk in chunks] == list(range(len(chunks)))
        assert max(len(json.dumps(chunk)) for chunk in chunks) < messages.MAX_MESSAGE_BYTES
        assert len(chunks) == -(-len(audio) // MAX_CHUNK_BYTES)

    async def test_a_second_stream_counts_anew(self) -> None:
        async def drive(client: Client) -> None:
            for _ in range(2):
                await client.start("FLAC")
                await client.send_audio(b"fLaC")
                await client.end(1234)
            await client.start("FLAC")
            await client.end()

        sent = await self.sent(drive)
        assert [message["sequence"] for message in sent if "sequence" in message] == [0, 0]
        assert [message["duration"] for message in sent if "duration" in message] == [1234, 1234, 0]

    @pytest.mark.parametrize(
        ("rate_hz", "language", "what"),
        [(7999, "en", "sampleRate"), (96_000, "en", "8000"), (16_000, "", "")],
    )
    async def test_what_is_no_stream_is_not_sent(self, rate_hz: int, language: str, what: str) -> None:
        async def drive(client: Client) -> None:
            with pytest.raises(ValueError, match=r"^There is no stream like that: ") as caught:
                await client.start(rate_hz=rate_hz, language=language)
            assert what in str(caught.value)
            await client.start()

        assert [message["type"] for message in (await self.sent(drive))[1:]] == ["audio_stream_start"]

    async def test_one_stream_at_a_time(self) -> None:
        async def drive(client: Client) -> None:
            await client.start()
            with pytest.raises(ClientError, match=r"end\(\) it before you start\(\) another") as caught:
                await client.start()
            assert caught.value.code == "AUDIO_STREAM_ACTIVE"
            await client.end()
            await client.start()

        kinds = [message["type"] for message in (await self.sent(drive))[1:]]
        assert kinds == ["audio_stream_start", "audio_stream_end", "audio_stream_start"]

    async def test_a_stream_that_the_gateway_has_ended(self) -> None:
        started: list[object] = []
        done = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.receive()
            await peer.fail("AUDIO_UNSUPPORTED", "That is no FLAC. The stream was ended.")
            started.append(await peer.receive())
            done.set()

        async with connected(script) as client:
            await client.start("FLAC")
            assert isinstance(await anext(client), messages.Error)
            await client.start("LINEAR16")
            await done.wait()
        assert isinstance(started[0], messages.AudioStreamStart)

    async def test_a_base_session_takes_no_opus(self) -> None:
        async with connected(accepting) as client:
            with pytest.raises(BaseOnly):
                await client.start("audio/ogg;codecs=opus")
            await client.start()

    async def test_commands_and_renewal(self) -> None:
        async def drive(client: Client) -> None:
            await client.command("next")
            await client.command("play", {"track": 3, "list": [None, {}]})
            await client.command("stop", {})
            await client.renew("another")

        assert (await self.sent(drive))[1:] == [
            {"type": "command", "command": "next"},
            {"type": "command", "command": "play", "context": {"track": 3, "list": [None, {}]}},
            {"type": "command", "command": "stop", "context": {}},
            {"type": "auth", "token": "another"},
        ]

    async def test_waits_while_the_gateway_takes_no_more(self) -> None:
        go_on = asyncio.Event()
        sent: list[bytes] = []

        async def script(peer: Peer) -> None:
            await peer.accept()
            await go_on.wait()
            async for _ in peer.socket:
                pass

        async with connected(script) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    while True:
                        await client.send_audio(bytes(MAX_CHUNK_BYTES))
                        sent.append(b"")
            assert len(sent) * MAX_CHUNK_BYTES < 64 << 20
            go_on.set()


class TestReceiving:
    async def test_messages_until_the_close(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.result("hello", final=False)
            await peer.result("hello", command="greet")
            await peer.answer("Hello.", duration_ms=20)
            await peer.socket.close(1000, "bye")

        frames: list[bytes] = []
        async with (
            scripted_gateway(script) as url,
            connect(url, "a token", on_frame=frames.append) as client,
        ):
            assert (client.session_id, client.user_id) == ("a session", "alice")
            partial, final, answer = [message async for message in client]
        assert isinstance(partial, RecognitionResult)
        assert not partial.is_final
        assert isinstance(final, RecognitionResult)
        assert (final.transcript, final.command) == ("hello", "greet")
        assert isinstance(answer, AudioResponse)
        assert answer.data == bytes(960)
        assert (client.close_code, client.close_reason) == (1000, "bye")
        assert [json.loads(frame)["type"] for frame in frames] == [
            "auth_success",
            "recognition_result",
            "recognition_result",
            "audio_response",
        ]

    async def test_a_renewal_is_answered(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.accept()

        async with connected(script) as client:
            await client.renew("another")
            assert isinstance(await anext(client), AuthSuccess)

    async def test_to_stop_waiting_loses_nothing(self) -> None:
        go_on = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.accept()
            await go_on.wait()
            await peer.result("late")

        async with connected(script) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(client), 0.05)
            go_on.set()
            message = await anext(client)
            assert isinstance(message, RecognitionResult)
            assert message.transcript == "late"

    @pytest.mark.parametrize("frame", ['{"type": "unheard_of"}', "words", b"\xff\xfe"])
    async def test_what_is_no_message(self, frame: str | bytes) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.socket.send(frame)

        async with connected(script) as client:
            with pytest.raises(BadMessage, match=r"^What answers at ws://127.0.0.1:\d+/ws does not speak"):
                await anext(client)


class TestClosed:
    async def test_after_an_error(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.fail("SESSION_IDLE", "Said so.", 4408)

        async with connected(script) as client:
            assert [message.timestamp async for message in client] == [0]
            with pytest.raises(Closed, match=r"^The gateway closed the connection: Said so.$") as caught:
                await client.command("too late")
            assert (caught.value.code, caught.value.close_code) == ("SESSION_IDLE", 4408)

    async def test_after_an_error_that_was_not_read(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.fail("AUTH_TOKEN_EXPIRED", "Said so.", 4440)

        async with connected(script) as client:
            with pytest.raises(Closed, match=r"^The gateway closed the connection: Said so.$") as caught:
                while True:
                    await client.command("now?")
                    await asyncio.sleep(0.01)
            assert (caught.value.code, caught.value.close_code) == ("AUTH_TOKEN_EXPIRED", 4440)

    async def test_after_an_error_that_was_no_reason_to(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.fail("AUDIO_CORRUPT", "A little.")
            await peer.socket.close(4999, "whim")

        async with connected(script) as client:
            assert len([message async for message in client]) == 1
            assert str(client.closed()) == "The gateway closed the connection (4999)."
            assert client.closed().code is None

    async def test_when_the_connection_is_lost(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            peer.socket.transport.abort()

        async with connected(script) as client:
            assert [message async for message in client] == []
            assert client.close_code == 1006
            with pytest.raises(Closed, match=r"^The connection to the gateway was lost.$"):
                await client.start()

    async def test_leaving_closes(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.socket.wait_closed()
            closed.set_result(peer.socket.close_code)

        closed = asyncio.get_running_loop().create_future()
        async with connected(script):
            pass
        assert await closed == 1000


class TestConnecting:
    async def test_token_refused(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.receive()
            await peer.fail("AUTH_TOKEN_INVALID", "Not this one.", 4401)

        with pytest.raises(NotAuthorized, match=r"^Not this one.$") as caught:
            async with connected(script):
                pass
        assert caught.value.code == "AUTH_TOKEN_INVALID"

    async def test_no_room(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.receive()
            await peer.fail("SERVER_AT_CAPACITY", "Full.", 1013)

        with pytest.raises(ClientError, match=r"^Full.$") as caught:
            async with connected(script):
                pass
        assert caught.value.code == "SERVER_AT_CAPACITY"
        assert not isinstance(caught.value, NotAuthorized)

    async def test_closed_instead_of_an_answer(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.receive()
            await peer.socket.close(1013)

        with pytest.raises(Closed, match=r"\(1013\)"):
            async with connected(script):
                pass

    async def test_another_answer(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.result("hello")

        with pytest.raises(BadMessage):
            async with connected(script):
                pass

    async def test_no_answer_to_the_token(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.receive()

        async with scripted_gateway(script) as url:
            with pytest.raises(CannotConnect, match=r"did not answer to the token in 0.1 seconds.$"):
                async with connect(url, "a token", timeout_s=0.1):
                    pass

    @pytest.mark.parametrize(
        ("status", "body", "sentence", "code"),
        [
            (
                403,
                b'{"code": "AUTH_X", "message": "Not from here."}',
                "refused the connection: Not from here.",
                "AUTH_X",
            ),
            (404, b"Not found", "refused the connection with HTTP 404. Is the path right?", None),
            (503, b"\xff", "refused the connection with HTTP 503.", None),
        ],
    )
    async def test_refused_by_http(self, status: int, body: bytes, sentence: str, code: str | None) -> None:
        def refuse(socket: ServerConnection, _: Request) -> Response:
            response = socket.respond(HTTPStatus(status), "")
            response.body = body
            del response.headers["Content-Length"]
            response.headers["Content-Length"] = str(len(body))
            return response

        async with scripted_gateway(accepting, process_request=refuse) as url:
            with pytest.raises(Refused) as caught:
                async with connect(url, "a token"):
                    pass
        assert str(caught.value).endswith(sentence)
        assert (caught.value.status, caught.value.code) == (status, code)

    async def test_nothing_there(self) -> None:
        async with scripted_gateway(accepting) as url:
            pass
        with pytest.raises(CannotConnect, match=rf"^Nothing listens at {url}; is the gateway running\?$"):
            async with connect(url, "a token"):
                pass

    async def test_no_way_there(self) -> None:
        url = "ws://[::1%nowhere]:1/ws"
        with pytest.raises(CannotConnect, match=rf"^The gateway at {re.escape(url)} cannot be reached: \w+"):
            async with connect(url, "a token"):
                pass

    async def test_no_web_socket(self) -> None:
        async with tcp_server(b"220 mail ready\r\n\r\n") as port:
            with pytest.raises(CannotConnect, match=r"is not a WebSocket server.$"):
                async with connect(f"ws://127.0.0.1:{port}/ws", "a token"):
                    pass

    async def test_no_tls(self) -> None:
        async with tcp_server(b"220 mail ready\r\n\r\n") as port:
            with pytest.raises(CannotConnect, match=r"could not be reached securely: [A-Z_]+.$"):
                async with connect(f"wss://127.0.0.1:{port}/ws", "a token"):
                    pass

    async def test_no_handshake(self) -> None:
        async with tcp_server(b"") as port:
            with pytest.raises(CannotConnect, match=r"did not answer in 0.1 seconds.$"):
                async with connect(f"ws://127.0.0.1:{port}/ws", "a token", timeout_s=0.1):
                    pass

    @pytest.mark.parametrize("url", ["http://127.0.0.1/ws", "here", "ws://[::1/ws", "ws://127.0.0.1:no/ws"])
    async def test_no_address(self, url: str) -> None:
        with pytest.raises(CannotConnect, match="is not the address of a gateway"):
            async with connect(url, "a token"):
                pass
