"""The client's side of HTTP/2, by chance: what a server says comes out the same however it is cut and
interleaved; what is made of it is taken or refused, and nothing goes on for ever.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from antiphon.rpc import frames, grpc
from antiphon.rpc.events import DataCame, Event, HeadersCame, StreamReset
from antiphon.rpc.grpc import Messages
from antiphon.rpc.http2 import Http2Client
from antiphon.rpc.status import Http2Error, RpcError, Status

OK = [(":status", "200"), ("content-type", "application/grpc")]


class Answer(NamedTuple):
    """What a server says on a stream."""

    messages: list[bytes]
    trailers: list[tuple[str, str]]
    cuts: list[int]
    """How long the frames are that it is cut into."""
    paddings: list[int]


names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
answers = st.builds(
    Answer,
    st.lists(st.binary(max_size=100), max_size=4),
    st.lists(st.tuples(names, st.text(st.characters(codec="utf-8"), max_size=20)), max_size=4),
    st.lists(st.integers(1, 200), min_size=1, max_size=6),
    st.lists(st.integers(0, 9), min_size=1, max_size=5),
)


def begun(streams: int) -> Http2Client:
    client = Http2Client()
    list(client.receive(frames.settings({})))
    for _ in range(streams):
        client.open([(":method", "POST")])
    client.take()
    return client


def cut_into(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut bytes into pieces of these sizes, over and over."""
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def headers(stream: int, block: bytes, sizes: list[int], flags: int = 0) -> bytes:
    """Return a block as HEADERS and as many CONTINUATION as it takes."""
    pieces = cut_into(block, sizes)
    kinds = [frames.HEADERS] + [frames.CONTINUATION] * (len(pieces) - 1)
    ends = [0] * (len(pieces) - 1) + [frames.END_HEADERS]
    flags_of = [flags] + [0] * (len(pieces) - 1)
    return b"".join(
        frames.pack(kind, flag | end, stream, piece)
        for kind, flag, end, piece in zip(kinds, flags_of, ends, pieces, strict=True)
    )


def units(answer: Answer, stream: int) -> list[bytes | list[tuple[str, str]]]:
    """Return what an answer is in frames; headers are left as they are, for they depend on those before."""
    body = b"".join(grpc.framed(message) for message in answer.messages)
    found: list[bytes | list[tuple[str, str]]] = [OK]
    for number, piece in enumerate(cut_into(body, answer.cuts)):
        padding = answer.paddings[number % len(answer.paddings)]
        if padding:
            found.append(
                frames.pack(frames.DATA, frames.PADDED, stream, bytes([padding]) + piece + bytes(padding))
            )
        else:
            found.append(frames.pack(frames.DATA, 0, stream, piece))
    found.append([*answer.trailers, ("grpc-status", "0")])
    return found


def conversation(said: list[Answer], order: list[int]) -> bytes:
    """Return what a server says on all streams, in turns of this order."""
    encoder = Encoder()
    left = [units(answer, 2 * number + 1) for number, answer in enumerate(said)]
    out, turn = [], 0
    while any(left):
        number = order[turn % len(order)] % len(said)
        turn += 1
        while not left[number]:
            number = (number + 1) % len(said)
        unit = left[number].pop(0)
        if isinstance(unit, list):
            flags = 0 if left[number] else frames.END_STREAM
            unit = headers(2 * number + 1, encoder.encode(unit), said[number].cuts, flags)
        out.append(unit)
        if turn % 3 == 0:
            out.append(frames.pack(frames.PING, 0, 0, bytes(8)))
    return b"".join(out)


def heard(events: list[Event], number: int) -> tuple[list[bytes], list[tuple[str, str]]]:
    """Return the messages and the trailers of a stream."""
    parts, messages = Messages(10_000), []
    trailers: list[tuple[str, str]] = []
    for event in events:
        match event:
            case DataCame(stream=stream, data=data) if stream == number:
                messages += parts.feed(data)
            case HeadersCame(stream=stream, headers=came, ends=True) if stream == number:
                trailers = list(came)
            case StreamReset():
                pytest.fail(str(event))
    assert parts.whole
    return messages, trailers


@given(
    st.lists(answers, min_size=1, max_size=4),
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.lists(st.integers(1, 400), min_size=1, max_size=20),
)
def test_a_conversation_is_the_same_however_it_is_cut(
    said: list[Answer], order: list[int], cuts: list[int]
) -> None:
    client = begun(len(said))
    events: list[Event] = []
    for piece in cut_into(conversation(said, order), cuts):
        events.extend(client.receive(piece))
    for number, answer in enumerate(said):
        expected = [*answer.trailers, ("grpc-status", "0")]
        assert heard(events, 2 * number + 1) == (answer.messages, expected)


@given(
    st.lists(answers, min_size=1, max_size=3),
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.lists(st.integers(1, 400), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 3), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_whatever_is_made_of_a_conversation_is_taken_or_refused(
    said: list[Answer], order: list[int], cuts: list[int], changes: list[tuple[int, int, int]]
) -> None:
    """Bytes are changed, left out, put in and doubled; only errors of the protocol come of it."""
    sent = bytearray(conversation(said, order))
    for place, how, byte in changes:
        at = place % (len(sent) + 1)
        match how:
            case 0:
                sent[at : at + 1] = bytes([byte])
            case 1:
                del sent[at : at + byte % 20]
            case 2:
                sent[at:at] = bytes([byte])
            case _:
                sent[at:at] = sent[at : at + byte]
    client = begun(len(said))
    parts = {2 * number + 1: Messages(10_000) for number in range(len(said))}
    events = 0
    refused: set[Status] = set()
    try:
        for piece in cut_into(bytes(sent), cuts):
            for event in client.receive(piece):
                events += 1
                match event:
                    case DataCame(stream=stream, data=data):
                        try:
                            parts[stream].feed(data)
                        except RpcError as error:
                            refused.add(error.status)
                            client.reset(stream)
                    case HeadersCame(headers=came, ends=True):
                        grpc.ended(came)
                    case HeadersCame(headers=came):
                        grpc.refusal(came)
                        grpc.metadata_of(came)
                    case _:
                        pass
    except Http2Error:
        pass
    assert refused <= {Status.INTERNAL, Status.RESOURCE_EXHAUSTED}
    assert events <= len(sent)
    assert sum(map(len, client.take())) <= 20 * len(sent) + 1000


@given(st.lists(st.binary(max_size=200), max_size=20), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_messages_are_the_same_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    parts = Messages(200)
    whole = b"".join(grpc.framed(message) for message in messages)
    assert [message for piece in cut_into(whole, cuts) for message in parts.feed(piece)] == messages
    assert parts.whole


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_bytes_of_any_kind_are_messages_or_refused(data: bytes, cuts: list[int]) -> None:
    parts = Messages(100)
    refused: set[Status] = set()
    for piece in cut_into(data, cuts):
        try:
            assert all(len(message) <= 100 for message in parts.feed(piece))
        except RpcError as error:
            refused.add(error.status)
            break
    assert refused <= {Status.INTERNAL, Status.RESOURCE_EXHAUSTED}


@given(
    st.lists(st.integers(0, 100_000), min_size=1, max_size=12), st.lists(st.integers(1, 70_000), min_size=1)
)
def test_what_is_sent_is_whole_whatever_the_windows(sizes: list[int], grants: list[int]) -> None:
    """The peer opens its windows bit by bit; what it gets is what was sent, in frames that it takes."""
    client = begun(1)
    sent, got = b"", b""
    for number, size in enumerate(sizes):
        sent += bytes([number]) * size
        client.send(1, bytes([number]) * size, ends=number == len(sizes) - 1)
    room, turn, ended = frames.WINDOW_BYTES, 0, False
    while True:
        for frame in frames.FrameReader().feed(b"".join(client.take())):
            assert frame.kind == frames.DATA
            got += frame.payload
            ended |= bool(frame.flags & frames.END_STREAM)
        assert len(got) <= room
        if ended:
            break
        grant = max(1000, grants[turn % len(grants)])
        room, turn = room + grant, turn + 1
        list(client.receive(frames.window_update(0, grant) + frames.window_update(1, grant)))
    assert got == sent
