"""The private fields that tell when the user speaks."""

import math

import pytest
from google.ai.generativelanguage_v1beta.types import generative_service
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.voice_activity import AT_MS_FIELD, STARTED_FIELD, decode, encode

Content = generative_service.BidiGenerateContentServerContent.pb()
ServerMessage = generative_service.BidiGenerateContentServerMessage.pb()


@settings(deadline=None)
@given(st.booleans(), st.none() | st.floats(0.0, 1e12))
def test_reads_back_what_was_written_after_a_journey_inside_a_server_message(
    started: bool, at_ms: float | None
) -> None:
    message = ServerMessage()
    message.server_content.interrupted = True
    message.server_content.MergeFromString(encode(started, at_ms))

    arrived = ServerMessage.FromString(message.SerializeToString())

    assert arrived.WhichOneof("message_type") == "server_content"
    assert arrived.server_content.interrupted
    assert decode(arrived.server_content) == (started, at_ms)


def test_the_numbers_are_the_ones_agreed_on() -> None:
    assert (STARTED_FIELD, AT_MS_FIELD) == (1010, 1011)
    assert encode(True, 1.0) == bytes.fromhex("903f01 993f000000000000f03f")
    assert encode(False, None) == bytes.fromhex("903f00")


def test_a_content_of_gemini_has_none() -> None:
    assert decode(Content(turn_complete=True)) is None


def test_unknown_fields_of_others_are_skipped() -> None:
    others = bytes.fromhex("983f05 c03e05")  # field 1011 as a varint, field 1000
    assert decode(Content.FromString(others)) is None
    assert decode(Content.FromString(others + encode(True, 320.0))) == (True, 320.0)


@pytest.mark.parametrize("at_ms", [-1.0, math.inf, math.nan])
def test_a_senseless_place_counts_as_nothing_said(at_ms: float) -> None:
    assert decode(Content.FromString(encode(True, at_ms))) is None


def test_a_place_alone_says_nothing() -> None:
    assert decode(Content.FromString(encode(True, 1.0)[3:])) is None
