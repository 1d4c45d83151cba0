"""Peers that break HTTP/2, by accident or not: what is affected ends, and the next call goes well.

What the native client makes of it is written down for each. grpcio differs, from one version to the next
too: it says UNKNOWN ("Stream removed") of a call whose connection was broken, and passes over much, as what
belongs to no stream or comes in a flood. Of it is asked what the gateway needs: nothing hangs, nothing grows,
and the next call goes well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psutil
import pytest
from hpack import Encoder

from antiphon.gemini import grpcio_calls
from antiphon.gemini.upstream import ClientName
from antiphon.rpc import RpcError, Status, frames, grpc
from antiphon.rpc import channel as channels
from rpc.conformance.using import WITHIN_S, Calls, calling, connected, end_of, outcome
from rpc.hand_made_server import DONE, OK, Peer, serving

PING = frames.pack(frames.PING, 0, 0, bytes(8))
MANY = 20_000
BOMB = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 1000
"""A header of 4,000 bytes, which is then named 1,000 times by one byte each."""


async def answering(peer: Peer) -> None:
    """Answer each call with one message, and end it."""
    await peer.begin()
    while True:
        answer(peer, await peer.call())


def answer(peer: Peer, stream: int) -> None:
    peer.headers(stream)
    peer.data(stream, grpc.framed(b"hello"))
    peer.headers(stream, DONE, ends=True)


async def a_good_call(calls: Calls) -> None:
    async with connected(calls) as call, asyncio.timeout(WITHIN_S):
        assert await call.read() == b"hello"
        assert (await end_of(call)).status is Status.OK


async def a_call(calls: Calls) -> None:
    """Make one, and read to its end."""
    async with calls.call() as call:
        await call.connected()
        while True:
            await call.read()


async def a_good_call_at_last(calls: Calls) -> None:
    """The connection that was bad may yet have taken a call."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                await a_good_call(calls)
            except RpcError:
                continue
            return


Sent = Callable[[int], bytes]
"""What comes amid an answer, on the stream of this number."""


def block(*headers: tuple[str, str]) -> bytes:
    """Encode headers without a trace in the tables."""
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers
    )


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int | None = None) -> Sent:
    """Return what makes a frame; on the call's stream unless another is named."""
    return lambda number: frames.pack(kind, flags, number if stream is None else stream, payload)


GONE, FINE, BROKEN = Status.UNAVAILABLE, Status.OK, Status.INTERNAL

CASES: dict[str, tuple[Sent, Status]] = {
    "DATA of no stream": (frame(frames.DATA, b"x", stream=0), GONE),
    "DATA of a stream to come": (frame(frames.DATA, b"x", stream=99), GONE),
    "a frame that is too long": (lambda n: frames.head(2**24 - 1, frames.DATA, 0, n) + bytes(20_000), GONE),
    "padding of more than there is": (frame(frames.DATA, b"\xff", frames.PADDED), GONE),
    "padding without a length": (frame(frames.DATA, b"", frames.PADDED), GONE),
    "headers that cannot be decoded": (frame(frames.HEADERS, b"\xff\xff\xff\xff\xff\xff\xff", 4), GONE),
    "headers of no stream": (frame(frames.HEADERS, block(*DONE), 5, stream=0), GONE),
    "headers of a stream to come": (frame(frames.HEADERS, block(*DONE), 5, stream=99), GONE),
    "a bomb of headers": (frame(frames.HEADERS, BOMB, 5), GONE),
    "endless headers": (
        lambda n: (
            frames.pack(frames.HEADERS, 0, n) + frames.pack(frames.CONTINUATION, 0, n, bytes(16_000)) * 200
        ),
        GONE,
    ),
    "headers a byte at a time": (
        lambda n: frames.pack(frames.HEADERS, 0, n) + frames.pack(frames.CONTINUATION, 0, n, b"\0") * MANY,
        GONE,
    ),
    "interrupted headers": (lambda n: frames.pack(frames.HEADERS, 0, n) + PING, GONE),
    "a lonely CONTINUATION": (frame(frames.CONTINUATION, block(*DONE), 5), GONE),
    "headers in the middle": (frame(frames.HEADERS, block(("a", "b")), 4), BROKEN),
    "a header in upper case": (frame(frames.HEADERS, block(("Upper", "x"), *DONE), 5), BROKEN),
    "a :status in the trailers": (frame(frames.HEADERS, block((":status", "200"), *DONE), 5), FINE),
    "PRIORITY that is too short": (frame(frames.PRIORITY, b"x"), GONE),
    "RST_STREAM that is too short": (frame(frames.RST_STREAM, b"x"), GONE),
    "RST_STREAM of no stream": (frame(frames.RST_STREAM, bytes(4), stream=0), GONE),
    "RST_STREAM of a stream to come": (frame(frames.RST_STREAM, bytes(4), stream=99), GONE),
    "SETTINGS that are not whole": (frame(frames.SETTINGS, bytes(5), stream=0), GONE),
    "SETTINGS of a stream": (frame(frames.SETTINGS, bytes(6)), GONE),
    "an acknowledgement with content": (frame(frames.SETTINGS, bytes(6), 1, stream=0), GONE),
    "SETTINGS that enable push": (lambda _: frames.settings({2: 1}), GONE),
    "SETTINGS of a window too large": (lambda _: frames.settings({4: 2**31}), GONE),
    "SETTINGS of frames too small": (lambda _: frames.settings({5: 1}), GONE),
    "PUSH_PROMISE": (frame(frames.PUSH_PROMISE, bytes(4), 4), GONE),
    "PING that is too short": (frame(frames.PING, bytes(7), stream=0), GONE),
    "PING of a stream": (frame(frames.PING, bytes(8)), GONE),
    "GOAWAY that is too short": (frame(frames.GOAWAY, bytes(7), stream=0), GONE),
    "GOAWAY of a stream": (frame(frames.GOAWAY, bytes(8)), GONE),
    "GOAWAY with nonsense": (lambda _: frames.go_away(2**31 - 1, 2**32 - 1, b"\xff" * 9000), FINE),
    "GOAWAY again and again": (lambda _: frames.go_away(2**31 - 1, 0) * 3, FINE),
    "WINDOW_UPDATE that is too short": (frame(frames.WINDOW_UPDATE, bytes(3), stream=0), GONE),
    "WINDOW_UPDATE of nothing": (lambda _: frames.window_update(0, 0), GONE),
    "WINDOW_UPDATE of too much": (lambda _: frames.window_update(0, 2**31 - 1) * 2, GONE),
    "WINDOW_UPDATE of nothing for the stream": (lambda n: frames.window_update(n, 0), BROKEN),
    "WINDOW_UPDATE of too much for the stream": (lambda n: frames.window_update(n, 2**31 - 1) * 2, BROKEN),
    "more DATA than the window": (
        lambda n: frames.pack(frames.DATA, 0, n, grpc.framed(bytes(16_000))) * 600,
        BROKEN,
    ),
    "frames that nobody knows": (frame(99, b"what is this?", 255), FINE),
    "a message of garbage": (frame(frames.DATA, b"\xff\xff\xff\xff\xff"), BROKEN),
    "garbage": (lambda _: bytes(range(256)) * 100, GONE),
    "HTTP/1.1": (lambda _: b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", GONE),
    "a flood of PING": (lambda _: PING * MANY, GONE),
    "a flood of SETTINGS": (lambda _: frames.settings({3: 100}) * MANY, GONE),
    "a flood of acknowledgements": (lambda _: frames.pack(frames.SETTINGS, 1, 0) * MANY, GONE),
    "a flood of DATA that is empty": (lambda n: frames.pack(frames.DATA, 0, n) * MANY, GONE),
    "a flood of WINDOW_UPDATE": (
        lambda n: (frames.window_update(n, 1) + frames.window_update(0, 1)) * MANY,
        FINE,
    ),
    "a flood of PRIORITY": (lambda n: frames.pack(frames.PRIORITY, 0, n, bytes(4) + b"\1") * MANY, GONE),
    "a flood of what nobody knows": (lambda n: frames.pack(99, 0, n, b"x") * MANY, GONE),
    "a flood of RST_STREAM": (lambda n: frames.reset(n, 8) * MANY, Status.CANCELLED),
}


NOT_OF_GRPCIO = {"padding of more than there is", "padding without a length", "more DATA than the window"}
"""It knows of no padding, which no server of gRPC uses, and takes it for part of the message. A call that is
sent more than its window it leaves as it is, for ever: the gateway's health check finds that out.
"""


@pytest.mark.parametrize("name", CASES)
async def test_amid_an_answer(client: ClientName, name: str) -> None:
    sent, status = CASES[name]
    if client == "grpcio" and name in NOT_OF_GRPCIO:
        return

    async def hostile(peer: Peer) -> None:
        await peer.begin()
        stream = await peer.call()
        peer.headers(stream)
        peer.data(stream, grpc.framed(b"first"))
        peer.send(sent(stream))
        peer.headers(stream, DONE, ends=True)
        while True:
            answer(peer, await peer.call())

    async with (
        serving(hostile, answering) as port,
        calling(client, f"127.0.0.1:{port}", wait_for_ready=True) as calls,
    ):
        ended = await outcome(a_call(calls))
        assert client == "grpcio" or ended.status is status, ended
        await a_good_call_at_last(calls)
        await a_good_call(calls)


AFTERWARDS: dict[str, Sent] = {
    "DATA": frame(frames.DATA, grpc.framed(b"more")),
    "headers": frame(frames.HEADERS, block(*DONE), 5),
    "RST_STREAM": frame(frames.RST_STREAM, bytes(4)),
    "RST_STREAM again and again": lambda n: frames.reset(n, 0) * 500,
    "WINDOW_UPDATE": lambda n: frames.window_update(n, 1),
}


@pytest.mark.parametrize("name", AFTERWARDS)
async def test_after_the_end_of_a_call(client: ClientName, name: str) -> None:
    """It may have been on its way when the client left, and is of no harm to the connection."""

    async def late(peer: Peer) -> None:
        await peer.begin()
        while True:
            stream = await peer.call()
            answer(peer, stream)
            peer.send(AFTERWARDS[name](stream))

    async with serving(late) as port, calling(client, f"127.0.0.1:{port}") as calls:
        for _ in range(3):
            await a_good_call(calls)


# ---- before anything else


async def silent(peer: Peer) -> None:
    await peer.gone()


async def slow(peer: Peer) -> None:
    """Say the half of it, a byte at a time, and no more."""
    for byte in frames.settings({3: 100})[:12]:
        peer.send(bytes([byte]))
        await peer.drain()
    await peer.gone()


async def cut(peer: Peer) -> None:
    peer.cut()


async def leaving(peer: Peer) -> None:
    await peer.begin()
    peer.send(frames.go_away(0, 11, b"too_many_pings"))
    await peer.gone()


def says(data: bytes) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        peer.send(data)
        await peer.gone()

    return script


BEGINNINGS = {
    "nothing": silent,
    "half of it": slow,
    "the end": cut,
    "GOAWAY": leaving,
    "garbage": says(bytes(range(255, 0, -1)) * 50),
    "HTTP/1.1": says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    "an alert of TLS": says(b"\x15\x03\x01\x00\x02\x02\x46"),
    "no SETTINGS": says(PING),
    "SETTINGS that are none": says(frames.pack(frames.SETTINGS, 0, 0, bytes(5))),
    "a frame that is too long": says(b"\xff" * 9),
    "a greeting": says(b"220 mail.example ESMTP\r\n"),
}


@pytest.mark.parametrize("name", BEGINNINGS)
async def test_what_begins_otherwise(client: ClientName, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CONNECT_S", 0.5)
    patient = dict(grpcio_calls._CHANNEL_OPTIONS) | {"grpc.min_reconnect_backoff_ms": 500}
    monkeypatch.setattr(grpcio_calls, "_CHANNEL_OPTIONS", tuple(patient.items()))
    if (client, name) == ("grpcio", "GOAWAY"):
        pytest.skip("grpcio asks a server for ever that goes away before it has looked at a call")
    async with serving(BEGINNINGS[name]) as port, calling(client, f"127.0.0.1:{port}") as calls:
        for _ in range(2):
            assert (await outcome(a_call(calls))).status is not Status.OK
    async with (
        serving(BEGINNINGS[name], answering) as port,
        calling(client, f"127.0.0.1:{port}", wait_for_ready=True) as calls,
    ):
        await a_good_call_at_last(calls)


# ---- what is not usual and right


@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
async def test_however_it_is_cut(client: ClientName, size: int) -> None:
    """A whole answer comes a byte at a time, or in one segment with all that there is."""
    encoder = Encoder()
    pads = client != "grpcio"

    async def cutting(peer: Peer) -> None:
        await peer.begin()
        stream = await peer.call()
        early = encoder.encode(OK)
        whole = b"".join(
            [
                PING,
                frames.pack(frames.HEADERS, frames.PADDED, stream, b"\x03" + early[:2] + bytes(3))
                if pads
                else frames.pack(frames.HEADERS, 0, stream, early[:2]),
                frames.pack(frames.CONTINUATION, 0, stream, early[2:5]),
                frames.pack(frames.CONTINUATION, frames.END_HEADERS, stream, early[5:]),
                frames.settings({frames.INITIAL_WINDOW_SIZE: 100}),
                frames.pack(frames.DATA, 0, stream, b"\0\0"),
                frames.pack(frames.DATA, frames.PADDED, stream, b"\x09\0\0\x05he" + bytes(9))
                if pads
                else frames.pack(frames.DATA, 0, stream, b"\0\0\x05he"),
                frames.pack(77, 255, stream, b"?"),
                frames.pack(frames.DATA, 0, stream, b"llo" + grpc.framed(b"") + grpc.framed(b"two")),
                frames.window_update(stream, 5),
                frames.pack(frames.HEADERS, 5, stream, encoder.encode(DONE)),
            ]
        )
        for at in range(0, len(whole), size):
            peer.send(whole[at : at + size])
            await asyncio.sleep(0)
        await peer.gone()

    async with (
        serving(cutting) as port,
        calling(client, f"127.0.0.1:{port}") as calls,
        connected(calls) as call,
        asyncio.timeout(WITHIN_S),
    ):
        assert [await call.read() for _ in range(3)] == [b"hello", b"", b"two"]
        assert (await end_of(call)).status is Status.OK


# ---- memory


async def test_who_asks_and_does_not_read_is_left() -> None:
    """Data comes in between, so that it is no flood; grpcio stops reading instead."""

    async def deaf(peer: Peer) -> None:
        await peer.begin()
        stream = await peer.call()
        peer.headers(stream)
        while True:
            peer.send(PING * 900)
            peer.data(stream, grpc.framed(b"x"))
            await peer.drain()

    async with (
        serving(deaf, answering) as port,
        calling("native", f"127.0.0.1:{port}", wait_for_ready=True) as calls,
    ):
        ended = await outcome(a_call(calls))
        assert (ended.status, ended.details) == (Status.UNAVAILABLE, "The server does not read.")
        await a_good_call_at_last(calls)


ENDLESS_BYTES = 200 * 1024 * 1024
GROWS_BYTES = 100 * 1024 * 1024
ENDLESS: dict[str, Sent] = {
    "headers": lambda n: frames.pack(frames.CONTINUATION, 0, n, bytes(16_000)) * 8,
    "DATA": lambda n: frames.pack(frames.DATA, 0, n, bytes(16_000)) * 8,
    "DATA of a message": lambda n: frames.pack(frames.DATA, 0, n, b"\0\0\xff\xff\xff" + bytes(16_000)) * 8,
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_does_not_end_takes_no_memory(name: str) -> None:
    """The client reads nothing, and is sent far more than it has allowed.

    This is not asked of grpcio: it reads such a connection no more, and neither ends it nor its calls.
    """
    grown = 0
    begin = psutil.Process().memory_info().rss

    async def endless(peer: Peer) -> None:
        nonlocal grown
        await peer.begin()
        stream = await peer.call()
        peer.headers(stream)
        if name == "headers":
            peer.send(frames.pack(frames.HEADERS, frames.END_STREAM, stream))
        part = ENDLESS[name](stream)
        try:
            for _ in range(ENDLESS_BYTES // len(part)):
                peer.send(part)
                await peer.drain()
                grown = max(grown, psutil.Process().memory_info().rss - begin)
        finally:
            over.set()
        peer.cut()

    async def idle_call() -> None:
        async with calls.call() as call:
            await call.connected()
            await over.wait()  # nothing is read until then
            while True:
                await call.read()

    over = asyncio.Event()
    async with (
        serving(endless, answering) as port,
        calling("native", f"127.0.0.1:{port}", wait_for_ready=True) as calls,
    ):
        assert (await outcome(idle_call())).status is not Status.OK
        assert grown < GROWS_BYTES
        await a_good_call_at_last(calls)
