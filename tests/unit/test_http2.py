"""The client's side of HTTP/2, against frames made by hand."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from antiphon.rpc import frames
from antiphon.rpc.events import (
    DataCame,
    Event,
    Flushed,
    Frame,
    GoingAway,
    HeadersCame,
    PingAnswered,
    SettingsCame,
    StreamReset,
)
from antiphon.rpc.frames import FrameReader
from antiphon.rpc.http2 import CONNECTION_WINDOW_BYTES, MAX_IDLE_FRAMES, STREAM_WINDOW_BYTES, Http2Client
from antiphon.rpc.status import Http2Code, Http2Error

SETTINGS = frames.settings({})
OK = [(":status", "200"), ("content-type", "application/grpc")]


class Peer:
    """A client, and a server that is written by hand."""

    def __init__(self, settings: bytes = SETTINGS) -> None:
        self.client = Http2Client()
        self.encoder = Encoder()
        self.sent = b"".join(self.client.take())
        self.events = self.give(settings)

    def give(self, data: bytes) -> list[Event]:
        events = list(self.client.receive(data))
        self.sent += b"".join(self.client.take())
        return events

    def fails(self, data: bytes) -> Http2Code:
        """Give what breaks the connection; return the code that the peer is told."""
        with pytest.raises(Http2Error) as error:
            self.give(data)
        self.sent += b"".join(self.client.take())
        (last,) = [frame for frame in self.frames() if frame.kind == frames.GOAWAY]
        _, code, _ = frames.parse_go_away(last.payload)
        assert code == error.value.code
        return error.value.code

    def open(self) -> int:
        number = self.client.open([(":method", "POST"), ("a", "b")])
        self.sent += b"".join(self.client.take())
        return number

    def headers(self, stream: int, headers: list[tuple[str, str]] = OK, *, ends: bool = False) -> bytes:
        flags = frames.END_HEADERS | frames.END_STREAM * ends
        return frames.pack(frames.HEADERS, flags, stream, self.encoder.encode(headers))

    def frames(self) -> list[Frame]:
        """Return what the client has sent since the last call."""
        sent, self.sent = self.sent.removeprefix(frames.PREFACE), b""
        return list(FrameReader().feed(sent))

    def kinds(self) -> list[int]:
        return [frame.kind for frame in self.frames()]


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return frames.pack(frames.DATA, flags, stream, payload)


class TestBeginning:
    def test_the_preface_and_the_settings_come_first(self) -> None:
        client = Http2Client()
        sent = b"".join(client.take())
        assert sent.startswith(frames.PREFACE)
        first, second = FrameReader().feed(sent.removeprefix(frames.PREFACE))
        assert dict(frames.parse_settings(first.payload))[frames.INITIAL_WINDOW_SIZE] == STREAM_WINDOW_BYTES
        assert second == Frame(frames.WINDOW_UPDATE, 0, 0, pack(">I", CONNECTION_WINDOW_BYTES - 65_535))

    def test_settings_are_acknowledged_and_hold(self) -> None:
        peer = Peer(frames.settings({frames.MAX_CONCURRENT_STREAMS: 2, 99: 7}))
        assert peer.events == [SettingsCame()]
        assert Frame(frames.SETTINGS, frames.ACK, 0, b"") in peer.frames()
        assert peer.give(frames.pack(frames.SETTINGS, frames.ACK, 0)) == []
        assert peer.frames() == []
        assert peer.client.room == 2
        peer.open()
        assert peer.client.room == 1

    def test_a_peer_that_does_not_begin_with_them_is_none(self) -> None:
        client = Http2Client()
        with pytest.raises(Http2Error):
            list(client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        peer = Peer.__new__(Peer)
        peer.client, peer.sent = Http2Client(), b""
        assert peer.fails(frames.pack(frames.PING, 0, 0, bytes(8))) is Http2Code.PROTOCOL_ERROR


class TestSending:
    def test_streams_have_odd_numbers(self) -> None:
        peer = Peer()
        assert [peer.open(), peer.open()] == [1, 3]
        assert peer.client.streams == 2

    def test_long_headers_are_continued(self) -> None:
        peer = Peer()
        peer.frames()
        peer.client.open([(":method", "POST"), ("a", "a" * 60_000)])
        peer.sent += b"".join(peer.client.take())
        sent = peer.frames()
        assert [frame.kind for frame in sent] == [frames.HEADERS, frames.CONTINUATION, frames.CONTINUATION]
        assert [frame.flags & frames.END_HEADERS for frame in sent] == [0, 0, frames.END_HEADERS]

    def test_data_waits_for_the_windows(self) -> None:
        peer = Peer()
        one = peer.open()
        peer.frames()
        assert not peer.client.send(one, bytes(70_000))
        peer.sent += b"".join(peer.client.take())
        assert sum(len(frame.payload) for frame in peer.frames()) == 65_535
        assert peer.client.waiting_bytes(one) == 70_000 - 65_535
        assert peer.give(frames.window_update(one, 100_000)) == [], "the connection's is closed"
        assert peer.give(frames.window_update(0, 1000)) == []
        assert peer.give(frames.window_update(0, 100_000)) == [Flushed(one)]
        assert sum(len(frame.payload) for frame in peer.frames()) == 70_000 - 65_535
        assert peer.client.send(one, b"more", ends=True)
        peer.sent += b"".join(peer.client.take())
        assert peer.frames()[-1] == Frame(frames.DATA, frames.END_STREAM, one, b"more")
        assert peer.client.send(one, b"nothing")
        assert peer.client.take() == []

    def test_the_streams_share_the_connections_window(self) -> None:
        peer = Peer(frames.settings({frames.INITIAL_WINDOW_SIZE: 100_000}))
        one, three = peer.open(), peer.open()
        peer.frames()
        assert not peer.client.send(one, bytes(70_000))
        assert not peer.client.send(three, bytes(10))
        assert peer.give(frames.window_update(0, 70_000 - 65_535)) == [Flushed(one)]
        assert peer.give(frames.window_update(0, 10)) == [Flushed(three)]

    def test_a_streams_own_window(self) -> None:
        peer = Peer(frames.settings({frames.INITIAL_WINDOW_SIZE: 10}))
        one = peer.open()
        assert not peer.client.send(one, bytes(11))
        assert peer.give(frames.window_update(one, 1)) == [Flushed(one)]

    def test_the_end_is_said(self) -> None:
        peer = Peer()
        peer.client.go_away()
        assert peer.client.take() == [frames.go_away(0, Http2Code.NO_ERROR)]

    def test_a_smaller_table_of_headers_is_kept_to(self) -> None:
        peer = Peer(frames.settings({frames.HEADER_TABLE_SIZE: 0}))
        peer.frames()
        sizes = []
        for _ in range(2):
            peer.open()
            sizes.append(len(peer.frames()[0].payload))
        assert sizes[1] >= sizes[0] - 2, "nothing was remembered"

    def test_a_smaller_first_window_takes_back_what_was_given(self) -> None:
        peer = Peer()
        one = peer.open()
        peer.client.send(one, bytes(1000))
        peer.give(frames.settings({frames.INITIAL_WINDOW_SIZE: 500}))
        assert not peer.client.send(one, b"x")
        assert peer.give(frames.settings({frames.INITIAL_WINDOW_SIZE: 1000})) == [SettingsCame()]
        assert peer.give(frames.settings({frames.INITIAL_WINDOW_SIZE: 1001})) == [
            SettingsCame(),
            Flushed(one),
        ]

    def test_larger_frames_where_the_peer_takes_them(self) -> None:
        peer = Peer(frames.settings({frames.MAX_FRAME_SIZE: 40_000}))
        one = peer.open()
        peer.frames()
        peer.client.send(one, bytes(40_000))
        header = b"".join(peer.client.take())[:9]
        assert header == frames.head(40_000, frames.DATA, 0, one)

    def test_a_stream_that_is_over_takes_nothing(self) -> None:
        peer = Peer()
        one = peer.open()
        peer.client.reset(one)
        peer.client.reset(one)
        peer.sent += b"".join(peer.client.take())
        assert peer.frames()[-1] == Frame(frames.RST_STREAM, 0, one, pack(">I", Http2Code.CANCEL))
        assert peer.client.send(one, b"x")
        peer.client.consumed(one, 10**6)
        assert peer.client.take() == []
        assert peer.client.waiting_bytes(one) == 0

    def test_numbers_run_out(self) -> None:
        peer = Peer()
        peer.client._next = 2**31 - 1
        assert peer.open() == 2**31 - 1
        assert (peer.client.room, peer.client.is_going_away) == (0, True)


class TestReceiving:
    def test_headers_data_and_trailers(self) -> None:
        peer = Peer()
        one = peer.open()
        peer.frames()
        events = peer.give(
            peer.headers(one) + data(one, b"abc") + peer.headers(one, [("grpc-status", "0")], ends=True)
        )
        assert events == [
            HeadersCame(one, OK, ends=False),
            DataCame(one, b"abc", 3, ends=False),
            HeadersCame(one, [("grpc-status", "0")], ends=True),
        ]
        assert peer.frames() == [Frame(frames.RST_STREAM, 0, one, bytes(4))], "our side is closed with it"
        assert peer.client.streams == 0
        assert peer.give(data(one, b"late") + peer.headers(one)) == []

    def test_the_end_with_data(self) -> None:
        peer = Peer()
        one = peer.open()
        peer.client.send(one, b"", ends=True)
        peer.client.take()
        events = peer.give(peer.headers(one) + data(one, b"abc", frames.END_STREAM))
        assert events[-1] == DataCame(one, b"abc", 3, ends=True)
        assert frames.RST_STREAM not in peer.kinds()

    @pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 10])
    def test_in_pieces(self, size: int) -> None:
        peer = Peer()
        one = peer.open()
        sent = peer.headers(one) + data(one, bytes(100)) + frames.window_update(one, 5)
        events = []
        for at in range(0, len(sent), size):
            events += peer.give(sent[at : at + size])
        assert [type(event) for event in events] == [HeadersCame, DataCame]

    def test_padding_and_priority_are_left_out(self) -> None:
        peer = Peer()
        one = peer.open()
        block = peer.encoder.encode(OK)
        flags = frames.END_HEADERS | frames.PADDED | frames.PRIORITISED
        headers = frames.pack(frames.HEADERS, flags, one, b"\3" + bytes(5) + block + bytes(3))
        events = peer.give(headers + data(one, b"\4abc\0\0\0\0", frames.PADDED))
        assert events == [HeadersCame(one, OK, ends=False), DataCame(one, b"abc", 8, ends=False)]
        assert peer.fails(data(one, b"\4abc", frames.PADDED)) is Http2Code.PROTOCOL_ERROR

    def test_headers_in_parts(self) -> None:
        peer = Peer()
        one = peer.open()
        block = peer.encoder.encode(OK)
        sent = frames.pack(frames.HEADERS, 0, one, block[:2])
        sent += frames.pack(frames.CONTINUATION, 0, one, block[2:4])
        sent += frames.pack(frames.CONTINUATION, frames.END_HEADERS, one, block[4:])
        assert peer.give(sent) == [HeadersCame(one, OK, ends=False)]

    def test_what_is_consumed_may_be_sent_again(self) -> None:
        peer = Peer()
        one = peer.open()
        peer.give(peer.headers(one))
        peer.frames()
        for _ in range(STREAM_WINDOW_BYTES // 16_384):
            peer.give(data(one, bytes(16_384)))
        assert peer.frames() == []
        peer.client.consumed(one, STREAM_WINDOW_BYTES // 2 - 1)
        assert peer.client.take() == []
        peer.client.consumed(one, 1)
        assert peer.client.take() == [frames.window_update(one, STREAM_WINDOW_BYTES // 2)]
        events = []
        for _ in range(STREAM_WINDOW_BYTES // 2 // 16_384 + 1):
            events += peer.give(data(one, bytes(16_384)))
        assert isinstance(events[-1], StreamReset), "that was more"
        assert (events[-1].code, events[-1].is_ours) == (Http2Code.FLOW_CONTROL_ERROR, True)

    def test_the_connections_window_is_given_back_at_once(self) -> None:
        peer = Peer()
        for _ in range(3 * CONNECTION_WINDOW_BYTES // STREAM_WINDOW_BYTES):
            one = peer.open()
            for _ in range(STREAM_WINDOW_BYTES // 16_384):
                peer.give(data(one, bytes(16_384)))
            peer.client.reset(one)
        updates = [
            frame for frame in peer.frames() if frame.kind == frames.WINDOW_UPDATE and not frame.stream
        ]
        assert len(updates) >= 5

    def test_a_ping_is_answered_and_ours_too(self) -> None:
        peer = Peer()
        peer.frames()
        assert peer.give(frames.pack(frames.PING, 0, 0, b"12345678")) == []
        assert peer.frames() == [Frame(frames.PING, frames.ACK, 0, b"12345678")]
        peer.client.ping(b"abcdefgh")
        assert peer.client.take() == [frames.pack(frames.PING, 0, 0, b"abcdefgh")]
        answer = frames.pack(frames.PING, frames.ACK, 0, b"abcdefgh")
        assert peer.give(answer) == [PingAnswered(b"abcdefgh")]

    def test_one_that_goes_away_ends_what_it_has_not_looked_at(self) -> None:
        peer = Peer()
        one, three, five = peer.open(), peer.open(), peer.open()
        assert peer.give(frames.go_away(three, 0, b"bye")) == [
            StreamReset(five, Http2Code.REFUSED_STREAM),
            GoingAway(three, 0, b"bye"),
        ]
        assert peer.client.room == 0
        assert peer.give(peer.headers(one)) == [HeadersCame(one, OK, ends=False)]

    def test_a_reset_is_told_once(self) -> None:
        peer = Peer()
        one = peer.open()
        reset = frames.reset(one, Http2Code.REFUSED_STREAM)
        assert peer.give(reset + reset) == [StreamReset(one, Http2Code.REFUSED_STREAM)]

    def test_what_is_not_known_is_ignored(self) -> None:
        peer = Peer()
        peer.open()
        assert (
            peer.give(frames.pack(77, 0xFF, 0, b"abc") + frames.pack(frames.PRIORITY, 0, 1, bytes(5))) == []
        )


BOMB = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 100
"""A header of 4,000 bytes, which is then named 100 times by one byte each."""

BROKEN = {
    "a frame that is too long": (frames.head(16_385, frames.DATA, 0, 1), Http2Code.FRAME_SIZE_ERROR),
    "data of no stream": (data(0, b"x"), Http2Code.PROTOCOL_ERROR),
    "data of the server's stream": (data(2, b"x"), Http2Code.PROTOCOL_ERROR),
    "data of a stream to come": (data(3, b"x"), Http2Code.PROTOCOL_ERROR),
    "headers of a stream to come": (frames.pack(1, 4, 3, b""), Http2Code.PROTOCOL_ERROR),
    "padding without a length": (data(1, b"", frames.PADDED), Http2Code.FRAME_SIZE_ERROR),
    "headers that cannot be decoded": (
        frames.pack(1, 4, 1, b"\xff\xff\xff\xff"),
        Http2Code.COMPRESSION_ERROR,
    ),
    "a push": (frames.pack(frames.PUSH_PROMISE, 4, 1, bytes(4)), Http2Code.PROTOCOL_ERROR),
    "interrupted headers": (frames.pack(1, 0, 1, b"") + data(1, b"x"), Http2Code.PROTOCOL_ERROR),
    "headers of two": (frames.pack(1, 0, 1, b"") + frames.pack(9, 4, 3, b""), Http2Code.PROTOCOL_ERROR),
    "a lonely continuation": (frames.pack(9, 4, 1, b""), Http2Code.PROTOCOL_ERROR),
    "endless headers": (
        frames.pack(1, 0, 1, b"") + frames.pack(9, 0, 1, bytes(16_384)) * 5,
        Http2Code.ENHANCE_YOUR_CALM,
    ),
    "empty continuations": (
        frames.pack(1, 0, 1, b"") + frames.pack(9, 0, 1, b"") * (MAX_IDLE_FRAMES + 1),
        Http2Code.ENHANCE_YOUR_CALM,
    ),
    "headers a byte at a time": (
        frames.pack(1, 0, 1, b"") + frames.pack(9, 0, 1, b"x") * (MAX_IDLE_FRAMES + 1),
        Http2Code.ENHANCE_YOUR_CALM,
    ),
    "a small block that is large headers": (frames.pack(1, 4, 1, BOMB), Http2Code.COMPRESSION_ERROR),
    "a table that is larger than allowed": (
        frames.pack(1, 4, 1, b"\x3f\xe2\x1f"),
        Http2Code.COMPRESSION_ERROR,
    ),
    "settings of a stream": (frames.pack(4, 0, 1, b""), Http2Code.PROTOCOL_ERROR),
    "settings that are not whole": (frames.pack(4, 0, 0, bytes(5)), Http2Code.FRAME_SIZE_ERROR),
    "an acknowledgement with content": (frames.pack(4, 1, 0, bytes(6)), Http2Code.FRAME_SIZE_ERROR),
    "push enabled": (frames.settings({2: 1}), Http2Code.PROTOCOL_ERROR),
    "a window that is too large": (frames.settings({4: 2**31}), Http2Code.FLOW_CONTROL_ERROR),
    "frames that are too small": (frames.settings({5: 16_383}), Http2Code.PROTOCOL_ERROR),
    "frames that are too large": (frames.settings({5: 2**24}), Http2Code.PROTOCOL_ERROR),
    "a ping of a stream": (frames.pack(6, 0, 1, bytes(8)), Http2Code.PROTOCOL_ERROR),
    "a short ping": (frames.pack(6, 0, 0, bytes(7)), Http2Code.FRAME_SIZE_ERROR),
    "a farewell of a stream": (frames.pack(7, 0, 1, bytes(8)), Http2Code.PROTOCOL_ERROR),
    "a short farewell": (frames.pack(7, 0, 0, bytes(7)), Http2Code.FRAME_SIZE_ERROR),
    "a window update of nothing": (frames.window_update(0, 0), Http2Code.PROTOCOL_ERROR),
    "a window update of too much": (frames.window_update(0, 2**31 - 1), Http2Code.FLOW_CONTROL_ERROR),
    "a short window update": (frames.pack(8, 0, 0, bytes(3)), Http2Code.FRAME_SIZE_ERROR),
    "a window update of a stream to come": (frames.window_update(3, 1), Http2Code.PROTOCOL_ERROR),
    "a short reset": (frames.pack(3, 0, 1, bytes(3)), Http2Code.FRAME_SIZE_ERROR),
    "a reset of no stream": (frames.reset(0, 0), Http2Code.PROTOCOL_ERROR),
    "a short priority": (frames.pack(2, 0, 1, bytes(4)), Http2Code.FRAME_SIZE_ERROR),
    "a priority of no stream": (frames.pack(2, 0, 0, bytes(5)), Http2Code.PROTOCOL_ERROR),
    "a flood of pings": (frames.pack(6, 0, 0, bytes(8)) * 1001, Http2Code.ENHANCE_YOUR_CALM),
    "a flood of settings": (SETTINGS * 1001, Http2Code.ENHANCE_YOUR_CALM),
    "a flood of empty data": (data(1, b"") * 1001, Http2Code.ENHANCE_YOUR_CALM),
    "a flood of what is not known": (frames.pack(99, 0, 0, b"") * 1001, Http2Code.ENHANCE_YOUR_CALM),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_connection(name: str) -> None:
    sent, code = BROKEN[name]
    peer = Peer()
    peer.open()
    assert peer.fails(sent) is code


def test_headers_before_the_answers_are_a_flood_too() -> None:
    peer = Peer()
    one = peer.open()
    early = peer.headers(one, [(":status", "103"), ("link", "x")])
    peer.give(early)
    assert peer.fails(peer.headers(one, [(":status", "103")]) * 1000) is Http2Code.ENHANCE_YOUR_CALM


def test_headers_of_a_stream_that_is_over_are_a_flood_too() -> None:
    peer = Peer()
    one = peer.open()
    peer.client.reset(one)
    peer.give(peer.headers(one))
    assert peer.fails(peer.headers(one) * 1000) is Http2Code.ENHANCE_YOUR_CALM


def test_headers_that_are_no_text_are_of_no_harm_to_other_streams() -> None:
    peer = Peer()
    one, three = peer.open(), peer.open()
    (came,) = peer.give(frames.pack(1, 4, one, b"\x00\x01a\x02\xc3\xff"))
    assert came == HeadersCame(one, [("a", "\ufffd\ufffd")], ends=False)
    (reset,) = peer.give(frames.pack(1, 4, one, b"\x00\x01\xff\x01x"))
    assert isinstance(reset, StreamReset)
    assert peer.give(peer.headers(three)) == [HeadersCame(three, OK, ends=False)]


def test_of_many_sizes_of_the_table_the_peer_is_told_two() -> None:
    """The least and the last; RFC 7541 wants no others, and a peer may take no others."""
    peer = Peer()
    peer.give(frames.settings({1: 0}) + frames.settings({1: 100}) + frames.settings({1: 50}) * 2)
    peer.give(frames.settings({1: 4096}) + frames.settings({1: 60}))
    peer.frames()
    peer.open()
    (opening,) = peer.frames()
    assert opening.payload[:3] == b"\x20\x3f\x1d"
    told = [(str(name), str(value)) for name, value in Decoder().decode(opening.payload)]
    assert told == [(":method", "POST"), ("a", "b")]


def test_many_pings_are_no_flood_among_data() -> None:
    peer = Peer()
    one = peer.open()
    for _ in range(3):
        peer.give(frames.pack(6, 0, 0, bytes(8)) * 900)
        peer.give(data(one, b"x"))
        peer.give(frames.pack(6, 0, 0, bytes(8)) * 900)
        peer.client.send(one, b"x")


def test_how_much_the_peer_has_asked_for() -> None:
    peer = Peer()
    list(peer.client.receive(frames.pack(6, 0, 0, bytes(8)) * 3))
    peer.open()
    list(peer.client.receive(frames.pack(6, 0, 0, bytes(8))))
    assert peer.client.answer_bytes == 17
    peer.client.take()
    assert peer.client.answer_bytes == 0


def test_answers_that_nobody_takes_are_bounded() -> None:
    peer = Peer()
    one = peer.open()
    ping = (frames.pack(6, 0, 0, bytes(8)) * 900) + data(one, b"x")
    with pytest.raises(Http2Error):
        for _ in range(100):
            list(peer.client.receive(ping))


MALFORMED: list[list[tuple[str, str]]] = [
    [("a", "b"), (":status", "200")],
    [(":status", "200"), (":status", "200")],
    [(":path", "/")],
    [(":status", "200"), ("Upper", "x")],
    [(":status", "200"), ("", "x")],
]


@pytest.mark.parametrize("headers", MALFORMED)
def test_headers_that_are_none_end_their_stream_alone(headers: list[tuple[str, str]]) -> None:
    peer = Peer()
    one, three = peer.open(), peer.open()
    (reset,) = peer.give(peer.headers(one, headers))
    assert isinstance(reset, StreamReset)
    assert (reset.code, reset.is_ours) == (Http2Code.PROTOCOL_ERROR, True)
    assert peer.give(peer.headers(three)) == [HeadersCame(three, OK, ends=False)]


@pytest.mark.parametrize(("size", "code"), [(0, 1), (2**31 - 1, 3)])
def test_a_window_update_that_is_none_ends_its_stream_alone(size: int, code: int) -> None:
    peer = Peer()
    one = peer.open()
    (reset,) = peer.give(frames.window_update(one, size))
    assert isinstance(reset, StreamReset)
    assert (reset.stream, reset.code) == (one, code)
    assert peer.give(frames.window_update(one, 1)) == []


def test_settings_that_make_a_window_too_large() -> None:
    peer = Peer()
    one = peer.open()
    peer.give(frames.window_update(one, 2**31 - 1 - 65_535))
    assert peer.fails(frames.settings({4: 65_536})) is Http2Code.FLOW_CONTROL_ERROR


def test_more_than_the_connections_window() -> None:
    peer = Peer()
    peer.open()
    peer.client._window = 100
    assert peer.fails(data(1, bytes(101))) is Http2Code.FLOW_CONTROL_ERROR


frames_of_any_kind = st.builds(
    frames.pack,
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 1, 2, 3, 5, 2**31 - 1]),
    st.binary(max_size=40),
)


@given(st.lists(frames_of_any_kind, max_size=30), st.lists(st.integers(1, 50), max_size=20))
def test_whatever_comes_is_taken_or_refused(sent: list[bytes], cuts: list[int]) -> None:
    """Nothing else is raised, and what comes of it does not depend on how it was cut."""

    def outcome(pieces: list[bytes]) -> tuple[list[Any], str, bytes]:
        peer = Peer()
        peer.open()
        peer.open()
        events: list[Any] = []
        try:
            for piece in pieces:
                events.extend(peer.client.receive(piece))
        except Http2Error as error:
            return events, str(error), b"".join(peer.client.take())
        return events, "", b"".join(peer.client.take())

    whole = b"".join(sent)
    pieces = []
    rest = whole
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert outcome([*pieces, rest]) == outcome([whole])
