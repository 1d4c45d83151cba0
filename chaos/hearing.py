"""What the model heard of a conversation, sample by sample, against what its client was promised.

A stream of the model hears one run of the track without a gap. The next stream of the same conversation may
begin with what the last had heard at its end (a replay), and never behind it. What only a mute model heard
counts as delivered, and may be said again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct, field

from chaos import record
from chaos.diary import Diary, Epoch
from chaos.record import Entry
from chaos.track import RATE_HZ, Run, Track, decode

NEAR_S: Final = 1.0
UNSAVED_S: Final = 1.0
"""Audio is acknowledged well within this as long as the store is there."""


class Heard(Struct):
    """One stream of the model."""

    opened_at: float
    ready_at: float
    setup_s: float
    first_at: float
    last_at: float
    runs: list[Run]
    mute_runs: list[Run]
    texts: list[str]
    progress: list[tuple[float, int]] = field(default_factory=list)
    """How many samples it had heard when, mute or not."""

    @property
    def begin(self) -> int:
        return next((run.start for run in [*self.runs, *self.mute_runs] if run.start >= 0), -1)

    def end(self, at: float) -> int:
        """Return where what it had heard by then, while it was not mute, ends."""
        left = max((count for when, count in self.progress if when <= at), default=0)
        end = -1
        for run in self.runs:
            if left <= 0:
                break
            if run.start >= 0:
                end = max(end, run.start + min(left, run.length))
            left -= run.length
        return end

    def heard_after(self, at: float) -> int:
        """Return how many samples it heard later than that."""
        before = max((count for when, count in self.progress if when <= at), default=0)
        return self.progress[-1][1] - before if self.progress else 0


class Replay(Struct):
    """What was heard again at the beginning of a stream, in samples; `reason` is that of the rotation.

    `unsaved` of them had not been acknowledged for more than `UNSAVED_S` when the client resumed: the store
    was away, and nobody but the node that was left knew what the model had heard.
    """

    at: float
    reason: str
    samples: int
    unsaved: int = 0


class Found(Struct):
    """What became of the audio of one session; samples."""

    session_id: str = ""
    acked: int = 0
    lost: int = 0
    """Acknowledged, and not heard on any stream."""
    lost_places: list[tuple[int, int]] = field(default_factory=list)
    announced: int = 0
    """Said to be lost, by `lostAudioMs`."""
    doubled: int = 0
    """Heard twice on one stream."""
    skipped: int = 0
    """Left out on one stream, whether or not another heard it."""
    foreign: int = 0
    """Not of the track."""
    replays: list[Replay] = field(default_factory=list)
    """Of each stream but the first."""
    late: int = 0
    """Heard on a stream after the next had begun: it was on its way for long."""
    unannounced_replay: int = 0
    """How much more was heard again in all than was told by `replayedAudioMs`."""
    commands_lost: list[str] = field(default_factory=list)


def hear(stream: Sequence[Entry], tracks: Sequence[Track]) -> tuple[Track | None, Heard]:
    """Return what a stream heard, and of which track; None where that was nothing."""
    audio = [entry for entry in stream if entry.kind == record.AUDIO]
    mute_at = next((entry.at for entry in stream if entry.kind == record.MUTE), float("inf"))
    before = decode(b"".join(entry.data for entry in audio if entry.at <= mute_at))
    after = decode(b"".join(entry.data for entry in audio if entry.at > mute_at))
    ready = next((entry for entry in stream if entry.kind == record.READY), None)
    heard = Heard(
        opened_at=stream[0].at,
        ready_at=ready.at if ready else float("inf"),
        setup_s=float(ready.fields["setup_s"]) if ready else 0.0,
        first_at=audio[0].at if audio else float("inf"),
        last_at=audio[-1].at if audio else float("-inf"),
        runs=[],
        mute_runs=[],
        texts=[entry.data.decode() for entry in stream if entry.kind == record.TEXT],
    )
    count = 0
    for entry in audio:
        count += len(entry.data) // 2
        heard.progress.append((entry.at, count))
    whole = before if len(before) else after
    track = next((track for track in tracks if track.find(whole) is not None), None)
    if track:
        heard.runs, heard.mute_runs = track.runs(before), track.runs(after)
    return track, heard


def examine(diary: Diary, epoch: Epoch, streams: Sequence[Heard]) -> Found:
    """Compare one session of a client with the streams that heard it, in the order of their opening."""
    found = Found(epoch.session_id, acked=epoch.acked - epoch.begin)
    end = max(
        [epoch.acked, epoch.sent, *(run.end for heard in streams for run in heard.runs + heard.mute_runs)]
    )
    covered = np.zeros(end + 1, bool)
    told = [message for message in diary.rotations if message["sessionId"] == epoch.session_id]
    for place, heard in enumerate(streams):
        runs = heard.runs + heard.mute_runs
        last = -1
        for run in runs:
            if run.start < 0:
                found.foreign += run.length
                continue
            if last >= 0:
                found.doubled += max(0, last - run.start)
                found.skipped += max(0, run.start - last)
            last = max(last, run.end)
            covered[run.start : run.end] = True
        said_end = max((before.end(heard.ready_at) for before in streams[:place]), default=-1)
        if said_end >= 0 and heard.begin >= 0:
            replay = Replay(heard.ready_at, _reason(told, heard), max(0, said_end - heard.begin))
            replay.unsaved = _unsaved(diary, range(heard.begin, said_end), heard.ready_at)
            found.replays.append(replay)
        if place + 1 < len(streams):
            found.late += heard.heard_after(streams[place + 1].ready_at)
    missing = ~covered[epoch.begin : epoch.acked]
    found.lost = int(missing.sum())
    found.lost_places = _places(missing, epoch.begin)
    found.announced = sum(round(message["lostAudioMs"] * 16) for message in told)
    replayed = sum(round(message["replayedAudioMs"] * 16) for message in told)
    found.unannounced_replay = max(0, sum(replay.samples for replay in found.replays) - replayed)
    texts = {text for heard in streams for text in heard.texts}
    found.commands_lost = [command for command in epoch.commands if command not in texts]
    return found


def _unsaved(diary: Diary, places: range, at: float) -> int:
    """Return how many of these samples were kept by clients alone when they resumed, before a moment."""
    kept = [
        resumed
        for resumed in diary.resumed
        if resumed.at <= at + NEAR_S and resumed.sent - resumed.acked > UNSAVED_S * RATE_HZ
    ]
    return len({place for one in kept for place in range(one.acked, one.sent) if place in places})


def _reason(told: Sequence[dict[str, Any]], heard: Heard) -> str:
    """Return why a stream was opened, by the rotation that was told nearest to its beginning."""
    near = min(told, key=lambda message: abs(message["timestamp"] / 1000 - heard.ready_at), default=None)
    is_near = near is not None and abs(near["timestamp"] / 1000 - heard.ready_at) < NEAR_S
    return str(near["reason"]) if near and is_near else "none"


def _places(missing: np.ndarray[tuple[int], np.dtype[np.bool_]], offset: int) -> list[tuple[int, int]]:
    """Return where samples are missing, as pairs of the first and how many."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    return [
        (int(begin) + offset, int(end - begin)) for begin, end in zip(edges[::2], edges[1::2], strict=True)
    ]
