"""errors.py: the one table of what follows from an error."""

from __future__ import annotations

import pytest

from antiphon.errors import DISPOSITIONS, Disposition, ErrorCode, GatewayError

FAMILIES = {"AUTH", "PROTOCOL", "AUDIO", "SESSION", "QUOTA", "UPSTREAM", "TOOL", "SERVER"}

CLOSE_CODES = {
    1000: "normal",
    1001: "the node drains",
    1002: "the frame is no WebSocket (RFC 6455, 7.4.1)",
    1009: "message too big",
    1011: "fault of ours, or of the model",
    1013: "node at capacity",
    4400: "repeated protocol errors",
    4401: "not authenticated, or auth timeout",
    4403: "origin or user forbidden",
    4408: "idle",
    4409: "the session was resumed elsewhere",
    4413: "client reads too slowly",
    4429: "rate or quota",
    4440: "token expired",
    4441: "longest session reached",
}
"""What the protocol gives a meaning to."""

RETRY_AS_IT_IS = {1001, 1011, 1013, 4408, 4413, 4429, 4441}
NEVER_RETRY = {1002, 1009, 4400, 4403}


def test_every_code_has_a_disposition() -> None:
    assert DISPOSITIONS.keys() == set(ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_codes_are_named_by_family_and_value(code: ErrorCode) -> None:
    assert code.name == code.value
    assert code.value.split("_")[0] in FAMILIES


@pytest.mark.parametrize(("code", "disposition"), DISPOSITIONS.items())
def test_dispositions(code: ErrorCode, disposition: Disposition) -> None:
    assert disposition.close is None or disposition.close in CLOSE_CODES
    assert disposition.message[0].isupper()
    assert disposition.message.endswith(".")
    assert "\n" not in disposition.message
    assert len(disposition.message) < 100


@pytest.mark.parametrize(("code", "disposition"), DISPOSITIONS.items())
def test_retryable_agrees_with_the_close_code(code: ErrorCode, disposition: Disposition) -> None:
    """A client may go by either. 1011 and 4401 are shared by faults that mend and faults that do not."""
    if disposition.close in NEVER_RETRY:
        assert not disposition.retryable
    if disposition.close in RETRY_AS_IT_IS - {1011}:
        assert disposition.retryable


def test_an_error_has_the_sentence_of_its_code() -> None:
    error = GatewayError(ErrorCode.SESSION_IDLE)
    assert error.code is ErrorCode.SESSION_IDLE
    assert error.message == DISPOSITIONS[ErrorCode.SESSION_IDLE].message
    assert error.details == {}
    assert str(error) == f"SESSION_IDLE: {error.message}"


def test_an_error_may_say_more() -> None:
    error = GatewayError(ErrorCode.AUDIO_SEQUENCE_GAP, "Chunks 3 and 4 are missing.", expected=3, received=5)
    assert error.message == "Chunks 3 and 4 are missing."
    assert error.details == {"expected": 3, "received": 5}
    assert str(error) == "AUDIO_SEQUENCE_GAP: Chunks 3 and 4 are missing."
