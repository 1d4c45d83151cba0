"""Server-sent events from bytes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine import sse
from antiphon.engine.sse import EventReader, TooLong, WholeReader


def read(*pieces: bytes) -> list[str]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.end()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data:a\r\n\r\ndata:  b\r\n\r\n", ["a", " b"]),
        (b"data: a\rdata: b\r\r", ["a\nb"]),
        (b"data: a\r\ndata: b\r\n\r\n", ["a\nb"]),
        (b": alive\n\nevent: x\nid: 1\nretry: 5\ndata: a\n\n", ["a"]),
        (b"data\n\ndata:\n\n", ["", ""]),
        (b"data: cut", ["cut"]),
        (b"data: cut\n", ["cut"]),
        (b"data: cut\r", ["cut"]),
        (b"\n\n\n", []),
        (b"", []),
        (b"data: \xff\n\n", ["�"]),
        (b"database: a\n\n", []),
    ],
)
def test_events(stream: bytes, events: list[str]) -> None:
    assert read(stream) == events
    assert read(*(bytes([one]) for one in stream)) == events


@given(
    st.lists(
        st.sampled_from([b"data: a", b"data:", b"\r", b"\n", b": x", b"\xc3", b"\xa9", b"e: "]), max_size=20
    ),
    st.lists(st.integers(0, 80), max_size=10),
)
def test_how_it_is_cut_does_not_matter(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert read(*pieces) == read(stream)


def test_an_event_has_a_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 20)
    assert read(b"data: 12345678901234\n\n" * 3) == ["12345678901234"] * 3
    with pytest.raises(TooLong):
        read(b"data: 1234567890123456")
    with pytest.raises(TooLong):
        read(*[b"data: 123456\n"] * 4)


def test_a_document() -> None:
    reader = WholeReader(4)
    assert reader.feed(b"a") + reader.feed(b"bc\xff") == []
    assert reader.whole == b"abc\xff"
    assert reader.end() == ["abc�"]
    with pytest.raises(TooLong):
        reader.feed(b"e")
