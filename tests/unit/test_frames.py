"""frames.py: audio as binary frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import ErrorCode, GatewayError
from antiphon.frames import AUDIO_CHUNK, AUDIO_RESPONSE, HEADER_BYTES, MAX_SEQUENCE, Frame, pack, unpack

kinds = st.sampled_from([AUDIO_CHUNK, AUDIO_RESPONSE])
frames = st.builds(
    Frame,
    kind=kinds,
    sequence=st.integers(0, MAX_SEQUENCE),
    timestamp_ms=st.integers(0, 2**64 - 1),
    audio=st.binary(),
)
GOOD = bytes.fromhex("01 01 0000 00000007 000001a0c4f65c00") + b"\x00\x01\x02"


def refusal(data: bytes | bytearray | memoryview, kind: int) -> str:
    with pytest.raises(GatewayError) as caught:
        unpack(data, kind)
    assert caught.value.code is ErrorCode.PROTOCOL_BAD_BINARY
    assert caught.value.details == {}
    return caught.value.message


# ---- good frames


def test_a_frame_as_a_client_writes_it() -> None:
    frame = Frame(AUDIO_CHUNK, 7, 0x1A0C4F65C00, b"\x00\x01\x02")
    assert pack(frame) == GOOD
    assert unpack(GOOD, AUDIO_CHUNK) == frame


@given(frames)
def test_frames_survive_the_wire(frame: Frame) -> None:
    data = pack(frame)
    assert len(data) == HEADER_BYTES + len(frame.audio)
    assert unpack(data, frame.kind) == frame


@given(frames)
def test_all_that_holds_bytes_is_unpacked_alike(frame: Frame) -> None:
    data = pack(frame)
    for held in (bytearray(data), memoryview(data), memoryview(b"x" + data)[1:]):
        again = unpack(held, frame.kind)
        assert again == frame
        assert type(again.audio) is bytes


def test_the_audio_is_the_frame_s_own() -> None:
    data = bytearray(GOOD)
    frame = unpack(data, AUDIO_CHUNK)
    data[-1] ^= 0xFF
    assert frame.audio == b"\x00\x01\x02"


def test_a_frame_may_be_without_audio() -> None:
    assert unpack(GOOD[:HEADER_BYTES], AUDIO_CHUNK).audio == b""


@given(st.integers(0, 2**40))
def test_the_sequence_begins_again_after_the_last(sequence: int) -> None:
    data = pack(Frame(AUDIO_RESPONSE, sequence, 0, b""))
    assert unpack(data, AUDIO_RESPONSE).sequence == sequence % 2**32


@given(st.binary(min_size=2, max_size=2))
def test_flags_are_for_later(flags: bytes) -> None:
    assert unpack(GOOD[:2] + flags + GOOD[4:], AUDIO_CHUNK) == unpack(GOOD, AUDIO_CHUNK)


# ---- frames that are refused


@pytest.mark.parametrize("length", range(HEADER_BYTES))
def test_a_frame_that_is_too_short(length: int) -> None:
    assert f"It has {length} bytes; the header alone has 16." in refusal(GOOD[:length], AUDIO_CHUNK)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version(version: int) -> None:
    message = refusal(bytes([version]) + GOOD[1:], AUDIO_CHUNK)
    assert f"Its version is {version}, not 1." in message


@pytest.mark.parametrize(("found", "kind"), [(0, 1), (2, 1), (1, 2), (3, 2), (255, 1)])
def test_another_kind(found: int, kind: int) -> None:
    message = refusal(bytes([1, found]) + GOOD[2:], kind)
    assert f"Its kind is {found}, not {kind}." in message


@given(st.binary(max_size=40), kinds)
def test_anything_is_a_frame_or_a_refusal(data: bytes, kind: int) -> None:
    if len(data) >= HEADER_BYTES and data[:2] == bytes([1, kind]):
        frame = unpack(data, kind)
        assert pack(frame) == data[:2] + b"\x00\x00" + data[4:]
    else:
        refusal(data, kind)
