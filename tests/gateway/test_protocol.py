"""The wire, as hostile and careless clients use it: each misdeed has its error, and some their end."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from antiphon.errors import ErrorCode
from antiphon.messages import MAX_MESSAGE_BYTES
from gateway.raw_socket import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    RSV1,
    TEXT,
    UPGRADE,
    RawSocket,
    frame,
    raw_socket,
    request,
)
from gateway.running import Gateway
from gateway.talker import connected, message, talking

START = {"sampleRate": 16000, "format": "LINEAR16", "language": "en-US"}


def auth(gateway: Gateway) -> bytes:
    return message("auth", token=gateway.token()).encode()


async def begun(gateway: Gateway, raw: RawSocket) -> None:
    await raw.upgrade()
    raw.send(frame(TEXT, auth(gateway)))
    assert (await raw.message())["type"] == "auth_success"


async def lives(raw: RawSocket) -> None:
    """Prove that the connection goes on: a typed turn is answered."""
    raw.send(frame(TEXT, message("command", command="Are you there?").encode()))
    while (await raw.message())["type"] != "audio_response":
        pass


# ---- what is no message: an error that names the field, and the connection goes on

NO_MESSAGES: list[tuple[str | bytes, str, str | None]] = [
    (b"\x00binary", "PROTOCOL_BINARY_UNEXPECTED", None),
    (b"", "PROTOCOL_BINARY_UNEXPECTED", None),
    ("", "PROTOCOL_BAD_JSON", None),
    ("{", "PROTOCOL_BAD_JSON", None),
    ("nope", "PROTOCOL_BAD_JSON", None),
    (message("command", command="hi") + "more", "PROTOCOL_BAD_JSON", None),
    (
        '{"type":"command","timestamp":1,"command":"hi","context":{"a":' + "[" * 60_000,
        "PROTOCOL_BAD_JSON",
        None,
    ),
    ('{"type":"command","timestamp":1,"command":"hi","more":' + "[" * 60_000, "PROTOCOL_BAD_JSON", None),
    ("[[[]]]", "PROTOCOL_BAD_MESSAGE", "$"),
    ("null", "PROTOCOL_BAD_MESSAGE", "$"),
    ("[]", "PROTOCOL_BAD_MESSAGE", "$"),
    ("{}", "PROTOCOL_BAD_MESSAGE", "$.type"),
    ('{"type": 7}', "PROTOCOL_BAD_MESSAGE", "$.type"),
    (message("audio_response"), "PROTOCOL_UNKNOWN_TYPE", "$.type"),
    (message("client_hello", features=[]), "PROTOCOL_UNKNOWN_TYPE", "$.type"),
    (message("x" * 60_000), "PROTOCOL_UNKNOWN_TYPE", "$.type"),
    ('{"type": "command", "command": "hi"}', "PROTOCOL_BAD_MESSAGE", "$.timestamp"),
    ('{"type": "command", "command": "hi", "timestamp": "now"}', "PROTOCOL_BAD_MESSAGE", "$.timestamp"),
    (message("auth"), "PROTOCOL_BAD_MESSAGE", "$.token"),
    (message("auth", token="\ud800"), "PROTOCOL_BAD_JSON", None),
    (message("auth", token=7), "PROTOCOL_BAD_MESSAGE", "$.token"),
    (message("audio_stream_start"), "PROTOCOL_BAD_MESSAGE", "$.config"),
    (message("audio_stream_start", config=[]), "PROTOCOL_BAD_MESSAGE", "$.config"),
    (message("audio_stream_start", config={}), "PROTOCOL_BAD_MESSAGE", "$.config.sampleRate"),
    *(
        (
            message("audio_stream_start", config={**START, name: value}),
            "PROTOCOL_BAD_MESSAGE",
            f"$.config.{name}",
        )
        for name, value in [
            ("sampleRate", "16000"),
            ("sampleRate", 7999),
            ("sampleRate", 48001),
            ("sampleRate", 16000.5),
            ("sampleRate", True),
            ("format", "MP3"),
            ("format", None),
            ("language", 7),
            ("language", ""),
            ("language", "en_US"),
        ]
    ),
    (message("audio_chunk", sequence=0), "PROTOCOL_BAD_MESSAGE", "$.data"),
    (message("audio_chunk", sequence=0, data="%%%"), "PROTOCOL_BAD_MESSAGE", "$.data"),
    (message("audio_chunk", sequence=0, data="AAA"), "PROTOCOL_BAD_MESSAGE", "$.data"),
    (message("audio_chunk", sequence=0, data="AA_-"), "PROTOCOL_BAD_MESSAGE", "$.data"),
    (message("audio_chunk", sequence=0, data=[0, 1]), "PROTOCOL_BAD_MESSAGE", "$.data"),
    (message("audio_chunk", data="AAAA"), "PROTOCOL_BAD_MESSAGE", "$.sequence"),
    (message("audio_chunk", sequence="0", data="AAAA"), "PROTOCOL_BAD_MESSAGE", "$.sequence"),
    (message("audio_chunk", sequence=0.5, data="AAAA"), "PROTOCOL_BAD_MESSAGE", "$.sequence"),
    (message("audio_chunk", sequence=2**53 + 2, data="AAAA"), "PROTOCOL_BAD_MESSAGE", "$.sequence"),
    (message("audio_chunk", sequence=10**400, data="AAAA"), "PROTOCOL_BAD_MESSAGE", "$.sequence"),
    (message("audio_stream_end"), "PROTOCOL_BAD_MESSAGE", "$.duration"),
    (message("audio_stream_end", duration="1 s"), "PROTOCOL_BAD_MESSAGE", "$.duration"),
    (message("command", command=["next"]), "PROTOCOL_BAD_MESSAGE", "$.command"),
    (message("command", command="hi", context=[]), "PROTOCOL_BAD_MESSAGE", "$.context"),
    (message("command", command="hi", context=None), "PROTOCOL_BAD_MESSAGE", "$.context"),
    (
        '{"type":"command","timestamp":1,"command":"hi","context":{"a":' + "[" * 500 + "]" * 500 + "}}",
        "PROTOCOL_BAD_MESSAGE",
        "$.context",
    ),
]


async def test_what_is_no_message_has_its_error_and_the_field(gateway: Gateway) -> None:
    async with talking(gateway) as talker:
        for text, code, path in NO_MESSAGES:
            await talker.socket.send(text)
            error = await talker.refused(code)
            assert error["details"].get("path") == path, text[:80]
            assert len(error["message"]) < 400
        await talker.answered()


async def test_fields_that_a_message_does_not_have_are_ignored(gateway: Gateway) -> None:
    async with connected(gateway) as talker:
        await talker.send("auth", token=gateway.token(), device="a car", type_="x")
        await talker.receive("auth_success")
        await talker.send("audio_stream_start", config={**START, "channels": 1}, more={})
        await talker.send("command", command="hi", urgent=True)
        await talker.until("audio_response")


@pytest.mark.own_socket
async def test_invalid_utf8_is_told_and_survived(gateway: Gateway) -> None:
    async with raw_socket(gateway.port) as raw:
        await begun(gateway, raw)
        for frames in (
            [frame(TEXT, b'{"type": "command\xff"}')],
            [frame(TEXT, b"\xed\xa0\x80")],  # a surrogate
            [frame(TEXT, b"\xe2\x82", fin=False), frame(CONT, b"\x28")],
            [frame(TEXT, b'{"type":"command","timestamp":1,"command":"hi","ignored":"\xc3"}')],
        ):
            raw.send(b"".join(frames))
            assert (await raw.message())["code"] == "PROTOCOL_BAD_ENCODING"
        await lives(raw)


async def test_a_character_may_be_split_between_fragments(gateway: Gateway) -> None:
    async with raw_socket(gateway.port) as raw:
        await begun(gateway, raw)
        text = message("command", command="?").replace("?", "Größe €").encode()
        raw.send(frame(TEXT, b"", fin=False))
        raw.send(b"".join(frame(CONT, text[at : at + 1], fin=False) for at in range(len(text))))
        raw.send(frame(CONT, b""))
        while (await raw.message())["type"] != "audio_response":
            pass
    assert gateway.upstream.conversations[0].texts == ["Größe €"]


async def test_pings_are_answered_in_mid_fragment_too(gateway: Gateway) -> None:
    async with raw_socket(gateway.port) as raw:
        await begun(gateway, raw)
        text = message("command", command="hi").encode()
        raw.send(frame(PING, bytes(125)))
        assert await raw.receive() == (PONG, bytes(125))
        raw.send(frame(TEXT, text[:9], fin=False) + frame(PING, b"mid"))
        assert await raw.receive() == (PONG, b"mid")
        raw.send(frame(PONG, b"nobody asked") + frame(CONT, text[9:]))
        while (await raw.message())["type"] != "audio_response":
            pass


async def test_a_fragmented_binary_message_is_one_error(gateway: Gateway) -> None:
    async with raw_socket(gateway.port) as raw:
        await begun(gateway, raw)
        raw.send(frame(BINARY, b"ab", fin=False) + frame(CONT, b"cd", fin=False) + frame(CONT, b"ef"))
        assert (await raw.message())["code"] == "PROTOCOL_BINARY_UNEXPECTED"
        raw.send(frame(PING))
        assert await raw.receive() == (PONG, b"")
        await lives(raw)


# ---- the limit of 64 KiB


async def test_a_message_of_64_kib_is_taken(gateway: Gateway) -> None:
    async with talking(gateway) as talker:
        text = message("command", command="hi")
        await talker.socket.send(text[:-1] + " " * (MAX_MESSAGE_BYTES - len(text)) + "}")
        await talker.until("audio_response")


async def test_one_byte_more_is_too_big(gateway: Gateway) -> None:
    async with talking(gateway) as talker:
        await talker.socket.send(" " * (MAX_MESSAGE_BYTES + 1))
        await talker.closed("PROTOCOL_TOO_BIG", 1009)


OVERSIZED = {
    "one frame": frame(TEXT, bytes(MAX_MESSAGE_BYTES + 1)),
    "fragments": frame(TEXT, bytes(40_000), fin=False) + frame(CONT, bytes(40_000)),
    "binary": frame(BINARY, bytes(MAX_MESSAGE_BYTES + 1)),
}


@pytest.mark.parametrize("sent", OVERSIZED.values(), ids=OVERSIZED.keys())
async def test_what_is_too_big_is_told_and_closed(gateway: Gateway, sent: bytes) -> None:
    async with raw_socket(gateway.port) as raw:
        await begun(gateway, raw)
        raw.send(sent)
        await raw.closed("PROTOCOL_TOO_BIG", 1009)


NEVER_WHOLE = {
    "endless fragments": frame(TEXT, b"", fin=False) + frame(CONT, bytes(1000), fin=False) * 100,
    "only announced": frame(TEXT, b"abc", announced=1 << 40),
}


@pytest.mark.own_socket
@pytest.mark.parametrize("sent", NEVER_WHOLE.values(), ids=NEVER_WHOLE.keys())
async def test_what_never_is_whole_is_told_and_closed(gateway: Gateway, sent: bytes) -> None:
    await test_what_is_too_big_is_told_and_closed(gateway, sent)


# ---- compression


async def test_compression_is_not_negotiated(gateway: Gateway) -> None:
    async with raw_socket(gateway.port) as raw:
        response = await raw.upgrade(**{"Sec-WebSocket-Extensions": "permessage-deflate"})
        assert "sec-websocket-extensions" not in response.headers


# ---- violations of RFC 6455

VIOLATIONS = {
    "a compressed frame": frame(TEXT, b"\x78\x9c", rsv=RSV1),
    "an unmasked frame": frame(TEXT, b"{}", masked=False),
    "a reserved opcode": frame(0x3, b""),
    "a reserved control opcode": frame(0xB, b""),
    "a fragmented ping": frame(PING, b"", fin=False),
    "a long ping": frame(PING, bytes(126)),
    "a continuation of nothing": frame(CONT, b"{}"),
    "a message within a message": frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"),
    "a close of one byte": frame(CLOSE, b"\x03"),
    "a close with a forbidden code": frame(CLOSE, struct.pack(">H", 1005)),
    "a close within a message": frame(TEXT, b"{", fin=False) + frame(CLOSE, struct.pack(">H", 1000)),
    "a close with a broken reason": frame(CLOSE, struct.pack(">H", 1000) + b"\xff"),
}


@pytest.mark.own_socket
@pytest.mark.parametrize("sent", VIOLATIONS.values(), ids=VIOLATIONS.keys())
async def test_a_violation_is_told_and_closed(gateway: Gateway, sent: bytes) -> None:
    async with raw_socket(gateway.port) as raw:
        await begun(gateway, raw)
        raw.send(sent)
        error = await raw.message()
        assert (error["code"], error["details"]["fatal"]) == ("PROTOCOL_BAD_FRAME", True)
        opcode, payload = await raw.receive()
        assert (opcode, payload[:2]) == (CLOSE, struct.pack(">H", 1002))
        await raw.ended()


@pytest.mark.own_socket
async def test_messages_before_a_violation_still_count(gateway: Gateway) -> None:
    async with raw_socket(gateway.port) as raw:
        await raw.upgrade()
        raw.send(frame(TEXT, b"nope") + frame(0x3))
        assert (await raw.message())["code"] == "PROTOCOL_BAD_JSON"
        await raw.closed("PROTOCOL_BAD_FRAME", 1002)


async def test_a_close_is_echoed(gateway: Gateway) -> None:
    async with raw_socket(gateway.port) as raw:
        await begun(gateway, raw)
        raw.send(frame(CLOSE, struct.pack(">H", 4000) + b"bye"))
        assert await raw.receive() == (CLOSE, struct.pack(">H", 4000) + b"bye")
        await raw.ended()
    await gateway.deserted()


# ---- what is sent before the handshake is answered


@pytest.mark.own_socket
async def test_frames_right_behind_the_handshake_are_taken(gateway: Gateway) -> None:
    async with raw_socket(gateway.port) as raw:
        raw.send(request("/ws", UPGRADE) + frame(PING, b"early") + frame(TEXT, auth(gateway)))
        assert (await raw.response()).status == 101
        assert await raw.receive() == (PONG, b"early")
        assert (await raw.message())["type"] == "auth_success"


@pytest.mark.own_socket
async def test_a_close_right_behind_the_handshake_is_echoed(gateway: Gateway) -> None:
    async with raw_socket(gateway.port) as raw:
        raw.send(request("/ws", UPGRADE) + frame(CLOSE, struct.pack(">H", 1000)))
        assert (await raw.response()).status == 101
        assert await raw.receive() == (CLOSE, struct.pack(">H", 1000))
        await raw.ended()


@pytest.mark.own_socket
@pytest.mark.parametrize(
    "sent",
    [frame(PING), frame(CLOSE), frame(TEXT, b"{}"), b"user=alice", bytes(9)],
    ids=["ping", "close", "text", "form", "zeros"],
)
async def test_frames_right_behind_a_plain_request_are_not(gateway: Gateway, sent: bytes) -> None:
    async with raw_socket(gateway.port) as raw:
        response = await raw.request("/healthz", body=sent)
    assert (response.status, response.body) == (200, b"ok\n")


# ---- messages out of turn


async def test_nothing_but_auth_may_come_first(gateway: Gateway) -> None:
    async with connected(gateway) as talker:
        await talker.start()
        await talker.refused("AUTH_REQUIRED")
        await talker.chunk(bytes(2))
        await talker.refused("AUTH_REQUIRED")
        await talker.end()
        await talker.refused("AUTH_REQUIRED")
        await talker.send("command", command="hi")
        await talker.refused("AUTH_REQUIRED")
        await talker.auth(gateway.token())
        await talker.answered()
    assert gateway.upstream.conversations[0].texts == ["Are you there?"]


async def test_audio_needs_an_open_stream(gateway: Gateway) -> None:
    async with talking(gateway) as talker:
        await talker.chunk(bytes(2))
        await talker.refused("AUDIO_STREAM_INACTIVE")
        await talker.end()
        await talker.refused("AUDIO_STREAM_INACTIVE")
        await talker.speak(bytes(6400))
        await talker.until("audio_response")
        await talker.chunk(bytes(2))
        await talker.until("error", code="AUDIO_STREAM_INACTIVE")
        await talker.answered()


async def test_a_second_start_leaves_the_open_stream_alone(gateway: Gateway) -> None:
    async with talking(gateway) as talker:
        await talker.start()
        await talker.chunk(b"\1\0" * 800)
        await talker.start(rate_hz=8000, audio_format="FLAC")
        await talker.refused("AUDIO_STREAM_ACTIVE")
        await talker.chunk(b"\2\0" * 800)
        await talker.end()
        await talker.until("audio_response")
    assert gateway.upstream.conversations[0].heard == b"\1\0" * 800 + b"\2\0" * 800


async def test_whoever_keeps_on_is_cut(gateway: Gateway) -> None:
    async with talking(gateway) as talker:
        for _ in range(101):
            await talker.socket.send("nope")
        for _ in range(100):
            await talker.refused("PROTOCOL_BAD_JSON")
        await talker.closed("PROTOCOL_TOO_MANY_ERRORS", 4400)


async def test_unauthenticated_chatter_is_cut_too(gateway: Gateway) -> None:
    async with connected(gateway) as talker:
        for _ in range(101):
            await talker.send("command", command="let me in")
        await talker.closed("PROTOCOL_TOO_MANY_ERRORS", 4400)


# ---- what the server says


async def test_errors_tell_what_a_client_should_know(gateway: Gateway) -> None:
    async with talking(gateway) as talker:
        await talker.socket.send('{"type": "audio_chunk", "timestamp": 1, "sequence": 0, "data": "?"}')
        error = await talker.receive("error")
    assert error["code"] in {code.value for code in ErrorCode}
    details: dict[str, Any] = error["details"]
    assert details.pop("traceId")
    assert details == {"fatal": False, "retryable": False, "path": "$.data"}


async def test_a_subprotocol_nobody_speaks_is_not_chosen(gateway: Gateway) -> None:
    async with raw_socket(gateway.port) as raw:
        response = await raw.upgrade(**{"Sec-WebSocket-Protocol": "chat, superchat"})
        assert "sec-websocket-protocol" not in response.headers
        raw.send(frame(TEXT, auth(gateway)))
        success = await raw.message()
    assert json.dumps(success).count(success["sessionId"]) == 1
    assert len(success["sessionId"]) >= 22  # 128 bits at the least
