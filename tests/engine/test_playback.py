"""The audio of an answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.engine.playback import PIECE_S, RATE_HZ, Piece, Playback

SIZE = int(PIECE_S * RATE_HZ) * 2


@settings(deadline=None)
@given(st.lists(st.integers(0, 3 * SIZE // 2).map(lambda samples: samples * 2), max_size=8))
def test_pieces_are_full_but_the_last_and_nothing_is_lost(sizes: list[int]) -> None:
    playback = Playback()
    playback.begin(5.0)
    sent = (bytes(range(251)) * (sum(sizes) // 251 + 1))[: sum(sizes)]
    pieces: list[Piece] = []
    at = 0
    for size in sizes:
        pieces += playback.add(sent[at : at + size], "", 5.0)
        at += size
    assert all(len(piece.pcm) == SIZE for piece in pieces)
    pieces += playback.flush()
    assert b"".join(piece.pcm for piece in pieces) == sent
    assert playback.flush() == []
    assert playback.total_bytes == len(sent)
    assert playback.over_at == pytest.approx(5.0 + len(sent) / 2 / RATE_HZ)


def test_a_sentence_stands_in_its_first_piece() -> None:
    playback = Playback()
    playback.begin(0.0)
    pieces = playback.add(bytes(SIZE + 100), "One.", 0.0)
    pieces += playback.add(bytes(SIZE), "", 0.0)
    pieces += playback.add(bytes(50), "Two.", 0.0)
    pieces += playback.flush()
    assert [(len(piece.pcm), piece.text) for piece in pieces] == [
        (SIZE, "One."),
        (SIZE, ""),
        (100, ""),
        (50, " Two."),
    ]


def test_playing_pauses_where_audio_comes_late() -> None:
    playback = Playback()
    playback.begin(0.0)
    second = bytes(2 * RATE_HZ)
    playback.add(second, "", 1.0)
    assert playback.over_at == 2.0
    playback.add(second, "", 1.5)
    assert playback.over_at == 3.0
    playback.add(second, "", 10.0)
    assert playback.over_at == 11.0


def test_a_new_answer_drops_what_is_left_of_the_last() -> None:
    playback = Playback()
    playback.begin(0.0)
    playback.add(bytes(100), "One.", 0.0)
    playback.begin(7.0)
    assert playback.over_at == 7.0
    assert playback.flush() == []
    assert playback.add(bytes(SIZE), "Two.", 7.0) == [Piece(bytes(SIZE), "Two.")]
    assert playback.total_bytes == SIZE
