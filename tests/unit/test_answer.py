"""The answer's pacing: everything, in order, once, and never far ahead of the ear."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.session.answer import LEAD_S, Answer
from antiphon.session.kept import dump, load
from antiphon.session.piece import Piece

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
    answer.finish()
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
    answer.finish()
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
    answer.finish()
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
    answer.add_audio(b"\x07", 24_000)
    answer.drop()
    assert answer.waiting_s == 0
    answer.add_audio(SECOND[:4800], 24_000)
    (at, piece), *_ = play_out(answer, 0.01)
    assert (piece.text, piece.pcm) == ("", SECOND[:4800])
    assert at >= 0.2 + 0.1 - LEAD_S - 1e-9, "what was sent before still plays"


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
    answer.finish()
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


class TestCrumbs:
    """Blobs that are shorter than 10 ms, from a model that is no faster than the ear."""

    def test_those_that_come_late_are_few_messages_all_the_same(self) -> None:
        answer = Answer()
        sent: list[tuple[float, int]] = []
        for number in range(24_000):
            now = 100 + 2 * number / 24_000
            answer.add_audio(SECOND[:2], 24_000)
            sent += [(now, len(piece.pcm)) for piece in drain(answer, now)]
        answer.finish()
        sent += [(102.0, len(piece.pcm)) for piece in drain(answer, 102.0)]
        assert sent[0] == (100.0, 2), "the first sound does not wait"
        assert sum(size for _, size in sent) == len(SECOND)
        assert len(sent) <= 2 / 0.01 + 2
        pauses = [after - before for (before, _), (after, _) in pairwise(sent)]
        assert max(pauses) == pytest.approx(0.01, abs=1e-3)

    def test_one_waits_no_longer_than_that(self) -> None:
        answer = Answer()
        for at in (100.0, 100.001):
            answer.add_audio(SECOND[:4], 24_000)
            sent = drain(answer, at)
        assert sent == []
        assert answer.release_at == pytest.approx(100.01)
        assert len(drain(answer, answer.release_at)) == 1

    def test_one_goes_at_once_when_it_is_long_enough(self) -> None:
        answer = Answer()
        sizes = []
        for at, size in (100.0, 2), (100.001, 470), (100.002, 8), (100.003, 2):
            answer.add_audio(SECOND[:size], 24_000)
            sizes.append([len(piece.pcm) for piece in drain(answer, at)])
        assert sizes == [[2], [], [], [480]]

    def test_one_goes_at_once_when_it_cannot_grow(self) -> None:
        answer = Answer()
        answer.add_audio(SECOND[:4], 24_000)
        drain(answer, 100.0)
        answer.add_audio(SECOND[:4], 24_000)
        answer.add_text("Next.")
        answer.add_audio(SECOND[:4], 24_000)
        assert len(drain(answer, 100.001)) == 1, "what has a text is a piece of its own"
        answer.finish()
        assert len(drain(answer, 100.001)) == 1

    def test_one_that_was_written_down_does_not_wait(self) -> None:
        answer = Answer()
        answer.add_audio(SECOND[:4], 24_000)
        drain(answer, 100.0)
        answer.add_audio(SECOND[:4], 24_000)
        assert len(answer.entries(answer.first)) == 1
        assert len(drain(answer, 100.001)) == 1


class TestLead:
    def test_a_client_with_a_longer_buffer_gets_more_at_once(self) -> None:
        answer = Answer()
        answer.lead_s = 1.05
        answer.begin(1)
        answer.add_audio(SECOND * 2, 24_000)
        drain(answer, 0.0)
        answer.add_audio(SECOND, 24_000)
        assert len(drain(answer, 5.0)) == 10

    def test_but_not_of_the_next_response(self) -> None:
        answer = Answer()
        answer.lead_s = 30
        answer.begin(1)
        answer.add_audio(SECOND, 24_000)
        answer.begin(2)
        answer.add_audio(SECOND, 24_000)
        play = play_out(answer, 0.0)
        begins_at = next(at for at, piece in play if piece.number == 2)
        assert begins_at == pytest.approx(1 + 0.1 - LEAD_S)
        assert answer.played_until == pytest.approx(2)

    def test_a_shorter_buffer_is_never_filled_with_more(self) -> None:
        answer = Answer()
        answer.lead_s = 0.1
        answer.begin(1)
        answer.add_audio(SECOND, 24_000)
        assert len(drain(answer, 0.0)) == 1

    def test_the_clock_is_corrected_by_what_was_really_heard(self) -> None:
        answer = Answer()
        answer.add_audio(SECOND, 24_000)
        drain(answer, 10.0)
        answer.heard_until(12.0)
        assert answer.release_at == pytest.approx(12 + 0.1 - LEAD_S)
        answer.heard_until(10.0)
        assert len(drain(answer, 10.0)) == 2

    def test_nothing_goes_out_while_held(self) -> None:
        answer = Answer()
        answer.add_audio(SECOND, 24_000)
        answer.held = True
        assert (answer.release_at, answer.next_piece(1e9)) == (float("inf"), None)
        answer.held = False
        assert len(drain(answer, 0.0)) == 2


class TestResponses:
    def test_which_responses_still_wait(self) -> None:
        answer = Answer()
        for number in (1, 2):
            answer.begin(number)
            answer.add_audio(SECOND[:4800], 24_000)
        assert (answer.holds(1), answer.holds(2), answer.holds(3)) == (True, True, False)
        answer.next_piece(0.0)
        assert (answer.holds(1), answer.holds(2)) == (False, True)

    def test_pieces_of_two_are_never_joined(self) -> None:
        answer = Answer()
        for number in (1, 2):
            answer.begin(number)
            answer.add_audio(SECOND[:480], 24_000)
        assert [(piece.number, len(piece.pcm)) for _, piece in play_out(answer, 0.0)] == [(1, 480), (2, 480)]

    def test_how_long_the_text_that_is_out_goes_on(self) -> None:
        answer = Answer()
        answer.begin(1)
        for word in ("One", "Two"):
            answer.add_text(word)
            answer.add_audio(SECOND, 24_000)
        drain(answer, 0.0)
        assert answer.until_text_s == pytest.approx(0.8)
        answer.drop()
        assert answer.until_text_s == 0


class TestEncoded:
    def test_pieces_are_handed_out_once_and_wait_in_order(self) -> None:
        answer = Answer()
        answer.begin(1, "audio/flac")
        answer.add_text("Hi.")
        answer.add_audio(SECOND[:7200], 24_000)
        answer.finish()
        first, second, last = answer.take_unencoded()
        assert answer.take_unencoded() == []
        assert [(piece.encoding, piece.last) for piece in (first, second, last)] == [
            *(("audio/flac", False), ("audio/flac", False), ("audio/flac", True))
        ]
        second.data = b"2"
        assert answer.next_piece(0.0) is None
        first.data = last.data = b"1"
        assert drain(answer, 0.0) == [first, second, last]

    def test_an_encoder_is_given_whole_pieces_but_never_across_words_or_rates(self) -> None:
        answer = Answer()
        answer.begin(1, "audio/flac")
        answer.add_text("One")
        answer.add_audio(SECOND[:960], 24_000)
        assert answer.take_unencoded() == []
        answer.add_text("Two")
        answer.add_audio(SECOND[:4801], 24_000)
        answer.add_audio(SECOND[:960], 16_000)
        answer.finish()
        made = [(piece.text, len(piece.pcm), piece.rate_hz) for piece in answer.take_unencoded()]
        assert made == [
            ("One", 960, 24_000),
            ("Two", 4800, 24_000),
            ("", 960, 16_000),
            ("", 0, 16_000),
        ]

    def test_what_was_dropped_has_no_data_and_is_not_handed_out(self) -> None:
        answer = Answer()
        answer.begin(1, "audio/flac")
        answer.add_audio(SECOND[:4800], 24_000)
        (piece,) = answer.take_unencoded()
        answer.add_audio(SECOND[:4800], 24_000)
        answer.drop()
        assert piece.data == b""
        assert answer.take_unencoded() == []
        answer.finish()
        assert answer.take_unencoded() == [], "there is no stream to end"


@given(blobs, st.lists(st.sampled_from(["", "a", "b c"]), max_size=12), st.booleans(), st.floats(0, 30))
def test_every_byte_and_every_word_once(
    parts: list[bytes], words: list[str], is_encoded: bool, lead_s: float
) -> None:
    answer = Answer()
    answer.lead_s = lead_s
    answer.begin(1, "audio/wav" if is_encoded else None)
    for place in range(max(len(parts), len(words))):
        for word in words[place : place + 1]:
            answer.add_text(word)
        for part in parts[place : place + 1]:
            answer.add_audio(part, 24_000)
    answer.finish()
    for piece in answer.take_unencoded():
        piece.data = piece.pcm
    played = [piece for _, piece in play_out(answer, 0.0)]
    audio = b"".join(parts)
    assert b"".join(piece.data or b"" for piece in played) == audio[: len(audio) // 2 * 2]
    assert "".join(piece.text for piece in played) == "".join(words)
    assert [piece.last for piece in played if piece.last] == [True] * is_encoded
    assert answer.waiting_s == 0


class TestWrittenDown:
    @given(st.lists(st.integers(1, 12_000), max_size=8), st.integers(0, 6), st.booleans())
    def test_it_goes_on_where_it_was(self, sizes: list[int], place: int, finished: bool) -> None:
        """What was written down does not change any more, whatever is added to it."""
        answers = [Answer(), Answer()]
        for answer in answers:
            answer.begin(1)
        written: list[bytes] = []
        for number, size in enumerate([*sizes, 1]):
            if number == place:
                other = Answer()
                for log in answers[1].entries(answers[1].first), answers[1].entries(answers[1].end):
                    written += log
                load(other, dump(answers[1]))
                other.restore(written)
                assert (other.first, other.end) == (answers[1].first, answers[1].end)
                assert other.waiting_s == pytest.approx(answers[1].waiting_s)
                answers[1] = other
            for answer in answers:
                answer.add_text(f"{number} ")
                answer.add_audio(SECOND[: 2 * size], 24_000)
        if finished:
            for answer in answers:
                answer.finish()
        assert answers[1].entries(answers[1].first)[: len(written)] == written
        one, two = ([piece for _, piece in play_out(answer, 0.0)] for answer in answers)
        assert b"".join(piece.pcm for piece in one) == b"".join(piece.pcm for piece in two)
        assert "".join(piece.text for piece in one) == "".join(piece.text for piece in two)

    def test_what_went_out_is_not_in_it(self) -> None:
        answer = Answer()
        answer.add_audio(SECOND, 24_000)
        assert (answer.first, answer.end) == (1, 11)
        drain(answer, 0.0)
        assert (answer.first, answer.end, len(answer.entries(1))) == (3, 11, 8)
        answer.drop()
        assert (answer.first, answer.end, answer.entries(1)) == (11, 11, [])
