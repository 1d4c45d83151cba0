"""What is read without the library is what the library would have read."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from antiphon import live
from antiphon.gemini.codec import ServerMessage, events, events_of
from antiphon.gemini.frequent import frequent
from antiphon.transcription import Hypothesis, encode

TEXTS = st.text(max_size=300)
TYPES = st.sampled_from(
    [
        "audio/pcm",
        "audio/pcm;rate=16000",
        "audio/l16; rate=8000",
        "audio/pcm;rate=1",
        "image/png",
        "",
        "x" * 200,
    ]
)
BLOBS = st.fixed_dictionaries({"mime_type": TYPES, "data": st.binary(max_size=20_000)})
PARTS = st.fixed_dictionaries({}, optional={"text": TEXTS, "inline_data": BLOBS})
CONTENTS = st.fixed_dictionaries(
    {},
    optional={
        "input_transcription": st.fixed_dictionaries({}, optional={"text": TEXTS}),
        "output_transcription": st.fixed_dictionaries({}, optional={"text": TEXTS}),
        "model_turn": st.fixed_dictionaries({"parts": st.lists(PARTS, max_size=3)}, optional={"role": TEXTS}),
        "interrupted": st.booleans(),
        "turn_complete": st.booleans(),
    },
)


def spoken(mime_type: str, pcm: bytes) -> bytes:
    part = {"inline_data": {"mime_type": mime_type, "data": pcm}}
    return written(server_content={"model_turn": {"parts": [part]}})


def heard(text: str, hypothesis: Hypothesis | None = None) -> bytes:
    message = ServerMessage()
    message.server_content.input_transcription.text = text
    if hypothesis:
        message.server_content.input_transcription.MergeFromString(encode(hypothesis))
    data: bytes = message.SerializeToString()
    return data


def written(**fields: Any) -> bytes:
    data: bytes = ServerMessage(**fields).SerializeToString()
    return data


def by_library(data: bytes) -> list[live.LiveEvent] | None:
    try:
        return events(ServerMessage.FromString(data))
    except DecodeError:
        return None


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (heard("good day"), live.Heard("good day")),
        (heard("ä" * 40_000), live.Heard("ä" * 40_000)),
        (heard("good", Hypothesis("so good", 0.5, final=False)), live.Heard("good", 0.5, False, "so good")),
        (heard("good", Hypothesis("", 1.0, final=True)), live.Heard("good", 1.0, True, "")),
        (heard("good", Hypothesis(None, 0.25, final=True)), live.Heard("good", 0.25, True)),
        (written(server_content={"output_transcription": {"text": "Hm"}}), live.Said("Hm")),
        (spoken("audio/pcm;rate=24000", b"\1\2" * 2400), live.Spoke(b"\1\2" * 2400, 24_000)),
        (spoken("audio/l16;x=y;rate=8000", b"\1\2"), live.Spoke(b"\1\2", 8000)),
        (spoken("audio/pcm", b"\1\2"), live.Spoke(b"\1\2", 24_000)),
    ],
)
def test_what_comes_often_is_read(data: bytes, event: live.LiveEvent) -> None:
    assert frequent(data) == event
    assert by_library(data) == [event]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        written(setup_complete={}),
        written(server_content={}),
        written(server_content={"input_transcription": {"text": "a"}, "interrupted": True}),
        written(
            server_content={"input_transcription": {"text": "a"}}, usage_metadata={"total_token_count": 1}
        ),
        heard("a") + heard("b"),
        heard("a")[:-1] + b"\xff",
        heard("a", Hypothesis("a", 1.5, final=True)),
        heard("a", Hypothesis("a", 0.5, final=True)) + b"\x1a\x00",
        heard("a", Hypothesis("a", 0.5, final=True)).replace(b"\xc8\x3e\x01", b"\xc8\x3e\x02"),
        heard("a", Hypothesis("a", 0.5, final=True))[:-6].replace(b"\x122\x10", b"\x0c2\x0a"),
        written(server_content={"input_transcription": {}}),
        b"\x1a\x80\x80\x80\x80\x00",
        b"\x1a\x80",
        spoken("audio/pcm", b"\1\2").replace(b"pcm", b"\xff\xffm"),
        spoken("audio/pcm", b""),
        spoken("image/png", b"\1\2"),
        spoken("audio/pcm;" + "x" * 200, b"\1\2"),
    ],
)
def test_whatever_else_is_the_librarys(data: bytes) -> None:
    assert frequent(data) is None


@given(CONTENTS)
def test_both_read_the_same(content: dict[str, Any]) -> None:
    data = written(server_content=content)
    assert events_of(data) == by_library(data)


@given(
    st.sampled_from(
        [
            heard("good day"),
            heard("x" * 300),
            heard("good", Hypothesis("so good", 0.5, final=False)),
            heard("good", Hypothesis(None, 0.5, final=True)),
            spoken("audio/pcm;rate=16000", bytes(200)),
        ]
    ),
    st.integers(0, 330) | st.integers(0, 40),
    st.integers(0, 255),
)
@example(heard("good day"), 1, 0x8B)
def test_what_is_garbled_is_read_the_same(data: bytes, place: int, byte: int) -> None:
    """A byte is changed, and what is cut short is cut there."""
    for garbled in (data[:place] + bytes([byte]) + data[place + 1 :], data[:place]):
        event = frequent(garbled)
        assert event is None or by_library(garbled) == [event]
