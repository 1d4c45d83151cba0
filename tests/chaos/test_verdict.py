"""The verdict sees every sample that is lost, doubled or out of order, and what was announced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaos import answer, record
from chaos.diary import Diary, Epoch, Fault, Resumed
from chaos.listener import Listener
from chaos.track import BLOCK, Track
from chaos.verdict import Audio, audio_rows, listen, message_row

SECOND = 16_000


def heard(folder: Path, *streams: list[bytes], mute_after: int | None = None) -> None:
    """Write down what a model heard, stream after stream."""
    for number, pieces in enumerate(streams):
        recorder = record.Recorder(folder / f"{number}.stream")
        recorder.add(record.OPENED, stream=number)
        recorder.add(record.READY, setup_s=0.0)
        for place, piece in enumerate(pieces):
            if place == mute_after:
                recorder.add(record.MUTE)
            recorder.add(record.AUDIO, piece)
        recorder.close()


def judged(folder: Path, acked: int = 2 * SECOND, **changed: Any) -> Audio:
    diary = Diary(1, epochs=[Epoch("s", 0, 0.0, sent=2 * SECOND, acked=acked)])
    for name, value in changed.items():
        setattr(diary, name, value)
    return listen(folder, [(diary, TRACK), (Diary(2), Track(2))])


TRACK = Track(1)


def pcm(begin: int, end: int) -> bytes:
    return TRACK.pcm(begin, end - begin)


def chunks(begin: int, end: int) -> list[bytes]:
    return [pcm(place, min(place + BLOCK, end)) for place in range(begin, end, BLOCK)]


def test_all_is_there(tmp_path: Path) -> None:
    heard(tmp_path, chunks(0, 2 * SECOND))
    first, second = audio_rows(judged(tmp_path), 1)
    assert first.passed
    assert second.passed


@pytest.mark.parametrize(
    ("pieces", "lost", "doubled", "disordered"),
    [
        ([pcm(0, 1000), pcm(1001, 2 * SECOND)], 1, 0, 1),
        ([pcm(0, 1000), pcm(999, 2 * SECOND)], 0, 1, 0),
        ([pcm(0, 1600), pcm(3200, 4800), pcm(1600, 3200), pcm(4800, 2 * SECOND)], 0, 3200, 1600),
        ([pcm(0, 2 * SECOND - 1)], 1, 0, 0),
        ([pcm(0, 1000), b"\1\2" * 20, pcm(1000, 2 * SECOND)], 0, 0, 20),
        ([pcm(0, 1000) + b"\0", pcm(1000, 2 * SECOND)], SECOND * 2 - 1000, 0, SECOND * 2 - 1000),
    ],
    ids=["lost", "doubled", "reordered", "the last", "foreign", "half a sample too much"],
)
def test_a_fault_on_one_stream(
    pieces: list[bytes], lost: int, doubled: int, disordered: int, tmp_path: Path
) -> None:
    heard(tmp_path, pieces)
    audio = judged(tmp_path)
    [found] = [found for number, found in audio.found if number == 1]
    assert (found.lost, found.doubled, found.skipped + found.foreign) == (lost, doubled, disordered)
    assert not audio_rows(audio, 1)[0].passed


def test_lost_between_two_streams(tmp_path: Path) -> None:
    heard(tmp_path, chunks(0, SECOND), chunks(SECOND + 7, 2 * SECOND))
    audio = judged(tmp_path)
    assert audio.found[0][1].lost_places == [(SECOND, 7)]
    told = {"sessionId": "s", "timestamp": 0, "reason": "lost", "lostAudioMs": 1, "replayedAudioMs": 0}
    assert audio_rows(judged(tmp_path, rotations=[told]), 1)[0].passed, "it is announced"


def test_what_is_not_acknowledged_may_be_lost(tmp_path: Path) -> None:
    heard(tmp_path, chunks(0, SECOND))
    assert audio_rows(judged(tmp_path, acked=SECOND), 1)[0].passed
    assert not audio_rows(judged(tmp_path, acked=SECOND + 1), 1)[0].passed


@pytest.mark.parametrize(("again", "passed"), [(SECOND, True), (SECOND + 1, False)])
def test_heard_again_after_a_rotation(again: int, passed: bool, tmp_path: Path) -> None:
    middle = 3 * SECOND // 2
    heard(tmp_path, chunks(0, middle), chunks(middle - again, 2 * SECOND))
    first, second = audio_rows(judged(tmp_path), 1)
    assert first.passed
    assert second.passed is passed


@pytest.mark.parametrize(
    ("acked", "sent", "unsaved_ms"),
    [
        (0, 2 * SECOND, 2000),
        (SECOND // 2 + 1, 2 * SECOND, 1500 - 1 / 16),
        (0, SECOND, 0),
        (SECOND * 3 // 2, 2 * SECOND, 0),
    ],
    ids=["all", "all but the margin", "acknowledged in time", "the same, later"],
)
def test_what_could_not_be_saved_is_named_and_counts_all_the_same(
    acked: int, sent: int, unsaved_ms: float, tmp_path: Path
) -> None:
    heard(tmp_path, chunks(0, 2 * SECOND), chunks(0, 2 * SECOND))
    audio = judged(tmp_path, resumed=[Resumed(0.0, 0.0, 0, lossy=False, acked=acked, sent=sent)])
    assert sum(audio.unsaved_ms) == unsaved_ms
    assert not audio_rows(audio, 1)[1].passed


def test_what_only_a_mute_model_heard_may_be_said_again(tmp_path: Path) -> None:
    heard(tmp_path, chunks(0, 2 * SECOND), chunks(BLOCK, 2 * SECOND), mute_after=1)
    assert [row.passed for row in audio_rows(judged(tmp_path), 1)] == [True, True]


def test_a_session_that_could_not_go_on_is_announced(tmp_path: Path) -> None:
    heard(tmp_path, chunks(0, SECOND))
    epochs = [Epoch("s", 0, 0.0, sent=2 * SECOND, acked=2 * SECOND, ended="SESSION_RESUME_REFUSED")]
    audio = judged(tmp_path, epochs=epochs)
    assert audio_rows(audio, 1)[0].passed
    assert (audio.announced_sessions, audio.announced_lost) == (1, SECOND)


def response(pieces: list[bytes], status: str) -> list[str]:
    listener = Listener()
    messages: list[dict[str, Any]] = [{"type": "response_started", "responseId": "r1"}]
    messages += [{"type": "binary", "sequence": place, "data": data} for place, data in enumerate(pieces)]
    messages += [{"type": "response_done", "responseId": "r1", "status": status}]
    return [wrong for message in messages for wrong in listener.take(message)]


def test_an_answer() -> None:
    whole = answer.make(77, 4800)
    pieces = [whole[place : place + 960] for place in range(0, len(whole), 960)]
    assert response(pieces, "completed") == []
    assert response(pieces[:-1], "failed") == []
    assert response(pieces[:-1], "completed")
    assert response([*pieces[:3], *pieces[4:]], "failed")
    assert response([*pieces[:3], *pieces[2:]], "completed")
    assert response([pieces[0], pieces[2], pieces[1], *pieces[3:]], "completed")


def test_a_message_out_of_order_is_a_fault() -> None:
    listener = Listener()
    assert listener.take({"type": "speech_stopped", "streamMs": 0})
    row = message_row([Diary(1, faults=[Fault(0.0, 1, "order")])])
    assert not row.passed
    assert message_row([Diary(1)]).passed


def test_after_a_loss_that_was_told_events_are_looked_at_from_their_next_beginning() -> None:
    listener = Listener()
    listener.lossy()
    assert listener.take({"type": "speech_stopped", "streamMs": 0}) == []
    assert listener.take({"type": "speech_started", "streamMs": 0}) == []
    assert listener.take({"type": "speech_started", "streamMs": 0})
