"""The answer's pacing: everything, in order, once, and never far ahead of the ear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.answer import LEAD_S, Answer, Piece

SECOND = b"\x01\x02" * 24_000


def drain(answer: Answer, now: float) -> list[Piece]:
    pieces = []
    while piece := answer.next_piece(now):
        pieces.append(piece)
    return pieces


def play_out(answer: Answer, now: float) -> list[tuple[float, Piece]]:
    played = []
    while (at := answer.release_at) < float("inf"):
        now = max(now, at)
        played += [(now, piece) for piece in drain(answer, now)]
    return played


def test_nothing_to_say() -> None:
    answer = Answer()
    assert answer.release_at == float("inf")
    assert answer.next_piece(1e9) is None
    answer.end()
    assert answer.next_piece(1e9) is None


def test_first_pieces_go_out_at_once_and_the_rest_in_time() -> None:
    answer = Answer()
    answer.add_audio(SECOND, 24_000)
    assert [piece.duration_ms for piece in drain(answer, 100.0)] == [100.0, 100.0]
    assert answer.waiting_s == pytest.approx(0.8)
    assert abs(answer.release_at - 100.05) < 1e-9
    assert drain(answer, 100.04) == []
    assert len(drain(answer, 100.051)) == 1


def test_text_goes_with_the_audio_that_follows_it() -> None:
    answer = Answer()
    answer.add_text("One ")
    answer.add_text("two.")
    answer.add_audio(SECOND[:9600], 24_000)
    answer.add_text(" Three.")
    answer.add_audio(SECOND[:4800], 24_000)
    texts = [piece.text for _, piece in play_out(answer, 0.0)]
    assert texts == ["One two.", "", " Three."]


def test_text_without_audio_goes_out_when_the_turn_ends() -> None:
    answer = Answer()
    answer.add_audio(SECOND[:4800], 24_000)
    answer.add_text("Late words.")
    answer.end()
    pieces = [piece for _, piece in play_out(answer, 0.0)]
    assert [(piece.text, len(piece.pcm)) for piece in pieces] == [("", 4800), ("Late words.", 0)]
    assert pieces[-1].duration_ms == 0


def test_a_sample_cut_in_two_is_joined() -> None:
    answer = Answer()
    answer.add_audio(b"\x01", 24_000)
    assert answer.release_at == float("inf")
    answer.add_audio(b"\x02\x03\x04", 24_000)
    assert [piece.pcm for _, piece in play_out(answer, 0.0)] == [b"\x01\x02\x03\x04"]


def test_half_a_sample_does_not_pass_into_another_rate_or_turn() -> None:
    answer = Answer()
    answer.add_audio(b"\x01", 24_000)
    answer.add_audio(b"\x05\x06", 16_000)
    answer.add_audio(b"\x07", 16_000)
    answer.end()
    answer.add_audio(b"\x08\x09", 16_000)
    pieces = [piece for _, piece in play_out(answer, 0.0)]
    assert [piece.pcm for piece in pieces] == [b"\x05\x06", b"\x08\x09"]
    assert pieces[0].format == "audio/pcm;rate=16000"


def test_dropping_leaves_only_what_is_already_out() -> None:
    answer = Answer()
    answer.add_text("Stale.")
    answer.add_audio(SECOND, 24_000)
    drain(answer, 0.0)
    answer.add_text("More of it.")
    answer.drop()
    assert answer.waiting_s == 0
    answer.add_audio(SECOND[:4800], 24_000)
    (at, piece), *_ = play_out(answer, 0.01)
    assert piece.text == ""
    assert at >= 0.2 + 0.1 - LEAD_S - 1e-9, "what was sent before still plays"


def test_a_new_answer_drops_one_that_the_user_spoke_over() -> None:
    answer = Answer()
    answer.add_audio(SECOND, 24_000)
    answer.supersede()
    assert answer.waiting_s == pytest.approx(1.0), "nothing is dropped before there is a new answer"
    answer.begin()
    assert answer.waiting_s == 0


def test_a_new_answer_follows_one_that_nobody_spoke_over() -> None:
    answer = Answer()
    answer.supersede()
    answer.add_audio(SECOND, 24_000)
    answer.begin()
    assert answer.waiting_s == pytest.approx(1.0)


blobs = st.lists(st.binary(max_size=9000), max_size=12)


@given(blobs, st.sampled_from([8_000, 16_000, 24_000, 48_000]), st.floats(0, 2))
def test_every_byte_once_and_at_most_250_ms_ahead(parts: list[bytes], rate_hz: int, start: float) -> None:
    answer = Answer()
    for part in parts:
        answer.add_audio(part, rate_hz)
    played = play_out(answer, start)
    sent = b"".join(part for part in parts)
    assert b"".join(piece.pcm for _, piece in played) == sent[: len(sent) // 2 * 2]
    heard_until = 0.0
    for at, piece in played:
        heard_until = max(heard_until, at) + piece.duration_s
        assert heard_until - at <= LEAD_S + 1e-6
    assert answer.waiting_s == 0


def test_text_without_end_goes_out_before_the_turn_does() -> None:
    answer = Answer()
    for _ in range(100):
        answer.add_text("word " * 20)
    waiting = play_out(answer, 0.0)
    assert len(waiting) > 1
    answer.end()
    assert "".join(piece.text for _, piece in waiting + play_out(answer, 0.0)) == "word " * 2000


def test_small_blobs_are_joined_while_they_wait_and_text_starts_a_new_piece() -> None:
    answer = Answer()
    answer.add_text("One.")
    for _ in range(10):
        answer.add_audio(SECOND[:960], 24_000)
    answer.add_text("Two.")
    answer.add_audio(SECOND[:960], 24_000)
    pieces = [(piece.text, round(piece.duration_ms)) for _, piece in play_out(answer, 0.0)]
    assert pieces == [("One.", 100), ("", 100), ("Two.", 20)]
