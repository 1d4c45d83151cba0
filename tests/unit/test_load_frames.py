"""A client's WebSocket frames, held against a library's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as LibraryFrame
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from antiphon.load.frames import BINARY, CLOSE, TEXT, FrameError, FrameReader, handshake, masked


def server(subprotocol: str | None = None) -> tuple[ServerProtocol, bytes]:
    """Return a library's server and what it answered to our handshake."""
    protocol = ServerProtocol(subprotocols=["antiphon.v1"] if subprotocol else None)  # type: ignore[list-item]
    protocol.receive_data(handshake("127.0.0.1:8080", "/ws?a=b", subprotocol))
    (request,) = protocol.events_received()
    protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
    return protocol, b"".join(protocol.data_to_send())


@pytest.mark.parametrize("size", [0, 1, 125, 126, 4300, 65_535, 65_536])
def test_a_library_reads_our_frames(size: int) -> None:
    protocol, answer = server()
    assert answer.startswith(b"HTTP/1.1 101 ")
    payload = bytes(number % 251 for number in range(size))
    protocol.receive_data(masked(BINARY, payload))
    (frame,) = protocol.events_received()
    assert isinstance(frame, LibraryFrame)
    assert (frame.opcode, bytes(frame.data)) == (Opcode.BINARY, payload)


def test_the_subprotocol_is_offered() -> None:
    _, answer = server("antiphon.v1")
    assert b"Sec-WebSocket-Protocol: antiphon.v1" in answer


def test_a_frame_is_masked_by_a_mask_of_its_own() -> None:
    assert masked(TEXT, b"the same") != masked(TEXT, b"the same")


@given(st.lists(st.binary(max_size=300)), st.integers(1, 7))
def test_frames_are_read_however_they_are_cut(payloads: list[bytes], size: int) -> None:
    stream = b"".join(LibraryFrame(Opcode.TEXT, each).serialize(mask=False) for each in payloads)
    reader = FrameReader()
    found = [
        (frame.kind, frame.payload)
        for at in range(0, len(stream), size)
        for frame in reader.feed(stream[at : at + size])
    ]
    assert found == [(TEXT, each) for each in payloads]


def test_long_frames() -> None:
    reader = FrameReader()
    data = LibraryFrame(Opcode.TEXT, bytes(300)).serialize(mask=False)
    for begin, end in ((0, 3), (3, 4), (4, 200)):
        assert list(reader.feed(data[begin:end])) == []
    (frame,) = reader.feed(data[200:])
    assert len(frame.payload) == 300
    data = LibraryFrame(Opcode.TEXT, bytes(70_000)).serialize(mask=False)
    assert list(reader.feed(data[:6])) == []
    (frame,) = reader.feed(data[6:] + LibraryFrame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)[:1])
    assert len(frame.payload) == 70_000
    (close,) = reader.feed(b"\x02\x03\xe8")
    assert (close.kind, close.payload) == (CLOSE, b"\x03\xe8")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (LibraryFrame(Opcode.TEXT, b"abc").serialize(mask=True), "masked"),
        (LibraryFrame(Opcode.TEXT, b"abc", fin=False).serialize(mask=False), "in pieces"),
        (LibraryFrame(Opcode.CONT, b"abc").serialize(mask=False), "in pieces"),
        (LibraryFrame(Opcode.TEXT, bytes(2**20 + 1)).serialize(mask=False), "1048577 bytes"),
    ],
)
def test_what_is_none_of_a_servers_frames(data: bytes, why: str) -> None:
    with pytest.raises(FrameError, match=why):
        list(FrameReader().feed(data))
