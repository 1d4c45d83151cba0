"""Frames that are cut out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from antiphon.client_frames import BINARY, TEXT, cut, payload, server_header

SIZES = [0, 1, 125, 126, 127, 4300, 65_535, 65_536, 100_000]


def sent(data: bytes, opcode: Opcode = Opcode.TEXT) -> bytes:
    """A client's frame, as the library makes it."""
    return Frame(opcode, data).serialize(mask=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("at", [0, 3])
def test_a_frame_is_found_and_unmasked(size: int, at: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    frame = sent(data[:size])
    whole = bytes(at) + frame + b"more"
    found = cut(whole, at, 1_000_000)
    assert found is not None
    begin, end = found
    assert end == at + len(frame)
    assert payload(whole, begin, end) == data[:size]
    assert whole[at] == TEXT


@pytest.mark.parametrize("size", SIZES)
def test_a_header_that_is_not_whole(size: int) -> None:
    header = len(sent(bytes(size))) - size - 4
    for length in range(header):
        assert cut(sent(bytes(size))[:length], 0, 1_000_000) is None


def test_what_is_not_a_client_s() -> None:
    with pytest.raises(ValueError, match="not masked"):
        cut(Frame(Opcode.TEXT, b"x").serialize(mask=False), 0, 100)
    for size in (101, 70_000):
        with pytest.raises(ValueError, match="too long"):
            cut(sent(bytes(size)), 0, 100)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("first", "opcode"), [(TEXT, Opcode.TEXT), (BINARY, Opcode.BINARY)])
def test_a_server_s_frame_is_the_library_s(size: int, first: int, opcode: Opcode) -> None:
    data = bytes(size)
    assert server_header(first, size) + data == Frame(opcode, data).serialize(mask=False)


@given(st.binary(max_size=64), st.integers(0, 70))
def test_whatever_comes_is_cut_or_refused(data: bytes, at: int) -> None:
    try:
        found = cut(data, min(at, len(data)), 1000)
    except ValueError:
        return
    assert found is None or found[0] <= found[1] <= found[0] + 1000
