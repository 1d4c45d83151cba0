"""The frames between two workers: what goes in comes out, however it is cut on its way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import relay_frames
from antiphon.errors import ErrorCode
from antiphon.relay_frames import MAX_PAYLOAD_BYTES, Kind

FRAMES = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=300)))


@given(FRAMES, st.lists(st.integers(1, 50)))
def test_frames_are_found_again_wherever_the_stream_is_cut(
    frames: list[tuple[Kind, bytes]], sizes: list[int]
) -> None:
    stream = b"".join(relay_frames.pack(kind, payload) for kind, payload in frames)
    found, buffer = [], b""
    for size in [*sizes, len(stream)]:
        piece, stream = stream[:size], stream[size:]
        buffer += piece
        at = 0
        while frame := relay_frames.cut(buffer, at):
            found.append((frame.kind, buffer[frame.begin : frame.end]))
            at = frame.end
        buffer = buffer[at:]
    assert found == frames
    assert not buffer


@given(st.binary(max_size=400))
def test_nonsense_is_a_frame_or_not_whole_or_refused(data: bytes) -> None:
    try:
        frame = relay_frames.cut(data, 0)
    except ValueError:
        return
    assert frame is None or 0 < frame.begin <= frame.end <= len(data)


@given(st.integers(0, 65_535), st.text(max_size=40))
def test_a_close(code: int, reason: str) -> None:
    assert relay_frames.close(relay_frames.pack_close(code, reason)[5:]) == (code, reason)


@given(st.floats(allow_nan=False))
def test_a_time(time_s: float) -> None:
    assert relay_frames.time(relay_frames.pack_time(Kind.DRAIN, time_s)[5:]) == time_s


@pytest.mark.parametrize("flag", [False, True])
def test_a_flag(flag: bool) -> None:
    assert relay_frames.flag(relay_frames.pack_flag(Kind.GONE, flag=flag)[5:]) is flag


def test_an_error() -> None:
    assert relay_frames.error_code(b"SERVER_DRAINING") is ErrorCode.SERVER_DRAINING


@pytest.mark.parametrize(
    ("read", "payload"),
    [
        (relay_frames.close, b"\0"),
        (relay_frames.close, b"\0\0\xff"),
        (relay_frames.time, b""),
        (relay_frames.flag, b"\2"),
        (relay_frames.error_code, b"NO_SUCH_ERROR"),
        (relay_frames.error_code, b"\xff"),
    ],
)
def test_what_makes_no_sense_is_a_value_error(read: object, payload: bytes) -> None:
    assert callable(read)
    with pytest.raises(ValueError):
        read(payload)


def test_too_long_a_frame_is_neither_written_nor_read() -> None:
    longest = bytes(MAX_PAYLOAD_BYTES)
    assert relay_frames.cut(relay_frames.pack(Kind.TEXT, longest), 0)
    with pytest.raises(ValueError):
        relay_frames.pack(Kind.TEXT, longest + b"x")
    with pytest.raises(ValueError):
        relay_frames.cut(b"\x02\xff\xff\xff\xff", 0)
