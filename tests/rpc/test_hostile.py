"""The client against servers that go away, break the protocol, or do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from antiphon.rpc import Call, Channel, RpcError, Status, frames, grpc
from antiphon.rpc import channel as channels
from antiphon.rpc import connection as connections
from antiphon.rpc.status import Http2Code
from rpc.hand_made_server import DONE, OK, Peer, serving

METHOD = "/test.Test/Test"


@asynccontextmanager
async def channel(port: int, **options: Any) -> AsyncIterator[Channel]:
    made = Channel("127.0.0.1", port, **options)
    try:
        yield made
    finally:
        async with asyncio.timeout(5):
            await made.aclose()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def end_of(call: Call) -> RpcError:
    async with asyncio.timeout(5):
        with pytest.raises(RpcError) as ended:
            while True:
                await call.read()
    return ended.value


async def echo(peer: Peer) -> None:
    """Answer each call with one message, and end it."""
    await peer.begin()
    while True:
        stream = await peer.call()
        peer.headers(stream)
        peer.data(stream, grpc.framed(b"hello"))
        peer.headers(stream, DONE, ends=True)


async def test_a_server_that_goes_away_lets_calls_end_and_new_ones_go_elsewhere() -> None:
    async def leaving(peer: Peer) -> None:
        await peer.begin()
        stream = await peer.call()
        peer.headers(stream)
        peer.send(frames.go_away(stream, 0, b"restart"))
        await asyncio.sleep(0.3)
        peer.data(stream, grpc.framed(b"last words"))
        peer.headers(stream, DONE, ends=True)
        await peer.gone()

    async with serving(leaving, echo) as port, channel(port) as made:
        async with made.call(METHOD) as first:
            await until(lambda: not made.ready)
            async with made.call(METHOD) as second:
                assert await second.read() == b"hello"
            assert await first.read() == b"last words"
            assert (await end_of(first)).status is Status.OK
        await until(lambda: made.size == 1)  # the one that went away is closed


async def test_what_a_server_that_goes_away_has_not_looked_at_is_unavailable() -> None:
    async def leaving(peer: Peer) -> None:
        await peer.begin()
        await peer.call()
        peer.send(frames.go_away(0, 0))
        await peer.gone()

    async with serving(leaving) as port, channel(port) as made, made.call(METHOD) as call:
        assert (await end_of(call)).status is Status.UNAVAILABLE


async def test_a_server_that_breaks_the_protocol_is_told_so_and_left() -> None:
    codes: list[int] = []

    async def broken(peer: Peer) -> None:
        await peer.begin()
        stream = await peer.call()
        peer.data(stream + 2, b"x")
        codes.append(frames.parse_go_away((await peer.until(frames.GOAWAY)).payload)[1])

    async with serving(broken, echo) as port, channel(port) as made:
        async with made.call(METHOD) as call:
            ended = await end_of(call)
        assert ended.status is Status.UNAVAILABLE
        assert "breaks HTTP/2" in ended.details
        async with made.call(METHOD, wait_for_ready=True) as call:
            assert await call.read() == b"hello", "another connection is made"
    assert codes == [Http2Code.PROTOCOL_ERROR]


async def test_what_is_wrong_with_one_call_ends_that_alone() -> None:
    async def odd(peer: Peer) -> None:
        await peer.begin()
        one, three = await peer.call(), await peer.call()
        peer.headers(one, [(":status", "200"), ("Upper", "x")])
        peer.headers(three)
        peer.data(three, grpc.framed(b"fine"))
        await peer.gone()

    async with (
        serving(odd) as port,
        channel(port) as made,
        made.call(METHOD) as one,
        made.call(METHOD) as three,
    ):
        assert (await end_of(one)).status is Status.INTERNAL
        assert await three.read() == b"fine"


ANSWERS = {
    "no gRPC": ([(":status", "404"), ("content-type", "text/html")], b"", Status.UNIMPLEMENTED),
    "a message before the headers": (None, grpc.framed(b"x"), Status.INTERNAL),
    "a compressed message": (OK, b"\1\0\0\0\1x", Status.INTERNAL),
    "a message that is too long": (OK, b"\0\x7f\0\0\0", Status.RESOURCE_EXHAUSTED),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers_that_are_none(name: str) -> None:
    headers, data, status = ANSWERS[name]
    resets: list[int] = []

    async def odd(peer: Peer) -> None:
        await peer.begin()
        stream = await peer.call()
        if headers:
            peer.headers(stream, headers)
        if data:
            peer.data(stream, data)
        resets.append((await peer.until(frames.RST_STREAM)).stream)

    async with serving(odd) as port, channel(port) as made, made.call(METHOD) as call:
        assert (await end_of(call)).status is status
        with pytest.raises(RpcError):
            call.write(b"more")
        await until(lambda: resets == [1])


async def test_ends_that_are_none() -> None:
    async def odd(peer: Peer) -> None:
        await peer.begin()
        stream = await peer.call()
        peer.headers(stream)
        peer.send(frames.pack(frames.DATA, frames.END_STREAM, stream, grpc.framed(b"x")))
        stream = await peer.call()
        peer.headers(stream)
        peer.data(stream, b"\0\0\0\0\2x")
        peer.headers(stream, DONE, ends=True)
        stream = await peer.call()
        peer.headers(stream, [(":status", "103")])
        peer.headers(stream)
        peer.headers(stream)
        stream = await peer.call()
        peer.headers(stream, [(":status", "200"), ("grpc-status", "5"), ("grpc-message", "no")], ends=True)
        await peer.gone()

    async with serving(odd) as port, channel(port) as made:
        async with made.call(METHOD) as call:
            assert await call.read() == b"x"
            assert (await end_of(call)).status is Status.INTERNAL
        async with made.call(METHOD) as call:
            assert (await end_of(call)).status is Status.INTERNAL
        async with made.call(METHOD) as call:
            assert (await end_of(call)).details == "Headers came in the middle of the answer."
        async with made.call(METHOD) as call:
            ended = await end_of(call)
            assert (ended.status, ended.details) == (Status.NOT_FOUND, "no")


async def test_a_call_waits_for_room() -> None:
    async def narrow(peer: Peer) -> None:
        await peer.begin({frames.MAX_CONCURRENT_STREAMS: 0})
        await asyncio.sleep(0.1)
        peer.send(frames.settings({frames.MAX_CONCURRENT_STREAMS: 1}))
        stream = await peer.call()
        peer.headers(stream)
        peer.data(stream, grpc.framed(b"at last"))
        await peer.gone()

    async with serving(narrow) as port, channel(port) as made, made.call(METHOD) as call:
        assert await call.read() == b"at last"
        assert made.size == 1


async def test_a_writer_waits_for_the_window() -> None:
    async def slow(peer: Peer) -> None:
        await peer.begin({frames.INITIAL_WINDOW_SIZE: 10})
        stream = await peer.call()
        await asyncio.sleep(0.1)
        peer.send(frames.window_update(stream, 1000))
        await peer.gone()

    async with serving(slow) as port, channel(port) as made, made.call(METHOD) as call:
        call.write(bytes(500))
        assert not call.is_drained
        await asyncio.wait_for(call.drained(), 2)
        assert call.is_drained


async def test_a_call_that_ends_lets_its_writer_go() -> None:
    async def slow(peer: Peer) -> None:
        await peer.begin({frames.INITIAL_WINDOW_SIZE: 10})
        stream = await peer.call()
        await asyncio.sleep(0.05)
        peer.send(frames.reset(stream, Http2Code.REFUSED_STREAM))
        await peer.gone()

    async with serving(slow) as port, channel(port) as made, made.call(METHOD) as call:
        call.write(bytes(500))
        with pytest.raises(RpcError) as ended:
            await asyncio.wait_for(call.drained(), 2)
        assert ended.value.status is Status.UNAVAILABLE


async def test_a_connection_that_is_lost_ends_its_calls_and_is_made_again() -> None:
    async def dying(peer: Peer) -> None:
        await peer.begin()
        await peer.call()

    told: list[bool] = []
    async with serving(dying, echo) as port, channel(port) as made:
        keeping = asyncio.create_task(made.keep(told.append))
        async with made.call(METHOD, wait_for_ready=True) as call:
            assert (await end_of(call)).status is Status.UNAVAILABLE
        async with made.call(METHOD, wait_for_ready=True) as call:
            assert await call.read() == b"hello"
        keeping.cancel()
        await asyncio.wait([keeping])
        assert told[:4] == [False, True, False, True]


async def test_a_ping_is_answered_or_the_connection_lost() -> None:
    async def deaf(peer: Peer) -> None:
        await peer.begin()
        ping = await peer.until(frames.PING)
        peer.send(frames.pack(frames.PING, frames.ACK, 0, ping.payload))
        await peer.until(frames.PING)

    async with serving(deaf) as port, channel(port) as made:
        connection = await made.room()
        await asyncio.wait_for(connection.ping(), 2)
        with pytest.raises(RpcError):
            await asyncio.wait_for(connection.ping(), 2)


@pytest.mark.interpreted
async def test_keepalive_finds_out_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEPALIVE_TIMEOUT_S", 0.2)
    pings = 0

    async def deaf(peer: Peer) -> None:
        nonlocal pings
        await peer.begin()
        await peer.call()
        ping = await peer.until(frames.PING)
        peer.send(frames.pack(frames.PING, frames.ACK, 0, ping.payload))
        await peer.until(frames.PING)
        pings = 2
        await asyncio.sleep(5)

    async with serving(deaf) as port, channel(port, keepalive_s=0.1) as made, made.call(METHOD) as call:
        ended = await end_of(call)
        assert (ended.status, ended.details) == (Status.UNAVAILABLE, "The server does not answer.")
        assert pings == 2


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CONNECT_S", 0.2)

    async def silent(peer: Peer) -> None:
        await asyncio.sleep(5)

    async with serving(silent) as port, channel(port) as made:
        with pytest.raises(RpcError) as ended:
            await asyncio.wait_for(made.room(), 2)
        assert "did not answer in time" in ended.value.details


async def test_what_speaks_no_http2_is_said_to() -> None:
    async def web(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()

    async with serving(web) as port, channel(port) as made:
        with pytest.raises(RpcError) as ended:
            await asyncio.wait_for(made.room(), 2)
        assert ended.value.status is Status.UNAVAILABLE


async def test_a_server_that_is_lost_again_and_again_is_not_hammered() -> None:
    begun = 0

    async def dying(peer: Peer) -> None:
        nonlocal begun
        begun += 1
        await peer.begin()

    async with serving(dying) as port, channel(port) as made:
        keeping = asyncio.create_task(made.keep(lambda _: None))
        await asyncio.sleep(1.5)
        keeping.cancel()
        await asyncio.wait([keeping])
    assert 2 <= begun <= 8


async def test_a_closed_channel_makes_no_calls() -> None:
    async with serving(echo) as port, channel(port) as made:
        waiting = asyncio.create_task(made.room(wait_for_ready=True))
        await made.aclose()
        with pytest.raises(RpcError):
            await waiting
        with pytest.raises(RpcError):
            await made.room()
